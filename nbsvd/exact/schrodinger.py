"""Schroedinger operators ``T = laplacian - potential`` with known bound states; Lebesgue measure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import NDArray
from torch import Tensor

from nbsvd._errors import ArgumentError, require
from nbsvd.exact.base import Exact, Real, as_center, as_positive
from nbsvd.exact.special import circular, hermite, laguerre, lowest, spherical


@dataclass(frozen=True)
class Hydrogen2D(Exact):
    r"""The hydrogen atom in the plane: ``T = laplacian + Z / r`` on R^2.

    .. math:: \lambda_n = \frac{Z^2}{(2n+1)^2}, \qquad
        \phi_{nm} = \frac{\beta}{\sqrt{2n+1}} \sqrt{\frac{(n-|m|)!}{(n+|m|)!}}\;
        \rho^{|m|} e^{-\rho/2} L_{n-|m|}^{2|m|}(\rho)\; e_m(\theta), \qquad
        \rho = \beta r,\ \beta = \frac{2Z}{2n+1}

    for n = 0, 1, ... and m = -n .. n, so that level n has 2n + 1 functions, in the order m = 0, 1, -1, 2, -2,
    ... The angular part is ``1/sqrt(2 pi)`` for m = 0, ``cos(m theta)/sqrt(pi)`` for m > 0 and ``sin(|m|
    theta)/sqrt(pi)`` for m < 0. The sign is such that the radial part is positive near the centre.
    Orthonormal in L2(R^2).

    Arguments:
        charge: Z > 0.
        center: where the nucleus is, 2 coordinates.

    Source: Yang, Guo, Chan, Wong and Ching, "Analytic solution of a two-dimensional hydrogen atom. I", Phys.
    Rev. A 43 (1991), 1186, in units where the kinetic energy is ``-laplacian``.

    Example:
        >>> atom = Hydrogen2D()
        >>> [round(1 / value) for value in atom.values(5).tolist()]
        [1, 9, 9, 9, 25]
        >>> atom.levels(5), atom.completed(5)
        ([[0], [1, 2, 3], [4]], 9)
    """

    dim = 2
    charge: Real = 1.0
    center: Sequence[Real] = (0.0, 0.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "charge", as_positive("charge", self.charge))
        object.__setattr__(self, "center", as_center(self.center, self.dim))

    def _tags(self, k: int) -> list[int]:
        return [math.isqrt(index) for index in range(k)]

    def _values(self, k: int) -> Float64[Tensor, " k"]:
        n = torch.tensor(self._tags(k), dtype=torch.float64)
        return self.charge**2 / (2 * n + 1) ** 2

    def _functions(self, x: Float64[Tensor, "B d"], k: int) -> Float64[Tensor, "B k"]:
        x = x - x.new_tensor(self.center)
        r = torch.linalg.vector_norm(x, dim=-1)
        states = [
            (n, m) for n in range(self._tags(k)[-1] + 1) for j in range(n + 1) for m in sorted({j, -j})[::-1]
        ]
        harmonics = circular(x, states[-1][0])
        columns = [
            coulomb(r, 2 * self.charge / (2 * n + 1), n - abs(m), abs(m), self.dim) * harmonics[m]
            for n, m in states[:k]
        ]
        return torch.stack(columns, dim=-1)


@dataclass(frozen=True)
class Hydrogen3D(Exact):
    r"""The hydrogen atom in space: ``T = laplacian + Z / r`` on R^3.

    .. math:: \lambda_n = \frac{Z^2}{4 n^2}, \qquad
        \phi_{nlm} = \beta^{3/2} \sqrt{\frac{(n-l-1)!}{2n\,(n+l)!}}\;
        \rho^l e^{-\rho/2} L_{n-l-1}^{2l+1}(\rho)\; Y_{lm}, \qquad \rho = \beta r,\ \beta = \frac{Z}{n}

    for n = 1, 2, ..., l = 0 .. n-1 and m = -l .. l: n^2 functions in level n, ordered by l, then m = 0, 1,
    -1, 2, -2, ... Y_lm are the real spherical harmonics without the Condon-Shortley sign (m > 0 with cos(m
    phi), m < 0 with ``sin(|m| phi)``); the radial part is positive near the centre. Orthonormal in L2(R^3).

    Arguments:
        charge: Z > 0.
        center: where the nucleus is, 3 coordinates.

    Source: Landau and Lifshitz, Quantum Mechanics, section 36, in units where the kinetic energy is
    ``-laplacian``.

    Example:
        >>> Hydrogen3D().values(6).mul(16).tolist()
        [4.0, 1.0, 1.0, 1.0, 1.0, 0.4444444444444444]
    """

    dim = 3
    charge: Real = 1.0
    center: Sequence[Real] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "charge", as_positive("charge", self.charge))
        object.__setattr__(self, "center", as_center(self.center, self.dim))

    def _tags(self, k: int) -> list[int]:
        return list(islice((n for n in count(1) for _ in range(n * n)), k))

    def _values(self, k: int) -> Float64[Tensor, " k"]:
        n = torch.tensor(self._tags(k), dtype=torch.float64)
        return self.charge**2 / (4 * n**2)

    def _functions(self, x: Float64[Tensor, "B d"], k: int) -> Float64[Tensor, "B k"]:
        x = x - x.new_tensor(self.center)
        r = torch.linalg.vector_norm(x, dim=-1)
        top = self._tags(k)[-1]
        harmonics = spherical(x, top - 1)
        radial = {
            (n, order): coulomb(r, self.charge / n, n - order - 1, order, self.dim)
            for n in range(1, top + 1)
            for order in range(n)
        }
        states = [
            (n, order, m)
            for n in range(1, top + 1)
            for order in range(n)
            for j in range(order + 1)
            for m in sorted({j, -j})[::-1]
        ]
        columns = [radial[n, order] * harmonics[order, m] for n, order, m in states[:k]]
        return torch.stack(columns, dim=-1)


def coulomb(r: Float64[Tensor, " B"], beta: float, nodes: int, order: int, dim: int) -> Float64[Tensor, " B"]:
    r"""Return the radial part of a Coulomb state, divided by ``r^order``.

    .. math:: R(r) = \beta^{d/2} \sqrt{\frac{j!}{(2j+\alpha+1)\,\Gamma(j+\alpha+1)}}\;
        \rho^{l} e^{-\rho/2} L_j^\alpha(\rho), \qquad \rho = \beta r,\ \alpha = 2l + d - 2

    with j = ``nodes`` and l = ``order``: ``int R^2 r^(d-1) dr = 1``, because
    ``int rho^(alpha+1) e^(-rho) L_j^alpha(rho)^2 = (2j + alpha + 1) Gamma(j + alpha + 1) / j!``.
    """
    alpha = 2 * order + dim - 2
    scale = math.exp((dim / 2 + order) * math.log(beta)) / math.sqrt(2 * nodes + alpha + 1)
    return scale * laguerre(beta * r, nodes, alpha)


class Oscillator(Exact):
    r"""The harmonic oscillator: ``T = laplacian - (x - c)^T K (x - c)`` on R^d.

    K is symmetric and positive definite.

    .. math:: \lambda_n = -\sum_i (2 n_i + 1)\,\omega_i, \qquad
        \phi_n(x) = \prod_i \omega_i^{1/4}\, h_{n_i}(\sqrt{\omega_i}\, u_i), \qquad u = V^T (x - c)

    with ``K = V diag(omega^2) V^T``, n_i = 0, 1, ... and h_n the normalised Hermite functions. The sign:
    positive as every u_i tends to infinity; the columns of V have their largest entry positive. V is the
    identity when K is diagonal. Inside an eigenspace of K of two dimensions or more, V is what the
    eigensolver gives. Orthonormal in L2(R^d). All values are negative: shift before a LoRA.

    Levels: sums within a relative distance of 1e-10 count as equal (equal eigenvalues of K, and resonances
    such as frequencies 1 and 2, reach us only up to rounding), and all members of a level are given its
    largest value. Inside a level the multi-indices are in lexicographic order.

    Arguments:
        K: stiffness matrix, ``(d, d)``. Give either this or ``frequencies``.
        frequencies: omega_i = sqrt of the eigenvalues of a diagonal K, ``(d,)``.
        center: c, ``(d,)``; ``None`` is the origin.

    Raises:
        ArgumentError: both or neither of K and frequencies; K not real, square, symmetric, positive definite.

    Source: any book of quantum mechanics, in units where the kinetic energy is ``-laplacian``.

    Example:
        >>> well = Oscillator(frequencies=(1, 2))
        >>> well.values(4).tolist(), well.levels(4)
        ([-3.0, -5.0, -7.0, -7.0], [[0], [1], [2, 3]])
    """

    TIE = 1e-10

    def __init__(
        self,
        K: Tensor | NDArray[Any] | Sequence[Sequence[Real]] | None = None,
        *,
        frequencies: Tensor | NDArray[Any] | Sequence[Real] | None = None,
        center: Tensor | NDArray[Any] | Sequence[Real] | None = None,
    ) -> None:
        if frequencies is not None and K is None:
            omega = torch.as_tensor(frequencies, dtype=torch.float64).detach().cpu()
            fine = (
                omega.ndim == 1
                and len(omega) >= 1
                and bool(torch.isfinite(omega).all() and (omega > 0).all())
            )
            require(
                fine, "frequencies", got=omega.tolist(), expected="one finite number above 0 per dimension"
            )
            axes = torch.eye(len(omega), dtype=torch.float64)
        elif K is not None and frequencies is None:
            omega, axes = _axes(K)
        else:
            raise ArgumentError(
                "K",
                got="neither K nor frequencies" if K is None else "both K and frequencies",
                expected="one of the two",
                remedy="frequencies are the square roots of the eigenvalues of K.",
            )
        self.frequencies: tuple[float, ...] = tuple(omega.tolist())
        self.axes = axes
        self.center = as_center(center, self.dim)

    @property
    def dim(self) -> int:
        """One dimension per frequency."""
        return len(self.frequencies)

    def _states(self, k: int) -> list[tuple[int, Real, tuple[int, ...]]]:
        def energy(index: tuple[int, ...]) -> float:
            return math.fsum((2 * n + 1) * omega for n, omega in zip(index, self.frequencies, strict=True))

        return lowest(energy, self.dim, k, self.TIE)[:k]

    def _tags(self, k: int) -> list[int]:
        return [level for level, _, _ in self._states(k)]

    def _values(self, k: int) -> Float64[Tensor, " k"]:
        return torch.tensor([-energy for _, energy, _ in self._states(k)], dtype=torch.float64)

    def _functions(self, x: Float64[Tensor, "B d"], k: int) -> Float64[Tensor, "B k"]:
        u = (x - x.new_tensor(self.center)) @ self.axes.to(x)
        indices = torch.tensor([index for _, _, index in self._states(k)], device=x.device)
        result = torch.ones(len(x), k, dtype=x.dtype, device=x.device)
        for i, omega in enumerate(self.frequencies):
            t = math.sqrt(omega) * u[:, i]
            table = hermite(
                t, (omega / math.pi) ** 0.25 * torch.exp(-(t**2) / 2), int(indices[:, i].max()) + 1
            )
            result = result * table[:, indices[:, i]]
        return result


def _axes(
    K: Tensor | NDArray[Any] | Sequence[Sequence[Real]],
) -> tuple[Float64[Tensor, " d"], Float64[Tensor, "d d"]]:
    """Return the frequencies and the orthonormal axes of a stiffness matrix."""
    matrix = K.detach().cpu() if isinstance(K, Tensor) else torch.as_tensor(np.asarray(K))
    shape = tuple(matrix.shape)
    square = len(shape) == 2 and shape[0] == shape[1] >= 1
    expected = "a real symmetric positive definite matrix, shape (d, d)"
    remedy = "Frequencies go in by name: Oscillator(frequencies=...)." if len(shape) == 1 else ""
    require(square, "K", got=f"shape {shape}", expected=expected, remedy=remedy)
    require(not matrix.is_complex(), "K", got=f"dtype {matrix.dtype}", expected=expected)
    rounding = torch.finfo(matrix.dtype).eps if matrix.is_floating_point() else 0.0
    matrix = matrix.to(torch.float64)
    require(bool(torch.isfinite(matrix).all()), "K", got="NaN or infinity", expected=expected)
    skew = float((matrix - matrix.T).abs().max())
    require(
        skew <= 10 * shape[0] * rounding * float(matrix.abs().max()),
        "K",
        got=f"K - K^T up to {skew:.1e}",
        expected=expected,
        remedy="(K + K.T) / 2 has the same quadratic form.",
    )
    if bool((matrix == torch.diag(matrix.diagonal())).all()):
        kappa, axes = matrix.diagonal().clone(), torch.eye(shape[0], dtype=torch.float64)
    else:
        kappa, axes = torch.linalg.eigh((matrix + matrix.T) / 2)
        axes = axes * torch.sign(axes.gather(0, axes.abs().argmax(dim=0, keepdim=True)))
    require(bool((kappa > 0).all()), "K", got=f"an eigenvalue {float(kappa.min()):.3g}", expected=expected)
    return kappa.sqrt(), axes


@dataclass(frozen=True)
class InfiniteWell(Exact):
    r"""A box with hard walls: ``T = laplacian`` with zero boundary values on ``c + [-a/2, a/2]^d``.

    .. math:: \lambda_n = -\frac{\pi^2}{a^2} \sum_i n_i^2, \qquad
        \phi_n(x) = \prod_i \sqrt{2/a}\, \sin\frac{n_i \pi (x_i - c_i + a/2)}{a}, \qquad n_i = 1, 2, \dots

    Levels are equal integers ``sum n_i^2`` (accidental ties such as 1 + 49 = 25 + 25 included); inside a
    level lexicographic order. Positive beside the corner ``c - a/2``; zero outside the box. Orthonormal in L2
    of the box. All values are negative: shift before a LoRA.

    Arguments:
        side: a > 0.
        dim: dimension d.
        center: c, ``(d,)``; ``None`` is the origin.

    Example:
        >>> well = InfiniteWell(side=math.pi)
        >>> well.values(4).round().tolist(), well.level_complete(9), well.completed(9)
        ([-2.0, -5.0, -5.0, -8.0], False, 10)
    """

    side: Real
    dim: int = 2
    center: Sequence[Real] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "side", as_positive("side", self.side))
        require(
            isinstance(self.dim, int) and self.dim >= 1,
            "dim",
            got=repr(self.dim),
            expected="an integer of at least 1",
        )
        object.__setattr__(self, "center", as_center(self.center, self.dim))

    def _states(self, k: int) -> list[tuple[int, Real, tuple[int, ...]]]:
        return lowest(lambda index: sum((n + 1) ** 2 for n in index), self.dim, k)[:k]

    def _tags(self, k: int) -> list[int]:
        return [level for level, _, _ in self._states(k)]

    def _values(self, k: int) -> Float64[Tensor, " k"]:
        squares = torch.tensor([square for _, square, _ in self._states(k)], dtype=torch.float64)
        return -((math.pi / self.side) ** 2) * squares

    def _functions(self, x: Float64[Tensor, "B d"], k: int) -> Float64[Tensor, "B k"]:
        t = (x - x.new_tensor(self.center)) / self.side + 0.5
        n = torch.tensor([index for _, _, index in self._states(k)], device=x.device) + 1
        waves = math.sqrt(2 / self.side) * torch.sin(math.pi * t[:, None, :] * n)  # (B, k, d)
        inside = ((t >= 0) & (t <= 1)).all(dim=-1, keepdim=True)
        return torch.where(inside, waves.prod(dim=-1), 0.0)
