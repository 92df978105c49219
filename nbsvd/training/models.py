"""The functions of a run: networks scaled to the measure, times what is known of their decay."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from nbsvd.functions import (
    MLP,
    DecayFactor,
    Envelope,
    Factor,
    Features,
    GaussianFactor,
    Joined,
    ProductFactor,
    SumFactor,
    WithFactor,
    from_config,
)
from nbsvd.measures import Measure
from nbsvd.problems import Problem

FEATURE_SCALES = (0.1, 0.4, 1.6)  # in units of the sampling law's length
DECAY_LENGTH = 1.6  # in the same units


class Pair(nn.Module):
    """Right and left functions in one module; the same module twice for an eigenproblem.

    Attributes:
        mix: where what is learned are combinations ``f @ mix`` of the functions, ``(L, L)``; else ``None``.
    """

    mix: torch.Tensor | None

    def __init__(self, right: nn.Module, left: nn.Module) -> None:
        super().__init__()
        self.right = right
        self.twin = left is right
        self.register_buffer("mix", None)
        if not self.twin:
            self.second = left

    @property
    def left(self) -> nn.Module:
        """The left functions."""
        return self.right if self.twin else self.second


def default_network(
    problem: Problem,
    measure: Measure,
    k: int,
    generator: torch.Generator,
    options: Mapping[str, Any],
    *,
    adaptive: bool = False,
) -> nn.Module:
    """Return our network on features scaled to the measure, times the problem's ansatz.

    On an unbounded domain functions must decay: there a problem without an ansatz gets a slow exponential.

    Arguments:
        problem: its operator's singular points become features; its ansatz multiplies the network.
        measure: the measure of this side.
        k: number of components.
        generator: source of the initial weights.
        options: arguments of :class:`~nbsvd.functions.MLP`.
        adaptive: let the lengths of features and ansatz be parameters.
    """
    options = dict(options)
    if "features" not in options:
        options["features"] = default_features(problem, measure, learned=adaptive)
    net = MLP(k, measure.dim, generator=generator, **options)
    ansatz = copy.deepcopy(problem.ansatz) if measure.same_as(problem.measure) else None
    if ansatz is None and measure.unbounded and measure.length is not None:
        ansatz = DecayFactor(DECAY_LENGTH * measure.length, center=measure.center)
    if ansatz is None:
        return net
    return WithFactor(net, adapting(ansatz, measure.dim) if adaptive else ansatz)


def default_features(
    problem: Problem, measure: Measure, *, learned: bool = False
) -> Features | Joined | None:
    """Return features scaled to a measure, with cusps at singular points; none without a length.

    A mixture has features around the centre of each of its laws.
    """
    cusps = problem.operator.singular_points if measure.dim > 1 else ()
    if measure.length is None:
        return None
    parts = [
        Features(
            measure.dim,
            scales=[s * part.length for s in FEATURE_SCALES],
            center=part.center,
            frame=part.frame,
            cusps=cusps if i == 0 else (),
            learned=learned,
        )
        for i, part in enumerate(measure.parts[::-1] or (measure,))
        if part.length is not None
    ]
    return parts[0] if len(parts) == 1 else Joined(parts)


def adapting(factor: Factor, dim: int) -> Factor:
    """Return a factor whose lengths are parameters, starting from those that it has.

    A round decay may also move, turn and stretch: it becomes an :class:`~nbsvd.functions.Envelope`. A factor
    of the user's own class is returned as it is.

    Arguments:
        factor: what a problem declares.
        dim: dimension of a point.

    Example:
        >>> free = adapting(DecayFactor(2.0), 2)
        >>> [name for name, _ in free.named_parameters()]
        ['matrix', 'offset']
        >>> x = torch.ones(1, 2)
        >>> bool((free(x) - DecayFactor(2.0)(x)).abs() < 1e-7)
        True
    """
    if type(factor) is ProductFactor or type(factor) is SumFactor:
        return type(factor)([adapting(part, dim) for part in factor.factors if isinstance(part, Factor)])
    if type(factor) in (DecayFactor, GaussianFactor):
        return _envelope(factor, dim)
    try:
        made = from_config(_learned(factor.config()))
    except (NotImplementedError, ValueError):
        return factor
    if type(made) is not type(factor):
        return factor
    made.load_state_dict(factor.state_dict())
    assert isinstance(made, Factor)
    return made


def _envelope(factor: Factor, dim: int) -> Envelope:
    """Return a round decay as one that is free."""
    config: Any = factor.config()
    gaussian = isinstance(factor, GaussianFactor)
    length = config["scale"] if gaussian else config["smooth"]
    made = Envelope(
        [[length if i == j else 0.0 for j in range(dim)] for i in range(dim)],
        center=config["center"],
        power=2.0 if gaussian else 1.0,
        strength=0.5 if gaussian else length / config["length"],
        learned=True,
    )
    return made.to(next(factor.buffers(), torch.empty(0)).dtype)


def _learned(config: Any) -> Any:
    if isinstance(config, Mapping):
        return {key: True if key == "learned" else _learned(value) for key, value in config.items()}
    if isinstance(config, list):
        return [_learned(entry) for entry in config]
    return config
