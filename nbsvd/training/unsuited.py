"""What goes together: choices against the method, and against the nodes that a problem can place."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch

from nbsvd._errors import ArgumentError, nearest, require
from nbsvd.measures import Measure, PairLaw, Pairs
from nbsvd.measures.base import KINDS
from nbsvd.objectives import choose
from nbsvd.problems import Problem
from nbsvd.training.settings import Settings, whole_number

LEAVE_OUT = "Leave it out, or use method='sgd'."
UNCHOSEN = {f.name: f.default for f in fields(Settings)}


def check_varpro(
    matrix: bool, objective: str, nesting: str, preset: str | None, warm_start: str | None, dtype: Any
) -> None:
    """Refuse what can't go with heads in closed form."""
    for argument, wrong, got, expected in (
        ("problem", matrix, "a matrix, whose vectors are all head", "an operator on functions"),
        ("objective", objective != "lora", repr(objective), "'lora', the objective whose head is eliminated"),
        (
            "nesting",
            nesting == "sequential",
            "'sequential', which has no objective to eliminate a head from",
            "'joint' or 'none'",
        ),
        ("preset", preset is not None, repr(preset), "none: the paper trains by stochastic gradients"),
        ("warm_start", warm_start is None, "None", "'ritz': the heads are Ritz solutions throughout"),
        ("dtype", dtype not in (None, torch.float64), str(dtype), "torch.float64"),
    ):
        remedy = "Use eigsh or svds with method='sgd'." if matrix else LEAVE_OUT
        require(not wrong, argument, got=f"{got}, with method='varpro'", expected=expected, remedy=remedy)


def check_trunk(k: int, network: Any) -> None:
    """Refuse a network whose heads have no basis in common, or one too small, for heads in closed form."""
    if not isinstance(network, Mapping):
        return
    require(
        not network.get("disjoint", False),
        "network",
        got="{'disjoint': True}, with method='varpro'",
        expected="one trunk, whose functions all heads combine",
        remedy=LEAVE_OUT,
    )
    widths = network.get("widths", ())
    last = whole_number(widths[-1]) if isinstance(widths, Sequence) and len(widths) > 0 else None
    if last is not None:
        require(
            k <= last + 1,
            "k",
            got=f"{k} with {last + 1} functions to combine: the last hidden layer and the constant",
            expected=f"at most {last + 1}",
            remedy="Widen the last hidden layer, best to a few times k: network={'widths': (32, 256)}.",
        )


def check_unused(settings: Settings) -> None:
    """Refuse settings of stochastic gradients, which a quasi-Newton method without batches has no use for."""
    for name in (
        "moment",
        "optimizer",
        "lr",
        "warmup",
        "ema",
        "report_every",
        "decay",
        "form",
        "order",
        "invert",
    ):
        given = getattr(settings, name)
        require(
            given == UNCHOSEN[name],
            name,
            got=f"{given!r}, with method='varpro'",
            expected="none: it belongs to steps of stochastic gradients",
            remedy=LEAVE_OUT,
        )


def check_pairs(problem: Problem, k: int, objective: str) -> None:
    """Refuse what can't go with an operator that is known through pairs alone."""
    if problem.operator.pairs is None:
        return
    require(
        k >= 2,
        "k",
        got=k,
        expected="at least 2",
        remedy="The first component of a conditional expectation is the constant: ask for one more.",
    )
    require(
        problem.ansatz is None,
        "ansatz",
        got=type(problem.ansatz).__name__,
        expected="None for a conditional expectation, whose first function is the constant",
        remedy="Leave it out.",
    )
    require(
        objective == "lora",
        "objective",
        got=f"{objective!r} for pairs",
        expected="'lora', whose products of means have an unbiased form for pairs",
        remedy="Leave it out.",
    )
    train = problem.operator.pairs.parts().train  # refuses too few
    for name, points in (("x", train.x), ("y", train.y)) if isinstance(train, Pairs) else ():
        require(
            bool((points != points[0]).any()),
            "pairs",
            got=f"one and the same point {name} in all pairs",
            expected=f"points {name} that vary",
            remedy="Nothing depends on a constant: all values after the first are zero.",
        )


def check_kinds(problem: Problem, settings: Settings) -> None:
    """Refuse nodes that a measure can't place."""
    for measure in sources(problem):
        kind = settings.kind or measure.training_kind
        if kind in KINDS and kind not in measure.kinds:
            raise ArgumentError(
                "kind",
                got=f"{kind!r} for {type(measure).__name__}",
                expected="one of " + ", ".join(map(repr, measure.kinds)),
                remedy="Leave kind out: the measure then takes the one that suits it.",
            )
        nearest("kind", kind, measure.kinds)


def sources(problem: Problem) -> tuple[Measure | PairLaw, ...]:
    """Return what places the nodes of a problem: the measures of both sides, or one law of pairs."""
    pairs = problem.operator.pairs
    return (problem.measure, problem.left_measure) if pairs is None else (pairs,)


def check_moment(problem: Problem, settings: Settings) -> None:
    """Refuse an estimator that is wrong for the nodes."""
    for measure in sources(problem):
        choose(settings.kind or measure.training_kind, settings.moment, size=settings.batch)
