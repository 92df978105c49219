"""Matrices as operators between functions of an index."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from nbsvd._errors import ArgumentError, require
from nbsvd.measures import Counting, Measure, Nodes
from nbsvd.operators.base import Operator


class Matrix(Operator):
    r"""A matrix ``A`` of shape ``(m, n)`` as the operator ``(T f)_i = sum_j A_ij f_j`` from R^n to R^m.

    The reference measures are counting measures, so inner products are sums.

    Arguments:
        A: a torch tensor, a NumPy array, a SciPy or torch sparse matrix, or a SciPy ``LinearOperator``; real
            and finite. Sparse matrices are kept in float64.
        self_adjoint: whether A is symmetric; looked up unless given (a ``LinearOperator`` counts as not
            symmetric).

    Raises:
        ArgumentError: complex, NaN or infinite entries; an argument that is not a matrix, or not symmetric
            though said to be; a ``LinearOperator`` that fails on a vector of ones.

    Example:
        >>> T = Matrix(torch.tensor([[0.0, 2.0], [0.0, 0.0], [1.0, 0.0]]))
        >>> T.shape, T.self_adjoint, T.adjoint.shape
        ((3, 2), False, (2, 3))
    """

    def __init__(self, A: Any, *, self_adjoint: bool | None = None) -> None:
        self.entries: Any = readable(A)
        self.shape: tuple[int, int] = (int(self.entries.shape[0]), int(self.entries.shape[1]))
        if self_adjoint:
            require(
                self.shape[0] == self.shape[1] and (isinstance(A, LinearOperator) or self._is_symmetric()),
                "A",
                got=f"a matrix of shape {self.shape} that differs from its transpose",
                expected="a symmetric matrix, since self_adjoint=True",
                remedy="Leave self_adjoint out for singular values, or pass (A + A.T) / 2.",
            )
        self.self_adjoint = self._is_symmetric() if self_adjoint is None else self_adjoint
        self.measure_x: Measure = Counting(self.shape[1])
        self.measure_y: Measure = self.measure_x if self.self_adjoint else Counting(self.shape[0])

    def _is_symmetric(self) -> bool:
        """Tell whether A equals its transpose up to the rounding of a product of such matrices."""
        A = self.entries.detach() if isinstance(self.entries, Tensor) else self.entries
        if self.shape[0] != self.shape[1] or isinstance(A, LinearOperator):
            return False
        gap = abs(A - (A.t() if isinstance(A, Tensor) else A.T))
        rounding = 10 * self.shape[0] * torch.finfo(self.dtype).eps
        return float(gap.max()) <= rounding * float(abs(A).max())

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the entries; float64 for SciPy matrices."""
        return self.entries.dtype if isinstance(self.entries, Tensor) else torch.float64

    def dense(self) -> Tensor:
        """Return all entries as one tensor ``(m, n)``."""
        if isinstance(self.entries, Tensor):
            return self.entries
        if isinstance(self.entries, LinearOperator):
            return torch.from_numpy(np.asarray(self.entries @ np.eye(self.shape[1])))
        return torch.from_numpy(self.entries.toarray())

    def product(self, f: Tensor) -> Tensor:
        """Return ``A f`` for a table of vectors ``(n, L)``; differentiable in f for every kind of matrix."""
        return self.entries.to(f) @ f if isinstance(self.entries, Tensor) else _scipy_product(f, self.entries)

    def transform(self, y: Tensor, nodes: Nodes, f: Tensor) -> Tensor:
        """Return ``sum_j A_ij f_j`` at the indices y, the sum estimated from the nodes."""
        weighted = nodes.weights[:, None] * f / len(nodes)
        rows, columns = y[:, 0].long(), nodes.x[:, 0].long()
        if nodes.kind == "quadrature" or isinstance(self.entries, LinearOperator):
            vectors = weighted.new_zeros(self.shape[1], f.shape[1]).index_add(0, columns, weighted)
            return self.product(vectors)[rows]
        if isinstance(self.entries, Tensor):
            block = self.entries[rows.to(self.entries.device)][:, columns.to(self.entries.device)]
            return block.to(weighted) @ weighted
        return _scipy_product(weighted, self.entries[rows.cpu().numpy()][:, columns.cpu().numpy()])

    @cached_property
    def adjoint(self) -> "Matrix":
        """The transposed matrix."""
        if self.self_adjoint:
            return self
        A = self.entries
        return Matrix(A.t() if isinstance(A, Tensor) else A.T, self_adjoint=False)


def readable(A: Any) -> Any:
    """Return a matrix as a floating torch tensor, a SciPy CSR array or a ``LinearOperator``, or refuse it."""
    expected = "a real matrix, shape (m, n) with m, n >= 1"
    if not isinstance(A, (Tensor, LinearOperator)) and not scipy.sparse.issparse(A):
        try:
            A = np.asarray(A)
            A = torch.as_tensor(np.require(A, requirements=["C", "W"]))  # torch wants both
        except (TypeError, ValueError) as error:
            raise ArgumentError(
                "A",
                got=f"{type(A).__name__}: {error}",
                expected=expected,
                remedy="Pass numbers: a tensor, an array, a sparse matrix or a LinearOperator.",
            ) from error
    require(
        len(A.shape) == 2 and min(A.shape) >= 1,
        "A",
        got=f"shape {tuple(A.shape)}",
        expected=expected,
        remedy="A vector is a matrix of one column: A[:, None]."
        if len(A.shape) == 1
        else "Reshape it to rows and columns, with at least one of each.",
    )
    require(
        "complex" not in str(A.dtype),
        "A",
        got=f"dtype {A.dtype}",
        expected="real numbers",
        remedy="Write a complex matrix as the real one [[Re A, -Im A], [Im A, Re A]].",
    )
    if isinstance(A, Tensor) and A.layout != torch.strided:
        A = A.detach().cpu().to_sparse_coo().coalesce()
        i, j = A.indices().numpy()
        A = scipy.sparse.coo_array((A.values().numpy(), (i, j)), shape=tuple(A.shape))
    if isinstance(A, LinearOperator):
        try:
            finite = bool(np.isfinite(A @ np.ones(A.shape[1])).all())
        except Exception as error:  # whatever a user's product may raise
            raise ArgumentError(
                "A",
                got=f"a LinearOperator that fails on a vector of ones: {error or type(error).__name__}",
                expected="one with matvec, and with rmatvec for its adjoint",
                remedy="Give both to scipy.sparse.linalg.LinearOperator.",
            ) from error
    elif isinstance(A, Tensor):
        A = A if A.is_floating_point() else A.to(torch.float64)
        finite = bool(torch.isfinite(A).all())
    else:
        A = scipy.sparse.csr_array(A, dtype=np.float64)
        finite = bool(np.isfinite(A.data).all())
    require(
        finite, "A", got="NaN or infinite entries", expected="finite numbers", remedy="Clean the data first."
    )
    return A


class _Product(torch.autograd.Function):
    """``A f`` for a SciPy matrix; the gradient with respect to f is a product with ``A^T``."""

    @staticmethod
    def forward(ctx: Any, f: Tensor, A: Any) -> Tensor:
        ctx.A = A
        return torch.from_numpy(np.asarray(A @ f.detach().cpu().numpy())).to(f)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _scipy_product(grads[0], ctx.A.T), None


_scipy_product: Callable[[Tensor, Any], Tensor] = _Product.apply
