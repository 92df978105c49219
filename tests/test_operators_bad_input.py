"""Operators refuse what they can't use, and say what was wrong with it."""

import math

import pytest
import torch
from by_autograd import points, relative
from operator_cases import Derivative, bells, gauss, line, normal, oscillator, plane, randn, unit

from nbsvd._errors import ArgumentError
from nbsvd.measures import Uniform
from nbsvd.operators import Integral, Matrix, Operator, Schrodinger


class TestArguments:
    @pytest.mark.parametrize(
        ("kernel", "got"),
        [
            (lambda x, y: x, "shape"),
            (lambda x, y: (x - y.t()).t(), "shape"),
            (lambda x, y: 1.0, "float"),
            (lambda x, y: torch.full((len(x), len(y)), math.nan), "NaN or infinite values"),
            (lambda x, y: 1 / (0 * (x - y.t())), "NaN or infinite values"),
            (lambda x, y: torch.exp(1j * x * y.t()), "dtype torch.complex128"),
            (3.0, "float"),
        ],
    )
    def test_kernels(self, kernel, got, unchecked):
        with pytest.raises(ArgumentError, match=rf"^kernel: got {got}.*; expected"):
            Integral(kernel, unit)

    def test_measures(self, unchecked):
        with pytest.raises(ArgumentError, match="measure_x: got float; expected a Measure"):
            Integral(gauss, 1.0)
        with pytest.raises(ArgumentError, match="measure_y: got str; expected a Measure"):
            Integral(gauss, unit, "unit")

    @pytest.mark.parametrize(
        ("potential", "got"),
        [
            (lambda x: x**2, r"shape \(5, 2\)"),
            (lambda x: (x**2).sum(1, keepdim=True), r"shape \(5, 1\)"),
            (lambda x: (x**2).sum(), r"shape \(\)"),
            (lambda x: 1.0, "float"),
        ],
    )
    def test_potentials(self, potential, got, unchecked):
        T = Schrodinger(potential)
        for attempt in (
            lambda: T.apply(bells(2, 0), points(5, 2)),
            lambda: T.moments(bells(2, 0), plane.nodes(5, kind="iid", generator=torch.Generator())),
        ):
            with pytest.raises(
                ArgumentError, match=rf"potential: got {got}; expected shape \(5,\) for 5 points"
            ):
                attempt()

    def test_a_potential_that_is_a_number(self, unchecked):
        with pytest.raises(ArgumentError, match="potential: got float; expected a function of points"):
            Schrodinger(3.0)

    def test_shift_of_an_operator_that_is_not_self_adjoint(self):
        for T in (Derivative(), Integral(lambda x, y: x < y.t(), unit), Matrix(randn(3, 4))):
            with pytest.raises(
                ArgumentError, match="shift: got an operator that is not self-adjoint; expected"
            ):
                T.shift(1.0)

    def test_sums_between_different_spaces(self):
        K = Integral(gauss, unit)
        for other in (Integral(gauss, normal), Integral(gauss, Uniform(0.0, 2.0)), Matrix(randn(3, 3))):
            with pytest.raises(
                ArgumentError, match=r"measure_x: got .*; expected summands between the same spaces"
            ):
                K + other
        with pytest.raises(ArgumentError, match=r"measure_x: got .*'n': 3.*'n': 4"):
            Matrix(randn(3, 3)) + Matrix(randn(3, 4))
        assert isinstance(K + Integral(gauss, Uniform(0.0, 1.0)), Operator)  # equal, though not the same

    def test_sums_and_products_with_other_things(self, unchecked):
        T = Schrodinger(oscillator)
        with pytest.raises(ArgumentError, match="second: got int; expected an Operator"):
            T + 3
        with pytest.raises(TypeError):
            T * "2"
        with pytest.raises(TypeError):
            T * T
        for c in (math.nan, math.inf):
            with pytest.raises(ArgumentError, match=r"c: got .*; expected a finite number"):
                c * T
            with pytest.raises(ArgumentError, match=r"c: got .*; expected a finite number"):
                T.shift(c)

    def test_a_nonlocal_operator_without_nodes(self):
        K = Integral(gauss, line)
        for T in (K, K + K, 2.0 * K, K.shift(1.0), K + Schrodinger(oscillator)):
            with pytest.raises(ArgumentError, match="nodes: got None; expected nodes to integrate over"):
                T.apply(bells(1, 0), points(4, 1))

    def test_transforms_that_would_need_the_function_itself(self):
        K, nodes = Integral(gauss, line), line.nodes(20, kind="quadrature")
        f = bells(1, 0)(nodes.x)
        with pytest.raises(ArgumentError, match="transform: got a sum with a local operator"):
            (K + Schrodinger(oscillator)).transform(nodes.x, nodes, f)
        with pytest.raises(ArgumentError, match="y: got points other than the nodes"):
            K.shift(1.0).transform(points(4, 1), nodes, f)
        shifted = K.shift(1.0).transform(nodes.x, nodes, f)
        assert relative(shifted, K.transform(nodes.x, nodes, f) + f) <= 1e-14


def test_a_kernel_is_not_called_self_adjoint_against_its_numbers():
    with pytest.raises(ArgumentError, match="self_adjoint"):
        Integral(lambda x, y: x + 2 * y.t(), unit, unit, self_adjoint=True)
    with pytest.raises(ArgumentError, match="self_adjoint"):
        Integral(lambda x, y: x * y.t(), Uniform(0.0, 1.0), Uniform(0.0, 2.0), self_adjoint=True)


def test_equal_measures_count_as_one():
    assert Integral(lambda x, y: x * y.t(), Uniform(0.0, 1.0), Uniform(0.0, 1.0)).self_adjoint
    assert not Integral(lambda x, y: x * y.t(), Uniform(0.0, 1.0), Uniform(0.0, 2.0)).self_adjoint
