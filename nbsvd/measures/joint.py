"""Joint laws of two points: all that is known of a conditional expectation."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nbsvd._errors import ArgumentError, nearest, require
from nbsvd.measures.base import Kind, Measure, Nodes, Real, sobol, uniform
from nbsvd.measures.laws import Gaussian
from nbsvd.measures.rules import HERMITE_LIMIT, gauss_hermite

Draw = tuple[Tensor, Tensor, Tensor]  # x, y, weights


class PairLaw(ABC):
    """The joint law of a point x and a point y.

    Attributes:
        first, second: the laws of x and of y, the reference measures of functions of each.
    """

    first: Measure
    second: Measure

    @abstractmethod
    def place(self, n: int, kind: Kind, generator: torch.Generator | None) -> Draw:
        """Return about n pairs: x ``(B, d)``, y ``(B, d')`` and weights ``(B,)`` in mean convention."""

    @abstractmethod
    def swapped(self) -> "PairLaw":
        """Return the law of (y, x)."""

    @abstractmethod
    def symmetrised(self) -> "PairLaw":
        """Return the even mixture of the laws of (x, y) and (y, x)."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of nodes that this law can place."""
        return ("iid",)

    @property
    def training_kind(self) -> Kind:
        """The kind to train on unless the caller asks for another."""
        return "iid"

    @property
    def evaluation_kind(self) -> Kind:
        """The kind to evaluate on: all rows where there are no others."""
        return "quadrature" if "quadrature" in self.kinds else "iid"

    def parts(self) -> "Parts":
        """Return what to train on, to look at meanwhile, and to measure on: a law serves for all."""
        return Parts(self, self, self)

    @property
    def size(self) -> float:
        """How much the pairs weigh beside others, 1 for a law."""
        return 1.0

    def blocks(self, count: int) -> "Sequence[PairLaw] | None":
        """Return the pairs cut in blocks, for error bars; ``None`` where fresh pairs can be drawn."""
        return None

    def nodes(
        self,
        n: int,
        *,
        kind: Kind | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> tuple[Nodes, Nodes]:
        """Place about n pairs: nodes for x and nodes for y, each with the other as ``partner``.

        Arguments:
            n: number of pairs.
            kind: ``"iid"``, or another of ``kinds``; ``None`` takes ``training_kind``.
            generator: source of randomness, needed for all but a rule.
            dtype, device: of points and weights.

        Raises:
            ArgumentError: ``n < 1``, a kind that this law can't place, no generator.
        """
        require(n >= 1, "n", got=n, expected="at least one pair", remedy="Ask for n=1 or more.")
        kind = self.training_kind if kind is None else kind
        nearest("kind", kind, self.kinds)
        if kind != "quadrature" and generator is None:
            raise ArgumentError(
                "generator",
                got=None,
                expected=f"a torch.Generator for {kind} pairs",
                remedy="Pass generator=torch.Generator().manual_seed(0).",
            )
        x, y, weights = (t.to(device=device, dtype=dtype) for t in self.place(n, kind, generator))
        return Nodes(x, weights, kind, partner=y), Nodes(y, weights, kind, partner=x)


@dataclass(frozen=True)
class Parts:
    """The parts of a data set of pairs, or three times a law.

    Arguments:
        train: what steps are taken on.
        check: what reports and early stopping look at.
        test: what values are measured on; no step and no choice has seen it.
    """

    train: PairLaw
    check: PairLaw
    test: PairLaw


class GaussianPair(PairLaw):
    r"""Two normal variables of mean 0 and standard deviation s with correlation rho.

    It is also the law of ``(X_tau, X_0)`` for a stationary Ornstein-Uhlenbeck process, with
    :math:`\rho = e^{-\theta\tau}`.

    Arguments:
        rho: correlation, between -1 and 1.
        s: standard deviation.

    Raises:
        ArgumentError: a correlation out of range, a deviation that is not positive.

    Example:
        >>> x, y = GaussianPair(0.8).nodes(4000, kind="quadrature")
        >>> round(float(x.integrate(x.x[:, 0] * y.x[:, 0])), 6)
        0.8
    """

    def __init__(self, rho: Real, s: Real = 1.0) -> None:
        require(-1 < rho < 1, "rho", got=repr(rho), expected="a correlation between -1 and 1, ends excluded")
        self.rho, self.s = float(rho), float(s)
        self.first: Measure = Gaussian(1, scale=self.s)
        self.second: Measure = self.first

    def config(self) -> dict[str, object]:
        """Describe the law."""
        return {"name": "GaussianPair", "rho": self.rho, "s": self.s}

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """All three; the rule, a grid of few values of x, is for polynomials and not for networks."""
        return ("iid", "sobol", "quadrature")

    @property
    def training_kind(self) -> Kind:
        """Sobol points."""
        return "sobol"

    @property
    def evaluation_kind(self) -> Kind:
        """Sobol points: a network can learn the few values of x of a rule by heart."""
        return "sobol"

    def place(self, n: int, kind: Kind, generator: torch.Generator | None) -> Draw:
        """Return ``x = s z_1`` and ``y = s (rho z_1 + sqrt(1 - rho^2) z_2)``."""
        if kind == "quadrature":
            t, q = gauss_hermite(min(max(2, round(math.sqrt(n))), HERMITE_LIMIT))
            z = torch.stack(torch.meshgrid(t, t, indexing="ij"), -1).reshape(-1, 2)
            weights = len(z) * (q[:, None] * q).reshape(-1)
        else:
            assert generator is not None
            z = torch.special.ndtri(uniform(n, 2, generator) if kind == "iid" else sobol(n, 2, generator))
            weights = torch.ones(n, dtype=torch.float64)
        x = self.s * z[:, :1]
        return x, self.rho * x + self.s * math.sqrt(1 - self.rho**2) * z[:, 1:], weights

    def swapped(self) -> "GaussianPair":
        """Return itself: the law is exchangeable."""
        return self

    def symmetrised(self) -> "GaussianPair":
        """Return itself."""
        return self
