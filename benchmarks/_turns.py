"""Contenders that take turns, and tables of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from _classical import Array
from _machine import quartiles


@dataclass
class Turn:
    """One contender's runs: seconds and largest relative error of each round; or why it can't run."""

    seconds: list[float] = field(default_factory=list)
    relative_max: list[float] = field(default_factory=list)
    refused: str | None = None

    def take(self, function: Callable[[], Any], exact: Array, may_refuse: bool) -> None:
        """Let it have a turn; one of the others may raise an error: it was not made for this input."""
        start = time.perf_counter()
        try:
            found = np.sort(np.asarray(function(), dtype=float))[::-1]
        except (TypeError, ValueError) as error:
            if not may_refuse:
                raise
            self.refused = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            return
        self.seconds.append(time.perf_counter() - start)
        self.relative_max.append(float(np.abs((found - exact) / exact).max()))


def shown(of: dict[str, float], form: str = ".3g") -> str:
    """Median and quartiles; of a single round the number alone."""
    low, median, high = (format(of[key], form) for key in ("low", "median", "high"))
    return median if low == high else f"{median} ({low} to {high})"


def heading(title: str, *columns: str) -> None:
    print(f"\n{title}\n  {'median (quartiles)':<38}" + "".join(f"{c:>34}" for c in columns), flush=True)


def line(label: str, *cells: str) -> None:
    print(f"  {label:<38}" + "".join(f"{c:>34}" for c in cells), flush=True)


def table(title: str, turns: dict[str, Turn]) -> dict[str, Any]:
    """Print contenders beside ours, which is the first of them, and return their numbers."""
    heading(title, "seconds", "largest relative error", "its time / ours")
    mine, *_ = turns.values()
    rows: dict[str, Any] = {}
    for label, turn in turns.items():
        if turn.refused:
            rows[label] = {"refused": turn.refused}
            print(f"  {label:<38}        can't run: {turn.refused[:70]}", flush=True)
            continue
        ahead = [t / m for t, m in zip(turn.seconds, mine.seconds, strict=True)]
        row = rows[label] = {
            "seconds": quartiles(turn.seconds),
            "relative_max": quartiles(turn.relative_max),
            "its_time_over_ours": quartiles(ahead),
        }
        cells = [
            shown(row["seconds"]),
            shown(row["relative_max"], ".1e"),
            shown(row["its_time_over_ours"], ".2g"),
        ]
        line(label, *cells[: 2 if turn is mine else 3])
    return rows
