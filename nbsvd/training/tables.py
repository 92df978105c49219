r"""Matrices: functions that are tables, and sums that are exact.

Here the objective is a polynomial in the entries. In one side, with the other held fixed, its curvature is
the same small matrix for every row, ``P = 2 (M o G^T G)`` (o the entrywise product). Dividing the gradient by
it turns plain descent into a method that does not see the condition number of the matrix, only its gaps.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from nbsvd._errors import ArgumentError, TrainingDiverged
from nbsvd.functions import Table
from nbsvd.objectives import Nesting
from nbsvd.operators import Operator
from nbsvd.spectrum import History

BAR = "{l_bar}{bar}| {elapsed}<{remaining} {postfix}"
DELAY = 2.0  # seconds before the bar is shown: most matrices are done by then
RATE = 0.1  # share of a typical entry that a step on sampled rows moves
PATIENCE, STALLED, SMALL = 20, 200, 1e-9
NEGLIGIBLE = 1e-14  # share of the largest curvature below which a component of value zero is left alone
DEPENDENT = 1e-12  # share of the largest curvature, of components of equal size, that counts as none
TINY = 1e-300
VANISHED, REMNANT = (
    1e-12,
    1e-8,
)  # share of the largest |f||g| that counts as zero, and the size it is left with


def minimise_tables(
    operator: Operator,
    right: Table,
    left: Table,
    nesting: Nesting,
    values_of: Callable[[], Tensor],
    *,
    steps: int,
    seconds: float | None = None,
    began: float | None = None,
    tolerance: float = 1e-13,
    report_every: int = 10,
    progress: bool = False,
    rescue: Callable[[History], object] = lambda history: history,
) -> History:
    """Minimise the nested objective of a matrix over tables, by preconditioned descent on exact sums.

    A step takes one product with the matrix for an eigenproblem; one with it and one with its adjoint for an
    SVD. Besides the matrix there are a few tables, and k x k matrices.

    Stops when no entry has moved by more than ``tolerance`` of the largest for some steps in a row, or when
    the moves are small and get no smaller: then they are rounding, as for tiny values beside large ones.
    Ctrl-C returns what there is.

    Arguments:
        operator: a :class:`~nbsvd.Matrix`, or a shifted or scaled one.
        right, left: tables of the two sides; the same table for an eigenproblem. Changed in place.
        nesting: how the components are nested.
        values_of: returns the present values, ``(k,)``, for the history.
        steps: at most so many steps.
        seconds: at most so many seconds.
        began: ``time.perf_counter()`` at the start of the warm start, from which seconds count.
        tolerance: relative size of a step that counts as none.
        report_every: steps between two entries of the history.
        progress: whether a run of more than a moment shows a bar: step, move, and the time that is left at
            most.
        rescue: makes of the history what a run that breaks off leaves as the error's ``result``. That is the
            two tables where nothing can be measured any more.

    Raises:
        TrainingDiverged: a product that is not finite; the tables are those before it.
    """
    began = time.perf_counter() if began is None else began
    history, step = History(), 0
    move = best = float("inf")
    still = since = 0
    loss = torch.zeros(())
    move_once = (
        _symmetric(operator, right, nesting) if left is right else _alternate(operator, right, left, nesting)
    )

    def broken_off() -> TrainingDiverged:
        history.stopped = "diverged"
        try:
            result = rescue(history)
        except ArgumentError:  # the product stays broken
            result = right, left
        return _diverged(step, history, result)

    def report() -> None:
        values = values_of()
        if not bool(torch.isfinite(values).all()):
            raise broken_off()
        history.values.append(values.tolist())
        history.step.append(step)
        history.seconds.append(time.perf_counter() - began)
        history.loss.append(loss.item())

    bar = tqdm(
        total=100, unit="%", disable=not progress, bar_format=BAR, leave=False, miniters=0, delay=DELAY
    )
    with bar:
        try:
            while not history.stopped:
                spent = time.perf_counter() - began
                if step >= steps:
                    history.stopped = "steps"
                elif seconds is not None and spent > seconds:
                    history.stopped = "seconds"
                elif still >= PATIENCE or (since >= STALLED and move < SMALL):
                    history.stopped = "converged"
                else:
                    loss, move = move_once()
                    if not math.isfinite(move):
                        raise broken_off()
                    step, still = step + 1, still + 1 if move <= tolerance else 0
                    best, since = (move, 0) if move < best else (best, since + 1)
                    if step % report_every == 0:
                        report()
                    done = max(step / steps, 0.0 if seconds is None else spent / seconds)
                    bar.set_postfix_str(f"step {step}, move {move:.1e} of {tolerance:.0e}", refresh=False)
                    bar.update(min(100 * done, 100.0) - bar.n)
        except KeyboardInterrupt:
            history.stopped = "interrupted"
    if step > max(history.step, default=0):
        report()
    if left is not right and complete(right, left) and history.values:
        history.values[-1] = values_of().tolist()
    return history


def _diverged(step: int, history: History, result: object) -> TrainingDiverged:
    kept = f"values {history.values[-1]}" if history.values else "the start"
    return TrainingDiverged(
        f"A: got a product with NaN or infinite entries at step {step}; expected finite numbers. The last "
        f"good state, with {kept}, is in the error's `result`. Check the matrix, or matvec and rmatvec.",
        step=step,
        result=result,
    )


@torch.no_grad()
def complete(right: Table, left: Table) -> bool:
    """Give components that have vanished directions of their own; tell whether any has.

    Where the singular value is zero the objective asks for ``|f||g| = 0`` and leaves both directions to
    chance: the quotient of such a pair could be any number. Directions orthogonal to all others are singular.
    """
    a, b = right.entries.norm(dim=0), left.entries.norm(dim=0)
    gone = a * b <= VANISHED * (a * b).max()
    if not bool(gone.any()):
        return False
    for table in (right, left):
        kept = table.entries[:, ~gone]
        table.entries[:, gone] = (
            REMNANT * torch.linalg.qr(torch.cat([kept, table.entries[:, gone]], 1)).Q[:, kept.shape[1] :]
        )
    return True


def _image(operator: Operator) -> Callable[[Tensor], Tensor]:
    """Return the function that applies an operator to a whole table of vectors."""
    assert operator.measure_x is not None
    assert operator.measure_y is not None
    x, y = operator.measure_x.nodes(1, kind="quadrature"), operator.measure_y.nodes(1, kind="quadrature")
    return lambda f: operator.apply(lambda _: f, y.x, x)


def _symmetric(operator: Operator, table: Table, nesting: Nesting) -> Callable[[], tuple[Tensor, float]]:
    """Return one step for an eigenproblem."""
    image = _image(operator)

    @torch.no_grad()
    def step() -> tuple[Tensor, float]:
        f = table.entries.detach()
        gram, Tf = f.t() @ f, image(f)
        loss = _loss(gram, gram, f, Tf, nesting)
        # Curvature 4 M o F^T F, halved again: the norm then follows Newton's square root of the value.
        return loss, _descend(table.entries, gram, Tf, nesting, rate=0.5)

    return step


def _alternate(
    operator: Operator, right: Table, left: Table, nesting: Nesting
) -> Callable[[], tuple[Tensor, float]]:
    """Return one step for an SVD: one side after the other, for each has its curvature while one rests.

    The smaller side, which moves last, is carried on beyond where it is, in the direction in which it went
    (Nesterov), and begins anew whenever it has gone too far. Where two values are close that takes the root
    of the number of steps.

    Source: O'Donoghue and Candès (2015) for when to begin anew; Mitchell, Ye and De Sterck (2020) for
    alternating steps.
    """
    maps = {right: _image(operator), left: _image(operator.adjoint)}
    small, large = (right, left) if right.n <= left.n else (left, right)
    image, back = maps[small], maps[large]
    s, b = small.entries.detach(), large.entries.detach()
    before, age = s.clone(), 0

    @torch.no_grad()
    def step() -> tuple[Tensor, float]:
        nonlocal before, age
        ahead = torch.lerp(before, s, 1 + age / (age + 3))
        first = _descend(large.entries, ahead.t() @ ahead, image(ahead), nesting, rate=1.0)
        gram, Tb = b.t() @ b, back(b)
        loss = _loss(gram, s.t() @ s, s, Tb, nesting)
        before = s.clone()
        second = _descend(small.entries, gram, Tb, nesting, rate=1.0)
        age = 0 if float(((ahead - s) * (s - before)).sum()) > 0 else age + 1
        # the scale that may move between the sides, shared evenly
        p, q = s.norm(dim=0), b.norm(dim=0)
        share = torch.where((p > 0) & (q > 0), (q / p).sqrt(), 1.0)
        s.mul_(share)
        before.mul_(share * p / before.norm(dim=0).clamp_min(TINY))  # what is carried on is the direction
        b.div_(share)
        return loss, max(first, second) if math.isfinite(first + second) else math.nan

    return step


def _loss(gram_f: Tensor, gram_g: Tensor, g: Tensor, Tf: Tensor, nesting: Nesting) -> Tensor:
    """Return what ``lora_svd`` returns, from Gram matrices: the sums are exact and all there is."""
    masks = nesting.masks(g)
    linear = (masks.vector * (g.t() @ Tf).diagonal()).sum()
    return (masks.loss * gram_f * gram_g).sum() - 2 * linear


def _descend(
    table: torch.nn.Parameter, gram: Tensor, image: Tensor, nesting: Nesting, *, rate: float
) -> float:
    """Take one step against the gradient over the curvature; return its largest entry over the table's.

    Half the gradient is ``F (M o G^T G) - T* G diag(m)``, half the curvature ``M o G^T G``. A step that is
    not finite is not taken.

    Arguments:
        table: F, changed in place.
        gram: ``G^T G`` of the other side, ``(k, k)``.
        image: the operator applied to the other side, ``T* G``.
        nesting: gives M and m.
        rate: share of the step that is taken.
    """
    masks = nesting.masks(table)
    P = masks.matrix * gram
    if not bool(torch.isfinite(P).all()):
        return math.nan
    live = P.diagonal() > NEGLIGIBLE * P.diagonal().max()
    if not bool(live.any()):
        return 0.0
    # Components may depend on each other, as without nesting and with a rank below k: leave that out.
    size = P.diagonal()[live].sqrt()
    e, U = torch.linalg.eigh(P[live][:, live] / size[:, None] / size)
    U = U[:, e > DEPENDENT * e[-1]] / e[e > DEPENDENT * e[-1]].sqrt()
    inverse = torch.zeros_like(P)
    inverse[live.outer(live)] = (U @ U.t() / size[:, None] / size).flatten()
    half = torch.addmm(image * -masks.vector, table.detach(), P)
    step = half @ (rate * inverse)
    largest = _largest(step)
    if not math.isfinite(largest):
        return math.nan
    table.sub_(step)
    return largest / (_largest(table) or largest or 1.0)


def _largest(table: Tensor) -> float:
    """Return the largest absolute value, without a copy; NaN if there is one."""
    low, high = torch.aminmax(table.detach())
    return max(float(high), -float(low))


@torch.no_grad()
def least_value(operator: Operator, largest: float, *, generator: torch.Generator, steps: int = 50) -> float:
    """Return about the least eigenvalue of a symmetric matrix, by power iteration on ``T - largest``.

    Arguments:
        operator: a :class:`~nbsvd.Matrix`, or a shifted or scaled one.
        largest: about the largest eigenvalue.
        generator: source of the first vector.
        steps: products with the matrix.
    """
    assert operator.measure_x is not None
    x = operator.measure_x.nodes(1, kind="quadrature")
    v = torch.randn(len(x), 1, generator=generator, dtype=torch.float64)
    value = largest
    for _ in range(steps):
        if not bool(v.any()):  # T is a multiple of the identity
            break
        v = v / v.norm()
        image = operator.evaluate(lambda _, v=v: v, x)[1]  # type: ignore[misc]
        value = min(value, float((v * image).sum()))
        v = image - largest * v
    return value


def safe_shift(values: Tensor, least: float, shift: float) -> float:
    """Return a shift, at least ``shift``, with which the preconditioned descent is stable.

    A direction of value mu shrinks by ``(1 + mu/lambda_k)/2`` a step, so mu must stay above ``-3 lambda_k``;
    the bound used here, ``-2 lambda_k``, leaves a margin.

    Arguments:
        values: about the k largest values, descending, unshifted.
        least: about the smallest value of all.
        shift: what makes the k largest positive.

    Example:
        >>> safe_shift(torch.tensor([2.0, 1.0]), -11.0, 0.0)  # to 5, 4, ..., -8 = -2 x 4
        3.0
    """
    return max(shift, (-least - 2 * float(values[-1])) / 3)


def rate_of_samples(values: Tensor, right: Any, left: Any) -> float:
    r"""Return the learning rate for tables of which sampled rows are trained: a tenth of a typical entry.

    Adam and its kin move each entry by about the rate, whatever the gradient. At the optimum the entries of
    :math:`|f| = |g| = \sqrt\sigma` have the size :math:`\sqrt{\sigma/n}` and :math:`\sqrt{\sigma/m}`.

    Arguments:
        values: about the values to be learned, shifted to be positive.
        right, left: the tables.

    Example:
        >>> table = Table(2, 25, generator=torch.Generator())
        >>> round(rate_of_samples(torch.tensor([4.0, 4.0]), table, table), 6)  # sqrt(4 / 25) / 10
        0.04
    """
    size = float(values.clamp_min(0).mean()) or 1.0
    entries: int = right.n * left.n
    return RATE * math.sqrt(size) / math.sqrt(math.sqrt(entries))
