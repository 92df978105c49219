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
    return first, -2 * y * first


def _softplus(a: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    first = torch.sigmoid(a)
    return first, first * (1 - first)


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


def _softplus_value(a: Tensor) -> Tensor:
    return functional.softplus(a, threshold=50.0)  # torch's default threshold cuts the second derivative off


def _silu_value(a: Tensor) -> Tensor:
    return a * torch.sigmoid(a)  # torch's fused form has no second forward derivative


ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Derivatives]] = {
    "tanh": (torch.tanh, _tanh),
    "softplus": (_softplus_value, _softplus),
    "sin": (torch.sin, _sin),
    "silu": (_silu_value, _silu),
    "gelu": (functional.gelu, _gelu),
}
