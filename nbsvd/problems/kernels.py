"""Named integral operators."""

import torch

from nbsvd.exact import Brownian, GaussianKernel, Volterra
from nbsvd.measures import Gaussian, Uniform
from nbsvd.operators import Integral
from nbsvd.problems.base import Problem


def volterra() -> Problem:
    r"""The Volterra operator ``(T f)(y) = int_0^y f`` on L2[0, 1].

    It has no eigenvalues at all, yet singular values :math:`\sigma_k = 2/((2k - 1)\pi)`.

    Example:
        >>> volterra().exact.values(2)
        tensor([0.6366, 0.2122], dtype=torch.float64)
    """
    unit = Uniform(0.0, 1.0)
    T = Integral(lambda x, y: (x < y.t()).to(x.dtype), unit, unit, self_adjoint=False, kink=True)
    return Problem(T, exact=Volterra(), name="volterra")


def brownian() -> Problem:
    r"""The covariance of Brownian motion, kernel ``min(x, y)`` on L2[0, 1].

    The values are :math:`4/((2k-1)^2 \pi^2)`.

    Example:
        >>> brownian().exact.values(2)
        tensor([0.4053, 0.0450], dtype=torch.float64)
    """
    T = Integral(lambda x, y: torch.minimum(x, y.t()), Uniform(0.0, 1.0), self_adjoint=True, kink=True)
    return Problem(T, exact=Brownian(), name="brownian")


def gaussian_kernel(length_scale: float = 1.0, s: float = 1.0) -> Problem:
    """The kernel ``exp(-(x - y)^2 / (2 l^2))`` under the normal law N(0, s^2).

    Arguments:
        length_scale: l, in the units of x.
        s: standard deviation of the law.

    Example:
        >>> gaussian_kernel().exact.values(2)
        tensor([0.6180, 0.2361], dtype=torch.float64)
    """
    exact = GaussianKernel(length_scale, s)  # refuses bad arguments
    T = Integral(
        lambda x, y: torch.exp(-((x - y.t()) ** 2) / (2 * length_scale**2)),
        Gaussian(1, scale=s),
        self_adjoint=True,
    )
    return Problem(T, exact=exact, name="gaussian_kernel", options={"length_scale": length_scale, "s": s})
