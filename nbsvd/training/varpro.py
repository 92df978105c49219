"""Variable projection: heads in closed form, what is beneath them by a quasi-Newton method."""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from tqdm.auto import tqdm

from nbsvd._errors import TrainingDiverged
from nbsvd.measures import Nodes
from nbsvd.objectives import Nesting
from nbsvd.spectrum import History
from nbsvd.training.heads import Heads, Sample
from nbsvd.training.settings import Settings
from nbsvd.training.trainer import BAR

Placed = tuple[Nodes, Nodes]  # for the right functions and for the left ones
ROUND, SAMPLED = 100, 40  # iterations on one set of nodes: a quadrature rule, or a sample
MEMORY = 30  # pairs of steps that the quasi-Newton method remembers
FINEST = 8  # times the first number of nodes
NEAR = 0.02  # values so close to the k-th, as a share of it, are of its level, and are improved with it
REJECTED = 1e10  # the objective where it is not defined: the line search steps back
CONVERGED = (
    1e-6  # a gain below this share, claimed on finest nodes but not confirmed, is rounding and quadrature
)


def log_objective(values: Tensor, nesting: Nesting) -> tuple[Tensor, Tensor]:
    """Return ``-sum log mu_l`` and its negative slopes: each value counts by its relative error."""
    return -values.log().sum(), 1 / values


def lora_objective(values: Tensor, nesting: Nesting) -> tuple[Tensor, Tensor]:
    """Return ``-sum m_l max(mu_l, 0)^2``, which is the objective itself at the best heads."""
    m = torch.ones_like(values)
    m[: nesting.L] = nesting.vector.to(values)[: len(values)]
    m[nesting.L :] = m[nesting.L - 1 : nesting.L]
    positive = values.clamp_min(0)
    return -(m * positive**2).sum(), 2 * m * positive


def sum_objective(values: Tensor, nesting: Nesting) -> tuple[Tensor, Tensor]:
    """Return ``-sum mu_l``: each value counts by its absolute error."""
    return -values.sum(), torch.ones_like(values)


SPECTRAL = {"log": log_objective, "lora": lora_objective, "sum": sum_objective}


@dataclass(eq=False)
class Projection:
    """The state of a run, as callbacks see it.

    Attributes:
        model: the functions; their heads are set when the run ends.
        settings: limits, number of nodes, spectral objective.
        history: what has been reported so far.
        began: ``time.perf_counter()`` when the run began.
        step: iterations done.
        evaluations: evaluations of objective and gradient done.
        heads: the best heads on the independent nodes at the last report.
        nodes: number of nodes in use.
    """

    model: nn.Module
    settings: Settings
    history: History
    began: float
    step: int = 0
    evaluations: int = 0
    heads: Heads | None = None
    nodes: int = 0

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self.began

    @property
    def fraction(self) -> float:
        """How much of the run is done, from 0 to 1."""
        return self.settings.fraction(self.step, self.seconds)


class Parameters:
    """The parameters beneath the heads, as one vector of doubles for an optimiser that knows no tensors."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.tensors = list(parameters)

    def get(self) -> np.ndarray:
        """Return a copy of them all."""
        return torch.cat([p.detach().reshape(-1) for p in self.tensors]).double().cpu().numpy().copy()

    @torch.no_grad()
    def set(self, flat: np.ndarray) -> None:
        """Write them back."""
        pieces = torch.from_numpy(flat).split([p.numel() for p in self.tensors])
        for p, piece in zip(self.tensors, pieces, strict=True):
            p.copy_(piece.view_as(p))

    def gradient(self, surrogate: Tensor) -> np.ndarray:
        """Return the gradient of a scalar."""
        slopes = torch.autograd.grad(surrogate, self.tensors, allow_unused=True)
        filled = [torch.zeros_like(p) if g is None else g for p, g in zip(self.tensors, slopes, strict=True)]
        return torch.cat([g.reshape(-1) for g in filled]).double().cpu().numpy()


@dataclass(eq=False)
class Objective:
    """The objective with the heads eliminated, as a function of the parameters beneath them.

    Arguments:
        nesting: number of components, and the weights of ``spectral="lora"``.
        spectral: a key of ``SPECTRAL``.
        shift: number added to the values before anything else.
        threshold: the top of the continuous spectrum: values not above it take no part, for raising them
        would
            make the functions wider without end.
        count: how many values take part; k, more where the k-th has others of its level, fewer where not all
            are above the threshold.
    """

    nesting: Nesting
    spectral: str
    shift: float
    threshold: float = -math.inf
    count: int = field(init=False)

    def __post_init__(self) -> None:
        self.count = self.nesting.L

    def complete(self, values: Tensor) -> None:
        """Let all values of the level of the k-th take part: a level cut in two would be a kink."""
        k = self.nesting.L
        if (above := int((values > self.threshold).sum())) < k:
            self.count = above
            return
        floor = values[k - 1] - NEAR * abs(float(values[k - 1]) + self.shift)
        self.count = k + int((values[k:] > floor).sum())

    def reached(self, values: Tensor) -> tuple[int, float]:
        """Return what judges a run: minus how many of the k are above the threshold; their objective."""
        above = values[: self.nesting.L]
        above = above[above > self.threshold] if bool((above > self.threshold).any()) else above[:1]
        loss = float(SPECTRAL[self.spectral](above + self.shift, self.nesting)[0])
        return -len(above), loss if math.isfinite(loss) else math.inf

    def of(self, values: Tensor) -> tuple[float, Tensor]:
        """Return objective and negative slopes; not a number where a value is not positive under the log."""
        loss, slopes = SPECTRAL[self.spectral](values[: self.count] + self.shift, self.nesting)
        return float(loss), slopes


def project(
    model: nn.Module,
    parameters: Sequence[Tensor],
    place: Callable[[int], Placed],
    evaluate: Callable[..., Sample],
    independent: Placed,
    objective: Objective,
    settings: Settings,
    *,
    nodes: int,
    began: float | None = None,
    optimum: float | None = None,
    callbacks: Sequence[Callable[[Projection], Any]] = (),
    progress: bool = True,
) -> Projection:
    r"""Minimise an increasing function of the Ritz values, its sign turned, over what is beneath the heads.

    For each basis the heads are the best there are, so ``sum_l m_l mu_l^2`` is NestedLoRA with the head
    eliminated. Any other increasing function of each value has the same optimum, because no Ritz value
    exceeds the exact one.

    A fixed set of nodes can be exploited: functions may learn to be small between the nodes. So nodes are
    drawn anew after every round of iterations, and a round counts only if the objective falls on independent
    nodes too, on which no step is ever taken. Where it rises, the round is undone and the nodes are doubled;
    the run ends when even the finest bring nothing more.

    Arguments:
        model: handed on to callbacks.
        parameters: the parameters beneath the heads. Changed in place.
        place: places about so many nodes.
        evaluate: evaluates the basis on nodes; with ``check=True`` for a look, without a graph.
        independent: nodes for the check and the reports.
        objective: the function of the values.
        settings: limits; a step is one quasi-Newton iteration.
        nodes: number of nodes at first.
        began: ``time.perf_counter()`` at the start of the run.
        optimum: the least possible objective, for the history.
        callbacks: called with the :class:`Projection` after each round; one that returns ``True`` ends the
            run.
        progress: whether a progress bar is shown.

    Raises:
        TrainingDiverged: the gains of all rounds, to the finest nodes, were contradicted by the independent
            nodes. The error's ``result`` is the :class:`Projection` at its start.

    Source: variable projection is due to Golub and Pereyra (1973).
    """
    began = time.perf_counter() if began is None else began
    run = Projection(model, settings, History(optimum=optimum), began, nodes=nodes)
    vector = Parameters(parameters)
    good = vector.get()
    with tqdm(total=100, unit="%", disable=not progress, bar_format=BAR, leave=False) as bar:
        look = partial(evaluate, independent, check=True)
        run.heads, best = _look(run, look, objective, bar)
        try:
            while not run.history.stopped and run.fraction < 1:
                placed = place(run.nodes)
                length = ROUND if placed[0].kind == "quadrature" else SAMPLED
                gain = _round(run, vector, partial(evaluate, placed), objective, length)
                heads, reached = _look(run, look, objective, bar)
                if reached < best:
                    good, best, run.heads = vector.get(), reached, heads
                else:
                    vector.set(good)
                    if run.nodes < FINEST * nodes:
                        run.nodes *= 2
                    else:
                        run.history.stopped = "converged" if gain < CONVERGED else "contradicted"
                if any([callback(run) is True for callback in callbacks]):
                    run.history.stopped = run.history.stopped or "callback"
        except KeyboardInterrupt:
            vector.set(good)
            run.history.stopped = "interrupted"
    if run.history.stopped == "contradicted":
        _contradicted(run)
    by_steps = settings.steps is not None and run.step >= settings.steps
    run.history.stopped = run.history.stopped or ("steps" if by_steps else "seconds")
    return run


def _round(
    run: Projection, vector: Parameters, evaluate: Callable[[], Sample], objective: Objective, length: int
) -> float:
    """Iterate on one set of nodes; return the gain claimed there, as a share of the number of values."""
    losses: list[float] = []

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        vector.set(flat)
        run.evaluations += 1
        sample = evaluate()
        heads = sample.heads()
        if not losses:
            objective.complete(heads.values)
        loss, slopes = objective.of(heads.values)
        gradient = vector.gradient(sample.surrogate(heads.first(objective.count), -slopes))
        if not (math.isfinite(loss) and np.isfinite(gradient).all()):
            return REJECTED, np.zeros_like(flat)
        losses.append(loss)
        return loss, gradient

    def count(_: np.ndarray) -> None:
        run.step += 1
        if run.fraction >= 1:
            raise StopIteration

    room = length if run.settings.steps is None else min(length, run.settings.steps - run.step)
    options = {"maxiter": room, "maxfun": 10 * ROUND, "maxcor": MEMORY, "ftol": 0.0, "gtol": 0.0}
    found = minimize(
        loss_and_gradient, vector.get(), jac=True, method="L-BFGS-B", callback=count, options=options
    )
    vector.set(found.x)
    size = max(objective.count, 1) if objective.spectral == "log" else abs(losses[-1])
    return (losses[0] - min(losses)) / size


@torch.no_grad()
def _look(
    run: Projection, evaluate: Callable[[], Sample], objective: Objective, bar: Any
) -> tuple[Heads, tuple[int, float]]:
    """Find the best heads on the independent nodes and note the values; return what was reached there."""
    heads = evaluate().checked(objective.nesting.L)
    reached = objective.reached(heads.values)
    loss = reached[1]
    run.history.step.append(run.step)
    run.history.seconds.append(run.seconds)
    run.history.loss.append(loss)
    run.history.values.append(heads.values[: objective.nesting.L].tolist())
    bar.n = round(100 * run.fraction, 1)
    bar.set_postfix_str(f"iteration {run.step}, objective {loss:.8g}, {run.nodes} nodes")
    return heads, reached


def _contradicted(run: Projection) -> None:
    """Say that the independent nodes contradict the last gains; refuse a result that has no others."""
    said = (
        f"nodes: the values found on {run.nodes} nodes are not those of independent nodes; the quadrature is "
        "too coarse for the network, which has learned to be small between the nodes. Use a narrower one, "
        "network={'widths': (32, 32)}, or a larger batch_size."
    )
    if len(set(run.history.step)) == 1 or min(run.history.loss) >= run.history.loss[0]:
        raise TrainingDiverged(said, step=run.step, result=run)
    warnings.warn(said + " What was confirmed before is kept.", RuntimeWarning, stacklevel=4)
