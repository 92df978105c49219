"""Who competes in dimension reduction, on what, and how each is measured in a process of its own."""

import contextlib
import json
import math
import pickle
import resource
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _machine import in_a_process as elsewhere
from scipy.sparse.linalg import eigsh
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, KernelPCA
from sklearn.kernel_approximation import Nystroem
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.pipeline import make_pipeline

from nbsvd.sklearn import NeuralSVD

K = 4
HELD_OUT = 2000
NEW = 10_000  # points whose time is told


def surface(n: int, seed: int) -> np.ndarray:
    """Points of a curved surface in 20 dimensions, with a little noise off it."""
    shape = np.random.default_rng(0)
    W, V = shape.normal(size=(2, 20)), shape.normal(size=(20, 20)) / math.sqrt(20)
    rng = np.random.default_rng([1, seed])
    return np.tanh(rng.uniform(-1, 1, size=(n, 2)) @ W) @ V + 0.02 * rng.normal(size=(n, 20))


def data(name: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to learn from, and others."""
    if name == "surface":
        return surface(n, 0), surface(HELD_OUT, 1)
    X = load_digits().data
    X = X[np.random.default_rng(0).permutation(len(X))]
    return X[:n], X[n : n + HELD_OUT]


def width(X: np.ndarray) -> float:
    """Gamma, one over the number of features times their variance."""
    return float(1 / (X.shape[1] * X.var()))


# Who competes --------------------------------------------------------------------------------------------


def contender(name: str, gamma: float, seed: int, **options: Any) -> Any:
    """An estimator that is not fitted yet."""
    if name == "NeuralSVD":
        return NeuralSVD(K, gamma=gamma, center=True, random_state=seed, **options)
    if name.startswith("KernelPCA"):
        solver = "arpack" if name.endswith("ARPACK") else "randomized"
        return KernelPCA(K, kernel="rbf", gamma=gamma, eigen_solver=solver, random_state=seed)
    landmarks = int(name.split()[1])
    features = Nystroem(kernel="rbf", gamma=gamma, n_components=landmarks, random_state=seed)
    return make_pipeline(features, PCA(K, svd_solver="full"))


def exact_scores(X: np.ndarray, Z: np.ndarray, gamma: float, center: bool = True) -> np.ndarray:
    """The scores of Z, from eigenvectors of the kernel matrix of X."""
    matrix, new = rbf_kernel(X, gamma=gamma), rbf_kernel(Z, X, gamma=gamma)
    if center:
        means = matrix.mean(0)
        new -= new.mean(1, keepdims=True) + means - means.mean()
        matrix -= means
        matrix -= means[:, None] - means.mean()
    values, vectors = eigsh(matrix, K, v0=np.ones(len(X)) + np.arange(len(X)) % 7, tol=1e-10)
    order = np.argsort(values)[::-1]
    return new @ vectors[:, order] / np.sqrt(values[order])


def apart(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest distance of a score from the expected one, as a share of it, whatever its sign."""
    signs = np.sign((found * expected).sum(0))
    away = np.linalg.norm(found * signs - expected, axis=0) / np.linalg.norm(expected, axis=0)
    return float(away.max())


def angles(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The sine of the angle between each function and the expected one."""
    cosines = (found * expected).sum(0) / (np.linalg.norm(found, axis=0) * np.linalg.norm(expected, axis=0))
    return np.sqrt(np.maximum(0.0, 1 - cosines**2))


def share(scores: np.ndarray, Z: np.ndarray, gamma: float) -> float:
    """What the span of the scores explains of the centred kernel of Z, as a share of its trace."""
    matrix = rbf_kernel(Z, gamma=gamma)
    matrix -= matrix.mean(0)
    matrix -= matrix.mean(1)[:, None]
    Q = np.linalg.qr(scores - scores.mean(0))[0]
    return float(np.trace(Q.T @ matrix @ Q) / np.trace(matrix))


def held() -> float:
    """The most memory that this process has held, in MB, where it can be since the last :func:`forget`."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells there has the parent's memory in it
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        if "VmHWM" in lines:
            return float(lines["VmHWM"].split()[0]) / 2**10
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def forget() -> float:
    """Let the most memory be what is held now, where the system can; return it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return held()


def measured(
    name: str, X: np.ndarray, Z: np.ndarray, seed: int, options: dict[str, Any]
) -> tuple[dict[str, float], Any]:
    """Fit one contender; return what it and new points cost, and the fitted estimator."""
    model = contender(name, width(X), seed, **(options if name == "NeuralSVD" else {}))
    before, began = forget(), time.perf_counter()
    model.fit(X)
    seconds, most = time.perf_counter() - began, held()
    new = np.resize(Z, (NEW, Z.shape[1]))
    model.transform(new[:100])
    resting, began = forget(), time.perf_counter()
    model.transform(new)
    spent, peak = time.perf_counter() - began, held()
    return {
        "fit_seconds": seconds,
        "fit_memory_mb": most - before,
        "transform_seconds": spent,
        "transform_memory_mb": peak - resting,
        "model_mb": len(pickle.dumps(model)) / 2**20,
    }, model


def one(spec: dict[str, Any]) -> dict[str, Any]:
    """Fit one contender and measure it, in a process of its own."""
    torch.set_num_threads(spec["threads"])
    X, Z = data(spec["set"], spec["rows"])
    gamma = width(X)
    if spec["name"] == "exact":
        np.save(spec["file"], exact_scores(X, Z, gamma))
        return {}
    found, model = measured(spec["name"], X, Z, spec["seed"], spec["options"])
    scores, expected = model.transform(Z), np.load(spec["file"])
    return found | {
        "score_error": apart(scores, expected),
        "angle_max": float(angles(scores, expected).max()),
        "held_out_share": share(scores, Z, gamma),
        "exact_share": share(expected, Z, gamma),
    }


in_a_process = partial(elsewhere, __file__)  # runs "one"


if __name__ == "__main__":
    print(json.dumps(one(json.loads(sys.argv[1]))))
