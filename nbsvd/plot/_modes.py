"""Galleries of functions of two variables, and the paper's Figure 1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.colors import Normalize

from nbsvd._errors import require
from nbsvd.plot import _gram
from nbsvd.plot._style import (
    DIVERGING,
    SEQUENTIAL,
    WIDTH,
    Array,
    Figure,
    Page,
    Values,
    named,
    per_mode,
    sheet,
)
from nbsvd.plot._words import count, difference, mode_names, number, plain, sentence, text_width, wrap

_GAP = 0.03  # inches between panels
_LINE = 0.14  # inches from one line of 8-point type to the next


def _extents(extent: Values, k: int) -> Array:
    """Return x and y ranges (k, 4), from a half-width, one range of four, or one for each mode."""
    given = np.asarray(extent, dtype=np.float64)
    if given.ndim == 0:
        given = np.array([-1, 1, -1, 1]) * given
    expected = f"a half-width, (x0, x1, y0, y1), or one such row for each of the {k} modes"
    require(given.shape in {(4,), (k, 4)}, "extent", got=f"shape {given.shape}", expected=expected)
    out = np.broadcast_to(given, (k, 4))
    grows = np.isfinite(out).all() and (out[:, 0] < out[:, 1]).all() and (out[:, 2] < out[:, 3]).all()
    require(grows, "extent", got=given.tolist(), expected="finite, x0 < x1 and y0 < y1")
    return out


def _range_text(box: Array) -> str:
    x, y = (f"{plain(low)} to {plain(high)}" for low, high in box.reshape(2, 2))
    return f"x, y from {x}" if x == y else f"x from {x}, y from {y}"


def _size_text(box: Array) -> str:
    """Write a panel's range in the little room above it: ±half-width where it is centred, else its width."""
    x0, x1, y0, y1 = box
    return f"±{plain(x1)}" if -x0 == x1 == y1 == -y0 else f"{plain(x1 - x0)} wide"


@dataclass(frozen=True)
class _Gallery:
    """A gallery that has been checked and measured but not drawn: lets a page find its height first."""

    rows: dict[str, Array]
    extents: Array
    headings: list[str]
    corner: str
    row_names: list[str]
    where: str
    columns: int
    panel: float
    margin: float
    alt: str
    row_gap: float = _GAP

    @classmethod
    def plan(
        cls,
        rows: Mapping[str, Values],
        extent: Values,
        labels: Sequence[str] | None,
        exact_values: Values | None,
        unit: str,
        value_symbol: str,
        columns: int | None,
        width: float,
        widest: float,
    ) -> "_Gallery":
        checked = named("rows", rows, 3)
        k = len(next(iter(checked.values())))
        names = mode_names(labels, k)
        exact = per_mode("exact_values", exact_values, k)
        extents = _extents(extent, k)
        require(columns is None or columns >= 1, "columns", got=columns, expected="at least 1")

        row_names = [wrap(name, 0.8) for name in checked]
        margin = max(text_width(name) for name in row_names) + 0.1
        room = width - margin
        # The fullest headings that let the modes stand in the fewest lines.
        forms = [names]
        if exact is not None:
            forms = [
                [f"{a}  {value_symbol}={number(v)}" for a, v in zip(names, exact, strict=True)],
                [f"{a}\n{value_symbol}={number(v)}" for a, v in zip(names, exact, strict=True)],
                [f"{a}\n{number(v)}" for a, v in zip(names, exact, strict=True)],
            ]
        same = bool((extents == extents[0]).all())
        if not same:
            forms = [
                [f"{a}\n{_size_text(box)}" for a, box in zip(form, extents, strict=True)] for form in forms
            ]
        needs = [max(text_width(heading) for heading in form) + 0.03 for form in forms]
        # Never smaller than 0.45 inches: below that a reader can't tell the modes.
        fits = [max(1, int((room + _GAP) / (max(need, 0.45) + _GAP))) for need in needs]
        best = max(min(fit, k) for fit in fits)
        per_line = min(columns or best, best)
        choice = next(i for i, fit in enumerate(fits) if fit >= per_line)
        lines = -(-k // per_line)
        per_line = -(-k // lines) if columns is None else per_line
        panel = min(widest, (room + _GAP) / per_line - _GAP)

        where = _range_text(extents[0]) if same else "x, y ranges above the panels"
        where += (" " if same else ", in ") + unit if unit else ""
        values = ""
        if exact is not None:
            values = (
                f"exact values from {number(exact[0])} to {number(exact[-1])}"
                if k > 1
                else f"exact value {number(exact[0])}"
            )
        alt = sentence(
            f"{count(k, 'mode')} in {count(len(checked), 'row')} ({', '.join(checked)}), {where}",
            values,
            "signed functions, colours centred at zero and scaled for each mode",
            difference(checked),
        )
        corner = ""
        if exact is not None and choice == 2:
            corner = value_symbol if same else f"{value_symbol}\nrange"
        return cls(checked, extents, forms[choice], corner, row_names, where, per_line, panel, margin, alt)

    @property
    def lines(self) -> int:
        return -(-len(self.headings) // self.columns)

    @property
    def head(self) -> float:
        return _LINE * max(len(heading.splitlines()) for heading in self.headings) + 0.06

    @property
    def pitch(self) -> float:
        return self.head + len(self.rows) * (self.panel + self.row_gap) + 0.1

    @property
    def width(self) -> float:
        return self.margin + self.columns * (self.panel + _GAP) - _GAP

    def foot(self, width: float) -> tuple[str, float]:
        """Return the footer wrapped beside the colour bar, and the height of both."""
        clauses = [self.where, "colour: value / largest |value| of the mode"]
        text = "; ".join(clauses)
        if text_width(text) > width - 1.25:
            text = "\n".join(wrap(clause, width - 1.25) for clause in clauses)
        return text, max(0.3, _LINE * len(text.splitlines()) + 0.04)

    def draw(self, page: Page, left: float, top: float, width: float) -> None:
        start = left + max(0.0, width - self.width) / 2
        limits = np.max([np.abs(row).max(axis=(1, 2)) for row in self.rows.values()], axis=0)
        limits[limits == 0] = 1.0  # a component that died is drawn as zero
        for i, heading in enumerate(self.headings):
            line, column = divmod(i, self.columns)
            x, y = start + self.margin + column * (self.panel + _GAP), top + line * self.pitch + self.head
            page.text(x + self.panel / 2, y - 0.04, heading, ha="center", va="bottom", linespacing=1.15)
            for j, (name, row) in enumerate(self.rows.items()):
                axes = page.axes(
                    f"{name} {i + 1}", x, y + j * (self.panel + self.row_gap), self.panel, self.panel
                )
                norm = Normalize(-limits[i], limits[i])
                axes.imshow(row[i], origin="lower", extent=tuple(self.extents[i]), cmap=DIVERGING, norm=norm)
                axes.set(xticks=[], yticks=[])
                axes.grid(False)
                axes.spines[:].set(visible=True, linewidth=0.5, color="#999999")
                if column == 0:
                    middle = y + j * (self.panel + self.row_gap) + self.panel / 2
                    page.text(start + self.margin - 0.08, middle, self.row_names[j], ha="right", va="center")
            if column == 0 and self.corner:
                page.text(start + self.margin - 0.08, y - 0.04, self.corner, ha="right", va="bottom")
        below = top + self.lines * self.pitch
        text, _ = self.foot(width)
        page.text(left, below, text, va="top", linespacing=1.15)
        ticks = {"ticks": [-1.0, 0.0, 1.0], "format": plain}
        page.colour_bar(left + width - 1.0, below + 0.02, 0.9, Normalize(-1, 1), DIVERGING, **ticks)


@sheet()
def mode_gallery(
    rows: Mapping[str, Values],
    *,
    extent: Values,
    labels: Sequence[str] | None = None,
    exact_values: Values | None = None,
    unit: str = "units of length",
    value_symbol: str = "λ",
    columns: int | None = None,
    width: float = WIDTH,
) -> Figure:
    """Show functions of two variables side by side: one column for each mode, one row for each family.

    Values are drawn as they come, on a diverging map centred at zero whose limit is shared by a mode's
    column, so normalise the families alike and fix their signs first (``Result.align`` does).

    Arguments:
        rows: From a name ("learned", "aligned", "exact") to values (k, ny, nx): entry ``[l, j, i]`` is
            ``phi_l(x_i, y_j)``.
        extent: In ``unit``: half-width of the square, or (x0, x1, y0, y1), or one such row for each mode.
        labels: Names of the modes; by default φ₁, φ₂, ...
        exact_values: Exact eigenvalues or singular values (k,), written beside the names.
        unit: Unit of ``extent``, stated below the panels.
        value_symbol: Symbol before an exact value.
        columns: Modes in a line, at most; by default as many as the width allows.
        width: Width of the page in inches, at most; 3.7 suits a telephone.

    Raises:
        ArgumentError: rows differ in shape, are not (k, ny, nx), or hold NaN; lengths differ from k; a page
            narrower than 3.3 inches.

    Source: Figure 1 (left) of the paper.

    Example:
        >>> from nbsvd.plot import alt_text
        >>> x, y = np.meshgrid(np.linspace(-1, 1, 5), np.linspace(-1, 1, 5))
        >>> alt_text(mode_gallery({"exact": [x, y]}, extent=1.0))[:58]
        'Two modes in one row (exact), x, y from −1 to 1 units of l'
    """
    require(width >= 3.3, "width", got=width, expected="at least 3.3 inches")
    plan = _Gallery.plan(rows, extent, labels, exact_values, unit, value_symbol, columns, width - 0.1, 1.5)
    width = max(plan.width, 3.2)
    page = Page(width + 0.1, 0.05 + plan.lines * plan.pitch + plan.foot(width)[1] + 0.05)
    plan.draw(page, 0.05, 0.05, width)
    page.figure.set_label(plan.alt)
    return page.figure


@sheet()
def figure1(
    rows: Mapping[str, Values],
    grams: Values | Mapping[str, Values],
    *,
    extent: Values,
    labels: Sequence[str] | None = None,
    exact_values: Values | None = None,
    unit: str = "units of length",
    value_symbol: str = "λ",
    log: bool = False,
) -> Figure:
    """Draw the paper's Figure 1: the modes on the left, the orthogonality of the learned ones on the right.

    Arguments:
        rows: See :func:`mode_gallery`.
        grams: See :func:`gram_matrix`; of the learned functions *before* any alignment or rotation.
        extent: See :func:`mode_gallery`, as for ``labels``, ``exact_values``, ``unit`` and ``value_symbol``.
        log: Draw the off-diagonal cosines on a logarithmic scale.

    Raises:
        ArgumentError: see :func:`mode_gallery` and :func:`gram_matrix`.

    Source: Figure 1 of the paper.

    Example:
        >>> from nbsvd.plot import alt_text
        >>> x, y = np.meshgrid(np.linspace(-1, 1, 5), np.linspace(-1, 1, 5))
        >>> alt_text(figure1({"exact": [x, y]}, np.eye(2), extent=1.0))[-30:]
        'Largest off-diagonal cosine 0.'
    """
    matrices = _gram.cosines(grams)
    norm = _gram.colours(matrices, log)
    headings = {name: _gram.title(wrap(name, 1.2), matrix) for name, matrix in matrices.items()}
    side, ticks, between = 1.2, 0.2, 0.25
    right = max(side, *(text_width(heading) for heading in headings.values())) + ticks
    room = WIDTH - 0.1 - right - between
    plan = _Gallery.plan(rows, extent, labels, exact_values, unit, value_symbol, None, room, 1.2)
    width = max(plan.width, 3.2)
    foot = plan.foot(width)[1]
    # The matrices share the height of the gallery; only the last one's ticks are labelled below. Rows of the
    # gallery move apart where the matrices would else become too small.
    above = [_LINE * len(heading.splitlines()) + 0.1 for heading in headings.values()]
    fixed = sum(above) + 0.1 * (len(matrices) - 1) + 0.2
    side = float(np.clip((plan.lines * plan.pitch - fixed) / len(matrices), 0.7, side))
    body = max(plan.lines * plan.pitch, fixed + side * len(matrices))
    slack = body - plan.lines * plan.pitch
    plan = replace(plan, row_gap=_GAP + slack / (plan.lines * len(plan.rows)))
    page = Page(0.05 + width + between + right + 0.05, 0.05 + body + foot + 0.05)
    plan.draw(page, 0.05, 0.05, width)
    x, y = 0.05 + width + between + ticks, 0.05
    for i, (name, matrix) in enumerate(matrices.items()):
        axes = page.axes("gram", x, y + above[i], side, side)
        _gram.draw(axes, matrix, headings[name], norm=norm, side=side)
        axes.tick_params(labelbottom=i == len(matrices) - 1)
        y += above[i] + side + 0.1
    below = 0.05 + body + 0.02
    page.colour_bar(x, below, 0.6, norm, SEQUENTIAL, **_gram.bar_ticks(norm))
    page.text(x + 0.68, below + 0.05, "|cosine|", va="center")
    page.figure.set_label(f"{plan.alt} {sentence(_gram.describe(matrices))}")
    return page.figure
