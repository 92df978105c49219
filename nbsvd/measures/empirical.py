"""The law of a data set."""

import torch
from torch import Tensor

from nbsvd._errors import require
from nbsvd.measures.base import Kind, Measure


class Empirical(Measure):
    """The empirical law of a data set: each row has probability 1/N.

    Arguments:
        data: the rows, ``(N, d)``.

    Raises:
        ArgumentError: data of another shape, NaN or infinite entries.

    Example:
        >>> data = torch.arange(6.0).reshape(3, 2)
        >>> Empirical(data).nodes(3, kind="quadrature").x.shape
        torch.Size([3, 2])
    """

    def __init__(self, data: Tensor) -> None:
        require(
            isinstance(data, Tensor) and data.ndim == 2 and len(data) > 0,
            "data",
            got=f"shape {tuple(data.shape)}" if isinstance(data, Tensor) else type(data).__name__,
            expected="a tensor of shape (N, d), N > 0",
            remedy="One row for each sample; a single feature is data[:, None].",
        )
        require(torch.isfinite(data).all(), "data", got="NaN or infinite entries", expected="finite numbers")
        self.data, self.dim = data, data.shape[1]

    def config(self) -> dict[str, object]:
        """Describe the size of the data set; the data are not repeated."""
        return {"name": "Empirical", "dim": self.dim, "rows": len(self.data)}

    def same_as(self, other: Measure) -> bool:
        """Tell whether another measure holds the same data."""
        return self is other or (
            isinstance(other, Empirical)
            and self.data.shape == other.data.shape
            and bool((self.data == other.data.to(self.data)).all())
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

    def transport(self, u: Tensor) -> Tensor:
        """Let the first uniform number choose the row."""
        rows = (u[:, 0] * len(self.data)).long().clamp_max(len(self.data) - 1)
        return self.data[rows.to(self.data.device)]

    def weight(self, x: Tensor) -> Tensor:
        """Return ones."""
        return torch.ones(len(x), dtype=torch.float64, device=x.device)

    def rule(self, n: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return all rows; the sum over the data set is exact, whatever ``n``."""
        return self.data, self.weight(self.data)
