"""The objectives of a run: which there are, what each asks of an operator, and all under one call."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nbsvd._errors import ArgumentError, nearest, require
from nbsvd.exact import lora_optimum
from nbsvd.objectives import Nesting, NeuralEF, SpIN, lora_evd, omm
from nbsvd.operators import Operator
from nbsvd.training.settings import Settings

FLOOR = 1e-3  # share of the largest value that a component starts with at least
Score = Callable[..., Tensor]  # of f, Tf and weights=, to a scalar

# Which settings belong to which objective.
OBJECTIVES: dict[str, tuple[str, ...]] = {
    "lora": ("moment",),
    "omm": ("moment", "order", "invert"),
    "spin": ("decay",),
    "neuralef": ("moment", "decay", "form"),
}
ORDERED = ("spin", "neuralef")  # whose components are ordered by construction, each by itself
SIDES = "Use objective='lora', which has functions of their own for both sides; or the operator T* T."
INVERSE = (
    "invert=True works on the bounded, positive (c - T) to the power -1 instead; or use objective='lora'."
)


def check_objective(objective: str, operator: Operator, nesting: Nesting, settings: Settings) -> None:
    """Refuse an objective that the operator does not suit, and settings of another objective.

    Raises:
        ArgumentError: says why, and what to use instead.
    """
    nearest("objective", objective, OBJECTIVES)
    for name in dict.fromkeys(name for names in OBJECTIVES.values() for name in names):
        owners = " or ".join(repr(other) for other, names in OBJECTIVES.items() if name in names)
        require(
            getattr(settings, name) is None or name in OBJECTIVES[objective],
            name,
            got=f"{getattr(settings, name)!r} with objective={objective!r}",
            expected=f"None: it belongs to objective={owners}",
            remedy="Leave it out.",
        )
    kind = type(operator).__name__
    if objective in ORDERED:
        require(
            operator.self_adjoint,
            "objective",
            got=f"{objective!r} for {kind}, which is not self-adjoint",
            expected="a self-adjoint operator: <f|T f> has one family of functions on both sides",
            remedy=SIDES,
        )
        require(
            nesting.kind != "none" and nesting.weights in (None, Nesting.joint(nesting.L).weights),
            "nesting",
            got=f"{nesting.kind!r} with objective={objective!r}"
            + (", with weights" if nesting.kind == "joint" else ""),
            expected="'joint' or 'sequential' without weights, for each component follows a slope of its own",
            remedy="Leave nesting out.",
        )
    require(
        objective != "spin" or settings.batch_size is None or settings.batch_size >= nesting.L,
        "batch_size",
        got=f"{settings.batch_size} with objective='spin' and {nesting.L} components",
        expected=f"at least {nesting.L} points, for a Gram matrix that has an inverse",
        remedy="Use a larger batch.",
    )
    if objective == "omm" and not operator.self_adjoint:
        raise unfit_for_omm(f"{kind}, which is not self-adjoint", SIDES)
    asked = settings.invert is not None and settings.invert is not False  # 0 is a number like any other
    if objective == "omm" and not operator.bounded and not asked:
        raise unfit_for_omm(f"{kind}, which is unbounded below", INVERSE)
    if objective == "neuralef" and settings.form == "original":
        require(
            settings.decay is None,
            "decay",
            got=f"{settings.decay!r} with form='original'",
            expected="None: the original form has no averages",
            remedy="Use form='unbiased'.",
        )
        require(
            settings.moment is None,
            "moment",
            got=f"{settings.moment!r} with form='original'",
            expected="None: the original form takes the plain products of one batch",
            remedy="Use form='unbiased'.",
        )
    require(
        settings.order in (None, 1) or settings.moment in (None, "plain"),
        "moment",
        got=f"{settings.moment!r} with order={settings.order}",
        expected="'plain' for an order above 1",
        remedy="Products of more than two means have no unbiased form here.",
    )
    require(
        not (settings.compile and objective == "spin"),
        "compile",
        got="True with objective='spin'",
        expected="False: SpIN takes derivatives inside its step, which is not compiled",
        remedy="Leave it out.",
    )


def unfit_for_omm(what: str, remedy: str = INVERSE) -> ArgumentError:
    """Return the error for an operator that is not self-adjoint and nonnegative."""
    return ArgumentError(
        "objective",
        got=f"'omm' for {what}",
        expected="a bounded self-adjoint operator with no negative values "
        "(with a single one the objective has no minimum)",
        remedy=remedy,
    )


@dataclass(frozen=True)
class Inverse:
    """Where the operator is replaced by ``(c - T)^-1``, for values of T below c.

    Arguments:
        c: above the largest value.

    Example:
        >>> Inverse(2.0).values(torch.tensor([1.0, 0.0]))
        tensor([1.0000, 0.5000])
    """

    c: float

    def values(self, values: Tensor) -> Tensor:
        """Return the values of the inverse."""
        return 1 / (self.c - values)

    def warn(self, learned: Tensor) -> None:
        """Warn if a value that was learned, hence one of T, is not below c."""
        if bool((learned >= self.c).any()):
            warnings.warn(
                f"invert: c = {self.c:.6g}, but T has a value of at least {float(learned.max()):.6g}, so the "
                "objective has no minimum. Give a larger number.",
                RuntimeWarning,
                stacklevel=4,
            )


def find_inverse(invert: Any, values: Tensor, margin: float, top: float | None = None) -> Inverse | None:
    """Return the inverse that was asked for, with c of its own unless a number is given.

    Arguments:
        invert: ``True``, a number, or nothing.
        values: Ritz values, descending, ``(k,)``. They lie below the exact ones, hence a margin.
        margin: of c above the largest, in units of their spread.
        top: the exact largest value, where it is known.

    Raises:
        ArgumentError: a number that is not above the values.
    """
    if invert is None or invert is False:
        return None
    largest, smallest = float(values[0]), float(values[-1])
    largest = largest if top is None else max(largest, top)
    if invert is True:
        return Inverse(largest + margin * max(largest - smallest, abs(largest), 1e-12))
    require(
        largest < invert < math.inf,
        "invert",
        got=invert,
        expected=f"a number above all values of T, of which one is at least {largest:.6g}",
        remedy="invert=True finds one.",
    )
    return Inverse(float(invert))


def make_score(
    objective: str,
    nesting: Nesting,
    settings: Settings,
    moment: str,
    model: nn.Module,
    inverse: Inverse | None,
) -> Score:
    """Return the objective of a self-adjoint operator as a function of f, Tf and weights.

    Arguments:
        objective: its name.
        nesting: how components are nested, for ``"lora"`` and ``"omm"``.
        settings: its further arguments.
        moment: how products of means are estimated.
        model: the functions, for ``"spin"``.
        inverse: in place of the operator, for ``"omm"``.
    """
    decay = {} if settings.decay is None else {"decay": settings.decay}
    if objective == "spin":
        # Where sums are exact a memory gives nothing, and lags.
        return SpIN(nesting.L, model, **(decay or ({"decay": 1.0} if moment == "plain" else {})))
    if objective == "neuralef":
        return NeuralEF(nesting.L, unbiased=settings.form != "original", moment=moment, **decay)
    order = settings.order or 1

    def score(f: Tensor, Tf: Tensor, *, weights: Tensor | None = None) -> Tensor:
        if objective == "omm":
            used = moment if order == 1 else "plain"
            c = None if inverse is None else inverse.c
            return omm(f, Tf, nesting, weights=weights, moment=used, p=order, invert=c)
        return lora_evd(f, Tf, nesting, weights=weights, moment=moment)

    return score


def told(settings: Settings, inverse: Inverse | None) -> dict[str, Any]:
    """Return the settings of the objective that were given, and c of the inverse, as plain data."""
    given = {name: getattr(settings, name) for name in ("decay", "form", "order")}
    found = {"invert": None if inverse is None else inverse.c}
    return {name: value for name, value in (given | found).items() if value is not None}


def sizes_at_optimum(objective: str, values: Tensor, shift: float, inverse: Inverse | None) -> Tensor:
    """Return the norms of the functions at the optimum, ``(k,)``, from values of the unshifted operator.

    For LoRA ``sqrt(value + shift)``, and no component less than a thousandth of the largest value, so that
    none starts at zero; for OMM one, or ``sqrt(1/(c - value))`` for the inverse; where the objective does not
    see the norm, one.
    """
    if objective == "lora":
        sizes = values + shift
        return sizes.clamp_min(FLOOR * float(sizes[0])).sqrt()
    return torch.ones_like(values) if inverse is None else inverse.values(values).sqrt()


def least_objective(
    objective: str, nesting: Nesting, values: Tensor, shift: float, inverse: Inverse | None
) -> float:
    """Return the least possible value of an objective, for exact values of the unshifted operator."""
    if objective == "lora":
        return float(lora_optimum(values + shift, nesting.vector))
    if inverse is not None:
        return -float((nesting.vector * inverse.values(values)).sum())
    return -float((nesting.vector * (values + shift)).sum())
