"""Quadrature rules for the Lebesgue measure, as dataclasses that are called with a number of nodes.

A rule called with a generator is turned and stretched at random, so that a network trained on it can't
learn where its nodes lie; every copy keeps the rule's accuracy. Called without one it is deterministic.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise

import numpy as np
import torch
from scipy.special import roots_legendre
from torch import Tensor

from nbsvd._errors import require
from nbsvd.measures.base import Real

Rule = Callable[[int, torch.Generator | None], tuple[Tensor, Tensor]]
HERMITE_LIMIT = 100  # nodes on one axis: beyond it the weights underflow
STRETCH = 0.2  # a random copy has its length scale multiplied by exp(U(-STRETCH, STRETCH))


@cache
def gauss_legendre(n: int) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of the n-point Gauss-Legendre rule on (0, 1), float64."""
    # NumPy is more accurate in the last digits; SciPy is much faster for thousands of nodes
    t, q = np.polynomial.legendre.leggauss(n) if n <= 256 else roots_legendre(n)
    return torch.from_numpy((t + 1) / 2), torch.from_numpy(q / 2)


@cache
def gauss_hermite(n: int) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of the n-point Gauss rule for the standard normal law, float64."""
    t, q = np.polynomial.hermite_e.hermegauss(n)
    return torch.from_numpy(t), torch.from_numpy(q / q.sum())


def radial_nodes(n: int, scale: Real, dim: int) -> tuple[Tensor, Tensor]:
    """Return radii and weights for ``int_0^inf h(r) r^(dim-1) dr`` through ``r = scale t / (1 - t)``."""
    t, q = gauss_legendre(n)
    r = scale * t / (1 - t)
    return r, q * scale / (1 - t) ** 2 * r ** (dim - 1)


def random_number(generator: torch.Generator | None, low: float, high: float, otherwise: float) -> float:
    """Draw one uniform number, or return ``otherwise`` where there is no generator."""
    if generator is None:
        return otherwise
    draw = torch.rand(1, generator=generator, dtype=torch.float64, device=generator.device)
    return low + (high - low) * float(draw)


def stretched(scale: Real, generator: torch.Generator | None) -> float:
    """Multiply ``scale`` by a random factor near one."""
    return scale * math.exp(random_number(generator, -STRETCH, STRETCH, 0.0))


def product_rule(axes: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return the tensor product of one-dimensional rules, points ``(B, d)`` and weights ``(B,)``."""
    x = torch.stack(torch.meshgrid(*(a[0] for a in axes), indexing="ij"), -1).reshape(-1, len(axes))
    q = torch.stack(torch.meshgrid(*(a[1] for a in axes), indexing="ij"), -1).prod(-1).reshape(-1)
    return x, q


@dataclass(frozen=True)
class LineRule:
    """Gauss-Legendre on the whole line through ``x = center + scale t / (1 - t^2)``.

    Example:
        >>> x, w = LineRule(scale=2.0)(60, None)
        >>> round(float((w * torch.exp(-(x[:, 0] ** 2))).mean() ** 2), 6)
        3.141593
    """

    scale: Real
    center: Real = 0.0

    def __call__(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return ``n`` points ``(n, 1)`` and mean-convention weights."""
        s, q = gauss_legendre(n)
        t = 2 * s - 1
        scale = stretched(self.scale, generator)
        shift = random_number(generator, -STRETCH, STRETCH, 0.0) * self.scale
        x = self.center + shift + scale * t / (1 - t**2)
        return x[:, None], n * 2 * q * scale * (1 + t**2) / (1 - t**2) ** 2


@dataclass(frozen=True)
class PolarRule:
    """Plane rule: Gauss-Legendre in the radius times equally spaced angles, turned at random.

    Accurate for functions that are smooth in polar coordinates around ``center``; they may have a cusp or 1/r
    there.

    Arguments:
        scale: half of the radii lie below it.
        center: the origin of the polar coordinates.
        aspect: number of radii over number of angles.

    Example:
        >>> x, w = PolarRule(scale=2.0)(640, None)
        >>> round(float((w * torch.exp(-x.norm(dim=1)) / x.norm(dim=1)).mean()), 6)  # 2 pi
        6.283185
    """

    scale: Real
    center: tuple[Real, Real] = (0.0, 0.0)
    aspect: Real = 2.5

    def __call__(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return about ``n`` points ``(B, 2)`` and mean-convention weights."""
        angles = max(1, round(math.sqrt(n / self.aspect)))
        radii = max(1, round(n / angles))
        r, q = radial_nodes(radii, stretched(self.scale, generator), 2)
        # a separate turn for each ring: the error of one ring then has a random sign
        turn = random_turns(radii, generator)
        phi = 2 * math.pi * (torch.arange(angles, dtype=torch.float64)[None, :] + turn[:, None]) / angles
        x = torch.stack([r[:, None] * torch.cos(phi), r[:, None] * torch.sin(phi)], -1).reshape(-1, 2)
        weights = (q * 2 * math.pi / angles)[:, None].expand(radii, angles).reshape(-1)
        return x + torch.tensor(self.center, dtype=torch.float64), weights * len(x)


def random_turns(n: int, generator: torch.Generator | None) -> Tensor:
    """Draw ``n`` fractions of a turn, or return one half for all of them where there is no generator."""
    if generator is None:
        return torch.full((n,), 0.5, dtype=torch.float64)
    return torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device).cpu()


@dataclass(frozen=True)
class SphericalRule:
    """Rule in three dimensions: radius, polar angle and azimuth, the sphere turned at random.

    Example:
        >>> x, w = SphericalRule(scale=2.0)(4000, None)
        >>> round(float((w * torch.exp(-x.norm(dim=1))).mean() / (8 * math.pi)), 6)
        1.0
    """

    scale: Real
    center: tuple[Real, Real, Real] = (0.0, 0.0, 0.0)

    def __call__(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return about ``n`` points ``(B, 3)`` and mean-convention weights."""
        polar = max(1, round((n / 6) ** (1 / 3)))
        azimuth = 2 * polar
        radii = max(1, round(n / (polar * azimuth)))
        r, q = radial_nodes(radii, stretched(self.scale, generator), 3)
        t, p = gauss_legendre(polar)
        cosine = 2 * t - 1
        sine = torch.sqrt(1 - cosine**2)
        phi = 2 * math.pi * (torch.arange(azimuth, dtype=torch.float64) + 0.5) / azimuth
        sphere = torch.stack(
            [
                (sine[:, None] * torch.cos(phi)).reshape(-1),
                (sine[:, None] * torch.sin(phi)).reshape(-1),
                cosine[:, None].expand(polar, azimuth).reshape(-1),
            ],
            -1,
        ) @ random_rotation(3, generator)
        surface = (p * 4 * math.pi / azimuth)[:, None].expand(polar, azimuth).reshape(-1)
        x = (r[:, None, None] * sphere).reshape(-1, 3)
        weights = (q[:, None] * surface).reshape(-1)
        return x + torch.tensor(self.center, dtype=torch.float64), weights * len(x)


def random_rotation(dim: int, generator: torch.Generator | None) -> Tensor:
    """Draw an orthogonal matrix from the Haar measure, or the identity without a generator."""
    if generator is None:
        return torch.eye(dim, dtype=torch.float64)
    g = torch.randn(dim, dim, generator=generator, dtype=torch.float64, device=generator.device).cpu()
    q, r = torch.linalg.qr(g)
    rotation: Tensor = q * torch.sign(torch.diagonal(r))
    return rotation


@dataclass(frozen=True)
class BoxRule:
    """Tensor-product Gauss-Legendre on a box; a random copy is cut at a random place on each axis.

    Example:
        >>> x, w = BoxRule(low=(0.0, 0.0), high=(1.0, 2.0))(100, None)
        >>> round(float((w * x[:, 0] * x[:, 1]).mean()), 6)
        1.0
    """

    low: tuple[Real, ...]
    high: tuple[Real, ...]

    def __call__(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return about ``n`` points ``(B, d)`` and mean-convention weights."""
        each = max(1, round(n ** (1 / len(self.low))))
        axes = []
        for low, high in zip(self.low, self.high, strict=True):
            if generator is None or each < 4:
                t, q = gauss_legendre(each)
                axes.append((low + (high - low) * t, (high - low) * q))
            else:  # two Gauss rules that meet at a random point of the middle half
                cut = random_number(generator, 0.25, 0.75, 0.5)
                first = max(2, round(each * round(32 * cut) / 32))  # few sizes, for each is computed but once
                (a, p), (b, q) = gauss_legendre(first), gauss_legendre(max(2, each - first))
                t = torch.cat([cut * a, cut + (1 - cut) * b])
                axes.append((low + (high - low) * t, (high - low) * torch.cat([cut * p, (1 - cut) * q])))
        x, weights = product_rule(axes)
        return x, weights * len(x)


@dataclass(frozen=True)
class SquareRule:
    """Rule on the square ``[-half, half]^2`` for functions with a cusp or a 1/r at its centre.

    Four triangles with their apex at the centre, each in the coordinates (fraction of the ray, angle), so
    that the Jacobian cancels the 1/r.

    Example:
        >>> x, w = SquareRule(half=1.0)(900, None)
        >>> round(float((w / x.norm(dim=1)).mean()), 6)  # 8 asinh(1)
        7.050989
    """

    half: Real

    def __call__(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return about ``n`` points ``(B, 2)`` and mean-convention weights."""
        angles = max(1, round(math.sqrt(n / 10)))
        radii = max(1, round(n / (4 * angles)))
        t, q = gauss_legendre(radii)
        # s = t^a grades the radii towards the centre; a random copy has another exponent and other angles
        power = stretched(3.0, generator)
        s, ds = t**power, q * power * t ** (power - 1)
        u, p = gauss_legendre(angles)
        bend = random_number(generator, -STRETCH, STRETCH, 0.0)
        u, p = u + bend * u * (1 - u), p * (1 + bend * (1 - 2 * u))
        phi = (u - 0.5) * math.pi / 2
        ray = self.half / torch.cos(phi)
        rho = s[:, None] * ray
        base = torch.stack([rho * torch.cos(phi), rho * torch.sin(phi)], -1).reshape(-1, 2)
        weights = (ds * s)[:, None] * (p * math.pi / 2 * ray**2)
        quarter = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
        points = [base]
        for _ in range(3):
            points.append(points[-1] @ quarter)
        x = torch.cat(points)
        return x, weights.reshape(-1).repeat(4) * len(x)


@dataclass(frozen=True)
class HermiteRule:
    """Tensor-product Gauss-Hermite: integrates against the normal law N(mean, scale^2 I), not Lebesgue.

    Raises:
        ArgumentError: more than three dimensions.

    Example:
        >>> x, w = HermiteRule(dim=1, scale=2.0)(20, None)
        >>> round(float((w * x[:, 0] ** 2).mean()), 6)
        4.0
    """

    dim: int
    scale: Real
    mean: Real | tuple[float, ...] = 0.0

    def __call__(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return about ``n`` points ``(B, d)`` and mean-convention weights.

        A random copy is rotated and stays exact; on a line it is stretched instead, with the ratio of the two
        normal densities in its weights.
        """
        require(self.dim <= 3, "dim", got=self.dim, expected="at most 3", remedy="Use Sobol points.")
        each = min(HERMITE_LIMIT, max(1, round(n ** (1 / self.dim))))
        z, weights = product_rule([gauss_hermite(each)] * self.dim)
        if self.dim > 1:
            z = z @ random_rotation(self.dim, generator)
        elif generator is not None:
            s = stretched(1.0, generator)
            z, weights = s * z, weights * s * torch.exp(0.5 * (1 - s**2) * z[:, 0] ** 2)
        return z.new_tensor(self.mean) + self.scale * z, weights * len(z)


@cache
def sparse_hermite(dim: int, level: int) -> tuple[Tensor, Tensor]:
    """Return Smolyak's combination of Gauss-Hermite rules for the standard normal law, float64.

    Points that several of the products share are one node; nodes whose weights cancel are left out.
    """
    weights: dict[tuple[float, ...], float] = {}
    points: dict[tuple[float, ...], list[float]] = {}
    for order in range(max(dim, level), level + dim):
        sign = (-1) ** (level + dim - 1 - order) * math.comb(dim - 1, order - level)
        for cuts in combinations(range(1, order), dim - 1):
            sizes = [high - low for low, high in pairwise((0, *cuts, order))]
            x, q = product_rule([gauss_hermite(size) for size in sizes])
            for point, weight in zip(x.tolist(), q.tolist(), strict=True):
                same = tuple(round(t, 9) + 0.0 for t in point)  # not -0
                points[same] = point
                weights[same] = weights.get(same, 0.0) + sign * weight
    kept = [(points[same], weight) for same, weight in weights.items() if abs(weight) > 1e-15]
    x, q = (torch.tensor(column, dtype=torch.float64) for column in zip(*kept, strict=True))
    return x, q


@dataclass(frozen=True)
class SparseRule:
    r"""Smolyak's sparse rule: integrates against the normal law N(mean, scale^2 I) in many dimensions.

    With U_l the Gauss-Hermite rule of l points, and level q,

    .. math:: \sum_{q \le |l| < q + d} (-1)^{q+d-1-|l|} \binom{d-1}{|l|-q} \;
        U_{l_1} \otimes \dots \otimes U_{l_d}

    is exact for polynomials of total degree 2q - 1, on far fewer nodes than a product of such rules has. Some
    weights are negative, so that it is a rule for evaluation alone: a Gram matrix on its nodes need not be
    positive, and a sum of squares may come out below zero, where the functions are not such polynomials times
    the density. :class:`~nbsvd.measures.Nodes` refuse it.

    Arguments:
        dim: dimension d.
        scale: standard deviation, in the units of x.
        mean: one number for all coordinates, or d of them.

    Source: Smolyak, Dokl. Akad. Nauk SSSR 148 (1963) 1042; Heiss and Winschel, J. Econometrics 144 (2008) 62.

    Example:
        >>> x, w = SparseRule(dim=6)(500, None)
        >>> len(x), round(float((w * x[:, 0] ** 2 * x[:, 5] ** 2).mean()), 9)
        (389, 1.0)
    """

    dim: int
    scale: Real = 1.0
    mean: Real | tuple[float, ...] = 0.0

    def level(self, n: int) -> int:
        """Return the highest level, one at least, of which the rule has at most ``n`` nodes."""
        level = 1
        while level < HERMITE_LIMIT and len(sparse_hermite(self.dim, level + 1)[0]) <= n:
            level += 1
        return level

    def __call__(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return at most ``n`` points ``(B, d)``, one at least, and mean-convention weights, some negative.

        A random copy is rotated, and as exact.
        """
        z, weights = sparse_hermite(self.dim, self.level(n))
        z = z @ random_rotation(self.dim, generator)
        return z.new_tensor(self.mean) + self.scale * z, weights * len(z)
