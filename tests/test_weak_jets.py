"""Jets without a Laplacian, which is all that a weak form needs: the same numbers for less work."""

import pytest
import torch
from by_autograd import points

import nbsvd
from nbsvd._errors import ArgumentError
from nbsvd.functions import ACTIVATIONS, MLP, DecayFactor, Features, Jet, WithFactor
from nbsvd.functions.jet import concatenate, coordinates, radius, squared_radius
from nbsvd.operators import Operator
from nbsvd.training.heads import LocalSample, sample
from nbsvd.training.start import Basis

f64 = torch.float64


def same(one: Jet, two: Jet) -> None:
    """A jet of order 1 is one of order 2 without its last stream."""
    assert one.order == 1
    torch.testing.assert_close(one.value, two.value, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(one.gradient, two.gradient, rtol=1e-13, atol=1e-13)
    assert one.derivatives.shape[-3] == two.derivatives.shape[-3] - 1


def network(dim: int, *, activation: str = "tanh", disjoint: bool = False, bare: bool = False) -> MLP:
    generator = torch.Generator().manual_seed(0)
    cusps = [(0.1,) * dim] if dim > 1 else ()
    features = Features(dim, scales=[0.5, 2.0], cusps=cusps, fourier=2, learned=True, generator=generator)
    return MLP(
        3,
        dim,
        widths=(6, 5),
        activation=activation,
        disjoint=disjoint,
        features=None if bare else features,
        generator=generator,
    ).double()


@pytest.mark.parametrize("dim", [1, 2, 4])
def test_building_blocks(dim):
    x, W = points(6, dim), torch.randn(dim, 3, generator=torch.Generator().manual_seed(1), dtype=f64)
    for make in (coordinates, squared_radius, radius):
        same(make(x, order=1), make(x))
    same(coordinates(x, order=1).linear(W), coordinates(x).linear(W))
    same(concatenate([radius(x, order=1), coordinates(x, order=1)]), concatenate([radius(x), coordinates(x)]))


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("disjoint", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_networks(activation, disjoint, bare):
    net, x = network(2, activation=activation, disjoint=disjoint, bare=bare), points(7, 2)
    for live in (False, True):
        same(net.jet(x, live=live, order=1), net.jet(x, live=live))
        same(net.first_basis_jet(x, live=live, order=1), net.first_basis_jet(x, live=live))


def test_sums_and_products_keep_what_both_have():
    x = points(6, 3)
    r, q = radius(x), squared_radius(x)
    same(r.first_order() * q, r * q)
    same(r * q.first_order(), r * q)
    same(r.first_order() + q, r + q)
    assert r.first_order().first_order().order == 1


def test_a_laplacian_that_was_left_out_is_not_made_up(unchecked):
    with pytest.raises(ArgumentError, match="order=2"):
        _ = radius(points(3, 2), order=1).laplacian


def problem_and_basis(dim: int):
    net = WithFactor(network(dim), DecayFactor(2.0, learned=True)).double()
    problem = nbsvd.problems.get("hydrogen2d" if dim == 2 else "hydrogen3d")
    nodes = problem.measure.nodes(300, kind="quadrature", generator=torch.Generator().manual_seed(1))
    return problem.operator, Basis(net), nodes


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("make", [lambda T: T, lambda T: (2.0 * T).shift(3.0), lambda T: T + 0.5 * T])
def test_weak_forms_and_their_gradients_agree(dim, make):
    operator, basis, nodes = problem_and_basis(dim)
    T, parameters = make(operator), list(basis.parameters())
    assert T.weak_order == 1
    forms = [T.weak_form(nodes, jet) for jet in (basis.weak_jet(nodes.x, 1), basis.jet(nodes.x, live=True))]
    torch.testing.assert_close(*forms, rtol=1e-12, atol=1e-12)
    slopes = [torch.autograd.grad(form.sin().sum(), parameters, allow_unused=True) for form in forms]
    for one, two in zip(*slopes, strict=True):
        assert (one is None) == (two is None)
        if one is not None:
            torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


class Strong(Operator):
    """A local operator that has no weak form of its own."""

    local, self_adjoint, bounded = True, True, False

    def from_jet(self, x, jet):
        return jet.laplacian - (x**2).sum(1, keepdim=True) * jet.value

    @property
    def adjoint(self):
        return self


def test_an_operator_without_a_weak_form_gets_its_laplacian():
    _, basis, nodes = problem_and_basis(2)
    taken = sample(Strong(), basis, basis, nodes, nodes)
    assert isinstance(taken, LocalSample)
    assert taken.jet.order == 2
    assert taken.heads().values.isfinite().all()
    weak = nbsvd.Schrodinger(lambda x: (x**2).sum(1))
    assert (weak + Strong()).weak_order == 2
    assert sample(weak, basis, basis, nodes, nodes).jet.order == 1
