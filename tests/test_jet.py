"""Forward Laplacian against automatic differentiation: the algebra of jets, and others' functions."""

import pytest
import torch
from by_autograd import assert_jet, jet_by_autograd, points, relative
from torch import nn

from nbsvd._errors import ArgumentError
from nbsvd.functions import ACTIVATIONS, Jet, functional_jet, jet_of
from nbsvd.functions.jet import concatenate, coordinates, radius, squared_radius

DIMS = range(1, 6)
f64 = torch.float64


def mix(dim, outputs=3, seed=1):
    """A matrix of fixed random numbers (dim, outputs)."""
    return torch.randn(dim, outputs, generator=torch.Generator().manual_seed(seed), dtype=f64)


@pytest.mark.parametrize("dim", DIMS)
class TestBuildingBlocks:
    def test_coordinates(self, dim):
        assert_jet(coordinates(points(6, dim)), lambda x: x.clone(), points(6, dim))

    def test_squared_radius_and_radius(self, dim):
        x, c = points(6, dim), points(1, dim, seed=9)[0]
        assert_jet(squared_radius(x, c), lambda x: ((x - c) ** 2).sum(1, keepdim=True), x)
        assert_jet(radius(x, c), lambda x: (x - c).norm(dim=1, keepdim=True), x)
        assert_jet(radius(x), lambda x: x.norm(dim=1, keepdim=True), x)

    @pytest.mark.parametrize("name", ACTIVATIONS)
    def test_activation_of_a_linear_map(self, dim, name):
        x, W = points(6, dim), mix(dim)
        value, derivatives = ACTIVATIONS[name]
        a = coordinates(x).linear(W, torch.full((1, 3), 0.3, dtype=f64))
        y = value(a.value)
        assert_jet(a.map(y, *derivatives(a.value, y)), lambda x: value(x @ W + 0.3), x)

    def test_sums_and_products(self, dim):
        x, W, V = points(6, dim), mix(dim), mix(dim, seed=2)

        def u(x):
            return torch.sin(x @ W)

        def v(x):
            return torch.exp(-0.1 * (x @ V) ** 2)

        def r(x):
            return x.norm(dim=1, keepdim=True)

        ju, jv, jr = (functional_jet(f, x) for f in (u, v, r))
        assert_jet(ju + jv, lambda x: u(x) + v(x), x)
        assert_jet(ju * jv, lambda x: u(x) * v(x), x)
        assert_jet(jr * ju, lambda x: r(x) * u(x), x)  # one column spreads over three
        assert_jet(ju * jr, lambda x: r(x) * u(x), x)
        assert_jet((ju * jv + jr) * ju, lambda x: (u(x) * v(x) + r(x)) * u(x), x)
        assert_jet(concatenate([ju, jr]), lambda x: torch.cat([u(x), r(x)], 1), x)

    def test_linear_layers_of_several_networks(self, dim):
        """Shared inputs enter L networks, then each network has its own."""
        x, g = points(6, dim), torch.Generator().manual_seed(3)
        W = torch.randn(4, dim, 5, generator=g, dtype=f64)
        V = torch.randn(4, 5, 2, generator=g, dtype=f64)
        b = torch.randn(4, 1, 5, generator=g, dtype=f64)
        a = coordinates(x).linear(W, b)
        y = torch.tanh(a.value)
        out = a.map(y, 1 - y**2, -2 * y * (1 - y**2)).linear(V)
        for i in range(4):
            one = Jet(out.value[i], out.derivatives[i])
            assert_jet(one, lambda x, i=i: torch.tanh(x @ W[i] + b[i]) @ V[i], x)


class Cube(torch.autograd.Function):
    """A user's function that has no forward mode."""

    @staticmethod
    def forward(ctx, a):
        ctx.save_for_backward(a)
        return a**3

    @staticmethod
    def backward(ctx, grad):
        return 3 * ctx.saved_tensors[0] ** 2 * grad


def sequential(dim, activation, seed=0):
    with torch.random.fork_rng():  # nn.Linear draws from the global generator only
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(dim, 8), activation, nn.Linear(8, 8), activation, nn.Linear(8, 3)
        ).double()


@pytest.mark.parametrize("dim", DIMS)
class TestFunctionsThatAreNotOurs:
    @pytest.mark.parametrize("activation", [nn.Tanh(), nn.SiLU(), nn.GELU(), nn.Softplus()], ids=repr)
    def test_modules(self, dim, activation):
        net = sequential(dim, activation)
        assert_jet(jet_of(net, points(5, dim)), net, points(5, dim))

    def test_forward_path(self, dim, monkeypatch):
        monkeypatch.setattr("nbsvd.functions.jet._reverse_twice", None)
        W = mix(dim)
        assert_jet(
            functional_jet(lambda x: torch.tanh(x @ W), points(5, dim)),
            lambda x: torch.tanh(x @ W),
            points(5, dim),
        )

    def test_reverse_path(self, dim):
        W = mix(dim)

        def function(x):
            return torch.sin(Cube.apply(x @ W))

        with pytest.raises(RuntimeError):
            torch.func.jvp(function, (points(5, dim),), (points(5, dim),))
        assert_jet(functional_jet(function, points(5, dim)), function, points(5, dim))

    @pytest.mark.parametrize("power", [0, 1], ids=["constant", "linear"])
    def test_reverse_path_where_derivatives_vanish(self, dim, power):
        def function(x):
            columns = [Cube.apply(x[:, :1]), x[:, :1] ** power if power else torch.ones_like(x[:, :1])]
            return torch.cat(columns, 1)

        jet = functional_jet(function, points(5, dim))
        assert_jet(jet, function, points(5, dim))
        assert jet.laplacian[:, 1].abs().max() == 0


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.SiLU()], ids=repr)
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
class TestGraphs:
    def function(self, activation, reverse):
        net = sequential(2, activation)
        return net, (lambda x: net(Cube.apply(x))) if reverse else net

    def test_live_derivatives_reach_the_parameters(self, activation, reverse):
        net, function = self.function(activation, reverse)
        x = points(5, 2)
        jet = functional_jet(function, x, live=True)
        expected = jet_by_autograd(function, x)
        for part, other in zip((jet.value, jet.gradient, jet.laplacian), expected, strict=True):
            ours = torch.autograd.grad(part.square().sum(), net[0].weight, retain_graph=True)[0]
            theirs = torch.autograd.grad(other.square().sum(), net[0].weight, retain_graph=True)[0]
            assert relative(ours, theirs) <= 1e-9

    def test_others_carry_no_graph(self, activation, reverse):
        net, function = self.function(activation, reverse)
        x = points(5, 2)
        jet = functional_jet(function, x)
        assert jet.value.requires_grad
        assert not jet.derivatives.requires_grad
        ours = torch.autograd.grad(jet.value.square().sum(), net[0].weight)[0]
        theirs = torch.autograd.grad(function(x).square().sum(), net[0].weight)[0]
        assert relative(ours, theirs) == 0

    def test_no_grad_wins_over_live(self, activation, reverse):
        _, function = self.function(activation, reverse)
        with torch.no_grad():
            jet = functional_jet(function, points(5, 2), live=True)
        assert not jet.value.requires_grad
        assert not jet.derivatives.requires_grad


def test_a_product_is_live_if_one_factor_is():
    x, scale = points(4, 2), torch.tensor(2.0, dtype=f64, requires_grad=True)
    live = functional_jet(lambda x: torch.sin(scale * x), x, live=True)
    for jet in (
        live * coordinates(x),
        coordinates(x) * live,
        coordinates(x) + live,
        concatenate([coordinates(x), live]),
    ):
        assert jet.live
        assert jet.derivatives.requires_grad


def test_jet_of_prefers_a_function_s_own_jet():
    class Own(nn.Module):
        def jet(self, x, *, live=False):
            return Jet(x, torch.full((3, len(x), 2), 7.0), live)

    assert float(jet_of(Own(), torch.zeros(1, 2)).laplacian[0, 0]) == 7


@pytest.mark.parametrize(
    "function",
    [lambda x: x.sum(1), lambda x: x.sum(), lambda x: x[:2], lambda x: 1.0],
    ids=["B", "0", "rows", "float"],
)
def test_values_of_another_shape_are_refused(function, unchecked):
    with pytest.raises(
        ArgumentError, match=r"function: got .*; expected shape \(4, L\) for 4 points.*keepdim"
    ):
        functional_jet(function, torch.ones(4, 2))
