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
from nbsvd.operators.blocks import Blocks, sample_sparse

LARGE = 2**26  # bytes, as float64, from which an array is read in blocks rather than copied
DENSE = 2**32  # bytes that a matrix may take as one tensor
COLUMNS = 256  # of the identity at once, to make a matrix of a LinearOperator
ADJOINT = 1e-3  # share of the norms by which <g|A f> and <A* g|f> may differ, for float32 products too


class Matrix(Operator):
    r"""A matrix ``A`` of shape ``(m, n)`` as the operator ``(T f)_i = sum_j A_ij f_j`` from R^n to R^m.

    The reference measures are counting measures, so inner products are sums.

    **Matrices that do not fit.** Nothing as large as the matrix is made besides it. A memory map, or a large
    array that torch could only take as a copy (read-only, or not of floats), is read in blocks of some
    megabytes, by whole rows or whole columns as they lie in memory, and multiplied in float64. So is a large
    float32 array. A sparse matrix in CSR or CSC of float64 is used where it is, and its adjoint is a view;
    other formats are converted once. A ``LinearOperator`` is only multiplied.

    **Sampled rows and columns** (nodes of the kind ``"iid"``): with B columns ``j_b`` drawn uniformly,
    :math:`(n/B) \sum_b A_{i j_b} f_{j_b}` is an unbiased estimate of :math:`(T f)_i`, and at rows drawn in
    the same way the objective and its gradient are unbiased too. Only that block of rows and columns is read,
    except of a ``LinearOperator``, which has no entries to read.

    Arguments:
        A: a torch tensor, a NumPy array or memory map, a SciPy or torch sparse matrix, or a SciPy
            ``LinearOperator``; real and finite. Sparse matrices are kept in float64; entries that are given
            twice are summed.
        self_adjoint: whether A is symmetric; looked up unless given (a ``LinearOperator`` counts as not
            symmetric, and is tried on two vectors if it is said to be).

    Raises:
        ArgumentError: complex, NaN or infinite entries; an argument that is not a matrix, or not symmetric
            though said to be; a ``LinearOperator`` that fails on a vector of ones; in ``adjoint``, one
            without ``rmatvec``, or with one that is not that of its transpose.

    Example:
        >>> T = Matrix(torch.tensor([[0.0, 2.0], [0.0, 0.0], [1.0, 0.0]]))
        >>> T.shape, T.self_adjoint, T.adjoint.shape
        ((3, 2), False, (2, 3))
    """

    def __init__(self, A: Any, *, self_adjoint: bool | None = None) -> None:
        self.entries: Any
        self.entries, self._largest = readable(A)
        self.shape: tuple[int, int] = (int(self.entries.shape[0]), int(self.entries.shape[1]))
        if self_adjoint:
            require(
                self.shape[0] == self.shape[1] and self._is_symmetric(claimed=True),
                "A",
                got=f"a matrix of shape {self.shape} that differs from its transpose",
                expected="a symmetric matrix, since self_adjoint=True",
                remedy="Leave self_adjoint out for singular values, or pass (A + A.T) / 2.",
            )
        self.self_adjoint = self._is_symmetric() if self_adjoint is None else self_adjoint
        self._measures()

    def _measures(self) -> None:
        self.measure_x: Measure = Counting(self.shape[1])
        self.measure_y: Measure = self.measure_x if self.self_adjoint else Counting(self.shape[0])

    def _is_symmetric(self, claimed: bool = False) -> bool:
        """Tell whether A equals its transpose up to the rounding of a product of such matrices."""
        A = self.entries
        if self.shape[0] != self.shape[1]:
            return False
        if isinstance(A, LinearOperator):
            return claimed and _transposes(A, A)
        rounding = 10 * self.shape[0] * torch.finfo(self.dtype).eps
        if isinstance(A, Blocks):
            return not A.differs(rounding * self._largest)
        if isinstance(A, Tensor):
            A = A.detach()
            if _as_float64(A.shape) >= LARGE and A.device.type == "cpu" and A.dtype.itemsize >= 4:
                blocks = Blocks(A.numpy())
                return not blocks.differs(rounding * blocks.largest()[0])
        gap = abs(A - (A.t() if isinstance(A, Tensor) else A.T))
        return float(gap.max()) <= rounding * float(abs(A).max())

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the entries; float64 for SciPy matrices and for integers."""
        if isinstance(self.entries, Blocks):
            return torch.float32 if self.entries.array.dtype == np.float32 else torch.float64
        return self.entries.dtype if isinstance(self.entries, Tensor) else torch.float64

    def dense(self) -> Tensor:
        """Return all entries as one tensor ``(m, n)``, of float64 unless A is a tensor.

        Raises:
            ArgumentError: a matrix that would take more than 4 GB, unless it is such a tensor.
        """
        A = self.entries
        if isinstance(A, Tensor):
            return A
        require(
            _as_float64(self.shape) <= DENSE,
            "A",
            got=f"a matrix of shape {self.shape}: {_as_float64(self.shape) / 2**30:.3g} GB as one tensor",
            expected=f"at most {DENSE / 2**30:g} GB",
            remedy="Use product, which needs no more than the matrix as it is.",
        )
        if scipy.sparse.issparse(A):
            return torch.from_numpy(A.toarray())
        out = np.empty(self.shape)
        if isinstance(A, Blocks):
            for cut, block in A.pieces():
                out[cut if A.by_rows else (slice(None), cut)] = block
            return torch.from_numpy(out)
        for start in range(0, self.shape[1], COLUMNS):
            columns = np.arange(start, min(start + COLUMNS, self.shape[1]))
            unit = np.zeros((self.shape[1], len(columns)))
            unit[columns, columns - start] = 1.0
            out[:, columns] = A @ unit
        return torch.from_numpy(out)

    def product(self, f: Tensor) -> Tensor:
        """Return ``A f`` for a table of vectors ``(n, L)``; differentiable in f for every kind of matrix."""
        return self.entries.to(f) @ f if isinstance(self.entries, Tensor) else _product(f, self.entries)

    def transform(self, y: Tensor, nodes: Nodes, f: Tensor) -> Tensor:
        """Return ``sum_j A_ij f_j`` at the indices y, the sum estimated from the nodes."""
        scale = nodes.weights / len(nodes)
        rows, columns = y[:, 0].long(), nodes.x[:, 0].long()
        if nodes.kind == "quadrature" or isinstance(self.entries, LinearOperator):
            if _is_range(columns, self.shape[1]):  # no copy of f and of the result where all are in order
                found = self.product(f if bool((scale == 1).all()) else scale[:, None] * f)
            else:
                empty = f.new_zeros(self.shape[1], f.shape[1])
                found = self.product(empty.index_add(0, columns, scale[:, None] * f))
            return found if _is_range(rows, self.shape[0]) else found[rows]
        weighted = scale[:, None] * f
        if isinstance(self.entries, Tensor):
            where = self.entries.device
            return self.entries[rows.to(where)[:, None], columns.to(where)].to(weighted) @ weighted
        rows, again = torch.unique(rows, return_inverse=True)  # an index may be drawn more than once
        columns, summed = torch.unique(columns, return_inverse=True)
        vectors = weighted.new_zeros(len(columns), f.shape[1]).index_add(0, summed, weighted)
        at = rows.cpu().numpy(), columns.cpu().numpy()
        block = (
            self.entries.sample(*at) if isinstance(self.entries, Blocks) else sample_sparse(self.entries, *at)
        )
        return _product(vectors, block)[again]

    @cached_property
    def adjoint(self) -> "Matrix":
        """The transposed matrix, of the same memory."""
        if self.self_adjoint:
            return self
        A = self.entries
        if isinstance(A, LinearOperator):
            turned: Any = _checked(A.T, "rmatvec")
            require(
                _transposes(A, turned),
                "A",
                got="a LinearOperator whose rmatvec does not multiply by the transpose: <g|A f> and "
                "<A* g|f> differ",
                expected="one with matvec, and with rmatvec for its adjoint",
                remedy="For real matrices rmatvec(g) is A.T @ g.",
            )
        else:
            turned = A.t() if isinstance(A, Tensor) else A.T
        made = Matrix.__new__(Matrix)  # the entries have been looked at
        made.entries, made._largest, made.self_adjoint = turned, self._largest, False
        made.shape = self.shape[::-1]
        made._measures()
        return made


def _as_float64(shape: Any) -> int:
    return 8 * int(shape[0]) * int(shape[1])


def _is_range(index: Tensor, n: int) -> bool:
    """Tell whether indices are 0, ..., n - 1 in this order."""
    return len(index) == n and torch.equal(index, torch.arange(n, device=index.device))


def _transposes(A: Any, B: Any) -> bool:
    """Tell whether ``<g|A f> = <B g|f>`` for two vectors drawn at random."""
    rng = np.random.default_rng(0)
    f, g = rng.standard_normal(A.shape[1]), rng.standard_normal(A.shape[0])
    Af, Bg = A @ f, B @ g
    gap = abs(float(g @ Af) - float(Bg @ f))
    size = np.linalg.norm(g) * np.linalg.norm(Af) + np.linalg.norm(Bg) * np.linalg.norm(f)
    return bool(gap <= ADJOINT * float(size))


EXPECTED = "a real matrix, shape (m, n) with m, n >= 1"


def readable(A: Any) -> tuple[Any, float]:
    """Return a matrix as something to multiply with, and its largest entry if known; or refuse it.

    That is a floating torch tensor, a SciPy CSR or CSC array, a ``LinearOperator`` or :class:`Blocks`.
    """
    if not isinstance(A, Tensor | LinearOperator) and not scipy.sparse.issparse(A):
        try:
            A = A if isinstance(A, np.ndarray) else np.asarray(A)
            if not isinstance(A, np.memmap) and not _would_be_copied(A):
                A = torch.as_tensor(np.require(A, requirements=["C", "W"]))  # torch wants both
        except (TypeError, ValueError) as error:
            raise _not_numbers(A, error) from error
    require(
        len(A.shape) == 2 and min(A.shape) >= 1,
        "A",
        got=f"shape {tuple(A.shape)}",
        expected=EXPECTED,
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
    if isinstance(A, LinearOperator):
        return _checked(A, "matvec"), 0.0
    if isinstance(A, np.ndarray):
        return _blocks(A)
    if isinstance(A, Tensor) and A.layout == torch.strided:
        plain = A.device.type == "cpu" and not A.requires_grad and A.dtype != torch.bfloat16
        if plain and A.dtype != torch.float64 and _as_float64(A.shape) >= LARGE:
            return _blocks(A.numpy())
        A = A if A.is_floating_point() else A.to(torch.float64)
        if not bool(torch.isfinite(A).all()):
            refuse(tuple((~torch.isfinite(A)).nonzero()[0].tolist()))
        return A, 0.0
    return _sparse(A), 0.0


def _would_be_copied(A: Any) -> bool:
    """Tell whether torch could hold a large array only as a copy."""
    fit = A.flags.c_contiguous and A.flags.writeable and A.dtype == np.float64
    return A.ndim == 2 and A.dtype.kind in "fiub" and not fit and _as_float64(A.shape) >= LARGE


def _blocks(A: Any) -> tuple[Blocks, float]:
    if A.dtype.kind not in "fiub":
        raise _not_numbers(A, f"dtype {A.dtype}")
    blocks = Blocks(A)
    largest, wrong = blocks.largest()
    if wrong is not None:
        refuse(wrong)
    return blocks, largest


def _sparse(A: Any) -> Any:
    """Return a sparse matrix in CSR or CSC, without a copy where it is so already."""
    if isinstance(A, Tensor):
        A = A.detach().cpu().to_sparse_coo().coalesce()
        i, j = A.indices().numpy()
        A = scipy.sparse.coo_array((A.values().numpy(), (i, j)), shape=tuple(A.shape))
    make = scipy.sparse.csc_array if A.format == "csc" else scipy.sparse.csr_array
    try:
        A = make(A, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise _not_numbers(A, error) from error
    finite = np.isfinite(A.data)
    if not finite.all():
        at = int(np.argmin(finite))
        line, other = int(np.searchsorted(A.indptr, at, side="right")) - 1, int(A.indices[at])
        refuse((line, other) if A.format == "csr" else (other, line))
    return A


def _checked(A: LinearOperator, name: str) -> LinearOperator:
    """Return a LinearOperator that multiplies a vector of ones; ``name`` is what that takes."""
    ones = np.ones(A.shape[1])
    try:
        product = A @ ones
        finite = bool(np.isfinite(product).all())
    except Exception as error:  # whatever a user's product may raise
        raise ArgumentError(
            "A",
            got=f"a LinearOperator that fails on a vector of ones: {name}: {error or type(error).__name__}",
            expected="one with matvec, and with rmatvec for its adjoint",
            remedy="Give both to scipy.sparse.linalg.LinearOperator.",
        ) from error
    if not finite:
        at = int(np.argmin(np.isfinite(product)))
        require(
            False,
            "A",
            got=f"NaN or infinite entries: its {name} makes them of a vector of ones, the first at {at}",
            expected="finite numbers",
            remedy="Clean the data first.",
        )
    return A


def refuse(at: tuple[int, ...]) -> None:
    """Refuse a matrix for an entry that is NaN or infinite."""
    raise ArgumentError(
        "A",
        got=f"NaN or infinite entries, the first of them found at {at}",
        expected="finite numbers",
        remedy="Clean the data first.",
    )


def _not_numbers(A: Any, error: Any) -> ArgumentError:
    return ArgumentError(
        "A",
        got=f"{type(A).__name__}: {error}",
        expected=EXPECTED,
        remedy="Pass numbers: a tensor, an array, a sparse matrix or a LinearOperator.",
    )


class _Product(torch.autograd.Function):
    """``A f`` for a matrix that is no tensor; the gradient with respect to f is a product with ``A^T``."""

    @staticmethod
    def forward(ctx: Any, f: Tensor, A: Any) -> Tensor:
        ctx.A = A
        return torch.from_numpy(np.asarray(A @ f.detach().cpu().numpy())).to(f)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _product(grads[0], ctx.A.T), None


_product: Callable[[Tensor, Any], Tensor] = _Product.apply
