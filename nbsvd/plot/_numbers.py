"""Pictures of numbers: values with error bars against the exact ones, a loss against its exact optimum."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from nbsvd._errors import nearest, require
from nbsvd.plot._style import INK, OKABE_ITO, WIDTH, Array, Figure, Values, array, per_mode, sheet
from nbsvd.plot._words import SMALL, count, decade, mode_ticks, number, sentence, short

_EXACT: dict[str, Any] = {"color": "#9a9a9a", "linewidth": 3.0, "solid_capstyle": "butt"}


def _levels(levels: Sequence[int] | None, exact: Array | None, k: int) -> list[tuple[int, int]]:
    """Return (first, last + 1) of each run of modes that share a level."""
    if levels is not None:
        require(len(levels) == k, "levels", got=f"length {len(levels)}", expected=f"{k}, one for each mode")
        breaks = [i for i in range(1, k) if levels[i] != levels[i - 1]]
    elif exact is not None:
        breaks = [i for i in range(1, k) if not np.isclose(exact[i], exact[i - 1], rtol=1e-6, atol=0)]
    else:
        breaks = list(range(1, k))
    return list(zip([0, *breaks], [*breaks, k], strict=True))


def _rungs(
    axes: Axes, found: Array, error: Array | None, exact: Array | None, runs: list[tuple[int, int]]
) -> None:
    """Draw exact levels as rungs from the first to the last of their modes, and the found values on them."""
    ell = np.arange(1, len(found) + 1)
    if exact is not None:
        for j, (start, stop) in enumerate(runs):
            level = float(exact[start:stop].mean())
            axes.plot([start + 0.6, stop + 0.4], [level, level], **_EXACT, label="exact" if j == 0 else None)
            if stop - start > 1:
                place = ((start + 1 + stop) / 2, level)
                text = axes.annotate(f"×{stop - start}", place, (0, 5), textcoords="offset points")
                text.set(fontsize=SMALL, ha="center", va="bottom")
    label = "learned" if error is None else "learned ± standard error"
    bars = axes.errorbar(
        ell, found, error, fmt="o", markersize=4, capsize=2.5, elinewidth=1, color=OKABE_ITO[0]
    )
    axes.margins(y=0.14)
    axes.autoscale_view()  # so that the data's transform is the one that will be drawn
    if error is not None:
        ends = axes.transData.transform(
            np.column_stack([np.tile(ell, 2), np.concatenate([found, found + error])])
        )
        points = (ends[len(ell) :, 1] - ends[: len(ell), 1]) * 72 / axes.figure.dpi
        label += " (smaller than the points)" if points.max() < 2.0 else ""
    bars.set_label(label)
    axes.set_xticks(mode_ticks(len(ell), 2.6))
    axes.set(xlim=(0.3, len(found) + 0.7), xlabel="mode")


def _decades(axes: Axes, values: Array) -> float:
    """Give ``axes`` a log axis of whole decades around the positive ``values``; return its lower end."""
    positive = values[np.isfinite(values) & (values > 0)]
    low, high = (float(positive.min()), float(positive.max())) if positive.size else (1e-16, 1e-16)
    bottom, top = 10 ** np.floor(np.log10(low) - 0.1), 10 ** np.ceil(np.log10(high) + 0.2)
    axes.set(yscale="log", ylim=(bottom, top))
    axes.yaxis.set_major_formatter(decade)
    axes.yaxis.set_minor_formatter(NullFormatter())
    return float(bottom)


def _residuals(axes: Axes, residual: Array, error: Array | None) -> int:
    """Draw errors on a log axis and return how many are within two standard errors.

    A bar whose lower end is below zero runs to the bottom of the axis, and an error of exactly zero is a
    triangle there: neither may look like a small number that was measured.
    """
    ell = np.arange(1, len(residual) + 1)
    # The lower end of a bar counts where it is positive; where it is not, the bar has no lower end.
    seen = [residual] if error is None else [residual, residual + error, residual - error]
    bottom = _decades(axes, np.concatenate(seen))
    axes.set(xlim=(0.3, len(residual) + 0.7), xlabel="mode")
    unclear = np.zeros(len(residual), dtype=bool) if error is None else residual <= 2 * error
    if error is not None:
        axes.vlines(
            ell, np.maximum(residual - error, bottom), residual + error, color=OKABE_ITO[0], linewidth=1
        )
    zero = residual <= 0
    for mask, fill, marker in ((~unclear & ~zero, OKABE_ITO[0], "o"), (unclear & ~zero, "white", "o")):
        axes.plot(ell[mask], residual[mask], marker, color=OKABE_ITO[0], markerfacecolor=fill, markersize=4.5)
    if zero.any():  # an empty unclipped line has a box at infinity, which ruins the layout
        (triangles,) = axes.plot(ell[zero], np.full(int(zero.sum()), bottom), "v", color=OKABE_ITO[0])
        triangles.set(markerfacecolor="white", markersize=4.5, clip_on=False)
    axes.set_xticks(mode_ticks(len(ell), 2.6))
    return int(unclear.sum())


@sheet()
def energy_ladder(
    values: Values,
    stderr: Values | None = None,
    exact: Values | None = None,
    *,
    levels: Sequence[int] | None = None,
    scale: str = "auto",
    quantity: str = "value λ",
) -> Figure:
    """Show learned values on the rungs of the exact ones, and their errors ``|v_l - lambda_l| / |lambda_l|``.

    In the error panel a hollow point lies within two standard errors of the exact value: there the figure
    shows how well the value was measured, not how good it is. If an exact value is 0 the errors are absolute.

    Arguments:
        values: Learned values (k,), in the order of the modes.
        stderr: Their standard errors (k,).
        exact: Exact values (k,). Without them only the values are drawn.
        levels: Level of each mode (k,), equal inside a degenerate level; by default from ties in ``exact``.
        scale: Axis of the rungs: "linear", "log", or "auto" (log for positive values spread over 30-fold).
        quantity: Label of that axis, with its unit.

    Raises:
        ArgumentError: lengths differ, an entry is NaN, a standard error is negative, or the scale is unknown
            or impossible.

    Example:
        >>> from nbsvd.plot import alt_text
        >>> alt_text(energy_ladder([1.01, 0.1], exact=[1.0, 0.1]))
        'Two learned values from 1.0100 to 0.1000. Largest relative error 1.0e-2 at mode 1.'
    """
    found = array("values", values, 1)
    k = len(found)
    error, truth = per_mode("stderr", stderr, k), per_mode("exact", exact, k)
    require(
        error is None or (error >= 0).all(), "stderr", got="a negative entry", expected="standard errors >= 0"
    )
    runs = _levels(levels, truth, k)
    shown = found if truth is None else np.concatenate([found, truth])
    nearest("scale", scale, ["auto", "linear", "log"])
    remedy = 'Use scale="linear".'
    require(scale != "log" or (shown > 0).all(), "scale", got="'log'", expected="values > 0", remedy=remedy)
    log = scale == "log" or (scale == "auto" and shown.min() > 0 and shown.max() > 30 * shown.min())

    panels = 1 if truth is None else 2
    figure = Figure(figsize=(WIDTH * (0.55 if truth is None else 1), 3.1), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    axes[0].set(ylabel=quantity, yscale="log" if log else "linear", title="values")
    if log:
        axes[0].yaxis.set_major_formatter(decade)
    _rungs(axes[0], found, error, truth, runs)
    said = ["", ""]
    if truth is not None:
        relative = bool((truth != 0).all())
        kind, unit = ("relative", np.abs(truth)) if relative else ("absolute", np.ones(k))
        residual = np.abs(found - truth) / unit
        unclear = _residuals(axes[1], residual, None if error is None else error / unit)
        label = "|learned − exact|" + (" / |exact|" if relative else "")
        axes[1].set(ylabel=label, title=f"{kind} error, largest {short(float(residual.max()))}")
        said[0] = f"largest {kind} error {short(float(residual.max()))} at mode {int(residual.argmax()) + 1}"
        if error is not None:
            axes[1].plot(
                [], [], "o", color=OKABE_ITO[0], markerfacecolor="white", label="within 2 standard errors"
            )
            said[1] = f"{unclear} of {k} within two standard errors of the exact value"
    entries = [axis.get_legend_handles_labels() for axis in axes]
    handles, texts = ([item for entry in entries for item in entry[side]] for side in (0, 1))
    figure.legend(handles, texts, loc="outside lower center", ncols=3)
    wobble = "" if error is None else f", standard errors up to {short(float(error.max()))}"
    ends = number(found[0]) if k == 1 else f"from {number(found[0])} to {number(found[-1])}"
    what = f"{count(k, 'learned value')} {ends}{wobble}"
    figure.set_label(sentence(what, *said))
    return figure


def _running_mean(loss: Array, window: int) -> Array:
    """Mean over the last ``window`` entries that are finite; NaN until there are that many."""
    out = np.full(loss.shape, np.nan)
    if len(loss) >= window:
        out[window - 1 :] = np.lib.stride_tricks.sliding_window_view(loss, window).mean(axis=1)
    return out


@sheet()
def training_curve(
    steps: Values,
    loss: Values | Mapping[str, Values],
    *,
    optimum: float | None = None,
    window: int = 1,
    xlabel: str = "step",
    ylabel: str = "loss",
) -> Figure:
    """Draw a loss against its exact optimum, and the gap ``loss - optimum`` on a logarithmic axis.

    A minibatch estimate of the loss can fall below the optimum. Such points have no place on a logarithmic
    axis: they are marked at its foot, not dropped in silence.

    Arguments:
        steps: Steps, or seconds (n,).
        loss: Loss at each (n,), or a mapping from names to losses; NaN is left out of the curve.
        optimum: The exact minimum of the loss.
        window: Draw the mean of this many entries over the raw curve, and the gap of that mean.
        xlabel: What ``steps`` counts.
        ylabel: What ``loss`` is.

    Raises:
        ArgumentError: lengths differ, no finite loss, ``window`` not between 1 and n, ``optimum`` not finite.

    Example:
        >>> from nbsvd.plot import alt_text
        >>> alt_text(training_curve([1, 2, 3], [0.0, -0.9, -0.99], optimum=-1.0))
        'Loss over 3 entries, step 1 to 3: last −0.9900. Exact optimum −1.0000. Last gap 1.0e-2.'
    """
    at = array("steps", steps, 1)
    n = len(at)
    curves: dict[str, Array] = {}
    given = loss if isinstance(loss, Mapping) else {"": loss}
    require(len(given), "loss", got="an empty mapping", expected="at least one curve")
    for name, values in given.items():
        argument = f"loss[{name!r}]" if name else "loss"
        curves[name] = array(argument, values, 1, finite=False)
        require(
            len(curves[name]) == n, argument, got=f"length {len(curves[name])}", expected=f"{n}, as steps"
        )
        require(np.isfinite(curves[name]).any(), argument, got="no finite entry", expected="at least one")
        curves[name] = np.where(np.isfinite(curves[name]), curves[name], np.nan)
    require(1 <= window <= n, "window", got=window, expected=f"1 to {n}, the number of entries")
    require(optimum is None or np.isfinite(optimum), "optimum", got=optimum, expected="a finite number")

    figure = Figure(figsize=(WIDTH * (0.6 if optimum is None else 1), 2.9), layout="constrained")
    axes = figure.subplots(1, 1 if optimum is None else 2, squeeze=False)[0]
    below, last, gaps = 0, {}, {}
    weight = 1.5 if window > 1 or n < 300 else 0.9
    heights: list[Array] = []
    smooth = f", mean of {window}" if window > 1 else ""
    for (name, raw), colour in zip(curves.items(), _cycle(len(curves)), strict=True):
        mean = _running_mean(raw, window)
        if window > 1:
            axes[0].plot(at, raw, color=colour, linewidth=0.6, alpha=0.35)
        axes[0].plot(at, mean, color=colour, linewidth=weight, label=f"{name or ylabel}{smooth}")
        finite = mean[np.isfinite(mean)]
        last[name] = float(finite[-1]) if finite.size else float(raw[np.isfinite(raw)][-1])
        if optimum is not None:
            gap = mean - optimum
            gaps[name] = last[name] - optimum
            above = np.where(gap > 0, gap, np.nan)
            axes[1].plot(at, above, color=colour, linewidth=weight)
            edged = np.isnan(np.concatenate([[np.nan], above, [np.nan]]))
            alone = ~edged[1:-1] & edged[:-2] & edged[2:]  # one entry between two others makes no line
            if alone.any():
                axes[1].plot(at[alone], above[alone], ".", color=colour)
            heights.append(gap)
            under = gap <= 0
            below += int(under.sum())
            foot = axes[1].get_xaxis_transform()
            axes[1].plot(at[under], np.full(int(under.sum()), 0.02), "|", color=colour, transform=foot)
    hidden = _zoom(axes[0], curves, optimum)
    axes[0].set(xlabel=xlabel, ylabel=ylabel, title=hidden or ylabel)
    said = [f"exact optimum {number(optimum)}" if optimum is not None else ""]
    if optimum is not None:
        axes[0].axhline(
            optimum, color=INK, linestyle="--", linewidth=1, label=f"exact optimum {number(optimum)}"
        )
        _decades(axes[1], np.concatenate(heights))
        heading = f"gap ({below} below zero, marked at the foot)" if below else "gap to the optimum"
        axes[1].set(xlabel=xlabel, ylabel=f"{ylabel} − optimum", title=heading)
        said.append("last gap " + ", ".join(f"{name} {short(value)}".strip() for name, value in gaps.items()))
        said.append(
            f"{count(below, 'entry').replace('entrys', 'entries')} below the optimum" if below else ""
        )
    if optimum is not None or len(curves) > 1:
        figure.legend(loc="outside lower center", ncols=4)
    ends = ", ".join(f"{name} {number(value)}".strip() for name, value in last.items())
    what = f"{ylabel} over {n} entries, {xlabel} {at[0]:g} to {at[-1]:g}: last {ends}{smooth}"
    figure.set_label(sentence(what, *said))
    return figure


def _cycle(n: int) -> list[str]:
    return [OKABE_ITO[i % len(OKABE_ITO)] for i in range(n)]


def _zoom(axes: Axes, curves: Mapping[str, Array], optimum: float | None) -> str:
    """Keep a wild start from flattening the rest of the curve, and say that it is cut off."""
    values = np.concatenate(list(curves.values()))
    values = values[np.isfinite(values)]
    low = float(values.min() if optimum is None else min(values.min(), optimum))
    usual, highest = float(np.quantile(values, 0.95)), float(values.max())
    top = highest if highest - low <= 4 * (usual - low) else usual
    pad = 0.06 * (top - low) or 0.1
    axes.set_ylim(low - pad, top + pad)
    reach = (
        0.0 if abs(highest) < 1e-3 * (highest - low) else highest
    )  # next to nothing, beside the range shown
    return f"start off the scale, up to {reach:.4g}" if top < highest else ""
