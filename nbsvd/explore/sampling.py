"""Which law should points follow? One function, one law, the estimates of two integrals."""

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from nbsvd import problems
from nbsvd._errors import nearest, require
from nbsvd.explore._explorer import Explorer, choice, slider, steps, whole
from nbsvd.functions.jet import jet_of
from nbsvd.measures import Gaussian, Lebesgue, Nodes, Radial, SquareRule, TruncatedGaussian, Uniform
from nbsvd.measures.base import KINDS, Real
from nbsvd.plot import DIVERGING, OKABE_ITO, Figure, sheet
from nbsvd.plot._style import INK, WIDTH
from nbsvd.plot._words import plain, sentence, short
from nbsvd.problems import Problem

Array = NDArray[np.float64]
LAWS = ("radial", "Gaussian", "Gaussian in the box", "uniform in the box")
DRAWS, PIXELS, SHOWN = 24, 101, 2000
MOST_POINTS = 4096


def measure_of(problem: Problem, law: str, scale: Real, box: Real) -> Lebesgue:
    """Return Lebesgue measure of the plane, or of the box ``[-box, box]^2``, sampled by a law.

    Example:
        >>> measure_of(problems.hydrogen2d(), "uniform in the box", 5.0, 20.0).law.high
        (20.0, 20.0)
    """
    center = problem.measure.center
    match nearest("law", law, LAWS):
        case "radial":
            return Lebesgue(Radial(2, scale=scale, center=center))
        case "Gaussian":
            return Lebesgue(Gaussian(2, scale=scale))
        case "Gaussian in the box":
            return Lebesgue(TruncatedGaussian(2, scale=scale, bound=box), rule=SquareRule(box))
        case _:
            return Lebesgue(Uniform([-box] * 2, [box] * 2))


def effective_size(shares: Array) -> float:
    r"""Return how many equal shares would make as noisy a sum: :math:`(\sum s)^2 / \sum s^2`.

    Arguments:
        shares: what each point adds to the estimate of ``<f|f>``, ``w_b f(x_b)^2``, ``(B,)``.

    Example:
        >>> effective_size(np.array([1.0, 1.0, 0.0, 0.0]))
        2.0
    """
    total = float(shares.sum())
    return total**2 / float((shares**2).sum()) if total > 0 else 0.0


def estimates(problem: Problem, measure: Lebesgue, mode: int, points: int, kind: Any) -> tuple[Array, Nodes]:
    """Return estimates of ``<f|f>`` and ``<f|T f>`` from independent sets of nodes, and the first set.

    The function is the exact one of that number, whose integrals are 1 and the exact value. The second is
    estimated in the weak form, with derivatives of f.

    Returns:
        Both over their exact values, ``(DRAWS, 2)``; and nodes.
    """
    assert problem.exact is not None
    exact = float(problem.exact.values(mode)[-1])
    found, first = [], None
    for seed in range(DRAWS):
        nodes = measure.nodes(points, kind=kind, generator=torch.Generator().manual_seed(seed))
        jet = jet_of(function(problem, mode), nodes.x)
        size, form = nodes.integrate(jet.value**2), problem.operator.weak_form(nodes, jet)
        found.append([float(size), float(form) / exact])
        first = first or nodes
    assert first is not None
    return np.array(found), first


def function(problem: Problem, mode: int) -> Any:
    """Return exact function number ``mode`` of a problem, from points ``(B, d)`` to ``(B, 1)``."""
    exact = problem.exact

    def f(x: Tensor) -> Tensor:
        assert exact is not None
        return exact.functions(x, mode)[:, -1:]

    return f


def view(problem: Problem, mode: int) -> float:
    """Return half the side of a square around the centre that holds nearly all of a function's square."""
    nodes = problem.measure.nodes(2000, kind="quadrature")
    f = function(problem, mode)(nodes.x)[:, 0]
    r = (nodes.x - nodes.x.new_tensor(problem.measure.center)).abs().amax(1)
    order = r.argsort()
    held = (nodes.weights * f**2)[order].cumsum(0)
    inside = int((held < 0.999 * held[-1]).sum())
    return 1.3 * float(r[order][min(inside, len(r) - 1)])


@sheet()
def draw_sampler(
    problem: Problem,
    law: str = "radial",
    scale: Real = 5.0,
    points: int = 256,
    kind: str = "iid",
    box: Real = 50.0,
    mode: int = 1,
) -> Figure:
    """Draw points of a law over an exact function of a problem, and estimates of two of its integrals.

    A point is drawn as large as its share of the estimate of ``<f|f>``. On the right each of the 24 sets of
    points gives one dot a column, divided by the exact value; what falls off the axis is a triangle at its
    end.

    Arguments:
        problem: a problem on the plane with a differential operator and an exact answer.
        law: ``"radial"``, ``"Gaussian"``, ``"Gaussian in the box"`` or ``"uniform in the box"``.
        scale: median radius or standard deviation, in the problem's unit of length.
        points: about how many, 1 to 4096.
        kind: ``"iid"``, ``"sobol"`` or ``"quadrature"`` (where the law plays no part but by its scale).
        box: half the side of the box, to which integrals are cut by the laws that name it.
        mode: number of the function, 1 to 9.

    Raises:
        ArgumentError: a problem of another kind; a law or kind that is not offered; a number out of range.

    Example:
        >>> from nbsvd.plot import alt_text
        >>> alt_text(draw_sampler(problems.oscillator2d(), points=64, kind="quadrature"))[:57]
        'Two panels: a radial law of scale 5 places 65 quadrature '
    """
    check_problem(problem)
    nearest("kind", kind, KINDS)
    whole("points", points, 1, MOST_POINTS)
    whole("mode", mode, 1, most_modes(problem))
    measure = measure_of(problem, law, scale, box)
    found, nodes = estimates(problem, measure, mode, points, kind)
    f = function(problem, mode)
    shares = (nodes.weights * f(nodes.x)[:, 0] ** 2).numpy()
    effective = effective_size(shares)
    error = np.sqrt(((found - 1) ** 2).mean(axis=0))

    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.1])
    draw_points(left, problem, mode, nodes.x.numpy(), shares)
    if law.endswith("box"):
        edge = Rectangle((-box, -box), 2 * box, 2 * box, fill=False, color=INK, linestyle="--")
        left.add_patch(edge).set_in_layout(False)
    left.set_title(f"effective size {effective:.0f} of {len(nodes)} points")
    draw_estimates(right, found)
    right.set_title(f"typical error {short(error[0])} and {short(error[1])}")
    boxed = f" with half side {box:g}" if law.endswith("box") else ""
    figure.set_label(
        sentence(
            f"two panels: a {law} law of scale {scale:g}{boxed} places {len(nodes)} {kind} points over "
            f"function {mode} of {problem.name}",
            f"as good as {effective:.0f} equal shares of its square integral",
            f"typical relative error over {DRAWS} sets of points: {short(error[0])} of <f|f>, "
            f"{short(error[1])} of <f|Tf>",
        )
    )
    return figure


def draw_points(axes: Axes, problem: Problem, mode: int, x: Array, shares: Array) -> None:
    """Draw the function and the points over it, each as large as its share."""
    half = view(problem, mode)
    cx, cy = problem.measure.center
    t = torch.linspace(-half, half, PIXELS, dtype=torch.float64)
    v, u = torch.meshgrid(t + cy, t + cx, indexing="ij")
    f = function(problem, mode)(torch.stack([u.flatten(), v.flatten()], 1)).reshape(PIXELS, PIXELS).numpy()
    top, extent = float(np.abs(f).max()), (cx - half, cx + half, cy - half, cy + half)
    axes.imshow(f, origin="lower", extent=extent, cmap=DIVERGING, vmin=-top, vmax=top, alpha=0.8)
    size = 2 + 60 * shares / max(float(shares.max()), 1e-300)
    shown = slice(None, SHOWN)
    dots = axes.scatter(x[shown, 0], x[shown, 1], s=size[shown], c=INK, edgecolors="white", linewidths=0.4)
    dots.set_in_layout(False)  # most of them may lie far outside
    axes.set(xlim=extent[:2], ylim=extent[2:], xlabel=f"x in {problem.unit}", ylabel="y")
    axes.grid(False)


def draw_estimates(axes: Axes, found: Array) -> None:
    """Draw the estimates over their exact values, one column each, and what is off the axis at its ends."""
    place = np.linspace(-0.3, 0.3, len(found))
    for column, colour in enumerate((OKABE_ITO[0], OKABE_ITO[1])):
        value = found[:, column]
        for mask, marker in ((value < 0, "v"), (value > 2, "^"), ((value >= 0) & (value <= 2), "o")):
            if mask.any():  # an empty unclipped line has a box at infinity, which ruins the layout
                at = np.clip(value[mask], 0, 2)
                axes.plot(column + place[mask], at, marker, color=colour, markersize=4, clip_on=False)
    axes.axhline(1.0, color=INK, linestyle="--", linewidth=1)
    axes.set(xlim=(-0.5, 1.5), ylim=(0, 2), xticks=[0, 1], ylabel="estimate / exact value")
    axes.set_xticklabels(["⟨f|f⟩", "⟨f|Tf⟩"])


def check_problem(problem: Problem) -> None:
    """Refuse a problem that can't be drawn here."""
    fits = problem.dim == 2 and problem.operator.local and isinstance(problem.measure, Lebesgue)
    require(
        fits and problem.exact is not None,
        "problem",
        got=f"{problem.name!r}: {problem.dim} dimensions, {type(problem.operator).__name__}",
        expected="a differential operator on the plane with an exact answer",
        remedy="Such as 'hydrogen2d', 'oscillator2d' or 'infinite_well2d'.",
    )


def most_modes(problem: Problem) -> int:
    """Return how many functions are offered: nine, or as many as the exact answer has."""
    assert problem.exact is not None
    return min(9, problem.exact.max_k or 9)


def sampler_and_box(
    problem: Problem | str = "hydrogen2d",
    *,
    law: str = "Gaussian",
    points: int = 256,
    kind: str = "iid",
    mode: int = 1,
) -> Explorer:
    """Choose where the points go, and see how well they estimate ``<f|f>`` and ``<f|T f>``, and why.

    Arguments:
        problem: a problem on the plane with a differential operator and an exact answer, or its name.
        law: where the control stands at first, as for the next three; see :func:`draw_sampler`, which draws
            the picture.
        points: a power of two from 16 to 2048.
        kind: ``"iid"``, ``"sobol"`` or ``"quadrature"``.
        mode: number of the function. Scale and box start at, and around, the length of the problem's own law.

    Raises:
        ArgumentError: see :func:`draw_sampler`.

    Example:
        >>> sampler_and_box("oscillator2d", points=64)
        Explorer(sampler and box)
    """
    chosen = problems.get(problem) if isinstance(problem, str) else problem
    check_problem(chosen)
    nearest("law", law, LAWS)
    nearest("kind", kind, KINDS)
    sizes = [2**i for i in range(4, 12)]
    require(points in sizes, "points", got=points, expected=f"one of {sizes}")
    whole("mode", mode, 1, most_modes(chosen))
    length = chosen.measure.length or 1.0
    lengths = [(plain(length * 2.0**i), length * 2.0**i) for i in range(-3, 5)]

    def draw(**settings: Any) -> Figure:
        return draw_sampler(chosen, **settings)

    controls = {
        "law": choice("law", law, LAWS),
        "scale": steps("scale", length, lengths),
        "points": steps("points", points, sizes),
        "kind": choice("kind", kind, KINDS),
        "box": steps("half box", 4 * length, lengths),
        "mode": slider("function", mode, 1, most_modes(chosen)),
    }
    return Explorer("sampler and box", draw, controls)
