"""Two Markov processes whose operators are known, what judges learned functions of them, and our own runs."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import nbsvd
from nbsvd.measures import Pairs
from nbsvd.measures.rules import gauss_hermite

Array = npt.NDArray[Any]
Function = Callable[[Array], Array]
STEPS = (1, 2, 5, 10)  # how far ahead predictions are judged
THETA, TAU, ORDER = 1.0, 0.5, 20


def state(x: Array) -> Array:
    """The state itself."""
    return x[:, 0]


def bump(x: Array) -> Array:
    """A bump beside the middle, no polynomial."""
    return np.exp(-((x[:, 0] - 1) ** 2))


def turn(x: Array) -> Array:
    """A function on the circle."""
    return np.cos(2 * np.pi * x[:, 0])


@dataclass(frozen=True)
class Process:
    """A process, how many singular functions are asked for, and the observables that are predicted."""

    said: str
    k: int
    make: Callable[[int, int], nbsvd.Problem]  # number of pairs, seed
    observables: dict[str, Function]
    periodic: bool = False  # whether Fourier functions are an obvious dictionary


PROCESSES = {
    "ornstein_uhlenbeck": Process(
        f"Ornstein-Uhlenbeck, theta = {THETA:g}, lag {TAU:g}",
        5,
        lambda samples, seed: nbsvd.problems.ornstein_uhlenbeck(THETA, TAU, 1.0, samples, seed),
        {"x": state, "exp(-(x-1)^2)": bump},
    ),
    "logistic_map": Process(
        f"noisy logistic map, order {ORDER}",
        9,
        lambda samples, seed: nbsvd.problems.logistic_map(ORDER, samples, seed),
        {"x": state, "cos(2 pi x)": turn},
        periodic=True,
    ),
}


@dataclass(frozen=True)
class Judge:
    """The exact operator on a fine rule: nothing here is a sample.

    Arguments:
        points: of the rule, ``(n, 1)``, for present and future alike.
        law: stationary probabilities of the points, ``(n,)``.
        table: probabilities of the future given the present, rows the present, ``(n, n)``.
        values: the exact singular values, ``(k,)``.
        ahead: for each observable its exact expectations after ``STEPS``, ``(len(STEPS), n)``.
    """

    points: Array
    law: Array
    table: Array
    values: Array
    ahead: dict[str, Array]

    def moments(self, f: Array, g: Array) -> tuple[Array, Array, Array]:
        """The centred Gram matrices of functions on the points, and ``<g|K f>``."""
        f, g = f - self.law @ f, g - self.law @ g
        w = self.law[:, None]
        return f.T @ (w * f), g.T @ (w * g), (w * g).T @ (self.table @ f)

    def vamp2(self, f: Array, g: Array) -> float:
        """The VAMP-2 score of two spaces of functions without their constants, which add 1."""
        return score(*self.moments(f, g))

    def optimum(self) -> float:
        """What k functions can reach."""
        return float((self.values**2).sum())

    def quotients(self, f: Array, g: Array) -> Array:
        """What the values of given pairs of functions are, were the data without end; 1 comes first."""
        S_f, S_g, A = self.moments(f, g)
        return np.concatenate([[1.0], np.diag(A) / np.sqrt(np.diag(S_f) * np.diag(S_g))])

    def prediction_errors(self, name: str, predicted: Array) -> list[float]:
        """The errors in L2 of the stationary law, for each number of steps."""
        return np.sqrt((self.law * (predicted - self.ahead[name]) ** 2).sum(1)).tolist()


def score(S_f: Array, S_g: Array, A: Array) -> float:
    """1 and the sum of the squared canonical correlations that centred moments give.

    For spaces and not for bases of them: directions without size are left out.
    """
    return 1.0 + float(((whitener(S_g).T @ A @ whitener(S_f)) ** 2).sum())


def whitener(S: Array, cutoff: float = 1e-10) -> Array:
    """W with ``W^T S W = 1`` on what has a size."""
    size = np.sqrt(np.maximum(np.diag(S), 1e-300))
    e, U = np.linalg.eigh(S / size[:, None] / size)
    kept = e > cutoff * max(e.max(), 1e-300)
    return U[:, kept] / np.sqrt(e[kept]) / size[:, None]


@cache
def judge(name: str) -> Judge:
    """The judge of a process."""
    process = PROCESSES[name]
    exact = process.make(20, 0).exact
    assert exact is not None
    if name == "ornstein_uhlenbeck":
        rho = math.exp(-THETA * TAU)
        x = np.linspace(-8, 8, 1201)
        law = np.exp(-(x**2) / 2)
        table = np.exp(-((x[None] - rho * x[:, None]) ** 2) / (2 * (1 - rho**2)))
        z, q = (a.numpy() for a in gauss_hermite(80))

        def expected(h: Function) -> Array:
            powers = [rho**n for n in STEPS]
            return np.stack(
                [
                    h((r * x[:, None] + math.sqrt(1 - r * r) * z).reshape(-1, 1)).reshape(-1, 80) @ q
                    for r in powers
                ]
            )
    else:
        assert isinstance(exact, nbsvd.exact.LogisticMap)
        t, w = np.polynomial.legendre.leggauss(800)
        x = (t + 1) / 2
        points = torch.from_numpy(x)[:, None]
        law = w * exact.density(points).numpy()
        table = w * exact.transition(points, points).T.numpy()

        def expected(h: Function) -> Array:
            found = exact.predict(lambda x: torch.from_numpy(h(x.numpy()))[:, None], points, max(STEPS))
            return found[[n - 1 for n in STEPS], :, 0].numpy()

    return Judge(
        x[:, None],
        law / law.sum(),
        table / table.sum(1, keepdims=True),
        exact.values(process.k).numpy(),
        {label: expected(h) for label, h in process.observables.items()},
    )


# What is learned -------------------------------------------------------------------------------------------


@dataclass
class Learned:
    """Functions of the future and of the present without the constant, their values, and what they predict.

    Arguments:
        right, left: from points to ``(B, k - 1)``.
        values: k numbers, the 1 of the constant first.
        predict: from observable and present points to expectations after ``STEPS``, ``(len(STEPS), B)``.
        said: what was chosen, for the report.
        check: score on the pairs by which families of methods are compared.
        stderr: error bars of the values.
        bars: error bars of predictions, as ``predict``.
    """

    right: Function
    left: Function
    values: Array
    predict: Callable[[Function, Array], Array]
    said: dict[str, Any] = field(default_factory=dict)
    check: float = -math.inf
    stderr: Array | None = None
    bars: Callable[[Function, Array], Array] | None = None


def parts_of(problem: nbsvd.Problem) -> tuple[Pairs, Pairs, Pairs, Pairs]:
    """The pairs to train on, those of the check, both of them together, and those of the test."""
    pairs = problem.operator.pairs
    assert isinstance(pairs, Pairs)
    train, check, test = pairs.parts().train, pairs.parts().check, pairs.parts().test
    assert isinstance(train, Pairs)
    assert isinstance(check, Pairs)
    assert isinstance(test, Pairs)
    return train, check, train.joined(check), test


def arrays(pairs: Pairs) -> tuple[Array, Array]:
    """The future and the present states of pairs."""
    return pairs.x.numpy(), pairs.y.numpy()


def held_out(learned: Learned, x: Array, y: Array) -> float:
    """The VAMP-2 score on pairs that were not learned from: deeptime's ``model.score(r=2, test_model)``."""
    f, g = learned.right(x), learned.left(y)
    f, g = f - f.mean(0), g - g.mean(0)
    return score(f.T @ f / len(f), g.T @ g / len(g), g.T @ f / len(f))


def judged(learned: Learned, name: str, test: Pairs) -> dict[str, Any]:
    """All that is recorded of a model."""
    exact, process = judge(name), PROCESSES[name]
    f, g = learned.right(exact.points), learned.left(exact.points)
    x, y = arrays(test)
    optimum, reached = exact.optimum(), exact.vamp2(f, g)
    found: dict[str, Any] = {
        "said": learned.said,
        "vamp2": reached,
        "gap": optimum - reached,
        "held_out": held_out(learned, x, y),
        "check": learned.check,
        "values": learned.values.tolist(),
        "values_error": float(np.abs(learned.values - exact.values[: len(learned.values)]).max()),
        "prediction": {},
        "held_out_prediction": {},
    }
    for label, h in process.observables.items():
        found["prediction"][label] = exact.prediction_errors(label, learned.predict(h, exact.points))
        ahead = learned.predict(h, y)
        truth = np.append(h(y[:1]), h(x))  # the test pairs are one stretch of the trajectory
        found["held_out_prediction"][label] = [
            float(np.sqrt(((ahead[i, : len(truth) - n] - truth[n:]) ** 2).mean()))
            for i, n in enumerate(STEPS)
        ]
    if learned.stderr is not None:
        own = exact.quotients(f, g)
        found["stderr"] = learned.stderr.tolist()
        found["covered"] = inside(learned.values - own, learned.stderr)
        found["covered_exact"] = inside(learned.values - exact.values, learned.stderr)
    if learned.bars is not None:
        found["covered_prediction"] = {
            label: [
                float(exact.law @ (np.abs(p - e) <= 2 * b))
                for p, e, b in zip(
                    learned.predict(h, exact.points),
                    exact.ahead[label],
                    learned.bars(h, exact.points),
                    strict=True,
                )
            ]
            for label, h in process.observables.items()
        }
    return found


def inside(errors: Array, bars: Array) -> list[int]:
    """For each value after the constant, whether it lies within two error bars."""
    return (np.abs(errors[1:]) <= 2 * bars[1:]).astype(int).tolist()


def expansion(
    right: Function, left: Function, values: Array, x: Array, y: Array
) -> Callable[[Function, Array], Array]:
    r"""Return what predicts with singular functions and pairs: ``E[h(X_n) | y] = L(y) S (G S)^(n-1) q``.

    ``q = <R, h>`` and ``G = <R, L>`` are means over future states, S the values, constant included.
    """

    def whole(functions: Function, points: Array) -> Array:
        return np.concatenate([np.ones((len(points), 1)), functions(points)], 1)

    at = whole(right, x)
    gram = at.T @ at / len(x)
    G = np.linalg.solve(gram, at.T @ whole(left, x) / len(x))

    def predict(h: Function, points: Array) -> Array:
        q = np.linalg.solve(gram, at.T @ h(x) / len(x))
        start, found = whole(left, points), []
        for n in range(1, max(STEPS) + 1):
            if n in STEPS:
                found.append(start @ (values * q))
            q = G @ (values * q)
        return np.stack(found)

    return predict


# Ours ------------------------------------------------------------------------------------------------------


def ours(problem: nbsvd.Problem, k: int, method: str, seconds: float, seed: int, **options: Any) -> Learned:
    """One of our runs at its defaults, in a given time, and its predictions."""
    start = time.perf_counter()
    result = nbsvd.solve(
        problem, k, method=method, seconds=seconds, seed=seed, device="cpu", progress=False, **options
    )
    if result.history.stopped == "interrupted":
        raise KeyboardInterrupt
    check, fitted = parts_of(problem)[1:3]
    koopman = nbsvd.Koopman(result, fitted)

    def functions(side: Callable[[torch.Tensor], torch.Tensor]) -> Function:
        return lambda x: side(torch.from_numpy(x))[:, 1:].detach().numpy()

    def ahead(h: Function, points: Array) -> Any:
        return koopman.predict(
            lambda x: torch.from_numpy(h(x.numpy()))[:, None], torch.from_numpy(points), max(STEPS)
        )

    rows = [n - 1 for n in STEPS]
    learned = Learned(
        functions(result.right),
        functions(result.left),
        result.values.numpy(),
        lambda h, points: ahead(h, points).mean[rows, :, 0].numpy(),
        {"steps": result.info["steps"], "seconds": time.perf_counter() - start},
        stderr=result.stderr.numpy(),
        bars=lambda h, points: ahead(h, points).stderr[rows, :, 0].numpy(),
    )
    learned.check = held_out(learned, *arrays(check))
    return learned
