"""Kernels of the user's: called, and checked."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nbsvd._errors import ArgumentError, require

Kernel = Callable[[Tensor, Tensor], Tensor]


def kernel_matrix(kernel: Kernel, x: Tensor, y: Tensor) -> Tensor:
    """Return the matrix ``(B, B')`` of a kernel at points x and y, real and floating.

    Raises:
        ArgumentError: a kernel that fails at these points, or returns something else.

    Example:
        >>> kernel_matrix(
        ...     lambda x, y: x < y.t(), torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0]])
        ... )
        tensor([[1.],
                [0.]])
    """
    expected = f"shape ({len(x)}, {len(y)}) for {len(x)} points x and {len(y)} points y"
    try:
        K: Any = kernel(x, y)
    except ArgumentError:
        raise
    except Exception as error:  # whatever a user's function raises
        raise ArgumentError(
            "kernel",
            got=f"{type(error).__name__} ({error}) for points x {tuple(x.shape)} and y {tuple(y.shape)}",
            expected=f"a tensor of {expected}",
            remedy="Call kernel(x, y) yourself: x is (B, d), y is (B', d').",
        ) from error
    require(
        isinstance(K, Tensor) and K.shape == (len(x), len(y)),
        "kernel",
        got=f"shape {tuple(K.shape)}" if isinstance(K, Tensor) else type(K).__name__,
        expected=expected,
        remedy="On a line, x - y.t() broadcasts two columns to a matrix."
        if isinstance(K, Tensor)
        else "Use torch functions throughout, or torch.as_tensor at the end.",
    )
    require(
        not K.is_complex(),
        "kernel",
        got=f"dtype {K.dtype}",
        expected="real values",
        remedy="Treat its real and imaginary parts as two operators.",
    )
    if K.requires_grad and not (x.requires_grad or y.requires_grad):
        K = K.detach()  # parameters of the kernel are no parameters of the functions
    if x.is_floating_point():  # a condition such as x < y.t(), or float64 constants on float32 points
        K = K.to(x)
    values: Tensor = K if K.is_floating_point() else K.to(torch.get_default_dtype())
    return values


def check_finite_kernel(K: Tensor) -> None:
    """Refuse a kernel matrix with NaN or infinite entries."""
    require(
        bool(torch.isfinite(K).all()),
        "kernel",
        got="NaN or infinite values",
        expected="finite values",
        remedy="Look for a division by zero or a logarithm of zero in the kernel.",
    )
