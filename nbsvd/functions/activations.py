"""Smooth activations with their first two derivatives, as the forward Laplacian needs them.

The strong form of a differential operator applies two derivatives to the network, so an activation with a
kink, such as ReLU, is not offered: its Laplacian misses what sits on the kinks.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

# Above this softplus is its argument to rounding. Torch's own choice, 20, cuts the second derivative off.
SOFTPLUS_LINEAR = 50.0

# The first and, for order 2, the second derivative, from the argument and the value.
Derivatives = Callable[..., tuple[Tensor, Tensor | None]]


def _tanh(a: Tensor, y: Tensor, order: int = 2) -> tuple[Tensor, Tensor | None]:
    first = 1 - y * y
    return first, (y * first).mul_(-2) if order == 2 else None


def _softplus(a: Tensor, y: Tensor, order: int = 2) -> tuple[Tensor, Tensor | None]:
    if torch.compiler.is_compiling():
        e = _bounded_exp(a)
        first = e / (1 + e)
    else:
        first = torch.sigmoid(a)
    return first, torch.addcmul(first, first, first, value=-1) if order == 2 else None


def _sin(a: Tensor, y: Tensor, order: int = 2) -> tuple[Tensor, Tensor | None]:
    return torch.cos(a), -y if order == 2 else None


def _silu(a: Tensor, y: Tensor, order: int = 2) -> tuple[Tensor, Tensor | None]:
    s = torch.sigmoid(a)
    first = s + y * (1 - s)
    return first, s * (1 - s) * (2 + a * (1 - 2 * s)) if order == 2 else None


def _gelu(a: Tensor, y: Tensor, order: int = 2) -> tuple[Tensor, Tensor | None]:
    density = torch.exp(-0.5 * a * a) / math.sqrt(2 * math.pi)
    distribution = 0.5 * (1 + torch.erf(a / math.sqrt(2)))
    return distribution + a * density, (2 - a * a) * density if order == 2 else None


def _tanh_value(a: Tensor) -> Tensor:
    if a.device.type != "cpu":
        return torch.tanh(a)
    return torch.sigmoid(2 * a).mul(2).sub_(1)  # faster on a CPU than torch.tanh


def _softplus_value(a: Tensor) -> Tensor:
    if torch.compiler.is_compiling():
        return torch.where(a > SOFTPLUS_LINEAR, a, torch.log1p(_bounded_exp(a)))
    return functional.softplus(a, threshold=SOFTPLUS_LINEAR)


def _bounded_exp(a: Tensor) -> Tensor:
    """Return the exponential that value and derivative share where a compiler fuses the two."""
    return torch.exp(a.clamp_max(SOFTPLUS_LINEAR))


def _silu_value(a: Tensor) -> Tensor:
    return a * torch.sigmoid(a)  # torch's fused form has no second forward derivative


ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Derivatives]] = {
    "tanh": (_tanh_value, _tanh),
    "softplus": (_softplus_value, _softplus),
    "sin": (torch.sin, _sin),
    "silu": (_silu_value, _silu),
    "gelu": (functional.gelu, _gelu),
}
