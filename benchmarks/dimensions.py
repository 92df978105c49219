"""Error and time against the dimension: coupled oscillators, by varpro and by finite elements.

    python benchmarks/dimensions.py --seconds 60 --threads 2 --record

Unit oscillators in a row, each tied to the next by a spring of one half; k = d + 1, the ground state and the
d states with one quantum. Exact values are known in every dimension. Finite elements (quadratic, on a box of
half width 6) stop at three: their unknowns grow like n^d.
"""

import argparse
import statistics
from typing import Any

import torch
from _classical import chain, finite_elements, relative_max
from _machine import describe, provenance, record

import nbsvd

GRIDS = {1: (64, 256), 2: (16, 32, 64), 3: (8, 12, 16)}


def ours(dim: int, seconds: float, seed: int) -> dict[str, Any]:
    problem = nbsvd.problems.oscillator(K=chain(dim))
    result = nbsvd.solve(problem, dim + 1, method="varpro", seconds=seconds, seed=seed, progress=False)
    return {
        "seed": seed,
        "errors": result.errors(),
        "control": dict(result.control),
        "stderr_max": float((result.stderr / result.values.abs()).max()),
        "steps": result.info["steps"],
        "seconds": round(result.info["seconds"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Error and time against the dimension.")
    parser.add_argument("--dims", type=int, nargs="+", default=list(range(2, 11)))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--record", action="store_true", help="keep the report in benchmarks/results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    report = provenance("scikit-fem")
    print(describe(report))
    print(f"{'d':>3}{'k':>4}  {'method':<28}{'seconds':>9}{'relative_max':>14}{'worst':>10}{'untrained':>11}")
    report["rows"] = {}
    for dim in args.dims:
        problem = nbsvd.problems.oscillator(K=chain(dim))
        exact = problem.exact.values(dim + 1)  # type: ignore[union-attr]
        runs = [ours(dim, args.seconds, seed) for seed in args.seeds]
        errors = [r["errors"]["relative_max"] for r in runs]
        print(
            f"{dim:>3}{dim + 1:>4}  {'varpro':<28}"
            f"{runs[0]['seconds']:>9.1f}{statistics.median(errors):>14.1e}",
            end="",
        )
        print(f"{max(errors):>10.1e}{runs[0]['control']['relative_max']:>11.1e}", flush=True)
        grids = []
        for elements in GRIDS.get(dim, ()):
            one = finite_elements(
                problem.operator.potential,  # type: ignore[attr-defined]
                dim,
                dim + 1,
                half_width=6.0,
                elements=elements,
                below=0.0,
            )
            one["relative_max"] = relative_max(one.pop("values"), exact)
            grids.append(one | {"elements": elements})
            label = f"finite elements, {one['unknowns']}"
            print(
                f"{dim:>3}{dim + 1:>4}  {label:<28}{one['seconds']:>9.1f}{one['relative_max']:>14.1e}",
                flush=True,
            )
        report["rows"][str(dim)] = {"ours": runs, "finite_elements": grids}
    if args.record:
        print("Recorded in", record(f"dimensions-{args.threads}threads", report).name)


if __name__ == "__main__":
    main()
