"""Variable projection: heads in closed form, what is beneath them by a quasi-Newton method."""

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from tqdm.auto import tqdm

from nbsvd._errors import ArgumentError, TrainingDiverged
from nbsvd.measures import Nodes
from nbsvd.spectrum import History
from nbsvd.training.anchor import Anchor
from nbsvd.training.heads import Heads, Sample
from nbsvd.training.settings import Settings, Timed
from nbsvd.training.spectral import Objective
from nbsvd.training.trainer import BAR

Placed = tuple[Nodes, Nodes]  # for the right functions and for the left ones
ROUND, SAMPLED = 100, 20  # iterations on one set of nodes at most, and of the first round on a sample
SHORTEST = 5  # iterations of a round on a data set at least
GROWTH = 1.5  # of the length of a sample's rounds, as long as they are confirmed
MEMORY = 30  # pairs of steps that the quasi-Newton method remembers
FINEST = 8  # times the first number of nodes
REJECTED = 1e10  # the objective where it is not defined: the line search steps back
# Gains, as shares of the objective, that were claimed but not confirmed: below the first they are rounding on
# any nodes, below the second, on the finest ones, what is left of rounding and quadrature.
STILL, CONVERGED = 1e-9, 1e-6
# Nodes are too coarse if, before any step, values differ from those of independent nodes by a larger share; a
# rule is exact or useless, a sample always somewhere between.
COARSE_RULE, COARSE_SAMPLE = 0.02, 0.3


class OutOfTime(Exception):
    """The time is up in the middle of an iteration."""


@dataclass(eq=False)
class Projection(Timed):
    """The state of a run, as callbacks see it.

    Attributes:
        model: the functions; their heads are set when the run ends.
        settings: limits, number of nodes, spectral objective.
        history: what has been reported so far.
        began: ``time.perf_counter()`` when the run began.
        step: iterations done.
        evaluations: evaluations of objective and gradient done.
        heads: the best heads on the independent nodes, of the last state that these confirmed.
        nodes: number of nodes in use.
        length: iterations of the next round on a sample; longer as long as rounds are confirmed.
        confirmed: how many rounds they confirmed.
    """

    model: nn.Module
    settings: Settings
    history: History
    began: float
    step: int = 0
    evaluations: int = 0
    heads: Heads | None = None
    nodes: int = 0
    length: int = SAMPLED
    confirmed: int = 0


class Parameters:
    """The parameters beneath the heads, as one vector of doubles for an optimizer that knows no tensors."""

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


def project(
    model: nn.Module,
    parameters: Sequence[Tensor],
    place: Callable[[int], Placed],
    evaluate: Callable[..., Sample],
    independent: tuple[Placed, Placed],
    objective: Objective,
    settings: Settings,
    *,
    nodes: int,
    data: bool = False,
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
    nodes too, on which no step is ever taken: heads are found on one set of them and judged on another. Where
    it rises, the round is undone and the nodes are doubled; a round is not even begun on nodes whose values
    are not those of the independent ones to begin with. The run ends when even the finest bring nothing more,
    or a round no gain beyond rounding.

    The history has the values of what was confirmed, as they are on the independent nodes; ``stopped`` is
    ``"converged"``, ``"contradicted"`` (with a warning, or with an error where nothing was confirmed),
    ``"steps"``, ``"seconds"``, ``"callback"`` or ``"interrupted"``.

    Arguments:
        model: handed on to callbacks.
        parameters: the parameters beneath the heads. Changed in place.
        place: places about so many nodes.
        evaluate: evaluates the basis on nodes; with ``check=True`` for a look, without a graph.
        independent: two sets of nodes for the check.
        objective: the function of the values.
        settings: limits; a step is one quasi-Newton iteration.
        nodes: number of nodes at first.
        data: whether nodes are rows of a data set. There is then nothing finer to go over to: where the
            independent rows do not confirm a round, it is undone and a shorter one tried, down to a few
            iterations; so training stops before it learns the sample by heart. And what is trained must be
            better than the untrained basis by a standard error.
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
    look = partial(_look, evaluate, independent, objective)
    with tqdm(total=100, unit="%", disable=not progress, bar_format=BAR, leave=False) as bar:
        run.heads, best, _, untrained = look()
        _note(run, objective, best, bar)
        try:
            while not run.history.stopped and run.fraction < 1:
                gain = _round(run, vector, place, evaluate, objective, data)
                try:
                    heads, reached, noise, parts = look()
                except ArgumentError:  # not finite here, although it was on the nodes of the round
                    heads, reached, noise, parts = run.heads, (0, math.inf), 0.0, untrained
                if reached < best and (not data or ahead(parts, untrained)):
                    good, best, run.heads = vector.get(), reached, heads
                    run.confirmed += 1
                    run.length = min(round(GROWTH * run.length), ROUND)
                else:
                    vector.set(good)
                    run.length = run.length // 2 if data else SAMPLED
                    if run.fraction >= 1:  # a round cut short says nothing of the nodes
                        pass
                    elif data:
                        run.history.stopped = "converged" if run.length < SHORTEST else ""
                    elif gain >= STILL and run.nodes < FINEST * nodes:
                        run.nodes *= 2
                    else:
                        run.history.stopped = "converged" if gain < max(CONVERGED, noise) else "contradicted"
                _note(run, objective, best, bar)
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
    run: Projection,
    vector: Parameters,
    place: Callable[[int], Placed],
    evaluate: Callable[..., Sample],
    objective: Objective,
    data: bool,
) -> float:
    """Iterate on one set of nodes; return the gain claimed there, as a share of the objective.

    The parameters are left at the best point found. Where the nodes are too coarse to begin with, no step is
    taken and the gain is infinite: nothing confirms it.
    """
    placed = place(run.nodes)
    rule = placed[0].kind == "quadrature"
    length, share = (ROUND, COARSE_RULE) if rule else (run.length, COARSE_SAMPLE)
    if not data and _coarse(run, partial(evaluate, placed, check=True), objective, share):
        return math.inf
    first, least, best = math.inf, math.inf, vector.get()
    anchor: Anchor | None = None

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal first, least, best, anchor
        if math.isfinite(first) and run.settings.late(run.seconds):
            raise OutOfTime
        vector.set(flat)
        run.evaluations += 1
        try:
            sample = evaluate(placed, anchor=anchor)
            heads = sample.heads()
        except ArgumentError:  # not finite: a decay that has grown beyond bounds, or the nodes reach too far
            return REJECTED, np.zeros_like(flat)
        if not math.isfinite(first):
            objective.complete(heads.values)
            anchor = sample.anchor(max(objective.count, 1))
            if anchor is not None:
                sample = evaluate(placed, anchor=anchor)
                heads = sample.heads()
        loss, slopes = objective.of(heads.values)
        if not math.isfinite(loss):
            return REJECTED, np.zeros_like(flat)
        gradient = vector.gradient(sample.surrogate(heads.first(objective.count), -slopes))
        if not np.isfinite(gradient).all():
            return REJECTED, np.zeros_like(flat)
        if not math.isfinite(first):
            first = loss
        if loss < least:
            least, best = loss, flat.copy()
        return loss, gradient

    def count(_: np.ndarray) -> None:
        run.step += 1
        if run.fraction >= 1:
            raise StopIteration

    room = length if run.settings.steps is None else min(length, run.settings.steps - run.step)
    options = {"maxiter": room, "maxfun": 10 * ROUND, "maxcor": MEMORY, "ftol": 0.0, "gtol": 0.0}
    with contextlib.suppress(OutOfTime):
        minimize(
            loss_and_gradient, vector.get(), jac=True, method="L-BFGS-B", callback=count, options=options
        )
    vector.set(best)
    if not math.isfinite(first):
        return math.inf
    size = objective.count if objective.spectral == "log" else abs(first)
    return (first - least) / size if size > 0 else 0.0


@torch.no_grad()
def _coarse(run: Projection, evaluate: Callable[[], Sample], objective: Objective, share: float) -> bool:
    """Tell whether values on some nodes are others than on independent ones, before any step is taken."""
    assert run.heads is not None
    try:
        values = evaluate().heads().values
    except ArgumentError:
        return True
    return objective.differ(values, run.heads.values, share)


@torch.no_grad()
def _look(
    evaluate: Callable[..., Sample], independent: tuple[Placed, Placed], objective: Objective
) -> tuple[Heads, tuple[int, float], float, list[float]]:
    """Find the best heads on some independent nodes, what they reach on others, how uncertain that is; parts.

    The uncertainty is the mean of relative standard errors, zero for a rule and for a kernel; smaller gains
    cannot be seen.
    """
    first = evaluate(independent[0], check=True)
    heads = first.checked(objective.nesting.L)
    noise = first.noise(heads) / (heads.values + objective.shift).abs().clamp_min(1e-300)
    judge = evaluate(independent[1], check=True)
    values = judge.judged(heads)
    parts = [objective.reached(part)[1] for part in judge.judged_parts(heads)]
    return replace(heads, values=values), objective.reached(values), float(noise.mean()), parts


def ahead(parts: Sequence[float], untrained: Sequence[float]) -> bool:
    """Tell whether objectives on parts of a sample are below the untrained basis' by a standard error.

    Example:
        >>> ahead([-1.1, -1.2], [-1.0, -1.1]), ahead([-1.3, -1.0], [-1.0, -1.1])
        (True, False)
    """
    gains = torch.tensor(untrained, dtype=torch.float64) - torch.tensor(parts, dtype=torch.float64)
    return len(gains) < 2 or bool(gains.mean() > gains.std() / len(gains) ** 0.5)


def _note(run: Projection, objective: Objective, reached: tuple[int, float], bar: Any) -> None:
    """Note the last confirmed state."""
    assert run.heads is not None
    loss = reached[1]
    run.history.step.append(run.step)
    run.history.seconds.append(run.seconds)
    run.history.loss.append(loss)
    run.history.values.append(run.heads.values[: objective.nesting.L].tolist())
    bar.n = round(100 * run.fraction, 1)
    bar.set_postfix_str(f"iteration {run.step}, objective {loss:.8g}, {run.nodes} nodes")


def _contradicted(run: Projection) -> None:
    """Say that the independent nodes contradict the last gains; refuse a result that has no others."""
    said = too_coarse(f"values on {run.nodes} nodes that independent nodes contradict")
    if not run.confirmed:
        raise TrainingDiverged(said, step=run.step, result=run)
    warnings.warn(said + " What was confirmed before is kept.", RuntimeWarning, stacklevel=4)


def too_coarse(got: str) -> str:
    """Return what to say of nodes between which a network has learned to be small."""
    return (
        f"batch_size: got {got}; expected nodes fine enough for the network, which has learned to be small "
        "between them. Leave batch_size out or use a larger one, or a narrower network, "
        "network={'widths': (32, 32)}."
    )
