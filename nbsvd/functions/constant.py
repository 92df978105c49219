"""Functions of which the first is the constant, exactly."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ConstantFirst(nn.Module):
    r"""A network whose first component is replaced by the constant 1, and whose others may be centred.

    .. math:: f_1 = 1, \qquad f_l = n_l - c_l \quad (l \ge 2)

    A conditional expectation has the constant as its first singular function on both sides, with value 1.
    With it held fixed, the nested objective of the others is that of the operator less this component, whose
    singular functions have mean zero. The numbers c are fixed in training and set to the means at its end.

    Arguments:
        network: maps ``(B, d)`` to ``(B, L)``; its first component plays no part.
        L: number of components, with the constant.

    Example:
        >>> from nbsvd.functions import MLP
        >>> net = ConstantFirst(MLP(3, 2, generator=torch.Generator().manual_seed(0)), 3)
        >>> net(torch.zeros(4, 2))[:, 0].tolist()
        [1.0, 1.0, 1.0, 1.0]
    """

    network: Any  # only some networks have L, dim, config and a basis to start from
    offset: Tensor

    def __init__(self, network: nn.Module, L: int) -> None:
        super().__init__()
        self.network, self.L = network, L
        like = next(network.parameters(), torch.empty(0))
        self.register_buffer("offset", torch.zeros(L - 1, dtype=like.dtype, device=like.device))

    @property
    def dim(self) -> int:
        """Dimension of a point."""
        return int(self.network.dim)

    @property
    def component_axis(self) -> int | None:
        """The axis of every parameter along which the components lie; ``None`` if they share any."""
        axis: int | None = getattr(self.network, "component_axis", None)
        return axis

    def config(self) -> dict[str, object]:
        """Describe the network."""
        return {"name": "ConstantFirst", "network": self.network.config(), "L": self.L}

    def forward(self, x: Float[Tensor, "B d"]) -> Float[Tensor, "B L"]:
        """Return the constant and the values of the other components."""
        others = self.network(x)[:, 1:] - self.offset
        return torch.cat([torch.ones_like(others[:, :1]), others], 1)

    def first_basis(self, x: Float[Tensor, "B d"]) -> Float[Tensor, "B H"]:
        """Return the constant and the network's own basis."""
        basis: Tensor = self.network.first_basis(x)
        return torch.cat([torch.ones_like(basis[:, :1]), basis], 1)

    @torch.no_grad()
    def start_from(self, coefficients: Float[Tensor, "H L"]) -> None:
        """Set the heads to combinations of the basis; the constant's share goes to the offset."""
        self.network.start_from(coefficients[1:])
        self.offset.copy_(-coefficients[0, 1:])

    @torch.no_grad()
    def centre(self, means: Float[Tensor, " M"]) -> None:
        """Subtract these means of the components after the first, ``(L - 1,)``, besides any before."""
        self.offset += means.to(self.offset)
