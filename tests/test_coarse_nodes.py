"""Nodes too coarse for the network: variable projection notices, says so, and keeps what was confirmed."""

import math
import warnings
from dataclasses import replace

import pytest
import torch

import nbsvd
from nbsvd import Problem, Schrodinger, TrainingDiverged, solve
from nbsvd.exact import Oscillator
from nbsvd.functions import MLP, DecayFactor, Features, WithFactor
from nbsvd.measures import Lebesgue, Nodes, Radial
from nbsvd.objectives import Nesting
from nbsvd.training import Settings, projection
from nbsvd.training.heads import Heads, Sample
from nbsvd.training.spectral import Objective
from nbsvd.training.varpro import FINEST, project

LINE = Problem(
    Schrodinger(lambda x: x[:, 0] ** 2),
    Lebesgue(Radial(1, scale=1.0)),
    exact=Oscillator(frequencies=[1.0]),
    name="line",
)
# Far fewer nodes than the 65 functions of the default network, or hardly more; eight times as many at most.
COARSE = {
    "a line": (LINE, 3, {"batch_size": 5}),
    "a line, finer": (LINE, 3, {"batch_size": 20}),
    "a line, nearly enough": (LINE, 3, {"batch_size": 40}),
    "polar": ("hydrogen2d", 3, {"batch_size": 10}),
    "polar, finer": ("hydrogen2d", 3, {"batch_size": 60}),
    "a square": ("infinite_well2d", 3, {"batch_size": 40}),
    "a wide network": ("infinite_well2d", 3, {"batch_size": 60, "network": {"widths": (16, 200)}}),
    "iid": ("oscillator2d", 3, {"batch_size": 40, "kind": "iid"}),
    "sobol": ("oscillator2d", 3, {"batch_size": 40, "kind": "sobol"}),
    "a kernel": ("gaussian_kernel", 3, {"batch_size": 3}),
    "a kernel, iid": ("brownian", 3, {"batch_size": 20, "kind": "iid"}),
    "two sides": ("volterra", 3, {"batch_size": 2}),
    "two sides, sobol": ("volterra", 3, {"batch_size": 20, "kind": "sobol"}),
}


@pytest.mark.parametrize(("problem", "k", "options"), COARSE.values(), ids=COARSE)
def test_no_value_is_reported_that_other_nodes_contradict(problem, k, options):
    """Without the guards the worst of these reported energies of -96346 and 0.038 in place of 1 and 3."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            result = solve(problem, k, method="varpro", steps=60, progress=False, **options)
        except TrainingDiverged as error:
            result = error.result
    assert result.errors()["relative_max"] < max(2 * result.control["relative_max"], 1e-4)
    assert torch.tensor(result.history.values).isfinite().all()


@pytest.mark.parametrize("name", ["a line", "polar", "iid", "two sides"])
def test_nodes_of_no_use_are_an_error(name):
    problem, k, options = COARSE[name]
    with pytest.raises(TrainingDiverged, match="independent nodes contradict") as caught:
        solve(problem, k, method="varpro", steps=60, progress=False, **options)
    said = str(caught.value)
    assert said.startswith("batch_size: got values on ")
    assert "expected nodes fine enough" in said
    assert "a larger one" in said
    assert caught.value.result.info["stopped"] == "contradicted"
    assert caught.value.step == caught.value.result.info["steps"] == 0  # no step was ever taken


@pytest.mark.parametrize("problem", ["volterra", LINE], ids=["two sides", "a line"])
def test_a_check_that_is_wrong_itself_is_caught_by_the_last_nodes(problem, monkeypatch):
    """The values are measured once more, on nodes that no decision was made with."""
    original = projection.project

    def fooled(*args, **options):
        run = original(*args, **options)
        run.heads = replace(run.heads, values=run.heads.values + 0.5)
        return run

    monkeypatch.setattr(projection, "project", fooled)
    with pytest.raises(TrainingDiverged, match="new nodes contradict, on which they are") as caught:
        solve(problem, 2, method="varpro", steps=5, progress=False)
    result = caught.value.result  # the untrained functions
    assert result.info["stopped"] == "contradicted"
    assert result.errors()["relative_max"] < 0.01


def test_values_agree_within_their_errors():
    values = torch.tensor([1.0, 0.5], dtype=torch.float64)

    def agrees(measured, spread=0.0, shift=0.0):
        measured = torch.tensor(measured, dtype=torch.float64)
        return projection.agree(measured, torch.full_like(measured, spread), values, shift)

    assert agrees([1.009, 0.504])
    assert not agrees([1.009, 0.51])
    assert agrees([1.009, 0.51], spread=0.01)
    assert not agrees([1.009, 0.8], spread=100.0)  # values of no precision agree with nothing
    assert agrees([1.019, 0.504], shift=1.0)
    assert not agrees([math.nan, 0.5])


MANY = 1000  # independent nodes of a toy


class Toy(Sample):
    """One value ``1e6 - (p - offset)^2`` of one parameter; where the offset is depends on the nodes."""

    def __init__(self, parameter, offset, base=1e6):
        self.parameter, self.offset, self.base = parameter, offset, base

    def value(self):
        return (self.base - (self.parameter - self.offset) ** 2).reshape(1)

    def heads(self):
        one = torch.ones(1, 1, dtype=torch.float64)
        return Heads(self.value().detach(), one, one)

    def judged(self, heads):
        return self.value().detach()

    def surrogate(self, heads, slopes):
        return slopes @ self.value()


def toy(offset, base=lambda n: 1e6, *, start=10.0, steps=None, seconds=20.0, callbacks=()):
    """Project from ``start``; ``offset(n, round)`` says where the values on n nodes have their maximum."""
    parameter = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    rounds, seen = [0], []

    def place(n):
        rounds[0] += 1
        seen.append(n)
        nodes = Nodes(torch.zeros(n, 1), torch.ones(n), "quadrature")
        return nodes, nodes

    def evaluate(placed, check=False, anchor=None):
        n = len(placed[0])
        if n == MANY:
            return Toy(parameter, 0.0)
        return Toy(parameter, offset(n, rounds[0]), base(n))

    nodes = Nodes(torch.zeros(MANY, 1), torch.ones(MANY), "quadrature")
    settings = Settings(steps=steps, seconds=seconds)
    objective = Objective(Nesting.joint(1), "sum", 0.0)
    run = project(
        torch.nn.Identity(),
        [parameter],
        place,
        evaluate,
        ((nodes, nodes), (nodes, nodes)),
        objective,
        settings,
        nodes=10,
        callbacks=callbacks,
        progress=False,
    )
    return run, parameter.item(), seen


class TestRounds:
    def test_a_confirmed_round_is_kept(self):
        run, p, seen = toy(lambda n, r: 0.0)
        assert p == pytest.approx(0.0, abs=1e-3)
        assert (run.confirmed, run.history.stopped, seen[0]) == (1, "converged", 10)
        assert run.history.loss[0] == 100 - 1e6
        assert run.history.loss[-1] == pytest.approx(-1e6)

    def test_a_contradicted_round_is_undone_and_nodes_are_doubled(self):
        """The first round goes to 1, the second to -20, and on 20 nodes to 0.5."""
        run, p, seen = toy(lambda n, r: 0.5 if n == 20 else (1.0 if r == 1 else -20.0), steps=300)
        assert seen[:3] == [10, 10, 20]
        assert [1e6 + loss for loss in run.history.loss[:4]] == pytest.approx([100, 1, 1, 0.25], abs=1e-3)
        assert p == pytest.approx(0.5, abs=1e-3)

    def test_contradicted_to_the_finest_nodes_is_a_warning_where_something_was_confirmed(self):
        with pytest.warns(RuntimeWarning, match="What was confirmed before is kept"):
            run, p, seen = toy(lambda n, r: 1.0 if r == 1 else -20.0)
        assert run.history.stopped == "contradicted"
        assert seen == [10, 10, 20, 40, 10 * FINEST]
        assert p == pytest.approx(1.0, abs=1e-3)
        assert 1e6 - run.heads.values.item() == pytest.approx(1, abs=1e-3)

    def test_and_an_error_where_nothing_was(self):
        with pytest.raises(TrainingDiverged, match="on 80 nodes that independent nodes contradict") as caught:
            toy(lambda n, r: 40.0)
        run = caught.value.result
        assert run.heads.values.item() == 1e6 - 100
        assert run.history.loss == [100 - 1e6] * 5
        assert caught.value.step == run.step > 0

    def test_no_round_begins_on_nodes_with_other_values(self):
        run, p, seen = toy(lambda n, r: 0.0, base=lambda n: 1.5e6 if n < 40 else 1.01e6)
        assert seen[:3] == [10, 20, 40]
        assert run.history.step[:3] == [0, 0, 0]
        assert p == pytest.approx(0.0, abs=1e-3)

    def test_values_that_are_no_numbers(self):
        """On the nodes of the first round nothing is finite."""
        _, p, seen = toy(lambda n, r: 0.0, base=lambda n: math.nan if n == 10 else 1e6)
        assert seen[:2] == [10, 20]
        assert p == pytest.approx(0.0, abs=1e-3)

    def test_a_round_cut_short_by_the_time_is_no_contradiction(self):
        run, p, _ = toy(lambda n, r: 40.0, seconds=None, steps=1)
        assert run.history.stopped == "steps"
        assert p == 10.0

    def test_an_interrupt_keeps_what_was_confirmed(self):
        def interrupt(run):
            if run.confirmed:
                raise KeyboardInterrupt

        run, p, _ = toy(lambda n, r: 1.0, callbacks=[interrupt])
        assert run.history.stopped == "interrupted"
        assert p == pytest.approx(1.0, abs=1e-3)


def test_the_check_has_as_many_nodes_however_few_were_asked_for(monkeypatch):
    seen = {}

    def spy(model, parameters, place, evaluate, independent, *args, **options):
        seen["check"] = [(len(x), x.kind) for x, _ in independent]
        seen["nodes"] = options["nodes"]
        raise nbsvd.ArgumentError("spy", got="a run", expected="none")

    monkeypatch.setattr(projection, "project", spy)
    with pytest.raises(nbsvd.ArgumentError, match="spy"):
        solve("oscillator2d", 2, method="varpro", batch_size=10, kind="iid", progress=False)
    assert seen["nodes"] == 10
    assert all(n > 8000 and kind == "quadrature" for n, kind in seen["check"])


def test_a_rule_that_does_not_see_the_singular_point_is_found_out():
    """Polar nodes around another point miss 1/r; a network of the user's own is not moved to the nucleus."""
    off = Lebesgue(Radial(2, scale=5.0, center=(2.0, 0.0)))
    problem = replace(nbsvd.problems.hydrogen2d(), measure=off, ansatz=None)

    def network(generator):
        seen = Features(2, scales=[1.0, 5.0], cusps=[(0.0, 0.0)])
        net = MLP(2, 2, features=seen, widths=(16, 32), disjoint=False, generator=generator)
        return WithFactor(net, DecayFactor(4.0))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            result = solve(problem, 2, method="varpro", network=network, steps=60, progress=False)
        except TrainingDiverged as error:
            result = error.result
    assert result.errors()["relative_max"] < 0.2  # 1e7 where the nodes of the rule are believed
