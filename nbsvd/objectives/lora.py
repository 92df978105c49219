"""Low-rank approximation, the objective of NeuralSVD, for eigenfunctions and for singular functions.

Both functions here are pure: tensors in, one scalar out, to be minimised. Every objective of this room is
called as ``objective(f, Tf, nesting, *, weights=None, ...)``, with ``g`` before ``Tf`` where there are two
sides.
"""

from torch import Tensor

from nbsvd._errors import ArgumentError
from nbsvd.objectives.moments import (
    check_functions,
    check_size,
    check_weights,
    inner,
    inner_diagonal,
    product,
)
from nbsvd.objectives.nesting import Nesting, check_nesting, with_gradient

Weights = Tensor | tuple[Tensor | None, Tensor | None] | None


def lora_evd(
    f: Tensor,
    Tf: Tensor,
    nesting: Nesting,
    *,
    weights: Tensor | None = None,
    moment: str = "u",
    gram: Tensor | None = None,
) -> Tensor:
    r"""Nested low-rank approximation of a self-adjoint operator.

    .. math:: -2 \sum_l m_l \langle f_l|T f_l\rangle + \sum_{il} M_{il} \langle f_i|f_l\rangle^2
              \;\ge\; -\sum_l m_l \max(\lambda_l, 0)^2,

    with equality at :math:`f_l = \sqrt{\max(\lambda_l, 0)}\, \phi_l` (joint nesting; any orthogonal mixture
    of them without nesting). Components beyond the positive eigenvalues shrink to zero, but only like
    :math:`|f_l|^2 \sim 1/t` (inside the span already found the deflated operator is zero), and with joint
    nesting they hold back the others as long: shift the operator so that all L eigenvalues are positive.

    **Value**: an estimate of this loss, unbiased on iid points with ``"u"`` or ``"split"`` and exact on a
    quadrature rule with ``"plain"``. For sequential nesting, whose update field belongs to no loss, it is the
    un-nested loss.

    **Gradient** with respect to the function :math:`f_l`:
    :math:`-4 m_l T f_l + 4 \sum_i M_{il} \langle f_i|f_l\rangle f_i`. For self-adjoint T that is the exact
    gradient (joint, none) or the sequential field, and nothing is differentiated through ``Tf``. On a
    minibatch T is not symmetric, so there the gradient isn't the derivative of the value; its expectation is
    the gradient of the loss. Second derivatives of the result are not those of the loss.

    Arguments:
        f: (B, L) values of the components at B points.
        Tf: (B, L) values of the operator applied to each; detached inside.
        nesting: a :class:`Nesting` with L components.
        weights: (B,) importance or quadrature weights, mean convention; ``None`` means the plain mean.
        moment: how the squares are estimated, ``"u"``, ``"split"`` or ``"plain"``; see ``moments.choose``.
        gram: (L, L) values of :math:`\langle f|f\rangle` known from elsewhere (a fine quadrature, say). Then
            the second term is :math:`\sum M_{il}\, \mathrm{gram}_{il} \langle f_i|f_l\rangle`, and ``moment``
            plays no part: unbiased if ``gram`` is unbiased and independent of this batch.

    Raises:
        ArgumentError: shapes that differ (nothing is broadcast), a nesting of another length, weights not
            positive or of another length, an unknown moment, or fewer than two points for ``"u"`` and
            ``"split"``.

    Source: NeuralSVD, section 3, with f = g.

    Example:
        >>> import torch
        >>> q = torch.tensor([1.0, 1.0])  # T = diag(4, 1) on two points of weight 1
        >>> f = torch.tensor([[2.0], [0.0]])  # the square root of 4 times the first unit vector
        >>> Tf = torch.tensor([[8.0], [0.0]])
        >>> lora_evd(f, Tf, Nesting.joint(1), weights=2 * q, moment="plain")
        tensor(-16.)
    """
    check_functions("f", f)
    check_functions("Tf", Tf, f)
    check_nesting(nesting, f)
    check_size(f.shape[0] if gram is None else 2, moment)
    weights = check_weights("weights", weights, f)
    masks = nesting.masks(f)
    fixed = f.detach()

    if gram is None:
        squares = product(fixed, f, fixed, f, weights=(weights, weights), moment=moment)
    else:
        if gram.shape != (nesting.L, nesting.L):
            raise ArgumentError(
                "gram",
                got=f"shape {tuple(gram.shape)}",
                expected=f"shape ({nesting.L}, {nesting.L})",
                remedy="It is the matrix of inner products of the L components.",
            )
        once = gram.detach() * inner(fixed, f, weights)
        # A square has two factors to differentiate; with one of them given, the other counts twice.
        squares = with_gradient(once, 2 * once)
    linear = (masks.vector * inner_diagonal(f, Tf.detach(), weights)).sum()
    # With the left factor fixed, f_l is differentiated in column l only: half of what the whole sum gives.
    return with_gradient(
        -2 * linear + (masks.loss * squares).sum(),
        -4 * linear + 2 * (masks.matrix * squares).sum(),
    )


def lora_svd(
    f: Tensor,
    g: Tensor,
    Tf: Tensor,
    nesting: Nesting,
    *,
    weights: Weights = None,
    paired: bool = False,
    moment: str = "u",
) -> Tensor:
    r"""Nested low-rank approximation of an operator by :math:`\sum_l |g_l\rangle\langle f_l|`.

    .. math:: -2 \sum_l m_l \langle g_l|T f_l\rangle
              + \sum_{il} M_{il} \langle f_i|f_l\rangle \langle g_i|g_l\rangle
              \;\ge\; -\sum_l m_l \sigma_l^2,

    with equality (joint nesting) iff :math:`|g_l\rangle\langle f_l| = \sigma_l |\psi_l\rangle\langle\phi_l|`:
    a scale may move between f and g. T must be bounded; the loss of a differential operator has no lower
    bound.

    **Value**: an unbiased estimate of this loss under the conditions below; for sequential nesting of the
    un-nested loss. **Gradient**: that of the value (joint, none). Sequential: :math:`(f_l, g_l)` moves on the
    loss of the first l components with those below it fixed. ``Tf`` is differentiated through.

    *Independent batches* (``paired=False``): the x and the y points are independent of each other, so the
    product of the two Gram matrices is unbiased as it stands and ``moment`` plays no part. ``Tf`` at y may be
    an average over the same x points as f, :math:`(Tf)(y) = \frac1B\sum_b w_b k(y, x_b) f(x_b)`: the first
    term is then linear in the x batch and in the y batch, hence still unbiased. Quadrature on either side is
    exact in the same way.

    *Pairs* (``paired=True``): row b of f and of g come from one sample :math:`(x_b, y_b)`, or from one set of
    points used for both sides. The plain product is then biased by :math:`\mathrm{Cov}/B`, of either sign;
    ``"u"`` and ``"split"`` are unbiased on iid pairs. For a conditional expectation, ``Tf`` is f itself: the
    first term is the mean of :math:`g(y_b) f(x_b)`.

    Arguments:
        f: (B, L) right functions at x.
        g: (B', L) left functions at y.
        Tf: (B', L) operator applied to f, at y.
        nesting: a :class:`Nesting` with L components.
        weights: ``None``; one tensor (B,) for both sides, if B = B'; or a tuple ``(wx, wy)``, each (B,),
            (B',) or ``None``. Mean convention.
        paired: whether the rows of f and g come from common samples (needs B = B').
        moment: ``"u"``, ``"split"`` or ``"plain"``, for pairs.

    Raises:
        ArgumentError: as :func:`lora_evd`; and pairs of unequal number.

    Source: NeuralSVD, section 3 (which writes :math:`|f\rangle\langle g|`).

    Example:
        >>> import torch
        >>> q = torch.tensor([1.0, 1.0])  # T = diag(3, 1) on two points of weight 1
        >>> f, g = torch.tensor([[1.0], [0.0]]), torch.tensor([[3.0], [0.0]])
        >>> lora_svd(f, g, 3 * f, Nesting.joint(1), weights=2 * q)
        tensor(-9.)
    """
    check_functions("f", f)
    check_functions("g", g)
    check_functions("Tf", Tf, g, "g")
    check_nesting(nesting, f)
    check_nesting(nesting, g, "g")
    check_size(f.shape[0] if paired else 2, moment)
    if paired and f.shape[0] != g.shape[0]:
        raise ArgumentError(
            "paired",
            got=f"True with f of shape {tuple(f.shape)} and g of shape {tuple(g.shape)}",
            expected="as many x as y points",
            remedy="Use paired=False for independent batches.",
        )
    wx, wy = _two_sides(weights, f, g)
    masks = nesting.masks(f)

    routed = nesting.kind == "sequential"
    f_left, g_left = (f.detach(), g.detach()) if routed else (f, g)
    # Independent batches need no correction: the plain product of two independent means is unbiased.
    products = product(f_left, f, g_left, g, weights=(wx, wy), moment=moment if paired else "plain")
    value = -2 * (masks.vector * inner_diagonal(g, Tf, wy)).sum()
    if routed:
        quadratic = (masks.loss * products).sum(), 2 * (masks.matrix * products).sum()
        return with_gradient(value + quadratic[0], value + quadratic[1])
    return value + (masks.loss * products).sum()


def _two_sides(weights: Weights, f: Tensor, g: Tensor) -> tuple[Tensor | None, Tensor | None]:
    if isinstance(weights, tuple | list):
        if len(weights) != 2:
            raise ArgumentError(
                "weights",
                got=f"a tuple of {len(weights)}",
                expected="(wx, wy)",
                remedy="Use None for a side without weights.",
            )
        return check_weights("weights[0]", weights[0], f), check_weights("weights[1]", weights[1], g)
    if weights is not None and f.shape[0] != g.shape[0]:
        raise ArgumentError(
            "weights",
            got=f"one tensor with f of shape {tuple(f.shape)} and g of shape {tuple(g.shape)}",
            expected="a tuple (wx, wy)",
            remedy="Batches of different size have weights of their own.",
        )
    both = check_weights("weights", weights, f)
    return both, both
