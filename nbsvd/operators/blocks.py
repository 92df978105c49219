"""Matrices that are read a block at a time: arrays that are not to be copied, and blocks of sparse ones."""

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse

Array = npt.NDArray[Any]

BLOCK = 2**25  # bytes of a block, as float64
TILE = 2048  # side of the squares by which a matrix is compared with its transpose
PAGE = 4096
HELD = 2**27  # bytes read from a file before its pages are given back


class Blocks:
    """A NumPy array, a memory map above all, that is never copied as a whole.

    Products, checks and samples take one block at a time, in float64. The pages of a memory map that were
    read are given back to the system after a while: it keeps the file in its cache as long as there is room,
    but this process does not hold it. (Not in mode ``"c"``, whose pages may hold changes of their own.)

    Arguments:
        array: real numbers, ``(m, n)``.

    Example:
        >>> A = Blocks(np.arange(6, dtype=np.int8).reshape(2, 3))
        >>> A @ np.ones((3, 1))
        array([[ 3.],
               [12.]])
        >>> A.T.sample(np.array([2, 0]), np.array([1]))
        array([[5.],
               [3.]])
    """

    def __init__(self, array: Array) -> None:
        self.array: Array = np.asarray(array)  # a plain view: slices of a memmap are slow
        self.shape: tuple[int, int] = (array.shape[0], array.shape[1])
        self._map, self._read = _mapping(array), 0

    @property
    def T(self) -> "Blocks":
        """The transpose, of the same memory."""
        turned = Blocks(self.array.T)
        turned._map = self._map
        return turned

    @property
    def by_rows(self) -> bool:
        """Whether the entries of a row lie together."""
        return abs(self.array.strides[0]) >= abs(self.array.strides[1])

    def pieces(self) -> Iterator[tuple[slice, Array]]:
        """Yield blocks of whole rows, or of whole columns where these lie together, and where they are."""
        length, width = self.shape if self.by_rows else self.shape[::-1]
        step = max(1, BLOCK // (8 * width))
        for start in range(0, length, step):
            cut = slice(start, min(start + step, length))
            block = self.array[cut] if self.by_rows else self.array[:, cut]
            yield cut, np.asarray(block, dtype=np.float64)
            self._note(block.nbytes)

    def __matmul__(self, f: Array) -> Array:
        """Return the product with ``(n, L)``."""
        out = np.zeros((self.shape[0], f.shape[1]))
        for cut, block in self.pieces():
            if self.by_rows:
                out[cut] = block @ f
            else:
                out += block @ f[cut]
        return out

    def sample(self, rows: Array, columns: Array) -> Array:
        """Return the entries at some rows and columns, and read little more than them."""
        found = np.asarray(self.array[np.ix_(rows, columns)], dtype=np.float64)
        lines, others = (rows, columns) if self.by_rows else (columns, rows)
        width = self.shape[1 if self.by_rows else 0] * self.array.itemsize
        self._note(len(lines) * min(width, len(others) * PAGE))
        return found

    def largest(self) -> tuple[float, tuple[int, int] | None]:
        """Return the largest absolute value, and where a NaN or infinite entry is, if there is one."""
        found = 0.0
        for cut, block in self.pieces():
            here = max(float(block.max()), -float(block.min()))
            if not np.isfinite(here):
                i, j = (int(index) for index in np.argwhere(~np.isfinite(block))[0])
                return here, (i + cut.start, j) if self.by_rows else (i, j + cut.start)
            found = max(found, here)
        return found, None

    def differs(self, bound: float) -> bool:
        """Tell whether a square matrix differs from its transpose by more than ``bound`` somewhere."""
        n = self.shape[0]
        for i in range(0, n, TILE):
            for j in range(i, n, TILE):
                a, b = (
                    np.asarray(self.array[p : p + TILE, q : q + TILE], dtype=np.float64)
                    for p, q in ((i, j), (j, i))
                )
                if float(np.abs(a - b.T).max()) > bound:
                    return True
                self._note(2 * a.nbytes)
        return False

    def _note(self, size: int) -> None:
        """Count what was read, and give the pages back when they are many."""
        self._read += size
        if self._map is not None and self._read >= HELD:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._read = 0


def _mapping(array: Any) -> Any:
    """Return the file mapping below an array, if its pages may be dropped: those of a private one may not."""
    shared = False
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            if array.mode == "c":
                return None
            shared = True
        array = array.base
    fit = shared and isinstance(array, mmap.mmap) and hasattr(array, "madvise")
    return array if fit and hasattr(mmap, "MADV_DONTNEED") else None


def sample_sparse(A: Any, rows: Array, columns: Array) -> Any:
    """Return the block of a CSR or CSC matrix at increasing rows and columns, as a CSR array.

    The work is that of the entries in these rows (of a CSC matrix: in these columns), whatever the size of
    the matrix. SciPy's own indexing needs an array as long as a row at each call.

    Example:
        >>> A = scipy.sparse.csr_array(np.arange(6.0).reshape(2, 3))
        >>> sample_sparse(A, np.array([1]), np.array([0, 2])).toarray()
        array([[3., 5.]])
    """
    if A.format == "csc":
        return sample_sparse(A.T, columns, rows).T.tocsr()
    if len(columns) == 0:
        return scipy.sparse.csr_array((len(rows), 0))
    first = A.indptr[rows].astype(np.int64)
    counts = A.indptr[rows + 1] - first
    ends = np.cumsum(counts)
    at = np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - (ends - counts), counts)
    found = A.indices[at]
    place = np.searchsorted(columns, found).clip(max=len(columns) - 1)
    hit = columns[place] == found
    line = np.repeat(np.arange(len(rows)), counts)[hit]
    return scipy.sparse.csr_array(
        (A.data[at[hit]], place[hit], np.searchsorted(line, np.arange(len(rows) + 1))),
        shape=(len(rows), len(columns)),
    )
