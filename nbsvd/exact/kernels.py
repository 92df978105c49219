"""Integral operators, conditional expectations and matrices with known singular value decompositions."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from nbsvd._errors import require
from nbsvd.exact.base import Exact, Real, as_positive
from nbsvd.exact.special import hermite


class _Line(Exact):
    """Problems whose points are numbers: ``(B, 1)``."""

    dim = 1


@dataclass(frozen=True)
class Volterra(_Line):
    r"""Integration from 0: ``(T f)(y) = int_0^y f(x) dx`` on L2[0, 1].

    .. math:: \sigma_k = \frac{2}{(2k-1)\pi}, \quad \phi_k(x) = \sqrt2 \cos\frac{(2k-1)\pi x}{2}, \quad
        \psi_k(y) = \sqrt2 \sin\frac{(2k-1)\pi y}{2}

    T has no eigenvalue at all and still a complete singular value decomposition. Signs: both sides start
    positive at 0. Orthonormal in L2[0, 1].

    Source: Halmos, A Hilbert Space Problem Book, on the norm of the Volterra operator.

    Example:
        >>> (1 / Volterra().values(3) / math.pi).tolist()
        [0.5, 1.5, 2.5]
    """

    self_adjoint = False

    def _values(self, k: int) -> Float64[Tensor, " k"]:
        return 1 / _half_waves(k)

    def _functions(self, x: Float64[Tensor, "B d"], k: int) -> Float64[Tensor, "B k"]:
        return math.sqrt(2) * torch.cos(x * _half_waves(k).to(x))

    def _left(self, y: Float64[Tensor, "B d"], k: int) -> Float64[Tensor, "B k"]:
        return math.sqrt(2) * torch.sin(y * _half_waves(k).to(y))


@dataclass(frozen=True)
class Brownian(_Line):
    r"""Covariance of Brownian motion: ``(T f)(y) = int_0^1 min(x, y) f(x) dx``, Volterra times its adjoint.

    .. math:: \lambda_k = \frac{4}{(2k-1)^2 \pi^2}, \qquad \phi_k(x) = \sqrt2 \sin\frac{(2k-1)\pi x}{2}

    Sign: positive beside 0. Orthonormal in L2[0, 1].

    Source: the Karhunen-Loeve expansion of the Wiener process.

    Example:
        >>> torch.equal(Brownian().values(5), Volterra().values(5) ** 2)
        True
    """

    def _values(self, k: int) -> Float64[Tensor, " k"]:
        return (1 / _half_waves(k)) ** 2

    def _functions(self, x: Float64[Tensor, "B d"], k: int) -> Float64[Tensor, "B k"]:
        return math.sqrt(2) * torch.sin(x * _half_waves(k).to(x))


def _half_waves(k: int) -> Float64[Tensor, " k"]:
    """Return the wave numbers ``(2j - 1) pi / 2``, j = 1 .. k."""
    return (torch.arange(k, dtype=torch.float64) + 0.5) * math.pi


@dataclass(frozen=True)
class GaussianKernel(_Line):
    r"""The Gaussian kernel under a Gaussian law: ``(T f)(y) = E[exp(-(X - y)^2 / (2 l^2)) f(X)]``.

    The expectation is over X ~ N(0, s^2).

    .. math:: a = \frac{1}{4 s^2},\quad b = \frac{1}{2 l^2},\quad c = \sqrt{a^2 + 2ab},\quad A = a + b + c

    .. math:: \lambda_k = \sqrt{\frac{2a}{A}} \left(\frac{b}{A}\right)^k, \qquad
        \phi_k(x) = \frac{(c/a)^{1/4}}{\sqrt{2^k k!}}\, H_k(\sqrt{2c}\, x)\, e^{-(c-a) x^2}, \quad k \ge 0

    The values add up to the trace, 1. Sign: positive as x tends to infinity. Orthonormal in L2(N(0, s^2)).

    Arguments:
        length_scale: l > 0, in the unit of x.
        s: standard deviation of the law of the points, in the unit of x.

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, section 4.3.1, with the norm
    filled in.

    Example:
        >>> print(f"{GaussianKernel(1.0, 1.0).values(100).sum():.12f}")
        1.000000000000
    """

    length_scale: Real = 1.0
    s: Real = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "length_scale", as_positive("length_scale", self.length_scale))
        object.__setattr__(self, "s", as_positive("s", self.s))

    def _constants(self) -> tuple[float, float, float]:
        a, b = 1 / (4 * self.s**2), 1 / (2 * self.length_scale**2)
        return a, b, math.sqrt(a * a + 2 * a * b)

    def _values(self, k: int) -> Float64[Tensor, " k"]:
        a, b, c = self._constants()
        total = a + b + c
        return math.sqrt(2 * a / total) * (b / total) ** torch.arange(k, dtype=torch.float64)

    def _functions(self, x: Float64[Tensor, "B d"], k: int) -> Float64[Tensor, "B k"]:
        a, b, c = self._constants()
        t = x[:, 0]
        # c - a = 2ab / (c + a), without the cancellation when the length scale is long.
        return hermite(math.sqrt(2 * c) * t, (c / a) ** 0.25 * torch.exp(-2 * a * b / (c + a) * t**2), k)


@dataclass(frozen=True)
class GaussianPair(_Line):
    r"""Conditional expectation of a Gaussian pair: ``(T f)(y) = E[f(X) | Y = y]``, correlation rho.

    Both margins are N(0, 1).

    .. math:: \sigma_k = |\rho|^k, \qquad \phi_k = h_k, \qquad \psi_k = \operatorname{sign}(\rho)^k\, h_k,
        \qquad k = 0, 1, \dots

    h_k are the Hermite polynomials orthonormal under N(0, 1), with positive leading coefficient. The constant
    comes first, with sigma = 1. For rho < 0 the left functions carry (-1)^k (Mehler's formula), so the sides
    differ and ``self_adjoint`` is false. For rho = 0 only the constant is left: ``max_k`` is 1.

    Arguments:
        rho: correlation, ``|rho| < 1``.

    Source: Lancaster, "The structure of bivariate distributions", Ann. Math. Statist. 29 (1958), 719.

    Example:
        >>> pair = GaussianPair(-0.5)
        >>> pair.values(3).tolist(), pair.left(torch.ones(1, 1), 2).tolist()
        ([1.0, 0.5, 0.25], [[1.0, -1.0]])
    """

    rho: Real

    def __post_init__(self) -> None:
        require(
            abs(self.rho) < 1,
            "rho",
            got=repr(self.rho),
            expected="a correlation between -1 and 1, ends excluded",
        )
        object.__setattr__(self, "rho", float(self.rho))

    @property
    def max_k(self) -> int | None:
        """No end, but 1 for independent variables."""
        return 1 if self.rho == 0 else None

    @property
    def self_adjoint(self) -> bool:
        """Not for a negative correlation, where the sides differ in sign."""
        return self.rho >= 0

    def _values(self, k: int) -> Float64[Tensor, " k"]:
        return abs(self.rho) ** torch.arange(k, dtype=torch.float64)

    def _functions(self, x: Float64[Tensor, "B d"], k: int) -> Float64[Tensor, "B k"]:
        return _polynomials(x, k)

    def _left(self, y: Float64[Tensor, "B d"], k: int) -> Float64[Tensor, "B k"]:
        signs = math.copysign(1.0, self.rho) ** torch.arange(k, dtype=torch.float64, device=y.device)
        return signs * _polynomials(y, k)


@dataclass(frozen=True)
class OrnsteinUhlenbeck(_Line):
    r"""The Ornstein-Uhlenbeck process over a time tau, stationary: ``(T f)(x) = E[f(X_tau) | X_0 = x]``.

    .. math:: dX = -\theta X\,dt + s\sqrt{2\theta}\,dW, \qquad
        \sigma_k = e^{-k \theta \tau}, \qquad \phi_k(x) = h_k(x / s), \qquad k = 0, 1, \dots

    h_k are the Hermite polynomials orthonormal under N(0, 1), with positive leading coefficient; the phi_k
    are orthonormal under the stationary law N(0, s^2). F holds functions of the future state, G of the
    present one; the process is reversible, so both sides are the same. The constant comes first, with sigma =
    1.

    Arguments:
        theta: rate of return to 0, in 1 / time, > 0.
        tau: lag, in time, > 0.
        s: stationary standard deviation, > 0.

    Source: Pavliotis, Stochastic Processes and Applications, section 4.4.

    Example:
        >>> OrnsteinUhlenbeck(theta=1, tau=math.log(2)).values(3)
        tensor([1.0000, 0.5000, 0.2500], dtype=torch.float64)
    """

    theta: Real = 1.0
    tau: Real = 1.0
    s: Real = 1.0

    def __post_init__(self) -> None:
        for name in ("theta", "tau", "s"):
            object.__setattr__(self, name, as_positive(name, getattr(self, name)))

    def _values(self, k: int) -> Float64[Tensor, " k"]:
        return torch.exp(-self.theta * self.tau * torch.arange(k, dtype=torch.float64))

    def _functions(self, x: Float64[Tensor, "B d"], k: int) -> Float64[Tensor, "B k"]:
        return _polynomials(x / self.s, k)


def _polynomials(x: Float64[Tensor, "B d"], k: int) -> Float64[Tensor, "B k"]:
    """Return the Hermite polynomials of degree 0 .. k-1 that are orthonormal under N(0, 1)."""
    return hermite(x[:, 0] / math.sqrt(2), torch.ones_like(x[:, 0]), k)


class MatrixExact(_Line):
    r"""The singular value decomposition of a dense matrix, as an oracle: ``(T f)(y) = sum_x A[y, x] f(x)``.

    .. math:: A = \sum_l \sigma_l\, \psi_l \phi_l^T

    A point is an index: ``x`` (B, 1) holds column numbers, ``y`` (B, 1) row numbers (of any dtype, whole
    numbers). Functions are rows of the table of singular vectors, orthonormal for the counting measure
    ``sum_x``, which in the mean convention is a weight of n on each of the n points. Sign: the entry of phi_l
    of largest magnitude is positive.

    Levels: there are no quantum numbers, so values that differ by less than ``10 max(m, n) eps`` times the
    largest magnitude, what the decomposition itself can resolve, count as one level. Where sigma = 0 the two
    sides have nothing to do with each other: ask for no more functions than the rank if you mean to compare
    pairs.

    Arguments:
        A: matrix, ``(m, n)``, real and finite.
        self_adjoint: A is symmetric; give signed eigenvalues, descending, in place of singular values.

    Raises:
        ArgumentError: A is not a finite real matrix, or not symmetric though said to be.

    Example:
        >>> A = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> values = MatrixExact(A).values(2), MatrixExact(A, self_adjoint=True).values(2)
        >>> [[round(value) for value in side.tolist()] for side in values]
        [[1, 1], [1, -1]]
    """

    def __init__(self, A: Tensor, *, self_adjoint: bool = False) -> None:
        expected = "a finite real matrix, shape (m, n)"
        require(
            isinstance(A, Tensor) and A.ndim == 2 and A.numel() > 0,
            "A",
            got=f"shape {tuple(A.shape)}" if isinstance(A, Tensor) else type(A).__name__,
            expected=expected,
        )
        require(not A.is_complex(), "A", got=f"dtype {A.dtype}", expected=expected)
        rounding = torch.finfo(A.dtype).eps if A.is_floating_point() else 0.0
        A = (A.to_dense() if A.layout != torch.strided else A).detach().cpu().to(torch.float64)
        require(bool(torch.isfinite(A).all()), "A", got="NaN or infinity", expected=expected)
        if self_adjoint:
            slack = 10 * len(A) * rounding * float(A.abs().max())
            symmetric = A.shape[0] == A.shape[1] and torch.allclose(A, A.T, rtol=0, atol=slack)
            require(
                symmetric,
                "A",
                got=f"a matrix of shape {tuple(A.shape)} that differs from its transpose",
                expected="a symmetric matrix, since self_adjoint=True",
                remedy="Leave self_adjoint out for singular values, or pass (A + A.T) / 2.",
            )
            values, vectors = torch.linalg.eigh((A + A.T) / 2)
            sigma, right = values.flip(0), vectors.flip(1)
            left = right
        else:
            left, sigma, right_t = torch.linalg.svd(A, full_matrices=False)
            right = right_t.T
        signs = torch.sign(right.gather(0, right.abs().argmax(dim=0, keepdim=True)))
        self._self_adjoint, self._sigma = self_adjoint, sigma
        self._right, self._psi = right * signs, left * signs
        self._tie = 10 * max(A.shape) * torch.finfo(torch.float64).eps * float(sigma.abs().max())

    @property
    def max_k(self) -> int:
        """The smaller of the two sizes of the matrix."""
        return len(self._sigma)

    @property
    def self_adjoint(self) -> bool:
        """As it was said to be."""
        return self._self_adjoint

    def _tags(self, k: int) -> list[int]:
        tags: list[int] = []
        first = 0
        for index, value in enumerate(self._sigma[:k].tolist()):
            if float(self._sigma[first]) - value > self._tie:
                first = index
            tags.append(first)
        return tags

    def _values(self, k: int) -> Float64[Tensor, " k"]:
        values: Tensor = self._sigma[:k].clone()
        return values

    def _functions(self, x: Float64[Tensor, "B d"], k: int) -> Float64[Tensor, "B k"]:
        return _rows("x", self._right, x, "column")[:, :k]

    def _left(self, y: Float64[Tensor, "B d"], k: int) -> Float64[Tensor, "B k"]:
        return _rows("y", self._psi, y, "row")[:, :k]


def _rows(
    name: str, table: Float64[Tensor, "n r"], x: Float64[Tensor, "B d"], what: str
) -> Float64[Tensor, "B r"]:
    """Look up rows of a table by points that are whole numbers."""
    index = x[:, 0]
    fine = bool(((index == index.round()) & (index >= 0) & (index < len(table))).all())
    require(fine, name, got="other numbers", expected=f"{what} numbers from 0 to {len(table) - 1}")
    rows: Tensor = table.to(x.device)[index.long()]
    return rows
