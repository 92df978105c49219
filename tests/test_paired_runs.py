"""Runs on pairs: what they look at, how they end, and what they refuse."""

import math

import pytest
import torch
from few_pairs import METHODS, normal, solve
from refusals import check, raised
from torch import nn

from nbsvd import Conditional, Nesting, Problem, TrainingDiverged
from nbsvd.functions import BoxFactor
from nbsvd.measures import Empirical, GaussianPair, Pairs
from nbsvd.problems import gaussian_pair
from nbsvd.training.paired import PairedSample


def correlated(n=300, rho=0.8):
    x = normal(n, 1)
    return x, rho * x + math.sqrt(1 - rho**2) * normal(n, 1, seed=1)


def parameters(result):
    return {
        **result.right_model.state_dict(),
        **{f"l.{n}": t for n, t in result.left_model.state_dict().items()},
    }


# What a run sees -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("reversible", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_learned_from_the_test(method, reversible, ordered):
    """Its rows replaced by absurd ones: the functions are the same to the last bit, the values are not."""
    x, y = correlated()
    rows = torch.arange(300.0)[:, None]
    test = Pairs(rows, rows, ordered=ordered).parts().test.x[:, 0].long()
    found = []
    for spoil in (False, True):
        a, b = x.clone(), y.clone()
        if spoil:
            a[test], b[test] = 7 * normal(60, 1, seed=5), -3 * normal(60, 1, seed=6) ** 2
        problem = Problem(Conditional(Pairs(a, b, ordered=ordered), reversible=reversible))
        found.append(solve(problem, method=method))
    clean, spoilt = found
    for name, tensor in parameters(clean).items():
        assert torch.equal(tensor, parameters(spoilt)[name]), name
    assert (clean.values[1:] - spoilt.values[1:]).abs().max() > 0.1
    assert clean.history.values == spoilt.history.values


def test_reports_and_centre_do_not_come_from_the_test():
    """Means over the part trained on are zero, those over the test are not."""
    x, y = correlated()
    pairs = Pairs(x, y)
    result, parts = solve(pairs, steps=20), pairs.parts()
    for functions, side in ((result.right, "x"), (result.left, "y")):
        train, test = (functions(getattr(part, side)).mean(0)[1:].abs() for part in (parts.train, parts.test))
        assert train.max() < 1e-6
        assert test.max() > 1e-3


def test_values_are_those_of_the_test():
    x, y = correlated(400)
    pairs = Pairs(x, y)
    result, test = solve(pairs), pairs.parts().test
    f, g = result.right(test.x), result.left(test.y)
    value = (f * g).mean(0) / ((f**2).mean(0) * (g**2).mean(0)).sqrt()
    torch.testing.assert_close(result.values, value)  # blocks of ten pairs each: their mean is that of all


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_result(method):
    pairs = Pairs(*correlated())
    first, second, other = (solve(pairs, method=method, seed=s) for s in (0, 0, 1))
    assert torch.equal(first.values, second.values)
    assert not torch.equal(first.values, other.values)


def test_weights_are_as_repeated_rows_in_a_whole_law():
    x, y = correlated(6)
    w = torch.tensor([1.0, 2, 1, 3, 1, 2])
    rows = torch.repeat_interleave(torch.arange(6), w.long())
    a = solve(Pairs(x, y, weights=w, complete=True), method="varpro", steps=5)
    b = solve(Pairs(x[rows], y[rows], complete=True), method="varpro", steps=5)
    torch.testing.assert_close(a.values, b.values, atol=1e-6, rtol=0)


def test_few_pairs_do_not_flatter_many_functions():
    """150 functions, 140 independent pairs to train on: a fit would claim 1, the test denies it."""
    pairs = Pairs(normal(200, 3), normal(200, 3, seed=1))
    result = solve(pairs, 2, method="varpro", network={"widths": (16, 150)}, steps=30)
    assert abs(result.values[1]) < 0.45
    assert result.stderr[1] > 0.01


# How a run ends --------------------------------------------------------------------------------------------


def interrupt(run):
    raise KeyboardInterrupt


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_run_keeps_what_is_good(method):
    options = {"steps": 1000, "callbacks": [interrupt]} | ({"report_every": 5} if method == "sgd" else {})
    result = solve(gaussian_pair(0.8, samples=2000), method=method, **options)
    assert result.history.stopped == "interrupted"
    assert result.info["steps"] < 300
    assert result.values[1] > 0.7
    assert torch.isfinite(result.stderr).all()


def test_interrupted_in_the_middle_of_a_round(monkeypatch):
    calls, original = [0], PairedSample.surrogate

    def surrogate(self, heads, slopes):
        calls[0] += 1
        if calls[0] == 4:
            raise KeyboardInterrupt
        return original(self, heads, slopes)

    monkeypatch.setattr(PairedSample, "surrogate", surrogate)
    result = solve(Pairs(*correlated(1000)), method="varpro", steps=300)
    assert result.history.stopped == "interrupted"
    monkeypatch.undo()
    untrained = solve(Pairs(*correlated(1000)), method="varpro", steps=0)  # nothing had been confirmed yet
    torch.testing.assert_close(result.values, untrained.values, rtol=1e-6, atol=1e-9)


class Spoilt(nn.Module):
    """A network that is no longer finite after some steps."""

    def __init__(self, after):
        super().__init__()
        torch.manual_seed(0)
        self.layers, self.after, self.calls = (
            nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 3)),
            after,
            0,
        )

    def forward(self, x):
        self.calls += torch.is_grad_enabled()
        return self.layers(x) * (math.nan if self.calls > self.after else 1)


def test_a_loss_that_is_no_number_leaves_the_last_good_result():
    with pytest.raises(TrainingDiverged, match="loss") as caught:
        solve(Pairs(*correlated()), network=lambda generator: Spoilt(after=25), report_every=10, steps=100)
    result = caught.value.result
    assert 0 < caught.value.step < 100
    assert result.history.stopped == "diverged"
    assert torch.isfinite(result.values).all()
    assert result.values[0] == 1


@pytest.mark.parametrize("seed", [0, 40])
def test_a_run_on_data_ends_before_it_knows_them_by_heart(seed):
    """With 400 pairs, and by the exact law: functions that are large on one row of each part are refused."""
    x = normal(400, 1, seed=seed)
    y = 0.8 * x + 0.6 * normal(400, 1, seed=seed + 1)
    result = solve(Pairs(x, y), 2, method="varpro", steps=2000)
    assert result.history.stopped == "converged"
    assert result.info["steps"] < 1000
    z = normal(200_000, 2, seed=99)
    f, g = result.right(z[:, :1])[:, 1], result.left(0.8 * z[:, :1] + 0.6 * z[:, 1:])[:, 1]
    assert torch.corrcoef(torch.stack([f, g]))[0, 1] > 0.7
    assert result.values[1] == pytest.approx(0.8, abs=0.15)


# Points of every kind --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_equal_points_have_values_of_one(method):
    x = normal(400, 2)
    result = solve(Pairs(x, x), method=method, steps=40)
    assert result.values.tolist() == pytest.approx([1, 1, 1], abs=3e-3)


@pytest.mark.parametrize("method", METHODS)
def test_constant_and_doubled_columns_do_no_harm(method):
    x, y = correlated(400)
    more = torch.cat([x, x, torch.full_like(x, 3.0)], 1)
    result = solve(Pairs(more, y), 2, method=method, steps=20)
    assert result.values[1] == pytest.approx(0.8, abs=0.15)
    assert torch.isfinite(result.stderr).all()


@pytest.mark.parametrize("method", METHODS)
def test_large_and_distant_points(method):
    x, y = correlated(400)
    result = solve(Pairs(1e6 + 1e3 * x, 1e-6 * y), 2, method=method, steps=20)
    assert result.values[1] == pytest.approx(0.8, abs=0.15)


def test_compiled_only_where_it_can_be(unchecked):
    check(lambda: solve(Pairs(*correlated()), method="varpro", compile=True), "compile", "varpro")


# Refusals --------------------------------------------------------------------------------------------------

X, Y = correlated(100)
STILL = torch.ones(100, 1)
T = Conditional(GaussianPair(0.5))

BAD = {
    "k 1": (lambda: solve(Pairs(X, Y), 1), "k", "1", "one more"),
    "k 0": (lambda: solve(Pairs(X, Y), 0), "k", "0", ""),
    "ansatz": (
        lambda: solve(Problem(Conditional(Pairs(X, Y)), ansatz=BoxFactor(9.0))),
        "ansatz",
        "BoxFactor",
        "Leave it out",
    ),
    "spin": (
        lambda: solve(
            Problem(Conditional(Pairs(X, Y), reversible=True)), objective="spin", nesting="sequential"
        ),
        "objective",
        "'spin'",
        "",
    ),
    "neuralef": (
        lambda: solve(
            Problem(Conditional(Pairs(X, Y), reversible=True)), objective="neuralef", nesting="sequential"
        ),
        "objective",
        "'neuralef'",
        "",
    ),
    "omm": (
        lambda: solve(Problem(Conditional(Pairs(X, Y), reversible=True)), objective="omm", nesting="none"),
        "objective",
        "'omm'",
        "",
    ),
    "one pair a step": (lambda: solve(Pairs(X, Y), batch_size=1), "moment", "batch of 1", "larger batch"),
    "sobol rows": (lambda: solve(Pairs(X, Y), kind="sobol"), "kind", "'sobol' for Pairs", ""),
    "too few": (lambda: solve(Pairs(X[:19], Y[:19])), "pairs", "19 pairs", ""),
    "x does not vary": (lambda: solve(Pairs(STILL, Y)), "pairs", "the same point x", "zero"),
    "y does not vary": (lambda: solve(Pairs(X, STILL)), "pairs", "the same point y", ""),
    "nothing varies": (lambda: solve(Pairs(STILL, STILL), method="varpro"), "pairs", "the same point", ""),
    "nesting of another k": (
        lambda: solve(Pairs(X, Y), 3, nesting=Nesting.joint(2)),
        "nesting",
        "2 components",
        "",
    ),
    "more than the exact answer holds": (lambda: solve(gaussian_pair(0.0), 3), "k", "3", ""),
    "another measure": (lambda: Problem(Conditional(Pairs(X, Y)), Empirical(X + 1)), "measure", "", ""),
    "sum": (lambda: T + T, "operator", "a sum or a multiple", "by itself"),
    "multiple": (lambda: 2 * T, "operator", "a sum or a multiple", "by itself"),
    "difference": (lambda: T - T, "operator", "a sum or a multiple", "by itself"),
}


@pytest.mark.parametrize("name", BAD)
def test_refusals(name, unchecked):
    call, argument, got, remedy = BAD[name]
    check(call, argument, got, remedy=remedy)


def test_more_functions_than_points_allow(unchecked):
    """Two different points x have one function besides the constant."""
    two = (X > 0).double()
    for method in METHODS:
        assert "linearly independent" in str(
            raised(lambda method=method: solve(Pairs(two, Y), 4, method=method))
        )
