"""The page of benchmarks: tables of the newest recorded results, made when the book is built.

``{benchmark} NAME`` stands for the tables of one benchmark of :data:`KINDS`. They come from the newest file
of each variant (number of threads, compiled or not) in ``benchmarks/results``, and each says when, on what
and with which load it was made. Nothing is typed: where no result is recorded, or one lacks a row that it
should have, the row stands there empty and says so.
"""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent.parent / "benchmarks" / "results"

sys.path[:0] = [str(HERE), str(HERE.parent / "_templates")]
import recorded_tables as tell  # noqa: E402
from record_labs import table  # noqa: E402

del sys.path[:2]

Report = dict[str, Any]
FILE = re.compile(r"(?P<base>[a-z_]+)(?P<variant>(?:-[a-z0-9-]+?)?)-(?P<date>\d{4}-\d\d-\d\d)\.json")


@dataclass(frozen=True)
class Kind:
    """A benchmark: its tables, and what stands empty where there is no result.

    Arguments:
        said: what it is of.
        tables: takes a report.
        rows: what a result would tell of.
        command: records one.
    """

    said: str
    tables: Callable[[Report], tell.Tables]
    rows: tuple[str, ...]
    command: str


def kind(name: str, said: str, rows: tuple[str, ...]) -> Kind:
    """Return the kind of a benchmark that has a script and a function of its name."""
    return Kind(said, getattr(tell, name), rows, f"python benchmarks/{name}.py --record")


KINDS = {
    "accuracy": kind("accuracy", "accuracy in a given time", tuple(tell.CASES.values())),
    "held_out": kind("held_out", "operators drawn at random", tuple(tell.FAMILIES.values())),
    "side_by_side": kind(
        "side_by_side",
        "ours beside what others would use",
        ("differential operators", "matrices", "operators that are only sampled"),
    ),
    "dimensions": kind("dimensions", "error against dimension", tuple(f"d = {d}" for d in range(1, 11))),
    "scaling": kind("scaling", "time and memory of a step", ("against L", "against B", "against d")),
    "step": kind("step", "one step at the paper's setting", ("one step",)),
    "optimizers": kind("optimizers", "optimizers", ("nine states",)),
    "gpu": kind("gpu", "the paper's setting on a GPU", ("H100: 500,000 steps of 128 points",)),
}


def newest(folder: Path, base: str) -> list[tuple[str, Report]]:
    """Return the newest result of each variant of a benchmark, with the variant's name, by name."""
    found: dict[str, tuple[str, Path]] = {}
    for path in sorted(folder.glob("*.json")):
        match = FILE.fullmatch(path.name)
        if match and match["base"] == base:
            found[match["variant"]] = max(found.get(match["variant"], ("", path)), (match["date"], path))
    return [
        (variant.strip("-"), json.loads(path.read_text(encoding="utf-8")))
        for variant, (_, path) in sorted(found.items())
    ]


def html(folder: Path, name: str) -> str:
    """Return the tables of a benchmark as HTML.

    Raises:
        ValueError: a result that lacks what its tables need.
    """
    of = KINDS[name]
    found = newest(folder, name)
    if not found:
        rows = [[row, tell.MISSING] for row in of.rows]
        caption = f"Nothing is recorded yet: {of.said} ({of.command} makes one)"
        return table(caption, ["what", "result"], rows)
    parts = []
    for variant, report in found:
        try:
            made = tell.about(report)
            tables = list(of.tables(report))
        except (KeyError, TypeError, AttributeError) as error:
            label = f"{name}-{variant}" if variant else name
            raise ValueError(f"the newest result of {label} can't be read: {error!r}") from error
        words = variant.replace("-two-at-once", "-two runs at once")
        words = re.sub(r"(\d+)threads", r"\1 threads", words).replace("-", ", ")
        which = f" ({words.replace('1 threads', 'one thread')})" if variant else ""
        parts += [table(caption + which, heads, rows) for caption, heads, rows in tables]
        parts.append(f'<p class="made"><small>{escape(made)}</small></p>')
    return "".join(parts)


class BenchmarkDirective(SphinxDirective):
    """``{benchmark} NAME``: the tables of one benchmark."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the tables, and let the page be read again when a result changes."""
        [name] = self.arguments
        if name not in KINDS:
            raise self.error(f"no benchmark is named {name!r}: there are {', '.join(KINDS)}")
        folder = Path(self.env.app.confdir) / self.env.config.benchmark_results
        for path in sorted(folder.glob("*.json")):
            self.env.note_dependency(str(path))
        try:
            return [nodes.raw("", html(folder, name), format="html")]
        except ValueError as error:
            raise self.error(str(error)) from error


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_config_value("benchmark_results", str(RESULTS), "env")
    app.add_directive("benchmark", BenchmarkDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
