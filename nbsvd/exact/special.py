"""Special functions by stable recursions of *normalised* functions, in torch to be differentiable.

SciPy has the same functions, but its arrays carry no gradient, and an exact function whose Laplacian can be
taken is a better test of an operator.
"""

import heapq
import math
from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

from nbsvd.exact.base import Real


def hermite(t: Float64[Tensor, " B"], start: Float64[Tensor, " B"], count: int) -> Float64[Tensor, "B count"]:
    r"""Return ``start * H_n(t) / sqrt(2^n n!)`` for n = 0 .. count-1, H_n being Hermite's.

    .. math:: p_{n+1} = \sqrt{2/(n+1)}\, t\, p_n - \sqrt{n/(n+1)}\, p_{n-1}

    The recursion is linear, so any factor that depends on the point alone goes into ``start``: pi^(-1/4)
    exp(-t^2/2) gives the Hermite functions, 1 with t = x / sqrt(2) the polynomials orthonormal under N(0, 1).
    Neither the factorial nor the bare polynomial is ever formed.
    """
    columns = [start]
    for n in range(count - 1):
        below = columns[n - 1] if n else torch.zeros_like(start)
        columns.append(math.sqrt(2 / (n + 1)) * t * columns[n] - math.sqrt(n / (n + 1)) * below)
    return torch.stack(columns, dim=-1)


def laguerre(rho: Float64[Tensor, " B"], degree: int, alpha: int) -> Float64[Tensor, " B"]:
    r"""Return ``sqrt(j! / Gamma(j + alpha + 1)) exp(-rho / 2) L_j^alpha(rho)`` for j = ``degree``.

    Times ``rho^(alpha/2)`` these are orthonormal on the half line. Recursion, with l_j the result:

    .. math:: \sqrt{(j+1)(j+1+\alpha)}\, l_{j+1} = (2j+1+\alpha-\rho)\, l_j - \sqrt{j(j+\alpha)}\, l_{j-1}
    """
    below, here = torch.zeros_like(rho), torch.exp(-rho / 2 - math.lgamma(alpha + 1) / 2)
    for j in range(degree):
        above = (2 * j + 1 + alpha - rho) * here - math.sqrt(j * (j + alpha)) * below
        below, here = here, above / math.sqrt((j + 1) * (j + 1 + alpha))
    return here


def circular(x: Float64[Tensor, "B 2"], degree: int) -> dict[int, Tensor]:
    """Return the real harmonics ``r^|m| e_m(theta)`` of the plane, |m| <= ``degree``, keyed by m.

    e_0 = 1 / sqrt(2 pi), e_m = cos(m theta) / sqrt(pi) for m > 0, sin(|m| theta) / sqrt(pi) for m < 0:
    orthonormal on the circle. They are the polynomials Re, Im of (x + i y)^m, smooth at the origin.
    """
    real, imaginary = powers(x[:, 0], x[:, 1], degree)
    harmonics = {0: real[0] / math.sqrt(2 * math.pi)}
    for m in range(1, degree + 1):
        harmonics[m], harmonics[-m] = real[m] / math.sqrt(math.pi), imaginary[m] / math.sqrt(math.pi)
    return harmonics


def spherical(x: Float64[Tensor, "B 3"], degree: int) -> dict[tuple[int, int], Tensor]:
    r"""Return the real solid harmonics ``r^l Y_lm``, l <= ``degree``, keyed by (l, m); each ``(B,)``.

    Orthonormal on the sphere; m > 0 goes with cos(m phi), m < 0 with sin(|m| phi); no Condon-Shortley sign,
    so Y_11 is a positive multiple of x. With q_lm the part without (x + i y)^m:

    .. math:: q_{lm} = \sqrt{\tfrac{4l^2-1}{l^2-m^2}}
        \left( z\, q_{l-1,m} - \sqrt{\tfrac{(l-1)^2-m^2}{4(l-1)^2-1}}\, r^2 q_{l-2,m} \right)
    """
    z, squared = x[:, 2], (x * x).sum(dim=-1)
    real, imaginary = powers(x[:, 0], x[:, 1], degree)
    harmonics: dict[tuple[int, int], Tensor] = {}
    top = torch.full_like(z, math.sqrt(1 / (4 * math.pi)))
    for m in range(degree + 1):
        if m:
            top = top * math.sqrt((2 * m + 1) / (2 * m))
        below, here = torch.zeros_like(z), top
        for order in range(m, degree + 1):
            if order > m:
                back = math.sqrt(((order - 1) ** 2 - m**2) / (4 * (order - 1) ** 2 - 1))
                above = math.sqrt((4 * order**2 - 1) / (order**2 - m**2)) * (
                    z * here - back * squared * below
                )
                below, here = here, above
            if m == 0:
                harmonics[order, 0] = here
            else:
                harmonics[order, m] = math.sqrt(2) * here * real[m]
                harmonics[order, -m] = math.sqrt(2) * here * imaginary[m]
    return harmonics


def powers(u: Tensor, v: Tensor, degree: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return the real and the imaginary parts of ``(u + i v)^m`` for m = 0 .. ``degree``."""
    real, imaginary = [torch.ones_like(u)], [torch.zeros_like(u)]
    for m in range(degree):
        real.append(real[m] * u - imaginary[m] * v)
        imaginary.append(real[m] * v + imaginary[m] * u)
    return real, imaginary


def lowest(
    cost: Callable[[tuple[int, ...]], Real], dim: int, k: int, tie: float = 0.0
) -> list[tuple[int, Real, tuple[int, ...]]]:
    """List the multi-indices of least cost in whole levels, until there are at least ``k``.

    Arguments:
        cost: positive, and non-decreasing in every entry of the multi-index (entries from 0).
        dim: length of a multi-index.
        k: how many are wanted.
        tie: two costs are one level when the larger is within this relative distance of the level's smallest.

    Returns:
        ``(level number, cost of the level, multi-index)``, levels ascending, lexicographic inside a level.

    Only the border of what was taken is kept, in a heap. Each index has one parent (its last non-zero entry
    lowered by one), so none comes twice and no set of those seen is needed.
    """
    found: list[tuple[int, Real, tuple[int, ...]]] = []
    zero = (0,) * dim
    border = [(cost(zero), zero)]
    number, least, level = 0, border[0][0], list[tuple[int, ...]]()
    while True:
        value, index = heapq.heappop(border)
        if value > least * (1 + tie):
            found += [(number, least, member) for member in sorted(level)]
            if len(found) >= k:
                return found
            number, least, level = number + 1, value, []
        level.append(index)
        last = max((i for i, entry in enumerate(index) if entry), default=0)
        for i in range(last, dim):
            child = (*index[:i], index[i] + 1, *index[i + 1 :])
            heapq.heappush(border, (cost(child), child))
