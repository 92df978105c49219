"""The figures of a result: what is drawn, from which functions, on which points."""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from nbsvd import plot
from nbsvd.measures import Counting
from nbsvd.spectrum.result import Result

PIXELS, POINTS = 121, 400
SHARE = 0.999  # of the square of a function inside its panel


def reach(result: Result) -> Tensor:
    """Return for each function the distance from the centre within which nearly all of it lies, ``(k,)``."""
    nodes = result.nodes()
    f = result.right(nodes.x) ** 2 * nodes.weights[:, None]
    r = (nodes.x - nodes.x.new_tensor(result.measure_x.center)).abs().amax(1)
    order = r.argsort()
    share = f[order].cumsum(0)
    inside = (share < SHARE * share[-1]).sum(0).clamp_max(len(r) - 1)
    return r[order][inside]


def grid(result: Result, half: float) -> tuple[Tensor, tuple[float, float, float, float]]:
    """Return the points of a square picture around the centre, ``(PIXELS^2, 2)``, and its extent."""
    cx, cy = result.measure_x.center
    t = torch.linspace(-half, half, PIXELS, dtype=torch.float64)
    y, x = torch.meshgrid(t + cy, t + cx, indexing="ij")
    extent = (cx - half, cx + half, cy - half, cy + half)
    return torch.stack([x.reshape(-1), y.reshape(-1)], 1), extent


def functions_2d(result: Result) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the rows of a mode gallery, ``(k, PIXELS, PIXELS)`` each, and the extent of each mode."""
    halves = [float(h) * 1.05 for h in reach(result)]
    turned = result.align() if result.exact is not None and result.label != "aligned" else None
    rows: dict[str, list[Tensor]] = {name: [] for name in (("learned", "aligned", "exact") if turned else ("learned",))}
    extents = []
    for l, half in enumerate(halves):
        x, extent = grid(result, half)
        extents.append(extent)
        rows["learned"].append(result.right(x)[:, l])
        if turned is not None:
            rows["aligned"].append(turned.right(x)[:, l])
            rows["exact"].append(turned.exact_like(x)[:, l])
    pictures = {n: torch.stack(c).reshape(-1, PIXELS, PIXELS).cpu().numpy() for n, c in rows.items()}
    return pictures, np.array(extents)


def lines(result: Result) -> Figure:
    """Draw functions on a line: right functions, and left ones where they differ."""
    nodes = result.nodes().x[:, 0]
    center = result.measure_x.center[0]
    half = float(reach(result).max())
    x = torch.linspace(max(float(nodes.min()), center - half), min(float(nodes.max()), center + half), POINTS)
    points = x[:, None].to(torch.float64)
    shown = result.align() if result.exact is not None else result
    rows = {"learned": shown.right(points).t()}
    if result.exact is not None:
        rows["exact"] = shown.exact_like(points).t()
    return plot.mode_lines(
        x.numpy(), {name: f.cpu().numpy() for name, f in rows.items()}, exact_values=exact_values(result)
    )


def exact_values(result: Result) -> np.ndarray | None:
    """Return the exact values as an array, where they are known."""
    return None if result.exact is None else result.exact.values(result.k).numpy()


def overview(result: Result) -> Figure:
    """Draw a result in the way that its points allow: a gallery, lines, or the values alone."""
    if isinstance(result.measure_x, Counting) or result.measure_x.dim > 2:
        return ladder(result)
    if result.measure_x.dim == 1:
        return lines(result)
    rows, extents = functions_2d(result)
    grams = {result.label: result.cosine_gram.cpu().numpy()}
    return plot.figure1(
        rows,
        grams,
        extent=extents,
        exact_values=exact_values(result),
        unit=str(result.info.get("unit", "units of length")),
    )


def ladder(result: Result) -> Figure:
    """Draw the values with error bars beside the exact ones."""
    levels = None if result.exact is None else result.exact.levels(result.k)
    return plot.energy_ladder(
        result.values.cpu().numpy(), result.stderr.cpu().numpy(), exact_values(result), levels=levels
    )


def training_curve(result: Result) -> Figure:
    """Draw the loss against the least one possible."""
    h = result.history
    return plot.training_curve(np.array(h.step), np.array(h.loss), optimum=h.optimum)
