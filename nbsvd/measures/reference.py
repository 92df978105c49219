"""Reference measures that are not probability laws: Lebesgue measure and the counting measure."""

from dataclasses import asdict, is_dataclass

import torch
from torch import Tensor

from nbsvd._errors import require
from nbsvd.measures.base import Kind, Measure
from nbsvd.measures.laws import Law
from nbsvd.measures.rules import Rule


class Lebesgue(Measure):
    r"""Lebesgue measure, sampled through a law p and corrected by the weights 1/p.

    .. math:: \int h(x)\,dx = E_{x \sim p}\Big[\frac{h(x)}{p(x)}\Big]

    Arguments:
        law: where the points go. It must be positive wherever the functions are not zero.
        rule: a quadrature rule for Lebesgue measure; the law's own unless given.

    Example:
        >>> from nbsvd.measures import Radial
        >>> nodes = Lebesgue(Radial(2, scale=3.0)).nodes(640)
        >>> f = torch.exp(-nodes.x.norm(dim=1))
        >>> round(float(nodes.integrate(f**2)), 6)  # pi / 2
        1.570796
    """

    def __init__(self, law: Law, *, rule: Rule | None = None) -> None:
        require(
            isinstance(law, Law), "law", got=type(law).__name__, expected="a Law, such as Radial or Uniform"
        )
        self.law, self.dim = law, law.dim
        self._rule = law.lebesgue_rule() if rule is None else rule

    @property
    def unbounded(self) -> bool:
        """Whether the law, and with it the domain, reaches to infinity."""
        return not self.law.bounded

    @property
    def length(self) -> float | None:
        """The length of the law."""
        return self.law.length

    @property
    def center(self) -> tuple[float, ...]:
        """The centre of the law."""
        return self.law.center

    @property
    def frame(self) -> tuple[tuple[float, ...], ...] | None:
        """The shape of the law."""
        return self.law.frame

    @property
    def parts(self) -> tuple[Measure, ...]:
        """The parts of the law."""
        return self.law.parts

    def config(self) -> dict[str, object]:
        """Describe the law and the rule that place the nodes."""
        rule = None if self._rule is None else describe(self._rule)
        return {"name": "Lebesgue", "dim": self.dim, "law": self.law.config(), "rule": rule}

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Quadrature is offered where there is a rule."""
        return ("iid", "sobol") if self._rule is None else ("iid", "sobol", "quadrature")

    @property
    def training_kind(self) -> Kind:
        """The randomly turned rule where there is one, else Sobol points."""
        return "sobol" if self._rule is None else "quadrature"

    def transport(self, u: Tensor) -> Tensor:
        """Draw from the law."""
        return self.law.transport(u)

    def weight(self, x: Tensor) -> Tensor:
        """Return one over the law's density."""
        return torch.exp(-self.law.log_density(x))

    def rule(self, n: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return the quadrature rule's nodes."""
        assert self._rule is not None
        return self._rule(n, generator)


def describe(rule: Rule) -> dict[str, object]:
    """Return name and settings of a quadrature rule as plain data."""
    settings: dict[str, object] = asdict(rule) if is_dataclass(rule) and not isinstance(rule, type) else {}
    settings = {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
    return {"name": getattr(rule, "__name__", type(rule).__name__), **settings}


class Counting(Measure):
    """The counting measure on ``{0, ..., n - 1}``: functions are vectors, integrals are sums.

    Points are integers of shape ``(B, 1)``.

    Example:
        >>> nodes = Counting(4).nodes(4)
        >>> float(nodes.integrate(torch.ones(4, dtype=torch.float64)))
        4.0
    """

    dim = 1

    def __init__(self, n: int) -> None:
        require(n >= 1, "n", got=n, expected="at least one index")
        self.n = n

    def config(self) -> dict[str, object]:
        """Describe the set of indices."""
        return {"name": "Counting", "n": self.n}

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Independent draws of indices, or all of them."""
        return ("iid", "quadrature")

    @property
    def training_kind(self) -> Kind:
        """All indices."""
        return "quadrature"

    def transport(self, u: Tensor) -> Tensor:
        """Draw indices uniformly."""
        return (u * self.n).long().clamp_max(self.n - 1)

    def weight(self, x: Tensor) -> Tensor:
        """Return n: the counting measure has n times the mass of the uniform law."""
        return torch.full((len(x),), float(self.n), dtype=torch.float64, device=x.device)

    def rule(self, n: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return every index once, whatever ``n``."""
        x = torch.arange(self.n)[:, None]
        return x, self.weight(x)
