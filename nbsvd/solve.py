"""The facade: solve a problem, or decompose an operator, in one call."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nbsvd import problems
from nbsvd._device import pick_device
from nbsvd._errors import ArgumentError, nearest, require
from nbsvd.measures import Counting
from nbsvd.objectives import Nesting, choose
from nbsvd.operators import Matrix, Operator
from nbsvd.problems import Problem
from nbsvd.spectrum import Result
from nbsvd.spectrum.storage import read, restore
from nbsvd.training import PRESETS, Settings, Trainer
from nbsvd.training.session import Choices, Session

METHODS = ("sgd",)
OBJECTIVES = ("lora", "omm")
NESTINGS = ("joint", "sequential", "none")
DEFAULT_SECONDS = 60.0


def solve(
    problem: Problem | str,
    k: int = 6,
    *,
    method: str = "sgd",
    objective: str = "lora",
    nesting: str = "joint",
    steps: int | None = None,
    seconds: float | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    dtype: torch.dtype | None = None,
    seed: int = 0,
    warm_start: str | None = "ritz",
    preset: str | None = None,
    callbacks: Sequence[Callable[[Trainer], Any]] = (),
    progress: bool = True,
    network: Callable[[torch.Generator], nn.Module] | Mapping[str, Any] | None = None,
    **settings: Any,
) -> Result:
    r"""Find the first k singular functions (for a self-adjoint operator, eigenfunctions) of a problem.

    The default minimises NestedLoRA, :math:`\sum_l w_l \|T - \sum_{i \le l} |g_i\rangle\langle f_i|\,\|^2` up to a
    constant, over disjoint networks by stochastic gradients, starting from the Ritz solution on the untrained
    network. That solution's own errors are reported beside the trained ones, as ``result.control``.

    Arguments:
        problem: a :class:`~nbsvd.Problem`, or the name of one of ``nbsvd.problems``.
        k: number of components.
        method: ``"sgd"``.
        objective: ``"lora"``; or, for a positive bounded operator, ``"omm"``.
        nesting: ``"joint"``, ``"sequential"`` or ``"none"``.
        steps: limit of the run in steps. Equal seeds give equal results on one machine if only steps limit the run.
        seconds: limit of the run in seconds; 60 if neither is given.
        batch_size: nodes of one step.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        dtype: dtype of training, float32 unless given; matrices and every evaluation use float64.
        seed: seed of all randomness of the run.
        warm_start: ``"ritz"``, or ``None`` for random heads.
        preset: ``"paper"`` for the setting of Ryu et al., section 4.
        callbacks: called with the :class:`~nbsvd.training.Trainer` at every report; ``True`` ends the run.
        progress: whether a progress bar is shown.
        network: arguments for the default network, or a function of a generator that returns a module of your own,
            from points ``(B, d)`` to values ``(B, k)``.
        settings: further fields of :class:`~nbsvd.training.Settings`, such as ``lr`` or ``optimizer``.

    Raises:
        ArgumentError: an argument that can't be used, before any work is done.
        TrainingDiverged: a loss that is no longer finite; the last good result is the error's ``result``.

    Source: Ryu et al., section 3, Theorem 2.

    Example:
        >>> result = solve("volterra", k=2, steps=20, progress=False)
        >>> result.values.shape
        torch.Size([2])
    """
    began = time.perf_counter()
    problem = problems.get(problem) if isinstance(problem, str) else problem
    require(
        isinstance(problem, Problem),
        "problem",
        got=type(problem).__name__,
        expected="a Problem or the name of one",
        remedy="Wrap an operator: Problem(operator, measure).",
    )
    check_k(problem, k)
    nearest("method", method, METHODS)
    nearest("objective", objective, OBJECTIVES)
    nearest("nesting", nesting, NESTINGS)
    if warm_start is not None:
        nearest("warm_start", warm_start, ("ritz",))
    if objective == "omm":
        check_omm(problem.operator)
    if not problem.operator.self_adjoint:
        check_bounded(problem.operator)
    dtype = torch.float32 if dtype is None else dtype
    require(
        dtype in (torch.float32, torch.float64), "dtype", got=dtype, expected="torch.float32 or torch.float64"
    )
    where = torch.device("cpu") if isinstance(problem.measure, Counting) else pick_device(device, dtype)
    chosen = make_settings(preset, steps=steps, seconds=seconds, batch_size=batch_size, **settings)
    options = {**chosen.network, **network} if isinstance(network, Mapping) else network or chosen.network
    kind = chosen.kind or problem.measure.training_kind
    require(
        kind in problem.measure.kinds,
        "kind",
        got=repr(kind),
        expected=f"one of {', '.join(map(repr, problem.measure.kinds))} for this measure",
    )
    choose(kind, chosen.moment, size=chosen.batch_size)
    choices = Choices(
        method, objective, Nesting(nesting, k), warm_start, preset, seed, where, dtype, options or None
    )
    return Session(problem, k, choices, chosen, began).run(callbacks, progress)


def make_settings(preset: str | None = None, **changes: Any) -> Settings:
    """Return the settings of a preset (the default one if ``None``) with changes.

    Example:
        >>> make_settings("paper", steps=10).batch_size
        128
    """
    known = {f.name for f in fields(Settings)}
    for name in changes:
        nearest("settings", name, known)
    given = {name: value for name, value in changes.items() if value is not None}
    if preset is None:
        return Settings(**({"seconds": DEFAULT_SECONDS} if not {"steps", "seconds"} & set(given) else {}), **given)
    base = PRESETS[nearest("preset", preset, PRESETS)]
    if "seconds" in given and "steps" not in given:
        given["steps"] = None
    return replace(base, **given)


def check_k(problem: Problem, k: int) -> None:
    """Refuse a number of components below one or above what the operator has."""
    require(isinstance(k, int) and not isinstance(k, bool) and k >= 1, "k", got=repr(k), expected="an integer, at least 1")
    sizes = [m.n for m in (problem.measure, problem.left_measure) if isinstance(m, Counting)]
    require(
        not sizes or k <= min(sizes),
        "k",
        got=k,
        expected=f"at most {min(sizes, default=0)}, the smaller side of the matrix",
        remedy="A matrix has no more singular values than rows or columns.",
    )


def check_bounded(operator: Operator) -> None:
    """Refuse an SVD of an unbounded operator."""
    if not operator.bounded:
        raise ArgumentError(
            "operator",
            got=f"an SVD of {type(operator).__name__}, which is unbounded",
            expected="a bounded operator, such as Integral or Matrix",
            remedy="The low-rank loss of an unbounded operator has no minimum. Use eigsh for the top of its spectrum.",
        )


def check_omm(operator: Operator) -> None:
    """Refuse the orbital-minimisation objective where it has no minimum."""
    if not operator.self_adjoint or not operator.bounded:
        what = "unbounded below" if operator.self_adjoint else "not self-adjoint"
        raise ArgumentError(
            "objective",
            got=f"'omm' for {type(operator).__name__}, which is {what}",
            expected="a bounded self-adjoint operator with no negative values",
            remedy="One negative value and the loss has no minimum. Use objective='lora'.",
        )


def load(
    path: str | Path,
    model: nn.Module | None = None,
    *,
    left_model: nn.Module | None = None,
    problem: Problem | None = None,
) -> Result:
    """Read a result back from a file; nothing is unpickled.

    Arguments:
        path: what ``Result.save`` was given.
        model: a module of your own to load the parameters into; our own networks are built from the file.
        left_model: the same for the left functions of an SVD.
        problem: the problem, where it was one of your own: the file holds numbers, not code.

    Raises:
        ArgumentError: a file that is missing, broken or foreign; a missing module or problem.

    Example:
        >>> import tempfile
        >>> result = solve("volterra", k=2, steps=0, progress=False)
        >>> path = result.save(tempfile.mkdtemp() + "/result.safetensors")
        >>> bool((load(path).values == result.values).all())
        True
    """
    stored = read(path)
    info = stored.description["info"]
    if problem is None:
        name = info["problem"]
        require(
            name in problems.PROBLEMS,
            "problem",
            got=f"a result of the problem {name!r}, which is not one of nbsvd.problems",
            expected="the problem it was solved for",
            remedy="Pass it: nbsvd.load(path, problem=my_problem).",
        )
        problem = problems.get(name, **info["options"])
    return restore(
        stored,
        model,
        left_model,
        operator=problem.operator,
        measure_x=problem.measure,
        measure_y=problem.left_measure,
        exact=problem.exact,
    )


def eigsh(
    operator: Operator | Any, k: int = 6, *, measure: Any = None, ansatz: Any = None, **options: Any
) -> tuple[Tensor, Any]:
    """Find the k largest eigenvalues of a self-adjoint operator, descending, and the eigenfunctions.

    SciPy's argument order and its ``which="LA"``; the order of the values is the other way round.

    Arguments:
        operator: a self-adjoint operator, or anything that :class:`~nbsvd.Matrix` takes.
        k: how many.
        measure: reference measure, for an operator that does not fix one.
        ansatz: factor that multiplies every function.
        options: as for :func:`solve`.

    Returns:
        The values ``(k,)`` and the functions: a callable from points ``(B, d)`` to ``(B, k)``, or for a matrix the
        tensor of vectors ``(n, k)``.

    Raises:
        ArgumentError: an operator that is not self-adjoint; and as :func:`solve`.

    Example:
        >>> w, v = eigsh(torch.diag(torch.tensor([3.0, 1.0, 2.0])), k=2)
        >>> [round(x, 6) for x in w.tolist()], v.shape
        ([3.0, 2.0], torch.Size([3, 2]))
    """
    operator = operator if isinstance(operator, Operator) else Matrix(operator)
    require(
        operator.self_adjoint,
        "operator",
        got=f"{type(operator).__name__} that is not self-adjoint",
        expected="a self-adjoint operator",
        remedy="Use svds; or say self_adjoint=True where it can't be found out.",
    )
    result = solve(Problem(operator, measure, ansatz), k, **options)
    if isinstance(result.measure_x, Counting):
        return result.values, result.right(result.nodes().x)
    return result.values, result.right


def svds(
    operator: Operator | Any, k: int = 6, *, measure: Any = None, ansatz: Any = None, **options: Any
) -> tuple[Any, Tensor, Any]:
    """Find the k largest singular values, descending, and the singular functions on both sides.

    Arguments:
        operator: a bounded operator, or anything that :class:`~nbsvd.Matrix` takes.
        k: how many.
        measure: reference measure of the right functions, for an operator that does not fix one.
        ansatz: factor that multiplies every function.
        options: as for :func:`solve`.

    Returns:
        ``u, s, v``: left functions, values ``(k,)``, right functions. ``v`` is not transposed. Functions are callables,
        or for a matrix tensors ``(m, k)`` and ``(n, k)``.

    Raises:
        ArgumentError: an unbounded operator; and as :func:`solve`.

    Example:
        >>> u, s, v = svds(torch.tensor([[0.0, 2.0], [0.0, 0.0], [1.0, 0.0]]), k=1)
        >>> [round(x, 6) for x in s.tolist()], u.shape, v.shape
        ([2.0], torch.Size([3, 1]), torch.Size([2, 1]))
    """
    operator = operator if isinstance(operator, Operator) else Matrix(operator, self_adjoint=False)
    check_bounded(operator)
    result = solve(Problem(two_sided(operator), measure, ansatz), k, **options)
    if isinstance(result.measure_x, Counting):
        return result.left(result.nodes("left").x), result.values, result.right(result.nodes().x)
    return result.left, result.values, result.right


def two_sided(operator: Operator) -> Operator:
    """Return the operator with its two sides told apart, so that negative eigenvalues become singular values."""
    if not operator.self_adjoint:
        return operator
    if isinstance(operator, Matrix):
        return Matrix(operator.entries, self_adjoint=False)
    return TwoSided(operator)


class TwoSided(Operator):
    """A self-adjoint operator whose left and right functions are to be found separately."""

    def __init__(self, inner: Operator) -> None:
        self.inner = inner
        self.bounded, self.measure_x, self.measure_y = inner.bounded, inner.measure_x, inner.measure_y

    def transform(self, y: Tensor, nodes: Any, f: Tensor) -> Tensor:
        """Apply the operator."""
        return self.inner.transform(y, nodes, f)

    @property
    def adjoint(self) -> Operator:
        """The same operator."""
        return self
