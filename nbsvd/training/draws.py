"""Losses on nodes that are drawn anew at each step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nbsvd.measures import Kind, Measure, Nodes, PairLaw

STOCK = 2**15  # independent points drawn in one call


def batches(
    measure: Measure,
    size: int,
    kind: Kind,
    generator: torch.Generator,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Iterator[Nodes]:
    """Yield fresh nodes for one step after another, without end.

    Independent points are drawn for many steps in one call: to draw 128 takes as long as to draw thousands.
    Sobol points and rules belong together, and are made for each step.

    Arguments:
        measure: what the nodes are for.
        size: number of nodes of one step.
        kind: ``"iid"``, ``"sobol"`` or ``"quadrature"``.
        generator: source of randomness.
        dtype, device: of points and weights.

    Example:
        >>> from nbsvd.measures import Uniform
        >>> steps = batches(Uniform(), 4, "iid", torch.Generator().manual_seed(0))
        >>> len(next(steps)), bool((next(steps).x != next(steps).x).all())
        (4, True)
    """

    def place(n: int) -> tuple[Nodes]:
        return (measure.nodes(n, kind=kind, generator=generator, dtype=dtype, device=device),)

    for (nodes,) in _stocked(place, size, kind):
        yield nodes


def pair_batches(
    law: PairLaw,
    size: int,
    kind: Kind,
    generator: torch.Generator,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[Nodes, ...]]:
    """Yield fresh pairs for one step after another, nodes for x and nodes for y, as :func:`batches` does.

    Example:
        >>> from nbsvd.measures import GaussianPair
        >>> steps = pair_batches(GaussianPair(0.5), 4, "iid", torch.Generator().manual_seed(0))
        >>> [len(side) for side in next(steps)]
        [4, 4]
    """

    def place(n: int) -> tuple[Nodes, Nodes]:
        return law.nodes(n, kind=kind, generator=generator, dtype=dtype, device=device)

    return _stocked(place, size, kind)


def _stocked(place: Callable[[int], tuple[Nodes, ...]], size: int, kind: Kind) -> Iterator[tuple[Nodes, ...]]:
    steps = max(1, STOCK // size) if kind == "iid" else 1
    kept: tuple[Nodes, ...] = ()
    while True:
        many = kept or place(steps * size)
        if kind == "quadrature" and len(many) == 2 and many[0].partner is not None:
            kept = many  # a rule for pairs is never turned
        if steps == 1:
            yield many
            continue
        for i in range(0, steps * size, size):
            yield tuple(Nodes(n.x[i : i + size], n.weights[i : i + size], kind) for n in many)


@dataclass(eq=False)
class Drawn:
    """A loss of a model on nodes that are drawn for each call.

    Arguments:
        estimate: maps the model and one or two sets of nodes to the loss, a scalar.
        draw: places the nodes of one step.
        fixed: whether all steps have the same number of nodes.
        held: nodes that are used instead of drawn ones, see :meth:`refill`.
    """

    estimate: Callable[..., Tensor]
    draw: Callable[[], tuple[Nodes, ...]]
    fixed: bool
    held: tuple[Nodes, ...] = ()

    def __call__(self, model: nn.Module) -> Tensor:
        """Return the loss on fresh nodes, or on those held."""
        return self.estimate(model, *(self.held or self.draw()))

    def refill(self) -> None:
        """Draw new nodes into the memory of those held: a captured graph always reads the same place."""
        fresh = self.draw()
        self.held = self.held or tuple(Nodes(n.x.clone(), n.weights.clone(), n.kind) for n in fresh)
        for old, new in zip(self.held, fresh, strict=True):
            old.x.copy_(new.x)
            old.weights.copy_(new.weights)
