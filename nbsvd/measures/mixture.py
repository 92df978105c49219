"""Several laws at once."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nbsvd._errors import require
from nbsvd.measures.base import Real
from nbsvd.measures.laws import Law


class Mixture(Law):
    """A mixture of laws on the same space, ``p = sum_j pi_j p_j``.

    Arguments:
        laws: the components.
        shares: positive shares ``pi``, normalised here; equal unless given.

    Raises:
        ArgumentError: no law, laws on different spaces, a share that is not positive.

    Example:
        >>> from nbsvd.measures import Gaussian
        >>> law = Mixture([Gaussian(1), Gaussian(1, scale=3.0)])
        >>> round(float(law.log_density(torch.zeros(1, 1)).exp()), 4)
        0.266
    """

    def __init__(self, laws: Sequence[Law], shares: Sequence[Real] | None = None) -> None:
        require(len(laws) > 0, "laws", got="none", expected="at least one law")
        dims = [law.dim for law in laws]
        require(len(set(dims)) == 1, "laws", got=f"dimensions {dims}", expected="laws on one space")
        shares = [1.0] * len(laws) if shares is None else list(shares)
        require(
            len(shares) == len(laws) and all(s > 0 and math.isfinite(s) for s in shares),
            "shares",
            got=shares,
            expected=f"{len(laws)} positive numbers",
        )
        self.bounded = all(law.bounded for law in laws)
        self.laws, self.dim = tuple(laws), laws[0].dim
        self.shares = tuple(s / sum(shares) for s in shares)

    def config(self) -> dict[str, object]:
        """Describe the laws and their shares."""
        laws = [law.config() for law in self.laws]
        return {"name": "Mixture", "dim": self.dim, "laws": laws, "shares": list(self.shares)}

    @property
    def parts(self) -> tuple[Law, ...]:
        """The laws."""
        return self.laws

    @property
    def length(self) -> float | None:
        """The longest length of its components."""
        return max((law.length for law in self.laws if law.length is not None), default=None)

    @property
    def center(self) -> tuple[float, ...]:
        """The mean of the centres."""
        weighted = [[s * c for c in law.center] for law, s in zip(self.laws, self.shares, strict=True)]
        return tuple(map(sum, zip(*weighted, strict=True)))

    def transport(self, u: Tensor) -> Tensor:
        """Let the first uniform number choose the component and go on with what is left of it."""
        x, start = torch.empty_like(u), 0.0
        for law, share in zip(self.laws, self.shares, strict=True):
            mask = (u[:, 0] >= start) & (u[:, 0] < start + share)
            inner = u[mask].clone()
            inner[:, 0] = ((inner[:, 0] - start) / share).clamp(1e-12, 1 - 1e-12)
            x[mask] = law.transport(inner)
            start += share
        rest = u[:, 0] >= start  # rounding may leave a sliver below one
        if bool(rest.any()):
            x[rest] = self.laws[-1].transport(u[rest])
        return x

    def log_density(self, x: Tensor) -> Tensor:
        """Return the log of the weighted sum of densities."""
        terms = [law.log_density(x) + math.log(s) for law, s in zip(self.laws, self.shares, strict=True)]
        return torch.logsumexp(torch.stack(terms), 0)
