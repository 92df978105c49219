"""The Ritz solution on the untrained network: a start, and the control that training must beat."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nbsvd.functions import MLP, ConstantFirst, Jet, WithFactor
from nbsvd.measures import Counting, Measure, PairLaw, Parts
from nbsvd.operators import Operator
from nbsvd.spectrum import Moments, Spectrum, pencil, replicate, singular_pencil
from nbsvd.spectrum.moments import average, node_count
from nbsvd.spectrum.pencils import centred, with_constant

# Directions of the untrained basis whose share of the largest lies below this are left out: of the control,
# where they are noise; of the start of a differential operator's training already where the heads would need
# large coefficients of opposite sign, because the operator then magnifies each small change of the network
# beneath them.
BASIS_TOLERANCE, START_TOLERANCE = 1e-10, 1e-6
MARGIN = 0.3
ROUNDING = 1e-12


def has_basis(module: nn.Module) -> bool:
    """Tell whether a module has heads that combine a basis, which the Ritz solution can set."""
    inner = module.network if isinstance(module, (WithFactor, ConstantFirst)) else module
    return hasattr(inner, "first_basis") and hasattr(inner, "start_from")


class Basis(nn.Module):
    """The functions that the heads of an untrained network combine."""

    model: Any  # a network of ours

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Return the basis, ``(B, H)``."""
        basis: Tensor = self.model.first_basis(x)
        return basis

    def jet(self, x: Tensor, *, live: bool = False) -> Jet:
        """Return the jet of the basis."""
        jet: Jet = self.model.first_basis_jet(x, live=live)
        return jet

    def weak_jet(self, x: Tensor, order: int) -> Jet:
        """Return the live jet for a weak form, without the Laplacian where order 1 asks for no more."""
        inner = self.model.network if isinstance(self.model, WithFactor) else self.model
        if order == 2 or not isinstance(inner, MLP):
            return self.jet(x, live=True)
        jet = inner.first_basis_jet(x, live=True, order=1)
        return self.model.factor.jet(x, live=True) * jet if inner is not self.model else jet


@dataclass(frozen=True, eq=False)
class Start:
    """What the untrained network already knows.

    Arguments:
        values: Ritz values of the unshifted operator, ``(k,)``.
        shift: number added to the operator so that the k values to be learned are positive.
        right, left: coefficients of the k Ritz functions in the two bases, ``(H, k)``, unit norm.
        least: the smallest Ritz value of a self-adjoint operator, zero for any other.
        control: the Ritz solution itself.
        fit: the inner products that it comes from; of pairs those of the centred bases.
        means: of pairs, the means of both bases; else ``None``.
    """

    values: Tensor
    shift: float
    right: Tensor
    left: Tensor
    least: float
    control: Spectrum
    fit: Moments
    means: tuple[Tensor, Tensor] | None = None

    def scaled(self, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coefficients of functions of these norms, ``(k,)``, on both sides."""
        return self.right * sizes, self.left * sizes


def choose_shift(values: Tensor) -> float:
    """Return the number to add to a self-adjoint operator so that its first k values are positive.

    Ritz values lie below the exact ones, so positive Ritz values need no shift. Otherwise the smallest is
    lifted to three tenths of the spread: components with a negative value would be driven to zero, and would
    hold back the others; one with a small value would be slow.

    Arguments:
        values: Ritz values, descending, ``(k,)``.

    Example:
        >>> choose_shift(torch.tensor([1.0, 0.1])), choose_shift(torch.tensor([-2.0, -4.5]))
        (0.0, 5.25)
    """
    largest, smallest = float(values[0]), float(values[-1])
    if smallest > ROUNDING * largest:
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
    parts: Parts | None = None,
    **fields: Any,
) -> Start:
    """Solve the Ritz problem on the untrained bases; no parameter is changed.

    The coefficients come from one half of the nodes and the control's values from the other.

    Arguments:
        operator: T, unshifted.
        right, left: networks with a basis; the same one for an eigenproblem.
        measure_x, measure_y: reference measures of the two sides.
        k: number of components.
        generator: source of the nodes' randomness.
        device, dtype: where and how the inner products are computed.
        parts: of a conditional expectation, the pairs: coefficients come from those to train on, the
            control's values from those to measure on.
        fields: further fields of the control, such as ``exact``.

    Raises:
        ArgumentError: k above the number of independent functions of the network; a potential or kernel that
            is not finite on the nodes.
    """
    basis_f = Basis(copy.deepcopy(right)).to(device=device, dtype=dtype)
    basis_g = basis_f if left is right else Basis(copy.deepcopy(left)).to(device=device, dtype=dtype)

    def moments(pairs: PairLaw | None) -> list[Moments]:
        return replicate(
            operator,
            basis_f,
            basis_g,
            measure_x,
            measure_y,
            generator=generator,
            replicates=2,
            n=node_count(operator, measure_x),
            dtype=dtype,
            device=device,
            pairs=pairs,
        )

    seen = moments(None if parts is None else parts.train)
    fit = average(seen)
    matrix = isinstance(measure_x, Counting) and isinstance(measure_y, Counting)  # sums are exact
    tolerance = START_TOLERANCE if not operator.bounded else BASIS_TOLERANCE
    shift, least, means = 0.0, 0.0, None
    if parts is not None:
        means = fit.gram_f[0, 1:], fit.gram_g[0, 1:]
        k, fit = k - 1, centred(fit)
    if left is right:
        best, C = pencil(fit, k, tolerance=BASIS_TOLERANCE)
        values, right_start = pencil(fit, k, tolerance=tolerance)
        D, left_start, shift = C, right_start, choose_shift(best)
        turned = Moments(fit.gram_f, fit.gram_g, -fit.form)
        least = -float(pencil(turned, 1, tolerance=BASIS_TOLERANCE)[0])
    else:
        values, C, D = singular_pencil(fit, k, tolerance=tolerance)
        right_start, left_start = C, D
    if means is not None:
        values = torch.cat([values.new_ones(1), values])
        C, right_start = with_constant(C, means[0]), with_constant(right_start, means[0])
        D, left_start = with_constant(D, means[1]), with_constant(left_start, means[1])
    control = Spectrum(
        basis_f,
        basis_g,
        C,
        D,
        seen if matrix else moments(None if parts is None else parts.test),
        operator,
        measure_x,
        measure_y,
        label="control",
        **fields,
    )
    return Start(values, shift, right_start, left_start, least, control.with_signs(), fit, means)
