"""Variable projection: values against closed forms, in what sense it is NestedLoRA, and how a run ends."""

import math
from functools import cache

import pytest
import torch
from torch import nn

import nbsvd
from nbsvd import Integral, Nesting, Problem, Schrodinger, lora_evd, lora_svd, problems, solve
from nbsvd.exact import Oscillator
from nbsvd.functions import MLP
from nbsvd.measures import Gaussian, Lebesgue, Radial
from nbsvd.training import projection
from nbsvd.training.heads import sample
from nbsvd.training.spectral import SPECTRAL, Objective
from nbsvd.training.start import Basis
from nbsvd.training.varpro import Parameters

# problem: k, iterations, nodes, and the largest relative error to be reached
RUNS = {
    "hydrogen2d": (4, 30, 1000, 1e-6),
    "oscillator2d": (3, 30, 1000, 5e-6),
    "infinite_well2d": (3, 30, 1000, 5e-6),
    "hydrogen3d": (2, 15, 2000, 5e-4),
    "gaussian_kernel": (4, 20, 200, 1e-8),
    "volterra": (3, 20, 300, 5e-5),  # one rule across the kink of a kernel: its error is what is left
    "brownian": (3, 20, 300, 5e-6),
}


LINE = Problem(
    Schrodinger(lambda x: x[:, 0] ** 2),
    Lebesgue(Radial(1, scale=1.0)),
    exact=Oscillator(frequencies=[1.0]),
    name="line",
)


def solved(name, k, **options):
    return solve(name, k, method="varpro", progress=False, **options)


@cache
def run(name, **changes):
    k, steps, nodes, _ = RUNS[name]
    return solved(name, k, **{"steps": steps, "batch_size": nodes, **changes})


@pytest.mark.parametrize("name", RUNS)
def test_values_are_those_of_the_closed_form(name):
    result, error = run(name), RUNS[name][3]
    errors = result.errors()
    assert errors["relative_max"] < error
    assert errors["orthogonality_max"] < 1e-6
    assert result.info["stopped"] in ("steps", "converged")


@pytest.mark.parametrize("name", RUNS)
def test_the_untrained_control_is_reported_and_worse(name):
    result = run(name)
    assert result.control.keys() == result.errors().keys()
    assert result.control["relative_max"] > result.errors()["relative_max"]
    assert result.report()["control"] == result.control


@pytest.mark.parametrize("spectral", SPECTRAL)
@pytest.mark.parametrize("name", ["hydrogen2d", "oscillator2d", "volterra"])
def test_every_spectral_objective_has_the_same_optimum(name, spectral):
    result = run(name, spectral=spectral)
    assert result.errors()["relative_max"] < max(1e-5, RUNS[name][3])
    assert abs(result.history.loss[-1] - result.history.optimum) < 5e-4


def test_a_kernel_is_not_held_up_by_nearly_dependent_functions():
    """Values down to 1e-4; with small directions cut off, line searches failed at an error of 1e-3."""
    result = solved("gaussian_kernel", 10, steps=80, batch_size=300)
    assert result.errors()["relative_max"] < 1e-9
    assert result.errors()["angle_max"] < 1e-4
    assert result.info["steps"] == 80


class TestSense:
    """At the best heads the objective "lora" is NestedLoRA: value and gradient, on the same nodes."""

    WEIGHTS = (None, (0.5, 0.2, 0.3))

    @staticmethod
    def basis(seed, width):
        generator = torch.Generator().manual_seed(seed)
        return Basis(MLP(3, 1, widths=(6, width), disjoint=False, generator=generator).double())

    @staticmethod
    def nesting(weights):
        return Nesting.joint(3) if weights is None else Nesting.joint(3, weights)

    @staticmethod
    def trunk(*bases):
        return Parameters([p for b in bases for name, p in b.named_parameters() if "head" not in name])

    @pytest.mark.parametrize("weights", WEIGHTS)
    def test_evd(self, weights):
        problem, basis, nesting = problems.gaussian_kernel(), self.basis(0, 7), self.nesting(weights)
        T, x = problem.operator, problem.measure.nodes(200, kind="quadrature")
        s = sample(T, basis, basis, x, x, check=True)
        heads = s.heads().first(3)
        f = basis(x.x) @ (heads.right * heads.values.sqrt())
        loss = lora_evd(f, T.transform(x.x, x, f), nesting, weights=x.weights, moment="plain")
        value, slopes = Objective(nesting, "lora", 0.0).of(heads.values)
        assert value == pytest.approx(loss.item(), rel=1e-12)
        vector = self.trunk(basis)
        ours, theirs = vector.gradient(s.surrogate(heads, -slopes)), vector.gradient(loss)
        assert abs(ours - theirs).max() < 1e-8 * abs(theirs).max()

    @pytest.mark.parametrize("weights", WEIGHTS)
    def test_svd(self, weights):
        problem, nesting = problems.volterra(), self.nesting(weights)
        right, left = self.basis(0, 4), self.basis(1, 5)
        T, x = problem.operator, problem.measure.nodes(200, kind="quadrature")
        y = problem.left_measure.nodes(150, kind="quadrature")
        s = sample(T, right, left, x, y, check=True)
        heads = s.heads().first(3)
        f, g = (
            b(n.x) @ (C * heads.values.sqrt()) for b, n, C in ((right, x, heads.right), (left, y, heads.left))
        )
        loss = lora_svd(f, g, T.transform(y.x, x, f), nesting, weights=(x.weights, y.weights))
        value, slopes = Objective(nesting, "lora", 0.0).of(heads.values)
        assert value == pytest.approx(loss.item(), rel=1e-12)
        vector = self.trunk(right, left)
        ours, theirs = vector.gradient(s.surrogate(heads, -slopes)), vector.gradient(loss)
        assert abs(ours - theirs).max() < 1e-6 * abs(theirs).max()

    def test_without_nesting_all_values_count_alike(self):
        values = torch.tensor([3.0, 2.0, -1.0], dtype=torch.float64)
        assert Objective(Nesting("none", 3), "lora", 0.0).of(values)[0] == -13
        joint = Objective(Nesting.joint(3, (0.5, 0.25, 0.25)), "lora", 0.0)
        assert joint.of(values)[0] == pytest.approx(-(9 * 1.0 + 4 * 0.5))

    def test_weights_change_the_path_and_not_the_answer(self):
        a, b = (
            solved(LINE, 3, spectral="lora", nesting=Nesting.joint(3, w), steps=8)
            for w in ((1.0, 1.0, 1.0), (1.0, 2.0, 3.0))
        )
        assert a.history.loss != b.history.loss
        torch.testing.assert_close(a.values, b.values, rtol=1e-7, atol=0)


class TestObjective:
    def test_the_whole_level_of_the_last_takes_part(self):
        objective = Objective(Nesting.joint(2), "log", 0.0)
        objective.complete(torch.tensor([1.0, 0.111, 0.1105, 0.11, 0.04]))
        assert objective.count == 4
        assert objective.of(torch.tensor([1.0, 0.5, 0.5, 0.5, 0.1]))[0] == pytest.approx(3 * math.log(2))

    def test_a_cut_level_is_found_whole(self):
        """The second of four values is one of a level of three, which two functions can't tell apart."""
        result = solved("hydrogen2d", 2, steps=20, batch_size=800)
        assert result.errors()["relative_max"] < 1e-5

    def test_values_below_the_continuous_spectrum_take_no_part(self):
        objective = Objective(Nesting.joint(3), "sum", 0.0, threshold=0.0)
        values = torch.tensor([2.0, 1.0, -0.5])
        objective.complete(values)
        assert objective.count == 2
        assert objective.of(values)[0] == -3
        assert objective.reached(values) == (-2, -3)
        assert objective.reached(torch.tensor([2.0, 1.0, 0.1])) < objective.reached(values)

    def test_a_logarithm_of_no_positive_number_is_worst(self):
        objective = Objective(Nesting.joint(2), "log", 0.0)
        assert objective.reached(torch.tensor([1.0, -1.0]))[1] == math.inf

    def test_nodes_that_tell_other_values_are_known(self):
        objective = Objective(Nesting.joint(2), "log", 10.0, threshold=-7.0)
        trusted = torch.tensor([-2.0, -4.0])
        assert not objective.differ(torch.tensor([-2.1, -3.95, 7.0]), trusted, 0.02)
        assert objective.differ(torch.tensor([-1.8, -4.0]), trusted, 0.02)
        assert objective.differ(torch.tensor([-2.0]), trusted, 0.02)
        assert not objective.differ(torch.tensor([-2.0, -9.0]), torch.tensor([-2.0, -8.0]), 0.02)


class TestRepeatable:
    def test_equal_seeds_give_equal_bits(self):
        a, b = (solved("oscillator2d", 3, steps=5, batch_size=600, seed=3) for _ in range(2))
        x = torch.randn(20, 2, dtype=torch.float64)
        assert torch.equal(a.values, b.values)
        assert torch.equal(a.right(x), b.right(x))
        assert a.history.loss == b.history.loss

    def test_another_seed_is_another_run(self):
        a, b = (solved(LINE, 2, steps=3, seed=s) for s in (0, 1))
        assert not torch.equal(a.values, b.values)

    def test_the_number_of_nodes_does_not_show_in_the_values(self):
        a, b = run("hydrogen2d"), run("hydrogen2d", batch_size=1700)
        torch.testing.assert_close(a.values, b.values, rtol=1e-6, atol=0)


class TestResult:
    def test_float64_throughout(self):
        result = run("hydrogen2d")
        assert {p.dtype for p in result.right_model.parameters()} == {torch.float64}
        assert result.right(torch.zeros(1, 2)).dtype == torch.float64
        assert result.info["dtype"] == "float64"

    def test_what_it_says_of_itself(self):
        info = run("hydrogen2d").info
        expected = {"method": "varpro", "objective": "lora", "nesting": "joint", "warm_start": "ritz"}
        expected["spectral"] = "log"
        assert {key: info[key] for key in expected} == expected
        assert (info["steps"], info["stopped"], info["seed"], info["compiled"]) == (30, "steps", 0, False)
        assert 0 < info["seconds"] <= info["seconds_total"]
        assert info["frame"] is not None

    def test_errors_are_within_error_bars(self):
        """Eight sets of nodes; six standard errors, and rounding."""
        for name in ("hydrogen2d", "oscillator2d"):
            result = run(name)
            exact = result.exact.values(result.k)
            worst = RUNS[name][3] * exact.abs()  # what training has left is no error of the nodes
            assert (result.stderr > 0).all()
            assert (result.stderr < worst).all()
            assert ((result.values - exact).abs() < worst + 6 * result.stderr).all()

    def test_history(self):
        history = run("hydrogen2d").history
        assert history.step[0] == 0
        assert history.step[-1] == 30
        assert history.loss == sorted(history.loss, reverse=True)  # only what was confirmed is kept
        assert history.optimum == pytest.approx(3 * math.log(9))

    @pytest.mark.parametrize("name", ["hydrogen2d", "volterra"])
    def test_saved_and_loaded(self, name, tmp_path):
        result = run(name)
        loaded = nbsvd.load(result.save(tmp_path / "result.safetensors"))
        assert torch.equal(loaded.values, result.values)
        assert loaded.control == result.control
        x = result.nodes(n=50).x
        assert torch.equal(loaded.right(x), result.right(x))

    def test_no_steps_is_the_untrained_solution(self):
        result = solved("hydrogen2d", 3, steps=0)
        assert (result.info["steps"], result.info["stopped"]) == (0, "steps")
        assert result.errors()["relative_max"] == pytest.approx(result.control["relative_max"], rel=0.5)

    def test_a_problem_without_an_exact_answer(self):
        T = Schrodinger(lambda x: x[:, 0] ** 4)
        result = solved(Problem(T, Lebesgue(Radial(1, scale=1.0))), 2, steps=20)
        assert result.history.optimum is None
        # Source of the values: Banerjee, Proceedings of the Royal Society A 364 (1978) 265.
        assert result.values.tolist() == pytest.approx([-1.0603620905, -3.7996730298], rel=1e-7)


class TestEnd:
    """A run ends in good order, with what was confirmed."""

    @staticmethod
    def stopped(**options):
        return solve(LINE, 3, method="varpro", progress=False, **options)

    def test_steps(self):
        result = self.stopped(steps=5)
        assert (result.info["stopped"], result.info["steps"]) == ("steps", 5)

    def test_seconds(self):
        result = self.stopped(seconds=1.0)
        assert result.info["stopped"] == "seconds"
        assert 1 <= result.info["seconds"] < 5

    def test_seconds_are_kept_inside_an_iteration(self, monkeypatch):
        """A line search may need many evaluations; the time is looked at before each."""
        seen = []
        original = projection.sample

        def late(*args, **options):
            if not options.get("check"):
                seen.append(1)
            return original(*args, **options)

        monkeypatch.setattr(projection, "sample", late)
        monkeypatch.setattr("nbsvd.training.settings.Settings.late", lambda self, seconds: True)
        result = self.stopped(steps=5)
        assert result.info["steps"] == 0
        assert seen[0] == 1

    def test_converged(self):
        result = self.stopped(seconds=60.0, batch_size=60)
        assert result.info["stopped"] == "converged"
        assert result.info["seconds"] < 50
        assert result.errors()["relative_max"] < 1e-9

    def test_callback(self):
        seen = []

        def stop(run):
            seen.append((run.step, run.heads.values[0].item(), run.nodes, run.fraction))
            return True

        result = self.stopped(steps=300, callbacks=[stop])
        assert result.info["stopped"] == "callback"
        assert len(seen) == 1
        assert seen[0][0] == result.info["steps"] > 0
        assert seen[0][1:] == (pytest.approx(-1.0, abs=1e-6), 600, result.info["steps"] / 300)

    def test_interrupted_between_rounds(self):
        def interrupt(run):
            raise KeyboardInterrupt

        result = self.stopped(steps=300, callbacks=[interrupt])
        assert result.info["stopped"] == "interrupted"
        assert result.errors()["relative_max"] < 1e-8

    def test_interrupted_in_the_middle_of_a_round(self, monkeypatch):
        count = [0]
        original = projection.sample

        def interrupted(*args, **options):
            count[0] += 1
            if count[0] == 10:
                raise KeyboardInterrupt
            return original(*args, **options)

        monkeypatch.setattr(projection, "sample", interrupted)
        result = self.stopped(steps=300)
        assert result.info["stopped"] == "interrupted"
        untrained = self.stopped(steps=0)  # nothing had been confirmed yet
        torch.testing.assert_close(result.values, untrained.values, rtol=1e-6, atol=0)

    @pytest.mark.parametrize("progress", [True, False])
    def test_progress(self, progress, capsys):
        solve(LINE, 1, method="varpro", steps=1, progress=progress)
        assert ("iteration 1" in capsys.readouterr().err) == progress


class TestFunctions:
    def test_a_network_of_ones_own_with_heads(self):
        def make(generator):
            return MLP(2, 1, widths=(8, 12), disjoint=False, generator=generator)

        result = solved("gaussian_kernel", 2, steps=15, batch_size=100, network=make)
        assert result.errors()["relative_max"] < 1e-5

    def test_a_module_without_a_basis_is_refused(self, unchecked):
        with pytest.raises(nbsvd.ArgumentError, match="network: got Linear, which has no basis") as caught:
            solved("brownian", 1, network=lambda generator: nn.Linear(1, 1))
        assert "method='sgd'" in caught.value.remedy

    def test_a_wide_network_gets_more_nodes(self, monkeypatch):
        seen = []
        original = projection.project

        def spy(*args, **options):
            seen.append(options["nodes"])
            return original(*args, **options)

        monkeypatch.setattr(projection, "project", spy)
        solved(LINE, 1, steps=0, network={"widths": (4, 120)})
        assert seen == [8 * 121]


class TestSigns:
    """A symmetric kernel with values of both signs, whose negative ones are the larger."""

    T = Integral(lambda x, y: x @ y.t() - 2 * (x**2 - 1) @ (y**2 - 1).t() / 2, Gaussian(1))

    @pytest.mark.parametrize("options", [{}, {"kind": "sobol"}])
    def test_the_largest_comes_first_and_not_the_longest(self, options):
        """The values are 1 (of x) and -2 (of (x^2 - 1) / sqrt 2), all others zero."""
        result = solved(Problem(self.T), 1, steps=20, network={"widths": (6, 8)}, **options)
        assert float(result.values[0]) == pytest.approx(1.0, abs=1e-4)


def test_both_sides_of_a_self_adjoint_kernel():
    """Singular functions of a kernel with values of both signs: sizes, each sign on one side."""
    kernel = nbsvd.Integral(
        lambda x, y: (
            torch.cos(torch.pi * x) * torch.cos(torch.pi * y.t())
            - 2 * torch.sin(torch.pi * x) * torch.sin(torch.pi * y.t())
        ),
        nbsvd.measures.Uniform(0.0, 2.0),
    )
    u, s, v = nbsvd.svds(kernel, k=2, method="varpro", steps=30, progress=False)
    assert s.tolist() == pytest.approx([1.0, 0.5], rel=1e-6)
    x = torch.linspace(0, 2, 9, dtype=torch.float64)[:, None]
    assert torch.allclose(u(x)[:, 0], -v(x)[:, 0], atol=1e-4)


def test_a_local_operator_that_is_not_self_adjoint_is_refused():
    class Times(nbsvd.operators.Operator):
        """Multiplication by a function that is not real would need a second side."""

        local, bounded, self_adjoint = True, True, False

        @property
        def adjoint(self):
            return self

        def from_jet(self, x, jet):
            return x[:, :1] * jet.value

    problem = nbsvd.Problem(Times(), nbsvd.measures.Uniform(0.0, 1.0))
    with pytest.raises(nbsvd.ArgumentError, match="local and not self-adjoint"):
        solve(problem, 1, method="varpro", steps=1, progress=False)


def test_a_network_with_two_factors_on_sampled_nodes():
    """Its basis has no jets without a Laplacian; the anchored form takes what it needs."""

    def network(generator):
        seen = nbsvd.functions.Features(2, scales=[1.0])
        net = nbsvd.functions.MLP(2, 2, features=seen, widths=(8, 16), disjoint=False, generator=generator)
        return nbsvd.functions.WithFactor(net, nbsvd.functions.GaussianFactor(2.0))

    options = {"method": "varpro", "network": network, "kind": "sobol", "steps": 5, "progress": False}
    result = solve("oscillator2d", 2, **options)
    assert result.errors()["relative_max"] <= 1.1 * result.control["relative_max"]
