"""What happened during training."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class History:
    """Loss and values against step and seconds, one entry for each report of the trainer.

    Arguments:
        step: number of steps done.
        seconds: seconds since training began, warm start and compilation included.
        loss: the loss, averaged over the steps since the last report, of the shifted operator; of a run by
            variable projection the objective of the last confirmed state, on independent nodes.
        values: values of the averaged functions on nodes independent of training, unshifted, ``(k,)`` each;
            of a run by variable projection those of the last confirmed state.
        optimum: the least possible loss where the exact values are known, else ``None``.
        stopped: why training ended: ``"steps"``, ``"seconds"``, ``"interrupted"``, ``"converged"``,
            ``"contradicted"``, ``"callback"`` or ``"diverged"``.

    Example:
        >>> history = History(step=[0], seconds=[0.0], loss=[1.0], values=[[0.5]])
        >>> history.arrays()["values"].shape
        torch.Size([1, 1])
    """

    step: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    values: list[list[float]] = field(default_factory=list)
    optimum: float | None = None
    stopped: str = ""

    def arrays(self) -> dict[str, Tensor]:
        """Return the entries as float64 tensors, for saving and plotting."""
        return {
            name: torch.tensor(getattr(self, name), dtype=torch.float64)
            for name in ("step", "seconds", "loss", "values")
        }
