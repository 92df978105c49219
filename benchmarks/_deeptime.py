"""Deeptime's estimators, with their settings chosen by cross-validated VAMP-2 as a careful user would."""

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from _dynamics import STEPS, Array, Function, Learned, Process, expansion, held_out, whitener
from deeptime.basis import Identity, Monomials
from deeptime.decomposition import EDMD, TICA, VAMP, KernelEDMD
from deeptime.decomposition.deep import VAMPNet
from deeptime.kernels import GaussianKernel
from deeptime.util.torch import MLP

FOLDS = 5
CUTOFFS = (1e-8, 1e-5, 1e-3)  # of eigenvalues of the covariances: VAMP's ``epsilon``
LANDMARKS = 1000  # pairs that the kernel method is given
VALIDATION = 1 / 8  # the last of the data: our check part


class Fourier:
    """Sines and cosines up to a frequency, on the circle [0, 1)."""

    def __init__(self, m: int) -> None:
        self.waves = 2 * np.pi * np.arange(1, m + 1)

    def __call__(self, x: Array) -> Array:
        return np.concatenate([np.cos(x * self.waves), np.sin(x * self.waves)], 1)


class Gaussians:
    """Gaussians at quantiles of the data, each as wide as some times the mean distance of its neighbours."""

    def __init__(self, data: Array, m: int, width: float) -> None:
        self.centers = np.quantile(data[:, 0], (np.arange(m) + 0.5) / m)
        self.widths = width * np.maximum(np.gradient(self.centers), 1e-3 * data.std())

    def __call__(self, x: Array) -> Array:
        return np.exp(-(((x - self.centers) / self.widths) ** 2) / 2)


class Powers:
    """Monomials, without the constant, of the data brought to [-1, 1] or to standard deviation 1.

    VAMP takes means away itself, and a column of zeros in a covariance stops its estimator.
    """

    def __init__(self, data: Array, degree: int, periodic: bool) -> None:
        self.basis = Monomials(degree, 1)
        self.shift, self.scale = (0.5, 0.5) if periodic else (data.mean(), data.std())

    def __call__(self, x: Array) -> Array:
        return np.asarray(self.basis((x - self.shift) / self.scale))[:, 1:]


def dictionaries(process: Process, data: Array, quick: bool) -> dict[str, Callable[[Array], Array]]:
    """The dictionaries that are tried."""
    found: dict[str, Callable[[Array], Array]] = {"raw": Identity()}
    for degree in (2, 4) if quick else (2, 3, 4, 5, 6, 8, 10, 14, 18) if process.periodic else range(2, 11):
        found[f"monomials to degree {degree}"] = Powers(data, degree, process.periodic)
    for m, width in [(10, 1)] if quick else itertools.product((10, 20, 40), (1, 2)):
        found[f"{m} Gaussians, width {width}"] = Gaussians(data, m, width)
    if process.periodic:
        for m in (4,) if quick else (3, 4, 5, 6, 8, 10, 13, 16, 20):
            found[f"Fourier to frequency {m}"] = Fourier(m)
    return found


def folds(n: int) -> Iterator[tuple[Array, Array]]:
    """Rows to fit on and contiguous rows to score on; the last of them close the data."""
    edges = np.linspace(0, n, FOLDS + 1).astype(int)
    for a, b in itertools.pairwise(edges):
        kept = np.ones(n, bool)
        kept[a:b] = False
        yield kept, ~kept


def covariance(estimator: Any, present: Array, future: Array) -> Any:
    return estimator.covariance_estimator(1).partial_fit((present, future)).fetch_model()


def search(
    estimator: Any, tried: dict[str, Callable[[Array], Array]], x: Array, y: Array, k: int, seconds: float
) -> tuple[str, float]:
    """The dictionary and the cutoff of the best mean score over the folds; stops when time is up."""
    start, best = time.perf_counter(), (-math.inf, "", 0.0)
    for label, basis in tried.items():
        if time.perf_counter() - start > 0.8 * seconds:
            break
        present, future = basis(y), basis(x)
        scores = np.zeros(len(CUTOFFS))
        for fit, out in folds(len(x)):
            train = covariance(estimator, present[fit], future[fit])
            test = covariance(estimator, present[out], future[out])
            for i, cutoff in enumerate(CUTOFFS):
                scores[i] += cross_score(estimator, train, test, k, cutoff) / FOLDS
        i = int(scores.argmax())
        best = max(best, (float(scores[i]), label, CUTOFFS[i]))
    return best[1], best[2]


def cross_score(estimator: Any, train: Any, test: Any, k: int, cutoff: float) -> float:
    """Deeptime's own cross-validated VAMP-2; minus infinity where a covariance has no rank left."""
    made = {"dim": k - 1, "epsilon": cutoff, "scaling": None}
    try:
        models = [estimator(**made).fit_from_covariances(c).fetch_model() for c in (train, test)]
        found = float(models[0].score(r=2, test_model=models[1], epsilon=1e-12))
    except (ValueError, ArithmeticError, np.linalg.LinAlgError):
        return -math.inf
    return found if math.isfinite(found) else -math.inf


def svd(
    estimator: Any, basis: Callable[[Array], Array], cutoff: float, x: Array, y: Array, k: int
) -> Learned:
    """VAMP or TICA on a dictionary; predictions as by ``CovarianceKoopmanModel.expectation``."""
    est = estimator(lagtime=1, dim=k - 1, epsilon=cutoff, scaling=None, observable_transform=basis)
    model = est.fit_from_timeseries((y, x)).fetch_model()
    sigma = np.concatenate([[1.0], model.singular_values[: model.output_dimension]])

    def right(points: Array) -> Array:
        return np.asarray(model.timelagged_obs(points))

    def left(points: Array) -> Array:
        return np.asarray(model.instantaneous_obs(points))

    return Learned(right, left, padded(np.abs(sigma), k), expansion(right, left, sigma, x, y))


def padded(values: Array, k: int) -> Array:
    """Values with zeros for those that a small dictionary has not."""
    return np.pad(values[:k], (0, max(0, k - len(values))))


def dictionary_method(estimator: Any) -> Callable[..., Learned]:
    """VAMP or TICA, dictionary and cutoff chosen."""

    def fit(process: Process, x: Array, y: Array, seconds: float, seed: int, quick: bool) -> Learned:
        tried = dictionaries(process, y, quick)
        label, cutoff = search(estimator, tried, x, y, process.k, seconds)
        cut = len(x) - round(VALIDATION * len(x))
        learned = svd(estimator, tried[label], cutoff, x, y, process.k)
        learned.check = held_out(
            svd(estimator, tried[label], cutoff, x[:cut], y[:cut], process.k), x[cut:], y[cut:]
        )
        learned.said = {"dictionary": label, "cutoff": cutoff}
        return learned

    return fit


def edmd(process: Process, x: Array, y: Array, seconds: float, seed: int, quick: bool) -> Learned:
    """EDMD on the dictionary that VAMP's score likes best; its eigenfunctions, its matrix for predictions."""
    tried, k = dictionaries(process, y, quick), process.k
    label, _ = search(VAMP, tried, x, y, k, seconds)
    chosen = tried[label]

    features = np.asarray(chosen(y))
    mean = features.mean(0)
    W = whitener(np.cov(features.T).reshape(len(mean), -1), 1e-8)  # its matrix is ill-conditioned without

    def basis(points: Array) -> Array:
        return np.concatenate([np.ones((len(points), 1)), (chosen(points) - mean) @ W], 1)

    cut = len(x) - round(VALIDATION * len(x))

    def made(x: Array, y: Array) -> Learned:
        model = EDMD(basis).fit((y, x)).fetch_model()
        order = np.argsort(-np.abs(model.eigenvalues))
        pencil = model.modes.T[:, order[1:k]]  # the constant's is the first
        span = np.linalg.svd(np.concatenate([pencil.real, pencil.imag], 1), full_matrices=False)[0]
        span = span[:, : k - 1]

        def eigenfunctions(points: Array) -> Array:
            return np.asarray(basis(points) @ span)

        at = basis(x)

        def predict(h: Function, points: Array) -> Array:
            c = np.linalg.lstsq(at, h(x), rcond=None)[0]
            start = basis(points)
            return np.stack([start @ np.linalg.matrix_power(model.operator, n) @ c for n in STEPS])

        return Learned(eigenfunctions, eigenfunctions, padded(np.abs(model.eigenvalues[order]), k), predict)

    learned = made(x, y)
    learned.check = held_out(made(x[:cut], y[:cut]), x[cut:], y[cut:])
    learned.said = {"dictionary": label}
    return learned


def kernel(process: Process, x: Array, y: Array, seconds: float, seed: int, quick: bool) -> Learned:
    """KernelEDMD on a thousand pairs, its eigenfunctions as VAMP's dictionary on all pairs."""
    start, k = time.perf_counter(), process.k
    cut = len(x) - round(VALIDATION * len(x))
    count = 100 if quick else LANDMARKS
    rows = np.random.default_rng(seed).choice(cut, min(count, cut), replace=False)
    few = slice(0, min(cut, 20 * count))  # of the trials: the matrix of the kernel has a column for each row
    best: tuple[float, Any, dict[str, Any]] = (-math.inf, None, {})
    for ridge, width in itertools.product((1e-1, 1e-3), (0.1, 0.3, 1.0)):
        if best[1] is not None and time.perf_counter() - start > 0.5 * seconds:
            break
        estimator = KernelEDMD(GaussianKernel(width * y.std()), epsilon=ridge, n_eigs=k + 2)
        model = estimator.fit((y[rows], x[rows])).fetch_model()

        def basis(points: Array, model: Any = model) -> Array:
            pieces = np.array_split(points, max(1, len(points) // 5000))
            found = np.concatenate([model.transform(piece) for piece in pieces])
            both = np.concatenate([found.real, found.imag], 1)
            return both[:, np.abs(both).max(0) > 1e-9]

        try:
            trial = svd(VAMP, basis, 1e-10, x[few], y[few], k)
        except (ValueError, ArithmeticError):
            continue
        reached = held_out(trial, x[cut:], y[cut:])
        if reached > best[0]:
            best = (reached, basis, {"ridge": ridge, "width": width})
    learned = svd(VAMP, best[1], 1e-10, x, y, k)
    learned.check, learned.said = best[0], best[2]
    return learned


def vampnet(process: Process, x: Array, y: Array, seconds: float, seed: int, quick: bool) -> Learned:
    """Two networks, two rates, stopped by the last eighth of the data; VAMP on what they found."""
    k, cut = process.k, len(x) - round(VALIDATION * len(x))
    shift, scale = y.mean(), y.std()
    data = [torch.from_numpy((a - shift) / scale).float() for a in (y, x)]
    best: tuple[float, Any, dict[str, Any]] = (-math.inf, None, {})
    candidates = [(64, 1e-3), (64, 5e-3), (128, 2e-3)][: 1 if quick else None]
    for width, rate in candidates:
        torch.manual_seed(seed)
        lobes = [MLP([1, width, width, k - 1], nonlinearity=torch.nn.Tanh) for _ in range(2)]
        net = VAMPNet(*lobes, learning_rate=rate)
        end = time.perf_counter() + 0.95 * seconds / len(candidates)
        step = 0
        while time.perf_counter() < end:
            batch = torch.randint(cut, (min(cut, 2048),))
            net.partial_fit((data[0][batch], data[1][batch]))
            step += 1
            if step % 20 == 0 or step == 1:
                reached = float(net.validate((data[0][cut:], data[1][cut:])))
                if reached > best[0]:
                    best = (
                        reached,
                        copy.deepcopy(net.fetch_model()),
                        {"width": width, "rate": rate, "step": step},
                    )
    model = best[1]

    def lobe(points: Array, instantaneous: bool) -> Array:
        scaled = ((points - shift) / scale).astype(np.float32)
        return np.asarray(model.transform(scaled, instantaneous=instantaneous), dtype=float)

    def made(x: Array, y: Array) -> Learned:
        pair = (lobe(y, True), lobe(x, False))
        fitted = VAMP(lagtime=1, dim=k - 1, epsilon=1e-10, scaling=None).fit_from_timeseries(pair)
        linear = fitted.fetch_model()
        sigma = np.concatenate([[1.0], linear.singular_values[: k - 1]])

        def right(points: Array) -> Array:
            return np.asarray(linear.timelagged_obs(lobe(points, False)))

        def left(points: Array) -> Array:
            return np.asarray(linear.instantaneous_obs(lobe(points, True)))

        return Learned(right, left, padded(sigma, k), expansion(right, left, sigma, x, y))

    learned = made(x, y)
    learned.check = held_out(made(x[:cut], y[:cut]), x[cut:], y[cut:])
    learned.said = best[2]
    return learned


FAMILIES: dict[str, Callable[..., Learned]] = {
    "VAMP": dictionary_method(VAMP),
    "TICA": dictionary_method(TICA),
    "EDMD": edmd,
    "KernelEDMD": kernel,
    "VAMPNet": vampnet,
}
