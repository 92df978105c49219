"""A density as weighted points, and the sampling law and quadrature rule that fit it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nbsvd.measures import CellsRule, Law, Lebesgue, Mixture, Radial, Stretched
from nbsvd.measures.stretched import cell_weights

ROUND = 1.25  # ratio of the longest axis to the shortest below which a density counts as round
NARROWEST = 1e-4  # an axis as a share of the longest, at least
NEAR = 0.5  # of its size: a singular point so close to the centre of a density is its centre
APART = 2.5  # times the sum of their sizes: clusters at this distance or more are integrated one by one
SHARPEST = 0.75  # of the dimension: the power of a radial law at most
MOST, POINTS, TURNS = 4, 400, 15  # of clusters; points and iterations of the search for them


@dataclass(frozen=True, eq=False)
class Cloud:
    """A probability density as weighted points.

    Arguments:
        x: points, ``(B, d)``.
        p: their shares, ``(B,)``, adding up to one.
    """

    x: Tensor
    p: Tensor

    @property
    def center(self) -> Tensor:
        """The mean, ``(d,)``."""
        return self.p @ self.x

    def spread(self, center: Tensor | None = None) -> Tensor:
        """Return the matrix of second moments about a point, the mean unless given, ``(d, d)``."""
        z = self.x - (self.center if center is None else center)
        return (self.p[:, None] * z).t() @ z

    @property
    def effective(self) -> float:
        """How many points of equal share would say as much."""
        return 1 / float((self.p**2).sum())


def shape(spread: Tensor) -> tuple[float, Tensor]:
    """Return a length and a frame, without unit, that fit second moments.

    The frame A is symmetric, with determinant one; its axes are as the roots of the sizes of the density. For
    the density of many states of an oscillator is as long as its orbits, but each state decays on the root of
    that. In coordinates ``A^{-1} x`` the root of the trace of the moments is the length.

    Example:
        >>> length, frame = shape(torch.diag(torch.tensor([64.0, 4.0], dtype=torch.float64)))
        >>> round(length, 4), frame.diagonal().square()
        (6.3246, tensor([2.0000, 0.5000], dtype=torch.float64))
        >>> shape(torch.eye(2, dtype=torch.float64) * 2)[0]
        2.0
    """
    values, axes = torch.linalg.eigh(spread)
    size = values.clamp_min(NARROWEST**2 * float(values[-1])).sqrt()
    if float(size[-1]) <= ROUND * float(size[0]):
        return math.sqrt(float(spread.trace())), torch.eye(len(size), dtype=spread.dtype)
    root = (size / size.log().mean().exp()).sqrt()
    frame = axes @ torch.diag(root) @ axes.t()
    return float(size.div(root).norm()), (frame + frame.t()) / 2


@dataclass(frozen=True)
class Place:
    """Where functions live, as plain data that a file can hold.

    Arguments:
        center: the centre.
        length: the root mean square distance from it, where the shape is not round a mean of the axes' sizes.
        frame: the shape, see :func:`shape`.
        cells: centres of the parts that are integrated one by one, where one centre is not enough.
        lengths: the lengths of the parts.
        power: of the law of the radius, see :class:`~nbsvd.measures.Radial`.
    """

    center: tuple[float, ...]
    length: float
    frame: tuple[tuple[float, ...], ...] | None = None
    cells: tuple[tuple[float, ...], ...] = ()
    lengths: tuple[float, ...] = ()
    power: float = 1.0

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> "Place":
        """Return the place that ``config`` described."""
        frame = plain["frame"]
        return cls(
            tuple(plain["center"]),
            plain["length"],
            None if frame is None else tuple(map(tuple, frame)),
            tuple(map(tuple, plain["cells"])),
            tuple(plain["lengths"]),
            plain.get("power", 1.0),
        )

    def config(self) -> dict[str, Any]:
        """Describe the place by plain data.

        Example:
            >>> place = Place((0.0, 1.0), 2.0)
            >>> Place.read(place.config()) == place
            True
        """
        return asdict(self)

    def measure(self) -> Lebesgue:
        """Return Lebesgue measure with a law and a rule for such functions."""
        d = len(self.center)
        wide: Law = Radial(d, scale=self.length, center=self.center, power=self.power)
        if not self.cells:
            return Lebesgue(wide if self.frame is None else Stretched(wide, self.frame))
        laws = [
            Radial(d, scale=length, center=cell)
            for length, cell in zip(self.lengths, self.cells, strict=True)
        ]
        rules = [rule for rule in (law.lebesgue_rule() for law in laws) if rule is not None]
        return Lebesgue(Mixture([*laws, wide]), rule=CellsRule(self.cells, tuple(rules)) if rules else None)


def place(cloud: Cloud, parts: Sequence[Cloud], singular: Tensor) -> Place:
    """Return the place of a density in one or more parts; singular points are centres of their own.

    A factor 1/r is integrated exactly in polar coordinates around its point and nowhere else. So one singular
    point near the middle becomes the centre; several, or one elsewhere, are centres of cells beside those of
    the parts.

    Arguments:
        cloud: the density.
        parts: its parts, from :func:`split`.
        singular: singular points, ``(m, d)``.

    Example:
        >>> x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> p = torch.full((500,), 1 / 500, dtype=torch.float64)
        >>> cloud = Cloud(x, p)
        >>> place(cloud, [cloud], torch.tensor([[0.1, 0.0]], dtype=torch.float64)).center
        (0.1, 0.0)
    """
    centers = torch.stack([part.center for part in parts])
    if len(singular) and cloud.x.shape[1] > 1:
        size = torch.stack([part.spread().trace().sqrt() for part in parts])
        apart = torch.cdist(centers, singular).min(1).values
        centers = torch.cat([singular, centers[apart >= NEAR * size]])
    if len(centers) == 1:
        here = around(centers[0], cloud.spread(centers[0]))
        return replace(here, power=radial_power(cloud, here))
    length = math.sqrt(float(cloud.spread().trace()))
    lengths = sizes(cloud, centers)
    return Place(plain(cloud.center), length, cells=tuple(map(plain, centers)), lengths=plain(lengths))


def radial_power(cloud: Cloud, here: Place) -> float:
    r"""Return the power of the radial law that spreads ``log r`` as a density does, one where a rule serves.

    In many dimensions a density lies at nearly one radius, and a law that draws radii of all sizes wastes its
    points. In three dimensions and less polar coordinates serve, and the law keeps its power 1.

    Example:
        >>> x = torch.randn(
        ...     4000, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64
        ... )
        >>> cloud = Cloud(x, torch.full((4000,), 1 / 4000, dtype=torch.float64))
        >>> radial_power(cloud, around(cloud.center, cloud.spread()))
        6.0
    """
    d = len(here.center)
    if d <= 3:
        return 1.0
    z = cloud.x - cloud.x.new_tensor(here.center)
    if here.frame is not None:
        z = torch.linalg.solve(z.new_tensor(here.frame), z.t()).t()
    t = z.norm(dim=1).clamp_min(1e-300).log()
    deviation = float((cloud.p @ (t - cloud.p @ t) ** 2).sqrt())
    return min(max(math.pi / (math.sqrt(3) * deviation), 1.0), SHARPEST * d)


def split(cloud: Cloud, generator: torch.Generator) -> list[Cloud]:
    """Return the parts of a density that lie far apart from each other, or the density itself.

    Example:
        >>> x = torch.randn(600, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> x[:200, 0] += 20
        >>> parts = split(
        ...     Cloud(x, torch.full((600,), 1 / 600, dtype=torch.float64)), torch.Generator()
        ... )
        >>> sorted(round(float(part.center[0])) for part in parts)
        [0, 20]
    """
    found = clusters(cloud, generator) if cloud.x.shape[1] > 1 else None
    if found is None:
        return [cloud]
    shares = cloud.p[:, None] * cell_weights(cloud.x, found.tolist())
    return [Cloud(cloud.x, p / p.sum()) for p in shares.unbind(1)]


def around(center: Tensor, spread: Tensor) -> Place:
    """Return the place around one centre that has these second moments about it."""
    length, frame = shape(spread)
    eye = torch.eye(len(center), dtype=frame.dtype)
    return Place(plain(center), length, None if torch.equal(frame, eye) else tuple(map(plain, frame)))


def plain(vector: Tensor) -> tuple[float, ...]:
    """Return a vector as plain numbers."""
    return tuple(vector.tolist())


def sizes(cloud: Cloud, centers: Tensor) -> Tensor:
    """Return the root mean square distance from each centre within its part of a density, ``(m,)``.

    A part that is nearly empty gets half the distance to the next centre.
    """
    share = cloud.p[:, None] * (cell_weights(cloud.x, centers.tolist()) if len(centers) > 1 else 1.0)
    squares = (share * torch.cdist(cloud.x, centers) ** 2).sum(0) / share.sum(0).clamp_min(1e-300)
    apart = torch.cdist(centers, centers).fill_diagonal_(math.inf).min(1).values / 2
    return torch.where(share.sum(0) > 1e-3, squares.sqrt(), apart)


def clusters(cloud: Cloud, generator: torch.Generator) -> Tensor | None:
    """Return the centres of clusters that lie far apart, ``(m, d)``; ``None`` if there is but one.

    The largest number is taken for which k-means finds clusters whose distances are all more than ``APART``
    times the sum of their sizes.

    Example:
        >>> x = torch.randn(600, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> p = torch.full((600,), 1 / 600, dtype=torch.float64)
        >>> clusters(Cloud(x, p), torch.Generator()) is None
        True
        >>> x[:200, 0] += 20
        >>> clusters(Cloud(x, p), torch.Generator()).round().abs().sort(0).values
        tensor([[ 0., 0.],
                [20., 0.]], dtype=torch.float64)
    """
    drawn = torch.multinomial(cloud.p, POINTS, replacement=True, generator=generator)
    x = cloud.x[drawn]
    for count in range(MOST, 1, -1):
        centers = x[:1]
        for _ in range(count - 1):  # the point farthest from those there are
            centers = torch.cat([centers, x[torch.cdist(x, centers).min(1).values.argmax()][None]])
        for _ in range(TURNS):
            nearest = torch.cdist(x, centers).argmin(1)
            members = torch.nn.functional.one_hot(nearest, count).to(x)
            mass = members.sum(0)
            if bool((mass == 0).any()):
                break
            centers = (members.t() @ x) / mass[:, None]
        else:
            spread = (members * torch.cdist(x, centers) ** 2).sum(0) / mass
            needed = APART * (spread.sqrt()[:, None] + spread.sqrt())
            if bool((torch.cdist(centers, centers) + torch.diag(needed.diagonal()) >= needed).all()):
                return centers
    return None
