"""What the recorded results of the benchmarks say, as rows of tables; for the extension ``recorded``.

Each function takes a report as ``benchmarks/NAME.py --record`` keeps it, and yields tables: a caption, heads
and rows of text. A row that a report should have, and lacks, is there without numbers.
"""

import math
import statistics
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "_templates"))
from record_labs import machine, number

sys.path.pop(0)

Report = dict[str, Any]
Rows = list[list[str]]
Tables = Iterator[tuple[str, list[str], Rows]]
MISSING = "no result yet"

CASES = {
    "hydrogen9": "hydrogen, nine values",
    "hydrogen9-long": "the same, longer",
    "hydrogen16": "hydrogen, sixteen values",
    "hydrogen25": "hydrogen, 25 values",
    "oscillator10": "oscillator",
    "oscillator-tilted": "oscillator, off-centre and turned, frequencies 1 and 2.3",
    "well": "infinite well",
    "hydrogen3d": "hydrogen in three dimensions",
    "sgd": "hydrogen, by stochastic gradients",
    "sgd-long": "the same, longer, by stochastic gradients",
    "sgd-cold": "the same from random heads",
    "six": "coupled oscillators in six dimensions",
    "ten": "coupled oscillators in ten dimensions",
}
# These have a record of their own.
KERNELS = {
    "volterra5": "Volterra's operator, by stochastic gradients",
    "volterra5-varpro": "the same, by variable projection",
    "brownian5": "the Brownian covariance, by stochastic gradients",
    "brownian5-varpro": "the same, by variable projection",
    "gaussian5": "the Gaussian kernel, by stochastic gradients",
    "gaussian5-varpro": "the same, by variable projection",
}
METHODS = {"varpro": "variable projection", "sgd": "stochastic gradients"}
FAMILIES = {
    "oscillator": "coupled oscillators",
    "coulomb": "atoms",
    "trapped_atom": "atom in an oscillator",
    "poeschl_teller": "Pöschl and Teller's well",
    "quartic": "quartic wells",
    "wells": "Gaussian wells",
    "trapped_wells": "Gaussian wells in an oscillator",
}


# What all tables share -----------------------------------------------------------------------------------


def middle(value: Any) -> float:
    """Return the median of a number that comes with its quartiles."""
    return float(value["median"] if isinstance(value, dict) else value)


def said(value: Any) -> str:
    """Write a number, alone or with quartiles; nothing for none, a word for one that is infinite."""
    if value is None:
        return ""
    if isinstance(value, dict):
        spread = [said(value.get(key)) for key in ("median", "low", "high")]
        return spread[0] if len(set(spread)) == 1 or "" in spread else "{} ({} to {})".format(*spread)
    return number(float(value)) if math.isfinite(value) else "none"


def errors(runs: Iterable[Report], key: str = "relative_max", of: str = "errors") -> list[float]:
    """Return an error of all runs that have one."""
    return [run[of][key] for run in runs if key in run.get(of, {})]


def about(report: Report) -> str:
    """Say in a sentence how a result was made."""
    threads = "one thread" if report["threads"] == 1 else f"{report['threads']} threads"
    if report.get("at_once", 1) > 1:
        threads += f", {report['at_once']} runs at a time"
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    before, after = report["machine"].get("load_average"), report.get("load_average_after")
    load = ", ".join(f"{x:g} {when}" for x, when in ((before, "before"), (after, "after")) if x is not None)
    gpu = report["machine"].get("gpu")
    where = machine(report) + (f", {gpu}" if gpu else "")
    return (
        f"{report['date'][:10]}, {where}, {threads}; load average {load or 'unknown'}; {versions}; "
        f"revision {report.get('revision') or 'unknown'}. {report['command']}"
    )


# One function for each benchmark: what its report says, as tables ------------------------------------------


def accuracy(report: Report) -> Tables:
    """Tell of accuracy in a given time; a case that was not run stands empty."""
    heads = ["problem", "k", "seconds", "seeds", "median", "worst", "untrained"]
    rows: Rows = []
    there = report.get("cases", {})
    said_of = KERNELS if there and set(there) <= set(KERNELS) else CASES
    for name in dict.fromkeys([*said_of, *there]):
        case = there.get(name)
        if case is None:
            rows.append([said_of[name], *[""] * 6, MISSING])
            continue
        runs, bounds = case["runs"], case["bounds"]
        found = errors(runs)
        failed = len(runs) - len(found)
        if bounds:
            met = sum(
                all(run.get("errors", {}).get(n, math.inf) <= b for n, b in bounds.items()) for run in runs
            )
            wanted = ", ".join(f"{n.split('_')[0]} {said(b)}" for n, b in bounds.items())
            stretch = ", a stretch" if case.get("stretch") else ""
            verdict = f"{met} of {len(runs)} ({wanted}{stretch})"
        else:
            verdict = "none asked"
        rows.append(
            [
                said_of.get(name, name),
                str(case["k"]),
                said(case["limit_seconds"]),
                f"{len(runs)}" + (f", {failed} without result" if failed else ""),
                said(statistics.median(found)) if found else "",
                said(max(found)) if found and not failed else "none" if failed else "",
                said(statistics.median(errors(runs, of="control"))) if errors(runs, of="control") else "",
                verdict,
            ]
        )
    yield "Largest relative error of the k values, default settings", [*heads, "bounds met"], rows


def held_out(report: Report) -> Tables:
    """Tell of operators drawn at random."""
    heads = ["family", "operators", "median error", "worst error", "untrained, median", "failed"]
    rows: Rows = []
    there = report.get("results", {})

    def row(name: str, runs: list[Report]) -> list[str]:
        found = [run["error"] for run in runs]
        control = [run["control"] for run in runs if "control" in run]
        return [
            name,
            str(len(runs)),
            said(statistics.median(found)),
            said(max(found)),
            said(statistics.median(control)) if control else "",
            str(sum("failed" in run for run in runs)),
        ]

    for name in dict.fromkeys([*FAMILIES, *there]):
        if name in there:
            rows.append(row(FAMILIES.get(name, name), there[name]["runs"]))
        else:
            rows.append([FAMILIES[name], MISSING, *[""] * 4])
    every = [run for family in there.values() for run in family["runs"]]
    if every:
        rows.append(row("all", every))
    seconds = report["arguments"]["seconds"]
    caption = f"Operators drawn at random (seed {report['seed']}), {seconds:g} seconds each"
    yield caption, heads, rows


def side_by_side(report: Report) -> Tables:
    """Tell of ours beside what others would use."""
    for name, own in report.get("plane", {}).items():
        ours = own["varpro"]
        rows = [
            ["variable projection", "", said(ours["seconds"]), said(ours["relative_max"]), "", ""],
            ["its trunk untrained (control)", "", "", said(ours["control"]), "", ""],
        ]
        for label, row in own["finite_elements"].items():
            time = row["its_time_over_ours"]
            late = middle(time) == 0
            rows.append(
                [
                    label,
                    str(row["unknowns"]),
                    said(row["seconds"]),
                    said(row["relative_max"]),
                    said(row["its_error_over_ours"]),
                    "ours never got there" if late else said(time),
                ]
            )
        heads = [
            "",
            "unknowns",
            "seconds",
            "largest relative error",
            "its error / ours",
            "its time / ours to it",
        ]
        yield f"{name}, k = {own['k']}: median (quartiles)", heads, rows
    for part in ("matrices", "sampled"):
        for name, contenders in report.get(part, {}).items():
            rows = []
            for label, row in contenders.items():
                if "refused" in row:
                    rows.append([label, "can't run", "", row["refused"]])
                    continue
                first = label.startswith("ours")
                ratio = "" if first else said(row["its_time_over_ours"])
                rows.append([label, said(row["seconds"]), said(row["relative_max"]), ratio])
            yield (
                f"{name}: median (quartiles)",
                ["", "seconds", "largest relative error", "its time / ours"],
                rows,
            )
    for part in ("plane", "matrices", "sampled"):
        if part not in report:
            yield f"{part}: {MISSING}", ["", "seconds"], [["all", ""]]


def dimensions(report: Report) -> Tables:
    """Tell of error and time against the dimension."""
    heads = ["d", "method", "unknowns", "seconds", "MiB", "median", "worst", "untrained"]
    rows: Rows = []
    there = {int(d): row for d, row in report.get("rows", {}).items()}
    for d in range(1, max([10, *there]) + 1):
        if d not in there:
            rows.append([str(d), MISSING, *[""] * 6])
            continue
        runs = there[d]["ours"]
        found, control = errors(runs), errors(runs, of="control")
        seconds = [run["seconds"] for run in runs if "seconds" in run]
        failed = len(runs) - len(found)
        rows.append(
            [
                str(d),
                f"variable projection, {len(runs)} seeds" + (f", {failed} without result" if failed else ""),
                "",
                said(statistics.median(seconds)) if seconds else "",
                said(max((run["memory_mib"] for run in runs if "memory_mib" in run), default=None)),
                said(statistics.median(found)) if found else "",
                said(max(found)) if found and not failed else "none" if failed else "",
                said(statistics.median(control)) if control else "",
            ]
        )
        for grid in there[d].get("finite_elements", []):
            error = said(middle(grid["relative_max"]))
            cells = [str(d), "finite elements", str(grid["unknowns"]), said(middle(grid["seconds"]))]
            cells.append(said(grid.get("memory_mib")))
            rows.append([*cells, error, error, ""])
    yield "Coupled oscillators, k = d + 1: largest relative error", heads, rows


def scaling(report: Report) -> Tables:
    """Tell of time and memory of one step, and of how they grow."""
    rows: Rows = [
        [
            METHODS.get(row["method"], row["method"]),
            *map(str, row["sizes"]),
            said(row["ms"]),
            said(row["peak_mb"]),
        ]
        for row in report["rows"]
    ]
    heads = ["one step by", "L", "nodes", "d", "milliseconds", "peak MB"]
    yield "Time and memory of one step: median (quartiles)", heads, rows
    rows = []
    for name, powers in report.get("exponents", {}).items():
        method, _, axis = name.partition(", ")
        grown = [f"{powers[of]['fit']:.2f} ({powers[of]['last']:.2f})" for of in ("ms", "memory")]
        rows.append([METHODS.get(method, method), axis, *grown])
    if rows:
        heads = ["one step by", "against", "time", "memory"]
        yield "Both grow like this power of the size: fitted (between the two largest)", heads, rows


def step(report: Report) -> Tables:
    """Tell of one step at the paper's setting."""
    rows = [
        [
            what,
            said(told["ms"]),
            said(told["faster_than_a"]),
            said(told.get("faster_than_b")),
            said(told.get("times_floor")),
        ]
        for what, told in report["steps"].items()
    ]
    heads = ["step", "milliseconds", "times as fast as (a)", "as (b)", "times the floor (e)"]
    yield "One training step at the paper's setting: median (quartiles)", heads, rows


def optimizers(report: Report) -> Tables:
    """Tell of optimizers, each at its best rate."""
    rows: Rows = []
    for name, told in report["results"].items():
        found = [run["relative_max"] for run in told["runs"]]
        rows.append([name, str(len(found)), *(said(f(found)) for f in (min, statistics.median, max))])
    caption = (
        f"Optimizers in {report['arguments']['seconds']:g} seconds, each at its best rate: the same error"
    )
    yield caption, ["optimizer", "seeds", "best", "median", "worst"], rows


def gpu(report: Report) -> Tables:
    """Tell of the paper's whole run on a GPU."""
    device = report["machine"]["gpu"] or ""
    rows = [
        [
            f"{device}, {name}",
            str(row["steps"]),
            said(row["seconds"]),
            said(row.get("ms_per_step")),
            said(row.get("errors", {}).get("relative_max")),
            said(row.get("peak_mb")),
        ]
        for name, row in report["runs"].items()
    ]
    heads = ["run", "steps", "seconds", "milliseconds a step", "largest relative error", "peak MB"]
    yield "The paper's setting on a GPU", heads, rows
