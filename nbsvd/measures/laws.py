"""Probability laws: how to draw points, and with what density."""

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from nbsvd._errors import require
from nbsvd.measures.base import Kind, Measure, Real
from nbsvd.measures.rules import (
    BoxRule,
    HermiteRule,
    LineRule,
    PolarRule,
    Rule,
    SphericalRule,
    radial_nodes,
    stretched,
)


def check_points(x: Tensor, dim: int) -> None:
    """Refuse points that are not ``(B, dim)``."""
    require(
        isinstance(x, Tensor) and x.ndim == 2 and x.shape[1] == dim,
        "points",
        got=f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__,
        expected=f"shape (B, {dim})",
        remedy="Points are rows; add the missing axis with x[:, None] on a line.",
    )


def positive(argument: str, value: Real, what: str = "a positive length") -> float:
    """Return ``value`` as a float, or refuse it unless it is positive and finite."""
    require(math.isfinite(value) and value > 0, argument, got=value, expected=what)
    return float(value)


class Law(Measure):
    """A probability law on R^d; as a reference measure it is the law itself, so all weights are one.

    Attributes:
        bounded: whether its points lie in a bounded region.
    """

    bounded = False

    @abstractmethod
    def log_density(self, x: Tensor) -> Tensor:
        """Return the logarithm of the density with respect to Lebesgue measure, ``(B,)``."""

    def weight(self, x: Tensor) -> Tensor:
        """Return ones: the reference measure is the law that the points follow."""
        return torch.ones(len(x), dtype=x.dtype, device=x.device)

    def lebesgue_rule(self) -> Rule | None:
        """Return a quadrature rule for Lebesgue measure that fits this law, or ``None``."""
        return None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Quadrature is offered where the law knows a rule."""
        return ("iid", "sobol") if self.lebesgue_rule() is None else ("iid", "sobol", "quadrature")

    @property
    def training_kind(self) -> Kind:
        """The rule, cut or stretched anew each time, on a line; Sobol points elsewhere."""
        return "quadrature" if self.dim == 1 and "quadrature" in self.kinds else "sobol"

    def rule(self, n: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return the Lebesgue rule with its weights multiplied by the density."""
        rule = self.lebesgue_rule()
        assert rule is not None
        x, weights = rule(n, generator)
        return x, weights * torch.exp(self.log_density(x))


class Uniform(Law):
    """The uniform law on a box.

    Arguments:
        low, high: corners, a number (one dimension) or a sequence of ``d`` numbers.

    Raises:
        ArgumentError: corners of different lengths, or ``low >= high`` somewhere.

    Example:
        >>> Uniform(0.0, 2.0).log_density(torch.tensor([[1.0]])).exp()
        tensor([0.5000])
    """

    bounded = True

    def __init__(self, low: Real | Sequence[Real] = 0.0, high: Real | Sequence[Real] = 1.0) -> None:
        self.low = tuple(map(float, low)) if isinstance(low, Sequence) else (float(low),)
        self.high = tuple(map(float, high)) if isinstance(high, Sequence) else (float(high),)
        require(
            len(self.low) == len(self.high) > 0
            and all(-math.inf < a < b < math.inf for a, b in zip(self.low, self.high, strict=True)),
            "low, high",
            got=f"{self.low}, {self.high}",
            expected="two finite corners of equal length with low < high on each axis",
        )
        self.dim = len(self.low)

    def config(self) -> dict[str, object]:
        """Describe the law."""
        return {"name": "Uniform", "low": list(self.low), "high": list(self.high)}

    @property
    def length(self) -> float:
        """Half of the longest side."""
        return max(b - a for a, b in zip(self.low, self.high, strict=True)) / 2

    @property
    def center(self) -> tuple[float, ...]:
        """The middle of the box."""
        return tuple((a + b) / 2 for a, b in zip(self.low, self.high, strict=True))

    def transport(self, u: Tensor) -> Tensor:
        """Stretch the unit cube to the box."""
        low, high = u.new_tensor(self.low), u.new_tensor(self.high)
        return low + (high - low) * u

    def log_density(self, x: Tensor) -> Tensor:
        """Return minus the log volume inside the box and minus infinity outside."""
        check_points(x, self.dim)
        low, high = x.new_tensor(self.low), x.new_tensor(self.high)
        inside = ((x >= low) & (x <= high)).all(1)
        constant = -(high - low).log().sum()
        return torch.where(inside, constant, torch.full_like(constant, -math.inf))

    def lebesgue_rule(self) -> Rule | None:
        """Return Gauss-Legendre on the box, up to three dimensions."""
        return BoxRule(self.low, self.high) if self.dim <= 3 else None


class Gaussian(Law):
    """The normal law N(mean, scale^2 I).

    Arguments:
        dim: dimension d.
        scale: standard deviation, in the units of x.
        mean: one number for all coordinates, or d of them.

    Example:
        >>> round(float(Gaussian(1).log_density(torch.zeros(1, 1)).exp()), 4)
        0.3989
    """

    def __init__(self, dim: int = 1, *, scale: Real = 1.0, mean: Real | Sequence[Real] = 0.0) -> None:
        require(dim >= 1, "dim", got=dim, expected="at least 1")
        each = [float(m) for m in mean] if isinstance(mean, Sequence) else [float(mean)] * dim
        require(
            len(each) == dim and all(map(math.isfinite, each)),
            "mean",
            got=mean,
            expected=f"a finite number, or {dim} of them",
        )
        self.dim, self.scale, self._center = dim, positive("scale", scale), tuple(each)
        self.mean = self._center if isinstance(mean, Sequence) else each[0]

    def config(self) -> dict[str, object]:
        """Describe the law."""
        mean = list(self.mean) if isinstance(self.mean, tuple) else self.mean
        return {"name": "Gaussian", "dim": self.dim, "scale": self.scale, "mean": mean}

    @property
    def length(self) -> float:
        """The root of the mean squared distance from the mean, ``scale sqrt(d)``."""
        return self.scale * math.sqrt(self.dim)

    @property
    def center(self) -> tuple[float, ...]:
        """The mean."""
        return self._center

    def transport(self, u: Tensor) -> Tensor:
        """Apply the inverse of the normal distribution function."""
        x: Tensor = u.new_tensor(self.center) + self.scale * torch.special.ndtri(u)
        return x

    def log_density(self, x: Tensor) -> Tensor:
        """Return the normal log-density."""
        check_points(x, self.dim)
        z = (x - x.new_tensor(self.center)) / self.scale
        return -0.5 * (z * z).sum(1) - self.dim * math.log(self.scale * math.sqrt(2 * math.pi))

    def lebesgue_rule(self) -> Rule | None:
        """Return a rule for Lebesgue integrals of functions that decay on this scale."""
        if self.dim == 1:
            return LineRule(self.scale * 2, self.center[0])
        if self.dim > 3:
            return None
        low, high = (tuple(c + side * 8 * self.scale for c in self.center) for side in (-1, 1))
        return BoxRule(low, high)

    def rule(self, n: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return Gauss-Hermite in two and three dimensions, on a line the Lebesgue rule times the density."""
        if self.dim == 1:
            return super().rule(n, generator)
        return HermiteRule(self.dim, self.scale, self.center)(n, generator)


class TruncatedGaussian(Law):
    """The normal law N(0, scale^2 I) conditioned on the box ``[-bound, bound]^d``.

    Source: Ryu et al., section 4 (scale 16, bound 50).

    Example:
        >>> law = TruncatedGaussian(2, scale=16.0, bound=50.0)
        >>> bool((law.transport(torch.rand(100, 2)).abs() <= 50).all())
        True
    """

    bounded = True

    def __init__(self, dim: int, *, scale: Real, bound: Real) -> None:
        require(dim >= 1, "dim", got=dim, expected="at least 1")
        self.dim, self.scale, self.bound = dim, positive("scale", scale), positive("bound", bound)

    def config(self) -> dict[str, object]:
        """Describe the law."""
        return {"name": "TruncatedGaussian", "dim": self.dim, "scale": self.scale, "bound": self.bound}

    @property
    def length(self) -> float:
        """The standard deviation before truncation."""
        return self.scale

    def transport(self, u: Tensor) -> Tensor:
        """Apply the inverse distribution function of the truncated law on each axis."""
        tail = 0.5 * math.erfc(self.bound / self.scale / math.sqrt(2))
        x: Tensor = self.scale * torch.special.ndtri(tail + (1 - 2 * tail) * u)
        return x.clamp(-self.bound, self.bound)

    def log_density(self, x: Tensor) -> Tensor:
        """Return the truncated log-density, minus infinity outside the box."""
        check_points(x, self.dim)
        z = x / self.scale
        mass = math.erf(self.bound / self.scale / math.sqrt(2))
        log_p = -0.5 * (z * z).sum(1) - self.dim * math.log(self.scale * math.sqrt(2 * math.pi) * mass)
        return log_p.masked_fill((x.abs() > self.bound).any(1), -math.inf)

    def lebesgue_rule(self) -> Rule | None:
        """Return Gauss-Legendre on the box, up to three dimensions."""
        return BoxRule((-self.bound,) * self.dim, (self.bound,) * self.dim) if self.dim <= 3 else None


class Radial(Law):
    r"""A law around a centre: uniform direction, radius ``r = scale (u / (1 - u))^(1/a)`` with u uniform.

    .. math:: p(x) = \frac{a \, (r/s)^{a-1}}{s \, (1 + (r/s)^a)^2} \, \frac{1}{|S^{d-1}| \, r^{d-1}},
        \qquad r = |x - c|

    The density goes like ``r^{a-d}`` at the centre. With a = 1, as long as no other power is given, it grows
    there, so that ``f^2 / r`` keeps a finite variance in every dimension from two on (a smaller than 2d - 2
    is enough for that); with a = d it is bounded. The tail falls like a power, so that no function that
    decays exponentially decays more slowly than the law. In many dimensions all of a function lies at nearly
    one radius, and only a large a puts the points there: ``log r`` has standard deviation
    ``pi / (sqrt(3) a)``.

    Arguments:
        dim: dimension d.
        scale: the median radius s, in the units of x.
        center: c, the origin unless given.
        power: a.

    Example:
        >>> law = Radial(2, scale=3.0)
        >>> x = law.transport(torch.tensor([[0.5, 0.2]], dtype=torch.float64))
        >>> round(float(x.norm()), 6)
        3.0
    """

    def __init__(
        self, dim: int, *, scale: Real, center: Sequence[Real] | None = None, power: Real = 1.0
    ) -> None:
        require(dim >= 1, "dim", got=dim, expected="at least 1")
        self.dim, self.scale = dim, positive("scale", scale)
        self.power = positive("power", power, "a positive number")
        self._center = (0.0,) * dim if center is None else tuple(float(c) for c in center)
        require(
            len(self._center) == dim and all(map(math.isfinite, self._center)),
            "center",
            got=self._center,
            expected=f"{dim} finite coordinates",
        )
        self.log_sphere = math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)

    @property
    def length(self) -> float:
        """The median radius."""
        return self.scale

    @property
    def center(self) -> tuple[float, ...]:
        """The centre of the law."""
        return self._center

    def config(self) -> dict[str, object]:
        """Describe the law."""
        plain = {"name": "Radial", "dim": self.dim, "scale": self.scale, "center": list(self.center)}
        return plain if self.power == 1 else plain | {"power": self.power}

    def _radius(self, u: Tensor, rest: Tensor) -> Tensor:
        """Return ``scale (u / rest)^(1/a)``, for ``rest = 1 - u``."""
        odds = u / rest.clamp_min(1e-15)
        return self.scale * (odds if self.power == 1 else odds ** (1 / self.power))

    def transport(self, u: Tensor) -> Tensor:
        """Use the first uniform number for the radius and the rest for the direction."""
        if self.dim == 1:
            t = 2 * u - 1
            return self.center[0] + t.sign() * self._radius(t.abs(), 1 - t.abs())
        r = self._radius(u[:, :1], 1 - u[:, :1])
        if self.dim == 2:
            phi = 2 * math.pi * u[:, 1]
            direction = torch.stack([torch.cos(phi), torch.sin(phi)], 1)
        elif self.dim == 3:
            phi, cosine = 2 * math.pi * u[:, 1], 2 * u[:, 2:] - 1
            sine = torch.sqrt(1 - cosine**2)
            direction = torch.cat([sine * torch.cos(phi)[:, None], sine * torch.sin(phi)[:, None], cosine], 1)
        else:  # a normal vector has a uniform direction; its length, independent of it, gives the radius
            z = torch.special.ndtri(u)
            length = z.norm(dim=1, keepdim=True)
            direction = z / length
            q = torch.special.gammainc(torch.full_like(length, self.dim / 2), length**2 / 2)
            r = self._radius(q, 1 - q)
        return direction * r + u.new_tensor(self.center)

    def log_density(self, x: Tensor) -> Tensor:
        """Return the log-density; it is infinite at the centre itself for a < d."""
        check_points(x, self.dim)
        a, d = self.power, self.dim
        t = torch.log((x - x.new_tensor(self.center)).norm(dim=1) / self.scale)
        radial = math.log(a) - d * math.log(self.scale) - 2 * torch.nn.functional.softplus(a * t)
        # for a = d the centre is a point like any other, and 0 log 0 would be NaN there
        return radial - self.log_sphere + (0 if a == d else (a - d) * t)

    def lebesgue_rule(self) -> Rule | None:
        """Return the rule in line, polar or spherical coordinates around the centre."""
        if self.dim == 1:
            return LineRule(2 * self.scale, self.center[0])
        c = self.center
        if self.dim == 2:
            return PolarRule(self.scale, (c[0], c[1]))
        return SphericalRule(self.scale, (c[0], c[1], c[2])) if self.dim == 3 else None

    def rule(self, n: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return the Lebesgue rule times the density; on a line a Gauss rule on either side of its kink."""
        if self.dim > 1:
            return super().rule(n, generator)
        r, q = radial_nodes(max(1, round(n / 2)), stretched(self.scale, generator), 1)
        x = self.center[0] + torch.cat([r, -r])[:, None]
        return x, torch.cat([q, q]) * len(x) * torch.exp(self.log_density(x))
