"""Named Schrodinger problems."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from nbsvd._errors import nearest, require
from nbsvd.exact import Hydrogen2D, Hydrogen2DBox, Hydrogen3D, InfiniteWell, Oscillator
from nbsvd.functions import BoxFactor, DecayFactor, GaussianFactor
from nbsvd.measures import Lebesgue, Radial, SquareRule, TruncatedGaussian, Uniform
from nbsvd.operators import Schrodinger
from nbsvd.problems.base import Problem

HALF_BOX = 50.0  # the paper's D
# beartype, which checks the annotations in tests, does not take an int for a float; we do.
Real = float | int


def is_real(number: object) -> bool:
    """Tell whether something is a number."""
    return isinstance(number, (int, float)) and not isinstance(number, bool)


def coulomb(dim: int) -> Schrodinger:
    """Return ``laplacian + 1/r``: an electron and a proton, ground state ``exp(-r / (d - 1))``."""
    return Schrodinger(lambda x: -1 / x.norm(dim=1), singular_points=[(0.0,) * dim])


def hydrogen2d(domain: Literal["plane", "box"] = "plane") -> Problem:
    r"""The two-dimensional hydrogen atom, ``laplacian + 1/|x|``.

    On the plane the values are :math:`\lambda_n = 1/(2n+1)^2`, 2n + 1 times each. In the paper's box
    ``[-50, 50]^2`` with zero boundary values they are slightly lower (by up to 3e-4 of themselves for the
    first nine); reference values there are computed, not closed.

    On the plane the ansatz decays like ``exp(-r/8)``, more slowly than the first sixteen functions; higher
    ones reach further out and need a problem with a longer :class:`~nbsvd.functions.DecayFactor`.

    Arguments:
        domain: ``"plane"``, the free atom, or ``"box"``, the paper's setting.

    Raises:
        ArgumentError: another domain.

    Source: Ryu et al., section 4; Yang et al. 1991 for the closed form.

    Example:
        >>> hydrogen2d().exact.values(4)
        tensor([1.0000, 0.1111, 0.1111, 0.1111], dtype=torch.float64)
    """
    nearest("domain", domain, ("plane", "box"))
    if domain == "plane":
        return Problem(
            coulomb(2),
            Lebesgue(Radial(2, scale=5.0)),
            DecayFactor(8.0),
            Hydrogen2D(),
            name="hydrogen2d",
            unit="half Bohr radii",
        )
    return Problem(
        coulomb(2),
        Lebesgue(TruncatedGaussian(2, scale=16.0, bound=HALF_BOX), rule=SquareRule(HALF_BOX)),
        BoxFactor(HALF_BOX),
        Hydrogen2DBox(resolution=1e-3),  # levels that the box splits by less than 1e-3 count as one
        name="hydrogen2d",
        options={"domain": "box"},
        unit="half Bohr radii",
    )


def hydrogen3d() -> Problem:
    r"""The three-dimensional hydrogen atom, ``laplacian + 1/|x|``.

    The values are :math:`1/(4 n^2)`, :math:`n^2` times each.

    Example:
        >>> hydrogen3d().exact.values(2)
        tensor([0.2500, 0.0625], dtype=torch.float64)
    """
    return Problem(
        coulomb(3),
        Lebesgue(Radial(3, scale=5.0)),
        DecayFactor(8.0),
        Hydrogen3D(),
        name="hydrogen3d",
        unit="half Bohr radii",
    )


def oscillator(
    frequencies: Sequence[Real] | None = None,
    *,
    K: Sequence[Sequence[Real]] | None = None,
    center: Sequence[Real] | None = None,
) -> Problem:
    r"""Coupled oscillators in any dimension, ``laplacian - (x - c)^T K (x - c)``.

    With :math:`\kappa_i = \omega_i^2` the eigenvalues of K, the values are
    :math:`-\sum_i (2 n_i + 1) \sqrt{\kappa_i}`, all negative: training shifts the operator and reports
    unshifted values.

    Only centre and size of the functions are declared here, by the slowest frequency; their axes, if K has
    any, are not. In four dimensions and more there is no quadrature rule, and nodes come from a law whose
    radii are as sharp as those of the functions.

    Arguments:
        frequencies: the omegas of uncoupled oscillators along the axes, ``(d,)``; three of 1 unless given.
        K: the stiffness matrix in their place, symmetric and positive definite, ``(d, d)``.
        center: c, ``(d,)``; the origin unless given.

    Raises:
        ArgumentError: both frequencies and K; frequencies that are not positive; a K that is not symmetric
            and positive definite.

    Example:
        >>> oscillator([1.0, 1.0, 2.0, 3.0]).exact.values(3)
        tensor([-7., -9., -9.], dtype=torch.float64)
        >>> oscillator(K=[[2.5, 1.5], [1.5, 2.5]]).exact.values(3)
        tensor([-3., -5., -7.], dtype=torch.float64)
    """
    omega = [1.0] * 3 if frequencies is None and K is None else frequencies
    return oscillator_problem("oscillator", omega, K, center)


def oscillator_problem(
    name: str,
    frequencies: Sequence[Real] | None,
    K: Sequence[Sequence[Real]] | None,
    center: Sequence[Real] | None,
) -> Problem:
    """Return an oscillator under a name."""
    for argument, numbers in (("frequencies", frequencies), ("center", center)):
        require(
            numbers is None
            or (
                not isinstance(numbers, str) and isinstance(numbers, Sequence) and all(map(is_real, numbers))
            ),
            argument,
            got=repr(numbers),
            expected="a sequence of numbers, one for each dimension",
        )
    exact = Oscillator(K, frequencies=frequencies, center=center)  # refuses bad arguments
    dim, c = exact.dim, list(exact.center)
    axes, omega = exact.axes, torch.tensor(exact.frequencies, dtype=torch.float64)

    def potential(x: Tensor) -> Tensor:
        return (((x - x.new_tensor(c)) @ axes.to(x) * omega.to(x)) ** 2).sum(1)

    length = 1 / math.sqrt(min(exact.frequencies))  # the width of the slowest ground state
    # Beyond three dimensions points must lie where functions with few quanta do: at nearly one radius.
    radius, power = (2 * length, 1.0) if dim <= 3 else (length * math.sqrt(dim / 2 + 1), 0.75 * dim)
    law = Radial(dim, scale=radius, center=c, power=power)
    given = {"frequencies": frequencies} if K is None else {"K": K}
    plain = {key: torch.as_tensor(value, dtype=torch.float64).tolist() for key, value in given.items()}
    return Problem(
        Schrodinger(potential),
        Lebesgue(law),
        GaussianFactor(1.3 * length, center=c),
        exact,
        name=name,
        options=plain | {"center": c},
        unit="oscillator lengths",
    )


def oscillator2d(frequencies: Sequence[Real] = (1.0, 1.0), center: Sequence[Real] = (0.0, 0.0)) -> Problem:
    r"""The two-dimensional oscillator, ``laplacian - sum_i omega_i^2 (x_i - c_i)^2``.

    The values are :math:`-\sum_i (2 n_i + 1)\,\omega_i`, all negative: training shifts the operator and
    reports unshifted values.

    Arguments:
        frequencies: the two omegas.
        center: c.

    Example:
        >>> oscillator2d().exact.values(3)
        tensor([-2., -4., -4.], dtype=torch.float64)
    """
    require(len(frequencies) == 2, "frequencies", got=list(frequencies), expected="two positive numbers")
    return oscillator_problem("oscillator2d", frequencies, None, center)


def infinite_well2d(side: float = 2.0) -> Problem:
    r"""A free particle in a square box with hard walls.

    The values are :math:`-\pi^2 (n^2 + m^2) / a^2`.

    Arguments:
        side: a; the box is ``[-a/2, a/2]^2``.

    Example:
        >>> infinite_well2d(side=math.pi).exact.values(2)
        tensor([-2., -5.], dtype=torch.float64)
    """
    require(math.isfinite(side) and side > 0, "side", got=side, expected="a positive length")
    half = side / 2
    return Problem(
        Schrodinger(lambda x: torch.zeros_like(x[:, 0])),
        Lebesgue(Uniform([-half] * 2, [half] * 2)),
        BoxFactor(half),
        InfiniteWell(side),
        name="infinite_well2d",
        options={"side": side},
    )
