"""Run labs at a longer budget than their stored outputs, and keep what they found.

    python book/_templates/record_labs.py                          every lab at laptop
    python book/_templates/record_labs.py --budget full hydrogen   one lab, trained long
    python book/_templates/record_labs.py --list                   what is recorded

A copy of the lab is executed; its cell ``results`` leaves a dictionary of numbers, and
``book/records/LAB-BUDGET.json`` keeps them with what made them: budget, seed, threads,
machine, versions, date, minutes, and digests of the code. The page ``book/runs.md``
shows the records, and says of each whether the code has changed since.
"""

import argparse
import hashlib
import html
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import nbformat

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LABS = ROOT / "book" / "labs"
RECORDS = ROOT / "book" / "records"
BENCHMARKS = ROOT / "benchmarks"
BUDGETS = ("laptop", "full")
KEYS = (
    "lab",
    "title",
    "budget",
    "results",
    "minutes",
    "seed",
    "threads",
    "machine",
    "device",
    "versions",
    "date",
    "revision",
    "command",
    "cells_sha256",
    "package_sha256",
)

# Run in the lab's own kernel, after its last cell.
LAST = """
import json as _json

import torch as _torch

print(
    _json.dumps(
        {
            "results": {str(name): float(value) for name, value in results.items()},
            "seed": int(globals().get("seed", 0)),
            "threads": _torch.get_num_threads(),
            "device": str(globals().get("device", "cpu")),
            "budget": nbsvd.budget(),
        }
    )
)
"""


def digest(parts: Iterable[bytes]) -> str:
    """Return the SHA-256 of several pieces, each with its length."""
    total = hashlib.sha256()
    for part in parts:
        total.update(str(len(part)).encode() + b"\n" + part)
    return total.hexdigest()


def cells_digest(notebook: Any) -> str:
    """Return the digest of a lab's code without exercises, which record nothing."""
    sources = [
        cell.source.encode()
        for cell in notebook.cells
        if cell.cell_type == "code" and not cell.get("id", "").startswith("exercise-")
    ]
    return digest(sources)


def package_digest(package: Path | None = None) -> str:
    """Return the digest of the package: names and contents of its files."""
    package = ROOT / "nbsvd" if package is None else package

    def parts() -> Iterator[bytes]:
        for path in sorted(package.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(package).as_posix().encode()
                yield path.read_bytes()

    return digest(parts())


def provenance(command: str) -> dict[str, Any]:
    """Return machine, versions, date, revision and command, as the benchmarks do."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import _machine
    finally:
        sys.path.remove(str(BENCHMARKS))
    about: dict[str, Any] = _machine.provenance("nbsvd")
    return about | {"command": command}


def title(notebook: Any) -> str:
    """Return the first heading of a lab."""
    first = notebook.cells[0].source.splitlines()[0]
    return str(first).removeprefix("# ").strip()


def run(lab: str, budget: str, threads: int, command: str) -> dict[str, Any]:
    """Execute a copy of a lab and return its record.

    Raises:
        RuntimeError: a cell fails, or the lab leaves no dictionary of finite numbers.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    path = LABS / f"{lab}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    code = cells_digest(notebook)
    about = provenance(command)
    last = nbformat.v4.new_code_cell(LAST)
    notebook.cells.append(last)
    kept = {name: os.environ.get(name) for name in ("NBSVD_BUDGET", "OMP_NUM_THREADS")}
    os.environ.update(NBSVD_BUDGET=budget, OMP_NUM_THREADS=str(threads))
    began = time.perf_counter()
    try:
        # A folder of its own: a lab runs alone, and leaves nothing behind.
        with tempfile.TemporaryDirectory() as folder:
            client = NotebookClient(
                notebook,
                timeout=7200,
                store_widget_state=False,
                resources={"metadata": {"path": folder}},
            )
            client.execute()
    except CellExecutionError as error:
        raise RuntimeError(f"{lab} stopped at the budget {budget}:\n{error}") from error
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
    minutes = (time.perf_counter() - began) / 60
    told = json.loads("".join(o.text for o in last.outputs if o.name == "stdout"))
    bad = {name: x for name, x in told["results"].items() if not math.isfinite(x)}
    if bad or not told["results"]:
        raise RuntimeError(
            f"{lab}: results is {told['results']}; expected finite numbers"
        )
    if told["budget"] != budget:
        raise RuntimeError(f"{lab} ran at {told['budget']}, though {budget} was asked")
    record = {
        "lab": lab,
        "title": title(notebook),
        "minutes": round(minutes, 2),
        "cells_sha256": code,
        "package_sha256": package_digest(),
        **told,
        **{name: about[name] for name in ("machine", "versions", "date", "revision")},
        "command": command,
    }
    return {key: record[key] for key in KEYS}


def records() -> list[dict[str, Any]]:
    """Return all records, by lab and budget."""
    paths = sorted(RECORDS.glob("*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def faults(record: dict[str, Any]) -> list[str]:
    """Say what a record lacks; nothing, if all is well."""
    needed = [key for key in KEYS if key != "revision"]  # there is none without git
    wrong = [f"has no {key}" for key in needed if record.get(key) is None]
    wrong += [f"{key} is no part of a record" for key in record if key not in KEYS]
    if record.get("budget") not in BUDGETS:
        wrong.append(f"the budget {record.get('budget')!r} is none of {BUDGETS}")
    results = record.get("results")
    if not isinstance(results, dict) or not results:
        return [*wrong, "results is not a dictionary of numbers"]
    for name, value in results.items():
        if not isinstance(value, float | int) or not math.isfinite(value):
            wrong.append(f"{name} is {value!r}, no finite number")
    return wrong


def state(record: dict[str, Any]) -> str:
    """Say whether a record still belongs to the code that is here."""
    path = LABS / f"{record['lab']}.ipynb"
    if not path.exists():
        return "stale: the lab is gone"
    if cells_digest(nbformat.read(path, as_version=4)) != record["cells_sha256"]:
        return "stale: the lab's code has changed since"
    if package_digest() != record["package_sha256"]:
        return "the package has changed since"
    return "current"


def number(value: float) -> str:
    """Write a number with three digits, in powers of ten where that reads better."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        short = f"{value:.3g}"
        return short if "e" not in short else f"{float(short):.0f}"
    mantissa, exponent = f"{value:.2e}".split("e")
    power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa}\u00a0×\u00a010{power}"


def table(caption: str, heads: list[str], rows: list[list[str]]) -> str:
    """Return an HTML table that scrolls where it is too wide."""
    escaped = [[html.escape(cell) for cell in row] for row in [heads, *rows]]
    top = "".join(f'<th scope="col">{cell}</th>' for cell in escaped[0])
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>'
        + "".join(f"<td>{cell}</td>" for cell in row[1:])
        + "</tr>"
        for row in escaped[1:]
    )
    label = html.escape(caption, quote=True)
    return (
        f'<div class="runs" role="region" tabindex="0" aria-label="{label}">'
        f'<table class="table"><caption>{label}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def machine(about: dict[str, Any]) -> str:
    """Name a machine in a line."""
    place = about["machine"]
    return (
        place
        if isinstance(place, str)
        else f"{place['processor']}, {place['cores']} cores"
    )


def lab_tables(found: list[dict[str, Any]]) -> str:
    """Return what the labs found, and how, as HTML."""
    if not found:
        return "<p>No lab is recorded yet: <code>make records</code> makes records.</p>"
    made = []
    for lab in dict.fromkeys(record["lab"] for record in found):
        runs = [record for record in found if record["lab"] == lab]
        runs.sort(key=lambda record: BUDGETS.index(record["budget"]))
        names = list(dict.fromkeys(name for run in runs for name in run["results"]))
        rows = [
            [name]
            + [
                number(run["results"][name]) if name in run["results"] else ""
                for run in runs
            ]
            for name in names
        ]
        rows += [
            ["minutes", *(number(run["minutes"]) for run in runs)],
            ["threads, seed", *(f"{run['threads']}, {run['seed']}" for run in runs)],
            ["machine", *(f"{machine(run)} ({run['device']})" for run in runs)],
            ["torch", *(run["versions"]["torch"] for run in runs)],
            ["date", *(run["date"][:10] for run in runs)],
            ["the code of today?", *(state(run) for run in runs)],
        ]
        heads = ["quantity", *(f"budget {run['budget']}" for run in runs)]
        made.append(table(runs[-1]["title"], heads, rows))
    return "".join(made)


def main(arguments: list[str]) -> int:
    """Do what the command line asks."""
    there = sorted(path.stem for path in LABS.glob("*.ipynb"))
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        epilog=f"Labs: {', '.join(there)}.",
    )
    parser.add_argument("labs", nargs="*", metavar="LAB", help="default: all")
    parser.add_argument("--budget", choices=BUDGETS, default="laptop")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--list", action="store_true", help="show what is recorded")
    asked = parser.parse_args(arguments)
    if unknown := sorted(set(asked.labs) - set(there)):
        parser.error(f"no lab {', '.join(unknown)}; there are {', '.join(there)}")
    if asked.list:
        for record in records():
            name = f"{record['lab']}-{record['budget']}"
            print(f"{name:24} {record['date'][:10]}  {state(record)}")
        return 0
    failed = []
    for lab in asked.labs or there:
        command = "python book/_templates/record_labs.py"
        command += f" --budget {asked.budget} --threads {asked.threads} {lab}"
        try:
            record = run(lab, asked.budget, asked.threads, command)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            failed.append(lab)
            continue
        RECORDS.mkdir(exist_ok=True)
        path = RECORDS / f"{lab}-{asked.budget}.json"
        text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {record['minutes']} minutes")
        for name, value in record["results"].items():
            print(f"    {name}: {value:.3g}")
    if failed:
        print(f"Not recorded: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
