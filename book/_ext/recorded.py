"""The page of benchmarks: tables of the newest recorded results, made when the book is built.

``{benchmark} NAME`` stands for the tables of one benchmark of :data:`KINDS`. They come from the newest file
of each variant (number of threads, compiled or not, method) in ``benchmarks/results``, and each says when,
on what and with which load it was made. Nothing is typed: where no result is recorded, or one lacks a row
that it should have, the row stands there empty and says so.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent.parent / "benchmarks" / "results"

sys.path[:0] = [str(HERE), str(HERE.parent / "_templates")]
import recorded_data  # noqa: E402
import recorded_matrices  # noqa: E402
import recorded_rivals  # noqa: E402
import recorded_tables as tell  # noqa: E402
from record_labs import table  # noqa: E402

del sys.path[:2]

Report = dict[str, Any]
FILE = re.compile(r"(?P<base>[a-z0-9_]+)(?P<variant>(?:-[a-z0-9-]+?)?)-(?P<date>\d{4}-\d\d-\d\d)\.json")


@dataclass(frozen=True)
class Kind:
    """A benchmark: its tables, and what stands empty where there is no result.

    Arguments:
        said: what it is of.
        tables: takes a report; or the reports of all variants.
        rows: what a result would tell of.
        command: records one.
        together: whether all variants share one table.
    """

    said: str
    tables: Callable[[Any], tell.Tables]
    rows: tuple[str, ...]
    command: str
    together: bool = False


def kind(name: str, said: str, rows: tuple[str, ...], module: ModuleType = tell) -> Kind:
    """Return the kind of a benchmark that has a script and a function of its name."""
    return Kind(said, getattr(module, name), rows, f"python benchmarks/{name}.py --record")


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
    "rivals_step": kind(
        "rivals_step",
        "one step of each method",
        tuple(recorded_rivals.NAMES[method] for method in recorded_rivals.STEPS),
        recorded_rivals,
    ),
    "rivals": kind(
        "rivals",
        "the rivals in equal time and equal steps",
        (*recorded_rivals.SETTINGS.values(), "the size of a batch"),
        recorded_rivals,
    ),
    "figure_1": Kind(
        "the paper's own setting",
        recorded_rivals.figure_1,
        tuple(recorded_rivals.FIGURE.values()),
        "python benchmarks/figure_1.py METHOD --record",
        together=True,
    ),
    "optimizers": kind("optimizers", "optimizers", ("nine states",)),
    "gpu": kind("gpu", "the paper's setting on a GPU", ("H100: 500,000 steps of 128 points",)),
    "correlated": kind(
        "correlated", "two correlated normal variables", tuple(tell.METHODS.values()), recorded_data
    ),
    "dynamics": kind("dynamics", "Koopman operators", tuple(recorded_data.PROCESSES.values()), recorded_data),
    "retrieval": kind("retrieval", "the other half of an image", recorded_data.HALVES, recorded_data),
    "graph": kind("graph", "eigenfunctions of graphs", tuple(recorded_data.GRAPHS.values()), recorded_data),
    "reduction": kind(
        "reduction",
        "kernel PCA",
        (*recorded_matrices.SETS.values(), "the functions of the law", "the cost of new points"),
        recorded_matrices,
    ),
    "big_matrix": kind(
        "big_matrix",
        "matrices that do not fit",
        tuple(recorded_matrices.MATRICES.values()),
        recorded_matrices,
    ),
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
    groups = [found] if of.together else [[one] for one in found]
    return "".join(part for group in groups for part in shown(name, of, group))


def shown(name: str, of: Kind, group: list[tuple[str, Report]]) -> Iterator[str]:
    """Yield the tables of one variant, or of all that share them, and a line on how each was made."""
    [variant, first], *_ = group
    try:
        made = [(words(v) + ": " if of.together else "") + tell.about(report) for v, report in group]
        tables = list(of.tables([report for _, report in group] if of.together else first))
    except (KeyError, TypeError, AttributeError) as error:
        label = f"{name}-{variant}" if variant and not of.together else name
        raise ValueError(f"the newest result of {label} can't be read: {error!r}") from error
    which = f" ({words(variant)})" if variant and not of.together else ""
    for caption, heads, rows in tables:
        yield table(caption + which, heads, rows)
    for line in made:
        yield f'<p class="made"><small>{escape(line)}</small></p>'


def words(variant: str) -> str:
    """Write the name of a variant in words."""
    spelt = variant.replace("-two-at-once", "-two runs at once")
    spelt = re.sub(r"(\d+)threads", r"\1 threads", spelt).replace("-", ", ")
    return spelt.replace("1 threads", "one thread")


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
