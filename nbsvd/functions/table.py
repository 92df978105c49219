"""Functions of an index: the vectors of a matrix problem."""

import math

import torch
from torch import Tensor, nn

from nbsvd._errors import require
from nbsvd.functions.jet import dtype_name

OVERSAMPLING = 10


class Table(nn.Module):
    """L vectors of length n as functions of an index.

    The untrained basis, from which the Ritz start is taken, is a random table with a few more columns: with a
    matrix that makes the Ritz start a randomized SVD.

    Arguments:
        L: number of components.
        n: number of indices.
        generator: source of the random entries.
        dtype: of the entries.

    Example:
        >>> table = Table(2, 4, generator=torch.Generator().manual_seed(0))
        >>> table(torch.tensor([[3], [0]])).shape
        torch.Size([2, 2])
    """

    trial: Tensor
    component_axis = 1  # of every parameter: each component has a column of its own

    def __init__(
        self, L: int, n: int, *, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> None:
        super().__init__()
        require(L >= 1, "L", got=L, expected="at least one component")
        require(n >= 1, "n", got=n, expected="at least one index")
        self.L, self.n, self.dim = L, n, 1
        columns = min(n, L + OVERSAMPLING)
        trial = torch.randn(n, columns, generator=generator, dtype=dtype, device=generator.device).cpu()
        self.register_buffer("trial", trial / math.sqrt(n), persistent=False)
        self.entries = nn.Parameter(self.trial[:, :L].clone())

    def config(self) -> dict[str, object]:
        """Describe the table by plain data."""
        return {"name": "Table", "dtype": dtype_name(self.entries), "L": self.L, "n": self.n}

    def forward(self, x: Tensor) -> Tensor:
        """Return the rows at the integer points ``x``, ``(B, 1)``."""
        return self.entries[x[:, 0].long()]

    def first_basis(self, x: Tensor) -> Tensor:
        """Return the rows of the untrained basis."""
        return self.trial[x[:, 0].long()]

    @torch.no_grad()
    def start_from(self, coefficients: Tensor) -> None:
        """Set the vectors to combinations of the untrained basis."""
        self.entries.copy_(self.trial @ coefficients.to(self.trial))
