"""Operators with nodes and functions to try them on: what the contract of operators goes through."""

from collections.abc import Callable
from dataclasses import dataclass

import scipy.sparse
import torch
from scipy.sparse.linalg import aslinearoperator

from nbsvd.measures import Gaussian, Lebesgue, Measure, Nodes, Radial, Uniform
from nbsvd.operators import Integral, Matrix, Operator, Schrodinger

f64 = torch.float64


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=f64)


class Derivative(Operator):
    """A user's own local operator, d/dx_1: minus its own adjoint for functions that vanish far away."""

    local = True
    bounded = False

    def from_jet(self, x, jet):
        return jet.gradient[0]

    @property
    def adjoint(self):
        return -self


class Multiplication(Operator):
    """Another: multiplication by a function; self-adjoint, no derivative needed."""

    local = True
    self_adjoint = True

    def from_jet(self, x, jet):
        return torch.sin(x[:, :1]) * jet.value

    @property
    def adjoint(self):
        return self


def bells(dim, seed, L=3):
    """Polynomials times a Gaussian: smooth, gone at a distance of 8."""
    centre, mix = 0.4 * randn(L, dim, seed=seed), randn(L, dim, seed=seed + 1)

    def function(x):
        z = x[:, None, :] - centre
        return (1 + (z * mix).sum(2)) * torch.exp(-0.5 * (z * z).sum(2))

    return function


def waves(seed, L=3):
    frequency, phase = 1 + randn(1, L, seed=seed).abs(), randn(1, L, seed=seed + 1)
    return lambda x: torch.sin(frequency * x + phase)


def table(n, seed, L=3):
    entries = randn(n, L, seed=seed)
    return lambda x: entries[x[:, 0].long()]


def oscillator(x):
    return (x * x).sum(1)


def coulomb(x):
    return -1 / x.norm(dim=1)


def gauss(x, y):
    return torch.exp(-0.5 * torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist") ** 2)


line, plane = Lebesgue(Gaussian(1, scale=1.0)), Lebesgue(Radial(2, scale=1.0))
unit, normal = Uniform(0.0, 1.0), Gaussian(1)
SYMMETRIC = randn(7, 7) + randn(7, 7).t()
SPARSE = scipy.sparse.coo_array((randn(6, 7, seed=4) * (randn(6, 7, seed=5) > 0)).numpy())


@dataclass(frozen=True)
class Case:
    """An operator, another one between the same spaces, and functions on both sides."""

    operator: Callable[[], Operator]
    partner: Callable[[], Operator]
    x: Nodes
    y: Nodes
    f: Callable[[torch.Tensor], torch.Tensor]
    g: Callable[[torch.Tensor], torch.Tensor]
    tolerance: float = 1e-12

    @property
    def square(self):
        """Whether the operator maps a space to itself."""
        return self.x is self.y


def on(measure: Measure, n: int, operator, partner, functions, tolerance=1e-12):
    nodes = measure.nodes(n, kind="quadrature")
    return Case(operator, partner, nodes, nodes, functions(1), functions(5), tolerance)


def matrix(A, partner):
    n, m = A.shape[1], A.shape[0]
    T = Matrix(A)
    x = T.measure_x.nodes(n, kind="quadrature")
    y = x if m == n else T.measure_y.nodes(m, kind="quadrature")
    return Case(lambda: T, lambda: Matrix(partner), x, y, table(n, 1), table(m, 5))


CASES = {
    "oscillator": on(
        line, 120, lambda: Schrodinger(oscillator), lambda: Integral(gauss, line), lambda s: bells(1, s), 1e-8
    ),
    "hydrogen": on(
        plane,
        2000,
        lambda: Schrodinger(coulomb, singular_points=[(0.0, 0.0)]),
        Multiplication,
        lambda s: bells(2, s),
        1e-7,
    ),
    "multiplication": on(
        line, 120, Multiplication, lambda: Schrodinger(oscillator), lambda s: bells(1, s), 1e-8
    ),
    "derivative": on(line, 120, Derivative, lambda: Schrodinger(oscillator), lambda s: bells(1, s), 1e-8),
    "derivative and integral": on(
        line, 120, lambda: Derivative() + 2.0 * Integral(gauss, line), Derivative, lambda s: bells(1, s), 1e-8
    ),
    "volterra": on(
        unit,
        40,
        lambda: Integral(lambda x, y: x < y.t(), unit),
        lambda: Integral(lambda x, y: torch.minimum(x, y.t()), unit),
        waves,
    ),
    "brownian": on(
        unit,
        40,
        lambda: Integral(lambda x, y: torch.minimum(x, y.t()), unit),
        lambda: Integral(lambda x, y: x < y.t(), unit),
        waves,
    ),
    "gaussian kernel": on(normal, 200, lambda: Integral(gauss, normal), Multiplication, waves),
    "two measures": Case(
        lambda: Integral(lambda x, y: torch.exp(x * y.t()), unit, normal),
        lambda: Integral(lambda x, y: torch.cos(x + 2 * y.t()), unit, normal),
        unit.nodes(30, kind="quadrature"),
        normal.nodes(100, kind="quadrature"),
        waves(1),
        waves(5),
    ),
    "symmetric matrix": matrix(SYMMETRIC, (randn(7, 7, seed=3)).numpy()),
    "square matrix": matrix(randn(7, 7, seed=2), SYMMETRIC),
    "rectangular matrix": matrix(randn(6, 7, seed=3), SPARSE),
    "sparse matrix": matrix(SPARSE, randn(6, 7, seed=3)),
    "linear operator": matrix(aslinearoperator(SPARSE.tocsr()), SPARSE),
    "shifted": on(
        line, 120, lambda: Schrodinger(oscillator).shift(11.0), Multiplication, lambda s: bells(1, s), 1e-8
    ),
    "shifted kernel": on(
        normal, 200, lambda: Integral(gauss, normal).shift(-0.5), lambda: Integral(gauss, normal), waves
    ),
    "mixed": on(
        line,
        120,
        lambda: 2.0 * (Schrodinger(oscillator) - 0.5 * Integral(gauss, line)).shift(3.0),
        lambda: Integral(gauss, line).shift(1.0),
        lambda s: bells(1, s),
        1e-8,
    ),
}
