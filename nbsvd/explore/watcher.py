"""Watch a training while it runs."""

import time
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from nbsvd._errors import require
from nbsvd.measures.base import Real
from nbsvd.plot import OKABE_ITO, Figure, sheet
from nbsvd.plot._style import INK, WIDTH, Values, array
from nbsvd.plot._words import SMALL, number, sentence, short
from nbsvd.spectrum import History
from nbsvd.training import Trainer


class Watcher:
    """A callback that draws loss and values of a training while it runs, in one picture that is renewed.

    Pass it to :func:`nbsvd.solve`. In a notebook the picture stands below the cell from the first report on;
    the last one stays, in the stored notebook and in a page made from it, too. It is no widget with controls:
    a kernel that trains hears no button. To stop, interrupt the kernel; what has been learned is returned.

    Arguments:
        every: seconds between two pictures, at least; the last one is always drawn.
        exact: exact values ``(k,)``, to be drawn as lines behind the values.

    Raises:
        ArgumentError: a negative number of seconds; exact values that are not a list of numbers.

    Example:
        >>> import nbsvd
        >>> watcher = Watcher(every=0.0, exact=nbsvd.problems.volterra().exact.values(2))
        >>> result = nbsvd.solve("volterra", 2, steps=20, callbacks=[watcher], progress=False)
        >>> watcher, watcher.figure.get_label()[:36]
        (Watcher(), 'Two panels over a training of 20 ste')
    """

    def __init__(self, every: Real = 1.0, *, exact: Values | None = None) -> None:
        number_of = isinstance(every, (int, float)) and not isinstance(every, bool)
        require(number_of and every >= 0, "every", got=every, expected="seconds, 0 or more")
        self.every = float(every)
        self.exact = None if exact is None else array("exact", exact, 1)
        self.figure: Figure | None = None
        self._drawn, self._handle = -float("inf"), None

    def __call__(self, run: Trainer) -> None:
        """Draw what has been reported so far, unless the last picture is too young."""
        now = time.perf_counter()
        if now - self._drawn < self.every and run.fraction < 1:
            return
        self.figure = draw_history(run.history, self.exact)
        self._drawn = now
        self._show()

    def _show(self) -> None:
        """Put the picture below the cell, or in the place of the one before."""
        from IPython import get_ipython
        from IPython.display import display

        if self.figure is None or get_ipython() is None:
            return
        data, metadata = self._repr_mimebundle_()
        if self._handle is None:
            self._handle = display(data, raw=True, metadata=metadata, display_id=True)  # type: ignore[no-untyped-call,unused-ignore]
        else:
            self._handle.update(data, raw=True, metadata=metadata)

    def __repr__(self) -> str:
        return "Watcher()"

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.figure is None:
            return {"text/plain": repr(self)}, {}
        data, metadata = self.figure._repr_mimebundle_()
        return {**data, "text/plain": repr(self)}, metadata


@sheet()
def draw_history(history: History, exact: Values | None = None) -> Figure:
    """Draw loss and values against steps, with the exact optimum and the exact values where they are known.

    Arguments:
        history: what has been reported so far, one entry at least.
        exact: exact values, ``(k,)``.

    Raises:
        ArgumentError: a history without entries; another number of exact values than of components.

    Example:
        >>> history = History([1, 2], [0.1, 0.2], [0.5, -0.5], [[0.5], [0.8]], optimum=-1.0)
        >>> draw_history(history, [1.0]).get_label()[-55:]
        'Largest error of a value relative to the first: 2.0e-1.'
    """
    require(history.step, "history", got="no entries", expected="one report at least")
    step, loss = np.array(history.step), np.array(history.loss)
    values, k = np.array(history.values), len(history.values[0])
    lines = None if exact is None else array("exact", exact, 1)
    got = None if lines is None else f"length {len(lines)}"
    require(lines is None or len(lines) == k, "exact", got=got, expected=f"{k}, one for each component")
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    mark = "o" if len(step) == 1 else ""  # one point makes no line
    left.plot(step, loss, marker=mark, color=OKABE_ITO[0])
    left.set(xlabel="step", ylabel="loss")
    left.ticklabel_format(axis="y", useOffset=False)
    optimum = history.optimum
    said = [f"loss {number(loss[-1])}"]
    left.set_title(said[0])
    if optimum is not None:
        gap = "−" * bool(loss[-1] < optimum) + short(abs(float(loss[-1]) - optimum))
        said.append(f"exact optimum {number(optimum)}, gap {gap}")
        left.set_title(f"loss {number(loss[-1])}, gap {gap}")
        left.axhline(optimum, color=INK, linestyle="--", linewidth=1)
    floor = loss.min() if optimum is None else min(loss.min(), optimum)
    top = float(loss[len(loss) // 3 :].max())  # a wild start must not flatten the rest
    room = 0.08 * (top - floor) or 0.1
    left.set_ylim(floor - room, top + room)
    if lines is not None:
        for value in lines:
            right.axhline(value, color="#9a9a9a", linewidth=2.5)
    for l in range(k):
        right.plot(step, values[:, l], marker=mark, color=OKABE_ITO[l % len(OKABE_ITO)])
    name_lines(right, float(step[-1]), values[-1])
    right.set(xlabel="step", title="values" + ("" if lines is None else ", exact ones grey"))
    if lines is not None:
        error = float((np.abs(values[-1] - lines) / abs(lines[0])).max()) if lines[0] else float("nan")
        said.append(f"largest error of a value relative to the first: {short(error)}")
    what = f"two panels over a training of {step[-1]} steps: the loss, and the values of {k} components"
    figure.set_label(sentence(what, *said))
    return figure


def name_lines(axes: Axes, at: float, ends: np.ndarray) -> None:
    """Write the number of each component at the end of its line, those of equal value together."""
    low, high = axes.get_ylim()
    groups: list[list[int]] = []
    for l in np.argsort(-ends, kind="stable").tolist():
        if groups and abs(ends[groups[-1][-1]] - ends[l]) < 0.06 * (high - low):
            groups[-1].append(l)
        else:
            groups.append([l])
    for group in groups:
        text, height = ", ".join(str(l + 1) for l in sorted(group)), float(ends[group].mean())
        axes.annotate(text, (at, height), (4, 0), textcoords="offset points", va="center", fontsize=SMALL)
