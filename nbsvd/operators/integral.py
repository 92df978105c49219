"""Integral operators, given by a kernel and two measures."""

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from nbsvd._errors import require
from nbsvd.measures import Measure, Nodes
from nbsvd.operators.base import Operator

Kernel = Callable[[Tensor, Tensor], Tensor]


class Integral(Operator):
    r"""The integral operator of a kernel, ``(T f)(y) = int k(x, y) f(x) dmu(x)``.

    It maps L2(mu) to L2(nu). Right singular functions live at x, left ones at y.

    Arguments:
        kernel: ``k(x, y)`` for points ``(B, d)`` and ``(B', d')``, returns the matrix ``(B, B')``.
        measure_x: mu.
        measure_y: nu; the same as mu unless given.
        self_adjoint: whether ``k(x, y) = k(y, x)``; tried out on a few points unless given.

    Raises:
        ArgumentError: a kernel that returns another shape, or NaN.

    Source: Ryu et al., section 2.

    Example:
        >>> from nbsvd.measures import Uniform
        >>> T = Integral(lambda x, y: x < y.t(), Uniform(0.0, 1.0))  # Volterra
        >>> T.self_adjoint
        False
        >>> nodes = T.measure_x.nodes(1000, kind="quadrature")
        >>> round(float(T.transform(torch.tensor([[0.5]]), nodes, torch.ones(1000, 1).double())), 3)
        0.5
    """

    def __init__(
        self,
        kernel: Kernel,
        measure_x: Measure,
        measure_y: Measure | None = None,
        *,
        self_adjoint: bool | None = None,
    ) -> None:
        require(
            callable(kernel),
            "kernel",
            got=type(kernel).__name__,
            expected="a function of two sets of points",
            remedy="For a matrix of numbers use Matrix(A).",
        )
        measure_y = measure_x if measure_y is None else measure_y
        for name, measure in (("measure_x", measure_x), ("measure_y", measure_y)):
            require(isinstance(measure, Measure), name, got=type(measure).__name__, expected="a Measure")
        self.kernel = kernel
        self.measure_x: Measure = measure_x
        self.measure_y: Measure = measure_y
        x = self.measure_x.nodes(16, kind="iid", generator=torch.Generator().manual_seed(0)).x
        y = self.measure_y.nodes(8, kind="iid", generator=torch.Generator().manual_seed(1)).x
        K = self.matrix(x, y)
        require(
            bool(torch.isfinite(K).all()),
            "kernel",
            got="NaN or infinite values",
            expected="finite values",
            remedy="Look for a division by zero or a logarithm of zero in the kernel.",
        )
        symmetric = measure_x.same_as(measure_y) and bool(torch.allclose(K, self.matrix(y, x).t()))
        require(
            symmetric or not self_adjoint,
            "self_adjoint",
            got="True for a kernel with k(x, y) other than k(y, x), or for two different measures",
            expected="a symmetric kernel on one measure",
            remedy="Leave self_adjoint out, and take the singular value decomposition.",
        )
        self.self_adjoint = symmetric if self_adjoint is None else self_adjoint

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the kernel matrix ``(B, B')``, with its shape checked."""
        K = self.kernel(x, y)
        require(
            isinstance(K, Tensor) and K.shape == (len(x), len(y)),
            "kernel",
            got=f"shape {tuple(K.shape)}" if isinstance(K, Tensor) else type(K).__name__,
            expected=f"shape ({len(x)}, {len(y)}) for {len(x)} points x and {len(y)} points y",
            remedy="On a line, x - y.t() broadcasts two columns to a matrix.",
        )
        require(
            not K.is_complex(),
            "kernel",
            got=f"dtype {K.dtype}",
            expected="real values",
            remedy="Treat its real and imaginary parts as two operators.",
        )
        return K if K.is_floating_point() else K.to(x)  # a condition, such as x < y.t()

    def transform(self, y: Tensor, nodes: Nodes, f: Tensor) -> Tensor:
        """Return ``(1/B) sum_b w_b k(x_b, y) f(x_b)``."""
        return self.matrix(nodes.x, y).t() @ (nodes.weights[:, None] * f) / len(nodes)

    @cached_property
    def adjoint(self) -> Operator:
        """The operator of the kernel with its arguments exchanged."""
        if self.self_adjoint:
            return self
        kernel = self.kernel
        return Integral(lambda y, x: kernel(x, y).t(), self.measure_y, self.measure_x, self_adjoint=False)
