"""Errors of values, and all errors in one dictionary."""

from collections.abc import Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from nbsvd._errors import ArgumentError, require
from nbsvd.metrics.gram import as_table, inner, orthogonality, units
from nbsvd.metrics.levels import alignment, angle, subspace_distance


def relative_error(values: Tensor, exact: Tensor) -> Float64[Tensor, " k"]:
    r"""Return the relative errors of values.

    .. math:: |v_l - \lambda_l| \,/\, |\lambda_l|

    Arguments:
        values: learned values of the unshifted problem, ``(k,)``.
        exact: exact values, ``(k,)``. Where one is 0 the error is infinite, or 0 for a learned 0.

    Raises:
        ArgumentError: shapes that are not one ``(k,)``, or values that are not finite.

    Example:
        >>> relative_error(torch.tensor([1.5, -2.0]), torch.tensor([1.0, -4.0])).tolist()
        [0.5, 0.5]
    """
    values = as_table("values", values, 1)
    exact = as_table("exact", exact, 1).to(values.device)
    require(
        values.shape == exact.shape,
        "values",
        got=f"shape {tuple(values.shape)}",
        expected=f"shape {tuple(exact.shape)}, as the exact values",
        remedy="Ask for as many exact values as were learned: exact.values(k).",
    )
    gap = (values - exact).abs()
    return torch.where(gap == 0, 0.0, gap / exact.abs())


def summary(
    values: Tensor,
    exact_values: Tensor,
    f: Tensor,
    exact_f: Tensor,
    levels: Sequence[Sequence[int]],
    weights: Tensor | None = None,
    *,
    g: Tensor | None = None,
    exact_g: Tensor | None = None,
    weights_g: Tensor | None = None,
) -> dict[str, float]:
    """Return the five errors of a report.

    ``relative_max`` and ``relative_mean`` over the values, ``angle_max`` over functions, ``subspace_max``
    over levels, ``orthogonality_max`` over pairs of functions before alignment. For an SVD give the left side
    too: the last three are then the largest over both sides, and *one* rotation inside each level serves both
    sides, so that wrong pairs show, such as a left function with the sign of its opposite.

    Arguments:
        values: learned values of the unshifted problem, ``(L,)``.
        exact_values: exact values, ``(L,)``.
        f: learned (right) functions, ``(B, L)``, in the order of their values, as learned.
        exact_f: exact (right) functions at the same points, in whole levels, ``(B, K)``, K >= L.
        levels: the K indices grouped by level.
        weights: ``(B,)``, mean convention.
        g: learned left functions at their own points, ``(B', L)``.
        exact_g: exact left functions, ``(B', K)``.
        weights_g: ``(B',)``; ``None`` is a plain mean, not the weights of f.

    Raises:
        ArgumentError: as for :func:`align` and :func:`relative_error`; only one of ``g`` and ``exact_g``.

    Example:
        >>> e = torch.eye(2, dtype=torch.float64)
        >>> errors = summary(torch.tensor([3.0, 1.0]), torch.tensor([2.0, 2.0]), e, e, [[0, 1]])
        >>> errors["relative_max"], errors["orthogonality_max"]
        (0.5, 0.0)
    """
    errors = relative_error(values, exact_values)
    sides, cosines = [(f, exact_f, weights)], inner(*units(f, exact_f, weights))
    expected = f"{len(cosines)}, one per function"
    require(len(errors) == len(cosines), "values", got=f"{len(errors)} values", expected=expected)
    if g is not None and exact_g is not None:
        sides.append((g, exact_g, weights_g))
        left = inner(*units(g, exact_g, weights_g, names=("g", "exact_g", "weights_g"))).to(cosines)
        shape = tuple(cosines.shape)
        got = "{} learned and {} exact left functions".format(*left.shape)
        require(left.shape == shape, "g", got=got, expected="{} and {}, as on the right".format(*shape))
        cosines = cosines + left
    elif g is not None or exact_g is not None:
        missing, given = ("g", "exact_g") if g is None else ("exact_g", "g")
        raise ArgumentError(
            missing, got=f"None, but {given} is there", expected="both for an SVD, or neither"
        )
    rotations = alignment(cosines, levels)
    return {
        "relative_max": float(errors.max()),
        "relative_mean": float(errors.mean()),
        "angle_max": max(float(angle(h, e, levels, w, rotations=rotations).max()) for h, e, w in sides),
        "subspace_max": max(float(subspace_distance(h, e, levels, w).max()) for h, e, w in sides),
        "orthogonality_max": max(float(orthogonality(h, w)) for h, _, w in sides),
    }
