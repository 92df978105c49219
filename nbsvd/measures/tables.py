"""Rows of data and their weights: checked, and drawn at random."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nbsvd._errors import ArgumentError, require


def drawn(n: int, rows: int, weights: Tensor | None, generator: torch.Generator) -> Tensor:
    """Draw n row numbers with replacement, in proportion to weights."""
    if weights is None:
        return torch.randint(rows, (n,), generator=generator, device=generator.device).cpu()
    u = torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device).cpu()
    total = weights.double().cumsum(0)
    return torch.searchsorted(total, u * total[-1], right=True).clamp_max(rows - 1)


def as_rows(name: str, data: Any) -> Tensor:
    """Return points as a floating tensor ``(N, d)``, or say what is wrong with them."""
    expected = "points in rows, shape (N, d) with N, d >= 1"
    try:
        rows = data.detach() if isinstance(data, Tensor) else torch.as_tensor(np.array(data))
    except (TypeError, ValueError) as error:
        raise ArgumentError(name, got=f"{type(data).__name__}: {error}", expected=expected) from error
    require(
        rows.ndim == 2 and min(rows.shape) >= 1,
        name,
        got=f"shape {tuple(rows.shape)}",
        expected=expected,
        remedy="A single coordinate is x[:, None]." if rows.ndim == 1 and len(rows) else "",
    )
    require(not rows.is_complex(), name, got=f"dtype {rows.dtype}", expected="real numbers")
    rows = rows if rows.is_floating_point() else rows.double()
    bad = (~torch.isfinite(rows)).any(1).nonzero()
    first = int(bad[0]) if len(bad) else 0
    require(
        len(bad) == 0,
        name,
        got=f"NaN or infinite entries in {len(bad)} rows, the first of them row {first}",
        expected="finite numbers",
        remedy="Leave these rows out, on both sides.",
    )
    return rows


def as_weights(weights: Any, rows: int) -> Tensor:
    """Return positive weights ``(N,)``, or say what is wrong with them."""
    try:
        w = torch.as_tensor(weights, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(
            "weights", got=f"{type(weights).__name__}: {error}", expected=f"{rows} positive numbers"
        ) from error
    fine = w.shape == (rows,) and bool(((w > 0) & (w < math.inf)).all())
    require(
        fine,
        "weights",
        got=f"shape {tuple(w.shape)}, or entries that are not positive",
        expected=f"{rows} positive numbers, one for each pair",
        remedy="Leave out pairs without weight.",
    )
    return w
