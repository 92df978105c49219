"""What is recorded of kernel PCA, and of matrices that do not fit, as rows of tables; for ``recorded``.

As in ``recorded_tables``, a row that a report should have, and lacks, is there without numbers.
"""

from recorded_data import HEADS, NEW, contest, empty, lead
from recorded_tables import MISSING, Report, Rows, Tables, middle, said

PRECISE = 1e-8  # largest relative error of a big matrix's values that counts as accurate
SETS = {"digits": "scikit-learn's digits", "surface": "points near a surface"}
LAWS = {"gaussian": "Gaussian kernel under the normal law", "surface": "points near a surface"}
REDUCED = {
    "fit_seconds": "seconds of a fit",
    "fit_memory_mb": "MB of a fit",
    "transform_seconds": f"seconds, {NEW:,} new points",
    "model_mb": "MB of the model",
    "score_error": "error of the scores",
    "angle_max": "largest angle",
    "held_out_share": "held-out share",
}
MATRICES = {"sparse": "a sparse matrix", "memory map": "a matrix in a file"}


def reduction(report: Report) -> Tables:
    """Tell of kernel PCA: data sets, extrapolation, and what new points cost."""
    sets, laws, costs = (report.get(part, {}) for part in ("sets", "extrapolation", "costs"))
    wins: Rows = []
    for name in dict.fromkeys([*SETS, *sets]):
        own = sets.get(name)
        heads = ["", *REDUCED.values()]
        if own is None:
            yield f"Kernel PCA, {SETS[name]}: {MISSING}", heads, [empty("all", heads)]
            continue
        table = own["contenders"]
        rows = [[label, *(said(row[key]) for key in REDUCED)] for label, row in table.items()]
        rows.append(["exact, extended by the exact sum", *[""] * 6, said(own["exact_share"])])
        about = f"{own['rows']} rows of {own['features']} features, {own['k']} components"
        yield f"Kernel PCA, {SETS.get(name, name)}: {about}: median (quartiles)", heads, rows
        for key in ("fit_seconds", "fit_memory_mb", "score_error", "transform_seconds", "model_mb"):
            values = {label: middle(row[key]) for label, row in table.items()}
            mine = values.pop("NeuralSVD")
            wins.append(contest(f"{name}: {REDUCED[key]}", mine, values))
            if key == "score_error":
                close = {label: x for label, x in values.items() if label.startswith("Nystroem")}
                wins.append(contest(f"{name}: {REDUCED[key]}, beside Nystroem alone", mine, close))
    yield "Kernel PCA: who is ahead, medians", HEADS, wins or [empty("all", HEADS)]
    yield extrapolation(laws, len(report["seeds"]))
    heads, rows = ["", "rows", f"seconds, {NEW:,} new points", "MB of the model"], []
    for label, own in costs.items():
        if isinstance(own, dict):
            columns = zip(own["rows"], own["transform_seconds"], own["model_mb"], strict=True)
            rows += [[label, str(n), said(seconds), said(mb)] for n, seconds, mb in columns]
            powers = [f"power {own[f'{what}_exponent']:.2f}" for what in ("transform", "model")]
            rows.append([label, "grows like a power of the rows:", *powers])
    yield "Kernel PCA, new points against rows to learn from", heads, rows or [empty("all", heads)]


def extrapolation(laws: Report, seeds: int) -> tuple[str, list[str], Rows]:
    """Return the table of networks and the matrix method beside the law's own functions."""
    heads = ["law", "points", "method", "largest sine", "times the matrix's", "smaller on", "ahead"]
    rows: Rows = []
    for law in dict.fromkeys([*LAWS, *(law for law in laws if law != "said")]):
        if law not in laws:
            rows.append(empty(LAWS[law], heads))
            continue
        for n, row in laws[law]["points"].items():
            for label, values in row.items():
                cells = ["", "", ""]
                if "over_matrix" in values:
                    ratio = middle(values["over_matrix"])
                    cells = [said(values["over_matrix"]), f"{values['better_on']} of {seeds} draws"]
                    cells.append(lead(ratio, 1.0, "matrix", "network"))
                rows.append([LAWS.get(law, law), n, label, said(values), *cells])
    caption = "Learned functions beside those of the law the points come from: median (quartiles)"
    return caption, heads, rows


def big_matrix(report: Report) -> Tables:
    """Tell of matrices that do not fit, and who wins."""
    there = report["groups"]
    heads = ["", "seconds", "peak MB", "added MB", "largest relative error", "largest angle"]
    for group in dict.fromkeys([*MATRICES, *there]):
        name = MATRICES.get(group, group)
        if group not in there:
            yield f"{name}: {MISSING}", heads, [empty("all", heads)]
            continue
        own = there[group]
        rows: Rows = []
        for label, row in own["rows"].items():
            if "refused" in row:
                rows.append([label, "can't run", "", "", row["refused"], ""])
                continue
            costs = [said(row[key]) for key in ("seconds", "peak_mb", "added_mb")]
            # The reference is the first that ran; its errors are zero by their definition.
            first = not any(cell[-1] == "reference" for cell in rows)
            found = ["reference"] * 2 if first else [said(row[key]) for key in ("relative_max", "angle_max")]
            rows.append([label, *costs, *found])
        k = f", k = {len(own['values'])}" if own["values"] else ""
        yield f"{name}, {own['said']}{k}", heads, rows
        wins = winners(own["rows"])
        yield f"{name}: who is ahead", HEADS, wins


def winners(rows: Report) -> Rows:
    """Return who is ahead on a big matrix: among those that are accurate, and for blocks drawn at random."""
    ran = {label: row for label, row in rows.items() if "refused" not in row}
    accurate = {label: row for label, row in ran.items() if row["relative_max"] <= PRECISE}
    others = {label: row for label, row in accurate.items() if not label.startswith("ours")}
    found: Rows = []
    for key, what in (("seconds", "seconds"), ("added_mb", "MB added")):
        mine = accurate["ours"][key] if "ours" in accurate else None
        theirs = {label: row[key] for label, row in others.items()}
        found.append(contest(f"{what}, to an error of {said(PRECISE)}", mine, theirs))
    sampled = ran.get("ours, sampled")
    if sampled is not None:
        for name, beside in (("ours, untrained", "their start"), ("ours", "exact sums")):
            if name in ran:
                what = f"largest relative error of sampled blocks, beside {beside}"
                errors = sampled["relative_max"], {beside: ran[name]["relative_max"]}
                found.append(contest(what, *errors, "sampled blocks"))
    return found
