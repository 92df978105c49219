"""Inner products of functions given by their values at weighted points."""

import torch
from jaxtyping import Float64
from torch import Tensor

from nbsvd._errors import require


def gram(f: Tensor, weights: Tensor | None = None, g: Tensor | None = None) -> Float64[Tensor, "L M"]:
    r"""Return the Gram matrix of functions, or the cross-Gram matrix of two families.

    .. math:: \langle f_l, g_m \rangle = \frac1B \sum_b w_b\, f_l(x_b)\, g_m(x_b)

    Arguments:
        f: functions, ``(B, L)``.
        weights: ``(B,)``, mean convention.
        g: other functions at the same points, ``(B, M)``; ``None`` means f.

    Raises:
        ArgumentError: functions not (B, L), not real or not finite; weights of another length or negative.

    Example:
        >>> gram(torch.tensor([[1.0, 0.0], [1.0, 2.0]])).tolist()
        [[1.0, 1.0], [1.0, 2.0]]
    """
    f = as_table("f", f, 2)
    other = f if g is None else at_same_points("g", g, f)
    return inner(f, other, as_mean_weights("weights", weights, f))


def cosine_gram(f: Tensor, weights: Tensor | None = None, g: Tensor | None = None) -> Float64[Tensor, "L M"]:
    r"""Return the (cross-)Gram matrix of the normalised functions.

    .. math:: \langle f_l, g_m \rangle \,/\, (\|f_l\|\, \|g_m\|)

    A zero function has cosine 0 with all, itself too. Arguments and errors as for :func:`gram`.

    Example:
        >>> cosine_gram(torch.tensor([[3.0, 0.0], [3.0, 5.0]])).round(decimals=4).tolist()
        [[1.0, 0.7071], [0.7071, 1.0]]
    """
    a, b, w = units(f, f if g is None else g, weights, names=("f", "g", "weights"))
    return inner(a, b, w)


def orthogonality(f: Tensor, weights: Tensor | None = None) -> Float64[Tensor, ""]:
    """Return the largest off-diagonal entry of the cosine Gram matrix in magnitude (0 for a single function).

    Give the functions as learned, before any alignment or rotation. Arguments and errors as for :func:`gram`.

    Example:
        >>> print(f"{orthogonality(torch.tensor([[3.0, 0.0], [3.0, 5.0]])):.4f}")
        0.7071
    """
    cosines = cosine_gram(f, weights)
    return (cosines - torch.diag(cosines.diagonal())).abs().max()


def as_table(name: str, entries: Tensor, ndim: int) -> Tensor:
    """Return a vector or a matrix in float64, or say what is wrong with it."""
    expected = "a finite real tensor of shape " + ("(k,)" if ndim == 1 else "(B, L)")
    fine = entries.ndim == ndim and entries.numel() > 0
    require(fine, name, got=f"shape {tuple(entries.shape)}", expected=expected)
    require(not entries.is_complex(), name, got=f"dtype {entries.dtype}", expected=expected)
    require(bool(torch.isfinite(entries).all()), name, got="NaN or infinity", expected=expected)
    # Apple's MPS device has no float64.
    return (entries.cpu() if entries.device.type == "mps" else entries).to(torch.float64)


def at_same_points(name: str, g: Tensor, f: Tensor) -> Tensor:
    """Return functions in float64, or say what is wrong, also when they are not at as many points as f."""
    g = as_table(name, g, 2).to(f.device)
    require(
        len(g) == len(f),
        name,
        got=f"{len(g)} points",
        expected=f"{len(f)} points",
        remedy="Evaluate both families of functions at the same points.",
    )
    return g


def as_mean_weights(name: str, weights: Tensor | None, f: Tensor) -> Float64[Tensor, " B"]:
    """Return ``w_b / B``, checked, for functions at B points."""
    if weights is None:
        return f.new_full((len(f),), 1 / len(f))
    expected = f"shape ({len(f)},), one weight per point"
    require(weights.shape == (len(f),), name, got=f"shape {tuple(weights.shape)}", expected=expected)
    weights = as_table(name, weights, 1).to(f.device)
    least, total = float(weights.min()), float(weights.sum())
    got = f"a smallest weight of {least:.3g} and a sum of {total:.3g}"
    require(least >= 0 and total > 0, name, got=got, expected="weights above 0")
    return weights / len(f)


def units(
    f: Tensor,
    exact_f: Tensor,
    weights: Tensor | None,
    names: tuple[str, str, str] = ("f", "exact_f", "weights"),
) -> tuple[Tensor, Tensor, Tensor]:
    """Return learned and exact functions of norm 1 and ``w / B``, all checked."""
    f = as_table(names[0], f, 2)
    exact_f = at_same_points(names[1], exact_f, f)
    w = as_mean_weights(names[2], weights, f)
    return normalised(f, w), normalised(exact_f, w), w


def inner(f: Tensor, g: Tensor, w: Tensor) -> Tensor:
    """Return ``sum_b w_b f_l(x_b) g_m(x_b)``."""
    return f.T @ (w[:, None] * g)


def norms(f: Tensor, w: Tensor) -> Tensor:
    """Return the norm of each function, ``(L,)``."""
    return (w[:, None] * f**2).sum(dim=0).sqrt()


def normalised(f: Tensor, w: Tensor) -> Tensor:
    """Return the functions divided by their norms; a zero function stays zero."""
    # The largest value goes out first, so that squares neither overflow nor underflow.
    sizes = f.abs().amax(dim=0)
    f = f / torch.where(sizes > 0, sizes, 1.0)
    lengths = norms(f, w)
    return f / torch.where(lengths > 0, lengths, 1.0)
