"""Matrices with singular values of our choice."""

import torch

f64 = torch.float64


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=f64)


def with_values(values, m, n, seed=0):
    """An (m, n) matrix with these singular values."""
    U, V = (torch.linalg.qr(randn(size, len(values), seed=seed + size)).Q for size in (m, n))
    return U * torch.tensor(values, dtype=f64) @ V.T
