"""The envelope: jets, files, special cases, exact ground states."""

import math

import pytest
import torch
from by_autograd import assert_jet, assert_live, assert_value_only, points

from nbsvd._errors import ArgumentError
from nbsvd.functions import MLP, DecayFactor, Envelope, Features, GaussianFactor, WithFactor, from_config
from nbsvd.measures import Lebesgue, Radial
from nbsvd.operators import Schrodinger
from nbsvd.training.models import adapting

DIMS = range(1, 6)
POWERS = (1.0, 1.5, 2.0, 3.0)
f64 = torch.float64


def matrix(dim, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 1.5 * torch.eye(dim, dtype=f64) + 0.3 * torch.randn(dim, dim, generator=generator, dtype=f64)


def envelope(dim, power, *, learned=False, moved=True):
    e = Envelope(matrix(dim).tolist(), center=[0.3] * dim, power=power, learned=learned).double()
    if moved:
        with torch.no_grad():
            e.matrix.mul_(matrix(dim, seed=1))
            e.offset.add_(0.2)
    return e


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("dim", DIMS)
class TestEnvelope:
    def test_jet(self, dim, power):
        e, x = envelope(dim, power), points(7, dim)
        assert_jet(e.jet(x), e, x)

    def test_learned(self, dim, power):
        e, x = envelope(dim, power, learned=True), points(5, dim)
        assert [name for name, _ in e.named_parameters()] == ["matrix", "offset"]
        assert_live(e, x)
        assert_value_only(e, x)

    def test_gradients_of_the_parameters(self, dim, power):
        e, x = envelope(dim, power, learned=True), points(4, dim)

        def values(matrix, offset):
            state = {"matrix": matrix, "offset": offset}
            return torch.func.functional_call(e, state, (x,))

        def slopes(matrix, offset):
            state = {"matrix": matrix, "offset": offset}
            return torch.func.functional_call(Slopes(e), {f"e.{key}": t for key, t in state.items()}, (x,))

        parameters = tuple(p.detach().clone().requires_grad_() for p in e.parameters())
        assert torch.autograd.gradcheck(values, parameters)
        assert torch.autograd.gradcheck(slopes, parameters)

    def test_file(self, dim, power):
        e, x = envelope(dim, power, learned=True), points(5, dim)
        copy = from_config(e.config())
        copy.load_state_dict(e.state_dict())
        assert torch.equal(copy(x), e(x))

    def test_formula(self, dim, power):
        e, x = envelope(dim, power, moved=False), points(5, dim)
        u = (torch.linalg.solve(matrix(dim), (x - 0.3).t()) ** 2).sum(0)
        expected = torch.exp((1 - (1 + u) ** (power / 2)) / power)
        torch.testing.assert_close(e(x)[:, 0], expected, rtol=1e-5, atol=0)  # its axes are kept in float32

    def test_of_a_network(self, dim, power):
        net = MLP(3, dim, widths=(5,), generator=torch.Generator().manual_seed(0)).double()
        f, x = WithFactor(net, envelope(dim, power, learned=True)), points(4, dim)
        assert_jet(f.jet(x), f, x)
        assert_live(f, x)


class Slopes(torch.nn.Module):
    def __init__(self, e):
        super().__init__()
        self.e = e

    def forward(self, x):
        return self.e.jet(x, live=True).derivatives


@pytest.mark.parametrize("dim", DIMS)
def test_round_decays_are_special_cases(dim):
    x, c = points(9, dim), [0.5] * dim
    eye = torch.eye(dim)
    for factor, e in (
        (GaussianFactor(1.5, center=c), Envelope((1.5 * eye).tolist(), center=c, power=2)),
        (DecayFactor(1.5, center=c), Envelope((1.5 * eye).tolist(), center=c, power=1)),
    ):
        torch.testing.assert_close(factor.double()(x), e.double()(x), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dim", [1, 2, 4])
def test_adapting_starts_from_what_is_declared(dim):
    x, c = points(9, dim), [0.5] * dim
    for factor in (
        GaussianFactor(1.5, center=c),
        DecayFactor(1.5, center=c, smooth=0.7),
        GaussianFactor(1.5) * DecayFactor(4.0),
    ):
        free = adapting(factor, dim).double()
        torch.testing.assert_close(free(x), factor.double()(x), rtol=1e-6, atol=0)
        assert all(isinstance(p, torch.nn.Parameter) for p in free.parameters())
        assert len(list(free.parameters())) in (2, 4)
        assert not list(factor.parameters())


@pytest.mark.parametrize("dim", [2, 3, 6])
def test_ground_state_of_coupled_oscillators(dim):
    """A Gaussian envelope with axes K^(-1/4): the operator multiplies it by minus the sum of frequencies."""
    A = matrix(dim)
    K = A @ A.t()
    omega, V = torch.linalg.eigh(K)
    omega = omega.sqrt()
    c = torch.full((dim,), 2.0, dtype=f64)
    T = Schrodinger(lambda x: ((x - c) @ K * (x - c)).sum(1))
    axes = V @ torch.diag(omega.rsqrt()) @ V.t()
    e = Envelope(axes.tolist(), center=c.tolist(), power=2).double()
    x = c + points(9, dim)
    image = T.from_jet(x, e.jet(x))
    torch.testing.assert_close(image, -omega.sum() * e(x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dim", DIMS)
def test_features_in_a_frame(dim):
    A = matrix(dim)
    phi = Features(dim, scales=[0.5, 2.0], center=[0.3] * dim, frame=A.tolist(), learned=True).double()
    x = points(7, dim)
    assert_jet(phi.jet(x), phi, x)
    assert_live(phi, x)
    plain = Features(dim, scales=[0.5, 2.0]).double()
    turned = torch.linalg.solve(A, (x - 0.3).t()).t()
    torch.testing.assert_close(phi(x), plain(turned), rtol=1e-5, atol=1e-6)
    copy = from_config(phi.config())
    copy.load_state_dict(phi.state_dict())
    assert torch.equal(copy(x), phi(x))


@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("axes", lambda: Envelope([[1.0, 1.0], [1.0, 1.0]])),
        ("axes", lambda: Envelope([[1.0, 0.0]])),
        ("axes", lambda: Envelope([[math.nan]])),
        ("center", lambda: Envelope([[1.0]], center=[0.0, 0.0])),
        ("power", lambda: Envelope([[1.0]], power=0)),
        ("strength", lambda: Envelope([[1.0]], strength=-1.0)),
        ("frame", lambda: Features(2, scales=[1.0], frame=[[1.0, 1.0], [1.0, 1.0]])),
        ("frame", lambda: Features(2, scales=[1.0], frame=[[1.0]])),
    ],
)
def test_bad_arguments(argument, make, unchecked):
    with pytest.raises(ArgumentError, match=rf"{argument}: got .*; expected"):
        make()


def test_an_elliptic_decay_is_square_integrable_on_a_stretched_law():
    from nbsvd.measures import Stretched

    frame = ((3.0, 0.5), (0.5, 1.0))
    nodes = Lebesgue(Stretched(Radial(2, scale=2.0), frame)).nodes(2000, kind="quadrature")
    e = Envelope([list(row) for row in frame], power=2).double()
    expected = math.pi * (3.0 - 0.25)
    assert float(nodes.integrate(e(nodes.x)[:, 0] ** 2)) == pytest.approx(expected, rel=1e-6)
