"""The law of a data set."""

from collections.abc import Iterator

import torch
from torch import Tensor

from nbsvd._errors import require
from nbsvd.measures.base import Kind, Measure

MANY = 4096  # rows: of more, a kernel's matrix is not formed


class Empirical(Measure):
    """The empirical law of a data set: each row has probability 1/N, or a share of its own.

    Arguments:
        data: the rows, ``(N, d)``.
        shares: positive, in proportion to the probabilities of the rows, ``(N,)``; all the same unless given.

    Raises:
        ArgumentError: data of another shape, NaN or infinite entries.

    Example:
        >>> data = torch.arange(6.0).reshape(3, 2)
        >>> Empirical(data).nodes(3, kind="quadrature").x.shape
        torch.Size([3, 2])
    """

    def __init__(self, data: Tensor, shares: Tensor | None = None) -> None:
        require(
            isinstance(data, Tensor) and data.ndim == 2 and len(data) > 0,
            "data",
            got=f"shape {tuple(data.shape)}" if isinstance(data, Tensor) else type(data).__name__,
            expected="a tensor of shape (N, d), N > 0",
            remedy="One row for each sample; a single feature is data[:, None].",
        )
        require(torch.isfinite(data).all(), "data", got="NaN or infinite entries", expected="finite numbers")
        self.data, self.dim, self.shares = data, data.shape[1], shares

    def config(self) -> dict[str, object]:
        """Describe the size of the data set; the data are not repeated."""
        return {"name": "Empirical", "dim": self.dim, "rows": len(self.data)}

    def same_as(self, other: Measure) -> bool:
        """Tell whether another measure holds the same data."""
        return self is other or (
            isinstance(other, Empirical)
            and self.data.shape == other.data.shape
            and bool((self.data == other.data.to(self.data)).all())
            and (self.shares is None) == (other.shares is None)
            and (self.shares is None or torch.equal(self.shares, other.shares))  # type: ignore[arg-type]
        )

    @property
    def length(self) -> float | None:
        """The largest standard deviation of a coordinate; ``None`` if no coordinate varies."""
        spread = float(self.data.double().std(0, correction=0).max())
        return spread if spread > 0 else None

    @property
    def center(self) -> tuple[float, ...]:
        """The mean of the data."""
        return tuple(self.data.double().mean(0).tolist())

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Independent draws, or all rows at once."""
        return ("iid", "quadrature")

    @property
    def training_kind(self) -> Kind:
        """Independent draws."""
        return "iid"

    @property
    def evaluation_kind(self) -> Kind:
        """All rows at once where they are not too many for a kernel's matrix, else independent draws."""
        return "iid" if len(self.data) > MANY else "quadrature"

    def blocks(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Cut the rows at random into blocks of about ``size``, and let each meet one other block.

        A sum over the pairs of rows that meet has a smaller error than one over as many independent pairs:
        each row takes part as often as any other, and what depends on one row alone is summed exactly.

        Arguments:
            size: rows of a block; there are two blocks at least.
            generator: says which rows are in a block, and which blocks meet.

        Yields:
            Indices of the rows of a block, and of those of another, all of them distinct.

        Example:
            >>> law = Empirical(torch.arange(5.0)[:, None])
            >>> met = [*law.blocks(2, torch.Generator().manual_seed(0))]
            >>> sorted(torch.cat([rows for rows, _ in met]).tolist())
            [0, 1, 2, 3, 4]
            >>> [len(rows) for rows, _ in met]
            [3, 2]
        """
        order = torch.randperm(len(self.data), generator=generator, device=generator.device).cpu()
        blocks = order.tensor_split(max(2, len(order) // size))
        turn = int(torch.randint(1, len(blocks), (1,), generator=generator, device=generator.device))
        for i, rows in enumerate(blocks):
            yield rows, blocks[(i + turn) % len(blocks)]

    def transport(self, u: Tensor) -> Tensor:
        """Let the first uniform number choose the row."""
        if self.shares is None:
            rows = (u[:, 0] * len(self.data)).long()
        else:
            total = self.shares.double().cumsum(0)
            rows = torch.searchsorted(total, u[:, 0].contiguous() * total[-1], right=True)
        rows = rows.clamp_max(len(self.data) - 1)
        return self.data[rows.to(self.data.device)]

    def weight(self, x: Tensor) -> Tensor:
        """Return ones."""
        return torch.ones(len(x), dtype=torch.float64, device=x.device)

    def rule(self, n: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return all rows; the sum over the data set is exact, whatever ``n``."""
        weights = self.weight(self.data)
        if self.shares is not None:
            weights = self.shares.to(weights) * (len(weights) / self.shares.sum())
        return self.data, weights
