"""Measures with an integral that is known: what the tests of measures go through."""

import math

import scipy.stats
import torch

from nbsvd.measures import (
    Counting,
    Empirical,
    Gaussian,
    Lebesgue,
    Mixture,
    PolarRule,
    Radial,
    TruncatedGaussian,
    Uniform,
)

f64 = torch.float64
DATA = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=f64)
two = Mixture([Radial(2, scale=1.0, center=(1.0, 0.0)), Radial(2, scale=2.0, center=(-1.0, 0.0))], [3.0, 1.0])


def cosine(x):
    return torch.cos(x[:, 0])


def square(x):
    return x[:, 0] ** 2


def norm(x):
    return x.norm(dim=1)


def bell(x):
    """The normal density of width one half around (0.3, 0, ...): its Lebesgue integral is 1."""
    z = x.clone()
    z[:, 0] -= 0.3
    return (-2 * (z * z).sum(1)).exp() * (2 / math.pi) ** (x.shape[1] / 2)


def truncated_square(s, b):
    """Variance of a normal law of width s conditioned on [-b, b]."""
    law = scipy.stats.truncnorm(-b / s, b / s, scale=s)
    return float(law.var())


def heavy(x, s, c):
    """For the radial law its mean is 1/(2 s d): a bounded function of radius and direction."""
    z = x - x.new_tensor(c)
    r = z.norm(dim=1)
    return (z[:, 0] / r) ** 2 / (s + r)


# measure, function, integral, nodes of the quadrature rule, bound on its relative error
CASES = {
    "uniform 1": (Uniform(-1.0, 2.0), square, 1.0, 30, 1e-12),
    "uniform 2": (Uniform((0.0, -1.0), (1.5, 0.5)), cosine, math.sin(1.5) / 1.5, 400, 1e-10),
    "uniform 4": (Uniform((0.0,) * 4, (1.0,) * 4), cosine, math.sin(1.0), None, None),
    "gaussian 1": (Gaussian(1, scale=2.0, mean=0.5), cosine, math.exp(-2) * math.cos(0.5), 200, 1e-9),
    "gaussian 2": (Gaussian(2, scale=2.0), cosine, math.exp(-2), 1600, 1e-12),
    "gaussian 3": (Gaussian(3, scale=0.7, mean=1.0), square, 1.49, 512, 1e-12),
    "gaussian 5": (Gaussian(5), cosine, math.exp(-0.5), None, None),
    "truncated 1": (TruncatedGaussian(1, scale=16.0, bound=50.0), square, truncated_square(16, 50), 60, 1e-9),
    "truncated 2": (TruncatedGaussian(2, scale=1.0, bound=1.0), square, truncated_square(1, 1), 400, 1e-10),
    "truncated 4": (TruncatedGaussian(4, scale=2.0, bound=3.0), square, truncated_square(2, 3), None, None),
    **{
        f"radial {d}": (
            Radial(d, scale=1.5, center=(0.5,) * d),
            lambda x, d=d: heavy(x, 1.5, (0.5,) * d),
            1 / (3 * d),
            {1: 60, 2: 640, 3: 4000}.get(d),
            1e-9,
        )
        for d in range(1, 6)
    },
    "radial 6, sharp": (
        Radial(6, scale=1.5, power=4.5),
        lambda x: (x[:, 0] / norm(x)) ** 2,
        1 / 6,
        None,
        None,
    ),
    "mixture": (
        Mixture([Gaussian(1, scale=0.5), Gaussian(1, scale=2.0, mean=3.0)], [1.0, 3.0]),
        cosine,
        0.25 * math.exp(-0.125) + 0.75 * math.exp(-2) * math.cos(3.0),
        None,
        None,
    ),
    "empirical": (Empirical(DATA), square, float(square(DATA).mean()), 7, 1e-13),
    "counting": (Counting(10), lambda x: x[:, 0].to(f64) ** 2, 285.0, 7, 1e-13),
    "dx, uniform": (Lebesgue(Uniform((-3.0, -3.0), (3.0, 3.0))), bell, 1.0, 2500, 1e-6),
    "dx, gaussian 1": (Lebesgue(Gaussian(1, scale=1.5)), bell, 1.0, 80, 1e-8),
    "dx, gaussian 3": (Lebesgue(Gaussian(3, scale=1.0)), bell, 1.0, 64000, 1e-5),
    "dx, gaussian 4": (Lebesgue(Gaussian(4, scale=1.0)), bell, 1.0, None, None),
    "dx, truncated": (Lebesgue(TruncatedGaussian(2, scale=1.5, bound=4.0)), bell, 1.0, 3600, 1e-7),
    **{
        f"dx, radial {d}": (
            Lebesgue(Radial(d, scale=1.0)),
            bell,
            1.0,
            {1: 80, 2: 4000, 3: 20000}.get(d),
            1e-6,
        )
        for d in range(1, 6)
    },
    "dx, radial 6, sharp": (Lebesgue(Radial(6, scale=1.3, power=4.5)), bell, 1.0, None, None),
    "dx, mixture": (Lebesgue(two), bell, 1.0, None, None),
    "dx, mixture and rule": (Lebesgue(two, rule=PolarRule(2.0)), bell, 1.0, 4000, 1e-6),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)
