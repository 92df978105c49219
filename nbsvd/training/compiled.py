"""Steps compiled by torch."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Compiled:
    """A loss compiled at its first call, with its gradient; where that fails, the loss itself and a warning.

    The compiled loss does the same operations, fused: values and gradients agree to rounding. Compiling takes
    half a minute, once for each shape of the batch. On the CPU torch needs a C++ compiler for it. On CUDA the
    forward pass and the backward pass are each captured as one graph (``mode="reduce-overhead"``) and
    replayed at every step; this has been written with care but not been measured on a GPU.

    Arguments:
        loss: a function of a module and further arguments, to a scalar.

    Example:
        >>> slow = Compiled(lambda model, x: model(x).sum())
        >>> slow.fast = False  # as where compiling has failed
        >>> float(slow(torch.nn.Identity(), torch.ones(2)))
        2.0
    """

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        self.loss = loss
        self.fast: Callable[..., Tensor] | bool | None = None  # None: not tried yet; False: it failed

    @property
    def works(self) -> bool:
        """Whether calls are compiled."""
        return callable(self.fast)

    def __call__(self, model: nn.Module, *arguments: Any) -> Tensor:
        """Return the loss."""
        if self.fast is None:
            self.fast = self._compile(model, *arguments)
        if not callable(self.fast):
            return self.loss(model, *arguments)
        if next(model.parameters()).is_cuda:
            torch.compiler.cudagraph_mark_step_begin()
        return self.fast(model, *arguments)

    def _compile(self, model: nn.Module, *arguments: Any) -> Callable[..., Tensor] | bool:
        """Compile, and try loss and gradient once; no parameter is changed."""
        parameters = [p for p in model.parameters() if p.requires_grad]
        mode = "reduce-overhead" if parameters[0].is_cuda else "default"
        try:
            fast: Callable[..., Tensor] = torch.compile(self.loss, mode=mode)
            torch.autograd.grad(fast(model, *arguments), parameters, allow_unused=True)
        except Exception as error:  # whatever the reason, the loss can be had without
            said = str(error).strip().splitlines()
            warnings.warn(
                "compile: torch could not compile the step, so training goes on without; on a CPU it needs a "
                f"C++ compiler such as g++. {type(error).__name__}: {said[0] if said else 'no reason given'}",
                RuntimeWarning,
                stacklevel=4,
            )
            return False
        return fast
