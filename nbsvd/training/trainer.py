"""The training loop."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from nbsvd._errors import TrainingDiverged
from nbsvd.spectrum import History
from nbsvd.training.optimizers import make_optimizer
from nbsvd.training.settings import Settings

Loss = Callable[[nn.Module], Tensor]
Values = Callable[[nn.Module], Tensor]


@dataclass
class Trainer:
    """The state of a run, as callbacks see it.

    Callbacks are called with it at every report; one that returns ``True`` ends the run.

    Attributes:
        model: the functions being trained.
        averaged: the same with averaged parameters, which are what is evaluated.
        history: what has been reported so far.
        step: steps done.
    """

    model: nn.Module
    averaged: AveragedModel
    optimizer: torch.optim.Optimizer
    settings: Settings
    history: History = field(default_factory=History)
    step: int = 0


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
        callbacks: called with the :class:`Trainer` at every report.
        progress: whether a progress bar is shown.

    Raises:
        TrainingDiverged: the loss is no longer finite; the model is put back to its last good parameters.
    """
    began = time.perf_counter() if began is None else began
    optimizer = make_optimizer(settings.optimizer, model.parameters(), lr)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema))
    run = Trainer(model, averaged, optimizer, settings, History(optimum=optimum))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: settings.schedule(step, time.perf_counter() - began)
    )
    total, bar = 0.0, tqdm(total=100, unit="%", disable=not progress, bar_format=BAR, leave=False)
    good = _copy(averaged)
    try:
        while settings.fraction(run.step, time.perf_counter() - began) < 1:
            loss = loss_of(model)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            total += (last := loss.detach().item())
            if last != last or abs(last) == float("inf"):
                averaged.load_state_dict(good)
                raise TrainingDiverged(_diverged(run, last), step=run.step, result=(averaged.module, run.history))
            optimizer.step()
            schedule.step()
            averaged.update_parameters(model)
            run.step += 1
            if run.step % settings.report_every == 0:
                good = _copy(averaged)
                _report(run, total / settings.report_every, values_of, time.perf_counter() - began, bar)
                total = 0.0
                if any([callback(run) is True for callback in callbacks]):
                    run.history.stopped = "callback"
                    break
        else:
            by_steps = settings.steps is not None and run.step >= settings.steps
            run.history.stopped = "steps" if by_steps else "seconds"
    except KeyboardInterrupt:
        run.history.stopped = "interrupted"
    finally:
        bar.close()
    return run


BAR = "{l_bar}{bar}| {elapsed}<{remaining} {postfix}"


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _report(run: Trainer, loss: float, values_of: Values, seconds: float, bar: Any) -> None:
    values = values_of(run.averaged.module)
    run.history.step.append(run.step)
    run.history.seconds.append(seconds)
    run.history.loss.append(loss)
    run.history.values.append(values.tolist())
    bar.n = round(100 * run.settings.fraction(run.step, seconds), 1)
    shown = " ".join(f"{v:.4g}" for v in values[:4].tolist()) + (" ..." if len(values) > 4 else "")
    bar.set_postfix_str(f"step {run.step}, loss {loss:.6g}, values {shown}")


def _diverged(run: Trainer, loss: float) -> str:
    return (
        f"loss: got {loss} at step {run.step}; expected a finite number. The last good values, "
        f"{run.history.values[-1] if run.history.values else 'those of the start'}, are kept in `result`. "
        "Try a smaller lr, and check that the potential or kernel is finite at every point."
    )
