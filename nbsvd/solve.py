"""The facade: solve a problem, or decompose an operator, in one call."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nbsvd import problems
from nbsvd._errors import nearest, require
from nbsvd.measures import Counting, Nodes
from nbsvd.objectives import Nesting
from nbsvd.operators import Conditional, Matrix, Operator
from nbsvd.problems import Problem
from nbsvd.spectrum import Result
from nbsvd.spectrum.storage import read, spaces
from nbsvd.training import PRESETS, Settings, Trainer
from nbsvd.training.choices import check_bounded, check_choices
from nbsvd.training.cloud import Place
from nbsvd.training.paired_session import PairedSession
from nbsvd.training.projection import ProjectionSession
from nbsvd.training.session import Session

DEFAULT = Settings(seconds=60.0)


def solve(
    problem: Problem | str,
    k: int = 6,
    *,
    method: str = "sgd",
    objective: str = "lora",
    nesting: str | Nesting = "joint",
    steps: int | None = None,
    seconds: float | None = None,
    batch_size: int | None = None,
    device: str | torch.device = "auto",
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

    The default minimises NestedLoRA,

    .. math:: \sum_l w_l \Big\| T - \sum_{i \le l} |g_i\rangle\langle f_i| \Big\|^2

    up to a constant, over disjoint networks by stochastic gradients, starting from the Ritz solution on the
    untrained network. That solution's own errors are reported beside the trained ones, as ``result.control``.
    A matrix needs no network and no sampling: the same objective is minimised over its vectors by exact sums,
    until they stand still; ``batch_size`` and the settings of the optimizer play no part then.

    ``method="varpro"`` is variable projection. All functions are combinations ``f = C^T h`` of one trunk h,
    and for each trunk the heads C are the best there are: Ritz functions, or their analogues for an SVD. Only
    the trunk is trained, in float64, by a quasi-Newton method.

    * In what sense that is NestedLoRA: over all heads the objective above has the minimum
      :math:`-\sum_l m_l \max(\mu_l, 0)^2`, :math:`m_l = \sum_{i \ge l} w_i`, with :math:`\mu_l` the Ritz
      values (for an SVD the singular values) on the span of h. ``spectral="lora"`` minimises
      this function of the trunk: the same objective with the head eliminated, the same minimisers, another
      trajectory. At each point its gradient is that of NestedLoRA at the best heads.
    * In what sense not: no head is ever trained; values are Ritz values, from eigenproblems as large as the
      trunk is wide. ``"log"``, the default, and ``"sum"`` put another increasing function of each value in
      the place of its square: as no Ritz value exceeds the exact one, they have the same optimum, but they
      are not NestedLoRA. Order comes from the Ritz solution, so that the weights of the nesting matter for
      ``"lora"`` alone. All functions must share one trunk, and a step needs many nodes, for a Ritz value from
      a small batch is biased.

    Each gain is confirmed on independent nodes or undone. The untrained functions under the same Ritz
    solution are ``result.control``, as for every method.

    Arguments:
        problem: a :class:`~nbsvd.Problem`, or the name of one of ``nbsvd.problems``.
        k: number of components.
        method: ``"sgd"``, stochastic gradients; or ``"varpro"``, heads in closed form: for operators on
            functions, by far the more accurate one in few dimensions.
        objective: ``"lora"``; or one of its rivals, for self-adjoint operators: ``"spin"``, ``"neuralef"``;
            or ``"omm"``, for bounded positive ones or with ``invert=True``. Their settings are ``decay``,
            ``form``, ``order`` and ``invert``, see :class:`~nbsvd.training.Settings`.
        nesting: ``"joint"``, ``"sequential"`` or ``"none"``; or a :class:`~nbsvd.Nesting` of k components,
            for weights of your own. SpIN and NeuralEF have an order of their own, in which each component
            follows a slope of its own, as in ``"sequential"``; they take no other.
        steps: limit of the run in steps, for ``"varpro"`` in iterations. If only they limit it, equal seeds
            give equal results on a machine. With 0 nothing is trained.
        seconds: limit of the run in seconds; 60 if neither is given.
        batch_size: nodes of one step; for ``"varpro"`` of the first round, by the dimension unless given.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        dtype: dtype of training, float32 unless given; matrices, ``"varpro"`` and every evaluation use
            float64.
        seed: seed of all randomness of the run.
        warm_start: ``"ritz"``, or ``None`` for random heads.
        preset: ``"paper"`` for the training setting of Ryu et al., section 4, which has random heads. Their
            problem is ``problems.hydrogen2d("box")``.
        callbacks: called with the :class:`~nbsvd.training.Trainer` at every report, for ``"varpro"`` with the
            :class:`~nbsvd.training.varpro.Projection` after every round; ``True`` ends the run. Not for a
            matrix.
        progress: whether a progress bar is shown.
        network: arguments for the default :class:`~nbsvd.functions.MLP`, or a function of a generator that
            returns a module of your own from points ``(B, d)`` to values ``(B, k)``, which the problem's
            ansatz multiplies. It starts as it is: control and shift then come from our network. If each of
            its components has parameters of its own, let an attribute ``component_axis`` say along which axis
            of them: SpIN then takes k passes a step instead of k (k + 1)/2.
        settings: further fields of :class:`~nbsvd.training.Settings`, such as ``lr`` or ``optimizer``, or
            ``spectral`` for ``"varpro"``.

    Raises:
        ArgumentError: an argument that can't be used, before any work is done.
        TrainingDiverged: a loss that is no longer finite, or nodes too coarse for the network; the last good
            result is the error's ``result``.

    Source: Ryu et al., section 3, Theorem 2; for ``"varpro"`` Golub and Pereyra (1973).

    Example:
        >>> result = solve("volterra", k=2, steps=20, progress=False)
        >>> result.values.shape
        torch.Size([2])
        >>> result = solve("gaussian_kernel", k=2, method="varpro", steps=20, progress=False)
        >>> result.errors()["relative_max"] < 1e-9 < result.control["relative_max"]
        True
    """
    began = time.perf_counter()
    problem = problems.get(problem) if isinstance(problem, str) else problem
    chosen = make_settings(preset, steps=steps, seconds=seconds, batch_size=batch_size, **settings)
    choices = check_choices(
        problem,
        k,
        chosen,
        method=method,
        objective=objective,
        nesting=nesting,
        warm_start=warm_start,
        preset=preset,
        seed=seed,
        device=device,
        dtype=dtype,
        network=network,
        callbacks=callbacks,
    )
    projecting = ProjectionSession if problem.operator.pairs is None else PairedSession
    session = projecting if method == "varpro" else Session
    return session(problem, choices.nesting.L, choices, chosen, began).run(callbacks, progress)


def make_settings(preset: str | None = None, **changes: Any) -> Settings:
    """Return the settings of a preset (the default one if ``None``) with changes; ``None`` changes nothing.

    Raises:
        ArgumentError: an unknown preset or setting, or a setting out of range.

    Example:
        >>> make_settings("paper", steps=10).batch_size
        128
    """
    known = [f.name for f in fields(Settings)]
    given = {nearest("settings", name, known): value for name, value in changes.items() if value is not None}
    base = DEFAULT if preset is None else PRESETS[nearest("preset", preset, PRESETS)]
    if {"steps", "seconds"} & set(given):  # a limit that is given takes the place of the preset's
        given = {"steps": None, "seconds": None, **given}
    return replace(base, **given)


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
        ArgumentError: a file that is missing, broken or foreign; a missing module or problem, or another one.

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
    if info.get("frame"):  # the measure that was found, in place of the declared one
        measure = Place.read(info["frame"]["place"]).measure()
        problem = replace(problem, measure=measure, measure_y=None)
    given = spaces(problem.operator, problem.measure, problem.left_measure)
    require(
        given == stored.description["spaces"],
        "problem",
        got=f"one with {given}",
        expected=f"the problem it was solved for, with {stored.description['spaces']}",
        remedy="Pass the same problem: nbsvd.load(path, problem=my_problem).",
    )
    return Result.restore(
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
        The values ``(k,)`` and the functions: a callable from points ``(B, d)`` to ``(B, k)``, or, for a
        matrix, the tensor of vectors ``(n, k)``.

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
    result = solve(as_problem(operator, measure, ansatz), k, **options)
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
        ``u, s, v``: left functions, values ``(k,)``, right functions. ``v`` is not transposed. Functions are
        callables, or for a matrix tensors ``(m, k)`` and ``(n, k)``.

    Raises:
        ArgumentError: an unbounded operator; and as :func:`solve`.

    Example:
        >>> u, s, v = svds(torch.tensor([[0.0, 2.0], [0.0, 0.0], [1.0, 0.0]]), k=1)
        >>> [round(x, 6) for x in s.tolist()], u.shape, v.shape
        ([2.0], torch.Size([3, 1]), torch.Size([2, 1]))
    """
    operator = operator if isinstance(operator, Operator) else Matrix(operator, self_adjoint=False)
    check_bounded(operator)
    result = solve(as_problem(two_sided(operator), measure, ansatz), k, **options)
    if isinstance(result.measure_x, Counting):
        return result.left(result.nodes("left").x), result.values, result.right(result.nodes().x)
    return result.left, result.values, result.right


def as_problem(operator: Operator, measure: Any, ansatz: Any) -> Problem:
    """Return the problem of an operator, with its own measure unless one is given."""
    given = {} if measure is None else {"measure": measure}
    return Problem(operator, ansatz=ansatz, **given)


def two_sided(operator: Operator) -> Operator:
    """Return the operator with its sides told apart: negative eigenvalues become positive singular values."""
    if not operator.self_adjoint:
        return operator
    if isinstance(operator, Matrix):
        return Matrix(operator.entries, self_adjoint=False)
    if isinstance(operator, Conditional):
        return Conditional(operator.pairs)
    return TwoSided(operator)


class TwoSided(Operator):
    """A self-adjoint operator whose left and right functions are to be found separately."""

    def __init__(self, inner: Operator) -> None:
        self.inner = inner
        self.bounded, self.measure_x, self.measure_y = inner.bounded, inner.measure_x, inner.measure_y
        self.singular_points = inner.singular_points

    def apply(self, function: Callable[[Tensor], Tensor], y: Tensor, nodes: Nodes | None = None) -> Tensor:
        """Apply the operator."""
        return self.inner.apply(function, y, nodes)

    def transform(self, y: Tensor, nodes: Nodes, f: Tensor) -> Tensor:
        """Integrate values at nodes."""
        return self.inner.transform(y, nodes, f)

    @property
    def adjoint(self) -> Operator:
        """The same operator."""
        return self
