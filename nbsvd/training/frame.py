"""Where functions live, in which shape, and how they decay: found from the operator itself.

A centre, a length or a decay that is wrong by a factor costs more than any optimizer can win back, and none
of them need be guessed. The operator's symbol says roughly where its first functions are
(:mod:`nbsvd.training.scan`); Ritz functions of an untrained network, made there, say it better, and how well
a decay suits them.
"""

import contextlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from nbsvd._errors import ArgumentError
from nbsvd.functions import MLP, DecayFactor, Envelope, Factor, GaussianFactor, Jet, SumFactor
from nbsvd.measures import Lebesgue, Nodes, Radial
from nbsvd.operators import Operator
from nbsvd.problems import Problem
from nbsvd.training.cloud import Cloud, Place, place, shape, split
from nbsvd.training.heads import orthonormaliser
from nbsvd.training.models import default_features
from nbsvd.training.scan import power, scan, symbol
from nbsvd.training.start import choose_shift

SWEEPS, STILL = 5, 0.15  # of Ritz trials at most; a relative change that ends them
NODES, MANY = {1: 400, 2: 2000, 3: 4000}, 6000  # by dimension
WIDTHS, PER_VALUE = (32, 64), 3
RATIOS = (0.5, 0.8, 1.25, 2.0)  # of a decay's lengths to the size of the functions
FINER = (1.26, 1.12)  # factors by which the best of them is then varied
ROUND_DECAYS = (DecayFactor, GaussianFactor)


@dataclass(frozen=True, eq=False)
class Frame:
    """What was found.

    Arguments:
        place: where the functions live.
        ansatz: a decay that suits them.
        threshold: the top of the continuous spectrum, ``-inf`` where there is none.
        bound: how many of the k values were found above it.
    """

    place: Place
    ansatz: Factor
    threshold: float
    bound: int

    def applied(self, problem: Problem) -> Problem:
        """Return the problem with this measure and this ansatz."""
        return replace(problem, measure=self.place.measure(), measure_y=None, ansatz=self.ansatz)

    def config(self) -> dict[str, Any]:
        """Describe the frame by plain data."""
        return {
            "place": self.place.config(),
            "ansatz": self.ansatz.config(),
            "threshold": self.threshold if math.isfinite(self.threshold) else None,
            "bound": self.bound,
        }


def unframed(problem: Problem, *, plain: bool = False) -> bool:
    """Tell whether a problem leaves to us where its functions live.

    That is a local self-adjoint operator on all of R^d, Lebesgue measure with a plain radial law, and no
    ansatz.

    Arguments:
        problem: any problem.
        plain: let a round decay count as no ansatz: one that says no more than how fast functions fall.

    Example:
        >>> import nbsvd
        >>> T = nbsvd.Schrodinger(lambda x: (x**2).sum(1))
        >>> unframed(Problem(T, Lebesgue(Radial(2, scale=1.0))))
        True
        >>> atom = nbsvd.problems.hydrogen2d()
        >>> unframed(atom), unframed(atom, plain=True)
        (False, True)
    """
    m, T = problem.measure, problem.operator
    declared = problem.ansatz is not None and not (plain and type(problem.ansatz) in ROUND_DECAYS)
    if declared or not isinstance(m, Lebesgue) or not isinstance(m.law, Radial):
        return False
    return T.local and T.self_adjoint and T.measure_x is None and m.config() == Lebesgue(m.law).config()


def find_frame(problem: Problem, k: int, generator: torch.Generator) -> Frame | None:
    """Find where the first k functions of a problem live, and how they decay.

    The scan of the symbol comes first. Then, until the frame stands still: a network is made there, its Ritz
    functions are found under several decays, and the decay with the best values is kept; the second moments
    of its functions are the next frame. Ritz functions come from one set of nodes and their values from
    another, so that a decay that merely exploits the nodes does not win. Of values in the continuous spectrum
    no account is taken, lest the frame grow without end.

    Arguments:
        problem: one that is :func:`unframed`.
        k: how many functions.
        generator: source of nodes and networks.

    Returns:
        The frame; the declared place where nothing above the continuous spectrum is to be expected; ``None``
        for an operator that is not bounded above, of which nothing can be said.

    Raises:
        ArgumentError: a potential that is not finite where every decay has functions.

    Example:
        >>> import nbsvd
        >>> T = nbsvd.Schrodinger(lambda x: ((x - 30.0) ** 2).sum(1))
        >>> problem = Problem(T, Lebesgue(Radial(2, scale=1.0)))
        >>> frame = find_frame(problem, 3, torch.Generator().manual_seed(0))
        >>> [round(c) for c in frame.place.center], frame.ansatz.power
        ([30, 30], 2.0)
    """
    law, T = problem.measure, problem.operator
    assert law.length is not None
    start = torch.tensor(law.center, dtype=torch.float64)
    if not bool((symbol(T, start + law.length * torch.eye(law.dim, dtype=torch.float64))[0] > 0).all()):
        return None
    extent = scan(T, start, float(law.length), k, generator)
    if extent.cloud is None:
        here = Place(law.center, float(law.length))
        eye = torch.eye(law.dim, dtype=torch.float64)
        return Frame(
            here, Envelope((law.length * eye).tolist(), center=law.center, power=1.0), extent.threshold, 0
        )
    singular = torch.tensor(T.singular_points, dtype=torch.float64).reshape(-1, problem.dim)
    seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
    cloud, best = extent.cloud, None
    # Where nothing confines, functions decay exponentially, but those deep in a well look Gaussian for long.
    asymptotic = power(T, cloud, generator)
    powers = (1.0, asymptotic if asymptotic > 1 else 2.0)
    for _ in range(SWEEPS):
        parts = split(cloud, generator)
        here = place(cloud, parts, singular)
        trials = Trials(problem, here, parts, k, extent.threshold, generator, seed)
        best = trials.best(powers)
        new = trials.cloud(best)
        still = _alike(cloud, new)
        cloud = new
        if still:
            break
    assert best is not None
    parts = split(cloud, generator)
    return Frame(
        place(cloud, parts, singular), decay(parts, best.power, best.ratio), extent.threshold, best.bound
    )


def decay(parts: Sequence[Cloud], power: float, ratio: float) -> Factor:
    """Return a decay around each part of a density: its axes are ``ratio`` times those of the part."""
    found = [
        Envelope((ratio * _axes(part)).tolist(), center=part.center.tolist(), power=power) for part in parts
    ]
    return found[0] if len(found) == 1 else SumFactor(found)


def _axes(cloud: Cloud) -> Tensor:
    """Return the frame of a density times its size in units of that frame."""
    length, frame = shape(cloud.spread())
    return frame * (length / math.sqrt(len(frame)))


def _alike(old: Cloud, new: Cloud) -> bool:
    """Tell whether two densities have nearly the same centre and the same axes."""
    A = _axes(old)
    moved = float(torch.linalg.solve(A, new.center - old.center).norm())
    sizes = torch.linalg.svdvals(torch.linalg.solve(A, _axes(new)))
    return moved < STILL and float(sizes.log().abs().max()) < STILL


@dataclass(frozen=True, eq=False)
class Trial:
    """What untrained functions make of one decay.

    Arguments:
        power, ratio: of the :func:`decay`.
        values: Ritz values on independent nodes, descending.
        heads: coefficients of their functions.
        bound: how many of the values lie above the continuous spectrum.
    """

    power: float
    ratio: float
    values: Tensor
    heads: Tensor
    bound: int


class Trials:
    """One untrained network in one place, under several decays.

    All decays see the same network and the same nodes, so that they differ by nothing else.
    """

    def __init__(
        self,
        problem: Problem,
        here: Place,
        parts: Sequence[Cloud],
        k: int,
        threshold: float,
        generator: torch.Generator,
        seed: int,
    ) -> None:
        self.operator, self.k, self.threshold = problem.operator, k, threshold
        self.parts, dim, measure = parts, problem.dim, here.measure()
        net = MLP(
            k,
            dim,
            widths=(WIDTHS[0], max(WIDTHS[1], PER_VALUE * k)),
            disjoint=False,
            features=default_features(problem, measure),
            generator=torch.Generator().manual_seed(seed),
        ).double()
        n, kind = NODES.get(dim, MANY), measure.evaluation_kind
        self.nodes = [measure.nodes(n, kind=kind, generator=generator) for _ in range(2)]
        with torch.no_grad():
            self.jets = [net.first_basis_jet(nodes.x, order=self.operator.weak_order) for nodes in self.nodes]
        self.reference = -math.inf

    def best(self, powers: Sequence[float]) -> Trial:
        """Return the best trial: of these powers and all ratios, then of some ratios near it."""
        tried, failed = [], None
        for p, ratio in product(powers, RATIOS):
            try:
                tried.append(self.trial(p, ratio))
            except ArgumentError as error:  # a potential that grows too fast for this decay
                failed = error
        if not tried:
            assert failed is not None
            raise failed
        count = min(len(t.values) for t in tried)  # fewer functions are independent under some decays
        top = torch.stack([t.values[:count] for t in tried]).amax(0)
        self.reference = self._reference(top)
        best = max(tried, key=self.score)
        for factor in FINER:
            near = [best]
            for ratio in (best.ratio * factor, best.ratio / factor):
                with contextlib.suppress(ArgumentError):
                    near.append(self.trial(best.power, ratio))
            best = max(near, key=self.score)
        return best

    @torch.no_grad()
    def trial(self, power: float, ratio: float) -> Trial:
        """Find the Ritz functions on the first nodes, and their values on the second."""
        e = decay(self.parts, power, ratio).double()
        (fit, check), (first, second) = self.nodes, self.jets
        C = _ritz(self.operator, fit, e.jet(fit.x) * first)[1][:, : self.k]
        values, D = _ritz(self.operator, check, (e.jet(check.x) * second).linear(C))
        return Trial(power, ratio, values, C @ D, int((values > self.threshold).sum()))

    def _reference(self, top: Tensor) -> float:
        """Return what values are compared with: minus the shift of training, but not below the threshold."""
        shift = choose_shift(top)
        return max(self.threshold, -shift)

    def score(self, trial: Trial) -> tuple[int, float]:
        """Return the number of values above the reference and the sum of the logarithms of their excess."""
        excess = (trial.values - self.reference).clamp_min(0)
        excess = excess[excess > 0]
        return len(excess), float(excess.log().sum())

    @torch.no_grad()
    def cloud(self, trial: Trial) -> Cloud:
        """Return the mean density of the functions above the threshold, of the first if there are none."""
        nodes = self.nodes[1]
        f = decay(self.parts, trial.power, trial.ratio).double()(nodes.x) * self.jets[1].value
        p = nodes.weights * ((f @ trial.heads[:, : max(1, trial.bound)]) ** 2).sum(1)
        return Cloud(nodes.x, p / p.sum())


def _ritz(operator: Operator, nodes: Nodes, jet: Jet) -> tuple[Tensor, Tensor]:
    """Return Ritz values, descending, and the coefficients of their functions."""
    W = orthonormaliser(jet.value, nodes.weights)
    A = operator.weak_form(nodes, jet.linear(W))
    if not bool(A.isfinite().all()):
        raise ArgumentError(
            "operator",
            got="a potential that is not finite where functions live",
            expected="one that is finite on R^d, but for declared singular points",
            remedy="Keep the domain where it is: Lebesgue(Uniform(low, high)) with a BoxFactor.",
        )
    values, V = torch.linalg.eigh((A + A.t()) / 2)
    return values.flip(0), (W @ V).flip(1)


def warn_unbound(values: Sequence[float], threshold: float) -> None:
    """Say which values are no eigenvalues, because the continuous spectrum begins above them.

    Example:
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     warn_unbound([2.0, -0.1], 0.0)
        >>> str(said[0].message)[:44]
        'k: of 2 values 1 lie above the continuous sp'
    """
    bound = sum(value > threshold for value in values)
    if bound < len(values):
        ask = f"Ask for k={bound}." if bound else "There may be no eigenvalue at all."
        warnings.warn(
            f"k: of {len(values)} values {bound} lie above the continuous spectrum, which ends at "
            f"{threshold:.6g}. The others are no eigenvalues: they tell how far functions reach. {ask}",
            RuntimeWarning,
            stacklevel=3,
        )
