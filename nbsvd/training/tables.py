r"""Matrices: functions that are tables, and sums that are exact.

Here the objective is a polynomial in the entries. In one side, with the other held fixed, its curvature is the same
small matrix for every row, ``P = 2 (M o G^T G)`` (o the entrywise product). Dividing the gradient by it turns plain
descent into a method that does not see the condition number of the matrix, only its gaps.
"""

import time

import torch
from torch import Tensor

from nbsvd.functions import Table
from nbsvd.objectives import Nesting, lora_evd, lora_svd
from nbsvd.operators import Operator
from nbsvd.spectrum import History

PATIENCE = 20


def minimise_tables(
    operator: Operator,
    right: Table,
    left: Table,
    nesting: Nesting,
    *,
    steps: int,
    seconds: float | None = None,
    tolerance: float = 1e-13,
    report_every: int = 10,
) -> History:
    """Minimise the nested objective of a matrix over tables, by preconditioned descent on exact sums.

    Stops when no entry has moved by more than ``tolerance`` of the largest for some steps in a row. Ctrl-C returns
    what there is.

    Arguments:
        operator: a :class:`~nbsvd.Matrix`, or a shifted or scaled one.
        right, left: tables of the two sides; the same table for an eigenproblem. Changed in place.
        nesting: how the components are nested.
        steps: at most so many steps.
        seconds: at most so many seconds.
        tolerance: relative size of a step that counts as none.
        report_every: steps between two entries of the history.
    """
    assert operator.measure_x is not None and operator.measure_y is not None
    began, history, still = time.perf_counter(), History(), 0
    x, y = operator.measure_x.nodes(1, kind="quadrature"), operator.measure_y.nodes(1, kind="quadrature")
    x, y = x.to(dtype=right.entries.dtype), y.to(dtype=right.entries.dtype)
    same = left is right
    history.stopped = "steps"
    try:
        for step in range(1, steps + 1):
            if same:
                f, Tf = operator.evaluate(right, x)
                loss = lora_evd(f, Tf, nesting, weights=x.weights, moment="plain")
                # curvature 4 M o F^T F, halved again: the norm then follows Newton's square root of the value
                move = _descend(right.entries, f, loss, nesting, rate=0.25)
            else:
                loss, move = torch.zeros(()), 0.0
                for side in (0, 1):  # alternate: the curvature of one side holds with the other fixed
                    f, g = right(x.x), left(y.x)
                    Tf = operator.transform(y.x, x, f)
                    loss = lora_svd(f, g, Tf, nesting, weights=(x.weights, y.weights))
                    table, other = ((right, g), (left, f))[side]
                    move = max(move, _descend(table.entries, other, loss, nesting, rate=1.0))
            if step % report_every == 0 or step == steps:
                history.step.append(step)
                history.seconds.append(time.perf_counter() - began)
                history.loss.append(loss.item())
            still = still + 1 if move <= tolerance else 0
            if still >= PATIENCE:
                history.stopped = "converged"
                break
            if seconds is not None and time.perf_counter() - began > seconds:
                history.stopped = "seconds"
                break
    except KeyboardInterrupt:
        history.stopped = "interrupted"
    return history


def _descend(table: torch.nn.Parameter, partner: Tensor, loss: Tensor, nesting: Nesting, *, rate: float) -> float:
    """Take one step against the gradient divided by the curvature; return its largest entry over the table's."""
    (gradient,) = torch.autograd.grad(loss, table)
    with torch.no_grad():
        P = 2 * nesting.masks(partner).matrix * (partner.t() @ partner)
        ridge = 1e-14 * P.diagonal().max() * torch.eye(len(P), dtype=P.dtype)
        step = rate * torch.linalg.solve(P + ridge, gradient, left=False)
        table -= step
        return float(step.abs().max() / table.abs().max())


@torch.no_grad()
def least_value(operator: Operator, largest: float, *, generator: torch.Generator, steps: int = 50) -> float:
    """Return a rough smallest eigenvalue of a symmetric matrix, by power iteration on ``T - largest``."""
    assert operator.measure_x is not None
    x = operator.measure_x.nodes(1, kind="quadrature")
    v = torch.randn(len(x), 1, generator=generator, dtype=torch.float64)
    value = 0.0
    for _ in range(steps):
        v = v / v.norm()
        image = operator.evaluate(lambda _, v=v: v, x)[1]
        value = float((v * image).sum())
        v = image - largest * v
    return value


def safe_shift(operator: Operator, values: Tensor, shift: float, *, generator: torch.Generator) -> float:
    """Return a shift, at least ``shift``, with which the preconditioned descent is stable.

    A direction of value mu shrinks by ``(1 + mu/lambda_k)/2`` a step, so mu must stay above ``-3 lambda_k``; the bound
    used here leaves a margin.
    """
    least = least_value(operator, float(values[0]), generator=generator)
    return max(shift, (-least - 2 * float(values[-1])) / 3)
