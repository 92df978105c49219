"""Heat maps of the cosines between learned functions: the right half of the paper's Figure 1."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize

from nbsvd._errors import require
from nbsvd.plot._style import SEQUENTIAL, WIDTH, Array, Figure, Page, Values, array, sheet
from nbsvd.plot._words import SMALL, count, decade, mode_ticks, plain, sentence, short, text_width


def cosines(grams: Values | Mapping[str, Values]) -> dict[str, Array]:
    """Check Gram matrices and return ``|G_ij| / sqrt(G_ii G_jj)``; a lone matrix is named "".

    Example:
        >>> cosines([[4.0, 1.0], [1.0, 1.0]])
        {'': array([[1. , 0.5],
               [0.5, 1. ]])}
    """
    items = grams.items() if isinstance(grams, Mapping) else [("", grams)]
    require(len(items), "grams", got="an empty mapping", expected="at least one Gram matrix")
    out: dict[str, Array] = {}
    for key, value in items:
        name = f"grams[{key!r}]" if key else "grams"
        gram = array(name, value, 2)
        shape = f"shape {gram.shape}"
        require(gram.shape[0] == gram.shape[1], name, got=shape, expected="a square matrix (k, k)")
        skew = float(np.abs(gram - gram.T).max() / max(float(np.abs(gram).max()), 1e-300))
        remedy = "A Gram matrix holds inner products of one family with itself."
        require(
            skew < 1e-3, name, got=f"relative asymmetry {short(skew)}", expected="symmetric", remedy=remedy
        )
        norms = np.diagonal(gram)
        remedy = "A component of norm zero has no angle: leave it out."
        require(
            (norms > 0).all(), name, got="a diagonal entry <= 0", expected="squared norms > 0", remedy=remedy
        )
        out[str(key)] = np.abs(gram) / np.sqrt(np.outer(norms, norms))
    return out


def off_diagonal(cosine: Array) -> Array:
    """Return the off-diagonal entries as a flat array (empty for one function)."""
    return cosine[~np.eye(len(cosine), dtype=bool)]


def colours(matrices: Mapping[str, Array], log: bool) -> Normalize:
    """One scale for all matrices: 0 to 1, or whole decades from the smallest off-diagonal cosine to 1."""
    if not log:
        return Normalize(0, 1)
    values = np.concatenate([off_diagonal(matrix) for matrix in matrices.values()])
    smallest = values[values > 0].min(initial=0.1)
    return LogNorm(10.0 ** np.clip(np.floor(np.log10(smallest)), -16, -1), 1.0)


def title(name: str, cosine: Array) -> str:
    """Name a matrix by its largest off-diagonal entry: the metric ``orthogonality``."""
    values = off_diagonal(cosine)
    largest = f"max off-diag {short(float(values.max()))}" if values.size else "one function"
    return f"{name}\n{largest}".strip()


def describe(matrices: Mapping[str, Array]) -> str:
    """Say the largest off-diagonal cosine of each matrix."""
    values = {name: off_diagonal(matrix) for name, matrix in matrices.items()}
    said = [f"{name} {short(float(value.max()))}".strip() for name, value in values.items() if value.size]
    return "largest off-diagonal cosine " + ", ".join(said) if said else "no off-diagonal cosine"


def draw(axes: Axes, cosine: Array, heading: str, *, norm: Normalize, side: float) -> None:
    """Draw one matrix on axes of ``side`` inches; a log scale leaves the diagonal white, as it is 1."""
    k = len(cosine)
    diagonal = np.eye(k, dtype=bool) if isinstance(norm, LogNorm) else np.zeros((k, k), dtype=bool)
    image = np.ma.masked_array(np.clip(cosine, norm.vmin, norm.vmax), mask=diagonal)
    axes.imshow(image, cmap=SEQUENTIAL, norm=norm, interpolation="nearest", origin="upper")
    axes.set_facecolor("white")
    axes.set_title(heading, fontsize=SMALL, pad=3, linespacing=1.15)
    ticks = mode_ticks(k, side)
    places = [tick - 1 for tick in ticks]
    axes.set_xticks(places, [str(tick) for tick in ticks])
    axes.set_yticks(places, [str(tick) for tick in ticks])
    axes.tick_params(length=0, pad=2)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def bar_ticks(norm: Normalize) -> dict[str, object]:
    """Return the tick arguments of a matrix's colour bar: its two ends, and the middle of a linear one."""
    if isinstance(norm, LogNorm):
        low = float(norm.vmin or 0.1)
        return {
            "ticks": [low, 1.0],
            "format": decade,
        }
    return {"ticks": [0.0, 0.5, 1.0], "format": plain}


@sheet()
def gram_matrix(
    grams: Values | Mapping[str, Values],
    *,
    log: bool = False,
    side: float = 1.9,
    columns: int | None = None,
) -> Figure:
    """Show how orthogonal functions are: ``|G_ij| / sqrt(G_ii G_jj)`` as a heat map for each Gram matrix.

    The title states the largest off-diagonal entry, which is the metric ``orthogonality``. On the linear
    scale, the paper's, a good result looks like the identity; the logarithmic one shows how good it is.

    Arguments:
        grams: Gram matrix ``<f_i|f_j>`` (k, k), normalised or not, or a mapping from names to such matrices.
        log: Colour the off-diagonal entries on a logarithmic scale and leave the diagonal white.
        side: Side of a matrix in inches.
        columns: Matrices beside each other; by default as many as fit the page's width.

    Raises:
        ArgumentError: a matrix is not square, symmetric and finite, or its diagonal is not positive.

    Source: Figure 1 (right) of the paper.

    Example:
        >>> from nbsvd.plot import alt_text
        >>> alt_text(gram_matrix([[1.0, 0.02], [0.02, 1.0]]))
        'Heat map of the absolute cosines between two functions. Largest off-diagonal cosine 2.0e-2.'
    """
    require(0.5 <= side <= WIDTH - 0.5, "side", got=side, expected=f"0.5 to {WIDTH - 0.5} inches")
    require(columns is None or columns >= 1, "columns", got=columns, expected="at least 1")
    matrices = cosines(grams)
    headings = {name: title(name, matrix) for name, matrix in matrices.items()}
    norm = colours(matrices, log)
    left, gap = 0.3, 0.45
    cell = max(side, *(text_width(heading) for heading in headings.values()))
    per_line = min(columns or max(1, int((WIDTH - left + gap - 0.1) / (cell + gap))), len(matrices))
    lines = -(-len(matrices) // per_line)
    head = 0.14 * max(len(heading.splitlines()) for heading in headings.values()) + 0.12
    pitch = head + side + 0.25
    page = Page(max(left + per_line * (cell + gap) - gap + 0.1, 2.4), lines * pitch + 0.4)
    for i, (name, matrix) in enumerate(matrices.items()):
        line, column = divmod(i, per_line)
        axes = page.axes("gram", left + column * (cell + gap), line * pitch + head, side, side)
        draw(axes, matrix, headings[name], norm=norm, side=side)
    below = lines * pitch + 0.03
    page.colour_bar(left, below, 0.9, norm, SEQUENTIAL, **bar_ticks(norm))
    page.text(left + 0.99, below + 0.05, "|cosine|", va="center")
    sizes = sorted({len(matrix) for matrix in matrices.values()})
    what = "Heat map" if len(matrices) == 1 else f"{count(len(matrices), 'heat map')} ({', '.join(matrices)})"
    functions = " or ".join(count(size, "function") for size in sizes)
    page.figure.set_label(sentence(f"{what} of the absolute cosines between {functions}", describe(matrices)))
    return page.figure
