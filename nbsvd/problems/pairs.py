"""Named problems that are known through pairs of points."""

import torch

from nbsvd._errors import ArgumentError
from nbsvd.exact import GaussianPair as ExactGaussianPair
from nbsvd.measures import Gaussian, GaussianPair, PairLaw, Pairs
from nbsvd.operators import Conditional
from nbsvd.problems.base import Problem


def check_samples(samples: object) -> int:
    """Return a number of pairs, or refuse it."""
    if isinstance(samples, int) and not isinstance(samples, bool) and samples >= 1:
        return samples
    raise ArgumentError(
        "samples",
        got=repr(samples),
        expected="an integer, at least 1: a number of pairs",
        remedy="Write it without point or exponent, such as 100000.",
    )


def gaussian_pair(rho: float = 0.8, samples: int | None = None, seed: int = 0) -> Problem:
    r"""The conditional expectation between two normal variables with correlation rho.

    The singular values are :math:`|\rho|^k`, k = 0, 1, ..., with Hermite polynomials on both sides; the
    constant comes first.

    Arguments:
        rho: correlation, between -1 and 1.
        samples: number of pairs of a data set; without it the law itself, from which fresh pairs are drawn.
        seed: of the data set.

    Example:
        >>> gaussian_pair(0.5).exact.values(3)
        tensor([1.0000, 0.5000, 0.2500], dtype=torch.float64)
    """
    law: PairLaw = GaussianPair(rho)
    if samples is not None:
        x, y = law.nodes(check_samples(samples), kind="iid", generator=torch.Generator().manual_seed(seed))
        law = Pairs(x.x, y.x, law_x=Gaussian(1), law_y=Gaussian(1))
    options: dict[str, object] = {"rho": rho, "samples": samples, "seed": seed}
    return Problem(
        Conditional(law),
        exact=ExactGaussianPair(rho),
        name="gaussian_pair",
        options=options,
        unit="deviations",
    )
