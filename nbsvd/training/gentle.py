"""Heads to start from that bear steps of the usual size, for operators that integrate."""

from dataclasses import replace

from nbsvd.spectrum import pencil, singular_pencil
from nbsvd.spectrum.pencils import with_constant
from nbsvd.training.settings import Settings
from nbsvd.training.start import Start

# Directions of the basis whose share of the largest lies below this are left out; anything from 1e-5 to 1e-2
# ended alike on Volterra and Brownian.
GENTLE = 1e-3
# What it takes to come out ahead of the Ritz solution: shorter runs stay at that, and lose nothing.
STEPS, SECONDS = 1000, 10.0


def long_enough(settings: Settings) -> bool:
    """Tell whether a run is long enough to gain more by learning than it gives away at its start.

    Example:
        >>> long_enough(Settings(steps=5000)), long_enough(Settings(steps=5000, seconds=2.0))
        (True, False)
    """
    steps, seconds = settings.steps, settings.seconds
    return (steps is None or steps >= STEPS) and (seconds is None or seconds >= SECONDS)


def gentle(start: Start, symmetric: bool) -> Start:
    """Return a start from the well-conditioned directions of the basis alone.

    It is worse than the Ritz solution, and a better place to learn from: that one owes its accuracy to large
    coefficients of opposite sign, which a step of the usual size would ruin, and with small steps training
    hardly moves.

    Arguments:
        start: the Ritz solution.
        symmetric: whether one basis serves both sides.
    """
    k = len(start.values) - (start.means is not None)
    if symmetric:
        right = left = pencil(start.fit, k, tolerance=GENTLE)[1]
    else:
        _, right, left = singular_pencil(start.fit, k, tolerance=GENTLE)
    if start.means is not None:
        right, left = with_constant(right, start.means[0]), with_constant(left, start.means[1])
    return replace(start, right=right, left=left)
