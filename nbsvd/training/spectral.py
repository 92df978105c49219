"""Increasing functions of the Ritz values, which variable projection makes as large as it can."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nbsvd.objectives import Nesting

NEAR = 0.02  # values so close to the k-th, as a share of it, are of its level, and are improved with it


def log_objective(values: Tensor, nesting: Nesting) -> tuple[Tensor, Tensor]:
    """Return ``-sum log mu_l`` and its negative slopes: each value counts by its relative error."""
    return -values.log().sum(), 1 / values


def lora_objective(values: Tensor, nesting: Nesting) -> tuple[Tensor, Tensor]:
    """Return ``-sum m_l max(mu_l, 0)^2``, which is the objective itself at the best heads."""
    m = torch.ones_like(values)
    m[: nesting.L] = nesting.vector.to(values)[: len(values)]
    m[nesting.L :] = m[nesting.L - 1 : nesting.L]
    positive = values.clamp_min(0)
    return -(m * positive**2).sum(), 2 * m * positive


def sum_objective(values: Tensor, nesting: Nesting) -> tuple[Tensor, Tensor]:
    """Return ``-sum mu_l``: each value counts by its absolute error."""
    return -values.sum(), torch.ones_like(values)


SPECTRAL = {"log": log_objective, "lora": lora_objective, "sum": sum_objective}


@dataclass(eq=False)
class Objective:
    """The objective with the heads eliminated, as a function of the parameters beneath them.

    Arguments:
        nesting: number of components, and the weights of ``spectral="lora"``.
        spectral: a key of ``SPECTRAL``.
        shift: number added to the values before anything else.
        threshold: the top of the continuous spectrum: values not above it take no part, for raising them
            would make the functions wider without end.
        count: how many values take part; k, more where the k-th has others of its level, fewer where not all
            are above the threshold.
    """

    nesting: Nesting
    spectral: str
    shift: float
    threshold: float = -math.inf
    count: int = field(init=False)

    def __post_init__(self) -> None:
        self.count = self.nesting.L

    def complete(self, values: Tensor) -> None:
        """Let all values of the level of the k-th take part: a level cut in two would be a kink."""
        k = self.nesting.L
        if (above := int((values > self.threshold).sum())) < k:
            self.count = above
            return
        floor = values[k - 1] - NEAR * abs(float(values[k - 1]) + self.shift)
        self.count = k + int((values[k:] > floor).sum())

    def reached(self, values: Tensor) -> tuple[int, float]:
        """Return what judges a run: minus how many of the k are above the threshold; their objective."""
        above = values[: self.nesting.L]
        above = above[above > self.threshold] if bool((above > self.threshold).any()) else above[:1]
        loss = float(SPECTRAL[self.spectral](above + self.shift, self.nesting)[0])
        return -len(above), loss if math.isfinite(loss) else math.inf

    def differ(self, values: Tensor, trusted: Tensor, share: float) -> bool:
        """Tell whether values are others than those of independent nodes, as far as these are eigenvalues."""
        count = max(1, int((trusted > self.threshold).sum()))
        if len(values) < count:
            return True
        apart = (values[:count] - trusted[:count]).abs()
        return not bool((apart <= share * (trusted[:count] + self.shift).abs()).all())

    def of(self, values: Tensor) -> tuple[float, Tensor]:
        """Return objective and negative slopes; not a number where a value is not positive under the log."""
        loss, slopes = SPECTRAL[self.spectral](values[: self.count] + self.shift, self.nesting)
        return float(loss), slopes
