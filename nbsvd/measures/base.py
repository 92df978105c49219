"""Nodes (points with weights) and what every measure must answer."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from nbsvd._errors import ArgumentError, nearest, require

Kind = Literal["iid", "sobol", "quadrature"]
# beartype, which checks the annotations in tests, does not take an int for a float; we do.
Real = float | int
KINDS = ("iid", "sobol", "quadrature")
MACHINE_WORD = 2**31 - 1


@dataclass(frozen=True)
class Nodes:
    r"""Points and weights: the integral of h over the reference measure is about ``(1/B) sum_b w_b h(x_b)``.

    For independent draws from a law with density p, ``w = 1/p`` makes that estimate unbiased. A quadrature
    rule ``sum_b q_b h(x_b)`` has ``w = B q`` in the same convention.

    Arguments:
        x: points, ``(B, d)``.
        weights: positive weights, ``(B,)``.
        kind: how the points came about: ``"iid"`` draws, scrambled ``"sobol"`` points, or a ``"quadrature"``
            rule. It decides which estimate of a squared inner product is the right one.
        partner: for nodes that come in pairs, the other point of each, ``(B, d')``; else ``None``.

    Example:
        >>> nodes = Nodes(torch.tensor([[0.25], [0.75]]), torch.ones(2), "quadrature")
        >>> float(nodes.integrate(nodes.x[:, 0]))
        0.5
    """

    x: Tensor
    weights: Tensor
    kind: Kind
    partner: Tensor | None = None

    def __post_init__(self) -> None:
        require(
            self.x.ndim == 2,
            "points",
            got=f"shape {tuple(self.x.shape)}",
            expected="shape (B, d)",
            remedy="Add the missing axis: x[:, None] for points on a line.",
        )
        require(
            self.weights.shape == self.x.shape[:1],
            "weights",
            got=f"shape {tuple(self.weights.shape)} for {len(self.x)} points",
            expected="one weight for each point, shape (B,)",
            remedy="Where all weigh the same, give torch.ones(len(x)).",
        )
        if self.weights.device.type == "cpu":  # a look on another device would wait for it
            require(
                ((self.weights > 0) & (self.weights < math.inf)).all(),
                "weights",
                got="zero, negative, infinite or NaN entries",
                expected="positive numbers",
                remedy="Leave out nodes without weight.",
            )

    def __len__(self) -> int:
        return len(self.x)

    def integrate(self, h: Tensor) -> Tensor:
        """Return ``(1/B) sum_b w_b h_b`` over the first axis of ``h``."""
        total: Tensor = torch.tensordot(self.weights, h, dims=([0], [0]))
        return total / len(self.x)

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> "Nodes":
        """Return the same nodes with another dtype or on another device (integer points stay integer)."""
        x = self.x.to(device=device, dtype=dtype if self.x.is_floating_point() else None)
        return replace(self, x=x, weights=self.weights.to(device=device, dtype=dtype))


class Measure(ABC):
    """A reference measure on R^d together with a way to place nodes for it.

    A subclass gives ``dim``, ``transport`` (uniform numbers to points) and ``weight`` (the density of the
    reference measure over that of the transported points); also a quadrature ``rule`` where there is one.
    """

    dim: int

    @abstractmethod
    def transport(self, u: Float[Tensor, "B d"]) -> Tensor:
        """Map uniform numbers in (0, 1)^d to points ``(B, d)`` that follow the sampling law."""

    @abstractmethod
    def weight(self, x: Tensor) -> Float[Tensor, " B"]:
        """Return the reference density over the sampling density at ``x``, ``(B,)``."""

    @property
    def length(self) -> float | None:
        """The length on which the sampling law lives, in the units of x; ``None`` where there is none."""
        return None

    @property
    def unbounded(self) -> bool:
        """Whether the measure is infinite, so that functions on it must decay."""
        return False

    @property
    def center(self) -> tuple[float, ...]:
        """The point around which the sampling law lies."""
        return (0.0,) * self.dim

    @property
    def frame(self) -> tuple[tuple[float, ...], ...] | None:
        """The linear map that gives the sampling law its shape; ``None`` for a round one."""
        return None

    @property
    def parts(self) -> tuple["Measure", ...]:
        """The laws that a mixture is made of; none for any other."""
        return ()

    def config(self) -> dict[str, object]:
        """Describe the measure by plain data, for reports; equal measures have equal descriptions."""
        return {"name": type(self).__name__, "dim": self.dim}

    def same_as(self, other: "Measure") -> bool:
        """Tell whether another measure is this one: the same object, or one of the same full description."""
        described = type(self) is type(other) and type(self).config is not Measure.config
        return self is other or (described and self.config() == other.config())

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of nodes that this measure can place."""
        return ("iid", "sobol")

    @property
    def training_kind(self) -> Kind:
        """The kind to train on unless the caller asks for another."""
        return "sobol"

    @property
    def evaluation_kind(self) -> Kind:
        """The kind to evaluate on: the most accurate one."""
        return next((kind for kind in ("quadrature", "sobol") if kind in self.kinds), "iid")

    def rule(self, n: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return points and weights of a quadrature rule of about ``n`` nodes, weights in mean convention."""
        raise NotImplementedError

    def nodes(
        self,
        n: int,
        *,
        kind: Kind | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Nodes:
        """Place about ``n`` nodes.

        Arguments:
            n: number of nodes; a quadrature rule returns about as many as its shape allows, less those whose
                weight is zero in ``dtype``.
            kind: ``"iid"``, ``"sobol"`` or ``"quadrature"``; ``None`` takes ``training_kind``.
            generator: source of randomness. Needed for ``"iid"`` and ``"sobol"``; a quadrature rule is turned
                and stretched at random with it, and stands still without.
            dtype: floating dtype of points and weights. Nodes are computed in float64 first.
            device: where the nodes go.

        Raises:
            ArgumentError: ``n < 1``, an unknown kind, or a kind that this measure can't place.
        """
        require(n >= 1, "n", got=n, expected="at least one node", remedy="Ask for n=1 or more.")
        kind = self.training_kind if kind is None else kind
        nearest("kind", kind, KINDS)
        require(
            kind in self.kinds,
            "kind",
            got=repr(kind),
            expected="one of " + ", ".join(map(repr, self.kinds)) + f" for {type(self).__name__}",
            remedy="There is no quadrature rule for this measure; Sobol points serve in its place.",
        )
        limits = torch.finfo(dtype)
        if kind == "quadrature":
            x, weights = self.rule(n, generator)
            require(
                not bool((weights < 0).any()),
                "rule",
                got="negative weights",
                expected="a rule whose weights are positive: Gram matrices on its nodes must be, too",
                remedy="Sum over a sparse rule's nodes yourself: x, w = rule(n); (w * h(x)).mean().",
            )
            kept = weights >= limits.tiny
            if not bool(kept.all()):
                x, weights = x[kept], weights[kept] * (int(kept.sum()) / len(kept))
        else:
            if generator is None:
                raise ArgumentError(
                    "generator",
                    got=None,
                    expected=f"a torch.Generator for {kind} nodes",
                    remedy="Pass generator=torch.Generator().manual_seed(0).",
                )
            u = uniform(n, self.dim, generator) if kind == "iid" else sobol(n, self.dim, generator)
            x = self.transport(u)
            # far out 1/p may overflow, or its square, which the U-statistic forms: functions vanish there, so
            # that the bound costs nothing but keeps inf * 0 out
            weights = self.weight(x).clamp(limits.tiny, math.sqrt(limits.max))
        return Nodes(x, weights, kind).to(dtype=dtype, device=device)


def uniform(n: int, dim: int, generator: torch.Generator) -> Float[Tensor, "n dim"]:
    """Draw independent uniform numbers, float64, strictly inside (0, 1)."""
    u = torch.rand(n, dim, generator=generator, dtype=torch.float64, device=generator.device).cpu()
    return u.clamp(1e-15, 1 - 1e-15)


def sobol(n: int, dim: int, generator: torch.Generator) -> Float[Tensor, "n dim"]:
    """Draw the first ``n`` points of a freshly scrambled Sobol sequence, float64, strictly inside (0, 1)."""
    seed = int(torch.randint(MACHINE_WORD, (1,), generator=generator, device=generator.device))
    engine = torch.quasirandom.SobolEngine(dim, scramble=True, seed=seed)
    return engine.draw(n, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
