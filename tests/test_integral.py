"""Integral operators: kernels with a jump or kink, kernels that misbehave, and the oracle on a fine grid."""

import math

import numpy as np
import pytest
import scipy.integrate
import torch
from torch import nn

import nbsvd
from nbsvd import metrics
from nbsvd._errors import ArgumentError, TrainingDiverged
from nbsvd.exact import Brownian, GaussianKernel, GridSVD, Volterra
from nbsvd.measures import Gaussian, Lebesgue, Uniform
from nbsvd.operators import Integral
from nbsvd.training import Trainer

f64 = torch.float64
unit = Uniform(0.0, 1.0)
POINTS = torch.linspace(0.003, 0.997, 23, dtype=f64)[:, None]


def step(x, y):
    return x < y.t()


def smaller(x, y):
    return torch.minimum(x, y.t())


def slanted(x, y):
    """Jump and kink at once, not symmetric, smooth elsewhere."""
    return torch.where(x < y.t(), torch.exp(x * y.t()), torch.cos(2 * x - y.t()))


def bell(x, y):
    return torch.exp(-((x - y.t()) ** 2) / 2)


def parabola(x, y):
    return torch.exp(-3 * (x - y.t() ** 2).abs())


def copy_of(seed):
    return None if seed is None else torch.Generator().manual_seed(seed)


def worst(a, b):
    return float((a - b).abs().max())


class TestKink:
    @pytest.mark.parametrize(("kernel", "exact"), [(step, Volterra()), (smaller, Brownian())])
    @pytest.mark.parametrize("seed", [None, 1, 2])
    def test_converges_spectrally_against_closed_forms(self, kernel, exact, seed):
        """No power of 1/n: from 40 to 120 nodes the error falls by more than ten orders of magnitude."""
        T, sigma = Integral(kernel, unit, kink=True), exact.values(5)
        errors = []
        for n in (40, 80, 120):
            nodes = unit.nodes(n, kind="quadrature", generator=copy_of(seed))
            forth = T.apply(lambda x: exact.functions(x, 5), POINTS, nodes) - sigma * exact.left(POINTS, 5)
            back = T.adjoint.apply(lambda x: exact.left(x, 5), POINTS, nodes)
            back = back - sigma * exact.functions(POINTS, 5)
            errors.append(max(float(forth.abs().max()), float(back.abs().max())))
        assert errors[0] > 1e-4  # ten polynomials are too few for five waves
        assert errors[1] < 1e-8
        assert errors[2] < 1e-12

    @pytest.mark.parametrize(("kernel", "power"), [(step, 1), (smaller, 2)])
    def test_a_rule_that_does_not_know_converges_algebraically(self, kernel, power):
        plain, kinked = Integral(kernel, unit), Integral(kernel, unit, kink=True)

        def error(T, n):
            nodes = unit.nodes(n, kind="quadrature")
            exact = kinked.apply(torch.cos, POINTS, unit.nodes(200, kind="quadrature"))
            return worst(T.apply(torch.cos, POINTS, nodes), exact)

        few, many = error(plain, 64), error(plain, 1024)
        assert 16**power / 4 < few / many < 16**power * 4
        assert error(kinked, 64) < 1e-12

    def test_against_adaptive_integration_by_scipy(self):
        low, high = -1.0, 2.0
        T = Integral(slanted, Uniform(low, high), kink=True)
        y = torch.tensor([[-0.9], [0.1], [1.7]], dtype=f64)
        nodes = T.measure_x.nodes(200, kind="quadrature", generator=copy_of(0))
        ours = T.apply(lambda x: torch.sin(3 * x + 1), y, nodes)[:, 0].tolist()

        def h(x, t):
            k = math.exp(x * t) if x < t else math.cos(2 * x - t)
            return k * math.sin(3 * x + 1) / (high - low)

        for t, value in zip(y[:, 0].tolist(), ours, strict=True):
            pieces = ((low, t), (t, high))
            theirs = sum(
                scipy.integrate.quad(h, *piece, args=(t,), epsabs=1e-13, epsrel=1e-13)[0] for piece in pieces
            )
            assert value == pytest.approx(theirs, abs=1e-12)

    def test_the_adjoint_is_the_adjoint(self):
        T = Integral(slanted, Uniform(-1.0, 2.0), kink=True)
        x, y = (T.measure_x.nodes(90, kind="quadrature", generator=copy_of(s)) for s in (0, 1))
        f, g = torch.sin(2 * x.x), torch.exp(-y.x)
        one = y.integrate(g * T.transform(y.x, x, f))
        other = x.integrate(f * T.adjoint.transform(x.x, y, g))
        assert float(one) == pytest.approx(float(other), rel=1e-12)
        assert T.adjoint.kink
        assert T.adjoint.measure_x is T.measure_y

    def test_gradients_flow_through_the_function(self):
        T, nodes = Integral(slanted, unit, kink=True), unit.nodes(60, kind="quadrature", generator=copy_of(3))
        f = torch.randn(60, 2, generator=copy_of(4), dtype=f64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda f: T.transform(POINTS, nodes, f), f)

    def test_single_precision(self):
        T = Integral(step, unit, kink=True)
        nodes = unit.nodes(320, kind="quadrature", generator=copy_of(0), dtype=torch.float32)
        found = T.apply(lambda x: Volterra().functions(x, 5).float(), POINTS.float(), nodes)
        assert found.dtype is torch.float32
        assert worst(found, Volterra().values(5) * Volterra().left(POINTS, 5)) < 3e-6

    @pytest.mark.parametrize("kind", ["iid", "sobol"])
    def test_sampled_nodes_are_left_as_they_were(self, kind):
        nodes = unit.nodes(64, kind=kind, generator=copy_of(0))
        apply = [Integral(slanted, unit, kink=kink).apply(torch.cos, POINTS, nodes) for kink in (True, False)]
        assert torch.equal(*apply)

    def test_the_kernel_is_looked_at_once(self):
        calls = []

        def counted(x, y):
            calls.append(1)
            return x < y.t()

        T = Integral(counted, unit, kink=True)
        counts = []
        for seed in (0, 1, 2):
            nodes = unit.nodes(200, kind="quadrature", generator=copy_of(seed))
            T.apply(torch.cos, POINTS, nodes)
            counts.append(len(calls))
        assert counts[0] > 0
        assert counts[0] == counts[2]

    def test_nothing_can_be_too_good(self):
        """Whatever wiggles between the nodes, no quotient passes the largest value."""
        T = Integral(step, unit, kink=True)
        nodes = unit.nodes(80, kind="quadrature", generator=copy_of(5))
        for seed in range(20):
            f, g = torch.randn(2, 80, 3, generator=copy_of(seed), dtype=f64)
            form = (nodes.weights[:, None] * g).t() @ T.transform(nodes.x, nodes, f) / 80
            sizes = torch.outer(nodes.integrate(g**2), nodes.integrate(f**2)).sqrt()
            assert bool((form.abs() <= sizes * float(Volterra().values(1)) * (1 + 1e-10)).all())

    @pytest.mark.parametrize(
        ("measures", "got"),
        [
            ((Gaussian(1),), "'Gaussian'"),
            ((Uniform([0.0, 0.0], [1.0, 1.0]),), r"\[0.0, 0.0\]"),
            ((unit, Uniform(0.0, 2.0)), r"'high': \[2.0\]"),
            ((Lebesgue(unit),), "'Lebesgue'"),
        ],
    )
    def test_other_measures_are_refused(self, measures, got):
        with pytest.raises(
            ArgumentError, match=rf"^kink: got True with .*{got}.*; expected the uniform law on one"
        ):
            Integral(lambda x, y: x[:, :1] < y[:, :1].t(), *measures, kink=True)

    def test_a_jump_elsewhere_is_noticed(self):
        T = Integral(lambda x, y: x < y.t() ** 2, unit, kink=True)
        with pytest.raises(
            ArgumentError, match=r"^kink: got True for a kernel whose integrals.*smooth on either"
        ):
            T.apply(torch.cos, POINTS, unit.nodes(40, kind="quadrature"))

    def test_points_outside_the_interval(self):
        T, nodes = Integral(step, unit, kink=True), unit.nodes(40, kind="quadrature")
        with pytest.raises(
            ArgumentError, match=r"^points: got a point 0.25 times the interval's length outside"
        ):
            T.apply(torch.cos, torch.tensor([[1.25]], dtype=f64), nodes)

    def test_a_kernel_that_is_nan_in_a_corner(self):
        T = Integral(lambda x, y: torch.where(x + y.t() > 1.999, torch.nan, x * y.t()), unit, kink=True)
        with pytest.raises(ArgumentError, match="kernel: got NaN or infinite values"):
            T.apply(torch.cos, POINTS, unit.nodes(300, kind="quadrature"))


class TestSolve:
    @pytest.mark.parametrize("name", ["volterra", "brownian"])
    def test_varpro_to_many_digits(self, name):
        result = nbsvd.solve(name, k=5, method="varpro", steps=40, progress=False)
        errors = result.errors()
        assert errors["relative_max"] < 1e-6
        assert errors["angle_max"] < 1e-3
        assert 100 * errors["relative_max"] < result.control["relative_max"]

    def test_a_kernel_with_a_kink_and_no_closed_form(self):
        """Symmetric measures, no symmetry of the kernel: against a fine grid."""
        law = Uniform(-1.0, 2.0)
        T = Integral(
            lambda x, y: torch.exp(-3 * (x - y.t()).abs()) * torch.cos(x + 2 * y.t()), law, kink=True
        )
        fine = law.nodes(1200, kind="quadrature")
        exact = GridSVD(T.kernel, fine.x, fine.weights, fine.x, fine.weights)
        result = nbsvd.solve(nbsvd.Problem(T, exact=exact), k=3, method="varpro", steps=30, progress=False)
        # what the grid is good for, which does not know of the kink
        assert result.errors()["relative_max"] < 5e-5
        assert result.errors()["angle_max"] < 1e-2


class TestGrid:
    def grid(self, kernel, x, y=None, **options):
        y = x if y is None else y
        return GridSVD(kernel, x.x, x.weights, y.x, y.weights, **options)

    @pytest.mark.parametrize("self_adjoint", [False, True])
    def test_gaussian_kernel(self, self_adjoint):
        exact, law = GaussianKernel(), Gaussian(1)
        grid = self.grid(bell, law.nodes(120, kind="quadrature"), self_adjoint=self_adjoint)
        assert grid.self_adjoint == self_adjoint
        assert worst(grid.values(8), exact.values(8)) < 1e-12
        x = torch.linspace(-3, 3, 31, dtype=f64)[:, None]
        signs = torch.sign((grid.functions(x, 6) * exact.functions(x, 6)).sum(0))
        for found in (grid.functions(x, 6), grid.left(x, 6)):
            assert worst(signs * found, exact.functions(x, 6)) < 1e-8

    def test_volterra_as_well_as_a_jump_allows(self):
        errors = []
        for n in (200, 800):
            grid = self.grid(step, unit.nodes(n, kind="quadrature"))
            errors.append(float((grid.values(5) / Volterra().values(5) - 1).abs().max()))
        assert errors[1] < errors[0] / 2
        assert errors[1] < 1e-3
        x = torch.linspace(0, 1, 40, dtype=f64)[:, None]
        found, true = grid.functions(x, 3), Volterra().functions(x, 3)
        assert worst(found * torch.sign((found * true).sum(0)), true) < 0.02

    def test_against_numpy_on_equal_cells(self):
        n, m = 90, 70
        x, y = (np.arange(n) + 0.5) / n, 2 * (np.arange(m) + 0.5) / m - 1
        K = np.exp(-3 * np.abs(x[None] - y[:, None] ** 2))
        U, sigma, Vt = np.linalg.svd(K / math.sqrt(n * m))
        grid = GridSVD(
            parabola,
            *(torch.from_numpy(a)[:, None] if i == 0 else torch.ones(len(a)) for a in (x, y) for i in (0, 1)),
        )
        assert worst(grid.values(5), torch.from_numpy(sigma[:5])) < 1e-14
        right, left = (
            grid.functions(torch.from_numpy(x)[:, None], 4),
            grid.left(torch.from_numpy(y)[:, None], 4),
        )
        for l in range(4):
            v, u = torch.from_numpy(Vt[l] * math.sqrt(n)), torch.from_numpy(U[:, l] * math.sqrt(m))
            sign = torch.sign(v[v.abs().argmax()])
            assert worst(right[:, l], sign * v) < 1e-10
            assert worst(left[:, l], sign * u) < 1e-10

    def test_it_solves_the_singular_relations_away_from_its_nodes(self):
        """On two laws, of different dimension: T phi = sigma psi by another rule."""
        plane, line = Uniform([0.0, 0.0], [1.0, 1.0]), Gaussian(1)

        def kernel(x, y):
            return torch.exp(-((x[:, :1] + 2 * x[:, 1:] - y.t()) ** 2) / 4)

        grid = self.grid(kernel, plane.nodes(400, kind="quadrature"), line.nodes(100, kind="quadrature"))
        assert grid.dim == 2
        nodes = plane.nodes(700, kind="quadrature", generator=copy_of(1))
        y = torch.linspace(-2, 2, 9, dtype=f64)[:, None]
        image = Integral(kernel, plane, line).apply(lambda x: grid.functions(x, 3), y, nodes)
        assert worst(image, grid.values(3) * grid.left(y, 3)) < 1e-10
        f = grid.functions(nodes.x, 3)
        assert worst((nodes.weights[:, None] * f).t() @ f / len(nodes), torch.eye(3, dtype=f64)) < 1e-10

    def test_only_what_is_resolved_is_offered(self):
        grid = self.grid(bell, Gaussian(1).nodes(100, kind="quadrature"))
        assert 10 < grid.max_k < 40  # q = 0.38 falls below 1e-10 after 24
        assert float(grid.values(grid.max_k)[-1] / grid.values(1)) > 1e-10
        with pytest.raises(ArgumentError, match="k: got"):
            grid.values(grid.max_k + 1)
        rank_one = self.grid(lambda x, y: x @ y.t(), unit.nodes(20, kind="quadrature"))
        assert rank_one.max_k == 1
        assert float(rank_one.values(1)) == pytest.approx(1 / 3, rel=1e-13)
        assert rank_one.levels(1) == [[0]]

    def test_only_positive_eigenvalues(self):
        rule = Gaussian(1).nodes(200, kind="quadrature")
        grid = self.grid(lambda x, y: x @ y.t() - 0.5, rule, self_adjoint=True)  # 1 and -1/2
        assert grid.max_k == 1
        assert float(grid.values(1)) == pytest.approx(1.0, rel=1e-12)

    def test_it_judges_a_run(self):
        x, y = unit.nodes(300, kind="quadrature"), Uniform(-1.0, 1.0).nodes(300, kind="quadrature")
        problem = nbsvd.Problem(Integral(parabola, unit, Uniform(-1.0, 1.0)), exact=self.grid(parabola, x, y))
        result = nbsvd.solve(problem, k=2, steps=0, progress=False)
        assert 0 < result.errors()["relative_max"] < 0.1
        at = torch.rand(50, 1, dtype=f64, generator=copy_of(0))
        assert metrics.orthogonality(problem.exact.functions(at, 2)) < 1

    @pytest.mark.parametrize(
        ("change", "argument", "got"),
        [
            ({"kernel": 3.0}, "kernel", "float"),
            ({"kernel": lambda x, y: x}, "kernel", r"shape \(4, 1\)"),
            ({"kernel": lambda x, y: x.numpy() * y.numpy().T}, "kernel", "ndarray"),
            ({"kernel": lambda x, y: x * y.t() * 1j}, "kernel", "dtype torch.complex128"),
            ({"kernel": lambda x, y: x * y.t() / 0}, "kernel", "NaN or infinite values"),
            ({"kernel": lambda x, y: x @ y}, "kernel", "RuntimeError"),
            ({"kernel": lambda x, y: 0 * x * y.t()}, "kernel", "no positive value"),
            ({"x": torch.rand(4)}, "x", r"shape \(4,\)"),
            ({"x": [0.0]}, "x", "list"),
            ({"y": torch.full((5, 1), math.nan)}, "y", "NaN or infinity"),
            ({"wx": torch.ones(3)}, "wx", r"shape \(3,\)"),
            ({"wx": torch.zeros(4)}, "wx", "zero, negative, infinite or NaN entries"),
            ({"wy": None}, "wy", "NoneType"),
            ({"wy": torch.ones(5) * 1j}, "wy", "dtype torch.complex64"),
            ({"x": torch.rand(20_000, 1), "y": torch.rand(20_000, 1)}, "x, y", "20000 and 20000 nodes"),
            ({"self_adjoint": True}, "self_adjoint", "True for a kernel"),
        ],
    )
    def test_bad_input(self, change, argument, got, unchecked):
        given = {"kernel": lambda x, y: 1 + x * y.t(), "x": torch.rand(4, 1), "y": torch.rand(5, 1)}
        given |= {"wx": torch.ones(4), "wy": torch.ones(5)} | change
        with pytest.raises(ArgumentError, match=rf"^{argument}: got {got}.*; expected "):
            GridSVD(**given)


class TestKernelsThatMisbehave:
    def test_one_that_raises(self):
        with pytest.raises(
            ArgumentError, match=r"^kernel: got RuntimeError .*; expected .* \(16, 8\)"
        ) as caught:
            Integral(lambda x, y: x @ y, unit)
        assert isinstance(caught.value.__cause__, RuntimeError)

    def test_one_that_returns_an_array(self, unchecked):
        with pytest.raises(ArgumentError, match=r"^kernel: got ndarray; expected shape \(16, 8\).*torch"):
            Integral(lambda x, y: x.numpy() * y.numpy().T, unit)

    def test_one_of_another_dtype(self):
        """Constants in double precision, and whole numbers, do no harm on single-precision points."""
        scale = torch.tensor([[2.0]], dtype=f64)
        nodes = unit.nodes(50, kind="sobol", generator=copy_of(0), dtype=torch.float32)
        for kernel in (lambda x, y: scale * x * y.t(), lambda x, y: (5 * x * y.t()).long()):
            found = Integral(kernel, unit).transform(nodes.x, nodes, nodes.x)
            assert found.dtype is torch.float32

    def test_one_with_parameters_of_its_own(self):
        """They are not trained, and no gradient is left in them."""
        kernel = nn.Bilinear(1, 1, 1)
        T = Integral(lambda x, y: kernel.weight[0] * x * y.t() + 1, unit)
        nodes = unit.nodes(30, kind="sobol", generator=copy_of(0), dtype=torch.float32)
        assert not T.matrix(nodes.x, nodes.x).requires_grad
        nbsvd.solve(nbsvd.Problem(T), k=1, steps=3, progress=False)
        assert kernel.weight.grad is None

    @staticmethod
    def spoiled(after, spoil):
        """A kernel that is fine for so many calls, and then spoiled at one pair of points, once."""
        calls = []

        def kernel(x, y):
            calls.append(1)
            K = torch.exp(-((x - y.t()) ** 2))
            return spoil(K) if len(calls) == after else K

        return Integral(kernel, Gaussian(1)), calls

    @staticmethod
    def nan(K):
        K[0, 0] = math.nan
        return K

    @staticmethod
    def fail(K):
        raise ZeroDivisionError("in the kernel")

    @pytest.mark.parametrize("spoil", ["nan", "fail"])
    def test_during_training_what_was_good_is_kept(self, spoil):
        T, calls = self.spoiled(10**9, self.nan)
        options = dict(k=2, report_every=5, progress=False)
        nbsvd.solve(nbsvd.Problem(T), steps=0, **options)
        start = len(calls)  # what start and end need: the spoiled call is then one of the steps
        T, _ = self.spoiled(start + 20, getattr(self, spoil))
        with pytest.raises(TrainingDiverged, match="kernel") as caught:
            nbsvd.solve(nbsvd.Problem(T), steps=100, **options)
        kept = caught.value.result
        assert isinstance(kept, nbsvd.Result)
        assert bool(torch.isfinite(kept.values).all())
        assert kept.history.stopped == "diverged"
        assert 0 < caught.value.step < 100
        assert 0.4 < kept.values[0] < 0.6  # 1/2, after a few steps

    def test_where_nothing_can_be_measured_any_more_the_trainer_is_kept(self):
        """The kernel stays broken: no result can be measured, but the functions are there."""
        broken = []

        def kernel(x, y):
            K = torch.exp(-((x - y.t()) ** 2))
            return self.nan(K) if broken else K

        def spoil(trainer):
            if trainer.step == 10:
                broken.append(1)

        with pytest.raises(TrainingDiverged, match="kernel") as caught:
            nbsvd.solve(
                nbsvd.Problem(Integral(kernel, Gaussian(1))),
                k=2,
                steps=100,
                report_every=5,
                callbacks=[spoil],
                progress=False,
            )
        trainer = caught.value.result
        assert isinstance(trainer, Trainer)
        assert trainer.history.step[-1] == 10
        f = trainer.averaged.module.right(torch.zeros(1, 1))
        assert bool(torch.isfinite(f).all())
