"""The other half of an image: canonical functions by networks beside linear and kernel CCA.

    python benchmarks/retrieval.py --record      about ten minutes on one thread
    python benchmarks/retrieval.py --quick       half a minute, to see that it runs

Scikit-learn's digits, 8 x 8 pixels: the left half of an image is x, the right half y. 1097 images to train
on, 300 to choose by, 400 to measure on; divided anew for each seed. No method sees a label.

The task: given the left half of a test image, rank the right halves of all test images. Two questions:

* **The digit**: a right half is relevant if it shows the same digit. Precision among the first ten, and mean
  average precision.
* **The very half**: only the right half of the same image is relevant. Its median rank, and the share of left
  halves that have it among the first ten.

Every method gives functions f of x, g of y and values sigma, and ranks by one of the same five scores: the
density ratio ``sum sigma f g``; the cosine of f and g, plain or weighted by sqrt(sigma) or sigma; the
logarithm of the density ratio that normal variables would have. Score, number of functions and the method's
own settings are chosen on the validation images, for each question by itself; then the method is fitted again
on training and validation images together.

* **linear CCA** with a ridge. **kernel CCA**: Gaussian kernels, width and ridge chosen, dense and in float64.
* **ours**: ``nbsvd.solve(Problem(Conditional(Pairs(left, right))), k, method="varpro")``, defaults but for k.
  It holds back three tenths of what it is given, for stopping and for honest values. The mean of the scores
  of three runs, which differ by the seed, stands beside it: the others have no seed.

Each method on each division has a process of its own; its memory is what it held at most, while it chose and
fitted, beyond what was held before.
"""

import argparse
import statistics
from typing import Any

import torch
from _machine import (
    RUNS,
    Number,
    compare,
    describe,
    keep_freed_memory,
    kept,
    provenance,
    quartiles,
    record,
    sources,
)
from _retrieval import KERNEL, LINEAR, OURS, in_a_process, names
from _turns import shown

SIZES, QUICK_SIZES = (1097, 300, 400), (240, 80, 120)
SEEDS = (0, 1, 2, 3, 4)
# What is told of each question, and whether more is better.
TOLD = {
    ("digit", "precision_at_10"): True,
    ("digit", "mean_average_precision"): True,
    ("half", "median_rank"): False,
    ("half", "recall_at_10"): True,
}
COSTS = (
    "fit_seconds",
    "all_seconds",
    "memory_mb",
    "transform_seconds",
    "transform_memory_mb",
    "model_mb",
)


def contest(seeds: list[int], threads: int, quick: bool) -> dict[str, list[dict[str, Any]]]:
    """All runs of all contenders; those that were made before with the same sources are read."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ("pixels", *names(quick))}
    for seed in seeds:
        for name, own in runs.items():
            sizes = QUICK_SIZES if quick else SIZES
            spec = {"name": name, "seed": seed, "sizes": sizes, "threads": threads, "quick": quick}
            folder = RUNS / ("retrieval-quick" if quick else "retrieval")
            file = folder / f"{name.replace(' ', '-').replace(',', '')}-{seed}.json"
            setting = spec | {"sources": sources()}
            own.append({"seed": seed} | kept(file, setting, lambda spec=spec: in_a_process(spec)))
    return runs


def rows(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians and quartiles of each measure and cost."""
    found = {}
    for name, own in runs.items():
        if name == "pixels":
            for still in ("chance", "pixels", "mirrored"):
                found[still] = {
                    task: {
                        what: quartiles([run[still][what] for run in own]) for t, what in TOLD if t == task
                    }
                    for task in ("digit", "half")
                }
            continue
        found[name] = {
            task: {what: quartiles([run[task][what] for run in own]) for t, what in TOLD if t == task}
            for task in ("digit", "half")
        }
        found[name] |= {cost: quartiles([run[cost] for run in own]) for cost in COSTS}
    return found


def wins(runs: dict[str, list[dict[str, Any]]], name: str, other: str) -> dict[str, dict[str, Any]]:
    """In how many divisions one is better than another, and by how much in the median."""
    found = {}
    for (task, what), more in TOLD.items():
        pairs = [(a[task][what], b[task][what]) for a, b in zip(runs[name], runs[other], strict=True)]
        found[what] = {
            "better": sum(a > b if more else a < b for a, b in pairs),
            "worse": sum(a < b if more else a > b for a, b in pairs),
            "of": len(pairs),
            "difference": statistics.median(a - b for a, b in pairs),
        }
    return found


def table(report: dict[str, Any]) -> None:
    """Print what was found."""
    columns = ("precision at 10", "mean av. precision", "median rank", "recall at 10")
    print(f"\n{'median (quartiles)':<18}" + "".join(f"{c:>26}" for c in columns))
    for name, row in report["rows"].items():
        cells = [shown(row[task][what]) for task, what in TOLD]
        print(f"{name:<18}" + "".join(f"{cell:>26}" for cell in cells))
    columns = ("seconds of a fit", "with the choice", "MB at most", "seconds, 10,000 new", "MB kept")
    print(f"\n{'median (quartiles)':<18}" + "".join(f"{c:>24}" for c in columns))
    for name, row in report["rows"].items():
        if "fit_seconds" in row:
            costs = ("fit_seconds", "all_seconds", "memory_mb", "transform_seconds", "model_mb")
            print(f"{name:<18}" + "".join(f"{shown(row[cost]):>24}" for cost in costs))


SAID = {
    "precision_at_10": "precision at 10",
    "mean_average_precision": "mean average precision",
    "median_rank": "median rank",
    "recall_at_10": "recall at 10",
}


def verdict(report: dict[str, Any]) -> list[str]:
    """Who wins, in sentences made of the numbers."""
    said, found = [], report["rows"]
    for name in [name for name in found if name.startswith(OURS)]:
        for other in (LINEAR, KERNEL):
            against = report["wins"][f"{name} / {other}"]
            better = [what for what, row in against.items() if row["better"] == row["of"]]
            worse = [what for what, row in against.items() if row["worse"] == row["of"]]
            if len(better) == len(against):
                said.append(f"{name}: better than {other} on all measures, in every division.")
            elif len(worse) == len(against):
                said.append(f"{name}: worse than {other} on all measures, in every division.")
            else:
                counts = ", ".join(
                    f"{SAID[what]} {row['better']} of {row['of']}" for what, row in against.items()
                )
                said.append(f"{name}: better than {other} in so many divisions: {counts}.")
    ours, kernel = found[OURS], found[KERNEL]
    ratios = {cost: ours[cost]["median"] / max(kernel[cost]["median"], 1e-9) for cost in COSTS}
    said.append(
        f"A fit of ours takes {ratios['fit_seconds']:.2g} times as long as one of kernel CCA, and "
        f"{ratios['memory_mb']:.2g} times the memory at most; functions at 10,000 new pairs "
        f"{ratios['transform_seconds']:.2g} times as long; what is kept is {ratios['model_mb']:.2g} times "
        "as large."
    )
    return said


def numbers(report: dict[str, Any]) -> dict[str, Number]:
    """All numbers that say how we stand."""
    found = {}
    sizes = "-".join(map(str, report["sizes"]))
    for name, row in report["rows"].items():
        if not name.startswith(OURS):
            continue
        for (task, what), more in TOLD.items():
            value = row[task][what]["median"]
            found[f"{sizes}: {name}, {SAID[what]}"] = Number(value, "ratio" if more else "error")
        found[f"{sizes}: {name}, seconds of a fit"] = Number(row["fit_seconds"]["median"], "time")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="one for each division")
    parser.add_argument("--quick", action="store_true", help="few images, one division: not for the record")
    parser.add_argument("--record", action="store_true", help="keep the report in benchmarks/results")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.record = args.seeds[:1], False
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    report, name = provenance("scikit-learn"), f"retrieval-{args.threads}threads"
    report |= {"seeds": args.seeds, "sizes": list(QUICK_SIZES if args.quick else SIZES)}
    print(describe(report), flush=True)
    runs = contest(args.seeds, args.threads, args.quick)
    report |= {"runs": runs, "rows": rows(runs)}
    report["wins"] = {
        f"{own} / {other}": wins(runs, own, other)
        for own in runs
        if own.startswith(OURS)
        for other in (LINEAR, KERNEL)
    }
    table(report)
    report["verdict"] = verdict(report)
    print("\n" + "\n".join(report["verdict"]))
    compare(name, report, numbers)
    if args.record:
        print("Recorded in", record(name, report).name)


if __name__ == "__main__":
    main()
