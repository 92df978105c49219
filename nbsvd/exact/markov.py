"""A Markov chain whose Koopman operator has finite rank, so that all of it is known."""

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from nbsvd._errors import require
from nbsvd.exact.base import Exact, as_points

NODES = 400  # of the Gauss-Legendre rule: at 200 the values are the same to 2e-14
LARGEST = 40  # beyond it the least singular functions are rounding


class LogisticMap(Exact):
    r"""The noisy logistic map ``X_{t+1} = 4 X_t (1 - X_t) + xi`` on the circle [0, 1): its Koopman operator.

    The noise has the density :math:`c_N \cos^N(\pi \xi)` on [-1/2, 1/2], N even. With F(y) = 4y(1 - y),

    .. math:: p(x \mid y) = c_N \cos^N \pi(x - F(y)) = \sum_{j=0}^{N} d_j\, e_j(x)\, e_j(F(y)), \qquad
        d = \binom{N}{N/2 + m} \Big/ \binom{N}{N/2}

    where e_j are 1 and :math:`\sqrt2 \cos 2\pi m x`, :math:`\sqrt2 \sin 2\pi m x` for m = 1 .. N/2 (expand
    :math:`\cos^N` by the binomial theorem in :math:`e^{\pm i\pi(x - F)}`). So

    .. math:: (K f)(y) = E[f(X_{t+1}) \mid X_t = y] = \int_0^1 p(x \mid y) f(x)\,dx

    has rank N + 1 exactly: both sets of functions are linearly independent. The stationary density
    :math:`\rho = \sum_j r_j e_j` is the trigonometric polynomial that solves a linear system of N + 1
    equations. In L2(rho) the singular functions are combinations of :math:`e_j / \rho` on the right, where
    functions of the *future* state live, and of :math:`e_j \circ F` on the left, those of the *present*: a
    matrix of N + 1 rows holds all of it. Its entries are integrals of smooth functions, by Gauss-Legendre.

    The constant comes first, with sigma = 1. The chain is not reversible: the sides differ, and the left
    functions are even about 1/2, since F is. Sign: phi_l is positive where, from 0 on, it first reaches half
    of its largest magnitude.

    Arguments:
        order: N, even, from 2 to 40; the standard deviation of the noise is about ``1 / (pi sqrt(N))``.

    Raises:
        ArgumentError: an order that is odd or out of range.

    Source: Ostruszka, Pakonski, Slomczynski and Zyczkowski, "Dynamical entropy for systems with stochastic
    perturbation", Phys. Rev. E 62 (2000) 2018, for the noise.

    Example:
        >>> chain = LogisticMap(20)
        >>> chain.max_k, [round(value, 4) for value in chain.values(3).tolist()]
        (21, [1.0, 0.9232, 0.8923])
    """

    dim = 1
    self_adjoint = False

    def __init__(self, order: int = 20, *, nodes: int = NODES) -> None:
        whole = isinstance(order, int) and not isinstance(order, bool)
        require(
            whole and order % 2 == 0 and 2 <= order <= LARGEST,
            "order",
            got=repr(order),
            expected=f"an even number from 2 to {LARGEST}",
            remedy="An odd power of the cosine changes sign on the circle: it is no density.",
        )
        self.order = order
        t, q = np.polynomial.legendre.leggauss(nodes)
        self._x, self._q = torch.from_numpy((t + 1) / 2), torch.from_numpy(q / 2)
        half = order // 2
        d = [math.comb(order, half + m) / math.comb(order, half) for m in range(half + 1)]
        self._d = torch.tensor([d[0], *d[1:], *d[1:]], dtype=torch.float64)
        e, ahead = self._waves(self._x), self._waves(mapped(self._x))
        self._back = (e * self._q[:, None]).mT @ ahead  # <e_i, e_j o F>: how expectations step back in time
        # r = D M r, M = <e_j o F, e_i>; its first equation reads r_0 = r_0, so r_0 = 1 takes its place
        A = torch.eye(order + 1, dtype=torch.float64) - self._d[:, None] * self._back.mT
        A[0] = 0.0
        A[0, 0] = 1.0
        self._r = torch.linalg.solve(A, torch.eye(order + 1, dtype=torch.float64)[0])

    @property
    def max_k(self) -> int:
        """The rank, N + 1."""
        return self.order + 1

    def density(self, x: Tensor) -> Float64[Tensor, " B"]:
        """Return the stationary density at points ``(B, 1)``."""
        density: Tensor = self._waves(as_points("x", x, 1)[:, 0]) @ self._r
        return density

    def transition(self, x: Tensor, y: Tensor) -> Float64[Tensor, "A B"]:
        """Return ``p(x | y)``, the density of the future ``x`` (A, 1) given the present ``y`` (B, 1)."""
        future, present = as_points("x", x, 1)[:, 0], as_points("y", y, 1)[:, 0]
        return (self._waves(future) * self._d) @ self._waves(mapped(present)).mT

    def predict(self, h: Callable[[Tensor], Tensor], y: Tensor, steps: int) -> Float64[Tensor, "{steps} B m"]:
        """Return ``E[h(X_n) | X_0 = y]`` for n = 1 .. ``steps``.

        Arguments:
            h: the observable, from points ``(A, 1)`` to ``(A, m)``, smooth on [0, 1].
            y: where the chain starts, ``(B, 1)``.
            steps: how far, at least 1.

        Raises:
            ArgumentError: no steps.

        Example:
            >>> LogisticMap(20).predict(lambda x: x, torch.tensor([[0.1], [0.9]]), 2)[:, :, 0]
            tensor([[0.3600, 0.3600],
                    [0.7256, 0.7256]], dtype=torch.float64)
        """
        require(isinstance(steps, int) and steps >= 1, "steps", got=repr(steps), expected="1 or more")
        start = self._waves(mapped(as_points("y", y, 1)[:, 0])) * self._d
        e = self._waves(self._x) * self._q[:, None]
        now = e.mT @ h(self._x[:, None]).to(torch.float64)
        means = []
        for _ in range(steps):
            means.append(start @ now)
            now = self._back @ (self._d[:, None] * now)
        return torch.stack(means)

    def trajectory(self, length: int, generator: torch.Generator, *, first: float = 0.3) -> Tensor:
        r"""Simulate ``length`` states of the stationary chain, ``(length, 1)``, float64.

        The noise is :math:`\xi = \arcsin(z_1 / |z|) / \pi` with z normal in N + 2 dimensions: a coordinate of
        a uniform point on that sphere has the density :math:`(1 - t^2)^{(N-1)/2}`.

        Arguments:
            length: number of states.
            generator: source of randomness.
            first: state from which a thousand steps are made before the first that is kept.
        """
        noise = []
        for start in range(0, length + WARM, 50_000):
            z = torch.randn(
                min(50_000, length + WARM - start), self.order + 2, generator=generator, dtype=torch.float64
            )
            noise.append(torch.asin(z[:, 0] / z.norm(dim=1)) / math.pi)
        x, states = first, []
        for xi in torch.cat(noise).tolist():
            x = (4.0 * x * (1.0 - x) + xi) % 1.0
            states.append(x)
        return torch.tensor(states[WARM:], dtype=torch.float64)[:, None]

    def _waves(self, t: Float64[Tensor, " B"]) -> Float64[Tensor, "B n"]:
        """Return e_j: the constant, the cosines, the sines; orthonormal on [0, 1]."""
        m = torch.arange(1, self.order // 2 + 1, dtype=torch.float64, device=t.device)
        angles = 2 * math.pi * t[:, None] * m
        return torch.cat(
            [torch.ones_like(t)[:, None], math.sqrt(2) * angles.cos(), math.sqrt(2) * angles.sin()], dim=1
        )

    @cached_property
    def _svd(self) -> tuple[Tensor, Tensor, Tensor]:
        """Values, and coefficients of the right functions over e / rho, of the left over e o F."""
        x, q = self._x, self._q
        e, ahead = self._waves(x), self._waves(mapped(x))
        rho = e @ self._r
        half_right = torch.linalg.cholesky(e.mT @ (e * (q / rho)[:, None]))
        half_left = torch.linalg.cholesky(ahead.mT @ (ahead * (q * rho)[:, None]))
        U, sigma, Vh = torch.linalg.svd(half_left.mT @ (self._d[:, None] * half_right))
        right = torch.linalg.solve_triangular(half_right.mT, Vh.mT, upper=True)
        left = torch.linalg.solve_triangular(half_left.mT, U, upper=True)
        phi = (e / rho[:, None]) @ right
        large = phi.abs() >= phi.abs().amax(dim=0) / 2  # the largest itself may be one of two equal ones
        signs = torch.sign(phi.gather(0, large.int().argmax(dim=0, keepdim=True)))
        return sigma, right * signs, left * signs

    def _values(self, k: int) -> Float64[Tensor, " k"]:
        return self._svd[0][:k].clone()

    def _functions(self, x: Float64[Tensor, "B d"], k: int) -> Float64[Tensor, "B k"]:
        e = self._waves(x[:, 0])
        over: Tensor = e @ self._svd[1][:, :k].to(e.device) / (e @ self._r.to(e.device))[:, None]
        return over

    def _left(self, y: Float64[Tensor, "B d"], k: int) -> Float64[Tensor, "B k"]:
        e = self._waves(mapped(y[:, 0]))
        functions: Tensor = e @ self._svd[2][:, :k].to(e.device)
        return functions


WARM = 1000  # steps before the first state that is kept


def mapped(y: Tensor) -> Tensor:
    """Return F(y) = 4 y (1 - y)."""
    return 4 * y * (1 - y)
