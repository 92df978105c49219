"""Operators: one contract that every operator passes, exact eigenfunctions, bad input."""

import pytest
import torch
from by_autograd import jet_by_autograd, points, relative
from operator_cases import (
    CASES,
    Multiplication,
    bells,
    coulomb,
    gauss,
    line,
    normal,
    oscillator,
    plane,
    randn,
    unit,
)
from torch import nn

from nbsvd._errors import ArgumentError
from nbsvd.exact import Brownian, GaussianKernel, Hydrogen2D, Oscillator, Volterra
from nbsvd.functions import MLP, DecayFactor, WithFactor, functional_jet
from nbsvd.measures import Gaussian, Lebesgue, Radial
from nbsvd.operators import Integral, Schrodinger

f64 = torch.float64
every = pytest.mark.parametrize("name", CASES)
squares = pytest.mark.parametrize("name", [name for name in CASES if CASES[name].square])


def inner(nodes, a, b):
    return (nodes.weights[:, None] * a).t() @ b / len(nodes)


def close(a, b, tolerance):
    assert relative(a, b) <= tolerance


def combined(T, S):
    """Combinations of T and S with what they must give from t = T f, s = S f and f."""
    yield T + S, lambda t, s, f: t + s
    yield T - S, lambda t, s, f: t - s
    yield -T, lambda t, s, f: -t
    yield 1.5 * T, lambda t, s, f: 1.5 * t
    yield T * 2, lambda t, s, f: 2 * t
    yield 2.0 * (T - 0.5 * S) + T, lambda t, s, f: 3 * t - s
    yield -(S + T) + 0.5 * (S + S), lambda t, s, f: -t
    if T.self_adjoint:
        yield T.shift(0.7), lambda t, s, f: t + 0.7 * f
        yield T.shift(0.7).shift(-0.2), lambda t, s, f: t + 0.5 * f
        yield 2.0 * (T.shift(0.7) + S) - T.shift(1.0), lambda t, s, f: t + 2 * s + 0.4 * f
        yield (T.shift(0.25) + T).shift(0.5), lambda t, s, f: 2 * t + 0.75 * f
    if T.self_adjoint and S.self_adjoint:
        yield -(T + S).shift(0.3), lambda t, s, f: -t - s - 0.3 * f


@every
class TestContract:
    def test_linear(self, name):
        case = CASES[name]
        T = case.operator()
        other = CASES[name].f
        mix = randn(3, 2, seed=9)
        both = T.apply(lambda x: other(x) @ mix, case.y.x, case.x)
        close(both, T.apply(other, case.y.x, case.x) @ mix, 1e-11)

    def test_adjoint(self, name):
        """<g|T f> = <T* g|f>, and T** acts as T."""
        case = CASES[name]
        T = case.operator()
        Tf = T.apply(case.f, case.y.x, case.x)
        Tg = T.adjoint.apply(case.g, case.x.x, case.y)
        close(inner(case.y, case.g(case.y.x), Tf), inner(case.x, Tg, case.f(case.x.x)), case.tolerance)
        close(T.adjoint.adjoint.apply(case.f, case.y.x, case.x), Tf, 1e-12)

    def test_algebra(self, name):
        case = CASES[name]
        T, S = case.operator(), case.partner()
        t, s = (A.apply(case.f, case.y.x, case.x) for A in (T, S))
        f = case.f(case.y.x) if case.square else None
        for combination, expected in combined(T, S):
            assert combination.bounded == (T.bounded and S.bounded) or combination.bounded == T.bounded
            close(combination.apply(case.f, case.y.x, case.x), expected(t, s, f), 1e-11)

    def test_adjoint_of_combinations(self, name):
        case = CASES[name]
        T, S = case.operator(), case.partner()
        t, s = (A.adjoint.apply(case.g, case.x.x, case.y) for A in (T, S))
        g = case.g(case.x.x) if case.square else None
        for combination, expected in combined(T, S):
            close(combination.adjoint.apply(case.g, case.x.x, case.y), expected(t, s, g), 1e-11)

    def test_measures_pass_through_the_algebra(self, name):
        T, S = CASES[name].operator(), CASES[name].partner()
        for combination, _ in combined(T, S):
            for side in ("measure_x", "measure_y"):
                one, other = getattr(T, side), getattr(S, side)
                assert getattr(combination, side) in (one, other)
            assert (T + S).measure_x is (T.measure_x or S.measure_x)

    def test_function_of_another_shape(self, name, unchecked):
        case = CASES[name]
        with pytest.raises(
            ArgumentError, match=r"function: got values of shape .*; expected shape \(\d+, L\)"
        ):
            case.operator().apply(lambda x: case.f(x)[:, 0], case.y.x, case.x)


@squares
class TestContractOfSquareOperators:
    def test_self_adjoint_is_true_to_the_numbers(self, name):
        case = CASES[name]
        T = case.operator()
        A = inner(case.x, case.f(case.x.x), T.apply(case.f, case.x.x, case.x))
        gap = relative(A, A.t())
        assert gap <= case.tolerance if T.self_adjoint else gap > 1e-3

    def test_evaluate_is_apply_at_the_nodes(self, name):
        case = CASES[name]
        T, S = case.operator(), case.partner()
        for operator in (T, *(combination for combination, _ in combined(T, S))):
            f, Tf = operator.evaluate(case.f, case.x)
            close(f, case.f(case.x.x), 1e-15)
            close(Tf, operator.apply(case.f, case.x.x, case.x), 1e-12)

    def test_evaluate_on_other_inner_nodes(self, name):
        """Points of evaluation and nodes of integration may differ."""
        case = CASES[name]
        T, S = case.operator(), case.partner()
        some = type(case.x)(case.x.x[1::2], case.x.weights[1::2], "iid")
        for operator in (T, *[combination for combination, _ in combined(T, S)][::3]):
            f, Tf = operator.evaluate(case.f, some, case.x)
            close(f, case.f(some.x), 1e-15)
            close(Tf, operator.apply(case.f, some.x, case.x), 1e-12)

    def test_moments(self, name):
        """Against matrices made by hand; for a differential operator this is weak against strong form."""
        case = CASES[name]
        T, S = case.operator(), case.partner()
        f = case.f(case.x.x)
        for operator in (T, *[combination for combination, _ in combined(T, S)][::3]):
            gram, form = operator.moments(case.f, case.x)
            by_hand = inner(case.x, f, operator.apply(case.f, case.x.x, case.x))
            close(gram, inner(case.x, f, f), 1e-14)
            scale = float(inner(case.x, f, T.apply(case.f, case.x.x, case.x)).abs().max())
            assert float((form - by_hand).abs().max()) <= 10 * case.tolerance * max(scale, 1.0)

    def test_moments_take_a_jet(self, name):
        """A function that reuses its jet, as the trainer's does, gives the same matrices."""
        case = CASES[name]
        T = case.operator()
        expected = T.moments(case.f, case.x)

        ours = T.moments(case.f, case.x, jet=lambda x: functional_jet(case.f, x))
        for a, b in zip(ours, expected, strict=True):
            close(a, b, 1e-12)


class TestExactEigenfunctions:
    @pytest.mark.parametrize("dim", [1, 2, 3])
    def test_oscillator(self, dim):
        exact, k = Oscillator(frequencies=[1.0, 2.0, 0.5][:dim]), 5
        T = Schrodinger(lambda x: x**2 @ torch.tensor([1.0, 4.0, 0.25][:dim], dtype=f64))
        x = points(40, dim)
        Tf = T.apply(lambda x: exact.functions(x, k), x)
        close(Tf, exact.values(k) * exact.functions(x, k), 1e-11)

    def test_hydrogen(self):
        exact, k = Hydrogen2D(), 9
        x = points(40, 2, scale=4.0)
        Tf = Schrodinger(coulomb).apply(lambda x: exact.functions(x, k), x)
        close(Tf, exact.values(k) * exact.functions(x, k), 1e-11)

    def test_hydrogen_in_the_weak_form(self):
        exact, k = Hydrogen2D(), 9
        nodes = Lebesgue(Radial(2, scale=6.0)).nodes(4000, kind="quadrature")
        gram, form = Schrodinger(coulomb).moments(lambda x: exact.functions(x, k), nodes)
        assert float((gram - torch.eye(k, dtype=f64)).abs().max()) <= 1e-8
        assert float((form - torch.diag(exact.values(k))).abs().max()) <= 1e-8

    def test_the_weak_form_needs_no_second_derivative(self):
        """At the cusp the strong form of exp(-r) is a difference of terms that are not square integrable."""
        nodes = Lebesgue(Radial(2, scale=1.0)).nodes(2000, kind="quadrature")
        T = Schrodinger(coulomb)
        gram, form = T.moments(lambda x: torch.exp(-x.norm(dim=1, keepdim=True)), nodes)
        assert float(form / gram) == pytest.approx(1.0, rel=1e-9)

    def test_volterra(self):
        exact, k, y = Volterra(), 4, torch.linspace(0.01, 0.99, 37, dtype=f64)[:, None]
        T = Integral(lambda x, y: x < y.t(), unit)
        nodes = unit.nodes(4000, kind="quadrature")
        sigma = exact.values(k)
        close(T.apply(lambda x: exact.functions(x, k), y, nodes), sigma * exact.left(y, k), 1e-3)
        close(T.adjoint.apply(lambda x: exact.left(x, k), y, nodes), sigma * exact.functions(y, k), 1e-3)
        assert not T.self_adjoint
        assert T.measure_x is T.adjoint.measure_y

    def test_brownian(self):
        exact, k, y = Brownian(), 4, torch.linspace(0.01, 0.99, 37, dtype=f64)[:, None]
        T = Integral(lambda x, y: torch.minimum(x, y.t()), unit)
        nodes = unit.nodes(2000, kind="quadrature")
        close(
            T.apply(lambda x: exact.functions(x, k), y, nodes), exact.values(k) * exact.functions(y, k), 1e-5
        )
        assert T.self_adjoint

    def test_gaussian_kernel(self):
        exact, k, y = GaussianKernel(1.0, 1.0), 6, points(30, 1)
        T = Integral(gauss, normal)
        nodes = normal.nodes(300, kind="quadrature")
        close(
            T.apply(lambda x: exact.functions(x, k), y, nodes), exact.values(k) * exact.functions(y, k), 1e-9
        )
        assert T.self_adjoint

    def test_a_kernel_on_sampled_nodes_is_unbiased(self):
        """5 standard errors for each of 12 numbers: a false alarm in 7e-6 of all seeds."""
        T, y, generator = Integral(gauss, normal), points(4, 1), torch.Generator().manual_seed(1)
        exact = T.apply(bells(1, 3), y, normal.nodes(300, kind="quadrature"))
        runs = torch.stack(
            [T.apply(bells(1, 3), y, normal.nodes(64, kind="iid", generator=generator)) for _ in range(400)]
        )
        assert bool(((runs.mean(0) - exact).abs() < 5 * runs.std(0) / 20).all())


class TestGraphs:
    def model(self):
        net = MLP(3, 2, widths=(8,), generator=torch.Generator().manual_seed(0))
        return WithFactor(net, DecayFactor(1.0)).double()

    def test_a_differential_operator_leaves_no_graph(self):
        nodes = plane.nodes(60, kind="quadrature")
        for T in (Schrodinger(oscillator), (2.0 * Schrodinger(oscillator) - Multiplication()).shift(3.0)):
            f, Tf = T.evaluate(self.model(), nodes)
            assert f.requires_grad
            assert not Tf.requires_grad

    def test_a_bounded_operator_can_be_differentiated(self):
        """The SVD form of the objective differentiates through T f."""
        model, nodes = self.model(), plane.nodes(60, kind="quadrature")
        for T in (Integral(gauss, plane), Integral(gauss, plane).shift(1.0), Multiplication()):
            weight = model.network.hidden[0].weight
            ours = torch.autograd.grad(T.evaluate(model, nodes)[1].sum(), weight)[0]
            theirs = torch.autograd.grad(T.apply(model, nodes.x, nodes).sum(), weight)[0]
            h, step = 1e-6, randn(*weight.shape)
            with torch.no_grad():
                weight += h * step
                up = T.apply(model, nodes.x, nodes).sum()
                weight -= 2 * h * step
                down = T.apply(model, nodes.x, nodes).sum()
                weight += h * step
            close(ours, theirs, 1e-12)
            assert float((ours * step).sum()) == pytest.approx(float(up - down) / (2 * h), rel=1e-6)

    @pytest.mark.parametrize("activation", [nn.SiLU(), nn.Tanh()], ids=repr)
    def test_a_user_s_own_module(self, activation):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = nn.Sequential(nn.Linear(2, 8), activation, nn.Linear(8, 3)).double()
        T, x = Schrodinger(oscillator), points(20, 2)
        value, gradient, laplacian = jet_by_autograd(net, x)
        close(T.apply(net, x), laplacian - oscillator(x)[:, None] * value, 1e-10)
        nodes = plane.nodes(200, kind="quadrature")
        value, gradient, _ = jet_by_autograd(net, nodes.x)
        S, A = T.moments(net, nodes)
        by_hand = -sum(inner(nodes, g, g) for g in gradient) - inner(
            nodes, value, oscillator(nodes.x)[:, None] * value
        )
        close(S, inner(nodes, value, value), 1e-12)
        close(A, by_hand, 1e-10)
        f, _ = T.evaluate(net, nodes)
        f.sum().backward()
        assert bool(net[0].weight.grad.any())


def test_singular_points_pass_through_the_algebra():
    T = Schrodinger(coulomb, singular_points=[(0, 0)])
    S = Schrodinger(coulomb, singular_points=[(0, 0), (1, 0)])
    assert T.singular_points == (2 * T).singular_points == T.shift(1.0).singular_points == ((0.0, 0.0),)
    assert (T + S).singular_points == ((0.0, 0.0), (1.0, 0.0))
    assert Multiplication().singular_points == ()


def test_unbounded_operators_are_known_as_such():
    T, K = Schrodinger(oscillator), Integral(gauss, line)
    assert [A.bounded for A in (T, K, T + K, 2 * T, K.shift(1.0), 2 * (K - T))] == [
        False,
        True,
        False,
        False,
        True,
        False,
    ]


def test_shift_by_zero_is_the_operator_itself():
    T = Schrodinger(oscillator)
    assert T.shift(0) is T


def test_symmetry_is_looked_up():
    assert Integral(gauss, normal).self_adjoint
    assert not Integral(lambda x, y: x + 2 * y.t(), normal).self_adjoint
    assert Integral(gauss, normal, Gaussian(1)).self_adjoint  # one measure, made twice
    assert not Integral(gauss, normal, Gaussian(1, scale=2.0)).self_adjoint
    assert not Integral(gauss, normal, self_adjoint=False).self_adjoint
