"""The Ritz solution on the untrained network: a start for training, and the control that training must beat."""

import copy

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nbsvd.functions import Jet
from nbsvd.measures import Measure
from nbsvd.operators import Operator
from nbsvd.spectrum import Moments, Result, pencil, replicate, singular_pencil
from nbsvd.spectrum.moments import average, node_count

# Directions of the untrained basis below this share of the largest are noise in float32 heads.
BASIS_TOLERANCE = 1e-10
MARGIN = 0.1
FLOOR = 1e-3


class Basis(nn.Module):
    """The functions that the heads of an untrained network combine."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Return the basis, ``(B, H)``."""
        basis: Tensor = self.model.first_basis(x)
        return basis

    def jet(self, x: Tensor, *, live: bool = False) -> Jet:
        """Return the jet of the basis."""
        jet: Jet = self.model.first_basis_jet(x)
        return jet


@dataclass(frozen=True)
class Start:
    """What the untrained network already knows.

    Arguments:
        values: Ritz values of the unshifted operator, ``(k,)``.
        shift: number added to the operator so that the k values to be learned are positive.
        right, left: coefficients of the k Ritz functions in the two bases, ``(H, k)``, unit norm.
        control: the Ritz solution as a :class:`~nbsvd.spectrum.Result`.
    """

    values: Tensor
    shift: float
    right: Tensor
    left: Tensor
    control: Result

    def scaled(self) -> tuple[Tensor, Tensor]:
        """Return the coefficients scaled to the optimum of the objective: norm ``sqrt(value + shift)`` on each side."""
        size = torch.sqrt((self.values + self.shift).clamp_min(FLOOR * float(self.values.abs().max() + self.shift)))
        return self.right * size, self.left * size


def choose_shift(values: Tensor) -> float:
    """Return the number to add to a self-adjoint operator so that its first k values are positive.

    Ritz values lie below the exact ones, so positive Ritz values need no shift. Otherwise the smallest is lifted to a
    tenth of the spread: components with a negative value would be driven to zero, and would hold back the others.

    Example:
        >>> choose_shift(torch.tensor([1.0, 0.1])), round(choose_shift(torch.tensor([-2.0, -4.0])), 3)
        (0.0, 4.2)
    """
    largest, smallest = float(values[0]), float(values[-1])
    if smallest > 0:
        return 0.0
    spread = max(largest - smallest, abs(largest), 1e-12)
    return MARGIN * spread - smallest


def ritz_start(
    operator: Operator,
    right: nn.Module,
    left: nn.Module,
    measure_x: Measure,
    measure_y: Measure,
    k: int,
    *,
    generator: torch.Generator,
    device: torch.device,
    dtype: torch.dtype = torch.float64,
    **fields: Any,
) -> Start:
    """Solve the Ritz problem on the untrained bases; no parameter is changed.

    The coefficients come from one half of the nodes and the control's values from the other.

    Raises:
        ArgumentError: k above the width of the network.
    """
    basis_f = Basis(copy.deepcopy(right)).to(device=device, dtype=dtype)
    basis_g = basis_f if left is right else Basis(copy.deepcopy(left)).to(device=device, dtype=dtype)

    def moments(replicates: int, n: int) -> list[Moments]:
        return replicate(
            operator,
            basis_f,
            basis_g,
            measure_x,
            measure_y,
            generator=generator,
            replicates=replicates,
            n=n,
            dtype=dtype,
            device=device,
        )

    n = node_count(operator)
    fit = average(moments(2, n))
    if left is right:
        values, C = pencil(fit, k, tolerance=BASIS_TOLERANCE)
        D, shift = C, choose_shift(values)
    else:
        values, C, D = singular_pencil(fit, k, tolerance=BASIS_TOLERANCE)
        shift = 0.0
    test = moments(2, n)
    control = Result(
        basis_f, basis_g, C, D, test, operator, measure_x, measure_y, label="control", **fields
    )._with_signs()
    return Start(values, shift, C, D, control)


