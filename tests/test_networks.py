"""Networks and tables: jets, starts, initialisation, and the way to plain data and back."""

import json
import math

import pytest
import torch
from by_autograd import assert_jet, assert_live, assert_value_only, points, relative
from torch.utils.flop_counter import FlopCounterMode

from nbsvd._errors import ArgumentError
from nbsvd.functions import (
    ACTIVATIONS,
    MLP,
    BoxFactor,
    DecayFactor,
    Features,
    GaussianFactor,
    Table,
    WithFactor,
    from_config,
)
from nbsvd.functions.networks import BatchedLinear

DIMS = range(1, 6)
f64 = torch.float64
trunks = pytest.mark.parametrize("disjoint", [True, False], ids=["disjoint", "shared"])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def mlp(dim=2, L=3, seed=0, features=None, **options):
    return MLP(
        L, dim, **{"widths": (6, 5), "features": features, "generator": seeded(seed), **options}
    ).double()


def wide_features(dim, learned=True):
    return Features(
        dim,
        scales=[0.5, 2.0],
        center=[0.25] * dim,
        cusps=[[0.0] * dim] if dim > 1 else [],
        fourier=2,
        learned=learned,
        generator=seeded(1),
    )


@trunks
@pytest.mark.parametrize("dim", DIMS)
class TestJets:
    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_every_activation(self, dim, activation, disjoint):
        net = mlp(dim, activation=activation, disjoint=disjoint)
        assert_jet(net.jet(points(5, dim)), net, points(5, dim))

    @pytest.mark.parametrize("widths", [(4,), (6, 5), (5, 5, 5, 5)], ids=str)
    def test_every_depth(self, dim, widths, disjoint):
        net = mlp(dim, widths=widths, disjoint=disjoint)
        assert_jet(net.jet(points(5, dim)), net, points(5, dim))

    def test_with_features(self, dim, disjoint):
        net = mlp(dim, features=wide_features(dim), disjoint=disjoint)
        assert_jet(net.jet(points(5, dim)), net, points(5, dim))
        assert_live(net, points(4, dim))
        assert_value_only(net, points(4, dim))

    def test_basis(self, dim, disjoint):
        net = mlp(dim, disjoint=disjoint)
        assert_jet(net.first_basis_jet(points(5, dim)), net.first_basis, points(5, dim))


@trunks
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_live_derivatives(activation, disjoint):
    net = mlp(2, activation=activation, disjoint=disjoint)
    assert_live(net, points(5, 2))
    assert_value_only(net, points(5, 2))


@trunks
def test_backward_through_the_jet_is_no_larger_than_through_the_values(disjoint):
    """The graph behind a jet's value has as many nodes as the plain one: no derivative hangs on it."""

    def size(tensor):
        seen, stack = set(), [tensor.grad_fn]
        while stack:
            node = stack.pop()
            if node is not None and node not in seen:
                seen.add(node)
                stack += [parent for parent, _ in node.next_functions]
        return len(seen)

    net = mlp(2, disjoint=disjoint, features=wide_features(2))
    plain, through_jet = size(net(points(5, 2))), size(net.jet(points(5, 2)).value)
    assert through_jet < size(net.jet(points(5, 2), live=True).derivatives) / 2
    assert through_jet <= 2 * plain


class TestForwardAndBack:
    """Disjoint networks whose derivatives need no graph: one pass forward, one back."""

    @pytest.mark.parametrize("features", [None, "learned"])
    @pytest.mark.parametrize("dim", DIMS)
    def test_it_is_the_jet_carried_forward(self, dim, features):
        net = mlp(dim, features=None if features is None else wide_features(dim), widths=(6, 5, 4))
        x = points(7, dim)
        ours, carried = net.jet(x), net.jet(x, live=True)
        assert relative(ours.value, carried.value) <= 1e-13
        assert relative(ours.derivatives, carried.derivatives) <= 1e-12
        with torch.no_grad():
            assert torch.equal(net.jet(x).derivatives, ours.derivatives)

    def test_values_are_differentiated_by_the_points_too(self):
        net, x = mlp(2), points(5, 2).requires_grad_()
        ours = torch.autograd.grad(net.jet(x).value.square().sum(), x)[0]
        theirs = torch.autograd.grad(net(x).square().sum(), x)[0]
        assert relative(ours, theirs) <= 1e-13

    def test_the_laplacian_and_its_gradient_cost_no_product(self):
        """Value, d slopes, one pass back and one product for the weights: d + 3 of the size of a layer."""
        B, n, L, d = 32, 16, 3, 3
        net = MLP(L, d, widths=(n, n, n, n), generator=seeded())
        x = torch.randn(B, d, generator=seeded())
        with FlopCounterMode(display=False) as counter:
            net.jet(x).value.sum().backward()
        layers = 3 * (d + 3) * 2 * L * B * n * n
        ends = 5 * 2 * L * B * n * d  # first layer and last slopes, head: linear in the width
        assert layers <= counter.get_total_flops() <= layers + ends

    def test_second_derivatives_are_refused(self):
        net = mlp(2)
        loss = net.jet(points(5, 2)).value.square().sum()
        slopes = torch.autograd.grad(loss, net.head.weight, create_graph=True)[0]
        with pytest.raises(RuntimeError, match="once_differentiable"):
            slopes.sum().backward()


def test_disjoint_networks_are_separate_perceptrons():
    """Against L torch perceptrons with the same weights, one at a time."""
    net = mlp(2, L=3)
    x = points(5, 2)
    for i in range(3):
        h = x
        for layer in net.hidden:
            h = torch.tanh(torch.nn.functional.linear(h, layer.weight[i].t(), layer.bias[i, 0]))
        f = torch.nn.functional.linear(h, net.head.weight[i].t(), net.head.bias[i, 0])
        assert relative(net(x)[:, i : i + 1], f) <= 1e-14
    net(x)[:, 1].sum().backward()
    for parameter in net.parameters():
        assert [bool(parameter.grad[i].any()) for i in range(3)] == [False, True, False]


@trunks
def test_start_from_sets_the_heads(disjoint):
    net, x = mlp(2, disjoint=disjoint), points(5, 2)
    basis, C = net.first_basis(x), points(net.basis_size, 3, seed=4)
    net.start_from(C)
    torch.testing.assert_close(net(x), basis @ C, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        net.jet(x).laplacian, net.first_basis_jet(x).laplacian @ C, rtol=1e-12, atol=1e-12
    )


class TestInitialisation:
    def test_gains_multiply_the_hidden_layers_only(self):
        plain, ours = mlp(weight_gain=1.0, bias_gain=1.0), mlp(weight_gain=2.0, bias_gain=4.0)
        default = mlp()
        for a, b, c in zip(plain.hidden, ours.hidden, default.hidden, strict=True):
            assert torch.equal(2 * a.weight, b.weight)
            assert torch.equal(4 * a.bias, b.bias)
            assert torch.equal(b.weight, c.weight)
            assert torch.equal(b.bias, c.bias)
        assert torch.equal(plain.head.weight, ours.head.weight)
        assert torch.equal(plain.head.bias, ours.head.bias)

    def test_plain_weights_are_torch_s_default_law(self):
        layer = BatchedLinear(50, 16, 40, seeded())
        for parameter in (layer.weight, layer.bias):
            scaled = parameter.detach() * math.sqrt(16)
            assert float(scaled.abs().max()) <= 1
            # the variance of 2000 uniform draws is within 10 % of 1/3, which is five standard errors
            assert float(scaled.var()) == pytest.approx(1 / 3, rel=0.1)

    def test_only_the_generator_counts(self):
        torch.manual_seed(0)
        a = mlp(seed=3)
        torch.manual_seed(1)
        assert all(torch.equal(p, q) for p, q in zip(a.parameters(), mlp(seed=3).parameters(), strict=True))
        assert not torch.equal(a.head.weight, mlp(seed=4).head.weight)

    def test_default_gains_make_the_basis_better_conditioned(self):
        def condition(**gains):
            basis = mlp(2, widths=(32, 32), **gains).first_basis(points(2000, 2, scale=2.0))
            return float(torch.linalg.cond(basis.t() @ basis).detach())

        assert condition() < 0.1 * condition(weight_gain=1.0, bias_gain=1.0)


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("L", {"L": 0}),
        ("widths", {"widths": ()}),
        ("widths", {"widths": (8, 0)}),
        ("activation", {"activation": "tan"}),
        ("weight_gain", {"weight_gain": 0.0}),
        ("bias_gain", {"bias_gain": math.nan}),
        ("features", {"features": Features(3, scales=[1.0])}),
    ],
)
def test_bad_arguments(argument, options, unchecked):
    with pytest.raises(ArgumentError, match=rf"^{argument}: got .*; expected"):
        mlp(2, **options)


def test_unknown_activation_names_the_nearest(unchecked):
    with pytest.raises(ArgumentError, match="Did you mean 'softplus'"):
        mlp(activation="softmax+")


@pytest.mark.parametrize("shape", [(5,), (5, 3), (2, 5, 2)], ids=str)
def test_points_of_another_shape(shape, unchecked):
    with pytest.raises(ArgumentError, match=r"points: got shape .*; expected shape \(B, 2\)"):
        mlp(2)(torch.zeros(shape, dtype=f64))
    with pytest.raises(ArgumentError, match="points: got shape"):
        mlp(2).jet(torch.zeros(shape, dtype=f64))


class TestTable:
    def test_rows(self):
        table = Table(3, 7, generator=seeded())
        index = torch.tensor([[4], [0], [4]])
        assert torch.equal(table(index), table.entries[[4, 0, 4]])
        assert table(index).dtype == f64

    def test_start(self):
        table = Table(3, 7, generator=seeded())
        every = torch.arange(7)[:, None]
        basis = table.first_basis(every)
        C = points(basis.shape[1], 3)
        table.start_from(C)
        torch.testing.assert_close(table(every), basis @ C)

    @pytest.mark.parametrize(("argument", "L", "n"), [("L", 0, 4), ("n", 1, 0)])
    def test_bad_arguments(self, argument, L, n, unchecked):
        with pytest.raises(ArgumentError, match=rf"{argument}: got 0"):
            Table(L, n, generator=seeded())


def net(dim=2, **options):
    return MLP(3, dim, widths=(6, 5), generator=seeded(5), **options)


def decay():
    return DecayFactor(2.5, center=[0.1, 0.2], smooth=0.7, learned=True)


EXAMPLES = {
    "mlp": net,
    "shared sin": lambda: net(disjoint=False, activation="sin", weight_gain=1.0, bias_gain=1.0),
    "features": lambda: net(features=wide_features(2)),
    "features on a line": lambda: net(dim=1, features=wide_features(1, learned=False)),
    "bare features": lambda: wide_features(3),
    "box": lambda: BoxFactor(50.0),
    "box, centre": lambda: BoxFactor(50.0, center=[0.1, 0.2]),
    "decay": decay,
    "gaussian": lambda: GaussianFactor(0.3, center=[0.1, 0.2]),
    "product": lambda: BoxFactor(50.0) * decay() * GaussianFactor(1.3, learned=True),
    "everything": lambda: WithFactor(net(features=wide_features(2)), BoxFactor(50.0) * decay()),
    "twice": lambda: WithFactor(WithFactor(net(), decay()), BoxFactor(50.0)),
    "table": lambda: Table(3, 7, generator=seeded()),
    "float32 table": lambda: Table(3, 7, generator=seeded(), dtype=torch.float32),
}


@pytest.mark.parametrize("name", EXAMPLES)
class TestConfig:
    @pytest.mark.parametrize("dtype", [None, f64], ids=["as made", "float64"])
    def test_round_trip(self, name, dtype):
        """Through JSON and a state dict: the outputs are the same bit for bit."""
        module = EXAMPLES[name]()
        module = module if dtype is None else module.to(dtype)
        with torch.no_grad():  # as after training
            for i, parameter in enumerate(module.parameters()):
                parameter += 0.1 * torch.rand(parameter.shape, generator=seeded(i)).to(parameter)
        copy = from_config(json.loads(json.dumps(module.config())))
        assert type(copy) is type(module)
        copy.load_state_dict(module.state_dict())
        dtypes = [t.dtype for t in module.state_dict().values()]
        assert [t.dtype for t in copy.state_dict().values()] == dtypes
        x = points(6, getattr(module, "dim", 2), dtype=dtypes[0] if dtypes else f64)
        if name.endswith("table"):
            x = torch.arange(7)[:, None]
        assert torch.equal(copy(x), module(x))
        if hasattr(module, "jet"):
            assert torch.equal(copy.jet(x).derivatives, module.jet(x).derivatives)
        assert copy.config() == module.config()

    def test_weights_before_loading_come_from_the_generator(self, name):
        a, b = (from_config(EXAMPLES[name]().config(), generator=seeded(8)) for _ in range(2))
        assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize(
    ("argument", "config"),
    [
        ("config", {}),
        ("config", {"L": 3}),
        ("name", {"name": "MPL"}),
        ("dtype", {"name": "BoxFactor", "half_width": 1.0, "dtype": "float46"}),
    ],
)
def test_configs_that_describe_nothing(argument, config, unchecked):
    with pytest.raises(ArgumentError, match=rf"^{argument}: got"):
        from_config(config)
