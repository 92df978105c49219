"""Bounded operators beside what others would use: matrices that are there, kernels that are only sampled."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft
import scipy.sparse
import scipy.sparse.linalg
import torch
from _classical import Array, rotations
from _turns import Turn, table

import nbsvd
from nbsvd.measures import Gaussian
from nbsvd.operators import Integral

try:
    from sklearn.utils.extmath import randomized_svd
except ImportError:  # the rest is worth having without it
    randomized_svd = None

K = 10  # values of a matrix
DRAWN = (1000, 4000)  # points of a matrix that is made of a kernel


# Matrices ------------------------------------------------------------------------------------------------


def dense(n: int, seed: int) -> tuple[Any, Array]:
    """A matrix ``(2n, n)`` with singular values 1/i."""
    rng, values = np.random.default_rng(seed), 1 / np.arange(1.0, n + 1)
    U, V = (np.linalg.qr(rng.normal(size=(m, n)))[0] for m in (2 * n, n))
    return U * values @ V.T, values[:K]


def symmetric(n: int, seed: int) -> tuple[Any, Array]:
    """A symmetric matrix with eigenvalues 1/i^2."""
    A, values = dense(n, seed)
    return A.T @ A, values**2


def sparse(n: int, seed: int) -> tuple[Any, Array]:
    """A sparse matrix with singular values 1/i, at most 64 entries in a row."""
    rng, values = np.random.default_rng(seed), 1 / np.arange(1.0, n + 1)
    A = rotations(n, 3, rng) @ scipy.sparse.diags_array(values) @ rotations(n, 3, rng)
    return A.tocsr(), values[:K]


def operator(n: int, seed: int) -> tuple[Any, Array]:
    """A ``LinearOperator`` with singular values 1/i: cosine transform, a product, inverse sine transform."""
    values = 1 / np.arange(1.0, n + 1)
    order = np.random.default_rng(seed).permutation(n)
    s, dct, idct, dst, idst = (
        values[order],
        *(
            lambda x, f=f: f(x.ravel(), norm="ortho")
            for f in (scipy.fft.dct, scipy.fft.idct, scipy.fft.dst, scipy.fft.idst)
        ),
    )
    return scipy.sparse.linalg.LinearOperator(
        (n, n), matvec=lambda x: idst(s * dct(x)), rmatvec=lambda x: idct(s * dst(x)), dtype=float
    ), values[:K]


MATRICES = {
    "svds, dense": (dense, (200, 400)),
    "svds, sparse": (sparse, (400, 1600)),
    "svds, LinearOperator": (operator, (400, 1600)),
    "eigsh, dense": (symmetric, (200, 400)),
}


def solvers(label: str) -> dict[str, Callable[[Any, int], Any]]:
    if label.startswith("eigsh"):
        return {
            "ours": lambda A, seed: nbsvd.eigsh(A, K, seed=seed, progress=False)[0],
            "SciPy eigsh": lambda A, seed: scipy.sparse.linalg.eigsh(A, K, which="LA")[0],
        }
    found: dict[str, Callable[[Any, int], Any]] = {
        "ours": lambda A, seed: nbsvd.svds(A, K, seed=seed, progress=False)[1],
        "SciPy svds": lambda A, seed: scipy.sparse.linalg.svds(A, K)[1],
    }
    if randomized_svd is not None:
        found["scikit-learn randomized_svd"] = lambda A, seed: randomized_svd(A, K, random_state=seed)[1]
    return found


def matrices(seeds: list[int], quick: bool) -> dict[str, Any]:
    report = {}
    for label, (make, sizes) in MATRICES.items():
        for n in sizes[: 1 if quick else None]:
            turns = {name: Turn() for name in solvers(label)}
            for seed in seeds:
                A, exact = make(n, seed)
                for name, solve in solvers(label).items():
                    turns[name].take(
                        lambda solve=solve, A=A, seed=seed: solve(A, seed), exact, name != "ours"
                    )
            report[f"{label}, n = {n}"] = table(f"{label}, n = {n}, k = {K}", turns)
    ahead = [
        1 / row["its_time_over_ours"]["median"]
        for rows in report.values()
        for label, row in rows.items()
        if label.startswith("SciPy")
    ]
    if min(ahead) > 1:
        print(f"\n  SciPy wins on all of these: {min(ahead):.0f} to {max(ahead):.0f} times as fast.")
    return report


# Operators that are only sampled -------------------------------------------------------------------------


def kernel6() -> tuple[Integral, Array]:
    """A Gaussian kernel under the normal law in six dimensions; its values are products."""
    length, dim, k = 2.0, 6, 7
    one = nbsvd.exact.GaussianKernel(length, 1.0).values(4).tolist()
    products = sorted((math.prod(c) for c in itertools.product(one, repeat=dim)), reverse=True)
    T = Integral(
        lambda x, y: torch.exp(-(torch.cdist(x, y) ** 2) / (2 * length**2)),
        Gaussian(dim),
        self_adjoint=True,
    )
    return T, np.asarray(products[:k])


def volterra() -> tuple[Integral, Array]:
    """Integration from 0, on the unit interval."""
    problem = nbsvd.problems.volterra()
    assert isinstance(problem.operator, Integral)
    return problem.operator, problem.exact.values(5).numpy()  # type: ignore[union-attr]


def of_points(T: Integral, k: int, n: int, kind: Any, seed: int) -> Array:
    """The values of the matrix that a kernel makes on points, by SciPy's svds."""
    x, y = (
        measure.nodes(n, kind=kind, generator=torch.Generator().manual_seed(2 * seed + side))
        for side, measure in enumerate((T.measure_x, T.measure_x if T.self_adjoint else T.measure_y))
    )
    y = x if T.self_adjoint or kind == "quadrature" else y
    scale = [(z.weights / len(z)).sqrt().double() for z in (y, x)]
    A = scale[0][:, None] * T.matrix(x.x, y.x).t().double() * scale[1]
    return scipy.sparse.linalg.svds(A.numpy(), k)[1]


SAMPLED: dict[str, tuple[Callable[[], tuple[Integral, Array]], dict[str, str]]] = {
    "Gaussian kernel in six dimensions": (kernel6, {"drawn": "iid", "Sobol": "sobol"}),
    "Volterra": (volterra, {"quadrature": "quadrature"}),
}


def sampled(seeds: list[int], seconds: float, quick: bool) -> dict[str, Any]:
    report = {}
    for label, (make, kinds) in SAMPLED.items():
        T, exact = make()
        k = len(exact)
        contenders: dict[str, Callable[[int], Any]] = {
            f"ours (varpro, {seconds:g} s)": lambda seed, T=T, k=k: (
                nbsvd.solve(
                    nbsvd.Problem(T), k, method="varpro", seconds=seconds, seed=seed, progress=False
                ).values
            ),
            "SciPy svds, of the operator": lambda seed, T=T, k=k: scipy.sparse.linalg.svds(T, k)[1],
        }
        for n in DRAWN[: 1 if quick else None]:
            for name, kind in kinds.items():
                contenders[f"SciPy svds, of {n} points ({name})"] = lambda seed, T=T, k=k, n=n, kind=kind: (
                    of_points(T, k, n, kind, seed)
                )
        turns = {name: Turn() for name in contenders}
        for seed in seeds:
            for name, solve in contenders.items():
                turns[name].take(
                    lambda solve=solve, seed=seed: solve(seed), exact, not name.startswith("ours")
                )
        report[label] = table(f"{label}, k = {k}", turns)
    return report
