"""How much of a conditional expectation two families of functions hold."""

import torch
from jaxtyping import Float64
from torch import Tensor

from nbsvd._errors import require
from nbsvd.metrics.gram import as_mean_weights, as_table, inner

TOLERANCE = 1e-12


def vamp2(f: Tensor, g: Tensor, weights: Tensor | None = None) -> Float64[Tensor, ""]:
    r"""Return the VAMP-2 score of functions f of x and g of y, from their values at pairs (x_b, y_b).

    .. math:: \big\| \langle g|g\rangle^{-1/2}\, E[g(Y) f(X)^T]\, \langle f|f\rangle^{-1/2} \big\|_F^2
              \;\le\; \sum_{l \le L} \sigma_l^2

    The bound holds for the means over the law; it is reached by the singular functions. Where the constant
    lies in both spans it adds 1. On the pairs that functions were fitted to, the score flatters them: give
    others.

    Arguments:
        f: ``(B, L)``.
        g: ``(B, M)``, row by row at the partners.
        weights: of the pairs, ``(B,)``, mean convention.

    Raises:
        ArgumentError: functions that are not tables of as many rows, or not finite.

    Source: Wu and Noé, J. Nonlinear Science 30 (2020), section 3.

    Example:
        >>> x = torch.tensor([[1.0], [-1.0]])
        >>> round(float(vamp2(x, 2 * x)), 6)
        1.0
    """
    f, g = as_table("f", f, 2), as_table("g", g, 2)
    require(
        len(f) == len(g),
        "g",
        got=f"{len(g)} rows with {len(f)} of f",
        expected="as many: each row is one pair",
    )
    w = as_mean_weights("weights", weights, f)
    A = _whitener(inner(g, g, w)).t() @ inner(g, f, w) @ _whitener(inner(f, f, w))
    return (A**2).sum()


def _whitener(S: Tensor) -> Tensor:
    """Return W with ``W^T S W = I`` on the independent part of the span."""
    size = S.diagonal().sqrt()
    size = torch.where(size > 0, size, 1.0)
    e, U = torch.linalg.eigh(S / size[:, None] / size)
    keep = e > TOLERANCE * e[-1]
    W: Tensor = U[:, keep] / e[keep].sqrt() / size[:, None]
    return W
