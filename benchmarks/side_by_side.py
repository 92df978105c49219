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
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from _bounded import matrices, randomized_svd, sampled
from _classical import (
    Potential,
    finite_elements,
    product_elements,
    radial_elements,
    relative_max,
)
from _machine import Number, compare, describe, keep_freed_memory, last, provenance, quartiles, record
from _turns import heading, line, shown

import nbsvd


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
