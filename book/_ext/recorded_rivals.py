"""What the recorded results of the rivals say, as rows of tables; for the extension ``recorded``.

As in ``recorded_tables``, a row that a report should have, and lacks, is there without numbers.
"""

import math
import statistics
from collections.abc import Iterable

from recorded_tables import MISSING, Report, Rows, Tables, machine, number, said

METHODS = {
    "joint": "NestedLoRA, joint",
    "sequential": "NestedLoRA, sequential",
    "omm": "OMM of the inverse",
    "neuralef": "NeuralEF, unbiased",
    "neuralef-original": "NeuralEF, original",
    "spin": "SpIN",
    "spin-no-memory": "SpIN, no memory",
}
STEPS = ("joint", "sequential", "omm", "omm-2", "neuralef", "neuralef-original", "spin")
NAMES = METHODS | {"omm-2": "OMM of the inverse, order 2"}
SETTINGS = {
    "hydrogen": "hydrogen, default recipe",
    "oscillator": "oscillator, default recipe",
    "hydrogen-cold": "hydrogen, from random heads, small networks",
}
BATCHES = ("32", "128", "512")
BATCHED = ("joint", "neuralef", "neuralef-original")
FIGURE = {key: NAMES[key] for key in ("joint", "sequential", "neuralef", "omm", "spin")}
METRICS = ("relative", "angle", "subspace", "orthogonality")
HEADS = ["method", "rate", "steps", "relative error", "angle", "subspace", "orthogonality"]


def plus_minus(values: list[float]) -> str:
    """Write mean and standard deviation: two digits of the mean, and at least one of the deviation.

    Where the mean takes a power of ten, both are in units of it.
    """
    mean = statistics.fmean(values)
    spread = statistics.stdev(values) if len(values) > 1 else None
    power = magnitude(mean)
    for _ in range(2):  # once more where rounding lifts the mean to the next power
        places = 1 - power
        if spread:
            # As many more as the first digit of the deviation needs, but no more than two of them.
            places = min(max(places, -magnitude(spread)), places + 2)
        power = magnitude(round(mean, places))
    unit = power if power < -3 or power >= 5 else 0
    both = [mean] if spread is None else [mean, spread]
    text = "\u00a0±\u00a0".join(f"{round(x, places) / 10.0**unit:.{max(places + unit, 0)}f}" for x in both)
    if not unit:
        return text
    times = number(10.0**unit).split("\u00a0", 1)[1]
    return f"{text if spread is None else f'({text})'} {times}"


def magnitude(value: float) -> int:
    """Return the power of ten that a number takes; 0 for zero."""
    return int(f"{value:e}".split("e")[1])


def failed(run: Report) -> bool:
    """Say whether a run failed, or found no number."""
    return not math.isfinite(run.get("errors", {}).get("relative_mean", math.inf))


def measured(name: str, runs: list[Report] | None) -> list[str]:
    """Return a row: a method's name with its failures, rate, steps and errors."""
    if not runs:
        return [name, MISSING, *[""] * (len(HEADS) - 2)]
    ran = [run for run in runs if not failed(run)]
    lost = len(runs) - len(ran)
    rates = dict.fromkeys(f"{run['lr']:g}" for run in runs)
    steps = dict.fromkeys(str(run["steps"]) for run in ran)
    cells = [", ".join(rates), ", ".join(steps)]
    for metric in METRICS:
        found = [run["errors"][f"{metric}_mean"] for run in ran]
        text = plus_minus(found) if found else "none"
        cells.append(f"[{text}]" if found and lost else text)
    return [f"{name} ({lost} of {len(runs)} failed)" if lost else name, *cells]


def seeds(methods: Iterable[list[Report]]) -> str:
    """Say what the numbers are, and of how many runs."""
    every = list(methods)
    counts = " or ".join(map(str, sorted({len(runs) for runs in every})))
    lost = sum(failed(run) for runs in every for run in runs)
    of = f"{lost} of {sum(map(len, every))} runs" if lost else "no run"
    return f"mean ± standard deviation of {counts} seeds; {of} failed"


def rivals(report: Report) -> Tables:
    """Tell of the study: for each setting in equal time and in equal steps, and of the size of a batch."""
    names = METHODS | report.get("methods", {})
    there = report.get("settings", {})
    for key in dict.fromkeys([*SETTINGS, *there]):
        setting = there.get(key)
        if setting is None:
            yield f"{SETTINGS[key]}: {MISSING}", ["method", "result"], [[n, MISSING] for n in names.values()]
            continue
        for mode in ("time", "steps"):
            found = setting.get(mode, {})
            methods = dict.fromkeys([*METHODS, *found])
            rows = [measured(names.get(method, method), found.get(method)) for method in methods]
            equal = f"equal time ({report['budget_seconds']:g} seconds)" if mode == "time" else "equal steps"
            own = [runs for method, runs in found.items() if not method.endswith("-measured")]
            caption = f"{setting['said']}, k = {setting['k']}, {equal}: {seeds(own)}"
            yield caption, HEADS, rows + untrained(found)
    yield batch_sizes(report.get("batch", {}), names)


def untrained(methods: dict[str, list[Report]]) -> Rows:
    """Return the row of the control, which is the same for all methods; none where no run has one."""
    for runs in methods.values():
        found = [run["control"]["relative_mean"] for run in runs if "relative_mean" in run.get("control", {})]
        if found:
            return [["untrained (control)", "", "0", plus_minus(found), "", "", ""]]
    return []


def batch_sizes(batch: Report, names: dict[str, str]) -> tuple[str, list[str], Rows]:
    """Return the table of batch sizes."""
    runs = batch.get("runs", {})
    methods = dict.fromkeys([*BATCHED, *(method for of in runs.values() for method in of)])
    rows = [
        measured(f"{names.get(method, method)}: {size} points", runs.get(size, {}).get(method))
        for method in methods
        for size in dict.fromkeys([*BATCHES, *runs])
    ]
    what = batch.get("said", "hydrogen, independent points")
    every = [of for by_method in runs.values() for of in by_method.values()]
    return f"The size of a batch ({what}): {seeds(every) if every else MISSING}", HEADS, rows


def rivals_step(report: Report) -> Tables:
    """Tell of one step of each method at the paper's setting."""
    names, there = NAMES | report.get("methods", {}), report["steps"]
    compiled = report.get("compile_seconds", {})
    heads = ["one step of", "milliseconds", "times LoRA, joint"]
    heads += ["times that, compiled", "s to compile"] if compiled else []
    heads += ["MFLOP", "peak MB", "kept MB"]
    rows: Rows = []
    for method in dict.fromkeys([*STEPS, *there]):
        base, also = method.removesuffix(", compiled"), ", compiled" * method.endswith(", compiled")
        row = there.get(method)
        if row is None:
            rows.append([names[method], MISSING, *[""] * (len(heads) - 2)])
            continue
        cells = [said(row["ms"]), said(row["times_joint"])]
        if compiled:
            cells += [said(row.get("times_joint_compiled")) if also else "", said(compiled.get(method))]
        cells += [said(row["mflop"]), said(row["peak_mb"]), said(row.get("kept_mb"))]
        rows.append([names.get(base, base) + also, *cells])
    yield "One training step of each method at the paper's setting: median (quartiles)", heads, rows


def figure_1(reports: list[Report]) -> Tables:
    """Tell of the runs at the paper's own setting, one report for each method."""
    there = {report["method"]: report for report in reports}
    heads = ["method", "steps", "minutes", "rate", "largest relative error", "of their span", "angle"]
    heads += ["subspace", "orthogonality", "date", "machine"]
    rows: Rows = []
    for method in dict.fromkeys([*FIGURE, *there]):
        name, report = FIGURE.get(method, method), there.get(method)
        if report is None:
            rows.append([name, MISSING, *[""] * (len(heads) - 2)])
            continue
        errors = report["errors"]
        cells = [str(report["steps"]), said(report["minutes"]), f"{report['lr']:g}"]
        cells += [said(errors["relative_max"]), said(report.get("ritz_errors", {}).get("relative_max"))]
        cells += [said(errors.get(f"{metric}_max")) for metric in METRICS[1:]]
        rows.append([name, *cells, report["date"][:10], machine(report)])
    yield "The paper's own setting, one run of each method: largest errors", heads, rows
