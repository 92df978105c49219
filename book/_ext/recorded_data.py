"""What is recorded of operators known through data, as rows of tables; for the extension ``recorded``.

As in ``recorded_tables``, a row that a report should have, and lacks, is there without numbers. Each
benchmark tells at its end who is ahead in what, by medians.
"""

import math
import statistics
from collections.abc import Mapping

from recorded_tables import METHODS, MISSING, Report, Rows, Tables, middle, number, said

LEVEL = 1.05  # numbers within this factor count as equal
ROUNDING = 1e-12  # a factor to a smaller number says nothing
NEW = 10_000  # new points that are timed
PROCESSES = {
    "ornstein_uhlenbeck, 10000 pairs": "Ornstein-Uhlenbeck, the shorter trajectory",
    "ornstein_uhlenbeck, 100000 pairs": "Ornstein-Uhlenbeck, the longer trajectory",
    "logistic_map, 10000 pairs": "noisy logistic map, the shorter trajectory",
    "logistic_map, 100000 pairs": "noisy logistic map, the longer trajectory",
}
HALVES = ("linear CCA", "kernel CCA", "ours", "ours, mean of 3")
MEASURES = {
    "precision_at_10": "precision at 10",
    "mean_average_precision": "mean average precision",
    "median_rank": "median rank",
    "recall_at_10": "recall at 10",
}
COSTS = {
    "fit_seconds": "seconds of a fit",
    "memory_mb": "MB at most",
    "transform_seconds": f"seconds, {NEW:,} new points",
    "model_mb": "MB kept",
}
GRAPHS = {"islands": "two rings and a bridge", "digits": "images of digits"}
HEADS = ["", "ours", "best of the others", "whose", "ahead"]


# Who is ahead --------------------------------------------------------------------------------------------


def lead(ours: float, best: float, whose: str, name: str = "ours") -> str:
    """Say which of two numbers is smaller, and by what factor; none where that would be of rounding."""
    small, large = sorted((ours, best))
    if large <= LEVEL * small or small == large:
        return f"neither, within {LEVEL - 1:.0%}"
    by = f": a factor of {number(large / small)}" if small > ROUNDING and math.isfinite(large) else ""
    return (name if ours < best else whose) + by


def contest(what: str, ours: float | None, others: Mapping[str, float], name: str = "ours") -> list[str]:
    """Return a row of HEADS: our number beside the smallest of the others. None: not reached."""
    mine = "not reached" if ours is None else said(ours)
    if not others:
        return [what, mine, "not reached", "", "nobody" if ours is None else name]
    whose = min(others, key=lambda other: others[other])
    best = others[whose]
    return [what, mine, said(best), whose, lead(math.inf if ours is None else ours, best, whose, name)]


def percent(share: float) -> str:
    """Write a share."""
    return f"{share:.1%}"


def empty(what: str, heads: list[str]) -> list[str]:
    """Return a row without numbers."""
    return [what, MISSING, *[""] * (len(heads) - 2)]


# One function for each benchmark --------------------------------------------------------------------------


def correlated(report: Report) -> Tables:
    """Tell of two correlated normal variables: values, error bars, and what polynomials reach."""
    there, k = report["methods"], report["k"]
    heads = ["", *(f"value {i}" for i in range(2, k + 1))]
    heads_bars = ["method", "data sets", "seconds each", "cover the functions' own", "cover the exact value"]
    rows, bars, wins = Rows(), Rows(), Rows()
    for method in dict.fromkeys([*METHODS, *there]):
        name = METHODS.get(method, method)
        if method not in there:
            rows.append(empty(name, heads))
            bars.append(empty(name, heads_bars))
            continue
        own = there[method]
        found, runs = own["summary"], own["runs"]
        if not rows:
            rows.append(["exact", *(f"{value:.4f}" for value in found["exact"])])
        rows.append([f"{name}: measured", *(f"{value:.4f}" for value in found["mean"])])
        rows.append([f"{name}: standard error", *map(said, found["stderr"])])
        rows.append([f"{name}: exact less the functions' own", *map(said, found["shortfall"])])
        shares = [percent(found[f"covers_{what}"]) for what in ("population", "exact")]
        bars.append([name, str(len(runs)), said(own["seconds"]), *shares])
        theirs = [sum(s * s for s in run["polynomials"][1:]) for run in runs if run.get("polynomials")]
        if theirs:
            left = {"polynomials": found["optimum"] - statistics.fmean(theirs)}
            what = f"{name}: short of the sum of squares"
            wins.append(contest(what, found["optimum"] - found["score"], left))
    about = f"Two normal variables of correlation {report['rho']:g}, {report['pairs']} pairs"
    yield f"{about}, k = {k} with the constant: means over data sets", heads, rows
    yield f"{about}: error bars that should cover in 95 of 100 cases", heads_bars, bars
    if wins:
        yield f"{about}: who is nearer the optimum, under the law itself", HEADS, wins


def dynamics(report: Report) -> Tables:
    """Tell of Koopman operators beside deeptime's, and of the error bars."""
    there = report["settings"]
    heads = ["data", "beside deeptime's", "ours, short of the optimum", "deeptime's", "no further in"]
    heads += ["held-out score", "predictions as good", "ahead"]
    heads_bars = ["data", "values of the learned functions", "exact values"]
    wins, bars = Rows(), Rows()
    for key in dict.fromkeys([*PROCESSES, *there]):
        one = there.get(key)
        if one is None:
            wins.append(empty(PROCESSES[key], heads))
            bars.append(empty(PROCESSES[key], heads_bars))
            continue
        yield trajectory(one, report)
        where, told = f"{one['said']}, {one['pairs']} pairs", one["verdict"]
        for name in ("chosen", "best"):
            v = told[name]
            which = ", ".join(sorted(set(one["chosen"]))) if name == "chosen" else one["best"]
            wins.append(
                [
                    where,
                    f"{name} ({which})",
                    said(v["gap_ours"]),
                    said(v["gap_theirs"]),
                    f"{v['seeds_ahead']} of {len(report['seeds'])} seeds",
                    f"{v['held_out_difference']:+.4f} ± {v['held_out_error']:.4f}",
                    f"{v['predictions_as_good']} of {len(v['prediction_ratios'])}",
                    lead(v["gap_ours"], v["gap_theirs"], "deeptime"),
                ]
            )
        bars.append([where, percent(told["covered"]), percent(told["covered_exact"])])
    yield "Ours by variable projection beside deeptime's chosen and best method", heads, wins
    yield "Ours by variable projection: values within two of their error bars", heads_bars, bars


def trajectory(one: Report, report: Report) -> tuple[str, list[str], Rows]:
    """Return the table of all methods on one process and one number of pairs."""
    runs = one["runs"]
    labels = list(next(iter(runs.values()))[0]["prediction"])
    shown = [i for i, steps in enumerate(report["steps"]) if steps in (1, 5)]
    heads = ["method", "held-out score", "short of the optimum", "error of values"]
    heads += [f"{label}, {report['steps'][i]} ahead" for label in labels for i in shown]
    rows: Rows = []
    for method, own in runs.items():
        name = f"ours, {METHODS[method]}" if method in METHODS else method
        columns = [[run[key] for run in own] for key in ("gap", "values_error")]
        columns += [[run["prediction"][label][i] for run in own] for label in labels for i in shown]
        columns.append([run["seconds"] for run in own])
        score = f"{statistics.median(run['held_out'] for run in own):.4f}"
        rows.append([name, score, *(said(statistics.median(column)) for column in columns)])
    caption = (
        f"{one['said']}, {one['pairs']} pairs, k = {one['k']}, {report['budget_seconds']:g} seconds each"
    )
    caption += f": medians of {len(report['seeds'])} seeds. The optimum of VAMP-2 is {one['optimum']:.4f}"
    return caption, [*heads, "seconds"], rows


def retrieval(report: Report) -> Tables:
    """Tell of the other half of an image."""
    there = report["rows"]
    own = [name for name in there if name.startswith("ours")]
    rows, costs = Rows(), Rows()
    heads, heads_costs = ["", *MEASURES.values()], ["", *COSTS.values()]
    for name in dict.fromkeys([*there, *HALVES]):
        row = there.get(name)
        if row is None:
            rows.append(empty(name, heads))
            continue
        told = row["digit"] | row["half"]
        rows.append([name, *(said(told[what]) for what in MEASURES)])
        if "fit_seconds" in row:
            costs.append([name, *(said(row[cost]) for cost in COSTS)])
    train, validation, test = report["sizes"]
    about = f"{train} images to train on, {validation} to choose by, {test} to measure on"
    yield f"The other half of an image; {about}: median (quartiles)", heads, rows
    yield "The other half of an image, what it costs: median (quartiles)", heads_costs, costs
    rows = []
    for pair, against in report["wins"].items():
        name, other = pair.split(" / ")
        counts = [against[what] for what in MEASURES]
        ahead = {(True, False): name, (False, True): other}.get(
            (all(c["better"] == c["of"] for c in counts), all(c["worse"] == c["of"] for c in counts)),
            "as the columns say",
        )
        rows.append([f"{name} beside {other}", *map(better_in, counts), ahead])
    yield "The other half: ours is better in so many divisions", [*heads, "ahead in all"], rows
    kernel = there.get("kernel CCA")
    rows = [
        contest(f"{name}: {what}", middle(there[name][cost]), {"kernel CCA": middle(kernel[cost])})
        for name in (own if kernel else ())
        for cost, what in COSTS.items()
    ]
    yield "The other half: cost beside kernel CCA, medians", HEADS, rows or [empty("all", HEADS)]


def better_in(count: Report) -> str:
    """Write in how many divisions one is better, and in how many neither is."""
    equal = count["of"] - count["better"] - count["worse"]
    return f"{count['better']} of {count['of']}" + (f", {equal} equal" if equal else "")


def graph(report: Report) -> Tables:
    """Tell of eigenfunctions of graphs, in the graph and out of it."""
    there = report["graphs"]
    heads = ["graph", "", "largest relative error", "sine of the largest angle", "seconds"]
    heads_out = ["graph", "", "mean correlation", "least correlation", f"seconds, {NEW:,} new points"]
    inside, outside, wins = Rows(), Rows(), Rows()
    for name in dict.fromkeys([*GRAPHS, *there]):
        if name not in there:
            inside.append(empty(GRAPHS[name], heads))
            outside.append(empty(GRAPHS[name], heads_out))
            wins.append(empty(GRAPHS[name], HEADS))
            continue
        own, r = there[name], there[name]["rows"]
        inside.append([own["said"], "SciPy eigsh", "exact", "exact", said(r["eigsh_seconds"])])
        for who in ("ours", "untrained"):
            cells = [said(r[f"in, {who}, {what}"]) for what in ("relative_max", "sine")]
            inside.append([own["said"], who, *cells, said(r["seconds"]) if who == "ours" else ""])
        for who, label in (("nystroem", "Nystroem"), ("ours", "ours")):
            cells = [said(r[f"out, {who}, {what}"]) for what in ("mean", "least", "transform_seconds")]
            outside.append([own["said"], label, *cells])
        ahead = sum(run["out"]["ours"]["mean"] > run["out"]["nystroem"]["mean"] for run in own["runs"])
        wins += [
            contest(
                f"{name}: seconds, the graph as it is",
                middle(r["seconds"]),
                {"SciPy eigsh": middle(r["eigsh_seconds"])},
            ),
            contest(
                f"{name}: lack of correlation where nodes were away (ours smaller in {ahead} of "
                f"{len(own['runs'])} rounds)",
                1 - middle(r["out, ours, mean"]),
                {"Nystroem": 1 - middle(r["out, nystroem, mean"])},
            ),
            contest(
                f"{name}: {heads_out[-1]}",
                middle(r["out, ours, transform_seconds"]),
                {"Nystroem": middle(r["out, nystroem, transform_seconds"])},
            ),
        ]
    rounds = f"median (quartiles) of {len(report['seeds'])} rounds"
    yield f"Eigenfunctions of a graph, at its nodes: {rounds}", heads, inside
    yield f"The same at nodes that were taken away: {rounds}", heads_out, outside
    yield "Graphs: who is ahead, medians", HEADS, wins
