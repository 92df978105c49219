"""Pencils of Gram matrix and form: Ritz values, singular values, and the vectors that belong to them."""

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float
from torch import Tensor

from nbsvd._errors import require
from nbsvd.spectrum.moments import Moments

RANK_TOLERANCE = 1e-12
ASYMMETRY = 1e-12  # what is below this share of the largest is rounding


def _whitener(S: Tensor, tolerance: float, least: int) -> Tensor:
    """Return W with ``W^T S W = I`` on the independent part of the span, of dimension ``least`` if it can."""
    check_finite(S)
    d = torch.sqrt(S.diagonal())
    d = torch.where(d > 0, d, 1.0)
    e, U = torch.linalg.eigh(S / d[:, None] / d)
    tolerance = max(
        RANK_TOLERANCE, min(tolerance, 0.99 * float(e[-least] / e[-1]) if least <= len(e) else 0.0)
    )
    keep = e > tolerance * e[-1]
    whitener: Tensor = U[:, keep] / torch.sqrt(e[keep]) / d[:, None]
    return whitener


def pencil(moments: Moments, k: int, *, tolerance: float = RANK_TOLERANCE) -> tuple[Tensor, Tensor]:
    """Return the k largest Ritz values of ``A C = S C diag(mu)`` and the vectors C, orthonormal in S.

    Raises:
        ArgumentError: fewer than k linearly independent functions; moments that are not finite.
    """
    check_finite(moments.form)
    W = _whitener(moments.gram_f, tolerance, k)
    _enough(W, k)
    mu, V = leading(W.t() @ moments.form @ W, k)
    return mu, W @ V


def leading(A: Float[Tensor, "r r"], k: int) -> tuple[Float[Tensor, " k"], Float[Tensor, "r k"]]:
    """Return the k largest values, and orthonormal vectors, of the form of orthonormal functions.

    A form that is not symmetric is the strong one on sampled nodes: the coefficients of the projection of
    ``T f`` onto the functions. Its leading invariant subspace is free of the noise of the functions outside,
    which a symmetrised form would mix in; only inside the subspace is the form symmetrised.

    Source: Nightingale and Melik-Alaverdian, Phys. Rev. Lett. 87 (2001) 043401, on the same asymmetry in
    variational Monte Carlo.

    Example:
        >>> A = torch.tensor([[1.0, 0.0], [0.5, 3.0]], dtype=torch.float64)
        >>> leading(A, 1)[0]
        tensor([3.], dtype=torch.float64)
    """
    r = len(A)
    if k < r and float((A - A.t()).abs().max()) > ASYMMETRY * float(A.abs().max()):
        real = torch.linalg.eigvals(A).real.sort(descending=True).values
        gaps = real[k - 1 : -1] - real[k:]
        wide = gaps > ASYMMETRY * real.abs().max()
        m = k + int(wide.long().argmax())  # both of a complex pair, or neither
        middle = float((real[m - 1] + real[m]) / 2)
        shifted = A.cpu().numpy() - middle * np.eye(r)
        Z = scipy.linalg.schur(shifted, sort="rhp", check_finite=False)[1]
        Q = torch.from_numpy(np.ascontiguousarray(Z[:, :m])).to(A)
    else:
        Q = torch.eye(r, dtype=A.dtype, device=A.device)
    B = Q.t() @ A @ Q
    mu, V = torch.linalg.eigh((B + B.t()) / 2)
    return mu.flip(0)[:k], (Q @ V).flip(1)[:, :k]


def singular_pencil(
    moments: Moments, k: int, *, tolerance: float = RANK_TOLERANCE
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the k largest singular values of the whitened form, and the vectors (right, left).

    Raises:
        ArgumentError: fewer than k linearly independent functions on one side.
    """
    check_finite(moments.form)
    Wf, Wg = _whitener(moments.gram_f, tolerance, k), _whitener(moments.gram_g, tolerance, k)
    _enough(Wf, k)
    _enough(Wg, k)
    U, s, Vt = torch.linalg.svd(Wg.t() @ moments.form @ Wf)
    return s[:k], Wf @ Vt[:k].t(), Wg @ U[:, :k]


def centred(moments: Moments) -> Moments:
    """Return the moments of a conditional expectation without its constant mode, of one function less.

    The first function on each side is the constant, so that its row of the Gram matrix holds the means. They
    are subtracted from the others: what is left is orthogonal to the constant, which would otherwise stay as
    a function of value 0, before all negative ones. Of a function that does not vary nothing is left.
    """
    f, g = moments.gram_f[0, 1:], moments.gram_g[0, 1:]
    both = ((moments.gram_f, f), (moments.gram_g, g))
    gram_f, gram_g = (S[1:, 1:] - torch.outer(mean, mean) for S, mean in both)
    in_f, in_g = (
        (C.diagonal() > RANK_TOLERANCE * S.diagonal()[1:]).to(S)
        for C, (S, _) in zip((gram_f, gram_g), both, strict=True)
    )
    form = moments.form[1:, 1:] - torch.outer(g, f)
    return Moments(
        gram_f * torch.outer(in_f, in_f), gram_g * torch.outer(in_g, in_g), form * torch.outer(in_g, in_f)
    )


def with_constant(C: Tensor, means: Tensor) -> Tensor:
    """Return the coefficients of the constant and of combinations C of centred functions, ``(H, k)``.

    Example:
        >>> with_constant(torch.tensor([[2.0], [1.0]]), torch.tensor([0.5, 3.0]))
        tensor([[ 1., -4.],
                [ 0.,  2.],
                [ 0.,  1.]])
    """
    others = torch.cat([-(means @ C)[None], C])
    first = torch.zeros_like(others[:, :1])
    first[0] = 1
    return torch.cat([first, others], 1)


def check_finite(*matrices: Tensor) -> None:
    """Refuse inner products that are NaN or infinite, and say what usually causes them."""
    require(
        all(bool(torch.isfinite(M).all()) for M in matrices),
        "operator",
        got="NaN or infinite inner products",
        expected="functions and a potential or kernel that are finite and square integrable on the measure",
        remedy="Keep the domain where the potential is finite, as in Lebesgue(Uniform(low, high)), and let "
        "functions decay with an ansatz such as DecayFactor, GaussianFactor or BoxFactor.",
    )


def _enough(W: Tensor, k: int) -> None:
    require(
        W.shape[1] >= k,
        "k",
        got=f"{k} with {W.shape[1]} linearly independent functions",
        expected=f"at most {W.shape[1]}",
        remedy="Use a wider network, or train longer until the components differ.",
    )
