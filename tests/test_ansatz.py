"""Ansatz factors and their products with networks."""

import math

import pytest
import torch
from by_autograd import assert_jet, assert_live, assert_value_only, points
from torch import nn

from nbsvd._errors import ArgumentError
from nbsvd.functions import (
    MLP,
    BoxFactor,
    DecayFactor,
    Features,
    GaussianFactor,
    ProductFactor,
    SqrtDensity,
    WithFactor,
)

DIMS = range(1, 6)
f64 = torch.float64


def centre(dim):
    return [0.5 * (-1) ** i for i in range(dim)]


FACTORS = {
    "box": lambda dim, learned: BoxFactor(4.0),
    "box, centre": lambda dim, learned: BoxFactor(5.0, center=centre(dim)),
    "decay": lambda dim, learned: DecayFactor(2.0, learned=learned),
    "decay, centre, smooth": lambda dim, learned: DecayFactor(
        2.0, center=centre(dim), smooth=0.3, learned=learned
    ),
    "gaussian": lambda dim, learned: GaussianFactor(1.5, learned=learned),
    "gaussian, centre": lambda dim, learned: GaussianFactor(1.5, center=centre(dim), learned=learned),
    "sqrt density": lambda dim, learned: SqrtDensity(1.2, center=centre(dim)),
    "box * decay": lambda dim, learned: BoxFactor(4.0) * DecayFactor(2.0, learned=learned),
    "three": lambda dim, learned: (
        BoxFactor(4.0) * DecayFactor(2.0, learned=learned) * GaussianFactor(3.0, learned=learned)
    ),
}
every = pytest.mark.parametrize(("name", "dim"), [(name, dim) for name in FACTORS for dim in DIMS])


def factor(name, dim, learned=False):
    return FACTORS[name](dim, learned).double()


def network(dim, *, disjoint=True, cusp=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    phi = Features(dim, scales=[1.0, 2.0], cusps=[[0.0] * dim] if cusp and dim > 1 else [])
    return MLP(3, dim, widths=(6, 5), disjoint=disjoint, features=phi, generator=generator).double()


@every
class TestFactors:
    def test_jet(self, name, dim):
        a = factor(name, dim)
        assert_jet(a.jet(points(7, dim)), a, points(7, dim))

    def test_learned(self, name, dim):
        a = factor(name, dim, learned=True)
        assert_value_only(a, points(7, dim))
        if list(a.parameters()):
            assert_live(a, points(7, dim))

    def test_fixed_factors_have_no_parameters(self, name, dim):
        assert not list(factor(name, dim).parameters())

    def test_positive_inside_and_at_most_one(self, name, dim):
        x = points(200, dim).clamp(-3.99, 3.99)
        value = factor(name, dim)(x)
        assert value.shape == (200, 1)
        assert bool((value > 0).all())
        assert bool((value <= 1 + 1e-12).all())


@every
@pytest.mark.parametrize("disjoint", [True, False], ids=["disjoint", "shared"])
class TestProductsWithNetworks:
    def test_jet(self, name, dim, disjoint):
        f = WithFactor(network(dim, disjoint=disjoint), factor(name, dim))
        assert (f.L, f.dim) == (3, dim)
        assert_jet(f.jet(points(5, dim)), f, points(5, dim))

    def test_live(self, name, dim, disjoint):
        f = WithFactor(network(dim, disjoint=disjoint), factor(name, dim, learned=True))
        assert_live(f, points(4, dim))
        assert_value_only(f, points(4, dim))


class TestBox:
    def test_zero_on_the_walls_and_outside(self):
        a = BoxFactor(2.0)
        x = torch.tensor([[2.0, 0.3], [-0.5, -2.0], [2.0, 2.0], [3.0, 0.0], [0.0, -5.0]], dtype=f64)
        assert float(a(x).abs().max()) == pytest.approx(0, abs=1e-15)
        jet = a.jet(x[3:])
        assert float(jet.value.abs().max()) == pytest.approx(0, abs=1e-15)
        assert float(jet.laplacian.abs().max()) == pytest.approx(0, abs=1e-15)

    def test_formula_of_the_paper(self):
        x, D = torch.tensor([[30.0, -10.0]], dtype=f64), 50.0
        paper = math.prod(math.sqrt(2 * D**2 - c**2) - D for c in (30.0, -10.0))
        at_zero = (math.sqrt(2) * D - D) ** 2
        assert float(BoxFactor(D)(x)) == pytest.approx(paper / at_zero, rel=1e-12)


def test_decay_has_its_length_far_away_and_is_flat_at_the_centre():
    a = DecayFactor(2.0, center=[1.0, 0.0], smooth=0.5).double()
    far = torch.tensor([[1001.0, 0.0], [1003.0, 0.0]], dtype=f64)
    logs = a(far).log() if bool((a(far) > 0).all()) else None
    assert logs is not None
    assert float(logs[0] - logs[1]) == pytest.approx(1.0, rel=1e-5)  # three lengths less one: 2 / 2
    assert float(a.jet(torch.tensor([[1.0, 0.0]], dtype=f64)).gradient.abs().max()) == 0


def test_sqrt_density_squared_is_the_density():
    from nbsvd.measures import Gaussian

    law, a, x = Gaussian(3, scale=1.7), SqrtDensity(1.7).double(), points(9, 3)
    ratio = a(x)[:, 0] ** 2 / law.log_density(x).exp()
    torch.testing.assert_close(ratio, ratio[:1].expand(9), rtol=1e-6, atol=0)


def test_product_of_products_is_flat_in_value():
    x = points(5, 2)
    a, b, c = BoxFactor(4.0), DecayFactor(2.0).double(), GaussianFactor(3.0).double()
    torch.testing.assert_close((a * (b * c))(x), ((a * b) * c)(x), rtol=1e-14, atol=0)
    torch.testing.assert_close(ProductFactor([a, b, c])(x), a(x) * b(x) * c(x), rtol=1e-14, atol=0)


def test_a_user_s_own_network_takes_a_factor():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(2, 8), nn.SiLU(), nn.Linear(8, 3)).double()
    f = WithFactor(net, BoxFactor(4.0))
    assert_jet(f.jet(points(5, 2)), f, points(5, 2))
    assert_live(f, points(5, 2))


def test_basis_of_the_product():
    f = WithFactor(network(2), factor("three", 2))
    x = points(5, 2)
    jet = f.first_basis_jet(x)
    assert_jet(jet, f.first_basis, x)
    assert jet.value.shape == (5, f.network.basis_size)
    C = points(f.network.basis_size, 3, seed=3)
    f.start_from(C)
    torch.testing.assert_close(f(x), f.first_basis(x) @ C, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("half_width", lambda: BoxFactor(0.0)),
        ("half_width", lambda: BoxFactor(math.inf)),
        ("length", lambda: DecayFactor(-1.0)),
        ("smooth", lambda: DecayFactor(1.0, smooth=0.0)),
        ("scale", lambda: GaussianFactor(math.nan)),
        ("factors", lambda: ProductFactor([])),
    ],
)
def test_bad_arguments(argument, make, unchecked):
    with pytest.raises(ArgumentError, match=rf"{argument}: got .*; expected"):
        make()


def test_whole_numbers_are_taken_for_lengths():
    whole = BoxFactor(4, center=[0, 0]) * DecayFactor(2, smooth=1) * GaussianFactor(3) * SqrtDensity(1)
    real = (
        BoxFactor(4.0, center=[0.0, 0.0])
        * DecayFactor(2.0, smooth=1.0)
        * GaussianFactor(3.0)
        * SqrtDensity(1.0)
    )
    assert whole.config() == real.config()
    assert Features(2, scales=[1, 2], center=[0, 0], cusps=[(0, 0)]).count == 8
    assert MLP(1, 1, weight_gain=1, bias_gain=1, generator=torch.Generator()).weight_gain == 1.0
