"""The moving average of the parameters."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Average(AveragedModel):
    """Torch's exponential moving average of a model, in one call a step.

    Torch sorts the parameters by device and reads its counter at every update; on a GPU that waits for the
    step to end, and can't be captured. Here the parameters are listed once. The numbers are torch's own.

    Arguments:
        model: what is averaged; its parameters must stay where they are.
        decay: weight of the past.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> average = Average(model, 0.5)
        >>> average.update_parameters(model)  # the first update copies
        >>> with torch.no_grad():
        ...     moved = model.bias.add_(2.0)
        >>> average.update_parameters(model)
        >>> float((model.bias - average.module.bias).detach())
        1.0
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.decay = decay
        self._averaged: list[Tensor] = []
        self._current: list[Tensor] = []

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move the average towards the model; the first call copies it."""
        if not self._averaged:
            super().update_parameters(model)
            self._averaged = [p.detach() for p in self.module.parameters()]
            self._current = [p.detach() for p in model.parameters()]
            return
        torch._foreach_lerp_(self._averaged, self._current, 1 - self.decay)
        for mine, theirs in zip(self.module.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)
        self.n_averaged += 1
