"""Ours beside what others would use, in one process: two differential operators, matrices, one step.

    python benchmarks/side_by_side.py --threads 2 --record      about half an hour
    python benchmarks/side_by_side.py --quick                   a minute, to see that it runs

* **Atom, oscillator**: ``method="varpro"`` and ``"sgd"`` at their default settings for a fixed time over
  seeds, beside quadratic finite elements (scikit-fem, graded mesh, shift and invert) of several sizes. The
  ratio is
  that of the errors: finite elements of about the same time over ours.
* **Matrices**: ``nbsvd.svds`` and ``eigsh`` beside SciPy's and beside the randomized SVD of
  ``torch.svd_lowrank``. The ratio is that of the times. SciPy mostly wins, by far: a matrix that is there is
  its ground. An operator that is only sampled has no matrix to give it.
* **One step** at the paper's setting beside two finite-difference references (``benchmarks/step.py``).

Ratios are medians over seeds with their spread; each is compared with the last recorded run.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from _classical import finite_elements, relative_max
from _machine import describe, keep_freed_memory, last, provenance, record
from step import Step, as_published, floor, network, ours, spread, take_turns, value_only

import nbsvd

PROBLEMS: dict[str, dict[str, Any]] = {
    "hydrogen2d": {"k": 9, "fem": {"half_width": 80.0, "grading": 3.0, "below": -1.1}, "sizes": (24, 40, 64)},
    "oscillator2d": {
        "k": 10,
        "fem": {"half_width": 7.0, "grading": 1.0, "below": 1.9},
        "sizes": (16, 32, 64),
    },
}


def quartiles(values: list[float]) -> dict[str, float]:
    """Median and spread, of a single value too."""
    return spread(values) if len(values) > 1 else dict.fromkeys(("low", "median", "high"), values[0])


def line(label: str, seconds: float, errors: list[float], ratio: dict[str, float] | None = None) -> None:
    shown = f"{ratio['median']:>12.3g}{ratio['low']:>10.2g} -{ratio['high']:>9.2g}" if ratio else ""
    print(
        f"  {label:<34}{seconds:>9.2f}{statistics.median(errors):>11.1e}{max(errors):>11.1e}{shown}",
        flush=True,
    )


def differential(args: argparse.Namespace) -> dict[str, Any]:
    report = {}
    for name, setting in PROBLEMS.items():
        problem = nbsvd.problems.get(name)
        exact = problem.exact.values(setting["k"])  # type: ignore[union-attr]
        print(f"\n{name}, k = {setting['k']}")
        print(f"  {'':<34}{'seconds':>9}{'median':>11}{'worst':>11}{'FEM / it':>12}{'spread':>21}")
        grids = []
        for elements in setting["sizes"][: 1 if args.quick else None]:
            one = finite_elements(
                problem.operator.potential,  # type: ignore[attr-defined]
                2,
                setting["k"],
                elements=elements,
                **setting["fem"],
            )
            one["relative_max"] = relative_max(one.pop("values"), exact)
            grids.append(one)
            line(f"finite elements, {one['unknowns']} unknowns", one["seconds"], [one["relative_max"]])
        rows = {}
        for method, limit in ("varpro", args.varpro), ("sgd", args.sgd):
            runs = []
            for seed in args.seeds:
                result = nbsvd.solve(
                    name, setting["k"], method=method, seconds=limit, seed=seed, progress=False
                )
                runs.append(
                    {
                        "seed": seed,
                        "seconds": result.info["seconds"],
                        "steps": result.info["steps"],
                        "errors": result.errors(),
                        "control": dict(result.control),
                    }
                )
            errors = [r["errors"]["relative_max"] for r in runs]
            seconds = statistics.median(r["seconds"] for r in runs)
            nearest = min(grids, key=lambda g, s=seconds: abs(np.log(g["seconds"] / s)))
            ratio = quartiles([nearest["relative_max"] / e for e in errors])
            line(method, seconds, errors, ratio)
            control = [r["control"]["relative_max"] for r in runs]
            line("  untrained trunk (control)", 0.0, control)
            rows[method] = {"runs": runs, "fem_error_over_ours": ratio, "fem_unknowns": nearest["unknowns"]}
        report[name] = {"finite_elements": grids, **rows}
    return report


def matrix(rows: int, columns: int, seed: int) -> torch.Tensor:
    """A dense matrix with singular values 1/i."""
    generator = torch.Generator().manual_seed(seed)
    U, V = (
        torch.linalg.qr(torch.randn(n, columns, generator=generator, dtype=torch.float64)).Q
        for n in (rows, columns)
    )
    return U @ torch.diag(1 / torch.arange(1.0, columns + 1, dtype=torch.float64)) @ V.t()


def timed(function: Callable[[], Any]) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    values = np.sort(np.asarray(function(), dtype=float))[::-1]
    return time.perf_counter() - start, values


def matrices(args: argparse.Namespace) -> dict[str, Any]:
    k, rows, columns = 10, 800, 400
    found: dict[str, dict[str, list[float]]] = {}
    for seed in args.seeds:
        A = matrix(rows, columns, seed)
        exact = 1 / np.arange(1, k + 1)
        S = A.t() @ A
        sparse = scipy.sparse.random(2000, 2000, density=2e-3, random_state=seed, format="csr")
        known = scipy.sparse.linalg.svds(sparse, k, solver="arpack", return_singular_vectors=False)
        known = np.sort(known)[::-1]
        contenders: dict[str, tuple[Callable[[], Any], np.ndarray]] = {
            "svds: ours": (lambda A=A: nbsvd.svds(A, k, progress=False)[1], exact),
            "svds: SciPy": (lambda A=A: scipy.sparse.linalg.svds(A.numpy(), k)[1], exact),
            "svds: randomized (torch)": (lambda A=A: torch.svd_lowrank(A, q=2 * k, niter=4)[1][:k], exact),
            "eigsh: ours": (lambda S=S: nbsvd.eigsh(S, k, progress=False)[0], exact**2),
            "eigsh: SciPy": (lambda S=S: scipy.sparse.linalg.eigsh(S.numpy(), k)[0], exact**2),
            "sparse svds: ours": (lambda B=sparse: nbsvd.svds(B, k, progress=False)[1], known),
            "sparse svds: SciPy": (lambda B=sparse: scipy.sparse.linalg.svds(B, k)[1], known),
        }
        for name, (function, values) in contenders.items():
            seconds, got = timed(function)
            own = found.setdefault(name, {"seconds": [], "relative_max": []})
            own["seconds"].append(seconds)
            own["relative_max"].append(float(np.abs((got - values) / values).max()))
    print(f"\nMatrices, k = {k}: {rows} x {columns} with values 1/i; sparse 2000 x 2000")
    print(f"  {'':<34}{'seconds':>9}{'median':>11}{'worst':>11}{'ours / it':>12}{'spread':>21}")
    for name, own in found.items():
        mine = found[name.split(":")[0] + ": ours"]["seconds"]
        own["time_ours_over_it"] = quartiles([m / t for m, t in zip(mine, own["seconds"], strict=True)])  # type: ignore[assignment]
        line(name, statistics.median(own["seconds"]), own["relative_max"], own["time_ours_over_it"])  # type: ignore[arg-type]
    return found


def steps(args: argparse.Namespace) -> dict[str, Any]:
    f = network()
    contenders: dict[str, Callable[[], None]] = {
        "(a) as published": Step(f, as_published),
        "(b) value only": Step(f, value_only),
        "(c) ours": Step(f, ours),
        "(e) floor": floor(),
    }
    times = take_turns(contenders, 3 if args.quick else 25, 10)
    print("\nOne step at the paper's setting")
    report = {}
    for name, own in times.items():
        ratio = spread([t / o for t, o in zip(times["(a) as published"], own, strict=True)])
        report[name] = {"ms": spread(own), "faster_than_a": ratio}
        print(f"  {name:<34}{report[name]['ms']['median']:>9.2f} ms{ratio['median']:>10.2f}x of (a)", end="")
        print(f"{ratio['low']:>8.2f} -{ratio['high']:>6.2f}")
    return report


def ratios(report: dict[str, Any]) -> dict[str, dict[str, float]]:
    """All ratios that say how we stand, larger is better, by name."""
    found = {
        f"{name}, {method}: finite elements' error over ours": report["differential"][name][method][
            "fem_error_over_ours"
        ]
        for name in report["differential"]
        for method in ("varpro", "sgd")
    }
    found["one step: faster than (a)"] = report["steps"]["(c) ours"]["faster_than_a"]
    for name, own in report["matrices"].items():
        if not name.endswith("ours"):
            r = own["time_ours_over_it"]
            found[f"{name}: its time over ours"] = {
                "low": 1 / r["high"],
                "median": 1 / r["median"],
                "high": 1 / r["low"],
            }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Ours beside what others would use.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--varpro", type=float, default=15.0, help="seconds of each varpro run")
    parser.add_argument("--sgd", type=float, default=40.0, help="seconds of each sgd run")
    parser.add_argument(
        "--quick", action="store_true", help="two seconds a run, two seeds: not for the record"
    )
    parser.add_argument("--record", action="store_true", help="keep the report in benchmarks/results")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.varpro, args.sgd, args.record = args.seeds[:2], 2.0, 2.0, False
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    report, name = provenance("scikit-fem"), f"side-by-side-{args.threads}threads"
    print(describe(report))
    report |= {"differential": differential(args), "matrices": matrices(args), "steps": steps(args)}
    report["ratios"] = ratios(report)
    before = last(name)
    if before:
        print(f"\nBeside the run of {before['date'][:10]}:")
        for key, now in report["ratios"].items():
            then = before["ratios"].get(key)
            if then is None:
                continue
            worse = now["high"] < then["low"]
            word = "WORSE, beyond the spread" if worse else "no worse"
            print(f"  {key:<64}{then['median']:>10.3g} ->{now['median']:>10.3g}  {word}")
    if args.record:
        print("Recorded in", record(name, report).name)


if __name__ == "__main__":
    main()
