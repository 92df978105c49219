"""Koopman operators from trajectories: ours beside deeptime's, on the same data and in the same time.

    python benchmarks/dynamics.py --record      about a quarter of an hour, one thread
    python benchmarks/dynamics.py --quick       under a minute, to see that it runs

Two processes whose operators are known: Ornstein-Uhlenbeck and the noisy logistic map. For each, two sizes of
a trajectory, five seeds. All methods have the same 80 per cent of the pairs to learn from, the same time on
one thread, and are asked for the same number of functions; the last 20 per cent are held out.

* **Ours**: ``nbsvd.solve`` at its defaults, by variable projection and by stochastic gradients; predictions
  by ``nbsvd.Koopman``.
* **Deeptime's**: VAMP, TICA and EDMD on a dictionary (the state itself, monomials, Gaussians, on the circle
  Fourier functions), KernelEDMD, VAMPNet. Dictionaries, cutoffs, widths, bandwidths and rates are chosen by
  VAMP-2 on data that were not fitted, as a careful user would, and the search is part of the time. *Chosen*
  is the family with the best score on the last eighth of these data; *best* is the family that turned out
  best, with the exact answer known.

Judged by the exact operator, without any sample: how far the VAMP-2 score of the functions falls short of the
optimum, the sum of the squares of the singular values; the error of the values; the errors in L2 of
predictions of two observables after 1, 2, 5 and 10 steps. And by the held-out pairs, as deeptime's own
``score(r=2, test_model)``, and by the error of predictions there. Of ours also: how many values lie within
two of their error bars. On Ornstein-Uhlenbeck monomials contain the exact functions; where they are chosen,
nothing can do better.

Single runs are kept in ``_build/dynamics``; the same command goes on where it was stopped.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from _deeptime import FAMILIES
from _dynamics import PROCESSES, STEPS, arrays, judge, judged, ours, parts_of
from _machine import RUNS, Number, compare, describe, kept, provenance, quartiles, record, sources
from _turns import shown

OURS = {"varpro": "ours, varpro", "sgd": "ours, sgd"}
METHODS = [*OURS, *FAMILIES]
LEVEL = 1.05  # errors within this factor count as equal


def run(name: str, method: str, size: int, seed: int, seconds: float, quick: bool) -> dict[str, Any]:
    """One run of one method, judged."""
    process = PROCESSES[name]
    problem = process.make(size, seed)
    _, _, rows, test = parts_of(problem)
    start = time.perf_counter()
    if method in OURS:
        learned = ours(problem, process.k, method, seconds, seed)
    else:
        learned = FAMILIES[method](process, *arrays(rows), seconds, seed, quick)
    spent = time.perf_counter() - start
    return {"seed": seed, "seconds": spent, **judged(learned, name, test)}


def setting(name: str, size: int, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All runs on one process and one size; one seed after another, all methods in each."""
    found: dict[str, list[dict[str, Any]]] = {method: [] for method in METHODS}
    for seed in args.seeds:
        for method in METHODS:
            about = {"process": name, "method": method, "size": size, "seed": seed, "seconds": args.seconds}
            about["quick"] = args.quick
            path = folder / f"{name}-{size}-{method}-{seed}.json"
            found[method].append(
                kept(path, about, lambda m=method, s=seed: run(name, m, size, s, args.seconds, args.quick))
            )
    chosen = [max(FAMILIES, key=lambda method: found[method][i]["check"]) for i in range(len(args.seeds))]
    best = min(FAMILIES, key=lambda method: median(found[method], "gap"))
    return {
        "said": PROCESSES[name].said,
        "k": PROCESSES[name].k,
        "pairs": size,
        "optimum": judge(name).optimum(),
        "exact": judge(name).values.tolist(),
        "runs": found,
        "chosen": chosen,
        "best": best,
        "verdict": verdicts(found, chosen, best),
    }


def median(runs: list[dict[str, Any]], key: str) -> float:
    """The median of a number over seeds."""
    return statistics.median(r[key] for r in runs)


def errors(runs: list[dict[str, Any]], label: str, i: int, kind: str = "prediction") -> float:
    """The median error of predictions of an observable after the i-th number of steps."""
    return statistics.median(r[kind][label][i] for r in runs)


def verdicts(found: dict[str, list[dict[str, Any]]], chosen: list[str], best: str) -> dict[str, Any]:
    """How ours by variable projection stands beside deeptime's chosen and best."""
    mine = found["varpro"]
    theirs = {
        "chosen": [found[method][i] for i, method in enumerate(chosen)],
        "best": found[best],
    }
    told: dict[str, Any] = {}
    for name, runs in theirs.items():
        apart = [m["held_out"] - t["held_out"] for m, t in zip(mine, runs, strict=True)]
        cases = [(label, i) for label in mine[0]["prediction"] for i in range(len(STEPS))]
        ratios = {
            f"{label}, {STEPS[i]} steps": errors(mine, label, i) / errors(runs, label, i)
            for label, i in cases
        }
        told[name] = {
            "gap_ours": median(mine, "gap"),
            "gap_theirs": median(runs, "gap"),
            "seeds_ahead": sum(m["gap"] <= t["gap"] for m, t in zip(mine, runs, strict=True)),
            "held_out_difference": statistics.fmean(apart),
            "held_out_error": statistics.stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else 0.0,
            "prediction_ratios": ratios,
            "predictions_as_good": sum(ratio <= LEVEL for ratio in ratios.values()),
        }
    covered = [inside for r in mine for inside in r["covered"]]
    told["covered"] = sum(covered) / len(covered)
    exact = [inside for r in mine for inside in r["covered_exact"]]
    told["covered_exact"] = sum(exact) / len(exact)
    return told


def tell(one: dict[str, Any], seeds: int) -> None:
    """Print the table of a setting, and what it comes to."""
    print(f"\n{one['said']}, {one['pairs']} pairs, k = {one['k']}: median (quartiles) of {seeds} seeds")
    print(f"  the optimum of VAMP-2 is {one['optimum']:.4f}; predictions: error in L2 after 1 step, 5 steps")
    labels = list(next(iter(one["runs"].values()))[0]["prediction"])
    heads = ["short of the optimum", "held-out score", "error of values", *labels, "seconds"]
    print(f"  {'':<14}" + "".join(f"{head:>30}" for head in heads))
    for method, runs in one["runs"].items():
        cells = [
            shown(quartiles([r[key] for r in runs]), ".2g") for key in ("gap", "held_out", "values_error")
        ]
        cells[1] = f"{median(runs, 'held_out'):.4f}"
        cells += [f"{errors(runs, label, 0):.2g}, {errors(runs, label, 2):.2g}" for label in labels]
        cells.append(f"{median(runs, 'seconds'):.1f}")
        print(f"  {OURS.get(method, method):<14}" + "".join(f"{cell:>30}" for cell in cells))
    for name in ("chosen", "best"):
        v = one["verdict"][name]
        which = ", ".join(sorted(set(one["chosen"]))) if name == "chosen" else one["best"]
        ahead = "at least as good" if v["gap_ours"] <= LEVEL * v["gap_theirs"] else "behind"
        print(
            f"  Beside deeptime's {name} ({which}), varpro is {ahead}: {v['gap_ours']:.2g} short of the "
            f"optimum where it is {v['gap_theirs']:.2g} (no further in {v['seeds_ahead']} of {seeds} seeds), "
            f"held-out score {v['held_out_difference']:+.4f} ± {v['held_out_error']:.4f}, predictions as "
            f"good in {v['predictions_as_good']} of {len(v['prediction_ratios'])} cases."
        )
    v = one["verdict"]
    print(
        f"  Within two error bars: {v['covered']:.0%} of the values of the learned functions, "
        f"{v['covered_exact']:.0%} of the exact values.",
        flush=True,
    )


def numbers(report: dict[str, Any]) -> dict[str, Number]:
    """Median gaps and first predictions of all methods."""
    found = {}
    for key, one in report["settings"].items():
        where = f"{key}, {len(report['seeds'])} seeds, {report['budget_seconds']:g} s"
        for method, runs in one["runs"].items():
            found[f"{where}: {method}, short of the optimum"] = Number(max(median(runs, "gap"), 0.0), "error")
            for label in runs[0]["prediction"]:
                found[f"{where}: {method}, {label} after a step"] = Number(errors(runs, label, 0), "error")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run, a whole search included")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="of data and networks")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000], help="numbers of pairs")
    parser.add_argument("--only", nargs="+", choices=PROCESSES, default=list(PROCESSES), help="these alone")
    parser.add_argument("--quick", action="store_true", help="1000 pairs, one second a run, one seed")
    parser.add_argument(
        "--threads", type=int, default=1, choices=[1], help="of each run, ours and theirs: one"
    )
    parser.add_argument("--folder", type=Path, help="where single runs are kept (default _build/dynamics)")
    parser.add_argument("--record", action="store_true", help="keep the report in benchmarks/results")
    args = parser.parse_args()
    if args.quick:
        args.seconds, args.seeds, args.sizes = 1.0, args.seeds[:1], [1000]
    whole = parser.get_default
    if args.record and (
        args.quick
        or args.seeds != whole("seeds")
        or args.sizes != whole("sizes")
        or args.only != whole("only")
    ):
        parser.error(
            "--record: only the whole study is recorded; leave out --quick, --seeds, --sizes, --only"
        )
    torch.set_num_threads(1)
    folder = args.folder or RUNS / "dynamics" / sources()
    report = provenance("deeptime") | {
        "package": sources(),
        "budget_seconds": args.seconds,
        "seeds": args.seeds,
        "steps": STEPS,
    }
    print(describe(report), flush=True)
    report["settings"] = {}
    for name in args.only:
        for size in args.sizes:
            one = report["settings"][f"{name}, {size} pairs"] = setting(name, size, args, folder)
            tell(one, len(args.seeds))
    compare("dynamics-1threads", report, numbers)
    if args.record:
        print("Recorded in", record("dynamics-1threads", report).name)


if __name__ == "__main__":
    main()
