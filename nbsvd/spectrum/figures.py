"""The figures of a spectrum: what is drawn, from which functions, on which points."""

import math

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from nbsvd import plot
from nbsvd.measures import Counting
from nbsvd.spectrum.history import History
from nbsvd.spectrum.spectrum import Spectrum

PIXELS, POINTS = 121, 400
SHARE = 0.999  # of the square of a function inside its panel


def reach(spectrum: Spectrum) -> Tensor:
    """Return for each function the distance from the centre within which nearly all of it lies, ``(k,)``."""
    nodes = spectrum.nodes()
    f = spectrum.right(nodes.x) ** 2 * nodes.weights[:, None]
    r = (nodes.x - nodes.x.new_tensor(spectrum.measure_x.center)).abs().amax(1)
    order = r.argsort()
    share = f[order].cumsum(0)
    inside = (share < SHARE * share[-1]).sum(0).clamp_max(len(r) - 1)
    return r[order][inside]


def grid(spectrum: Spectrum, half: float) -> tuple[Tensor, tuple[float, float, float, float]]:
    """Return the points of a square picture around the centre, ``(PIXELS^2, 2)``, and its extent."""
    cx, cy = spectrum.measure_x.center
    t = torch.linspace(-half, half, PIXELS, dtype=torch.float64)
    y, x = torch.meshgrid(t + cy, t + cx, indexing="ij")
    extent = (cx - half, cx + half, cy - half, cy + half)
    return torch.stack([x.reshape(-1), y.reshape(-1)], 1), extent


def panel_halves(spectrum: Spectrum) -> list[float]:
    """Return half the side of each function's picture, rounded up to two digits; a level shares one size."""
    halves = [float(h) * 1.05 for h in reach(spectrum)]
    if spectrum.exact is not None:
        for level in spectrum.exact.levels(spectrum.k):
            largest = max(halves[i] for i in level)
            for i in level:
                halves[i] = largest
    steps = [10.0 ** (math.floor(math.log10(h)) - 1) for h in halves]
    # round() takes away what the float power added to a step
    return [round(math.ceil(h / step) * step, 12) for h, step in zip(halves, steps, strict=True)]


def functions_2d(spectrum: Spectrum) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the rows of a mode gallery, ``(k, PIXELS, PIXELS)`` each, and the extent of each mode.

    The rows are the functions as they are, the same aligned, and the exact ones, as far as these are known.
    """
    turned = None if spectrum.exact is None else spectrum if spectrum.label == "aligned" else spectrum.align()
    names = (
        [spectrum.label] + ["aligned"] * (turned is not spectrum) + ["exact"] if turned else [spectrum.label]
    )
    rows: dict[str, list[Tensor]] = {name: [] for name in names}
    extents = []
    for l, half in enumerate(panel_halves(spectrum)):
        x, extent = grid(spectrum, half)
        extents.append(extent)
        rows[spectrum.label].append(spectrum.right(x)[:, l])
        if turned is not None:
            if turned is not spectrum:
                rows["aligned"].append(turned.right(x)[:, l])
            rows["exact"].append(turned.exact_like(x)[:, l])
    pictures = {n: torch.stack(c).reshape(-1, PIXELS, PIXELS).cpu().numpy() for n, c in rows.items()}
    return pictures, np.array(extents)


def lines(spectrum: Spectrum) -> Figure:
    """Draw functions on a line: the right ones and, where they are others on the same line, the left ones."""
    nodes = spectrum.nodes().x[:, 0]
    center = spectrum.measure_x.center[0]
    half = max(panel_halves(spectrum))
    low, high = max(float(nodes.min()), center - half), min(float(nodes.max()), center + half)
    step = 10.0 ** (
        math.floor(math.log10(high - low)) - 2
    )  # nodes stop short of the ends: take round numbers
    low, high = round(low / step) * step, round(high / step) * step
    x = torch.linspace(low, high, POINTS, dtype=torch.float64)
    shown = spectrum.align() if spectrum.exact is not None else spectrum
    sides = {"": "right"}
    if not spectrum.self_adjoint and spectrum.measure_x.same_as(spectrum.measure_y):
        sides = {"right, ": "right", "left, ": "left"}
    rows = {f"{name}learned": getattr(shown, side)(x[:, None]) for name, side in sides.items()}
    if spectrum.exact is not None:
        rows |= {f"{name}exact": shown.exact_like(x[:, None], side) for name, side in sides.items()}
    return plot.mode_lines(
        x.numpy(),
        {name: f.t().cpu().numpy() for name, f in rows.items()},
        exact_values=exact_values(spectrum),
        value_symbol="λ" if spectrum.self_adjoint else "σ",
    )


def exact_values(spectrum: Spectrum) -> np.ndarray | None:
    """Return the exact values as an array, where they are known."""
    return None if spectrum.exact is None else spectrum.exact.values(spectrum.k).numpy()


def overview(spectrum: Spectrum, *, unit: str = "units of length") -> Figure:
    """Draw functions and values in the way that its points allow: a gallery, lines, or the values alone."""
    if isinstance(spectrum.measure_x, Counting) or spectrum.measure_x.dim > 2:
        return ladder(spectrum)
    if spectrum.measure_x.dim == 1:
        return lines(spectrum)
    rows, extents = functions_2d(spectrum)
    grams = {spectrum.label: spectrum.cosine_gram.cpu().numpy()}
    return plot.figure1(
        rows,
        grams,
        extent=extents,
        exact_values=exact_values(spectrum),
        unit=unit,
    )


def ladder(spectrum: Spectrum) -> Figure:
    """Draw the values with error bars beside the exact ones."""
    levels = None
    if spectrum.exact is not None:
        levels = [i for i, level in enumerate(spectrum.exact.levels(spectrum.k)) for _ in level]
    return plot.energy_ladder(
        spectrum.values.cpu().numpy(), spectrum.stderr.cpu().numpy(), exact_values(spectrum), levels=levels
    )


def training_curve(history: History) -> Figure:
    """Draw the loss against the least one possible."""
    return plot.training_curve(np.array(history.step), np.array(history.loss), optimum=history.optimum)
