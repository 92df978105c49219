"""Settings of a training run, and the presets."""

import math
import operator
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from nbsvd._errors import nearest, require
from nbsvd.measures import Kind
from nbsvd.training.optimizers import OPTIMIZERS

BATCH = 320
SPECTRAL = ("log", "lora", "sum")
FORMS = ("unbiased", "original")
# What each number must be, and what to do where it is not.
COUNTS = {
    "steps": (0, "For the untrained Ritz solution alone use steps=0; for no limit leave it out."),
    "batch_size": (1, "Leave it out for the default."),
    "warmup": (0, "Use warmup=0 for none."),
    "report_every": (1, "Use report_every=1 for a report at every step."),
    "order": (1, "Leave it out for 1, the classical orbital minimisation."),
}
POSITIVE = {
    "seconds": ("a positive number of seconds", "For the untrained Ritz solution alone use steps=0."),
    "lr": ("a positive learning rate", "Leave it out for the default, or try lr=1e-3."),
}


def whole_number(number: object) -> int | None:
    """Return an integer of any kind, NumPy's too, as an ``int``; ``None`` for anything else, a bool too.

    Example:
        >>> whole_number(3), whole_number(3.0), whole_number(True)
        (3, None, None)
    """
    if isinstance(number, bool):
        return None
    try:
        return operator.index(number)  # type: ignore[arg-type]
    except TypeError:
        return None


def _is_real(number: object) -> bool:
    return isinstance(number, Real) and not isinstance(number, bool)


@dataclass(frozen=True)
class Settings:
    """What a training run needs to know besides the problem.

    Arguments:
        steps: number of steps, or ``None``.
        seconds: time limit, or ``None``; with both, whichever comes first ends the run.
        batch_size: number of nodes of one step, 320 unless given; with ``method="varpro"`` of the first
            round, chosen by the dimension unless given.
        kind: kind of nodes; the measure's own choice if ``None``.
        moment: how squared inner products are estimated; the right one for the kind if ``None``.
        optimizer: ``"soap"``, ``"adam"`` or ``"rmsprop"``.
        lr: peak learning rate; ``None`` takes 1e-2 from random heads and, after a Ritz start, 3e-3 for an
            unbounded operator; for a kernel or a data set of pairs 1e-2 in runs of 1000 steps and 10 seconds
            or more, which then start from the well-conditioned part of the Ritz solution; for any other
            bounded operator, and in shorter runs, 3e-4.
        warmup: steps of linear increase of the learning rate, before its cosine decay to zero.
        ema: decay of the averaged parameters, which are what is evaluated.
        report_every: steps between two reports (loss, values, progress, callbacks).
        network: arguments of the default network.
        spectral: what ``method="varpro"`` maximises: ``"log"`` (unless given), the sum of the logarithms of
            the Ritz values; ``"lora"``, their squares with the weights of the nesting, which is NestedLoRA
            with the head eliminated; ``"sum"``, the values.
        decay: for ``objective="spin"`` or ``"neuralef"``, weight of a batch in the running averages. Unless
            given 0.1 for NeuralEF; for SpIN 0.01 on points at random, and 1 on other nodes, where sums are
            exact and a memory only lags.
        form: ``"unbiased"`` (unless given) or ``"original"``, for ``objective="neuralef"``.
        order: half the power in ``objective="omm"``, 1 unless given.
        invert: for ``objective="omm"``, ``True`` for the operator ``(c - T)^-1`` in the place of T, or the
            number c, above all values of T; see :func:`nbsvd.omm`.
        compile: whether torch compiles the step of stochastic gradients, which takes a while and is
            counted in ``seconds``. It needs a C++ compiler; without one a warning says so, and training goes
            on uncompiled. On CUDA a whole step is captured as one graph, replayed at every step (Adam and
            RMSProp on points drawn at random), otherwise its two passes; not measured on a GPU yet. Products
            stay in float32: what rounding to TF32 does to ``T f`` is the same at every step, and stays.

    Raises:
        ArgumentError: numbers out of range, neither steps nor seconds, an unknown optimizer or spectral, a
            compile that is neither True nor False.

    Example:
        >>> Settings(steps=100).fraction(50, 1.0)
        0.5
    """

    steps: int | None = None
    seconds: float | None = None
    batch_size: int | None = None
    kind: Kind | None = None
    moment: str | None = None
    optimizer: str = "soap"
    lr: float | None = None
    warmup: int = 100
    ema: float = 0.99
    report_every: int = 100
    network: Mapping[str, Any] = field(default_factory=dict)
    spectral: str | None = None
    decay: float | None = None
    form: str | None = None
    order: int | None = None
    invert: bool | float | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        nearest("optimizer", self.optimizer, OPTIMIZERS)
        if self.spectral is not None:
            nearest("spectral", self.spectral, SPECTRAL)
        require(
            self.steps is not None or self.seconds is not None,
            "steps, seconds",
            got="neither",
            expected="at least one of them",
            remedy="Say when to stop: steps=1000, or seconds=60.",
        )
        for name, (least, remedy) in COUNTS.items():
            if name in ("steps", "batch_size", "order") and getattr(self, name) is None:
                continue
            count = whole_number(getattr(self, name))
            fine = count is not None and count >= least
            expected = f"an integer, at least {least}"
            require(fine, name, got=repr(getattr(self, name)), expected=expected, remedy=remedy)
            object.__setattr__(self, name, count)
        for name, (expected, remedy) in POSITIVE.items():
            number = getattr(self, name)
            fine = number is None or (_is_real(number) and 0 < number < math.inf)
            require(fine, name, got=repr(number), expected=expected, remedy=remedy)
        if self.form is not None:
            nearest("form", self.form, FORMS)
        require(
            self.decay is None or (_is_real(self.decay) and 0 < self.decay <= 1),
            "decay",
            got=repr(self.decay),
            expected="a number above 0, at most 1",
            remedy="It is the weight of the present batch in the running averages; 1 forgets all others.",
        )
        require(
            self.invert is None or isinstance(self.invert, bool) or _is_real(self.invert),
            "invert",
            got=repr(self.invert),
            expected="True, or a number above all values of the operator",
            remedy="invert=True finds one.",
        )
        require(
            isinstance(self.compile, bool),
            "compile",
            got=repr(self.compile),
            expected="True or False",
        )
        require(
            _is_real(self.ema) and 0 <= self.ema < 1,
            "ema",
            got=repr(self.ema),
            expected="a number, at least 0 and below 1",
            remedy="Use 0.99; ema=0 takes the parameters of the last step alone.",
        )

    @property
    def batch(self) -> int:
        """Number of nodes of one step of stochastic gradients."""
        return BATCH if self.batch_size is None else self.batch_size

    def fraction(self, step: int, seconds: float) -> float:
        """Return how much of the run is done, from 0 to 1, by the limit that is nearer."""
        by_steps = 0.0 if self.steps is None else step / self.steps if self.steps else 1.0
        by_seconds = 0.0 if self.seconds is None else seconds / self.seconds
        return min(1.0, max(by_steps, by_seconds))

    def late(self, seconds: float) -> bool:
        """Tell whether the time is up."""
        return self.seconds is not None and seconds >= self.seconds

    def schedule(self, step: int, seconds: float) -> float:
        """Return the factor of the learning rate: linear warm-up, then a cosine to zero over the run."""
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return warm * 0.5 * (1 + math.cos(math.pi * self.fraction(step, seconds)))


class Timed:
    """A run that knows how far it is."""

    settings: Settings
    began: float
    step: int

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self.began

    @property
    def fraction(self) -> float:
        """How much of the run is done, from 0 to 1."""
        return self.settings.fraction(self.step, self.seconds)


PRESETS: dict[str, Settings] = {
    # Ryu et al., section 4: nine disjoint 128-128-128 softplus networks on bare coordinates, RMSProp with a
    # cosine, averaged parameters, 5e5 steps on 128 independent points. The exact Laplacian replaces finite
    # differences.
    "paper": Settings(
        steps=500_000,
        batch_size=128,
        kind="iid",
        optimizer="rmsprop",
        lr=1e-3,
        warmup=0,
        ema=0.995,
        report_every=1000,
        network={
            "widths": (128, 128, 128),
            "activation": "softplus",
            "features": None,
            "weight_gain": 1.0,
            "bias_gain": 1.0,
        },
    ),
}
