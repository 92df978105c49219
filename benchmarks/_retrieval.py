"""Two halves of an image as a pair: the data, the contenders, and what is measured of a ranking.

Run as a script it fits one contender, in a process of its own whose memory nothing else has touched.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from typing import Any

import numpy as np
import torch
from _machine import in_a_process as elsewhere
from _reduction import forget, held
from sklearn.datasets import load_digits
from sklearn.metrics.pairwise import rbf_kernel

import nbsvd
from nbsvd.measures import Pairs

NEW = 10_000  # pairs of halves whose functions are timed
FIRST = 10  # how many of a ranking a user looks at
LENGTHS = (5, 9, 15, 20, 30, 40, 60, 100)  # numbers of functions to choose from, besides all
TASKS = {
    "digit": "mean_average_precision",
    "half": "mean_reciprocal_rank",
}  # chosen by, on the validation part
RIDGES = (1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
WIDTHS, KERNEL_RIDGES = (0.5, 0.7, 1.0, 1.5, 2.2), (1e-5, 1e-4, 1e-3, 1e-2)
COMPONENTS = (31, 61)  # of ours, with the constant
STEPS, MEMBERS = 200, 3

Array = np.ndarray
Functions = tuple[Array, Array, Array]  # f at x (N, k), g at y (N, k), values (k,); without the constant


# Data and measures ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Halves:
    """Left and right halves of some images, 4 x 8 pixels from 0 to 1 each, and the digits they show."""

    x: Array
    y: Array
    digit: Array

    def rows(self, index: Array) -> "Halves":
        return Halves(self.x[index], self.y[index], self.digit[index])

    def joined(self, other: "Halves") -> "Halves":
        pieces = ((self.x, other.x), (self.y, other.y), (self.digit, other.digit))
        return Halves(*(np.concatenate(piece) for piece in pieces))


def digits() -> Halves:
    """Scikit-learn's digits, 1797 images of 8 x 8 pixels."""
    found = load_digits()
    images = found.images / 16.0
    left, right = (half.reshape(len(images), -1) for half in (images[:, :, :4], images[:, :, 4:]))
    return Halves(left, right, found.target)


def divided(seed: int, sizes: tuple[int, int, int]) -> tuple[Halves, Halves, Halves]:
    """The images to train on, to choose by, and to measure on; no image is in two of them."""
    every = digits()
    order = np.random.default_rng(seed).permutation(len(every.x))
    edges = np.cumsum([0, *sizes])
    a, b, c = (every.rows(order[i:j]) for i, j in pairwise(edges))
    return a, b, c


def measures(scores: Array, digit: Array) -> dict[str, float]:
    """What a ranking of all right halves is worth, for each left half (a row of scores), over all of them.

    ``precision_at_10`` and ``mean_average_precision``: a right half is relevant if it shows the same digit.
    ``median_rank``, ``recall_at_10`` and ``mean_reciprocal_rank``: only that of the very same image is.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    relevant = digit[order] == digit[:, None]
    precision = relevant.cumsum(1) / np.arange(1, len(scores) + 1)
    rank = 1 + (scores > np.diag(scores)[:, None]).sum(1)
    return {
        "precision_at_10": float(relevant[:, :FIRST].mean()),
        "mean_average_precision": float(((precision * relevant).sum(1) / relevant.sum(1)).mean()),
        "median_rank": float(np.median(rank)),
        "recall_at_10": float((rank <= FIRST).mean()),
        "mean_reciprocal_rank": float((1 / rank).mean()),
    }


def cosine(f: Array, g: Array) -> Array:
    f, g = (a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-12) for a in (f, g))
    return f @ g.T


def normal(f: Array, g: Array, s: Array) -> Array:
    """The logarithm of the density ratio of normal variables with these correlations."""
    c = s / (1 - s**2)
    return f * c @ g.T - 0.5 * ((f**2 @ (s * c))[:, None] + g**2 @ (s * c))


SCORES: dict[str, Callable[[Array, Array, Array], Array]] = {
    "density ratio": lambda f, g, s: f * s @ g.T,  # less its constant, 1
    "cosine": lambda f, g, s: cosine(f, g),
    "cosine, sqrt(sigma)": lambda f, g, s: cosine(f * np.sqrt(s), g * np.sqrt(s)),
    "cosine, sigma": lambda f, g, s: cosine(f * s, g * s),
    "normal": normal,
}


def scored(found: list[Functions]) -> Iterable[tuple[tuple[str, int], Array]]:
    """All kinds of scores with all numbers of functions, each the mean over the runs of a contender."""
    most = min(len(s) for _, _, s in found)
    for name, k in product(SCORES, sorted({k for k in LENGTHS if k < most} | {most})):
        parts = [SCORES[name](f[:, :k], g[:, :k], np.clip(s[:k], 1e-3, 0.999)) for f, g, s in found]
        yield (name, k), np.mean(parts, axis=0)


# Contenders ----------------------------------------------------------------------------------------------


class LinearCCA:
    """Canonical correlations of the pixels, with a ridge in units of their mean variance."""

    def __init__(self, data: Halves, ridge: float) -> None:
        self.means = data.x.mean(0), data.y.mean(0)
        A, B = (half - mean for half, mean in zip((data.x, data.y), self.means, strict=True))
        Wx, Wy = (self._whitener(half.T @ half / len(half), ridge) for half in (A, B))
        U, self.values, Vt = np.linalg.svd(Wx.T @ (A.T @ B / len(A)) @ Wy)
        self.maps = Wx @ U, Wy @ Vt.T

    @staticmethod
    def _whitener(C: Array, ridge: float) -> Array:
        e, V = np.linalg.eigh(C)
        return V / np.sqrt(e + ridge * e.mean())

    def functions(self, x: Array, y: Array) -> list[Functions]:
        f, g = ((half - mean) @ M for half, mean, M in zip((x, y), self.means, self.maps, strict=True))
        return [(f, g, self.values)]

    @property
    def numbers(self) -> int:
        return sum(a.size for a in (*self.means, *self.maps, self.values))


class KernelHalf:
    """The centred Gaussian kernel of one half on the training images, by its eigenvectors."""

    def __init__(self, points: Array, width: float) -> None:
        self.points, self.gamma = points, 1 / (2 * width**2)
        K = rbf_kernel(points, gamma=self.gamma)
        self.mean, self.whole = K.mean(0), K.mean()
        e, U = np.linalg.eigh(K - self.mean - self.mean[:, None] + self.whole)
        kept = e > 1e-10 * e[-1]
        self.variances, self.U = e[kept] / len(points), U[:, kept]

    def map(self, ridge: float, directions: Array) -> Array:
        """Coefficients of functions that are orthonormal on the training images but for the ridge."""
        size = np.sqrt(len(self.points) * self.variances * (self.variances + ridge))
        return self.U / size @ directions

    def at(self, points: Array) -> Array:
        K = rbf_kernel(points, self.points, gamma=self.gamma)
        return K - K.mean(1, keepdims=True) - self.mean + self.whole


KERNELS: dict[tuple[int, float], tuple[KernelHalf, KernelHalf]] = {}  # those of the last width


class KernelCCA:
    """Canonical correlations in the feature spaces of Gaussian kernels, with a ridge, in float64.

    The whole eigenproblem, by dense decompositions; the best 100 functions are kept.
    """

    def __init__(self, data: Halves, width: float, ridge: float) -> None:
        key = (id(data), width)
        if key not in KERNELS:
            KERNELS.clear()
            KERNELS[key] = (KernelHalf(data.x, width), KernelHalf(data.y, width))
        self.halves = KERNELS[key]
        white = [half.U * np.sqrt(half.variances / (half.variances + ridge)) for half in self.halves]
        U, s, Vt = np.linalg.svd(white[0].T @ white[1], full_matrices=False)
        self.values = s[: LENGTHS[-1]]
        self.maps = [
            half.map(ridge, directions[:, : LENGTHS[-1]])
            for half, directions in zip(self.halves, (U, Vt.T), strict=True)
        ]

    def functions(self, x: Array, y: Array) -> list[Functions]:
        f, g = (half.at(z) @ M for half, z, M in zip(self.halves, (x, y), self.maps, strict=True))
        return [(f, g, self.values)]

    @property
    def numbers(self) -> int:
        kept = [a for half in self.halves for a in (half.points, half.mean)]
        return sum(a.size for a in (*kept, *self.maps, self.values))


class Ours:
    """``nbsvd.solve`` on ``Conditional(Pairs(left, right))``; with several members, runs of several seeds."""

    def __init__(self, data: Halves, k: int, steps: int, members: int) -> None:
        problem = nbsvd.Problem(nbsvd.Conditional(Pairs(data.x, data.y)))
        self.results = [
            nbsvd.solve(problem, k, method="varpro", steps=steps, seed=seed, progress=False)
            for seed in range(members)
        ]

    def functions(self, x: Array, y: Array) -> list[Functions]:
        with torch.no_grad():
            return [
                (
                    r.right(torch.from_numpy(x)).double().numpy()[:, 1:],
                    r.left(torch.from_numpy(y)).double().numpy()[:, 1:],
                    r.values[1:].numpy(),
                )
                for r in self.results
            ]

    @property
    def numbers(self) -> int:
        sides = [side for r in self.results for side in (r.right_model, r.left_model)]
        return sum(p.nelement() for side in sides for p in side.parameters())


Fit = Callable[..., Any]
LINEAR, KERNEL, OURS = "linear CCA", "kernel CCA", "ours"
MEAN = "ours, mean of {members}"


def contender(name: str, quick: bool) -> tuple[Fit, list[dict[str, Any]]]:
    """How a contender is fitted, and the settings it may choose from."""
    if name == LINEAR:
        return LinearCCA, [{"ridge": ridge} for ridge in RIDGES]
    if name == KERNEL:
        widths, ridges = (WIDTHS[1:3], KERNEL_RIDGES[2:3]) if quick else (WIDTHS, KERNEL_RIDGES)
        return KernelCCA, [{"width": w, "ridge": r} for w, r in product(widths, ridges)]
    members = 1 if name == OURS else 2 if quick else MEMBERS
    settings = [{"k": 11}] if quick else [{"k": k} for k in COMPONENTS]
    return Ours, [s | {"steps": 10 if quick else STEPS, "members": members} for s in settings]


def names(quick: bool) -> list[str]:
    """All contenders that learn."""
    return [LINEAR, KERNEL, OURS, MEAN.format(members=2 if quick else MEMBERS)]


# One contender on one division ---------------------------------------------------------------------------


def pixels(test: Halves) -> dict[str, Any]:
    """Rankings that learn nothing: by chance; by the pixels; by those of the right half's mirror image."""
    mirrored = test.y.reshape(-1, 8, 4)[:, :, ::-1].reshape(test.y.shape)
    chance = np.random.default_rng(0).random((len(test.x), len(test.x)))
    rankings = {"chance": chance, "pixels": cosine(test.x, test.y), "mirrored": cosine(test.x, mirrored)}
    return {name: measures(scores, test.digit) for name, scores in rankings.items()}


def one(spec: dict[str, Any]) -> dict[str, Any]:
    """Choose by the validation part, fit again on all but the test part, and measure on that.

    Setting, score and number of functions are chosen twice: for the digit, and for the very other half.
    """
    torch.set_num_threads(spec["threads"])
    train, validation, test = divided(spec["seed"], tuple(spec["sizes"]))
    known = train.joined(validation)
    if spec["name"] == "pixels":
        return pixels(test)
    fit, settings = contender(spec["name"], spec["quick"])
    resting = forget()
    began, best = time.perf_counter(), dict[str, tuple[float, int, tuple[str, int]]]()
    for i, setting in enumerate(settings):
        found = fit(train, **setting).functions(validation.x, validation.y)
        for chosen, scores in scored(found):
            reached = measures(scores, validation.digit)
            for task, by in TASKS.items():
                if task not in best or reached[by] > best[task][0]:
                    best[task] = reached[by], i, chosen
    models: dict[int, Any] = {}
    seconds = []
    for i in sorted({i for _, i, _ in best.values()}):
        KERNELS.clear()  # a fit begins with nothing
        start = time.perf_counter()
        models[i] = fit(known, **settings[i])
        seconds.append(time.perf_counter() - start)
    told: dict[str, Any] = {
        "fit_seconds": float(np.mean(seconds)),
        "all_seconds": time.perf_counter() - began,
        "memory_mb": held() - resting,
    }
    for task, (reached_best, i, chosen) in best.items():
        scores = dict(scored(models[i].functions(test.x, test.y)))[chosen]
        told[task] = measures(scores, test.digit) | {
            "setting": settings[i],
            "score": chosen[0],
            "functions": chosen[1],
            "on_validation": reached_best,
        }
    model, many = models[best["digit"][1]], np.arange(NEW) % len(test.x)
    model.functions(test.x, test.y)
    resting, start = forget(), time.perf_counter()
    model.functions(test.x[many], test.y[many])
    return told | {
        "transform_seconds": time.perf_counter() - start,
        "transform_memory_mb": held() - resting,
        "model_mb": 8 * model.numbers / 2**20,
    }


in_a_process = partial(elsewhere, __file__)  # runs "one"


if __name__ == "__main__":
    print(json.dumps(one(json.loads(sys.argv[1]))))
