"""Predictions with a learned Koopman operator: against NumPy, the exact law, and fresh trajectories."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import nbsvd
from nbsvd import Koopman, problems
from nbsvd._errors import ArgumentError
from nbsvd.measures import GaussianPair, Pairs

RHO = math.exp(-0.5)


@pytest.fixture(scope="module")
def result() -> nbsvd.Result:
    """Four functions of the Ornstein-Uhlenbeck process, from 20 000 pairs."""
    problem = problems.ornstein_uhlenbeck(1.0, 0.5, 1.0, 20_000, seed=1)
    return nbsvd.solve(problem, 4, method="varpro", steps=5, progress=False)


def pairs_of(samples: int, seed: int) -> Pairs:
    pairs = problems.ornstein_uhlenbeck(1.0, 0.5, 1.0, samples, seed).operator.pairs
    assert isinstance(pairs, Pairs)
    return pairs


def state(x: Tensor) -> Tensor:
    return x[:, :1]


def test_matrix_and_predictions_are_least_squares(result: nbsvd.Result) -> None:
    """By NumPy: regress functions of the future, and the observable, on functions of the present."""
    pairs = pairs_of(3000, 7)
    koopman = Koopman(result, pairs)
    now, later = (result.left(t).detach().numpy() for t in (pairs.y, pairs.x))
    K = np.linalg.lstsq(now, later, rcond=None)[0]
    np.testing.assert_allclose(koopman.matrix.numpy(), K, atol=1e-8)
    h = np.concatenate([pairs.x.numpy(), np.cos(pairs.x.numpy())], 1)
    c = np.linalg.lstsq(now, h, rcond=None)[0]
    y = torch.tensor([[-1.0], [0.2], [1.5]], dtype=torch.float64)
    found = koopman.predict(lambda x: torch.cat([x, x.cos()], 1), y, 3)
    assert found.mean.shape == found.spread.shape == found.stderr.shape == (3, 3, 2)
    for n in range(3):
        expected = result.left(y).detach().numpy() @ np.linalg.matrix_power(K, n) @ c
        np.testing.assert_allclose(found.mean[n].numpy(), expected, atol=1e-8)


def test_eigenvalues_and_timescales(result: nbsvd.Result) -> None:
    koopman = Koopman(result)
    values = koopman.eigenvalues
    assert abs(complex(values[0]) - 1) < 1e-6
    exact = torch.exp(-0.5 * torch.arange(4))
    assert (values.abs() - exact).abs().max() < 0.05
    assert (values.abs().diff() <= 1e-12).all()
    scales = koopman.timescales(0.5)
    assert float(scales[0]) == pytest.approx(1.0, rel=0.1)
    assert torch.allclose(koopman.timescales(5.0), 10 * scales)


def test_the_future_is_that_of_the_process(result: nbsvd.Result) -> None:
    y = torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)
    found = Koopman(result).predict(state, y, 4)
    for n in range(1, 5):
        mean, spread = RHO**n * y, math.sqrt(1 - RHO ** (2 * n))
        assert (found.mean[n - 1] - mean).abs().max() < 0.1
        assert (found.spread[n - 1] - spread).abs().max() < 0.1


@pytest.mark.statistical
def test_error_bars_are_what_fresh_trajectories_scatter(result: nbsvd.Result) -> None:
    """Forty trajectories: a scatter is known to an eighth, so a factor two is a false alarm in a million."""
    y = torch.tensor([[-1.5], [0.0], [1.0]], dtype=torch.float64)
    found = [Koopman(result, pairs_of(2000, 100 + i)).predict(state, y, 2) for i in range(40)]
    scatter = torch.stack([f.mean for f in found]).std(0)
    told = torch.stack([f.stderr for f in found]).square().mean(0).sqrt()
    assert ((told / scatter - 1).abs() < 0.6).all()


def test_a_law_and_weights(result: nbsvd.Result) -> None:
    law = Koopman(result, GaussianPair(RHO))
    assert abs(float(law.predict(state, torch.ones(1, 1).double(), 1).mean) - RHO) < 0.05
    pairs = pairs_of(400, 3)
    twice = Pairs(torch.cat([pairs.x, pairs.x[:100]]), torch.cat([pairs.y, pairs.y[:100]]))
    weights = torch.ones(400)
    weights[:100] = 2
    weighted = Pairs(pairs.x, pairs.y, weights=weights)
    K = [Koopman(result, p, blocks=1).matrix for p in (twice, weighted)]
    assert torch.allclose(K[0], K[1], atol=1e-9)


def test_one_block_has_no_error_bar(result: nbsvd.Result) -> None:
    found = Koopman(result, pairs_of(500, 2), blocks=1).predict(state, torch.zeros(2, 1).double(), 1)
    assert float(found.stderr.abs().max()) == 0
    assert float(found.spread.min()) > 0.5


BAD: dict[str, tuple[Any, str]] = {
    "steps": (lambda k: k.predict(state, torch.zeros(1, 1), 0), "at least 1"),
    "steps, no number": (lambda k: k.predict(state, torch.zeros(1, 1), 1.5), "at least 1"),
    "observable, one axis": (lambda k: k.predict(lambda x: x[:, 0], torch.zeros(1, 1), 1), "a column"),
    "observable, no tensor": (lambda k: k.predict(lambda x: 1.0, torch.zeros(1, 1), 1), "float"),
    "observable, NaN": (lambda k: k.predict(lambda x: x / 0 * 0, torch.zeros(1, 1), 1), "finite values"),
    "lag_time": (lambda k: k.timescales(0.0), "a positive time"),
    "pairs": (lambda k: Koopman(k.result, Pairs(torch.zeros(30, 2), torch.zeros(30, 2))), "1 coordinates"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, result: nbsvd.Result, unchecked: None) -> None:
    ask, said = BAD[name]
    with pytest.raises(ArgumentError, match=said):
        ask(Koopman(result, pairs_of(400, 3)))


def test_results_of_other_operators(unchecked: None) -> None:
    other = nbsvd.solve(problems.volterra(), 2, steps=1, progress=False)
    with pytest.raises(ArgumentError, match="from_trajectory"):
        Koopman(other)
