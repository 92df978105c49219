"""Optimizers by name."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from nbsvd._errors import nearest
from nbsvd.training.soap import SOAP


def _soap(parameters: Iterable[Tensor], lr: float) -> torch.optim.Optimizer:
    return SOAP(parameters, lr=lr)


def _adam(parameters: Iterable[Tensor], lr: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=lr, fused=True)  # in one pass over the parameters


def _rmsprop(parameters: Iterable[Tensor], lr: float) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(parameters, lr=lr)


OPTIMIZERS: dict[str, Callable[[Iterable[Tensor], float], torch.optim.Optimizer]] = {
    "soap": _soap,
    "adam": _adam,
    "rmsprop": _rmsprop,
}


def make_optimizer(name: str, parameters: Iterable[Tensor], lr: float) -> torch.optim.Optimizer:
    """Return an optimizer by its name.

    Example:
        >>> weights = torch.nn.Parameter(torch.ones(2))
        >>> type(make_optimizer("adam", [weights], 1e-3)).__name__
        'Adam'
    """
    return OPTIMIZERS[nearest("optimizer", name, OPTIMIZERS)](parameters, lr)
