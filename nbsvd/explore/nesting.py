"""What the weights of joint nesting do: the vector m, the mask M, and what the least loss is made of."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from nbsvd._errors import require
from nbsvd.explore._explorer import Explorer, weight, whole
from nbsvd.plot import OKABE_ITO, SEQUENTIAL, Figure, sheet
from nbsvd.plot._style import INK, WIDTH, Values, array
from nbsvd.plot._words import SMALL, mode_names, number, sentence

Array = NDArray[np.float64]
MOST = 8


def masks(weights: Array) -> tuple[Array, Array]:
    """Return ``m_l = sum_{i >= l} w_i`` and ``M_{il} = m_{max(i, l)}``; a weight may be zero here.

    Example:
        >>> masks(np.array([0.5, 0.5]))[1].tolist()
        [[1.0, 0.5], [0.5, 0.5]]
    """
    m = np.cumsum(weights[::-1])[::-1]
    index = np.arange(len(m))
    return m, m[np.maximum.outer(index, index)]


def unseparated(weights: Array) -> str:
    """Say what a weight of zero leaves undetermined, or nothing.

    Example:
        >>> unseparated(np.array([1.0, 0.0, 1.0]))
        'weight 2 is zero: components 2 and 3 are not told apart'
    """
    k = len(weights)
    said = [
        f"weight {i + 1} is zero: components {i + 1} and {i + 2} are not told apart" for i in range(k - 1)
    ]
    said.append(f"weight {k} is zero: component {k} is asked for nothing")
    found = [text for text, weight in zip(said, weights, strict=True) if weight == 0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return found[0] + more if found else ""


@sheet()
def draw_weights(weights: Values, values: Values) -> Figure:
    """Draw weights w and their sums m, the mask M, and the shares of the least nested loss.

    The i-th term of the nested objective is ``w_i`` times the loss of the first i components, whose least
    value is minus the sum of their ``sigma_l^2``. So bar i of the last panel, ``w_i (sigma_1^2 + ... +
    sigma_i^2)``, has a part for each component, and the parts of component l add up to ``m_l sigma_l^2``.

    Arguments:
        weights: w, ``(L,)``, not negative. The package itself asks for positive ones; here zero shows why.
        values: singular values, ``(L,)``, descending.

    Raises:
        ArgumentError: different lengths, more than 8 components, a negative entry, values that ascend.

    Source: Theorem 2 of the paper, and the least value of its loss.

    Example:
        >>> from nbsvd.plot import alt_text
        >>> alt_text(draw_weights([0.5, 0.5], [1.0, 0.5]))[-43:]
        'Least value minus the sum of m σ²: −1.1250.'
    """
    w, sigma = array("weights", weights, 1), array("values", values, 1)
    k = len(w)
    require(len(sigma) == k, "values", got=f"length {len(sigma)}", expected=f"{k}, one for each weight")
    require(k <= MOST, "weights", got=f"{k} weights", expected=f"at most {MOST}")
    require((w >= 0).all(), "weights", got=w.tolist(), expected="numbers >= 0")
    ordered = (np.diff(sigma) <= 0).all() and sigma[-1] >= 0
    require(ordered, "values", got=sigma.tolist(), expected="numbers >= 0, descending")
    m, M = masks(w)
    least = -float(m @ sigma**2)
    figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.15])
    ell = np.arange(1, k + 1)
    left.bar(ell - 0.2, w, 0.4, color=OKABE_ITO[5], label="w")
    left.bar(ell + 0.2, m, 0.4, color=OKABE_ITO[0], label="m, what is left to sum")
    left.set(xticks=ell, xlabel="component", title="weights and their sums")
    left.set_ylim(0, 1.3 * max(float(m[0]), 0.1))
    left.legend(loc="upper right")
    draw_mask(middle, M)
    draw_shares(right, w, sigma)
    right.set_title(f"least value {number(least)}")
    note = unseparated(w)
    figure.suptitle(note, fontsize=SMALL, color=OKABE_ITO[1]) if note else None
    figure.set_label(
        sentence(
            "three panels. Left: weights " + ", ".join(f"{x:g}" for x in w.round(4)),
            "their sums m, which descend: " + ", ".join(f"{x:g}" for x in m.round(4)),
            "middle: the mask M, whose entry i, l is m of the larger index",
            "right: one bar for each term of the nested loss, divided into the parts of its components",
            note,
            f"least value minus the sum of m σ²: {number(least)}",
        )
    )
    return figure


def draw_mask(axes: Axes, M: Array) -> None:
    """Draw the mask with its numbers."""
    k, top = len(M), max(float(M.max()), 1e-12)
    axes.imshow(M, cmap=SEQUENTIAL, vmin=0, vmax=top)
    for (i, j), value in np.ndenumerate(M):
        colour = "white" if value < 0.5 * top else INK
        text = f"{value:.2f}".lstrip("0") if value < 1 else f"{value:.1f}"
        axes.text(j, i, text, ha="center", va="center", fontsize=SMALL, color=colour)
    axes.set(xticks=range(k), yticks=range(k), xticklabels=range(1, k + 1), yticklabels=range(1, k + 1))
    axes.grid(False)
    axes.set(xlabel="component l", ylabel="component i", title="mask M")


def draw_shares(axes: Axes, w: Array, sigma: Array) -> None:
    """Draw one bar for each term of the nested loss, made of one part for each of its components."""
    k = len(w)
    terms = np.arange(1, k + 1)
    bottom, names = np.zeros(k), mode_names(None, k, "σ")
    for l in range(k):
        part = np.where(terms > l, w * sigma[l] ** 2, 0.0)
        axes.bar(terms, part, 0.7, bottom, color=COLOURS[l], edgecolor="white", linewidth=0.5)
        bottom = bottom + part
        if part[-1] > 0.07 * max(float((w * np.cumsum(sigma**2)).max()), 1e-12):
            place = (k + 0.42, bottom[-1] - part[-1] / 2)
            axes.text(*place, f"{names[l]}²", fontsize=SMALL, va="center", color=INK)
    axes.set(xticks=terms, xlabel="term i of the nested loss", ylabel="wᵢ (σ₁² + … + σᵢ²)")
    axes.set_xlim(0.4, k + 1.3)


COLOURS = (*OKABE_ITO, "#999999")


def nesting_weights(components: int = 6, *, values: Sequence[float] | None = None) -> Explorer:
    """Move the weights of joint nesting, and see m, the mask, and what the least value is made of.

    Arguments:
        components: how many, 2 to 8.
        values: singular values, descending; by default 1, 1/2, 1/3, ...

    Raises:
        ArgumentError: a number of components out of range, another number of values.

    Example:
        >>> explorer = nesting_weights(components=3)
        >>> explorer.controls["w1"].value = 0.0
        >>> "components 1 and 2 are not told apart" in explorer.figure.get_label()
        True
    """
    whole("components", components, 2, MOST)
    sigma = [1 / (l + 1) for l in range(components)] if values is None else list(values)

    def draw(**weights: float) -> Figure:
        return draw_weights(list(weights.values()), sigma)

    # Weights need not sum to one: a common factor changes the loss by that factor and no minimiser.
    controls = {f"w{i + 1}": weight(f"w{i + 1}", 1.0) for i in range(components)}
    return Explorer("nesting weights", draw, controls)
