"""What was good before a run broke off."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from nbsvd._errors import ArgumentError, TrainingDiverged
from nbsvd.spectrum import Result
from nbsvd.training.trainer import Trainer

# Functions of the user's, which may fail at points that training or the last measurement come upon.
GIVEN = ("kernel", "potential", "operator")


@contextmanager
def rescue(seen: Sequence[Trainer], measure: Callable[[Trainer], Result]) -> Iterator[None]:
    """Let a run that breaks off leave its last good state, measured, as the error's ``result``.

    Where nothing can be measured any more, because a kernel stays broken, the ``result`` is the
    :class:`Trainer`, with the functions as they were in ``averaged.module``.

    Arguments:
        seen: the trainer, once it has reported.
        measure: returns the result of a trainer.

    Raises:
        TrainingDiverged: in the place of an error of kernel or potential after the first report.
    """

    def kept(trainer: Trainer) -> Result | Trainer:
        trainer.history.stopped = "diverged"
        try:
            return measure(trainer)
        except ArgumentError:
            return trainer

    try:
        yield
    except TrainingDiverged as error:
        if isinstance(error.result, Trainer):
            error.result = kept(error.result)
        raise
    except ArgumentError as error:
        if error.argument not in GIVEN or not seen:
            raise
        trainer = seen[-1]
        trainer.averaged.load_state_dict(trainer.good)
        said = f"{error} That was at step {trainer.step}; the last good state is in the error's `result`."
        raise TrainingDiverged(said, step=trainer.step, result=kept(trainer)) from error
