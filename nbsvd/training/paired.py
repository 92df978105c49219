"""Heads in closed form for a conditional expectation, from pairs: canonical correlations of two bases."""

from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nbsvd.measures import Nodes
from nbsvd.spectrum import Moments
from nbsvd.spectrum.moments import inner_products
from nbsvd.spectrum.pencils import check_finite, with_constant
from nbsvd.training.heads import Heads, Sample, damped_sizes, eigenheads
from nbsvd.training.start import Basis

# Inner products of bases, and not the bases themselves, are what heads are found from: a square root of the
# precision is all that there is. Of pairs no more is known either.
LEAST_RIDGE = 1e-5
FLAT = 1e-12  # share of a function's square below which its variance is rounding


class PairedSample(Sample):
    r"""Two bases on pairs of points, the constant the first function of each.

    The constant mode is known; the others are the singular functions of what is left, the form
    ``E[g f] - E[g] E[f]``. A ridge r adds ``r^2`` times its own square to the square of each function: heads
    that combine many functions, found on few pairs, would fit these pairs and no others.

    Arguments:
        right, left: the bases; the same one for a reversible law.
        x, y: nodes whose points are pairs.
        shift: a number that makes the values of a reversible law positive when added.
        damping: the ridge r.
    """

    def __init__(
        self,
        right: Basis,
        left: Basis,
        x: Nodes,
        y: Nodes,
        *,
        shift: float = 0.0,
        damping: float = LEAST_RIDGE,
        **_: Any,
    ) -> None:
        self.x, self.y, self.damping = x, y, max(damping, LEAST_RIDGE)
        self.symmetric = right is left
        self.shift = shift if self.symmetric else 0.0
        f, g = right(x.x)[:, 1:], left(y.x)[:, 1:]
        self.mean_f, self.mean_g = x.integrate(f), y.integrate(g)
        if self.symmetric:  # one function, whose mean is that over both points
            self.mean_f = self.mean_g = (self.mean_f + self.mean_g) / 2
        self.f, self.g = varying(f, self.mean_f), varying(g, self.mean_g)

    @cached_property
    def moments(self) -> Moments:
        """The inner products of the bases without the constant, centred."""
        with torch.no_grad():
            return inner_products(self.f, self.g, self.x, self.y, twin=self.symmetric)

    def ridged(self, damping: float) -> Heads:
        """Return all heads under another ridge."""
        m = self.moments
        check_finite(m.form)
        W, share = gram_whitener(m.gram_f, damping)
        if self.symmetric:
            found = eigenheads(W.t() @ m.form @ W, W, self.shift * share, self.shift)
        else:
            Wg, _ = gram_whitener(m.gram_g, damping)
            U, s, Vt = torch.linalg.svd(Wg.t() @ m.form @ W, full_matrices=False)
            found = Heads(s, W @ Vt.t(), Wg @ U)
        values = torch.cat([found.values.new_ones(1), found.values])
        right = with_constant(found.right, self.mean_f.detach())
        return Heads(values, right, with_constant(found.left, self.mean_g.detach()))

    def heads(self) -> Heads:
        """Return all heads, the constant before the others."""
        return self.ridged(self.damping)

    def judged(self, heads: Heads) -> Tensor:
        """Return 1 and the correlation of each pair of functions after the constant.

        Nothing is fitted here, so that few pairs do not flatter many functions. Of a data set, the pair where
        a component is largest is left out: functions that are large at a single pair of each part, and nearly
        zero elsewhere, would else seem to be correlated.
        """
        f, g = self.f @ heads.right[1:], self.g @ heads.left[1:]
        wf, wg = self.x.weights[:, None].expand_as(f), self.y.weights[:, None].expand_as(g)
        if self.x.kind == "iid":
            total_f, total_g = (wf * f**2).sum(0), (wg * g**2).sum(0)
            size = wf * f**2 / total_f.clamp_min(1e-300) + wg * g**2 / total_g.clamp_min(1e-300)
            largest = size.topk(2 if self.symmetric else 1, dim=0).indices  # a reversible pair is two rows
            others = torch.ones_like(f).scatter(0, largest, 0.0)
            wf, wg = wf * others, wg * others
        wf, wg = wf / wf.sum(0), wg / wg.sum(0)
        if not self.symmetric:
            f, g = f - (wf * f).sum(0), g - (wg * g).sum(0)
        scale = ((wf * f**2).sum(0) * (wg * g**2).sum(0)).sqrt()
        values = (wf * f * g).sum(0) / torch.where(scale > 0, scale, 1.0)
        values[0] = 1
        return values

    def surrogate(self, heads: Heads, slopes: Tensor) -> Tensor:
        """Return ``sum_l slope_l (Cov(g_l, f_l) - (mu_l / 2) (|f_l|^2 + |g_l|^2))``, with the ridge."""
        C, D, values = heads.right[1:, 1:], heads.left[1:, 1:], heads.values[1:]
        f, g = self.f @ C, self.g @ D
        covariance = self.x.integrate(f * g)
        plain = (self.x.integrate(f**2) + self.y.integrate(g**2)) / 2
        right = damped_sizes(self.f, f, C, self.x, self.damping)
        left = damped_sizes(self.g, g, D, self.y, self.damping)
        damped = (right + left) / 2
        total: Tensor = slopes[1:] @ (covariance + self.shift * plain - (values + self.shift) * damped)
        return total


def varying(h: Float[Tensor, "B H"], mean: Float[Tensor, " H"]) -> Float[Tensor, "B H"]:
    """Return functions less their means, zero where that is rounding.

    Example:
        >>> h = torch.tensor([[0.1, 1.0], [0.1, 3.0]])
        >>> varying(h, h.mean(0) + 1e-9).tolist()
        [[0.0, -1.0], [0.0, 1.0]]
    """
    left = h - mean
    still = left.detach().square().mean(0) <= FLAT * h.detach().square().mean(0)
    return left.masked_fill(still, 0.0)


def gram_whitener(S: Float[Tensor, "H H"], ridge: float) -> tuple[Float[Tensor, "H H"], Float[Tensor, " H"]]:
    r"""Return W with ``W^T (S + ridge^2 diag S) W = I``, and the diagonal of ``W^T S W``.

    Example:
        >>> S = torch.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
        >>> W, share = gram_whitener(S, 1e-3)
        >>> share.round(decimals=3).abs()
        tensor([0., 1.], dtype=torch.float64)
    """
    check_finite(S)
    size = S.diagonal().clamp_min(0).sqrt()
    size = torch.where(size > 0, size, 1.0)
    e, U = torch.linalg.eigh(S / size[:, None] / size)
    damped = e.clamp_min(0) + ridge**2
    W: Tensor = U / damped.sqrt() / size[:, None]
    return W, e.clamp_min(0) / damped
