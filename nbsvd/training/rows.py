"""From functions learned on some rows of a data set to those of all rows."""

import copy
from typing import Any

import torch
from torch import Tensor

from nbsvd.measures import Empirical
from nbsvd.operators import Integral
from nbsvd.operators.feature_kernel import FeatureKernel
from nbsvd.spectrum import Result, pencil, replicate
from nbsvd.spectrum.moments import average
from nbsvd.training.projection import PER_VALUE, WIDTH
from nbsvd.training.start import BASIS_TOLERANCE, Basis

PER_FUNCTION = 5  # rows for each function of the last hidden layer, at least
SPREAD = 8  # replicates of the inner products on all rows, where only some were trained on
PIECE = 8192  # points evaluated at once


def width(rows: int, k: int) -> int:
    """Return how many functions the heads combine: with too many for the rows they swing in between.

    Example:
        >>> width(100, 2), width(1000, 2), width(1000, 30)
        (20, 64, 150)
    """
    return max(k + 4, min(rows // PER_FUNCTION, max(WIDTH, PER_VALUE * k)))


@torch.no_grad()
def on_all_rows(
    result: Result, kernel: FeatureKernel, rows: Tensor, k: int, seed: int, *, center: bool
) -> Result:
    r"""Return the Ritz functions on all rows: best combinations of what was learned, values on other pairs.

    For functions whose mean over the rows is zero the centred kernel has the form of the kernel itself, so
    that centring is exact, and costs no look at the kernel.

    Arguments:
        result: functions learned from some of the rows, or from batches of them.
        kernel: the kernel, not centred.
        rows: all rows, ``(N, d)``.
        k: number of components.
        seed: which pairs of rows are looked at, where they are too many.
        center: whether the mean feature is subtracted.
    """
    model: Any = copy.deepcopy(result.right_model)
    projected = result.info["method"] == "varpro"
    basis = Basis(model) if projected else model
    means = torch.zeros(1, dtype=torch.float64)
    if center:
        means = torch.cat([basis(piece) for piece in rows.split(PIECE)]).mean(0)

    def functions(x: Tensor) -> Tensor:
        h: Tensor = basis(x) - means
        return h[:, :-1] if projected and center else h  # the constant is the last

    law = Empirical(rows)
    T = Integral(kernel, law, self_adjoint=True)
    generator = torch.Generator().manual_seed(seed)
    parts = replicate(T, functions, functions, law, law, generator=generator, replicates=SPREAD)
    fit, test = (parts, parts) if len(parts) == 1 else (parts[::2], parts[1::2])
    C = pencil(average(fit), k, tolerance=BASIS_TOLERANCE)[1]
    if projected:
        test = [part.mixed(C, C) for part in test]
        model.start_from(torch.cat([C, -(means[:-1] @ C)[None]]) if center else C)
    elif center:
        model.head.bias -= means.reshape(model.head.bias.shape)
    kernel.forget()
    return Result.from_models(
        model,
        model,
        test,
        mix=None if projected else C,
        operator=T,
        measure_x=law,
        measure_y=law,
        history=result.history,
        info=result.info,
        control=result.control,
    )
