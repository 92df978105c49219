"""The losses of a run: which nodes a step draws, and what it estimates on them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nbsvd.measures import PairLaw
from nbsvd.measures.base import Measure, Nodes
from nbsvd.objectives import Remembering, SpIN, choose, lora_svd
from nbsvd.operators import Operator
from nbsvd.spectrum.moments import applied
from nbsvd.training.choices import Choices
from nbsvd.training.compiled import Compiled
from nbsvd.training.draws import Drawn, batches, pair_batches
from nbsvd.training.models import Pair
from nbsvd.training.objective import Inverse, make_score
from nbsvd.training.settings import Settings

Estimate = Callable[..., Tensor]  # of the pair of functions and one or two sets of nodes, to a scalar


def make_loss(
    operator: Operator,
    measures: tuple[Measure, Measure],
    train: PairLaw | None,
    pair: Pair,
    choices: Choices,
    settings: Settings,
    *,
    shift: float,
    inverse: Inverse | None,
    generator: torch.Generator,
) -> Drawn:
    """Return the function that draws nodes and estimates the objective on them.

    Arguments:
        operator: T, shifted.
        measures: of the right functions and of the left ones.
        train: of a conditional expectation, the pairs to train on.
        pair: the functions.
        choices, settings: objective, nesting, batch and kind of nodes.
        shift: by how much the operator is shifted.
        inverse: in place of the operator, for ``"omm"``.
        generator: source of the nodes' randomness.
    """
    where: dict[str, Any] = {"dtype": choices.dtype, "device": choices.device}
    kind = settings.kind or (train or measures[0]).training_kind
    moment = choose(kind, settings.moment, size=settings.batch)
    fixed = kind != "quadrature"
    memory: nn.Module | None = None
    if train is not None:
        estimate = of_pairs(choices, moment, shift)
        stream = pair_batches(train, settings.batch, kind, generator, **where)
        return Drawn(_compiled(estimate, choices, settings, kind), lambda: next(stream), fixed=fixed)
    if operator.self_adjoint:
        estimate, memory = one_sided(operator, pair, choices, settings, moment, inverse)
    else:
        estimate = two_sided(operator, choices)
    sides = (measures[0],) if operator.self_adjoint and operator.local else measures
    supply = [batches(m, settings.batch, settings.kind or m.training_kind, generator, **where) for m in sides]
    return Drawn(
        _compiled(estimate, choices, settings, kind, memory),
        lambda: tuple(next(nodes) for nodes in supply),
        fixed=fixed,
    )


def one_sided(
    operator: Operator,
    pair: Pair,
    choices: Choices,
    settings: Settings,
    moment: str,
    inverse: Inverse | None,
) -> tuple[Estimate, nn.Module | None]:
    """Return the estimate for a self-adjoint operator, and the module that remembers, if there is one."""
    score = make_score(choices.objective, choices.nesting, settings, moment, pair.right, inverse)
    memory = score if isinstance(score, Remembering) else None
    if isinstance(score, Remembering):
        if choices.device.type == "mps":  # which has no float64
            score.float()
        score.to(choices.device)
    if isinstance(score, SpIN):  # the model keeps what its functions have to be combined with
        pair.mix = score.mixture

    def estimate(pair: Pair, nodes: Nodes, inner: Nodes | None = None) -> Tensor:
        f, Tf = operator.evaluate(pair.right, nodes, inner)
        return score(f, Tf, weights=nodes.weights)

    return estimate, memory


def two_sided(operator: Operator, choices: Choices) -> Estimate:
    """Return the estimate for an operator with functions of their own on both sides."""

    def estimate(pair: Pair, x: Nodes, y: Nodes) -> Tensor:
        f, g = pair.right(x.x), pair.left(y.x)
        Tf = applied(operator, pair.right, f, x, y.x)
        return lora_svd(f, g, Tf, choices.nesting, weights=(x.weights, y.weights))

    return estimate


def of_pairs(choices: Choices, moment: str, shift: float) -> Estimate:
    r"""Return the estimate for a conditional expectation, from pairs.

    The value of f at x is, at its partner y, an unbiased estimate of ``T f``; the products of both sides'
    Gram matrices come from the same pairs, so that the U-statistic leaves out their diagonal. Of a shifted
    operator the constant has the value ``1 + shift``, and takes that size: a smaller one would leave the rest
    to the components after it.
    """

    def estimate(pair: Pair, x: Nodes, y: Nodes) -> Tensor:
        f, g = pair.right(x.x), pair.left(y.x)
        image = f
        if shift:  # of a reversible law alone, where g is f at y
            size = torch.ones_like(f[:1])
            size[:, 0] = (1 + shift) ** 0.5
            f, g = size * f, size * g
            image = f + shift * g
        weights = (x.weights, y.weights)
        return lora_svd(f, g, image, choices.nesting, weights=weights, paired=True, moment=moment)

    return estimate


def _compiled(
    estimate: Estimate, choices: Choices, settings: Settings, kind: str, memory: nn.Module | None = None
) -> Estimate:
    """Return the estimate, compiled if that was asked for."""
    if not settings.compile:
        return estimate
    whole = settings.optimizer != "soap" and kind != "quadrature"  # see Captured
    graphs = choices.device.type == "cuda" and not whole
    return Compiled(estimate, "reduce-overhead" if graphs else "default", memory)
