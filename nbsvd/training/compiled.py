"""Steps compiled by torch, and on CUDA captured as graphs.

Products of matrices stay in the precision of the parameters. Operands rounded to TF32 or bfloat16 would make
an error in T f that does not average out: the same weights are rounded in the same way at every point.
"""

import copy
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nbsvd.training.draws import Drawn
from nbsvd.training.soap import SOAP

WARM_UP = 3  # steps outside the graph, in which memory and kernels settle


class Compiled:
    """A loss compiled at its first call, with its gradient; where that fails, the loss itself and a warning.

    The compiled loss does the same operations, fused: values and gradients agree to rounding. Compiling takes
    a while, once for each shape of the batch. On the CPU torch needs a C++ compiler for it.

    Arguments:
        loss: a function of a module and further arguments, to a scalar.
        mode: of ``torch.compile``.
        memory: a module whose buffers each call changes, if the loss has one; compiling leaves them alone.

    Example:
        >>> slow = Compiled(lambda model, x: model(x).sum())
        >>> slow.fast = False  # as where compiling has failed
        >>> float(slow(torch.nn.Identity(), torch.ones(2)))
        2.0
    """

    def __init__(
        self, loss: Callable[..., Tensor], mode: str = "default", memory: nn.Module | None = None
    ) -> None:
        self.loss, self.mode, self.memory = loss, mode, memory
        self.fast: Callable[..., Tensor] | bool | None = None  # None: not tried yet; False: it failed

    @property
    def works(self) -> bool:
        """Whether calls are compiled."""
        return callable(self.fast)

    def __call__(self, model: nn.Module, *arguments: Any) -> Tensor:
        """Return the loss."""
        if self.fast is None:
            kept = {} if self.memory is None else copy.deepcopy(self.memory.state_dict())
            self.fast = self._compile(model, *arguments)
            if self.memory is not None:
                self.memory.load_state_dict(kept)
        if not callable(self.fast):
            return self.loss(model, *arguments)
        if self.mode == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        return self.fast(model, *arguments)

    def _compile(self, model: nn.Module, *arguments: Any) -> Callable[..., Tensor] | bool:
        """Compile, and try loss and gradient once; no parameter is changed."""
        parameters = [p for p in model.parameters() if p.requires_grad]
        # An error of its own is raised here, and what it keeps is made outside a graph.
        self.loss(model, *arguments)
        try:
            fast: Callable[..., Tensor] = torch.compile(self.loss, mode=self.mode)
            torch.autograd.grad(fast(model, *arguments), parameters, allow_unused=True)
        except Exception as error:  # whatever the reason, the loss can be had without
            warnings.warn(
                "compile: torch could not compile the step, so training goes on without; on a CPU it needs a "
                f"C++ compiler such as g++. {reason(error)}",
                RuntimeWarning,
                stacklevel=4,
            )
            return False
        return fast


def reason(error: Exception) -> str:
    r"""Return an error's kind and the first line of its message.

    Example:
        >>> reason(RuntimeError("no compiler\nat all"))
        'RuntimeError: no compiler'
    """
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0] if said else 'no reason given'}"


class Update:
    """The step of an optimizer; compiled, it becomes one pass over the parameters.

    SOAP is left as it is: it has bases to refresh now and then. Where compiling fails, so does that of the
    loss, which says so; the optimizer then goes on uncompiled. To compile, the learning rate becomes a
    tensor, which a schedule changes in place: neither a compiled nor a captured step would see a new number.

    Arguments:
        optimizer: what moves the parameters; not yet under a schedule.
        compiled: whether it is compiled, at the first call.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> weight.grad = torch.ones(2)
        >>> update = Update(torch.optim.RMSprop([weight], lr=0.5), compiled=True)
        >>> update.optimizer.param_groups[0]["lr"]
        tensor(0.5000)
    """

    def __init__(self, optimizer: Optimizer, *, compiled: bool) -> None:
        self.optimizer = optimizer
        self.compiled = compiled and not isinstance(optimizer, SOAP)
        self.fast: Callable[[], Any] | None = None
        self.taken = 0
        for group in optimizer.param_groups if self.compiled else ():
            like = group["params"][0]
            lr = torch.tensor(group["lr"], dtype=like.dtype, device=like.device)
            group.update({key: False for key in ("fused", "foreach") if key in group}, lr=lr)
            group["capturable"] = like.is_cuda

    def __call__(self) -> None:
        """Move the parameters along their gradients."""
        if self.compiled and self.taken == 1:  # the first step makes the optimizer's memory
            self._compile()
        elif self.fast is None:
            self.optimizer.step()
        else:
            self.fast()
        self.taken += 1

    def _compile(self) -> None:
        """Compile the step and take it; go on uncompiled where that fails."""
        optimizer = self.optimizer
        bare = inspect.unwrap(type(optimizer).step)  # without the hooks of a profiler
        before = [dict(group) for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group.update(foreach=True, capturable=True)
        # A count in float32 would have Adam's bias correction in float32.
        for parameter, state in optimizer.state.items():
            state["step"] = state["step"].to(parameter.dtype)
        self.fast = torch.no_grad()(torch.compile(lambda: bare(optimizer)))
        try:
            self.fast()
        except Exception:  # whatever the reason, the step can be had without
            self.compiled, self.fast = False, None
            for group, old in zip(optimizer.param_groups, before, strict=True):
                group.update(old)
            optimizer.step()


class Captured:
    """A whole step as one CUDA graph: loss, gradient, optimizer and average, replayed with new nodes.

    The first steps are taken outside the graph. Where a step can't be captured (a potential that looks at the
    numbers it gets, say) a warning says so, and the steps go on outside.

    Arguments:
        step: takes one step on the nodes that ``loss`` holds and returns its loss.
        loss: what is minimised.
    """

    def __init__(self, step: Callable[[], Tensor], loss: Drawn) -> None:
        self.step, self.loss = step, loss
        self.taken = 0
        self.replay: Callable[[], Tensor] | None = None

    def __call__(self) -> Tensor:
        """Take a step on new nodes and return its loss, which the next step writes over."""
        self.loss.refill()
        if self.taken < WARM_UP:
            self.taken += 1
            return aside(self.step)
        if self.replay is None:
            try:
                self.replay = record(self.step)
            except RuntimeError as error:
                warnings.warn(
                    "compile: the step could not be captured as a CUDA graph, so training goes on without. "
                    f"{reason(error)}",
                    RuntimeWarning,
                    stacklevel=4,
                )
                self.replay = self.step
        return self.replay()


def captured(step: Callable[[], Tensor], loss: Callable[..., Tensor], update: Update) -> Callable[[], Tensor]:
    """Return the step captured, where that is possible: compiled, on CUDA, all batches of one size."""
    on_gpu = all(p.is_cuda for group in update.optimizer.param_groups for p in group["params"])
    if update.compiled and on_gpu and isinstance(loss, Drawn) and loss.fixed:
        return Captured(step, loss)
    return step


def aside(step: Callable[[], Tensor]) -> Tensor:
    """Take a step on a stream of its own, as CUDA asks before a capture."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        value = step()
    torch.cuda.current_stream().wait_stream(stream)
    return value


def record(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Capture a step, which does not take it, and return what takes it from then on."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value = step()

    def replay() -> Tensor:
        graph.replay()
        return value

    return replay
