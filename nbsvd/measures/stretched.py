"""A law, and its quadrature rule, along ellipsoids instead of spheres."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nbsvd._errors import require
from nbsvd.measures.base import Real
from nbsvd.measures.laws import Law
from nbsvd.measures.rules import Rule

Matrix = tuple[tuple[float, ...], ...]


class Stretched(Law):
    r"""A law seen through a linear map about its centre: ``x = c + A (y - c)`` with y from the law.

    A factor 1/r at the centre, and a cusp, stay as harmless as they are to the law itself: along each ray
    from the centre nothing changes but the unit.

    Arguments:
        law: a law on R^d.
        frame: A, ``(d, d)``, symmetric and positive definite, without unit.

    Raises:
        ArgumentError: a frame that is not symmetric and positive definite, or of another dimension.

    Example:
        >>> from nbsvd.measures import Radial
        >>> law = Stretched(Radial(2, scale=1.0), [[3.0, 0.0], [0.0, 1.0]])
        >>> x = law.transport(torch.rand(4000, 2, generator=torch.Generator().manual_seed(0)))
        >>> round(float(x[:, 0].abs().median() / x[:, 1].abs().median()))
        3
    """

    def __init__(self, law: Law, frame: Sequence[Sequence[Real]]) -> None:
        require(isinstance(law, Law), "law", got=type(law).__name__, expected="a Law")
        d = law.dim
        self.law, self.dim, self.bounded = law, d, law.bounded
        rows = [[float(entry) for entry in row] for row in frame]
        square = len(rows) == d and all(len(row) == d for row in rows)
        A = torch.tensor(rows, dtype=torch.float64) if square else torch.zeros(d, d, dtype=torch.float64)
        fine = bool(A.isfinite().all()) and bool((A - A.t()).abs().max() <= 1e-9 * A.abs().max())
        fine = fine and float(torch.linalg.eigvalsh(A)[0]) > 0
        require(fine, "frame", got=rows, expected=f"a symmetric positive definite matrix, shape ({d}, {d})")
        self._frame = tuple(map(tuple, rows))
        self._log_volume = float(torch.linalg.slogdet(A)[1])

    def config(self) -> dict[str, object]:
        """Describe the law and the map."""
        return {"name": "Stretched", "law": self.law.config(), "frame": [list(row) for row in self.frame]}

    @property
    def frame(self) -> Matrix:
        """The map A."""
        return self._frame

    @property
    def length(self) -> float | None:
        """The length of the law."""
        return self.law.length

    @property
    def center(self) -> tuple[float, ...]:
        """The centre of the law."""
        return self.law.center

    def transport(self, u: Tensor) -> Tensor:
        """Draw from the law and apply the map."""
        return stretch(self.law.transport(u), self.center, self.frame)

    def log_density(self, x: Tensor) -> Tensor:
        """Return the log-density: the law's at the point it came from, less the log volume of the map."""
        c, A = x.new_tensor(self.center), x.new_tensor(self.frame)
        return self.law.log_density(c + torch.linalg.solve(A, (x - c).t()).t()) - self._log_volume

    def lebesgue_rule(self) -> Rule | None:
        """Return the law's rule under the map."""
        rule = self.law.lebesgue_rule()
        return None if rule is None else StretchedRule(rule, self.center, self.frame)


def stretch(y: Tensor, center: Sequence[float], frame: Matrix) -> Tensor:
    """Return ``c + A (y - c)``."""
    c = y.new_tensor(center)
    return c + (y - c) @ y.new_tensor(frame).t()


@dataclass(frozen=True)
class StretchedRule:
    """A rule for Lebesgue measure under the map ``x = c + A (y - c)``.

    Example:
        >>> from math import pi
        >>> from nbsvd.measures import PolarRule
        >>> x, w = StretchedRule(PolarRule(1.0), (0.0, 0.0), ((3.0, 0.0), (0.0, 1.0)))(640, None)
        >>> round(float((w * torch.exp(-((x[:, 0] / 3) ** 2) - x[:, 1] ** 2)).mean()) / pi, 6)
        3.0
    """

    rule: Rule
    center: tuple[float, ...]
    frame: Matrix

    def __call__(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return about ``n`` points ``(B, d)`` and mean-convention weights."""
        y, weights = self.rule(n, generator)
        volume = abs(float(torch.linalg.det(torch.tensor(self.frame, dtype=torch.float64))))
        return stretch(y, self.center, self.frame), weights * volume


@dataclass(frozen=True)
class CellsRule:
    r"""A rule around several centres: each point of space is shared out among them by smooth weights.

    .. math:: \int h = \sum_j \int h\, w_j, \qquad \sum_j w_j = 1,

    where w_j is one near centre j and vanishes to fourth order at the others, so that polar coordinates
    around each centre integrate exactly what is singular there, and meet nothing singular elsewhere.

    Arguments:
        centers: the centres, ``(m, d)``.
        rules: one rule for each, around it.

    Source: Becke, A multicenter numerical integration scheme for polyatomic molecules, J. Chem. Phys. 88
    (1988) 2547, with two iterations of the cubic in place of three.

    Example:
        >>> from math import pi
        >>> from nbsvd.measures import PolarRule
        >>> centers = ((-1.0, 0.0), (1.0, 0.0))
        >>> rule = CellsRule(centers, tuple(PolarRule(1.0, c) for c in centers))
        >>> x, w = rule(4000, None)
        >>> near = torch.exp(-(x**2).sum(1)) / (x - x.new_tensor(centers[0])).norm(dim=1)
        >>> round(float((w * near).mean()), 4)  # pi^(3/2) exp(-1/2) I_0(1/2)
        3.5918
    """

    centers: tuple[tuple[Real, ...], ...]
    rules: tuple[Rule, ...]

    def __call__(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return about ``n`` points ``(B, d)`` and mean-convention weights."""
        each = max(1, round(n / len(self.rules)))
        points, weights = [], []
        for j, rule in enumerate(self.rules):
            x, w = rule(each, generator)
            w = w / len(x) * cell_weights(x, self.centers)[:, j]
            kept = w > 0
            points.append(x[kept])
            weights.append(w[kept])
        x, w = torch.cat(points), torch.cat(weights)
        return x, w * len(x)


def cell_weights(x: Tensor, centers: Sequence[Sequence[Real]]) -> Tensor:
    """Return the weights with which points belong to centres, ``(B, m)``, rows adding up to one.

    Example:
        >>> cell_weights(torch.tensor([[0.0], [1.0]]), [[-1.0], [1.0]])
        tensor([[0.5000, 0.5000],
                [0.0000, 1.0000]])
    """
    c = torch.tensor([[float(entry) for entry in row] for row in centers], dtype=x.dtype, device=x.device)
    r = torch.cdist(x, c, compute_mode="donot_use_mm_for_euclid_dist")
    apart = torch.cdist(c, c) + torch.eye(len(c), dtype=x.dtype, device=x.device)
    t = (r[:, :, None] - r[:, None, :]) / apart  # entry i, j: -1 at centre i, 1 at centre j
    for _ in range(2):
        t = 1.5 * t - 0.5 * t**3
    share = (0.5 * (1 - t)).masked_fill(torch.eye(len(c), dtype=torch.bool, device=x.device), 1.0).prod(2)
    total: Tensor = share / share.sum(1, keepdim=True)
    return total
