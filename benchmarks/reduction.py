"""Nonlinear dimension reduction: a learned function beside kernel PCA and Nystroem's method.

    python benchmarks/reduction.py --threads 1 --record      about eight minutes
    python benchmarks/reduction.py --quick                   under a minute, to see that it runs

All find the leading principal components of the features of a Gaussian kernel, centred, of the same width.

* **Data sets**: scikit-learn's digits (1200 images to learn from, 597 held out), and points near a surface in
  20 dimensions. Contenders: ``nbsvd.sklearn.NeuralSVD``; scikit-learn's ``KernelPCA`` with ARPACK and with a
  randomised solver, which are the matrix method; its ``Nystroem`` with 200 and 1000 landmarks, and PCA of
  these features. Each runs in a process of its own, so that its memory can be told. Errors are those of the
  scores on held-out points, against the exact eigenvectors of all training rows, extended by the exact sum
  over them: that is what ``KernelPCA`` computes, so its error is its solver's alone. The held-out share is
  what the components explain of the kernel of the held-out points among themselves; it favours nobody.
* **Extrapolation**: networks and the matrix method on the same n points, both against the eigenfunctions of
  the *law* the points come from, in its own mean square: the Gaussian kernel under N(0, 1), known in closed
  form; and the surface, whose law stands in as many more points.
* **Cost of new points**: time for ten thousand of them and size of the fitted model, against the rows N.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _machine import Number, compare, describe, provenance, quartiles, record
from _reduction import HELD_OUT, NEW, K, angles, data, exact_scores, in_a_process, measured, surface, width

from nbsvd.exact import GaussianKernel
from nbsvd.sklearn import NeuralSVD

ROWS = {"digits": 1200, "surface": 20_000}
POINTS = (100, 300, 1000, 3000)
GRADIENTS = (300,)  # points of the runs by stochastic gradients, which take longest
COSTS = (1000, 3000, 10_000)
POPULATION = 10_000
OPTIONS: dict[str, Any] = {}  # of NeuralSVD
CONTENDERS = (
    "NeuralSVD",
    "KernelPCA, ARPACK",
    "KernelPCA, randomised",
    "Nystroem 200 + PCA",
    "Nystroem 1000 + PCA",
)
QUICK = ("NeuralSVD", "KernelPCA, ARPACK", "Nystroem 200 + PCA")
LEARNERS = ("network, varpro", "network, sgd", "matrix")


# Data sets -----------------------------------------------------------------------------------------------

MEASURED = (
    "fit_seconds",
    "fit_memory_mb",
    "transform_seconds",
    "transform_memory_mb",
    "model_mb",
    "score_error",
    "angle_max",
    "held_out_share",
)


def sets(args: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, rows in args.rows.items():
        spec = {"set": name, "rows": rows, "threads": args.threads, "seed": 0, "options": args.options}
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder) / "exact.npy")
            in_a_process(spec | {"name": "exact", "file": file})
            runs: dict[str, list[dict[str, Any]]] = {label: [] for label in args.contenders}
            for seed in args.seeds[: args.rounds]:
                for label in args.contenders:
                    runs[label].append(in_a_process(spec | {"name": label, "file": file, "seed": seed}))
        d = data(name, 10)[0].shape[1]
        print(f"\n{name}: {rows} rows of {d} features, {K} components; medians of {args.rounds} round(s)")
        print(
            f"  {'':<24}{'fit':>9}{'memory':>10}{'10^4 new':>11}{'model':>10}{'error of':>11}{'held-out':>10}"
        )
        print(f"  {'':<24}{'s':>9}{'MB':>10}{'s':>11}{'MB':>10}{'the scores':>11}{'share':>10}")
        table = {}
        for label, made in runs.items():
            row = table[label] = {key: quartiles([run[key] for run in made]) for key in MEASURED}
            m = {key: value["median"] for key, value in row.items()}
            print(
                f"  {label:<24}{m['fit_seconds']:>9.3g}{m['fit_memory_mb']:>10.4g}"
                f"{m['transform_seconds']:>11.3g}{m['model_mb']:>10.3g}{m['score_error']:>11.1e}{m['held_out_share']:>10.4f}"
            )
        best = runs[args.contenders[0]][0]["exact_share"]
        print(f"  the exact components, extended by the exact sum: share {best:.4f}", flush=True)
        found[name] = {"rows": rows, "features": d, "k": K, "exact_share": best, "contenders": table}
        found[name]["said"] = said_of_set(name, table)
        print("  " + found[name]["said"], flush=True)
    return found


def said_of_set(name: str, table: dict[str, Any]) -> str:
    """Who wins on a data set, in a sentence made from the numbers."""

    def first(key: str) -> str:
        return min(table, key=lambda label: table[label][key]["median"])

    ours = table["NeuralSVD"]
    exact = table["KernelPCA, ARPACK"]
    faster = exact["transform_seconds"]["median"] / ours["transform_seconds"]["median"]
    smaller = exact["model_mb"]["median"] / ours["model_mb"]["median"]
    close = min(
        (label for label in table if label.startswith("Nystroem")),
        key=lambda label: table[label]["score_error"]["median"],
    )
    ratio = ours["score_error"]["median"] / table[close]["score_error"]["median"]
    return (
        f"{name}: fastest fit {first('fit_seconds')}; fastest on new points {first('transform_seconds')}; "
        f"smallest model {first('model_mb')}. NeuralSVD evaluates new points {faster:.3g} times as fast as "
        f"KernelPCA from a model {smaller:.3g} times smaller; its scores are "
        f"{ours['score_error']['median']:.1e} from the exact ones, {ratio:.3g} times as far as those of "
        f"{close}."
    )


# Extrapolation -------------------------------------------------------------------------------------------


def learned(
    label: str, X: np.ndarray, Z: np.ndarray, gamma: float, seed: int, options: dict[str, Any]
) -> np.ndarray:
    """Functions learned from X, at Z."""
    if label == "matrix":
        return exact_scores(X, Z, gamma, center=False)
    method = label.split()[-1]
    model = NeuralSVD(K, gamma=gamma, method=method, random_state=seed, **options)
    return np.asarray(model.fit(X).transform(Z))


def laws(args: argparse.Namespace) -> dict[str, Any]:
    """For each law: points of a seed, points to compare at, the law's functions there, gamma."""
    z = np.random.default_rng([2, 0]).normal(size=(20_000, 1))
    line = GaussianKernel(1.0, 1.0).functions(torch.from_numpy(z), K).numpy()
    many, near = surface(args.population, 1000), surface(HELD_OUT, 1001)
    gamma = width(many)
    return {
        "gaussian": (lambda n, s: np.random.default_rng([3, s]).normal(size=(n, 1)), z, line, 0.5),
        "surface": (lambda n, s: surface(n, 2000 + s), near, exact_scores(many, near, gamma, False), gamma),
    }


def extrapolation(args: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    print(
        f"\nExtrapolation: largest sine of an angle to the law's first {K} functions; {len(args.seeds)} seeds"
    )
    for law, (draw, Z, expected, gamma) in laws(args).items():
        found[law] = {"k": K, "gamma": gamma, "points": {}}
        for n in args.points:
            runs: dict[str, list[float]] = {label: [] for label in LEARNERS}
            for seed in args.seeds:
                X = draw(n, seed)
                for label in LEARNERS:
                    if label == "network, sgd" and n not in args.sgd:
                        continue
                    f = learned(label, X, Z, gamma, seed, args.options)
                    runs[label].append(float(angles(f, expected).max()))
            row: dict[str, Any] = {label: quartiles(made) for label, made in runs.items() if made}
            for label in LEARNERS[:2]:
                if runs[label]:
                    over = [a / b for a, b in zip(runs[label], runs["matrix"], strict=True)]
                    row[label]["over_matrix"] = quartiles(over)
                    row[label]["better_on"] = sum(ratio < 1 for ratio in over)
            found[law]["points"][str(n)] = row
            told = "; ".join(
                f"{label} {values['median']:.2e}"
                + (
                    f" ({values['over_matrix']['median']:.3f} of the matrix's)"
                    if "over_matrix" in values
                    else ""
                )
                for label, values in row.items()
            )
            print(f"  {law}, n = {n}: {told}", flush=True)
    found["said"] = said_of_extrapolation(found, len(args.seeds))
    print("  " + found["said"], flush=True)
    return found


def said_of_extrapolation(found: dict[str, Any], seeds: int) -> str:
    """Whether networks extrapolate better, in a sentence made from the numbers."""
    parts = []
    for label in LEARNERS[:2]:
        rows = [
            row[label]
            for law in found.values()
            if isinstance(law, dict)
            for row in law["points"].values()
            if label in row
        ]
        if not rows:
            continue
        ratios = [row["over_matrix"]["median"] for row in rows]
        wins, total = sum(row["better_on"] for row in rows), seeds * len(rows)
        better, worse = min(ratios) < 0.95, max(ratios) > 1.05
        word = {
            (True, False): "better than the matrix method",
            (False, True): "worse than the matrix method",
            (True, True): "better than the matrix method in places, worse in others",
            (False, False): "no better and no worse than the matrix method",
        }[better, worse]
        parts.append(
            f"{label}: {word}, errors {min(ratios):.3g} to {max(ratios):.3g} times "
            f"its own (medians), smaller on {wins} of {total} draws"
        )
    return "; ".join(parts) + "."


# New points ----------------------------------------------------------------------------------------------


def costs(args: argparse.Namespace) -> dict[str, Any]:
    labels = ("NeuralSVD", "KernelPCA, randomised")
    found: dict[str, Any] = {label: {"rows": [], "transform_seconds": [], "model_mb": []} for label in labels}
    print(f"\nNew points against rows (surface): seconds for {NEW}, size of the model in MB")
    for n in args.costs:
        for label in labels:
            run, _ = measured(label, surface(n, 0), surface(HELD_OUT, 1), 0, {"max_iter": 2})
            found[label]["rows"].append(n)
            for key in ("transform_seconds", "model_mb"):
                found[label][key].append(run[key])
            print(
                f"  N = {n:<8}{label:<24}{run['transform_seconds']:>9.3g} s{run['model_mb']:>10.3g} MB",
                flush=True,
            )
    for row in found.values():
        for key in ("transform_seconds", "model_mb"):
            slope = np.polyfit(np.log(row["rows"]), np.log(row[key]), 1)[0]
            row[key.split("_")[0] + "_exponent"] = float(slope)
    ours, theirs = (found[label] for label in labels)
    found["said"] = (
        f"From {args.costs[0]} to {args.costs[-1]} rows, time for new points grows like N^"
        f"{ours['transform_exponent']:.2f} for NeuralSVD and N^{theirs['transform_exponent']:.2f} for "
        f"KernelPCA, the model like N^{ours['model_exponent']:.2f} and N^"
        f"{theirs['model_exponent']:.2f}; at the last, "
        f"{theirs['transform_seconds'][-1] / ours['transform_seconds'][-1]:.3g} times as fast."
    )
    print("  " + found["said"], flush=True)
    return found


# All together --------------------------------------------------------------------------------------------


def numbers(report: dict[str, Any]) -> dict[str, Number]:
    """All numbers that later runs are compared with."""
    found = {}
    for name, own in report.get("sets", {}).items():
        for label, row in own["contenders"].items():
            where = f"{name}, {own['rows']} rows: {label}"
            found[f"{where}, fit, seconds"] = Number(row["fit_seconds"]["median"], "time")
            found[f"{where}, new points, seconds"] = Number(row["transform_seconds"]["median"], "time")
            found[f"{where}, model, MB"] = Number(row["model_mb"]["median"], "memory")
            found[f"{where}, error"] = Number(row["score_error"]["median"], "error")
    for law, own in report.get("extrapolation", {}).items():
        for n, row in own["points"].items() if isinstance(own, dict) else ():
            for label, values in row.items():
                found[f"{law}, {n} points: {label}"] = Number(values["median"], "error")
    return found


PARTS = {"sets": sets, "extrapolation": extrapolation, "costs": costs}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="of extrapolation")
    parser.add_argument("--rounds", type=int, default=3, help="how many of the seeds for the data sets")
    parser.add_argument(
        "--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="these parts alone"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, one seed: not for the record")
    parser.add_argument("--record", action="store_true", help="keep the report in benchmarks/results")
    args = parser.parse_args()
    args.rows, args.points, args.costs, args.population = ROWS, POINTS, COSTS, POPULATION
    args.sgd, args.options, args.contenders = GRADIENTS, OPTIONS, CONTENDERS
    if args.quick:
        args.seeds, args.rounds, args.record = args.seeds[:1], 1, False
        args.rows, args.points, args.costs = {"digits": 300}, (50,), (200, 400)
        args.population, args.sgd, args.options = 500, (50,), {"max_iter": 5}
        args.contenders = [label for label in CONTENDERS if label in QUICK]
    torch.set_num_threads(args.threads)
    report, name = provenance("scikit-learn"), f"reduction-{args.threads}threads"
    report |= {"seeds": args.seeds, "rounds": args.rounds}
    print(describe(report))
    for part in args.only:
        report[part] = PARTS[part](args)
    compare(name, report, numbers)
    if args.record:
        print("Recorded in", record(name, report).name)


if __name__ == "__main__":
    main()
