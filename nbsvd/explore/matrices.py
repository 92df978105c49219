"""A small matrix whose singular system is found by gradient descent, step by step."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray

from nbsvd._errors import nearest
from nbsvd.exact import lora_optimum
from nbsvd.explore._explorer import Explorer, choice, slider, whole
from nbsvd.objectives import Nesting, lora_svd
from nbsvd.objectives.nesting import KINDS
from nbsvd.plot import DIVERGING, OKABE_ITO, Figure, sheet
from nbsvd.plot._style import INK, WIDTH
from nbsvd.plot._words import SMALL, count, number, sentence, short

Array = NDArray[np.float64]
LARGEST, MOST, STEPS, RATE = 12, 6, 400, 0.25
SPECTRA = ("gap", "tie", "rank-deficient")


def singular_values(spectrum: str, n: int) -> Array:
    """Return the n singular values that a matrix of the playground is made with.

    Example:
        >>> singular_values("tie", 4).round(4).tolist()
        [1.0, 0.6, 0.6, 0.3]
    """
    nearest("spectrum", spectrum, SPECTRA)
    if spectrum == "gap":
        return np.asarray(0.6 ** np.arange(n))
    tail = 0.3 * 0.5 ** np.arange(n) if spectrum == "tie" else np.zeros(n)
    return np.concatenate([[1.0, 0.6, 0.6] if spectrum == "tie" else [1.0, 0.6], tail])[:n]


def matrix(rows: int, columns: int, spectrum: str) -> Array:
    """Return a matrix of that shape and spectrum, its singular vectors drawn once and for all.

    Example:
        >>> np.linalg.svd(matrix(4, 3, "tie"), compute_uv=False).round(12).tolist()
        [1.0, 0.6, 0.6]
    """
    whole("rows", rows, 2, LARGEST)
    whole("columns", columns, 2, LARGEST)
    rng, k = np.random.default_rng(0), min(rows, columns)
    U, V = (np.linalg.qr(rng.standard_normal((n, k)))[0] for n in (rows, columns))
    return np.asarray(U * singular_values(spectrum, k) @ V.T)


@dataclass(frozen=True)
class Descent:
    """What plain gradient descent went through: entry s of each array is the state after s steps.

    Attributes:
        loss: the nested objective, ``(STEPS + 1,)``; for sequential nesting that of all components.
        optimum: its exact least value.
        sizes: ``|g_l| |f_l|``, which at a minimiser are the singular values, ``(STEPS + 1, L)``.
        right: the right functions, ``(STEPS + 1, n, L)``.
        exact: the first L singular values by NumPy, zeros where the matrix has no more.
    """

    loss: Array
    optimum: float
    sizes: Array
    right: Array
    exact: Array


@lru_cache(maxsize=64)
def descend(rows: int, columns: int, spectrum: str, nesting: str, components: int) -> Descent:
    """Minimise the objective of a matrix by plain gradient descent from small random tables.

    Raises:
        ArgumentError: a shape, a spectrum, a nesting or a number of components that is not offered.

    Example:
        >>> run = descend(4, 3, "gap", "joint", 2)
        >>> bool(run.loss[0] > run.loss[-1] > run.optimum)
        True
    """
    A = torch.from_numpy(matrix(rows, columns, spectrum))
    nested = Nesting(nearest("nesting", nesting, KINDS), whole("components", components, 1, MOST))
    generator = torch.Generator().manual_seed(0)
    f, g = (
        (0.3 * torch.randn(n, components, generator=generator, dtype=torch.float64) / n**0.5).requires_grad_()
        for n in (columns, rows)
    )
    # Sums, in the mean convention: every index weighs as much as there are indices.
    weights = (A.new_full((columns,), columns), A.new_full((rows,), rows))
    loss, sizes, right = [], [], []
    for _ in range(STEPS + 1):
        now = lora_svd(f, g, A @ f, nested, weights=weights)
        loss.append(now.item())
        sizes.append((f.norm(dim=0) * g.norm(dim=0)).tolist())
        right.append(f.tolist())
        slopes = torch.autograd.grad(now, (f, g))
        with torch.no_grad():
            for table, slope in zip((f, g), slopes, strict=True):
                table -= RATE * slope
    exact = np.zeros(components)
    found = np.linalg.svd(A.numpy(), compute_uv=False)[:components]
    exact[: len(found)] = found
    optimum = float(lora_optimum(torch.from_numpy(exact), nested.vector))
    return Descent(np.array(loss), optimum, np.array(sizes), np.array(right), exact)


@sheet()
def draw_descent(
    rows: int = 8,
    columns: int = 6,
    spectrum: str = "gap",
    nesting: str = "joint",
    components: int = 3,
    step: int = 100,
) -> Figure:
    """Draw one state of a descent: the loss so far and its exact optimum, sizes and Gram matrix.

    The sizes ``|g_l| |f_l|`` stand beside NumPy's singular values, which they reach with nesting and, in
    general, not without: there only the span is found.

    Arguments:
        rows, columns: shape of the matrix, 2 to 12.
        spectrum: ``"gap"`` (0.6 to the power l), ``"tie"`` (two equal values) or ``"rank-deficient"`` (rank
            2).
        nesting: ``"joint"``, ``"sequential"`` or ``"none"``.
        components: how many are sought, 1 to 6.
        step: the state that is shown, 0 to 400.

    Raises:
        ArgumentError: an argument out of range.

    Source: Theorems 1 and 2 of the paper, on a matrix.

    Example:
        >>> from nbsvd.plot import alt_text
        >>> alt_text(draw_descent(step=0))[:60]
        'Three panels after 0 steps of gradient descent with joint ne'
    """
    whole("step", step, 0, STEPS)
    run = descend(rows, columns, spectrum, nesting, components)
    gap = float(run.loss[step]) - run.optimum
    gap_text = f"gap {short(gap)}" if gap > 1e-12 else "no gap left"  # below that it is rounding
    figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.25, 1, 1])

    left.plot(run.loss, color="#bbbbbb", linewidth=1)
    left.plot(run.loss[: step + 1], color=OKABE_ITO[0])
    left.plot(step, run.loss[step], "o", color=OKABE_ITO[0])
    left.axhline(run.optimum, color=INK, linestyle="--", linewidth=1)
    below = (4, -4)
    left.annotate(f"exact optimum {number(run.optimum)}", (0.25, run.optimum), below, **WRITTEN)
    room = 0.15 * (max(run.loss[0], 0.0) - run.optimum)
    left.set(ylim=(run.optimum - room, max(run.loss[0], 0.0) + room))
    left.set(xlabel="step", ylabel="loss", title=f"loss {number(run.loss[step])}, {gap_text}")

    ell = np.arange(1, components + 1)
    off = float(np.abs(run.sizes[step] - run.exact).max())
    middle.hlines(run.exact, ell - 0.35, ell + 0.35, color="#9a9a9a", linewidth=3, label="NumPy's σ")
    middle.plot(ell, run.sizes[step], "o", color=OKABE_ITO[0], label="|g| |f|")
    middle.set(xticks=ell, xlabel="component", title=f"values, furthest off {short(off)}")
    middle.set_ylim(-0.05, max(1.35, 1.2 * float(run.sizes[step].max())))
    middle.legend(loc="upper right")

    largest = draw_gram(right, run.right[step].T @ run.right[step])
    how = "without nesting" if nesting == "none" else f"with {nesting} nesting"
    figure.set_label(
        sentence(
            f"three panels after {step} steps of gradient descent {how}",
            f"{count(components, 'component')}, {rows} rows, {columns} columns, spectrum {spectrum}",
            f"loss {number(run.loss[step])} against the exact optimum {number(run.optimum)}, {gap_text}",
            f"the value furthest from NumPy's is off by {short(off)}",
            f"largest inner product of two different right functions {short(largest)}",
        )
    )
    return figure


WRITTEN: dict[str, Any] = {
    "xycoords": ("axes fraction", "data"),
    "textcoords": "offset points",
    "fontsize": SMALL,
    "va": "top",
}


def draw_gram(axes: Axes, gram: Array) -> float:
    """Draw a Gram matrix with its numbers, and return the largest entry off the diagonal, by size."""
    n, top = len(gram), float(np.abs(gram).max())
    axes.imshow(gram, cmap=DIVERGING, vmin=-top, vmax=top)
    for (i, j), value in np.ndenumerate(gram):
        colour = "white" if abs(value) > 0.6 * top else INK
        text = f"{value:.1f}".replace("-0.0", "0.0").replace("-", "−")
        axes.text(j, i, text, ha="center", va="center", fontsize=SMALL, color=colour)
    axes.set(xticks=range(n), yticks=range(n), xticklabels=range(1, n + 1), yticklabels=range(1, n + 1))
    axes.grid(False)
    largest = float(np.abs(gram - np.diag(np.diag(gram))).max())
    axes.set(xlabel="component", title=f"⟨f|f⟩, off-diagonal {short(largest)}")
    return largest


def matrix_playground(
    *,
    rows: int = 8,
    columns: int = 6,
    spectrum: str = "gap",
    nesting: str = "joint",
    components: int = 3,
    step: int = 100,
) -> Explorer:
    """Choose a matrix and a nesting, and step through the minimisation.

    The arguments say where the controls stand at first; they are those of :func:`draw_descent`, which draws
    the picture.

    Raises:
        ArgumentError: an argument out of range.

    Example:
        >>> matrix_playground(spectrum="tie", nesting="none")
        Explorer(matrix playground)
    """
    draw_descent(rows, columns, spectrum, nesting, components, step)  # refuses what a slider would clip
    controls = {
        "rows": slider("rows", rows, 2, LARGEST),
        "columns": slider("columns", columns, 2, LARGEST),
        "spectrum": choice("spectrum", spectrum, SPECTRA),
        "nesting": choice("nesting", nesting, KINDS),
        "components": slider("components", components, 1, MOST),
        "step": slider("step", step, 0, STEPS),
    }
    return Explorer("matrix playground", draw_descent, controls)
