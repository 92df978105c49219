"""Pictures of functions of one variable."""

from collections.abc import Mapping, Sequence

import numpy as np

from nbsvd._errors import require
from nbsvd.plot._style import WIDTH, Figure, Values, array, named, per_mode, sheet
from nbsvd.plot._words import SMALL, count, difference, mode_names, number, plain, sentence, wrap


@sheet()
def mode_lines(
    x: Values,
    rows: Mapping[str, Values],
    *,
    labels: Sequence[str] | None = None,
    exact_values: Values | None = None,
    unit: str = "",
    variable: str = "x",
    value_symbol: str = "λ",
    columns: int | None = None,
) -> Figure:
    """Show functions of one variable: one panel for each mode, the families drawn over each other.

    A family named "exact" is drawn first, as a wide grey band that a good solution covers.

    Arguments:
        x: Points (n,), ascending, in ``unit``.
        rows: From a name to values ``phi_l(x_i)`` as ``[l, i]`` (k, n).
        labels: Names of the modes; by default φ₁, φ₂, ...
        exact_values: Exact values (k,), written beside the names.
        unit: Unit of ``x``; none by default.
        variable: Name of the axis.
        value_symbol: Symbol before an exact value.
        columns: Panels in a line; by default 5 at most.

    Raises:
        ArgumentError: shapes differ from (k, n), ``x`` does not ascend, an entry is NaN.

    Example:
        >>> from nbsvd.plot import alt_text
        >>> x = np.linspace(0, 1, 5)
        >>> alt_text(mode_lines(x, {"learned": [x, 1 - x]}))
        'Two modes as lines over x from 0 to 1: learned. Vertical axes centred at zero with common limits ±1.'
    """
    points = array("x", x, 1)
    remedy = "Sort the points, and the values with them."
    require((np.diff(points) > 0).all(), "x", got="a step <= 0", expected="ascending points", remedy=remedy)
    checked = named("rows", rows, 2)
    k, n = next(iter(checked.values())).shape
    require(
        n == len(points), "rows", got=f"{n} values for each mode", expected=f"{len(points)}, one for each x"
    )
    names = mode_names(labels, k)
    exact = per_mode("exact_values", exact_values, k)
    if exact is not None:
        names = [f"{a}  {value_symbol}={number(v)}" for a, v in zip(names, exact, strict=True)]
    require(columns is None or columns >= 1, "columns", got=columns, expected="at least 1")
    per_line = columns or -(-k // -(-k // 5))
    lines = -(-k // per_line)
    panel = min(2.4, (WIDTH - 0.6) / per_line)
    figure = Figure(figsize=(max(3.4, 0.6 + per_line * panel), 0.75 + lines * (min(panel, 1.5) * 0.8 + 0.25)))
    figure.set_layout_engine("constrained", w_pad=0.08)
    grid = figure.subplots(lines, per_line, sharex=True, sharey=True, squeeze=False)
    limit = max(float(np.abs(row).max()) for row in checked.values()) or 1.0
    drawn = sorted(checked, key=lambda name: name != "exact")
    looks = {
        name: {"linestyle": ("-", "--", "-.", ":")[i % 4]} for i, name in enumerate(drawn) if name != "exact"
    }
    for i, axes in enumerate(grid.flat):
        if i >= k:
            axes.remove()
            continue
        for name in drawn:
            if name == "exact":
                axes.plot(points, checked[name][i], color="#bbbbbb", linewidth=4.5, label=name)
            else:
                axes.plot(points, checked[name][i], label=name, linestyle=looks[name]["linestyle"])
        axes.set_title(wrap(names[i], panel) if exact is not None else names[i], fontsize=SMALL, pad=3)
        axes.set(xlim=(points[0], points[-1]), ylim=(-1.08 * limit, 1.08 * limit))
        axes.axhline(0, color="#888888", linewidth=0.6, zorder=1)
        axes.locator_params(nbins=3)
        if i + per_line >= k:
            axes.tick_params(labelbottom=True)
    figure.supxlabel(f"{variable} ({unit})" if unit else variable, fontsize=SMALL + 1)
    handles, texts = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside upper right", ncols=len(drawn))
    where = f"{variable} from {plain(points[0])} to {plain(points[-1])}" + (f" {unit}" if unit else "")
    axis = f"vertical axes centred at zero with common limits ±{limit:.3g}"
    alt = sentence(
        f"{count(k, 'mode')} as lines over {where}: {', '.join(checked)}", axis, difference(checked)
    )
    figure.set_label(alt)
    return figure
