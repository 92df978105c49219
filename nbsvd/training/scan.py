r"""Where an operator's top eigenfunctions live, from its symbol alone, before any function is made.

A local operator ``T = a(x) laplacian + ... + c(x)`` has, by Weyl's law, about

.. math:: N(\lambda) = \frac{\omega_d}{(2\pi)^d} \int \Big(\frac{c(x) - \lambda}{a(x)}\Big)_+^{d/2} dx

eigenvalues above lambda (omega_d the volume of the unit ball). With ``N(lambda) = k`` the integrand is,
roughly, the summed density of the first k eigenfunctions. It needs nothing but values of a and c, so that a
well far from where the search begins is found in milliseconds.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nbsvd.functions import Jet
from nbsvd.functions.jet import Real
from nbsvd.measures import Nodes
from nbsvd.operators import Operator
from nbsvd.training.cloud import Cloud, around

NODES, SWEEPS = 4096, 30
FEW = 40  # effective nodes below which a density says where to look next, but not how large it is
STILL = 0.1  # a relative change below which a sweep counts as the last
POWERS = (1.0, 1.5, 2.0, 3.0, 4.0)  # of decays: for c that falls no faster than log r, like r, r^2, r^4, r^6
SHELLS = (3.0, 6.0, 12.0)  # radii, in sizes of a density, at which the growth of -c is measured
FAR = (1e3, 1e6, 1e9)  # lengths from the centre between which c has its limit, or falls on and on


@dataclass(frozen=True, eq=False)
class Extent:
    """What a scan has found.

    Arguments:
        cloud: the density of the first k functions, ``None`` where no eigenvalue is to be expected.
        threshold: the top of the continuous spectrum, the limit of c at infinity; ``-inf`` where the operator
            confines.
        count: Weyl's number of eigenvalues above the threshold, k at most.
    """

    cloud: Cloud | None
    threshold: float
    count: float


def symbol(operator: Operator, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return a and c of ``T = a laplacian + ... + c`` at points, ``(B,)`` each.

    Example:
        >>> from nbsvd.operators import Schrodinger
        >>> T = 2.0 * Schrodinger(lambda x: x[:, 0] ** 2)
        >>> symbol(T, torch.tensor([[3.0]]))
        (tensor([2.]), tensor([-18.]))
    """
    zero, slopes = torch.zeros_like(x[:, :1]), x.new_zeros(x.shape[1] + 1, len(x), 1)
    bend = slopes.clone()
    bend[-1] = 1
    with torch.no_grad():
        c = operator.from_jet(x, Jet(zero + 1, slopes))[:, 0]
        a = operator.from_jet(x, Jet(zero, bend))[:, 0]
    return torch.where(a.isfinite(), a, 1.0), torch.where(c.isfinite(), c, -math.inf)


def threshold(operator: Operator, center: Tensor, length: float, generator: torch.Generator) -> float:
    """Return the largest limit of c at infinity, over directions drawn at random; ``-inf`` if c falls in all.

    Example:
        >>> from nbsvd.operators import Schrodinger
        >>> T = Schrodinger(lambda x: 3 - torch.exp(-(x**2).sum(1)))
        >>> threshold(T, torch.zeros(2), 1.0, torch.Generator().manual_seed(0))
        -3.0
    """
    d = len(center)
    z = torch.randn(64 * d, d, generator=generator, dtype=torch.float64)
    z = length * z / z.norm(dim=1, keepdim=True)
    near, far, farther = (symbol(operator, center + r * z)[1] for r in FAR)
    falls = (near - far > 0) & (far - farther >= (near - far) / 2)
    limit = torch.where(farther.isfinite(), farther, far)
    return float(torch.where(falls | (far == -math.inf), -math.inf, limit).max())


def power(operator: Operator, cloud: Cloud, generator: torch.Generator) -> float:
    r"""Return the power p with which functions decay, ``exp(-r^p)``, up to constants.

    Where ``-c`` grows like ``r^q`` they decay, by the WKB approximation, as

    .. math:: \exp\Big(-\int^r \sqrt{-c / a}\Big) \sim \exp(-r^{1 + q/2}).

    q comes from differences of c on three shells around a density, in the direction in which it is least, and
    the nearest of a few powers is returned.

    Example:
        >>> from nbsvd.operators import Schrodinger
        >>> x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> cloud = Cloud(x, torch.full((500,), 1 / 500, dtype=torch.float64))
        >>> [
        ...     power(Schrodinger(V), cloud, torch.Generator().manual_seed(0))
        ...     for V in (
        ...         lambda x: -1 / x.norm(dim=1),
        ...         lambda x: 5 * x.norm(dim=1) ** 2,
        ...         lambda x: (x**4).sum(1),
        ...     )
        ... ]
        [1.0, 2.0, 3.0]
    """
    d = cloud.x.shape[1]
    z = torch.randn(64 * d, d, generator=generator, dtype=torch.float64)
    z = z / z.norm(dim=1, keepdim=True) @ torch.linalg.cholesky(cloud.spread()).t()
    inner, middle, outer = (symbol(operator, cloud.center + r * z)[1] for r in SHELLS)
    first, second = inner - middle, middle - outer
    grows = (first > 0) & (second > 0) & second.isfinite()
    q = torch.where(grows, torch.log2(second / first).clamp(0, 10), 0.0)
    q = torch.where(outer == -math.inf, 10.0, q)
    p = 1 + float(q.min()) / 2
    return min(POWERS, key=lambda known: abs(known - p))


def phase_density(c: Tensor, a: Tensor, value: float, dim: int) -> Tensor:
    """Return Weyl's number of eigenvalues above ``value`` in a unit volume at each point, ``(B,)``."""
    constant = math.pi ** (dim / 2) / math.gamma(dim / 2 + 1) / (2 * math.pi) ** dim
    density: Tensor = constant * ((c - value) / a).clamp_min(0) ** (dim / 2)
    return density


def level(c: Tensor, a: Tensor, nodes: Nodes, k: Real, floor: float) -> tuple[float, float]:
    """Return the value above which Weyl's law counts k eigenvalues, not below the floor, and the count."""
    dim = nodes.x.shape[1]

    def count(value: float) -> float:
        return float(nodes.integrate(phase_density(c, a, value, dim)))

    high = float(c.max())
    if not high > floor:
        return floor, 0.0
    if math.isfinite(floor) and (total := count(floor)) <= k:
        return floor, total
    step = max(abs(high), 1e-300)
    low = max(high - step, floor)
    while count(low) < k:
        step *= 4
        low = max(high - step, floor)
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if count(middle) >= k else (low, middle)
    return low, count(low)


def scan(operator: Operator, center: Tensor, length: float, k: int, generator: torch.Generator) -> Extent:
    """Find where the first k functions of a local operator live.

    Points are drawn from a heavy-tailed law around the centre; the law then moves to where the density is,
    takes its shape, and so on until it stands still. The heavy tail goes on looking everywhere else.

    Arguments:
        operator: a local operator on R^d with a positive symbol.
        center, length: where to begin.
        k: how many functions.
        generator: source of the points.

    Source: Weyl's law; the density is that of Thomas and Fermi.

    Example:
        >>> from nbsvd.operators import Schrodinger
        >>> T = Schrodinger(lambda x: ((x - 30.0) ** 2).sum(1))
        >>> found = scan(
        ...     T, torch.zeros(2, dtype=torch.float64), 1.0, 4, torch.Generator().manual_seed(0)
        ... )
        >>> bool((found.cloud.center - 30).abs().max() < 0.2), found.threshold < -1e9
        (True, True)
    """
    dim = len(center)
    floor = threshold(operator, center, length, generator)
    spread = torch.eye(dim, dtype=torch.float64) * (length**2 / dim)
    cloud, total = None, 0.0
    for _ in range(SWEEPS):
        nodes = around(center, spread).measure().nodes(NODES, kind="sobol", generator=generator)
        a, c = symbol(operator, nodes.x)
        value, total = level(c, a, nodes, k, floor)
        mass = nodes.weights * phase_density(c, a, value, dim)
        if not float(mass.sum()) > 0:
            return Extent(None, floor, 0.0)
        cloud = Cloud(nodes.x, mass / mass.sum())
        new, moved = cloud.spread(), cloud.center
        few = cloud.effective < FEW
        if few:  # as large as the neighbourhood of the heaviest point, at least
            room = (float(nodes.weights[cloud.p.argmax()]) / len(nodes)) ** (1 / dim)
            new = new + room**2 * torch.eye(dim, dtype=torch.float64)
        still = not few and bool(((moved - center).abs() <= STILL * spread.diagonal().sqrt()).all())
        still = still and abs(float(new.trace() / spread.trace()) - 1) <= 2 * STILL
        center, spread = moved, new
        if still:
            break
    return Extent(cloud, floor, total)
