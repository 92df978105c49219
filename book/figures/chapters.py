"""The pictures of the chapters, one for each: every number in them is computed here.

``python book/figures/chapters.py`` draws all of them beside this file; with the name of a folder, there.
"""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, LinearSegmentedColormap
from matplotlib.patches import Rectangle
from numpy.polynomial.legendre import leggauss
from PIL import Image
from scipy.integrate import solve_ivp
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.special import eval_hermitenorm, factorial, ndtr, ndtri

from nbsvd import plot
from nbsvd.plot import DIVERGING, OKABE_ITO, Figure

HERE = Path(__file__).resolve().parent
BLUE, RED, GREEN, PINK, ORANGE, SKY, BLACK = OKABE_ITO
INK, GREY = "#222222", "#777777"
SMALL = 8
# White to light blue, for what is never negative: dark type stands out on all of it.
BLUES = LinearSegmentedColormap.from_list("white to blue", ["#FFFFFF", SKY])


def bare(ax: Axes) -> None:
    """Leave nothing of the axes but what is drawn in them."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.grid(False)


def operators() -> Figure:
    """Schmidt's theorem for integration: squares of side sigma_k; the kernel, cut off after four terms."""
    cut, shown = 4, 60
    sigma = 2 / ((2 * np.arange(1, shown + 1) - 1) * np.pi)
    tail = 0.5 - (sigma[:cut] ** 2).sum()  # all squares together have the area of the triangle below
    left = np.concatenate([[0.0], np.cumsum(sigma)])
    fig = Figure(figsize=(7.2, 2.45))
    ax = fig.add_axes((0.01, 0.15, 0.47, 0.86))
    for k in range(shown):
        kept = k < cut
        ax.add_patch(
            Rectangle(
                (left[k], 0),
                sigma[k],
                sigma[k],
                facecolor=BLUE if kept else ORANGE,
                edgecolor="white",
                linewidth=0.8 if k < 12 else 0.3,
            )
        )
    ax.text(left[0] + sigma[0] / 2, sigma[0] / 2, r"$\sigma_1^2$", color="white", ha="center", va="center")
    for k in range(1, cut):
        ax.text(left[k] + sigma[k] / 2, sigma[k] + 0.015, rf"$\sigma_{k + 1}$", ha="center", va="bottom")
    ax.text(sigma[0] / 2, sigma[0] + 0.015, r"$\sigma_1$", ha="center", va="bottom")
    ax.plot([left[cut]] * 2, [-0.03, 0.36], color=INK, linewidth=1, linestyle="--")
    ax.text(left[cut] - 0.015, 0.375, f"$L = {cut}$", ha="center", va="bottom")
    ax.annotate(
        rf"$\|T - T_{cut}\|_{{\mathrm{{HS}}}}^2 = \sum_{{k > {cut}}} \sigma_k^2 = {tail:.3f}$",
        (left[cut + 3], sigma[cut + 3] / 2),
        (left[cut] + 0.04, 0.2),
        color="#8A5A00",
        fontsize=SMALL,
        arrowprops={"arrowstyle": "-", "color": "#8A5A00", "linewidth": 0.8},
    )
    share = (sigma[:cut] ** 2).sum()
    ax.text(
        left[cut] / 2,
        -0.03,
        rf"$\sum_{{k \leq {cut}}} \sigma_k^2 = {share:.3f}$",
        color=BLUE,
        ha="center",
        va="top",
    )
    ax.text(left[-1] + 0.02, 0.0, "…", va="bottom", color="#8A5A00")
    ax.set(xlim=(-0.03, left[-1] + 0.1), ylim=(-0.13, sigma[0] + 0.1), aspect="equal", anchor="W")
    bare(ax)

    x = (np.arange(300) + 0.5) / 300
    kernel = (x[None, :] < x[:, None]).astype(float)  # rows are y, columns are x
    s = sigma[:cut, None]
    truncation = (np.sqrt(2) * np.sin(x / s)).T @ (s * np.sqrt(2) * np.cos(x / s))
    panels = [("$k(x, y)$", kernel), (f"$T_{cut}$", truncation), (f"$T - T_{cut}$", kernel - truncation)]
    for number, (title, image) in enumerate(panels):
        ax = fig.add_axes((0.522 + 0.164 * number, 0.37, 0.148, 0.148 * 7.2 / 2.45))
        picture = ax.imshow(image, cmap=DIVERGING, vmin=-1, vmax=1, origin="lower", extent=(0, 1, 0, 1))
        ax.set_title(title, loc="center")
        ax.set(xticks=[0, 1] if number == 0 else [], yticks=[0, 1] if number == 0 else [])
        if number == 0:
            ax.set_xlabel("$x$", labelpad=-7)
            ax.set_ylabel("$y$", labelpad=-2, rotation=0)
        ax.grid(False)
    bar = fig.colorbar(picture, cax=fig.add_axes((0.62, 0.19, 0.28, 0.04)), orientation="horizontal")
    bar.set_ticks([-1, 0, 1])
    bar.outline.set_linewidth(0.5)
    return fig


def objective() -> Figure:
    """The loss of one component: in the form g = f over the plane, in the form f, g over the line."""
    values = np.array([1.0, 0.5])
    fig = Figure(figsize=(7.2, 2.8))
    left, right = fig.subplots(1, 2, gridspec_kw={"width_ratios": [1.25, 1]})
    fig.subplots_adjust(left=0.065, right=0.985, top=0.9, bottom=0.16, wspace=0.2)

    x, y = np.meshgrid(np.linspace(-1.55, 1.55, 311), np.linspace(-1.15, 1.15, 231))
    loss = -2 * (values[0] * x**2 + values[1] * y**2) + (x**2 + y**2) ** 2
    saddle = -(values[1] ** 2)
    levels = sorted([-0.95, -0.8, -0.6, -0.4, saddle, -0.12, -0.03, 0.3, 1.0, 2.0])
    left.contourf(x, y, np.minimum(loss, 1), 40, cmap="Greys_r", vmin=-2.2, vmax=0.8)
    left.contour(x, y, loss, levels, colors=GREY, linewidths=0.7, linestyles="solid")
    left.contour(x, y, loss, [saddle], colors=INK, linewidths=1.3, linestyles="solid")

    def flow(_: float, f: Any) -> Any:
        return 4 * (values * f - (f @ f) * f)

    starts = [(0.02, 0.09), (-0.012, -0.09), (1.5, 0.75), (-1.4, 0.95), (0.35, 1.12), (-0.3, -1.12)]
    for start in [*starts, (1.35, -1.0)]:
        line = solve_ivp(flow, (0, 12), start, rtol=1e-8, atol=1e-10, max_step=0.04).y
        left.plot(*line, color=BLUE, linewidth=1.2)
        length = np.cumsum(np.hypot(*np.diff(line)))
        at = int(np.searchsorted(length, 0.45 * length[-1]))
        left.annotate(
            "",
            line[:, at + 3],
            line[:, at],
            arrowprops={"arrowstyle": "-|>", "color": BLUE, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0},
        )
    root = np.sqrt(values)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
    left.plot([-root[0], root[0]], [0, 0], "o", color=GREEN, markersize=7, markeredgecolor="white", zorder=4)
    left.plot([0, 0], [-root[1], root[1]], "s", color=ORANGE, markersize=6.5, markeredgecolor=INK, zorder=4)
    left.plot(0, 0, "^", color="white", markersize=7, markeredgecolor=INK, zorder=4)
    for sign, name in ((1, "+"), (-1, "-")):
        left.text(sign * (root[0] + 0.1), -0.2, rf"${name}\phi_1$", ha="center", va="top", bbox=box)
    left.text(-0.11, root[1] + 0.07, r"$+\sqrt{0.5}\,\phi_2$", va="bottom", ha="right", bbox=box)
    left.text(0.11, -root[1] - 0.07, r"$-\sqrt{0.5}\,\phi_2$", va="top", bbox=box)
    left.text(-0.09, -0.06, "$0$", va="top", ha="right", bbox=box)
    left.set(xlabel=r"$\langle \phi_1 | f\rangle$", ylabel=r"$\langle \phi_2 | f\rangle$", aspect="equal")
    left.set_title(r"$g = f$ in the plane, $T = \mathrm{diag}(1, 0.5)$")
    left.set(xlim=(-1.55, 1.55), ylim=(-1.15, 1.15))
    left.grid(False)

    t = np.linspace(-2.2, 2.2, 401)
    x, y = np.meshgrid(t, t)
    loss = (1 - x * y) ** 2 - 1
    right.contourf(x, y, np.minimum(loss, 1), 40, cmap="Greys_r", vmin=-2.2, vmax=0.8)
    right.contour(x, y, loss, [-0.8, -0.4, 0, 1, 3, 8, 15], colors=GREY, linewidths=0.7, linestyles="solid")
    right.contour(x, y, loss, [0.0], colors=INK, linewidths=1.3)
    branch = np.geomspace(1 / 2.2, 2.2, 200)
    right.plot(branch, 1 / branch, color=GREEN, linewidth=2.6)
    right.plot(-branch, -1 / branch, color=GREEN, linewidth=2.6)

    def valley(_: float, z: Any) -> Any:
        return 2 * (1 - z[0] * z[1]) * z[::-1]

    for start in [(0.7, -0.68), (1.9, -1.6), (-1.6, 1.9), (-2.0, 1.2), (1.2, 2.1), (-2.1, -1.4)]:
        line = solve_ivp(valley, (0, 12), start, rtol=1e-8, atol=1e-10, max_step=0.04).y
        right.plot(*line, color=BLUE, linewidth=1.2)
        length = np.cumsum(np.hypot(*np.diff(line)))
        at = int(np.searchsorted(length, 0.35 * length[-1]))
        right.annotate(
            "",
            line[:, at + 2],
            line[:, at],
            arrowprops={"arrowstyle": "-|>", "color": BLUE, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0},
        )
    right.plot(0, 0, "s", color=ORANGE, markersize=6.5, markeredgecolor=INK, zorder=4)
    right.text(1.28, 0.98, "$xy = 1$", bbox=box, color="#006B4E")
    right.set(xlabel="$x$ (of $f$)", ylabel="$y$ (of $g$)", aspect="equal", xticks=[-2, -1, 0, 1, 2])
    right.set_yticks([-2, -1, 0, 1, 2])
    right.set_title(r"$f, g$ on the line, $T = 1$")
    right.grid(False)
    return fig


def nesting() -> Figure:
    """Which losses a component takes part in, what its weights add up to, and the mask."""
    size = 5
    weights = np.full(size, 1 / size)
    m = np.array([weights[l:].sum() for l in range(size)])
    mask = m[np.maximum.outer(np.arange(size), np.arange(size))]
    fig = Figure(figsize=(7.2, 2.75))
    ax = fig.add_axes((0.03, 0.02, 0.56, 0.9))
    for l in range(size):  # the loss of rank l + 1
        for i in range(size):
            inside = i <= l
            ax.add_patch(
                Rectangle(
                    (i + 0.06, l + 0.08),
                    0.88,
                    0.84,
                    facecolor=SKY if inside else "white",
                    edgecolor=BLUE if inside else "#CCCCCC",
                    linewidth=0.8,
                    linestyle="-" if inside else ":",
                )
            )
            if inside:
                ax.text(i + 0.5, l + 0.5, f"$w_{l + 1}$", ha="center", va="center")
        ax.text(-0.12, l + 0.5, rf"$\mathcal{{L}}_{l + 1}$", ha="right", va="center", fontsize=10)
        ax.text(size + 0.15, l + 0.5, f"$w_{l + 1} = {weights[l]:.1f}$", va="center", fontsize=SMALL)
    for i in range(size):
        ax.text(i + 0.5, -0.12, f"$g_{i + 1}, f_{i + 1}$", ha="center", va="bottom")
        ax.text(i + 0.5, size + 0.55, f"$m_{i + 1}$\n${m[i]:.1f}$", ha="center", va="center", color=BLUE)
    ax.plot([0, size], [size + 0.06] * 2, color=INK, linewidth=0.8)
    ax.text(-0.12, size + 0.55, "sum", ha="right", va="center")
    ax.set(xlim=(-0.8, size + 1.6), ylim=(size + 1.1, -0.65))
    bare(ax)

    ax = fig.add_axes((0.675, 0.1, 0.285, 0.285 * 7.2 / 2.75))
    ax.imshow(mask, cmap=BLUES, vmin=0, vmax=1)
    for i in range(size):
        for j in range(size):
            ax.text(j, i, f"{mask[i, j]:.1f}", ha="center", va="center")
    ax.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    ax.grid(False)
    ax.grid(True, which="minor", color="white", linewidth=1.2)
    ax.set(xticks=range(size), yticks=range(size))
    ax.set_xticklabels([str(i + 1) for i in range(size)])
    ax.set_yticklabels([str(i + 1) for i in range(size)])
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    ax.set_ylabel("$i$", rotation=0, labelpad=7)
    ax.xaxis.tick_top()
    ax.set_xlabel("$j$", labelpad=4)
    ax.xaxis.set_label_position("top")
    ax.text(0.5, -0.06, r"$M_{ij} = m_{\max(i,\,j)}$", transform=ax.transAxes, ha="center", va="top")
    return fig


def ritz_of_steps(n: int) -> tuple[Any, Any, Any]:
    """Nodes, Ritz values and Ritz functions of Brownian motion's kernel on n smooth steps."""
    node, weight = leggauss(400)
    x, weight = (node + 1) / 2, weight / 2
    centre = np.modf(np.arange(1, n + 1) * (np.sqrt(5) - 1) / 2)[0]  # the golden ratio fills [0, 1] evenly
    h = 1 / (1 + np.exp(20 * (centre - x[:, None])))
    gram = h.T @ (weight[:, None] * h)
    action = h.T @ (weight[:, None] * (np.minimum.outer(x, x) @ (weight[:, None] * h)))
    value, vector = eigh(action, gram)
    return x, value[::-1], h @ vector[:, ::-1]


def heads() -> Figure:
    """Ritz values of a growing family of features, under the exact ones; a Ritz function on its way."""
    most, count = 12, 4
    exact = 1 / ((np.arange(1, count + 1) - 0.5) * np.pi) ** 2
    fig = Figure(figsize=(7.2, 2.75))
    left, right = fig.subplots(1, 2, gridspec_kw={"width_ratios": [1.35, 1]})
    fig.subplots_adjust(left=0.08, right=0.985, top=0.9, bottom=0.17, wspace=0.22)
    found = {n: ritz_of_steps(n) for n in range(1, most + 1)}
    colours, marks = (BLUE, RED, GREEN, PINK), "osD^"
    for l in range(count):
        left.plot([0.6, most + 0.2], [exact[l]] * 2, color=colours[l], linewidth=1, linestyle="--")
        n = np.arange(l + 1, most + 1)
        left.plot(
            n, [found[k][1][l] for k in n], color=colours[l], marker=marks[l], markersize=4.5, linewidth=1.2
        )
        left.text(most + 0.3, exact[l], rf"$\lambda_{l + 1}$", va="center", color=colours[l])
    left.set(yscale="log", xlabel="number $n$ of features", ylabel=r"Ritz values $\mu_l$")
    left.set(xlim=(0.6, most + 1), xticks=range(1, most + 1), ylim=(4e-3, 0.7))
    left.set_title("solid: Ritz values, dashed: exact")

    x = found[most][0]
    truth = np.sqrt(2) * np.sin(2.5 * np.pi * x)
    right.plot(x, truth, color=INK, linewidth=1.2, linestyle="--", label=r"$\phi_3$", zorder=4)
    for n, colour in ((3, ORANGE), (6, SKY), (12, GREEN)):
        u = found[n][2][:, 2]
        right.plot(x, u * np.sign(u @ truth), color=colour, linewidth=1.6, label=f"$n = {n}$")
    right.set(xlabel="$x$", xlim=(0, 1), ylim=(-2.3, 3.3))
    right.set_title("third Ritz function")
    right.legend(loc="upper center", ncols=4, fontsize=SMALL, columnspacing=0.8, handlelength=1.2)
    return fig


def gaussians(exponents: Any) -> tuple[float, Any]:
    """The largest Ritz value of the plane atom on Gaussians exp(-a r^2), and its coefficients, norm one."""
    node, weight = leggauss(240)
    s, weight = (node + 1) / 2 * 5, weight / 2 * 5  # r = s^2: dense near the nucleus
    r, measure = s**2, 2 * np.pi * s**2 * 2 * s * weight
    g = np.exp(-np.asarray(exponents) * r[:, None] ** 2)
    slope = -2 * np.asarray(exponents) * r[:, None] * g
    gram = g.T @ (measure[:, None] * g)
    form = -slope.T @ (measure[:, None] * slope) + g.T @ ((measure / r)[:, None] * g)
    value, vector = eigh(form, gram)
    return float(value[-1]), vector[:, -1]


def best_gaussians(count: int) -> tuple[float, Any, Any]:
    """The best of all sums of ``count`` Gaussians: value, exponents, coefficients."""
    start = np.log(np.geomspace(0.2, 0.2 * 6 ** (count - 1), count))
    options = {"xatol": 1e-4, "fatol": 1e-9, "maxiter": 2000}
    best = minimize(lambda a: -gaussians(np.exp(a))[0], start, method="Nelder-Mead", options=options)
    value, vector = gaussians(np.exp(best.x))
    return value, np.exp(best.x), vector


def unbounded() -> Figure:
    """The ground state of the plane atom beside the best Gaussians, and the ladder of its values."""
    fig = Figure(figsize=(7.2, 2.8))
    left, right = fig.subplots(1, 2, gridspec_kw={"width_ratios": [1, 1.1]})
    fig.subplots_adjust(left=0.065, right=0.985, top=0.9, bottom=0.165, wspace=0.2)
    x = np.linspace(-3, 3, 1201)
    left.plot(
        x, np.sqrt(2 / np.pi) * np.exp(-np.abs(x)), color=INK, linewidth=1.8, label=r"$e^{-r}$: $\lambda = 1$"
    )
    for count, colour, style in ((1, RED, "--"), (3, BLUE, "-")):
        value, exponents, c = best_gaussians(count)
        f = np.exp(-np.outer(x**2, exponents)) @ c
        name = rf"{count} Gaussian{'s' * (count > 1)}: $\mu = {value:.3f}$"
        left.plot(x, f * np.sign(f.sum()), color=colour, linewidth=1.4, linestyle=style, label=name)
    left.set(xlabel="$x$, on a line through the nucleus", xlim=(-3, 3), ylim=(0, 1.12))
    left.set_title("ground state, norm 1")
    left.legend(loc="upper left", fontsize=SMALL, handlelength=1.4, borderaxespad=0.2)

    last = 4
    for n in range(40):
        level = 1 / (2 * n + 1)  # the square root of the value, the height on this axis
        for m in range(-n, n + 1) if n <= last else range(-last - 1, last + 2):
            right.plot(
                [m - 0.38, m + 0.38],
                [level] * 2,
                color=BLUE if n <= last else SKY,
                linewidth=2.4 if n <= last else 0.4,
                solid_capstyle="butt",
            )
        if n <= 2:
            value = f"1/{(2 * n + 1) ** 2}" if n else "1"
            right.text(n + 0.6, level, rf"$\lambda = {value}$", va="center")
            right.text(-n - 0.6, level, rf"${2 * n + 1}\times$", va="center", ha="right")
    right.axhspan(-0.3, 0, color="#BBBBBB", linewidth=0)
    right.text(0, -0.15, r"continuum, $\lambda \leq 0$", ha="center", va="center")
    ticks = [1, 1 / 9, 1 / 25, 0]
    right.set(xlim=(-5.5, 5.5), ylim=(-0.3, 1.1), xticks=range(-4, 5), yticks=np.sqrt(ticks))
    right.set_yticklabels(["1", "1/9", "1/25", "0"])
    right.set(xlabel=r"$m$ ($\cos m\theta$, to the left $\sin |m|\theta$)")
    right.set_title(r"values $\lambda$, height $\sqrt{\lambda}$")
    right.grid(False)
    return fig


def rivals() -> Figure:
    """One function in the plane under each objective: where it goes, and where it rests."""
    fig = Figure(figsize=(7.2, 2.2))
    panels = fig.subplots(1, 4, sharex=True, sharey=True)
    fig.subplots_adjust(left=0.06, right=0.995, top=0.87, bottom=0.18, wspace=0.06)
    good, bad = np.array([0.5, 0.25]), np.array([0.5, -0.25])

    def lora(_: float, f: Any) -> Any:
        return 4 * (good * f - (f @ f) * f)

    def quotient(_: float, f: Any) -> Any:  # SpIN and NeuralEF alike, as long as there is one function
        return 2 / (f @ f) * (good * f - (f @ (good * f)) / (f @ f) * f)

    def minimisation(values: Any) -> Callable[[float, Any], Any]:
        return lambda _, f: 2 * ((2 - f @ f) * values * f - (f @ (values * f)) * f)

    def lost(_: float, f: Any) -> float:
        return float(np.abs(f).max() - 1.72)

    lost.terminal = True  # type: ignore[attr-defined]

    def ring(radius: float, *degrees: float) -> list[tuple[float, float]]:
        return [(radius * np.cos(np.deg2rad(a)), radius * np.sin(np.deg2rad(a))) for a in degrees]

    around = [
        *ring(1.5, 15, 45, 80, 100, 135, 165, 195, 225, 260, 280, 315, 345),
        *ring(0.12, 50, 130, 230, 310),
    ]
    turning = [start for radius in (0.5, 1.0, 1.4) for start in ring(radius, 84, 96, 264, 276)]
    torn = [*ring(0.12, 60, 120, 240, 300), *ring(1.5, 12, 30, 150, 168, 192, 210, 330, 348)]
    torn += [(x, y) for x in (-0.45, -0.12, 0.12, 0.45) for y in (-1.1, -0.93, 0.93, 1.1)]
    shown = (
        ("LoRA", lora, around),
        ("SpIN, NeuralEF", quotient, turning),
        ("OMM", minimisation(good), around),
        ("OMM, a negative value", minimisation(bad), torn),
    )
    for ax, (title, field, starts) in zip(panels, shown, strict=True):
        for start in starts:
            line = solve_ivp(field, (0, 30), start, rtol=1e-8, atol=1e-10, max_step=0.03, events=lost).y
            colour = RED if np.abs(line[:, -1]).max() > 1.7 else BLUE
            ax.plot(*line, color=colour, linewidth=1)
            length = np.cumsum(np.hypot(*np.diff(line)))
            at = int(np.searchsorted(length, 0.5 * length[-1]))
            arrow = {"arrowstyle": "-|>", "linewidth": 1, "shrinkA": 0, "shrinkB": 0, "color": colour}
            ax.annotate("", line[:, at + 1], line[:, at], arrowprops={**arrow, "mutation_scale": 7})
        ax.set_title(title, fontsize=9)
        ax.set(xlim=(-1.7, 1.7), ylim=(-1.7, 1.7), aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
        ax.set_xlabel(r"$\langle \phi_1 | f\rangle$", labelpad=1)
        ax.grid(False)
    rest = {"marker": "o", "color": GREEN, "markersize": 6.5, "markeredgecolor": "white", "zorder": 4}
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8}
    for ax, size, name in ((0, np.sqrt(good[0]), r"$\sqrt{\lambda_1}$"), (2, 1, "$1$"), (3, 1, "$1$")):
        panels[ax].plot([-size, size], [0, 0], linestyle="", **rest)
        panels[ax].text(size, -0.22, name, ha="center", va="top", bbox=box, fontsize=SMALL)
    panels[1].plot([-1.7, -0.06], [0, 0], [0.06, 1.7], [0, 0], color=GREEN, linewidth=3, zorder=4)
    panels[0].set_ylabel(r"$\langle \phi_2 | f\rangle$", labelpad=-2)
    return fig


def in_sample(n: int, pairs: int, rho: float, samples: int) -> tuple[float, float]:
    """Largest correlation of n waves of each side of a Gaussian pair, on its own pairs and on fresh ones."""
    random = np.random.default_rng(n)
    k = np.arange(1, n + 1)
    found, fresh = [], []
    for _ in range(samples):
        z = random.standard_normal((2, 2, pairs))  # two sets of pairs, two independent normal variables each
        x, y = z[:, 0], rho * z[:, 0] + np.sqrt(1 - rho**2) * z[:, 1]
        f, g = (np.sqrt(2) * np.cos(np.pi * k * ndtr(t)[..., None]) for t in (x, y))
        f, g = (t - t[0].mean(0) for t in (f, g))
        (qf, rf), (qg, rg) = np.linalg.qr(f[0]), np.linalg.qr(g[0])
        left, value, right = np.linalg.svd(qg.T @ qf)
        found.append(value[0])
        u, v = f[1] @ np.linalg.solve(rf, right[0]), g[1] @ np.linalg.solve(rg, left[:, 0])
        fresh.append(np.corrcoef(u, v)[0, 1])
    return float(np.mean(found)), float(np.mean(fresh))


def pairs() -> Figure:
    """A density ratio and its first terms; correlations on the data they were sought on, and on fresh."""
    rho, count = 0.8, 40
    fig = Figure(figsize=(7.2, 2.6))
    u = (np.arange(160) + 0.5) / 160
    x = ndtri(u)
    h = np.array([eval_hermitenorm(k, x) / np.sqrt(factorial(k)) for k in range(10)])
    ratio = np.exp(
        -(rho**2 * x[:, None] ** 2 - 2 * rho * x[:, None] * x + rho**2 * x**2) / (2 - 2 * rho**2)
    ) / np.sqrt(1 - rho**2)
    steps = BoundaryNorm(np.arange(-4, 4.5, 0.5), 256, extend="both")
    panels = [("density ratio", ratio)]
    panels += [(f"$L = {cut}$", (h[:cut].T * rho ** np.arange(cut)) @ h[:cut]) for cut in (2, 4, 10)]
    for number, (title, image) in enumerate(panels):
        ax = fig.add_axes((0.055 + 0.135 * number, 0.4, 0.122, 0.122 * 7.2 / 2.6))
        picture = ax.imshow(image, cmap=DIVERGING, norm=steps, origin="lower", extent=(0, 1, 0, 1))
        ax.set_title(title, loc="center", fontsize=9)
        ax.set(xticks=[0, 1] if number == 0 else [], yticks=[0, 1] if number == 0 else [])
        if number == 0:
            ax.set_xlabel("quantile of $x$", labelpad=-2, fontsize=SMALL)
            ax.set_ylabel("of $y$", labelpad=-6, fontsize=SMALL)
        ax.grid(False)
    bar = fig.colorbar(picture, cax=fig.add_axes((0.2, 0.19, 0.28, 0.04)), orientation="horizontal")
    bar.set_ticks([-4, 0, 1, 4])
    bar.outline.set_linewidth(0.5)

    ax = fig.add_axes((0.68, 0.18, 0.31, 0.7))
    sizes = [1, 2, 3, 5, 8, 12, 16, 20, 24, 28, 32, 36, 39]
    curves = np.array([in_sample(n, count, 0.5, 60) for n in sizes]).T
    ax.axhline(0.5, color=INK, linewidth=1.2, linestyle="--")
    ax.plot(sizes, curves[0], "o-", color=RED, markersize=3.5, linewidth=1.3)
    ax.plot(sizes, curves[1], "s-", color=BLUE, markersize=3.5, linewidth=1.3)
    ax.text(15.5, 0.88, "same pairs", color=RED, ha="left", fontsize=SMALL)
    ax.text(39, 0.52, "true", color=INK, ha="right", va="bottom", fontsize=SMALL)
    ax.text(15, 0.22, "fresh pairs", color=BLUE, ha="left", fontsize=SMALL)
    ax.set(xlim=(0, 40), ylim=(-0.05, 1.05), xlabel=f"functions on each side, {count} pairs")
    ax.set_title("largest correlation", fontsize=9)
    return fig


FIGURES: dict[str, Callable[[], Figure]] = {
    draw.__name__: draw for draw in (operators, objective, nesting, heads, unbounded, rivals, pairs)
}


def main(folder: Path = HERE) -> None:
    """Draw every figure into a folder, in a palette of 256 colours, which keeps the files small."""
    for name, draw in FIGURES.items():
        with plot.sheet():
            figure = draw()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
        image = Image.open(buffer).convert("RGB")
        image.quantize(256, dither=Image.Dither.NONE).save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
