"""The two Markov processes: what is said to be exact, against tables, NumPy and long simulations."""

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nbsvd import problems
from nbsvd._errors import ArgumentError
from nbsvd.exact import LogisticMap, OrnsteinUhlenbeck
from nbsvd.measures import GaussianPair, Pairs

ORDERS = [2, 20, 40]


def circle(n: int) -> tuple[Tensor, Tensor]:
    """A rule of the midpoints, which shares nothing with Gauss and Legendre."""
    return ((torch.arange(n, dtype=torch.float64) + 0.5) / n)[:, None], torch.full(
        (n,), 1 / n, dtype=torch.float64
    )


def density_of_noise(order: int, xi: Tensor) -> Tensor:
    """The density as it is defined, its constant by the Gamma function."""
    norm = math.sqrt(math.pi) * math.exp(math.lgamma(order / 2 + 1) - math.lgamma((order + 1) / 2))
    return norm * torch.cos(math.pi * xi) ** order


def table(order: int, x: Tensor, y: Tensor) -> Tensor:
    """p(x | y) by the definition, rows y."""
    return density_of_noise(order, x[None, :, 0] - (4 * y * (1 - y)))


# The logistic map ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
def test_transition_is_that_of_the_noise(order: int) -> None:
    chain, (x, q), (y, _) = LogisticMap(order), circle(200), circle(50)
    p = chain.transition(x, y)
    assert (p.mT - table(order, x, y)).abs().max() < 1e-12
    assert ((q @ p) - 1).abs().max() < 1e-13


@pytest.mark.parametrize("order", ORDERS)
def test_density_is_stationary(order: int) -> None:
    chain, (x, q) = LogisticMap(order), circle(4000)
    rho = chain.density(x)
    assert abs(float(q @ rho) - 1) < 1e-13
    assert rho.min() > 0.5
    at = x[::80]
    # the rule of midpoints is of second order here, for functions of F have a kink at 0 = 1
    assert ((rho * q) @ table(order, at, x) - chain.density(at)).abs().max() < 1e-5


@pytest.mark.parametrize("order", ORDERS)
def test_singular_functions(order: int) -> None:
    chain, k = LogisticMap(order), min(9, order + 1)
    t, q = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(301))
    x, q = (t[:, None] + 1) / 2, q / 2
    rho, phi, psi, sigma = chain.density(x), chain.functions(x, k), chain.left(x, k), chain.values(k)
    P = table(order, x, x)
    identity = torch.eye(k, dtype=torch.float64)
    for functions in (phi, psi):
        assert (functions.mT @ (functions * (q * rho)[:, None]) - identity).abs().max() < 1e-11
    assert (P @ (phi * q[:, None]) - psi * sigma).abs().max() < 1e-11
    back = (P.mT @ (psi * (q * rho)[:, None])) / rho[:, None]
    assert (back - phi * sigma).abs().max() < 1e-11
    assert (phi[:, 0] - 1).abs().max() < 1e-11
    assert (psi[:, 0] - 1).abs().max() < 1e-11


@pytest.mark.parametrize("order", ORDERS)
def test_values_are_those_of_a_fine_table(order: int) -> None:
    """By NumPy alone: the stationary law by iterating, the table of the law of pairs, its decomposition."""
    t, q = np.polynomial.legendre.leggauss(257)
    x, q = (t + 1) / 2, q / 2
    P = density_of_noise(order, torch.from_numpy(x[None, :] - 4 * x[:, None] * (1 - x[:, None]))).numpy() * q
    law = np.full(len(q), 1 / len(q))
    for _ in range(400):
        law = law @ P
    sigma = np.linalg.svd(np.sqrt(law)[:, None] * P / np.sqrt(law), compute_uv=False)
    values = LogisticMap(order).values(order + 1).numpy()
    np.testing.assert_allclose(values, sigma[: order + 1], atol=3e-14, rtol=0)
    assert sigma[order + 1] < 1e-14  # the rank is N + 1 and no more
    assert values[0] == pytest.approx(1, abs=1e-13)


def test_half_of_the_nodes_do() -> None:
    coarse, fine = LogisticMap(40, nodes=200), LogisticMap(40)
    assert (coarse.values(41) - fine.values(41)).abs().max() < 1e-13
    x, _ = circle(100)
    assert (coarse.functions(x, 20) - fine.functions(x, 20)).abs().max() < 1e-10


def test_signs_and_differentiability() -> None:
    chain, (x, _) = LogisticMap(20), circle(1000)
    for phi in chain.functions(x, 21).mT:
        assert next(v for v in phi.tolist() if abs(v) >= 0.5 * float(phi.abs().max())) > 0
    x = x[:5].clone().requires_grad_()
    (slope,) = torch.autograd.grad(chain.functions(x, 3)[:, 2].sum(), x)
    numeric = (chain.functions(x + 1e-6, 3) - chain.functions(x - 1e-6, 3))[:, 2] / 2e-6
    assert torch.allclose(slope[:, 0], numeric, rtol=1e-5)
    assert torch.allclose(chain.left(x, 4), chain.left(1 - x, 4))


def test_expectations_are_powers_of_the_table() -> None:
    chain = LogisticMap(20)
    t, q = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(301))
    x, q = (t[:, None] + 1) / 2, q / 2
    y = torch.tensor([[0.05], [0.5], [0.8]])

    def h(x: Tensor) -> Tensor:
        return torch.cat([x, (x > -1) * x.exp()], 1)

    found = chain.predict(h, y, 10)
    assert found.shape == (10, 3, 2)
    P, start = table(20, x, x) * q, table(20, x, y.double()) * q
    for n in (1, 2, 5, 10):
        expected = start @ torch.linalg.matrix_power(P, n - 1) @ h(x)
        assert (found[n - 1] - expected).abs().max() < 1e-12


@pytest.mark.statistical
def test_a_long_trajectory() -> None:
    """Bands of five standard errors, their correlation in time included: a false alarm in a million runs."""
    chain = LogisticMap(20)
    states = chain.trajectory(200_001, torch.Generator().manual_seed(5))
    assert states.shape == (200_001, 1)
    assert states.min() >= 0
    assert states.max() < 1
    x, q = circle(2000)
    share = (chain.density(x) * q).reshape(20, 100).sum(1)
    found = torch.histc(states, 20, 0, 1) / len(states)
    # values up to 0.92 make a mean of correlated states as uncertain as (1 + 0.92) / (1 - 0.92) fewer would
    assert ((found - share).abs() < 5 * (share * 24 / len(states)).sqrt()).all()
    present, future = states[:-1], states[1:]
    noise = (future - 4 * present * (1 - present) + 0.5) % 1 - 0.5
    xi = x - 0.5
    for power in (2, 4):
        moment = density_of_noise(20, xi[:, 0]) * xi[:, 0] ** power @ q
        error = (noise**power).std() / math.sqrt(len(noise))
        assert abs(float((noise**power).mean() - moment)) < 5 * error
    near = (present[:, 0] - 0.8).abs() < 0.01
    ahead = chain.predict(lambda x: (2 * math.pi * x).cos(), present[near], 1)[0, :, 0]
    ahead = ahead - (2 * math.pi * future[near, 0]).cos()
    assert abs(ahead.mean()) < 5 * ahead.std() / math.sqrt(len(ahead))


@pytest.mark.parametrize("order", [0, 3, 42, 2.0, True])
def test_orders_that_are_none(order: object, unchecked: None) -> None:
    with pytest.raises(ArgumentError, match="even number from 2 to 40"):
        LogisticMap(order)  # type: ignore[arg-type]


def test_bad_questions(unchecked: None) -> None:
    chain = LogisticMap(4)
    with pytest.raises(ArgumentError, match="from 1 to 5"):
        chain.values(6)
    with pytest.raises(ArgumentError, match="steps"):
        chain.predict(lambda x: x, torch.zeros(1, 1), 0)
    with pytest.raises(ArgumentError, match=r"shape \(B, 1\)"):
        chain.density(torch.zeros(3))


# The problems ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ornstein_uhlenbeck", "logistic_map"])
def test_pairs_are_one_trajectory(name: str) -> None:
    first, again, other = (problems.get(name, samples=500, seed=seed).operator.pairs for seed in (0, 0, 1))
    assert isinstance(first, Pairs)
    assert len(first) == 500
    assert first.ordered
    assert torch.equal(first.x[:-1], first.y[1:])  # the future of one is the present of the next
    assert torch.equal(first.x, again.x)
    assert not torch.equal(first.x, other.x)


def test_ornstein_uhlenbeck_as_a_law() -> None:
    problem = problems.ornstein_uhlenbeck(theta=2.0, tau=0.25, s=3.0)
    law = problem.operator.pairs
    assert isinstance(law, GaussianPair)
    assert (law.rho, law.s) == pytest.approx((math.exp(-0.5), 3.0))
    assert isinstance(problem.exact, OrnsteinUhlenbeck)
    assert problem.options["tau"] == 0.25


@pytest.mark.statistical
def test_ornstein_uhlenbeck_as_a_trajectory() -> None:
    """Variance and correlations in five standard errors: a false alarm in a million runs."""
    rho, n = math.exp(-0.5), 200_000
    problem = problems.ornstein_uhlenbeck(theta=1.0, tau=0.5, s=2.0, samples=n, seed=3)
    x, y = problem.operator.pairs.x[:, 0] / 2, problem.operator.pairs.y[:, 0] / 2
    error = math.sqrt(2 / n * (1 + rho**2) / (1 - rho**2))
    assert abs(float((x**2).mean()) - 1) < 5 * error
    assert abs(float(x.mean())) < 5 * math.sqrt((1 + rho) / (1 - rho) / n)
    residual = x - rho * y
    assert abs(float((residual * y).mean())) < 5 * math.sqrt((1 - rho**2) / n)
    assert float(residual.var()) == pytest.approx(1 - rho**2, abs=5 * math.sqrt(2 / n))


@pytest.mark.parametrize("name", ["ornstein_uhlenbeck", "logistic_map"])
def test_no_samples(name: str, unchecked: None) -> None:
    with pytest.raises(ArgumentError, match="samples"):
        problems.get(name, samples=0)
    with pytest.raises(ArgumentError, match="samples"):
        problems.get(name, samples=2.5)


# The benchmark ---------------------------------------------------------------------------------------------


BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("_dynamics")


@pytest.mark.parametrize("name", ["ornstein_uhlenbeck", "logistic_map"])
def test_the_judge_knows_the_optimum(bench: Any, name: str) -> None:
    judge, k = bench.judge(name), bench.PROCESSES[name].k
    exact = bench.PROCESSES[name].make(20, 0).exact
    points = torch.from_numpy(judge.points)
    f, g = exact.functions(points, k)[:, 1:].numpy(), exact.left(points, k)[:, 1:].numpy()
    assert judge.vamp2(f, g) == pytest.approx(judge.optimum(), abs=1e-9)
    mixed = f @ np.random.default_rng(0).normal(size=(k - 1, k - 1)) + 3.0
    assert judge.vamp2(mixed, g) == pytest.approx(judge.optimum(), abs=1e-9)  # spaces, not bases
    assert judge.vamp2(f[:, :2], g) == pytest.approx(float((judge.values[:3] ** 2).sum()), abs=1e-9)
    assert judge.vamp2(f + 0.1 * f**2, g) < judge.optimum() - 1e-4
    np.testing.assert_allclose(judge.quotients(f, g), judge.values, atol=1e-9)
    for label, h in bench.PROCESSES[name].observables.items():
        step = judge.table @ h(judge.points)
        error = judge.prediction_errors(label, np.stack([step] * 4))
        # the jump of h(x) = x on the circle is no trouble for a rule that ends there
        assert error[0] < 1e-8
        assert min(error[1:]) > 1e-3


def test_predictions_by_exact_functions(bench: Any) -> None:
    """What is left out of k functions decays as the next value does; means over the data are the rest."""
    chain = LogisticMap(bench.ORDER)
    judge = bench.judge("logistic_map")
    x, y = bench.arrays(problems.logistic_map(bench.ORDER, 100_000).operator.pairs)

    def side(functions: Any) -> Any:
        return lambda points: functions(torch.from_numpy(points), 21)[:, 1:].numpy()

    predict = bench.expansion(side(chain.functions), side(chain.left), chain.values(21).numpy(), x, y)
    for label, h in bench.PROCESSES["logistic_map"].observables.items():
        assert max(judge.prediction_errors(label, predict(h, judge.points))) < 0.03


def test_held_out_is_what_deeptime_calls_score(bench: Any) -> None:
    deeptime = importlib.import_module("_deeptime")
    x, y = bench.arrays(problems.ornstein_uhlenbeck(1.0, 0.5, 1.0, 4000).operator.pairs)
    basis = deeptime.Powers(y, 6, False)
    learned = deeptime.svd(deeptime.VAMP, basis, 1e-8, x[:3000], y[:3000], 5)
    covariances = [
        deeptime.covariance(deeptime.VAMP, basis(y[rows]), basis(x[rows]))
        for rows in (slice(0, 3000), slice(3000, None))
    ]
    theirs = deeptime.cross_score(deeptime.VAMP, *covariances, 5, 1e-8)
    assert bench.held_out(learned, x[3000:], y[3000:]) == pytest.approx(theirs, abs=1e-9)


def test_the_study(
    bench: Any, script: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--quick", "--folder", str(tmp_path))
    said = script("dynamics", *arguments)
    assert said.count("Beside deeptime's chosen") == 2
    assert said.count("Beside deeptime's best") == 2
    assert said.count("VAMPNet  ") == 2
    module = importlib.import_module("dynamics")
    monkeypatch.setattr(module, "run", lambda *a: pytest.fail("a run that was kept is run again"))
    again = script("dynamics", *arguments)
    assert again.splitlines()[3:-1] == said.splitlines()[3:-1]


def test_verdicts(bench: Any) -> None:
    module = importlib.import_module("dynamics")

    def runs(gap: float, error: float) -> list[dict[str, Any]]:
        one = {"gap": gap, "held_out": 3.0 - gap, "prediction": {"x": [error] * 4}}
        return [one | {"covered": [1, 0], "covered_exact": [1, 1]}] * 2

    found = {"varpro": runs(0.1, 1.0), "VAMP": runs(0.2, 0.5), "EDMD": runs(0.05, 2.0)}
    told = module.verdicts(found, ["VAMP", "VAMP"], "EDMD")
    assert (told["covered"], told["covered_exact"]) == (0.5, 1.0)
    assert (told["chosen"]["seeds_ahead"], told["best"]["seeds_ahead"]) == (2, 0)
    assert (told["chosen"]["predictions_as_good"], told["best"]["predictions_as_good"]) == (0, 4)
    assert told["chosen"]["held_out_difference"] == pytest.approx(0.1)


def test_only_the_whole_study_is_recorded(bench: Any, script: Callable[..., str]) -> None:
    for partial in (("--quick",), ("--seeds", "0"), ("--only", "logistic_map")):
        with pytest.raises(SystemExit):
            script("dynamics", "--record", *partial)
