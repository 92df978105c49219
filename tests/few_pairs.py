"""What the tests of learning from pairs share: small data, small networks, short runs."""

import torch

import nbsvd
from nbsvd import Conditional, Problem
from nbsvd.measures import Pairs

f64 = torch.float64
SMALL = {"widths": (16, 16)}
METHODS = ["sgd", "varpro"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=f64)


def solve(problem, k=3, **options):
    if isinstance(problem, Pairs):
        problem = Problem(Conditional(problem))
    return nbsvd.solve(problem, k, **{"steps": 10, "network": SMALL, "progress": False} | options)
