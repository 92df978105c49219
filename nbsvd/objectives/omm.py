"""The orbital minimisation method, nested: a rival of LoRA whose minimisers are orthonormal."""

import math

import torch
from torch import Tensor

from nbsvd._errors import ArgumentError, require
from nbsvd.objectives.moments import (
    check_functions,
    check_size,
    check_weights,
    inner,
    inner_diagonal,
    product,
)
from nbsvd.objectives.nesting import Nesting, check_nesting, with_gradient
from nbsvd.objectives.running import Real


def omm(
    f: Tensor,
    Tf: Tensor,
    nesting: Nesting,
    *,
    weights: Tensor | None = None,
    p: int = 1,
    moment: str = "plain",
    invert: Real | None = None,
) -> Tensor:
    r"""Orbital minimisation of a self-adjoint operator :math:`T \ge 0`.

    .. math:: \mathrm{tr}\,(I - A)^{2p} T - \mathrm{tr}\,T
              = \sum_{k=1}^{2p} \binom{2p}{k} (-1)^k\, \mathrm{tr}\, S^{k-1} P
              \;\ge\; -\sum_{l \le L} \lambda_l, \qquad A = \sum_l |f_l\rangle\langle f_l|,

    with :math:`S = \langle f|f\rangle`, :math:`P = \langle f|Tf\rangle`; for p = 1 it is
    :math:`-2\,\mathrm{tr} P + \mathrm{tr}\, S P`. The minimisers span the top eigenspace and are
    *orthonormal*. Nesting: joint sums :math:`w_l` times the objective of :math:`f_{1:l}` (optimum
    :math:`-\sum_l m_l \lambda_l`); sequential moves :math:`f_l` on the objective of :math:`f_{1:l}` with
    those below fixed, and reports the un-nested value.

    **T must be nonnegative.** In a direction of negative value the objective is unbounded below, and no batch
    can tell that from noise, so it is not checked here. A shift can't help an operator that is unbounded
    below, such as the hydrogen atom's :math:`\Delta + 1/r`; a function of T that is bounded can.

    **The inverse, without solving for it.** With ``invert=c``, c above all values of T, the operator is
    :math:`K = (c - T)^{-1}` in the inner product :math:`\langle u, v\rangle_c = \langle u|(c - T) v\rangle`.
    There :math:`\langle u, K v\rangle_c = \langle u|v\rangle`: the two matrices are

    .. math:: S = c\,\langle f|f\rangle - \langle f|Tf\rangle, \qquad P = \langle f|f\rangle,

    both made of f and Tf. K is bounded and positive, with the eigenfunctions of T in the same order and the
    values :math:`1/(c - \lambda_l)`; at the optimum :math:`|f_l|^2 = 1/(c - \lambda_l)`. Cost and bias are
    those of the objective itself.

    **Bias.** ``tr S P`` is a product of two means. With ``"plain"`` (the default) it is exact on a quadrature
    rule and biased by :math:`\sum M_{il}\mathrm{Cov}(f_i f_l, f_l T f_i)/B`, of either sign, on iid points.
    For p = 1, ``"u"`` and ``"split"`` make value and expected gradient unbiased on iid points. For p > 1
    there is only ``"plain"``: on minibatches biased at order 1/B.

    **Gradient**: by self-adjointness :math:`d\langle f|Tf\rangle = 2\langle df|Tf\rangle`, with ``Tf``
    detached; exact where the discretisation is symmetric.

    Arguments:
        f: (B, L) values of the components at B points.
        Tf: (B, L) values of the operator applied to each; detached inside.
        nesting: a :class:`Nesting` with L components.
        weights: (B,) importance or quadrature weights, mean convention; ``None`` means the plain mean.
        p: half the power, at least 1. For p > 1 the minimum is flat, of order 2p, in the norms: gradient
            descent slows to a power law. Cost O(B L^2), and O(p L^4) on top for p > 1 with nesting.
        moment: ``"plain"``; or ``"u"``, ``"split"`` for p = 1.
        invert: c, for the objective of :math:`(c - T)^{-1}`; ``None`` for that of T.

    Raises:
        ArgumentError: as :func:`lora_evd`; ``p < 1``; ``"u"`` or ``"split"`` with p > 1; a c that is not a
            finite number.

    Source: Ryu et al. 2025 (NestedOMM); the inverse is ours.

    Example:
        >>> f = torch.tensor([[1.0], [0.0]])  # T = diag(4, 1) on two points of weight 1
        >>> Tf = torch.tensor([[4.0], [0.0]])
        >>> omm(f, Tf, Nesting.joint(1), weights=torch.tensor([2.0, 2.0]))
        tensor(-4.)
        >>> omm(
        ...     f, Tf, Nesting.joint(1), weights=torch.tensor([2.0, 2.0]), invert=5.0
        ... )  # of 1/(5 - T)
        tensor(-1.)
    """
    check_functions("f", f)
    check_functions("Tf", Tf, f)
    check_nesting(nesting, f)
    check_size(f.shape[0], moment)
    require(
        isinstance(p, int) and not isinstance(p, bool) and p >= 1,
        "p",
        got=p,
        expected="an integer, at least 1",
        remedy="p = 1 is the classical method.",
    )
    if p > 1 and moment != "plain":
        raise ArgumentError(
            "moment",
            got=f"{moment!r} with p = {p}",
            expected="'plain' for p > 1",
            remedy="Products of more than two means have no unbiased form here; use p = 1 or a large batch.",
        )
    require(
        invert is None
        or (isinstance(invert, Real) and not isinstance(invert, bool) and math.isfinite(invert)),
        "invert",
        got=repr(invert),
        expected="a number above all values of T, or None",
        remedy="The objective is then that of (invert - T) to the power -1; invert=True is for nbsvd.solve.",
    )
    weights = check_weights("weights", weights, f)
    fixed, Tf = f.detach(), Tf.detach()
    # What f is multiplied with to give the Gram matrix, and the form.
    to_gram, to_form = (fixed, Tf) if invert is None else (invert * fixed - Tf, fixed)
    if p > 1:
        return _powers(inner(to_gram, f, weights), inner(to_form, f, weights), nesting, p)

    masks = nesting.masks(f)
    products = product(to_gram, f, to_form, f, weights=(weights, weights), moment=moment)
    linear = (masks.vector * inner_diagonal(f, to_form, weights)).sum()
    # As in lora_evd: only the right factors, column l, are differentiated, which is half of the whole.
    return with_gradient(
        -2 * linear + (masks.loss * products).sum(),
        -4 * linear + 2 * (masks.matrix * products).sum(),
    )


def _powers(S: Tensor, P: Tensor, nesting: Nesting, p: int) -> Tensor:
    """The objective for any p, from S = <f|f> and P = <Tf|f> (L, L), differentiable in the right factor only.

    A level is the objective of the first l components, as a masked (L, L) problem; all go in one batch.
    """
    sequential = nesting.kind == "sequential"
    ones = torch.ones_like(S)
    vector = nesting.masks(S).vector
    # (levels, L): which components a level has, and for which of them it gives the gradient.
    has = ones[:1] if nesting.kind == "none" else ones.tril()
    moves = torch.eye(nesting.L, dtype=S.dtype, device=S.device) if sequential else has
    block = has[:, :, None] * has[:, None, :]

    gram, power = _levels(S, block, moves), _levels(P, block, moves)
    total = power.new_zeros(power.shape[0])
    binomial = 1  # (-1)^k (2p choose k); math.comb can't be compiled
    for k in range(1, 2 * p + 1):
        binomial = -binomial * (2 * p - k + 1) // k
        total = total + binomial * power.diagonal(dim1=-2, dim2=-1).sum(-1)
        power = gram @ power
    if sequential:
        return with_gradient(total[-1], total.sum())
    if nesting.kind == "none":
        return total[0]
    level_weights = vector - torch.cat([vector[1:], vector.new_zeros(1)])
    return (level_weights * total).sum()


def _levels(right: Tensor, block: Tensor, moves: Tensor) -> Tensor:
    """One matrix (L, L) for each level, from one that is differentiable in its right factor."""
    value = right.detach()
    # d<f_i|f_l> = <f_i|df_l> + <f_l|df_i>: the change of the right factor and its transpose.
    change = (right - value) * moves[:, None, :]
    return block * (value + change + change.mT)
