"""Smooth activations with their first two derivatives, as the forward Laplacian needs them.

The strong form of a differential operator applies two derivatives to the network, so an activation with a
kink, such as ReLU, is not offered: its Laplacian misses what sits on the kinks.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Derivatives = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _tanh(a: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    first = 1 - y * y
    return first, (y * first).mul_(-2)


def _softplus(a: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    first = torch.sigmoid(a)
    return first, torch.addcmul(first, first, first, value=-1)


def _sin(a: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cos(a), -y


def _silu(a: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    s = torch.sigmoid(a)
    first = s + y * (1 - s)
    return first, s * (1 - s) * (2 + a * (1 - 2 * s))


def _gelu(a: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    density = torch.exp(-0.5 * a * a) / math.sqrt(2 * math.pi)
    distribution = 0.5 * (1 + torch.erf(a / math.sqrt(2)))
    return distribution + a * density, (2 - a * a) * density


def _tanh_value(a: Tensor) -> Tensor:
    if a.device.type != "cpu":
        return torch.tanh(a)
    return torch.sigmoid(2 * a).mul(2).sub_(1)  # faster on a CPU than torch.tanh


def _softplus_value(a: Tensor) -> Tensor:
    return functional.softplus(a, threshold=50.0)  # torch's default threshold cuts the second derivative off


def _silu_value(a: Tensor) -> Tensor:
    return a * torch.sigmoid(a)  # torch's fused form has no second forward derivative


ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Derivatives]] = {
    "tanh": (_tanh_value, _tanh),
    "softplus": (_softplus_value, _softplus),
    "sin": (torch.sin, _sin),
    "silu": (_silu_value, _silu),
    "gelu": (functional.gelu, _gelu),
}
