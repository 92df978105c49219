"""A decay with its own centre and axes, which training may move, turn and stretch."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nbsvd._errors import require
from nbsvd.functions.ansatz import Factor
from nbsvd.functions.jet import Jet, Real, deriving, dtype_name, hold


class Envelope(Factor):
    r"""Decay along ellipsoids: ``exp(-a ((1 + u)^(p/2) - 1))`` with ``u = |M (A^{-1} (x - c) - t)|^2``.

    The power p is 1 for exponential decay, smooth at the centre, and 2 for a Gaussian, which with ``a = 1/2``
    is ``exp(-u/2)``. M starts as the identity and t as zero; with ``learned`` they are parameters. Both are
    free of units, so that training does not depend on the unit of length.

    The ground state of coupled oscillators, in any number of dimensions, is exactly such a Gaussian.

    Arguments:
        axes: A, ``(d, d)``, invertible, in the units of x: it takes the unit ball to the ellipsoid on which
            the factor has fallen to ``exp(-a (2^(p/2) - 1))``.
        center: c, the origin unless given.
        power: p, a positive number; it is not learned.
        strength: a, ``1/p`` unless given.
        learned: whether M and t are parameters.

    Raises:
        ArgumentError: axes that are no invertible matrix, a centre of another dimension, a power or strength
            that is not positive.

    Example:
        >>> tilted = Envelope([[2.0, 1.0], [0.0, 1.0]], power=2)
        >>> tilted(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))  # A^{-1} x = (1, 0) at the second point
        tensor([[1.0000],
                [0.6065]])
    """

    inverse: Tensor
    center: Tensor
    matrix: Tensor
    offset: Tensor

    def __init__(
        self,
        axes: Sequence[Sequence[Real]],
        *,
        center: Sequence[Real] | None = None,
        power: Real = 2.0,
        strength: Real | None = None,
        learned: bool = False,
    ) -> None:
        super().__init__()
        rows = [[float(entry) for entry in row] for row in axes]
        d = len(rows)
        square = d > 0 and all(len(row) == d for row in rows)
        A = torch.tensor(rows, dtype=torch.float64) if square else torch.zeros(1, 1, dtype=torch.float64)
        fine = square and bool(A.isfinite().all()) and float(torch.linalg.cond(A)) < 1e12
        require(fine, "axes", got=rows, expected="an invertible matrix, its columns lengths along each axis")
        c = [0.0] * d if center is None else [float(entry) for entry in center]
        require(
            len(c) == d and all(map(math.isfinite, c)), "center", got=c, expected=f"{d} finite coordinates"
        )
        strength = 1 / power if strength is None and power > 0 else strength
        for name, number in (("power", power), ("strength", strength)):
            fine = number is not None and math.isfinite(number) and number > 0
            require(fine, name, got=number, expected="a positive number")
        self.axes, self.power, self.strength, self.learned = rows, float(power), float(strength or 0), learned
        self.register_buffer("inverse", torch.linalg.inv(A).float())
        self.register_buffer("center", torch.tensor(c))
        hold(self, "matrix", torch.eye(d), learned)
        hold(self, "offset", torch.zeros(d), learned)

    @property
    def dim(self) -> int:
        """Dimension of a point."""
        return len(self.center)

    def config(self) -> dict[str, Any]:
        """Describe the factor; M and t come with the saved state."""
        return {
            "name": "Envelope",
            "dtype": dtype_name(self.center),
            "axes": self.axes,
            "center": self.center.tolist(),
            "power": self.power,
            "strength": self.strength,
            "learned": self.learned,
        }

    def _coordinates(self, x: Tensor) -> Tensor:
        """Return ``M (A^{-1} (x - c) - t)``."""
        return ((x - self.center) @ self.inverse.t() - self.offset) @ self.matrix.t()

    def forward(self, x: Float[Tensor, "B d"]) -> Float[Tensor, "B 1"]:
        """Return the factor."""
        w = 1 + (self._coordinates(x) ** 2).sum(1, keepdim=True)
        return torch.exp(self.strength * (1 - w ** (self.power / 2)))

    def jet(self, x: Float[Tensor, "B d"], *, live: bool = False) -> Jet:
        """Return the factor's jet."""
        y, half = self._coordinates(x), self.power / 2
        w = 1 + (y * y).sum(1, keepdim=True)
        with deriving(live):
            G = self.matrix @ self.inverse
            laplacian = (2 * (G * G).sum()).expand(1, len(x), 1)
            derivatives = torch.cat([2 * (y @ G).t().unsqueeze(-1), laplacian])
        q = Jet(w, derivatives, live)
        root = w**half
        value = torch.exp(self.strength * (1 - root))
        with q.derive():
            slope = -self.strength * half * root / w
            first, second = value * slope, value * (slope * slope + slope * (half - 1) / w)
        return q.map(value, first, second)
