"""Named problems of dynamics: the Koopman operators of two Markov processes, known through trajectories."""

import math

import torch
from scipy.signal import lfilter
from torch import Tensor

from nbsvd.exact import LogisticMap, OrnsteinUhlenbeck
from nbsvd.measures import Gaussian, GaussianPair, PairLaw, Pairs
from nbsvd.operators import Conditional
from nbsvd.problems.base import Problem
from nbsvd.problems.pairs import check_samples


def ornstein_uhlenbeck(
    theta: float = 1.0, tau: float = 1.0, s: float = 1.0, samples: int | None = None, seed: int = 0
) -> Problem:
    r"""The Koopman operator of the stationary Ornstein-Uhlenbeck process over a time tau.

    .. math:: dX = -\theta X\,dt + s\sqrt{2\theta}\,dW, \qquad (K f)(y) = E[f(X_{t+\tau}) \mid X_t = y]

    The singular values are :math:`e^{-k\theta\tau}`, k = 0, 1, ..., with Hermite polynomials of x / s on both
    sides; the constant comes first.

    Arguments:
        theta: rate of return to 0, in 1 / time.
        tau: lag, in time.
        s: stationary standard deviation.
        samples: number of pairs from one stationary trajectory, observed each tau; without it the law itself,
            from which fresh pairs are drawn.
        seed: of the trajectory.

    Raises:
        ArgumentError: a parameter that is not positive.

    Example:
        >>> ornstein_uhlenbeck(tau=math.log(2)).exact.values(3)
        tensor([1.0000, 0.5000, 0.2500], dtype=torch.float64)
        >>> ornstein_uhlenbeck(samples=1000).operator.pairs
        Pairs(1000 pairs, x in 1 and y in 1 dimensions)
    """
    exact = OrnsteinUhlenbeck(theta, tau, s)  # refuses bad arguments
    rho = math.exp(-exact.theta * exact.tau)
    law: PairLaw = GaussianPair(rho, exact.s)
    if samples is not None:
        states = exact.s * _autoregression(
            rho, check_samples(samples) + 1, torch.Generator().manual_seed(seed)
        )
        stationary = Gaussian(1, scale=exact.s)
        law = Pairs.from_trajectory(states, law_x=stationary, law_y=stationary)
    options: dict[str, object] = {"theta": theta, "tau": tau, "s": s, "samples": samples, "seed": seed}
    return Problem(Conditional(law), exact=exact, name="ornstein_uhlenbeck", options=options)


def logistic_map(order: int = 20, samples: int = 100_000, seed: int = 0) -> Problem:
    r"""The Koopman operator of the noisy logistic map ``X_{t+1} = 4 X_t (1 - X_t) + xi``.

    States lie on the circle [0, 1).
    The noise has a density proportional to :math:`\cos^N(\pi \xi)`, which makes the rank N + 1: see
    :class:`~nbsvd.exact.LogisticMap`.

    Arguments:
        order: N, even.
        samples: number of pairs, from one stationary trajectory.
        seed: of the trajectory.

    Raises:
        ArgumentError: an order that is odd or out of range.

    Example:
        >>> problem = logistic_map(samples=1000)
        >>> problem.exact.max_k, len(problem.operator.pairs)
        (21, 1000)
    """
    exact = LogisticMap(order)
    states = exact.trajectory(check_samples(samples) + 1, torch.Generator().manual_seed(seed))
    options: dict[str, object] = {"order": order, "samples": samples, "seed": seed}
    law = Pairs.from_trajectory(states)
    return Problem(Conditional(law), exact=exact, name="logistic_map", options=options, unit="turns")


def _autoregression(rho: float, length: int, generator: torch.Generator) -> Tensor:
    """Return the stationary ``x_{t+1} = rho x_t + sqrt(1 - rho^2) z_t`` of variance 1, ``(length, 1)``."""
    z = torch.randn(length, generator=generator, dtype=torch.float64)
    z[1:] *= math.sqrt(1 - rho**2)
    return torch.from_numpy(lfilter([1.0], [1.0, -rho], z.numpy()))[:, None]
