"""Quadrature rules: exact values, and random copies that differ and stay accurate."""

import itertools
import math

import pytest
import torch

from nbsvd._errors import ArgumentError
from nbsvd.exact import Oscillator
from nbsvd.measures import (
    BoxRule,
    HermiteRule,
    Lebesgue,
    LineRule,
    PolarRule,
    Radial,
    SparseRule,
    SphericalRule,
    SquareRule,
)
from nbsvd.measures.rules import gauss_legendre, radial_nodes, sparse_hermite

f64 = torch.float64


def norm(x):
    return x.norm(dim=1)


# rule, number of nodes, function, exact integral, bound on the relative error (of random copies too)
CASES = {
    "line, gaussian": (LineRule(2.0), 80, lambda x: torch.exp(-(x[:, 0] ** 2)), math.sqrt(math.pi), 1e-9),
    "line, off centre": (
        LineRule(2.0, center=1.0),
        80,
        lambda x: x[:, 0] * torch.exp(-((x[:, 0] - 1) ** 2)),
        math.sqrt(math.pi),
        1e-9,
    ),
    "polar, cusp": (PolarRule(2.0), 640, lambda x: torch.exp(-norm(x)), 2 * math.pi, 1e-9),
    "polar, 1/r": (PolarRule(2.0), 640, lambda x: torch.exp(-norm(x)) / norm(x), 2 * math.pi, 1e-9),
    "polar, angular": (
        PolarRule(2.0),
        640,
        lambda x: x[:, 0] ** 2 * torch.exp(-norm(x)),
        math.pi * math.factorial(3),
        1e-9,
    ),
    "polar, off centre": (
        PolarRule(1.0, center=(3.0, -1.0)),
        640,
        lambda x: x[:, 0] * torch.exp(-((x - torch.tensor([3.0, -1.0])) ** 2).sum(1)),
        3 * math.pi,
        1e-7,
    ),
    "sphere, cusp": (SphericalRule(2.0), 4000, lambda x: torch.exp(-norm(x)), 8 * math.pi, 1e-7),
    "sphere, 1/r^2": (
        SphericalRule(2.0),
        4000,
        lambda x: torch.exp(-norm(x)) / norm(x) ** 2,
        4 * math.pi,
        1e-7,
    ),
    "sphere, angular": (
        SphericalRule(2.0, center=(1.0, 0.0, 2.0)),
        4000,
        lambda x: (x[:, 2] - 2) ** 2 * torch.exp(-norm(x - torch.tensor([1.0, 0.0, 2.0]))),
        4 * math.pi / 3 * math.factorial(4),
        1e-6,
    ),
    "box 1": (BoxRule((-1.0,), (2.0,)), 24, lambda x: torch.exp(x[:, 0]), math.e**2 - 1 / math.e, 1e-10),
    "box 2": (
        BoxRule((0.0, -1.0), (1.0, 2.0)),
        400,
        lambda x: torch.exp(x.sum(1)),
        (math.e - 1) * (math.e**2 - 1 / math.e),
        1e-9,
    ),
    "box 3": (BoxRule((0.0,) * 3, (1.0,) * 3), 1000, lambda x: torch.exp(x.sum(1)), (math.e - 1) ** 3, 1e-7),
    "square, 1/r": (SquareRule(1.0), 900, lambda x: 1 / norm(x), 8 * math.asinh(1.0), 1e-8),
    "square, smooth": (SquareRule(2.0), 2000, lambda x: torch.exp(x.sum(1)), 4 * math.sinh(2.0) ** 2, 1e-7),
    "hermite 1": (HermiteRule(1, 2.0), 40, lambda x: torch.cos(x[:, 0]), math.exp(-2.0), 1e-8),
    "hermite 1, polynomial": (HermiteRule(1, 2.0, mean=1.0), 40, lambda x: x[:, 0] ** 4, 73.0, 1e-8),
    "hermite 2": (HermiteRule(2, 2.0, mean=1.0), 100, lambda x: x[:, 0] ** 2 * x[:, 1] ** 2, 25.0, 1e-12),
    "hermite 3": (HermiteRule(3, 0.5), 1000, lambda x: torch.cos(x.sum(1)), math.exp(-0.375), 1e-9),
}


def total(rule, n, function, generator=None):
    x, w = rule(n, generator)
    return float((w * function(x.to(f64))).mean())


@pytest.mark.parametrize("name", CASES)
class TestAccuracy:
    def test_exact_value(self, name):
        rule, n, function, exact, bound = CASES[name]
        assert total(rule, n, function) == pytest.approx(exact, rel=bound)

    def test_random_copies_stay_accurate(self, name):
        rule, n, function, exact, bound = CASES[name]
        generator = torch.Generator().manual_seed(0)
        for _ in range(10):
            assert total(rule, n, function, generator) == pytest.approx(exact, rel=10 * bound)

    def test_random_copies_differ(self, name):
        rule, n, *_ = CASES[name]
        still, generator = rule(n, None)[0], torch.Generator().manual_seed(0)
        copies = [still, rule(n, generator)[0], rule(n, generator)[0]]
        for i in range(3):
            for j in range(i):
                gap = torch.cdist(copies[i], copies[j]).min(1).values
                assert float((gap > 1e-6).double().mean()) > 0.8  # but for nodes at the very centre

    def test_shape_and_sign(self, name):
        rule, n, *_ = CASES[name]
        for generator in (None, torch.Generator().manual_seed(1)):
            x, w = rule(n, generator)
            assert x.ndim == 2
            assert w.shape == (len(x),)
            assert x.dtype == w.dtype == f64
            assert bool((w > 0).all())
            assert 0.6 * n <= len(x) <= 1.5 * n

    def test_nodes_come_from_the_generator_only(self, name):
        rule, n, *_ = CASES[name]
        a, b = (rule(n, torch.Generator().manual_seed(5)) for _ in range(2))
        assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))
        a, b = rule(n, None), rule(n, None)
        assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def test_errors_fall_with_the_number_of_nodes():
    rule, _, function, exact, _ = CASES["polar, cusp"]
    errors = [abs(total(rule, n, function) - exact) for n in (40, 160, 640)]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]


@pytest.mark.parametrize("n", [1, 5, 60, 300, 2000])
def test_gauss_legendre_for_every_size(n):
    """Two libraries share the work; both sides of the seam are exact for polynomials and sum to one."""
    t, q = gauss_legendre(n)
    assert t.shape == q.shape == (n,)
    assert float(q.sum()) == pytest.approx(1, rel=1e-13)
    degree = min(2 * n - 1, 9)
    assert float((q * t**degree).sum()) == pytest.approx(1 / (degree + 1), rel=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_radial_nodes(dim):
    r, q = radial_nodes(60, 2.0, dim)
    assert float((q * torch.exp(-r)).sum()) == pytest.approx(math.gamma(dim), rel=1e-10)
    assert float((r < 2.0).double().mean()) == pytest.approx(0.5, abs=0.02)


def test_square_rule_ends_at_the_walls():
    x, _ = SquareRule(3.0)(4000, torch.Generator().manual_seed(0))
    assert 2.9 < float(x.abs().max()) <= 3.0
    for quarter in ((x[:, 0] > x[:, 1].abs()), (x[:, 1] > x[:, 0].abs())):
        assert float(quarter.double().mean()) == pytest.approx(0.25, abs=0.02)


def test_hermite_rule_in_four_dimensions_is_refused(unchecked):
    with pytest.raises(ArgumentError, match=r"dim: got 4; expected at most 3\. Use Sobol points"):
        HermiteRule(4, 1.0)(100, None)


def moment(powers):
    """The mean of a monomial under the standard normal law: a product of double factorials."""
    odd = [math.prod(range(1, p, 2)) for p in powers]
    return 0.0 if any(p % 2 for p in powers) else float(math.prod(odd))


class TestSparseRule:
    @pytest.mark.parametrize(("dim", "level"), [(1, 4), (2, 1), (2, 5), (3, 4), (4, 3), (6, 3), (10, 2)])
    def test_it_is_exact_to_its_degree_and_no_further(self, dim, level):
        x, q = sparse_hermite(dim, level)
        degree = 2 * level - 1
        for axes in itertools.combinations_with_replacement(range(dim + 1), degree):  # axis dim: a factor 1
            powers = [axes.count(i) for i in range(dim)]
            found = float((q * x.pow(x.new_tensor(powers)).prod(1)).sum())
            assert found == pytest.approx(moment(powers), abs=1e-10), powers
        missed = float((q * x[:, 0] ** (2 * level)).sum())
        assert abs(missed - moment([2 * level])) > 0.5

    def test_few_nodes_each_but_once_some_of_negative_weight(self):
        x, q = sparse_hermite(6, 4)
        assert len(x) == 389  # a product of four points on each axis has 4096
        assert float(torch.pdist(x).min()) > 1e-3
        assert float(q.sum()) == pytest.approx(1)
        assert float(q.min()) < 0

    def test_place_size_and_number(self):
        rule = SparseRule(5, scale=0.5, mean=(1.0, 2.0, 3.0, 4.0, 5.0))
        assert [len(rule(n)[0]) for n in (1, 10, 11, 60, 61)] == [1, 1, 11, 11, 61]
        for generator in (None, torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)):
            x, w = rule(100, generator)
            assert float((w * x[:, 1]).mean()) == pytest.approx(2)
            assert float((w * (x[:, 1] - 2) ** 2 * (x[:, 4] - 5) ** 2).mean()) == pytest.approx(1 / 16)

    def test_random_copies_differ(self):
        rule, generator = SparseRule(4), torch.Generator().manual_seed(0)
        a, b = rule(100, generator)[0], rule(100, generator)[0]
        assert not torch.allclose(a, b)
        assert torch.equal(rule(100, torch.Generator().manual_seed(0))[0], a)

    def test_gram_matrix_and_energies_of_an_oscillator_in_six_dimensions(self):
        """Products of its functions are polynomials times a normal density, which this rule knows exactly."""
        K = torch.eye(6, dtype=f64).tolist()
        exact = Oscillator(K)
        x, w = SparseRule(6, scale=math.sqrt(0.5))(500)
        f = exact.functions(x, 7)
        w = w * math.pi**3 * torch.exp((x * x).sum(1)) / len(x)
        torch.testing.assert_close(f.t() @ (w[:, None] * f), torch.eye(7, dtype=f64))
        potential = (w * (x * x).sum(1) * f[:, 0] ** 2).sum()
        assert float(potential) == pytest.approx(3.0)  # half of the ground state's energy

    def test_it_makes_no_nodes(self, unchecked):
        measure = Lebesgue(Radial(4, scale=1.0), rule=SparseRule(4))
        with pytest.raises(ArgumentError, match=r"rule: got negative weights; expected .* Sum over a sparse"):
            measure.nodes(100, kind="quadrature")
