r"""Matrices: functions that are tables, and sums that are exact.

Here the objective is a polynomial in the entries. In one side, with the other held fixed, its curvature is
the same small matrix for every row, ``P = 2 (M o G^T G)`` (o the entrywise product). Dividing the gradient by
it turns plain descent into a method that does not see the condition number of the matrix, only its gaps.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from nbsvd.functions import Table
from nbsvd.objectives import Nesting, lora_evd, lora_svd
from nbsvd.operators import Operator
from nbsvd.spectrum import History
from nbsvd.spectrum.moments import applied

PATIENCE, STALLED, SMALL = 20, 200, 1e-9
NEGLIGIBLE = 1e-14  # share of the largest curvature below which a component of value zero is left alone
DEPENDENT = 1e-12  # share of the largest curvature, of components of equal size, that counts as none
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
) -> History:
    """Minimise the nested objective of a matrix over tables, by preconditioned descent on exact sums.

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
    """
    began = time.perf_counter() if began is None else began
    history, step = History(), 0
    move = best = float("inf")
    still = since = 0
    loss = torch.zeros(())
    move_once = (
        _symmetric(operator, right, nesting) if left is right else _alternate(operator, right, left, nesting)
    )

    def report() -> None:
        history.values.append(values_of().tolist())
        history.step.append(step)
        history.seconds.append(time.perf_counter() - began)
        history.loss.append(loss.item())

    try:
        while not history.stopped:
            if step >= steps:
                history.stopped = "steps"
            elif seconds is not None and time.perf_counter() - began > seconds:
                history.stopped = "seconds"
            elif still >= PATIENCE or (since >= STALLED and move < SMALL):
                history.stopped = "converged"
            else:
                loss, move = move_once()
                step, still = step + 1, still + 1 if move <= tolerance else 0
                best, since = (move, 0) if move < best else (best, since + 1)
                if step % report_every == 0:
                    report()
    except KeyboardInterrupt:
        history.stopped = "interrupted"
    if step > max(history.step, default=0):
        report()
    if left is not right and complete(right, left) and history.values:
        history.values[-1] = values_of().tolist()
    return history


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


def _symmetric(operator: Operator, table: Table, nesting: Nesting) -> Callable[[], tuple[Tensor, float]]:
    """Return one step for an eigenproblem."""
    assert operator.measure_x is not None
    x = operator.measure_x.nodes(1, kind="quadrature")

    def step() -> tuple[Tensor, float]:
        f, Tf = operator.evaluate(table, x)
        loss = lora_evd(f, Tf, nesting, weights=x.weights, moment="plain")
        # Curvature 4 M o F^T F, halved again: the norm then follows Newton's square root of the value.
        return loss, _descend(table.entries, f, loss, nesting, rate=0.25)

    return step


def _alternate(
    operator: Operator, right: Table, left: Table, nesting: Nesting
) -> Callable[[], tuple[Tensor, float]]:
    """Return one step for an SVD: one side after the other, for each has its curvature while one rests."""
    assert operator.measure_x is not None
    assert operator.measure_y is not None
    x, y = operator.measure_x.nodes(1, kind="quadrature"), operator.measure_y.nodes(1, kind="quadrature")

    def step() -> tuple[Tensor, float]:
        moves = []
        for table, partner in ((right, left), (left, right)):
            f, g = right(x.x), left(y.x)
            Tf = applied(operator, right, f, x, y.x)
            loss = lora_svd(f, g, Tf, nesting, weights=(x.weights, y.weights))
            moves.append(_descend(table.entries, partner.entries, loss, nesting, rate=1.0))
        with torch.no_grad():  # the scale that may move between the sides, shared evenly
            a, b = right.entries.norm(dim=0), left.entries.norm(dim=0)
            share = torch.where((a > 0) & (b > 0), (b / a).sqrt(), 1.0)
            right.entries.mul_(share)
            left.entries.div_(share)
        return loss, max(moves)

    return step


def _descend(
    table: torch.nn.Parameter, partner: Tensor, loss: Tensor, nesting: Nesting, *, rate: float
) -> float:
    """Take one step against the gradient over the curvature; return its largest entry over the table's."""
    (gradient,) = torch.autograd.grad(loss, table)
    with torch.no_grad():
        P = 2 * nesting.masks(partner).matrix * (partner.t() @ partner)
        live = P.diagonal() > NEGLIGIBLE * P.diagonal().max()
        if not bool(live.any()):
            return 0.0
        step = torch.zeros_like(table)
        # Components may depend on each other, as without nesting and with a rank below k: leave that out.
        size = P.diagonal()[live].sqrt()
        e, U = torch.linalg.eigh(P[live][:, live] / size[:, None] / size)
        U = U[:, e > DEPENDENT * e[-1]] / e[e > DEPENDENT * e[-1]].sqrt()
        solved = (gradient[:, live] / size) @ U @ U.t() / size
        step[:, live] = rate * solved
        table.sub_(step)
        return float(step.abs().max() / table.abs().max())


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
