"""What the caller of ``solve`` chose, checked before any work is done."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import nn

from nbsvd._device import pick_device
from nbsvd._errors import ArgumentError, nearest, require
from nbsvd.functions import MLP
from nbsvd.measures import Counting
from nbsvd.objectives import Nesting
from nbsvd.operators import Operator
from nbsvd.problems import Problem
from nbsvd.training.objective import ORDERED, check_objective
from nbsvd.training.settings import Settings, whole_number
from nbsvd.training.unsuited import (
    LEAVE_OUT,
    check_kinds,
    check_moment,
    check_pairs,
    check_trunk,
    check_unused,
    check_varpro,
)

METHODS = ("sgd", "varpro")
NESTINGS = ("joint", "sequential", "none")
WARM_STARTS = ("ritz",)
NETWORK_OPTIONS = tuple(name for name in signature(MLP).parameters if name not in ("L", "dim", "generator"))


NetworkMaker = Callable[[torch.Generator], nn.Module]


@dataclass(frozen=True)
class Choices:
    """What the caller of ``solve`` chose, besides problem and settings.

    Arguments:
        method: ``"sgd"`` or ``"varpro"``.
        objective: one of ``OBJECTIVES``.
        nesting: its kind and the number of components; sequential for an objective that is ordered by itself.
        warm_start: ``"ritz"`` or ``None``.
        preset: ``"paper"`` or ``None``.
        seed: seed of all randomness.
        device, dtype: where and how the functions are trained.
        network: arguments of the default network, or a function that makes another.
    """

    method: str
    objective: str
    nesting: Nesting
    warm_start: str | None
    preset: str | None
    seed: int
    device: torch.device
    dtype: torch.dtype
    network: NetworkMaker | Mapping[str, Any]


def check_choices(
    problem: Problem,
    k: int,
    settings: Settings,
    *,
    method: str,
    objective: str,
    nesting: str | Nesting,
    warm_start: str | None,
    preset: str | None,
    seed: int,
    device: str | torch.device,
    dtype: torch.dtype | None,
    network: NetworkMaker | Mapping[str, Any] | None,
    callbacks: Sequence[Callable[..., Any]],
) -> Choices:
    """Check what the caller chose, together with the problem and the settings.

    A matrix runs on the CPU in float64, whatever dtype and device are asked for; but a device that this
    machine does not have is refused there as anywhere.

    Raises:
        ArgumentError: for any of them, or for two that don't go together.
    """
    require(
        isinstance(problem, Problem),
        "problem",
        got=type(problem).__name__,
        expected="a Problem or the name of one",
        remedy="Wrap an operator: Problem(operator, measure).",
    )
    k = check_k(problem, k)
    nearest("method", method, METHODS)
    nested = check_nesting(nesting, k)
    check_objective(objective, problem.operator, nested, settings)
    if objective in ORDERED:
        nested = Nesting.sequential(k)
    if warm_start is not None:
        nearest("warm_start", warm_start, WARM_STARTS)
    if not problem.operator.self_adjoint:
        check_bounded(problem.operator)
    whole_seed = whole_number(seed)
    if whole_seed is None:
        raise ArgumentError(
            "seed",
            got=repr(seed),
            expected="an integer",
            remedy="Use seed=0; another number gives another run.",
        )
    require(
        dtype in (None, torch.float32, torch.float64),
        "dtype",
        got=dtype,
        expected="torch.float32 or torch.float64",
        remedy="Leave it out for that of the method.",
    )
    matrix = isinstance(problem.measure, Counting)
    require(
        not settings.compile or (method == "sgd" and not matrix),
        "compile",
        got="True for a matrix" if matrix else f"True with method={method!r}",
        expected="False: only steps of stochastic gradients on functions are compiled",
        remedy="Leave it out.",
    )
    check_network(network, matrix)
    check_pairs(problem, k, objective)
    check_kinds(problem, settings)
    if method == "varpro":
        check_varpro(matrix, objective, nested.kind, preset, warm_start, dtype)
        require(
            problem.operator.self_adjoint or not problem.operator.local,
            "operator",
            got=f"{type(problem.operator).__name__}, local and not self-adjoint, with method='varpro'",
            expected="a self-adjoint operator, or one that integrates",
            remedy=LEAVE_OUT,
        )
        check_trunk(k, network)
        check_unused(settings)
        dtype = torch.float64
    else:
        check_moment(problem, settings)
        require(
            settings.spectral is None,
            "spectral",
            got=f"{settings.spectral!r}, with method={method!r}",
            expected="None: only method='varpro' has a choice of functions of the values",
            remedy="Leave it out, or use method='varpro'.",
        )
    check_callbacks(callbacks)
    dtype = torch.float64 if matrix else dtype or torch.float32
    # A matrix leaves the device alone, so that one without float64 is no hindrance.
    where = pick_device(device, torch.float32 if matrix else dtype)
    if isinstance(network, Mapping) or network is None:
        network = {**settings.network, **(network or {})}
    return Choices(
        method,
        objective,
        nested,
        None if preset == "paper" else warm_start,  # the paper starts from random heads
        preset,
        whole_seed,
        torch.device("cpu") if matrix else where,
        dtype,
        network,
    )


def check_callbacks(callbacks: Any) -> None:
    """Refuse what is not a sequence of functions."""
    remedy = "Write callbacks=[function], each with one argument, the state of the run."
    require(
        isinstance(callbacks, Sequence),
        "callbacks",
        got=repr(callbacks),
        expected="a list of functions of the state of the run",
        remedy=remedy,
    )
    for callback in callbacks:
        require(
            callable(callback),
            "callbacks",
            got=repr(callback),
            expected="functions of the state of the run",
            remedy=remedy,
        )


def check_nesting(nesting: str | Nesting, k: int) -> Nesting:
    """Return the nesting of k components that was asked for, by its name or as an object with weights."""
    if not isinstance(nesting, Nesting):
        return Nesting(nearest("nesting", nesting, NESTINGS), k)
    require(
        nesting.L == k,
        "nesting",
        got=f"a nesting of {nesting.L} components",
        expected=f"one of k = {k}",
        remedy="Make it with as many weights as there are components: Nesting.joint(k, weights).",
    )
    return nesting


def check_k(problem: Problem, k: int) -> int:
    """Return the number of components; refuse less than one, or more than operator or exact answer have."""
    whole = whole_number(k)
    if whole is None or whole < 1:
        raise ArgumentError(
            "k",
            got=repr(k),
            expected="an integer, at least 1",
            remedy="Ask for one component or more.",
        )
    k = whole
    sizes = [m.n for m in (problem.measure, problem.left_measure) if isinstance(m, Counting)]
    require(
        not sizes or k <= min(sizes),
        "k",
        got=k,
        expected=f"at most {min(sizes, default=0)}, the smaller side of the matrix",
        remedy="A matrix has no more singular values than rows or columns.",
    )
    if problem.exact is not None:
        problem.exact.completed(k)  # refuses what it does not know
    return k


def check_bounded(operator: Operator) -> None:
    """Refuse an SVD of an unbounded operator."""
    if not operator.bounded:
        raise ArgumentError(
            "operator",
            got=f"an SVD of {type(operator).__name__}, which is unbounded",
            expected="a bounded operator, such as Integral or Matrix",
            remedy="The low-rank loss of an unbounded operator has no minimum. "
            "Use eigsh for the top of its spectrum.",
        )


def check_network(network: Any, matrix: bool) -> None:
    """Refuse what is neither arguments of the default network nor a function that makes one."""
    require(
        not (matrix and network is not None),
        "network",
        got="a network for a matrix",
        expected="None",
        remedy="The functions of a matrix problem are its vectors.",
    )
    require(
        network is None or isinstance(network, Mapping) or callable(network),
        "network",
        got=type(network).__name__,
        expected="a dictionary of arguments, or a function of a torch.Generator that returns a module",
        remedy="Write network={'widths': (64, 64)}, or network=lambda generator: module.",
    )
    require(
        not isinstance(network, nn.Module),
        "network",
        got=f"the module {type(network).__name__}",
        expected="a function of a torch.Generator that returns one",
        remedy="Write network=lambda generator: module.",
    )
    for name in network if isinstance(network, Mapping) else ():
        nearest("network", name, NETWORK_OPTIONS)
