"""Where the functions live and how they decay, found from the operator itself.

Centre, length and decay that are wrong by a factor cost more than any optimizer can win back. They need not be
guessed: the Ritz functions of an untrained network show, roughly, where the sought functions are, and how well a
decay suits them.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nbsvd.functions import DecayFactor, Factor, GaussianFactor
from nbsvd.measures import Lebesgue, Radial
from nbsvd.problems import Problem
from nbsvd.training.heads import Heads, sample
from nbsvd.training.models import default_network
from nbsvd.training.start import Basis, choose_shift

SWEEPS, STILL = 6, 0.2
RATIOS = (0.4, 0.8, 1.6)  # of a decay's length to the law's
WIDTHS = (32, 64)


@dataclass(frozen=True, eq=False)
class Trial:
    """What untrained functions make of one centre, length and decay."""

    ansatz: Factor
    values: Tensor
    center: Tensor
    length: float


def find_frame(problem: Problem, k: int, generator: torch.Generator, *, verbose: bool = False) -> Problem:
    """Return the problem with a sampling law and an ansatz that fit its first k functions.

    The law is moved to the centre of mass of the Ritz functions' squares, and takes their size as its length; the
    decay is the one of a few, exponential or Gaussian, with the best Ritz values. This is repeated until it
    stands still.

    Arguments:
        problem: one on all of R^d, without an ansatz.
        k: how many functions.
        generator: source of nodes and networks.
    """
    law = problem.measure.law
    center, length = torch.tensor(law.center, dtype=torch.float64), float(law.length)
    best: Trial | None = None
    for _ in range(SWEEPS):
        trials = [try_one(problem, k, generator, center, length, a) for a in decays(length, center)]
        chosen = pick(trials, k)
        if verbose:
            print(f"center {center.tolist()} length {length:.3g}: {type(chosen.ansatz).__name__} {chosen.ansatz.config()} values {chosen.values[:k].tolist()[:3]} {chosen.values[k-1]:.4g} -> {chosen.center.tolist()}, {chosen.length:.3g}")
        best = chosen
        grown = min(4.0, max(0.25, chosen.length / length))
        moved = float((chosen.center - center).norm()) / length
        center, length = chosen.center, length * grown
        if abs(math.log(grown)) < STILL and moved < STILL:
            break
    assert best is not None
    return framed(problem, center, length, best.ansatz)


def framed(problem: Problem, center: Tensor, length: float, ansatz: Factor) -> Problem:
    law = Radial(problem.dim, scale=length, center=center.tolist())
    return replace(problem, measure=Lebesgue(law), measure_y=None, ansatz=ansatz)


def decays(length: float, center: Tensor) -> list[Factor]:
    made: list[Factor] = [DecayFactor(r * length, center=center.tolist()) for r in RATIOS]
    return made + [GaussianFactor(r * length, center=center.tolist()) for r in RATIOS]


def try_one(problem: Problem, k: int, generator: torch.Generator, center: Tensor, length: float, ansatz: Factor) -> Trial:
    here = framed(problem, center, length, ansatz)
    net = default_network(here, here.measure, k, generator, {"disjoint": False, "widths": WIDTHS}).double()
    nodes = here.measure.nodes(2000, kind=here.measure.evaluation_kind, generator=generator)
    with torch.no_grad():
        s = sample(here.operator, Basis(net), Basis(net), nodes, nodes)
        heads = s.heads().first(k)
        f = s.jet.value @ heads.right
    mass = nodes.weights * (f**2).mean(1) / len(nodes)
    c = mass @ nodes.x
    size = torch.sqrt(mass @ ((nodes.x - c) ** 2).sum(1))
    return Trial(ansatz, heads.values, c, float(size))


def pick(trials: list[Trial], k: int) -> Trial:
    top = torch.stack([t.values for t in trials]).amax(0)
    shift = choose_shift(top)
    def score(t: Trial) -> float:
        s = t.values + shift
        return -math.inf if bool((s <= 0).any()) else float(s.log().sum())
    return max(trials, key=score)
