"""Accuracy, time and memory against the dimension: coupled oscillators, by varpro and by finite elements.

    python benchmarks/dimensions.py --record            all of it, twelve minutes
    python benchmarks/dimensions.py --dims 6 --seconds 300 --seeds 0 1 2
    python benchmarks/dimensions.py --quick             two seconds a run: to see that it runs

Unit oscillators in a row, each tied to the next by a spring of one half; k = d + 1, the ground state and the
d states with one quantum. Exact values are known in every dimension. Default settings throughout.

Finite elements (quadratic, on a box of half width 5) stop at three dimensions: their unknowns grow like n^d.
Each has several mesh sizes, so that the rate at which its error falls is seen: four is that of quadratic
elements. Memory is the most that a process holds beyond what it held when all packages were loaded.

Every run is a process of its own and is kept at once in ``_build/dimensions``; the same command goes on where
it was stopped.
"""

import argparse
import importlib.metadata
import json
import math
import os
import resource
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from _classical import chain, finite_elements, relative_max
from _machine import RUNS, Number, compare, describe, kept, provenance, quartiles, record, sources

import nbsvd

GRIDS = {1: (16, 32, 64), 2: (12, 24, 48), 3: (6, 9, 12)}  # intervals on each axis
HALF_WIDTH = 5.0
QUICK = 2.0


def peak_memory() -> float:
    """The most memory this process has held so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


# What a process of its own does --------------------------------------------------------------------------


def ours(dim: int, seed: int, seconds: float) -> dict[str, Any]:
    """Train for so many seconds and measure."""
    problem = nbsvd.problems.oscillator(K=chain(dim))
    try:
        result = nbsvd.solve(problem, dim + 1, method="varpro", seconds=seconds, seed=seed, progress=False)
    except nbsvd.TrainingDiverged as error:
        return {"seed": seed, "said": str(error)}
    if result.history.stopped == "interrupted":
        raise KeyboardInterrupt
    exact = problem.exact.values(dim + 1)  # type: ignore[union-attr]
    return {
        "seed": seed,
        "errors": result.errors(),
        "control": dict(result.control),
        "stderr_max": float((result.stderr / result.values.abs()).max()),
        "steps": result.info["steps"],
        "stopped": result.history.stopped,
        "seconds": round(result.info["seconds"], 2),
        "history": {
            "seconds": [round(t, 2) for t in result.history.seconds],
            "relative_max": [float(f"{relative_max(v, exact):.3g}") for v in result.history.values],
        },
    }


def theirs(dim: int, elements: int) -> dict[str, Any]:
    """Assemble and solve on one mesh."""
    problem = nbsvd.problems.oscillator(K=chain(dim))
    found = finite_elements(
        problem.operator.potential,  # type: ignore[attr-defined]
        dim,
        dim + 1,
        half_width=HALF_WIDTH,
        elements=elements,
        below=0.0,
    )
    exact = problem.exact.values(dim + 1)  # type: ignore[union-attr]
    return {
        "elements": elements,
        "unknowns": found["unknowns"],
        "seconds": round(found["seconds"], 3),
        "relative_max": relative_max(found["values"], exact),
    }


def work(job: dict[str, Any]) -> None:
    """Do one job and print what came of it."""
    torch.set_num_threads(job["threads"])
    held = peak_memory()
    if job["method"] == "varpro":
        done = ours(job["dim"], job["seed"], job["seconds"])
    else:
        done = theirs(job["dim"], job["elements"])
    print(json.dumps(done | {"memory_mib": round(peak_memory() - held, 1)}))


# All jobs ------------------------------------------------------------------------------------------------


def run(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A job from its file, or by a new process."""

    def make() -> dict[str, Any]:
        command = [sys.executable, __file__, "--worker", json.dumps(job)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(job["threads"])}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{job} stopped; what went before is kept")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    name = "-".join(str(part) for part in job.values())
    return kept(folder / f"{name}.json", job, make)


def error_of(one: dict[str, Any]) -> float:
    """The error of a run of ours; infinite for a run that failed."""
    return float(one["errors"]["relative_max"]) if "errors" in one else math.inf


def rates(grids: list[dict[str, Any]]) -> list[float]:
    """The powers of the mesh width with which the error falls from each mesh to the next."""
    return [
        math.log(a["relative_max"] / b["relative_max"]) / math.log(b["elements"] / a["elements"])
        for a, b in pairwise(grids)
    ]


HEAD = (
    f"{'d':>3}{'k':>4}  {'method':<34}{'seconds':>9}{'MiB':>8}{'relative_max':>14}{'worst':>10}"
    f"{'stderr':>10}{'untrained':>11}{'rate':>6}"
)


def tell(dim: int, row: dict[str, Any]) -> str:
    """The lines of one dimension."""
    runs, lines = row["ours"], []
    value, worst = quartiles([error_of(r) for r in runs])["median"], max(error_of(r) for r in runs)
    good = [r for r in runs if "errors" in r]
    at = f"{dim:>3}{dim + 1:>4}  "
    if good:
        lines.append(
            f"{at}{'varpro':<34}{max(r['seconds'] for r in good):>9.1f}"
            f"{max(r['memory_mib'] for r in good):>8.0f}{value:>14.1e}{worst:>10.1e}"
            f"{max(r['stderr_max'] for r in good):>10.0e}{good[0]['control']['relative_max']:>11.1e}"
        )
    else:
        lines.append(f"{at}varpro failed: {runs[0]['said'][:80]}")
    for grid, rate in zip(row["finite_elements"], [None, *row["rates"]], strict=False):
        label = f"finite elements, {grid['elements']}^{dim}, {grid['unknowns']} unknowns"
        lines.append(
            f"{at}{label:<34}{grid['seconds']:>9.1f}{grid['memory_mib']:>8.0f}{grid['relative_max']:>14.1e}"
            f"{'' if rate is None else f'{rate:.1f}':>37}"
        )
    return "\n".join(lines)


def numbers(report: dict[str, Any]) -> dict[str, Number]:
    """Our median error in each dimension."""
    setting = f"{report.get('limit_seconds')} s"
    return {
        f"d = {dim}, {setting}: error, median": Number(
            quartiles([error_of(r) for r in row["ours"]])["median"], "error"
        )
        for dim, row in report.get("rows", {}).items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dims", type=int, nargs="+", default=list(range(1, 11)))
    parser.add_argument("--seconds", type=float, default=60.0, help="of training, for each run of ours")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="two seconds a run, coarse meshes, no record")
    parser.add_argument("--record", action="store_true", help="keep the table in benchmarks/results")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker)
        return
    if args.quick and args.record:
        parser.error("--quick: runs of two seconds are not for the record")
    if min(args.dims) < 1 or not args.seconds > 0:
        parser.error("--dims and --seconds are positive")
    torch.set_num_threads(args.threads)
    seconds = QUICK if args.quick else args.seconds
    report = provenance("scikit-fem") | {"limit_seconds": seconds, "rows": {}}
    packages = {name: importlib.metadata.version(name) for name in ("scikit-fem", "scipy")}
    folder = RUNS / "dimensions"
    print(describe(report))
    print(HEAD)
    for dim in args.dims:
        job = {"method": "varpro", "dim": dim, "seconds": seconds, "threads": args.threads}
        found = [run(job | {"seed": seed}, folder / sources()) for seed in args.seeds]
        grids = []
        for elements in GRIDS.get(dim, ())[: 2 if args.quick else None]:
            mesh = {"method": "elements", "dim": dim, "elements": elements, "threads": args.threads}
            grids.append(run(mesh | packages, folder))
        row = {"ours": found, "finite_elements": grids, "rates": rates(grids)}
        report["rows"][str(dim)] = row
        print(tell(dim, row), flush=True)
    name = f"dimensions-{args.threads}threads"
    if not args.quick:
        compare(name, report, numbers)
    if args.record:
        print("Recorded in", record(name, report).name)


if __name__ == "__main__":
    main()
