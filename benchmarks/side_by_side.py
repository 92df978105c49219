"""Ours beside what others would use, in one process, taking turns: differential operators, matrices, samples.

    python benchmarks/side_by_side.py --threads 2 --record      about seven minutes
    python benchmarks/side_by_side.py --quick                   under a minute, to see that it runs

* **Differential operators**: ``method="varpro"`` at its default settings beside finite elements of
  scikit-fem on the atom, the oscillator and the well in the plane. Meshes of several sizes, with a box and a
  grading that no other improves on; biquadratic elements, and one mesh of order four. For each of them: its
  error over ours, and its time over the time that ours needs to the same error. Finite elements that use the
  symmetry (one radial problem for each angular number, or sums of values on a line) stand below. They win by
  far, wherever there is a symmetry and somebody knows it.
* **Matrices**: ``nbsvd.svds`` and ``eigsh`` beside SciPy's and beside scikit-learn's ``randomized_svd``. A
  matrix that is there is their ground: they win by far.
* **Operators that are only sampled**: there is no matrix to give to the others. What can be done instead is
  to make one of the kernel's values on a set of points.

One training step beside two finite-difference references is a benchmark of its own, ``step.py``.

The seeds are the rounds: in each of them every contender has its turn. Ratios are medians over the rounds
with quartiles, and above one where we are ahead.
"""

import argparse
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.fft
import scipy.sparse
import scipy.sparse.linalg
import torch
from _classical import (
    Array,
    Potential,
    finite_elements,
    product_elements,
    radial_elements,
    relative_max,
    rotations,
)
from _machine import Number, compare, describe, keep_freed_memory, last, provenance, quartiles, record

import nbsvd
from nbsvd.measures import Gaussian
from nbsvd.operators import Integral

try:
    from sklearn.utils.extmath import randomized_svd
except ImportError:  # the rest is worth having without it
    randomized_svd = None

K = 10  # values of a matrix
DRAWN = (1000, 4000)  # points of a matrix that is made of a kernel


@dataclass(frozen=True)
class Plane:
    """A problem in the plane, the meshes for it, and the finite elements that know its symmetry."""

    k: int
    mesh: dict[str, float]  # the box, the grading, an energy below the lowest
    meshes: tuple[tuple[int, int], ...]  # order of the elements, intervals on an axis
    symmetric: dict[str, float]
    line: Potential | None = None  # v, where V is v(x) + v(y); otherwise V depends on the radius alone


PLANES = {
    "hydrogen2d": Plane(
        9,
        {"half_width": 80.0, "grading": 4.0, "below": -1.1},
        ((2, 32), (2, 64), (2, 104), (4, 24)),
        {"half_width": 120.0, "grading": 3.0, "below": -1.1, "elements": 400},
    ),
    "oscillator2d": Plane(
        10,
        {"half_width": 7.0, "below": 1.9},
        ((2, 32), (2, 64), (2, 104), (4, 16)),
        {"half_width": 8.0, "grading": 1.0, "below": 1.9, "elements": 800},
    ),
    "infinite_well2d": Plane(
        9,
        {"half_width": 1.0, "below": 0.0},
        ((2, 32), (2, 64), (2, 104), (4, 12)),
        {"half_width": 1.0, "below": 0.0, "elements": 400},
        lambda x: torch.zeros_like(x[:, 0]),
    ),
}


@dataclass
class Turn:
    """One contender's runs: seconds and largest relative error of each round; or why it can't run."""

    seconds: list[float] = field(default_factory=list)
    relative_max: list[float] = field(default_factory=list)
    refused: str | None = None

    def take(self, function: Callable[[], Any], exact: Array, may_refuse: bool) -> None:
        """Let it have a turn; one of the others may raise an error: it was not made for this input."""
        start = time.perf_counter()
        try:
            found = np.sort(np.asarray(function(), dtype=float))[::-1]
        except (TypeError, ValueError) as error:
            if not may_refuse:
                raise
            self.refused = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            return
        self.seconds.append(time.perf_counter() - start)
        self.relative_max.append(float(np.abs((found - exact) / exact).max()))


def shown(of: dict[str, float], form: str = ".3g") -> str:
    """Median and quartiles; of a single round the number alone."""
    low, median, high = (format(of[key], form) for key in ("low", "median", "high"))
    return median if low == high else f"{median} ({low} to {high})"


def heading(title: str, *columns: str) -> None:
    print(f"\n{title}\n  {'median (quartiles)':<38}" + "".join(f"{c:>30}" for c in columns), flush=True)


def line(label: str, *cells: str) -> None:
    print(f"  {label:<38}" + "".join(f"{c:>30}" for c in cells), flush=True)


# Differential operators ----------------------------------------------------------------------------------


def ours(name: str, k: int, seconds: float, seed: int) -> dict[str, Any]:
    """One run by variable projection: final errors, and its way there."""
    result = nbsvd.solve(name, k, method="varpro", seconds=seconds, seed=seed, progress=False)
    exact = result.exact.values(k)  # type: ignore[union-attr]
    return {
        "seed": seed,
        "seconds": result.info["seconds"],
        "errors": result.errors(),
        "control": dict(result.control),
        "history": [result.history.seconds, [relative_max(v, exact) for v in result.history.values]],
    }


def seconds_to(run: dict[str, Any], error: float) -> float:
    """When a run first was as good as an error, on the nodes of its check; infinite if it never was."""
    return next((s for s, e in zip(*run["history"], strict=True) if e <= error), math.inf)


def plane(name: str, setting: Plane, seeds: list[int], seconds: float, quick: bool) -> dict[str, Any]:
    problem = nbsvd.problems.get(name)
    potential = problem.operator.potential  # type: ignore[attr-defined]
    exact, k = problem.exact.values(setting.k), setting.k  # type: ignore[union-attr]
    grids: dict[str, Callable[[], dict[str, Any]]] = {}
    for order, elements in setting.meshes[: 1 if quick else None]:
        mesh = {"order": order, "elements": elements, **setting.mesh}
        grids[f"finite elements {elements}^2, order {order}"] = lambda mesh=mesh: finite_elements(
            potential, 2, k, **mesh
        )
    if setting.line is None:
        grids["radial, symmetry known"] = lambda: radial_elements(potential, k, **setting.symmetric)
    else:
        grids["sums on a line, symmetry known"] = lambda: product_elements(
            setting.line, k, **setting.symmetric
        )
    runs: list[dict[str, Any]] = []
    found: dict[str, list[dict[str, Any]]] = {label: [] for label in grids}
    for seed in seeds:
        runs.append(ours(name, k, seconds, seed))
        for label, solve in grids.items():
            one = solve()
            found[label].append(one | {"relative_max": relative_max(one.pop("values"), exact)})
    own = {
        "seconds": quartiles([r["seconds"] for r in runs]),
        "relative_max": quartiles([r["errors"]["relative_max"] for r in runs]),
        "control": quartiles([r["control"]["relative_max"] for r in runs]),
    }
    heading(
        f"{name}, k = {k}", "seconds", "largest relative error", "its error / ours", "its time / ours to it"
    )
    line(f"varpro, {seconds:g} s", shown(own["seconds"]), shown(own["relative_max"], ".1e"))
    line("  its trunk untrained (control)", "", shown(own["control"], ".1e"))
    rows = {}
    for label, theirs in found.items():
        error = theirs[0]["relative_max"]
        rows[label] = {
            "unknowns": theirs[0]["unknowns"],
            "seconds": quartiles([t["seconds"] for t in theirs]),
            "relative_max": error,
            "its_error_over_ours": quartiles([error / r["errors"]["relative_max"] for r in runs]),
            "its_time_over_ours": quartiles(
                [t["seconds"] / seconds_to(r, error) for t, r in zip(theirs, runs, strict=True)]
            ),
        }
        row = rows[label]
        late = row["its_time_over_ours"]["median"] == 0  # ours did not get there
        line(
            label,
            shown(row["seconds"]),
            f"{error:.1e}",
            shown(row["its_error_over_ours"]),
            "ours never got there" if late else shown(row["its_time_over_ours"]),
        )
    wins = [label for label, row in rows.items() if row["its_time_over_ours"]["median"] < 1]
    print(f"  Finite elements are faster to their own error: {'; '.join(wins) or 'none'}.")
    meshes = [row["its_error_over_ours"]["median"] for label, row in rows.items() if "^2" in label]
    better = (
        f"{min(meshes):.3g} times ours"
        if min(meshes) > 1
        else f"{1 / min(meshes):.3g} times smaller than ours"
    )
    print(f"  The least error of a mesh in the plane is {better} after {seconds:g} s.", flush=True)
    return {
        "k": k,
        "seconds": seconds,
        "varpro": own | {"runs": runs},
        "finite_elements": rows,
        "wins": wins,
    }


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


def table(title: str, turns: dict[str, Turn]) -> dict[str, Any]:
    """Print contenders beside ours, which is the first of them, and return their numbers."""
    heading(title, "seconds", "largest relative error", "its time / ours")
    mine, *_ = turns.values()
    rows: dict[str, Any] = {}
    for label, turn in turns.items():
        if turn.refused:
            rows[label] = {"refused": turn.refused}
            print(f"  {label:<38}        can't run: {turn.refused[:70]}", flush=True)
            continue
        ahead = [t / m for t, m in zip(turn.seconds, mine.seconds, strict=True)]
        row = rows[label] = {
            "seconds": quartiles(turn.seconds),
            "relative_max": quartiles(turn.relative_max),
            "its_time_over_ours": quartiles(ahead),
        }
        cells = [
            shown(row["seconds"]),
            shown(row["relative_max"], ".1e"),
            shown(row["its_time_over_ours"], ".2g"),
        ]
        line(label, *cells[: 2 if turn is mine else 3])
    return rows


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


# All together --------------------------------------------------------------------------------------------


def numbers(report: dict[str, Any]) -> dict[str, Number]:
    """All numbers that say how we stand."""
    found = {}
    for name, own in report.get("plane", {}).items():
        setting = f"{name}, {own['seconds']:g} s"
        found[f"{setting}: error of varpro"] = Number(own["varpro"]["relative_max"]["median"], "error")
        for label, row in own["finite_elements"].items():
            found[f"{setting}: {label}, its error / ours"] = Number(
                row["its_error_over_ours"]["median"], "ratio"
            )
            found[f"{setting}: {label}, its time / ours"] = Number(
                row["its_time_over_ours"]["median"], "ratio"
            )
    for label, rows in report.get("matrices", {}).items():
        for name, row in rows.items():
            if name == "ours":
                found[f"{label}: seconds of ours"] = Number(row["seconds"]["median"], "time")
                found[f"{label}: error of ours"] = Number(row["relative_max"]["median"], "error")
            elif "refused" not in row:
                found[f"{label}: {name}, its time / ours"] = Number(
                    row["its_time_over_ours"]["median"], "ratio"
                )
    for label, rows in report.get("sampled", {}).items():
        for name, row in rows.items():
            if name.startswith("ours"):
                found[f"{label}: error of {name}"] = Number(row["relative_max"]["median"], "error")
    return found


PARTS = ("plane", "matrices", "sampled")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one for each round")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each varpro run")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts alone")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, 2 s a run, one seed: not for the record"
    )
    parser.add_argument("--record", action="store_true", help="keep the report in benchmarks/results")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.seconds, args.record = args.seeds[:1], 2.0, False
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    packages = ["scikit-fem"] if randomized_svd is None else ["scikit-fem", "scikit-learn"]
    report, name = provenance(*packages), f"side_by_side-{args.threads}threads"
    report["seeds"] = args.seeds
    print(describe(report))
    if randomized_svd is None:
        print("scikit-learn is not installed: its randomized SVD is left out.")
    if "plane" in args.only:
        report["plane"] = {
            problem: plane(problem, setting, args.seeds, args.seconds, args.quick)
            for problem, setting in PLANES.items()
        }
    if "matrices" in args.only:
        report["matrices"] = matrices(args.seeds, args.quick)
    if "sampled" in args.only:
        report["sampled"] = sampled(args.seeds, min(args.seconds, 10.0), args.quick)
    step = last(f"step-paper-{args.threads}threads")
    print("\nOne training step beside finite differences: python benchmarks/step.py", end="")
    if step:
        ahead = step["steps"]["(c) ours"]["faster_than_a"]["median"]
        print(f" ({ahead:.1f} times as fast as (a) on {step['date'][:10]})", end="")
    print()
    compare(name, report, numbers)
    if args.record:
        print("Recorded in", record(name, report).name)


if __name__ == "__main__":
    main()
