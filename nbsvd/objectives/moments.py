r"""Inner products, and products of two inner products, estimated from one batch.

Weights are in the mean convention: :math:`\langle a|b\rangle \approx \frac1B \sum_b w_b\, a(x_b) b(x_b)`. For
samples of a law p, :math:`w = 1/p` (with respect to the reference measure); for a quadrature rule with
weights q, :math:`w = B q`. One inner product estimated this way is unbiased. The product of two from the same
batch is not, unless care is taken; :func:`product` offers the three ways to take it.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from nbsvd._errors import ArgumentError, nearest, require

MOMENTS = ("u", "split", "plain")
_DEFAULT = {"iid": "u", "sobol": "plain", "quadrature": "plain"}


def choose(kind: str, moment: str | None = None, *, size: int | None = None) -> str:
    r"""The moment estimator that is right for a kind of nodes; refuses one that is wrong for it.

    * iid points: ``"u"`` (default) and ``"split"`` are unbiased. ``"plain"`` is allowed: it is biased upward
      by :math:`\mathrm{Var}/B`, which a large batch makes small.
    * scrambled Sobol points: only ``"plain"``. Their mean has far less than the iid variance, so ``"u"``
      takes away what isn't there (biased down by about :math:`\mathrm{Var}/(B-1)`), and the halves of one
      scramble depend on each other. Two halves *scrambled independently* may go to a loss as
      ``moment="split"``; nodes that call themselves Sobol don't promise that.
    * quadrature and other fixed nodes: only ``"plain"``. With ``"u"`` the loss can even be unbounded below.

    Arguments:
        kind: ``"iid"``, ``"sobol"`` or ``"quadrature"``, as ``Nodes.kind``.
        moment: ``"u"``, ``"split"``, ``"plain"``, or ``None`` for the default of this kind.
        size: number of points in a batch, if it is to be checked too.

    Raises:
        ArgumentError: unknown kind or moment, one that is wrong for these nodes, or fewer than two points for
        it.

    Example:
        >>> choose("iid"), choose("quadrature")
        ('u', 'plain')
    """
    nearest("kind", kind, _DEFAULT)
    if moment is None:
        moment = _DEFAULT[kind]
    nearest("moment", moment, MOMENTS)
    if kind != "iid" and moment != "plain":
        raise ArgumentError(
            "moment",
            got=f"{moment!r} on {kind} nodes",
            expected="'plain' (the others assume independent, identically distributed points)",
            remedy="Use moment='plain' or None here, or sample iid points.",
        )
    if size is not None:
        check_size(size, moment)
    return moment


def inner(
    a: Float[Tensor, "B K"], b: Float[Tensor, "B L"], weights: Float[Tensor, " B"] | None = None
) -> Float[Tensor, "K L"]:
    r"""The matrix :math:`\langle a_i|b_l\rangle \approx \frac1B\sum_b w_b a_i(x_b) b_l(x_b)`; unbiased.

    Arguments:
        a: (B, K) and ``b`` (B, L), values at the same B points.
        weights: (B,), mean convention; ``None`` means 1.

    Example:
        >>> inner(torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [4.0]]))
        tensor([[7.]])
    """
    return (a if weights is None else weights[:, None] * a).mT @ b / a.shape[0]


def inner_diagonal(
    a: Float[Tensor, "B L"], b: Float[Tensor, "B L"], weights: Float[Tensor, " B"] | None = None
) -> Float[Tensor, " L"]:
    r"""The vector :math:`\langle a_l|b_l\rangle`, component by component; unbiased. Shapes: ``inner``."""
    terms = a * b
    return (terms if weights is None else weights[:, None] * terms).mean(0)


def product(
    a: Float[Tensor, "B L"],
    b: Float[Tensor, "B L"],
    c: Float[Tensor, "C L"],
    d: Float[Tensor, "C L"],
    *,
    weights: tuple[Tensor | None, Tensor | None] = (None, None),
    moment: str = "u",
) -> Float[Tensor, "L L"]:
    r"""The matrix of :math:`\langle a_i|b_l\rangle\,\langle c_i|d_l\rangle`, from one batch, in O(B L^2).

    With :math:`s_b = w_b a_i(x_b) b_l(x_b)` and :math:`r_b = v_b c_i(x_b) d_l(x_b)`, so that the two inner
    products are the means :math:`\bar s` and :math:`\bar r`:

    * ``"u"``: all pairs of different points, :math:`\frac{(\sum s)(\sum r) - \sum_b s_b r_b}{B(B-1)}`.
      Unbiased for iid points, and of less variance than ``"split"``. The removed diagonal carries both
      weights (:math:`w_b^2` when they are equal).
    * ``"split"``: the mean over the first half times the mean over the second, taken both ways round and
      averaged (for odd B the second half has one more). Unbiased for iid points, and whenever the two halves
      are independent.
    * ``"plain"``: :math:`\bar s\, \bar r`. Exact on a quadrature rule, right on Sobol points; unbiased if the
      two factors come from independent batches (then B and C may differ); on one iid batch biased by
      :math:`\mathrm{Cov}(s, r)/B`, which is :math:`\mathrm{Var}(s)/B > 0` for a square.

    Arguments:
        a: (B, L) and ``b`` (B, L), values at the points of the first factor.
        c: (C, L) and ``d`` (C, L), values at the points of the second; C = B and point by point the same
            sample for ``"u"`` and ``"split"``.
        weights: one (B,) tensor or ``None`` for each factor.
        moment: ``"u"``, ``"split"`` or ``"plain"``.

    Example:
        >>> f = torch.tensor([[1.0], [2.0]])
        >>> product(f, f, f, f, moment="u"), product(f, f, f, f, moment="plain")
        (tensor([[4.]]), tensor([[6.2500]]))
    """
    w, v = weights
    square = a is c and b is d and w is v
    size = a.shape[0]
    if moment == "split":
        half = size // 2
        s1, s2 = (inner(a[h], b[h], None if w is None else w[h]) for h in (slice(half), slice(half, None)))
        if square:
            return s1 * s2
        r1, r2 = (inner(c[h], d[h], None if v is None else v[h]) for h in (slice(half), slice(half, None)))
        return 0.5 * (s1 * r2 + s2 * r1)
    s = inner(a, b, w)
    r = s if square else inner(c, d, v)
    if moment == "plain":
        return s * r
    left = a * c
    for weight in (w, v):
        left = left if weight is None else weight[:, None] * left
    return (size * s * r - inner(left, b * d)) / (size - 1)


def check_size(size: int, moment: str) -> None:
    """Raise ArgumentError unless ``moment`` is known and ``size`` points are enough for it."""
    nearest("moment", moment, MOMENTS)
    if moment != "plain" and size < 2:
        raise ArgumentError(
            "moment",
            got=f"{moment!r} with a batch of {size}",
            expected="two or more points, or 'plain'",
            remedy="A product of two means needs two different points to be unbiased: use a larger batch.",
        )


def check_functions(argument: str, f: Tensor, like: Tensor | None = None, like_name: str = "f") -> None:
    """Raise ArgumentError unless ``f`` is real and (B, L), and of the shape of ``like`` if that is given.

    Nothing is broadcast: (B,) against (B, 1) would otherwise pass for a (B, B) matrix. Messages
    with a shape are put together only when needed: a compiled function can't format a size it left open.
    """
    require(
        isinstance(f, Tensor),
        argument,
        got=type(f).__name__,
        expected="a torch.Tensor",
        remedy="torch.as_tensor(...)",
    )
    if not f.is_floating_point():
        raise ArgumentError(
            argument,
            got=f"dtype {f.dtype}",
            expected="a real floating dtype",
            remedy="Complex functions are not supported; treat real and imaginary part as two functions.",
        )
    if f.ndim != 2 or f.shape[0] < 1 or f.shape[1] < 1:
        raise ArgumentError(
            argument,
            got=f"shape {tuple(f.shape)}",
            expected="shape (B, L): B points, L components, neither zero",
            remedy=f"One component is {argument}[:, None]." if f.ndim == 1 else "",
        )
    if like is not None and f.shape != like.shape:
        raise ArgumentError(
            argument,
            got=f"shape {tuple(f.shape)}",
            expected=f"shape {tuple(like.shape)}, that of {like_name}",
            remedy="Both are values of the same components at the same points; nothing is broadcast.",
        )


def check_weights(argument: str, weights: Tensor | None, f: Tensor) -> Tensor | None:
    """The weights (B,) in the dtype of ``f`` (B, L); ArgumentError for a wrong length, a sign, or a NaN.

    The sign is looked at on the CPU only, and not inside a compiled function or under ``vmap``: on a GPU to
    look means to wait for it in every step. ``Nodes`` has checked its weights by then.
    """
    if weights is None:
        return None
    require(
        isinstance(weights, Tensor),
        argument,
        got=type(weights).__name__,
        expected="a torch.Tensor or None",
        remedy="torch.as_tensor(...)",
    )
    size = f.shape[0]
    if weights.shape != (size,):
        raise ArgumentError(
            argument,
            got=f"shape {tuple(weights.shape)}",
            expected=f"shape ({size},), one for each point",
            remedy="None means the plain mean.",
        )
    if weights.is_complex():
        raise ArgumentError(
            argument,
            got=f"dtype {weights.dtype}",
            expected="real numbers",
            remedy="Weights are densities or quadrature weights.",
        )
    if weights.device.type == "cpu" and not torch.compiler.is_compiling() and _looks_bad(weights):
        raise ArgumentError(
            argument,
            got=f"values from {weights.min().item():.3g} to {weights.max().item():.3g}",
            expected="positive finite numbers",
            remedy="Leave out points of weight zero; a NaN often means a density of zero.",
        )
    return weights.to(f.dtype)


def _looks_bad(weights: Tensor) -> bool:
    try:
        return not bool(((weights > 0) & (weights < torch.inf)).all())
    except RuntimeError:  # under vmap, or a fake tensor: there is no value to look at
        return False
