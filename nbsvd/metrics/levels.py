"""Comparison inside degenerate levels, where only subspaces are determined."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from nbsvd._errors import require
from nbsvd.metrics.gram import as_table, inner, normalised, norms, units


class Alignment(NamedTuple):
    """Rotations inside levels: column by column, ``f @ learned`` is to be compared with ``exact_f @ exact``.

    ``learned`` (L, L) is orthogonal and block diagonal by level. ``exact`` (K, L) has orthonormal columns:
    those of the identity on whole levels, and on a cut level the choice of p functions inside it.
    """

    learned: Float64[Tensor, "L L"]
    exact: Float64[Tensor, "K L"]


def alignment(cross: Tensor, levels: Sequence[Sequence[int]]) -> Alignment:
    r"""Return the rotations inside levels that bring learned functions closest to exact ones.

    Orthogonal Procrustes in each level, with C its block of ``cross`` and C = U S V^T:

    .. math:: Q = \arg\max_{Q^T Q = 1} \operatorname{tr}(Q^T C) = U V^T

    In a level of one function Q is a sign. In a level that is cut to p of m functions, C is p by m: the
    nearest p orthonormal functions inside it are ``exact_f @ (V U^T)``, and both sides are then turned
    together by the Procrustes rotation towards the first p exact ones, which changes what is displayed, not
    what is measured.

    For an SVD give the sum of both sides' cosines, since ``(psi, phi) -> (psi Q, phi Q)`` with one Q for both
    sides is all the freedom that a degenerate level has::

        alignment(cosine_gram(f, w, exact_f) + cosine_gram(g, w_g, exact_g), levels)

    Arguments:
        cross: cosines of learned and exact functions, ``(L, K)``, K >= L.
        levels: the K indices grouped by level.

    Raises:
        ArgumentError: K < L, or levels that do not hold each of the K indices once.

    Source: Schoenemann, "A generalized solution of the orthogonal Procrustes problem", Psychometrika 31
    (1966), 1.

    Example:
        >>> alignment(torch.tensor([[0.0, -1.0], [1.0, 0.0]]), [[0, 1]]).learned.tolist()
        [[0.0, -1.0], [1.0, 0.0]]
    """
    cross = as_table("cross", cross, 2)
    count, total = cross.shape
    learned, exact = cross.new_zeros(count, count), cross.new_zeros(total, count)
    for members, level in _split(levels, count, total):
        rows, columns = torch.tensor(members)[:, None], torch.tensor(level)
        block = cross[rows, columns]
        if len(members) == len(level):
            turn = _polar(block)
            inside = torch.eye(len(level)).to(cross)
        else:
            turn = _polar(block[:, : len(members)])
            inside = _polar(block).T @ turn
        learned[rows, rows.T] = turn
        exact[columns[:, None], rows.T] = inside
    return Alignment(learned, exact)


def align(
    f: Tensor,
    exact_f: Tensor,
    levels: Sequence[Sequence[int]],
    weights: Tensor | None = None,
    *,
    rotations: Alignment | None = None,
) -> tuple[Float64[Tensor, "B L"], Float64[Tensor, "L L"]]:
    """Normalise learned functions and rotate them, inside each level, as close to the exact ones as they get.

    Returns ``(f / |f|) @ Q`` and the block-orthogonal Q of :func:`alignment`. In a cut level Q turns towards
    the first exact functions of the level, which the learned ones need not reach.

    Arguments:
        f: learned functions, ``(B, L)``, in the order of their values.
        exact_f: exact functions at the same points, in whole levels, ``(B, K)``, K >= L.
        levels: the K indices grouped by level.
        weights: ``(B,)``, mean convention.
        rotations: use these in place of this side's own (for an SVD, those of both sides together).

    Raises:
        ArgumentError: shapes that do not fit, values that are not finite, negative weights, levels that are
            not a grouping of 0 .. K-1.

    Example:
        >>> e = torch.eye(2, dtype=torch.float64)
        >>> aligned, Q = align(-3 * e.flip(1), e, [[0, 1]], 2 * torch.ones(2))
        >>> torch.allclose(aligned, e), torch.allclose(Q, -e.flip(1))
        (True, True)
    """
    a, e, w = units(f, exact_f, weights)
    if rotations is None:
        rotations = alignment(inner(a, e, w), levels)
    return a @ rotations.learned, rotations.learned


def angle(
    f: Tensor,
    exact_f: Tensor,
    levels: Sequence[Sequence[int]],
    weights: Tensor | None = None,
    *,
    rotations: Alignment | None = None,
) -> Float64[Tensor, " L"]:
    r"""Return the sine of the angle between learned and exact functions, after alignment inside levels.

    .. math:: \sin_l = \left\| e - \langle e, a \rangle a \right\|

    with a and e the unit functions of column l of the two sides of :class:`Alignment`. This form keeps small
    angles (sqrt(1 - cos^2) loses all below 1e-8). An obtuse angle counts as a right one, 1, and so does a
    learned zero function. A side's own alignment leaves no obtuse angle. But where an SVD passes the
    ``rotations`` common to both sides, a left function whose sign does not go with its right one is obtuse on
    one side, and shows. Functions of one level that are not orthogonal to each other show too.

    Arguments and errors as for :func:`align`.

    Example:
        >>> e = torch.eye(3, dtype=torch.float64)
        >>> swapped = e[:, [0, 2, 1]]
        >>> angle(swapped, e, [[0], [1, 2]]).tolist(), angle(swapped, e, [[0, 1], [2]]).tolist()
        ([0.0, 0.0, 0.0], [0.0, 1.0, 1.0])
    """
    a, e, w = units(f, exact_f, weights)
    if rotations is None:
        rotations = alignment(inner(a, e, w), levels)
    a, e = normalised(a @ rotations.learned, w), normalised(e @ rotations.exact, w)
    cosine = (w[:, None] * a * e).sum(dim=0)
    return torch.where(cosine < 0, 1.0, norms(e - cosine * a, w))


def subspace_distance(
    f: Tensor, exact_f: Tensor, levels: Sequence[Sequence[int]], weights: Tensor | None = None
) -> Float64[Tensor, " levels"]:
    r"""Return, for each level with learned functions, how much of their span lies outside the exact level.

    .. math:: 1 - \operatorname{tr}(P_1 P_2) / p

    P_1 projects on the span of the p learned functions of the level, P_2 on the *whole* exact level, cut or
    not. It runs from 0 (inside) to 1 (orthogonal), and is the mean squared sine of the principal angles.
    Dependent learned functions span less than p dimensions, and each missing one counts as orthogonal.

    Arguments and errors as for :func:`align`.

    Source: the official evaluation of NestedLoRA (Ryu et al., ICML 2024).

    Example:
        >>> e = torch.eye(4, dtype=torch.float64)
        >>> subspace_distance(e[:, [0, 3]], e[:, :3], [[0], [1, 2]]).tolist()
        [0.0, 1.0]
    """
    a, e, w = units(f, exact_f, weights)
    root = w.sqrt()[:, None]
    distances = []
    for members, level in _split(levels, a.shape[1], e.shape[1]):
        span, inside = _span(root * a[:, members]), _span(root * e[:, level])
        # |(1 - P_2) span|^2 in place of p - |P_2 span|^2, which would cancel.
        outside = ((span - inside @ (inside.T @ span)) ** 2).sum()
        distances.append((outside + len(members) - span.shape[1]) / len(members))
    return torch.stack(distances)


def _split(levels: Sequence[Sequence[int]], count: int, total: int) -> list[tuple[list[int], list[int]]]:
    """Return (learned indices, all indices) of each level that has a learned function."""
    require(
        total >= count,
        "exact_f",
        got=f"{total} exact functions for {count} learned",
        expected="at least as many exact functions as learned ones, in whole levels",
        remedy="Ask for exact.functions(x, exact.completed(k)).",
    )
    require(
        sorted(index for level in levels for index in level) == list(range(total)),
        "levels",
        got=[list(level) for level in levels],
        expected=f"each index 0 .. {total - 1} of the exact functions in one level",
        remedy="Use exact.levels(K) with K the number of exact functions.",
    )
    pairs = [([index for index in sorted(level) if index < count], sorted(level)) for level in levels]
    return [pair for pair in pairs if pair[0]]


def _polar(block: Tensor) -> Tensor:
    """Return the polar factor ``U V^T`` of a wide block: the nearest one with orthonormal rows."""
    svd = torch.linalg.svd(block, full_matrices=False)
    factor: Tensor = svd.U @ svd.Vh
    return factor


def _span(columns: Tensor) -> Tensor:
    """Return an orthonormal basis of the span of columns, without directions at rounding level."""
    u, sizes, _ = torch.linalg.svd(columns, full_matrices=False)
    floor = max(columns.shape) * torch.finfo(columns.dtype).eps * sizes.max()
    basis: Tensor = u[:, sizes > floor]
    return basis
