"""The training loop."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel
from tqdm.auto import tqdm

from nbsvd._errors import TrainingDiverged
from nbsvd.spectrum import History
from nbsvd.training.average import Average
from nbsvd.training.compiled import Update, captured
from nbsvd.training.optimizers import make_optimizer
from nbsvd.training.settings import Settings, Timed

Loss = Callable[[nn.Module], Tensor]
Values = Callable[[nn.Module], Tensor]


@dataclass(eq=False)
class Trainer(Timed):
    """The state of a run, as callbacks see it.

    Attributes:
        model: the functions being trained.
        averaged: the same with averaged parameters, ``averaged.module``, which are what is evaluated.
        optimizer: what moves the parameters.
        settings: limits, schedule, averaging.
        history: what has been reported so far.
        began: ``time.perf_counter()`` when the run began.
        step: steps done.
        losses: the losses since the last report.
        unread: those of them that are still on a GPU; reading one would wait for its step to end.
        good: the averaged state at the last report, all finite.
    """

    model: nn.Module
    averaged: AveragedModel
    optimizer: Optimizer
    settings: Settings
    history: History
    began: float
    step: int = 0
    losses: list[float] = field(default_factory=list)
    good: dict[str, Tensor] = field(default_factory=dict)
    unread: list[Tensor] = field(default_factory=list)


Callback = Callable[[Trainer], Any]


def train(
    model: nn.Module,
    loss_of: Loss,
    values_of: Values,
    settings: Settings,
    *,
    lr: float,
    began: float | None = None,
    optimum: float | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
) -> Trainer:
    """Minimise ``loss_of(model)``, a fresh estimate at every call, until the steps or seconds are used up.

    Ctrl-C ends the run in good order: what has been learned is returned.

    Arguments:
        model: the functions; both sides in one module for an SVD.
        loss_of: draws nodes and returns the loss of the model on them, a scalar.
        values_of: returns the values of a model on independent nodes, ``(k,)``, for reports.
        settings: limits, optimizer, schedule, averaging.
        lr: peak learning rate.
        began: ``time.perf_counter()`` at the start of the warm start, from which seconds count.
        optimum: the least possible loss, if it is known, for the history.
        callbacks: called with the :class:`Trainer` at every report; one that returns ``True`` ends the run.
        progress: whether a progress bar is shown.

    Raises:
        TrainingDiverged: a loss or a value is not finite. ``result`` is the run, put back to its last report.
    """
    began = time.perf_counter() if began is None else began
    optimizer = make_optimizer(settings.optimizer, model.parameters(), lr)
    update = Update(optimizer, compiled=settings.compile)
    averaged = Average(model, settings.ema)
    history, good = History(optimum=optimum), _state(averaged)
    run = Trainer(model, averaged, optimizer, settings, history, began, good=good)
    schedule = LambdaLR(optimizer, lambda step: settings.schedule(step, run.seconds))

    def step() -> Tensor:
        loss = loss_of(model)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        update()
        averaged.update_parameters(model)
        return loss.detach()

    advance = captured(step, loss_of, update)
    with tqdm(total=100, unit="%", disable=not progress, bar_format=BAR, leave=False) as bar:
        try:
            done = run.fraction >= 1
            while not done:
                _note(run, advance())
                schedule.step()
                run.step += 1
                done = run.fraction >= 1
                if done or run.step % settings.report_every == 0:
                    _report(run, values_of, bar)
                    if any([callback(run) is True for callback in callbacks]) and not done:
                        run.history.stopped, done = "callback", True
        except KeyboardInterrupt:
            run.history.stopped = "interrupted"
        if run.step > max(run.history.step, default=0):
            _report(run, values_of, bar)
    by_steps = settings.steps is not None and run.step >= settings.steps
    run.history.stopped = run.history.stopped or ("steps" if by_steps else "seconds")
    return run


BAR = "{l_bar}{bar}| {elapsed}<{remaining} {postfix}"


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _note(run: Trainer, loss: Tensor) -> None:
    """Keep the loss of a step; to read it at once would let a GPU wait."""
    run.unread.append(loss.clone())  # a captured graph writes the next loss over this one
    if not loss.is_cuda:
        _read(run)


def _read(run: Trainer) -> None:
    """Read the losses of the last steps, and refuse to go on if one is not finite."""
    if run.unread:
        losses = torch.stack(run.unread).tolist()
        run.unread.clear()
        run.losses += losses
        _check(run, "loss", *(loss for loss in losses if not math.isfinite(loss)))


def _report(run: Trainer, values_of: Values, bar: Any) -> None:
    """Measure the averaged functions, note loss and values, and keep the state if they are finite."""
    _read(run)
    values = values_of(run.averaged.module).tolist()
    _check(run, "values", *values)
    run.good = _state(run.averaged)
    mean = sum(run.losses) / len(run.losses)
    run.losses.clear()
    run.history.step.append(run.step)
    run.history.seconds.append(run.seconds)
    run.history.loss.append(mean)
    run.history.values.append(values)
    bar.n = round(100 * run.fraction, 1)
    shown = " ".join(f"{v:.4g}" for v in values[:4]) + (" ..." if len(values) > 4 else "")
    bar.set_postfix_str(f"step {run.step}, loss {mean:.6g}, values {shown}")


def _check(run: Trainer, what: str, *numbers: float) -> None:
    if all(map(math.isfinite, numbers)):
        return
    run.averaged.load_state_dict(run.good)
    run.losses.clear()
    kept = f"values {run.history.values[-1]}" if run.history.values else "the start"
    got = ", ".join(f"{number:.6g}" for number in numbers)
    raise TrainingDiverged(
        f"{what}: got {got} at step {run.step}; expected finite numbers. The last good state, {kept}, is in "
        "the error's `result`. Try a smaller lr; check that potential or kernel are finite at every point.",
        step=run.step,
        result=run,
    )
