"""Heads in closed form for a conditional expectation, from pairs: canonical correlations of two bases."""

from functools import cached_property
from itertools import pairwise
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
STEP = 1e-3  # of a slope's difference quotient, in lengths of the measure
PARTS, LEAST_PART = 8, 10  # stretches of a sample, and pairs of each at least
STEEP = 2048  # points at which slopes are taken: their mean squares need not be exact


class PairedSample(Sample):
    r"""Two bases on pairs of points, the constant the first function of each.

    The constant mode is known; the others are the singular functions of what is left, the form
    ``E[g f] - E[g] E[f]``. A ridge r adds ``r^2`` times its own square to the square of each function: heads
    that combine many functions, found on few pairs, would fit these pairs and no others. A roughness R adds
    ``R |grad f|^2``, the gradient in units of the measure's length: it holds back functions that vary faster
    than the data tell, and no others. One random direction at each of some points estimates it.

    Arguments:
        right, left: the bases; the same one for a reversible law.
        x, y: nodes whose points are pairs.
        shift: a number that makes the values of a reversible law positive when added.
        damping: the ridge r.
        rough: the roughness R.
        lengths: of the measures of both sides.
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
        rough: float = 0.0,
        lengths: tuple[float, float] = (1.0, 1.0),
        **_: Any,
    ) -> None:
        self.x, self.y, self.damping, self.rough = x, y, max(damping, LEAST_RIDGE), rough
        self.right, self.left, self.lengths = right, left, lengths
        self.symmetric = right is left
        self.shift = shift if self.symmetric else 0.0
        f, g = right(x.x)[:, 1:], left(y.x)[:, 1:]
        self.mean_f, self.mean_g = x.integrate(f), y.integrate(g)
        if self.symmetric:  # one function, whose mean is that over both points
            self.mean_f = self.mean_g = (self.mean_f + self.mean_g) / 2
        self.f, self.g = varying(f, self.mean_f), varying(g, self.mean_g)
        if rough > 0:
            self.slopes  # noqa: B018  # now, with the graph of the basis

    @cached_property
    def slopes(self) -> tuple[Tensor, Tensor]:
        """The bases' slopes along one random direction at each of some points."""
        right = slopes(self.right, self.x.x, self.lengths[0])
        return right, right if self.symmetric else slopes(self.left, self.y.x, self.lengths[1])

    @cached_property
    def steepness(self) -> tuple[Tensor, Tensor]:
        """Mean products of the slopes."""
        with torch.no_grad():
            right, left = (d.t() @ d / len(d) for d in self.slopes)
        return right, left

    @cached_property
    def moments(self) -> Moments:
        """The inner products of the bases without the constant, centred."""
        with torch.no_grad():
            return inner_products(self.f, self.g, self.x, self.y, twin=self.symmetric)

    def ridged(self, damping: float) -> Heads:
        """Return all heads under another ridge."""
        return self.solved(self.moments, (self.mean_f.detach(), self.mean_g.detach()), damping, self.rough)

    def solved(self, m: Moments, means: tuple[Tensor, Tensor], damping: float, rough: float) -> Heads:
        """Return all heads that centred moments give, under a ridge and a roughness."""
        check_finite(m.form)
        steep_f, steep_g = (rough * P for P in self.steepness) if rough > 0 else (None, None)
        W = gram_whitener(m.gram_f, damping, steep_f)
        if self.symmetric:
            form = m.form + self.shift * m.gram_f  # the shift acts without ridge and roughness
            found = eigenheads(W.t() @ form @ W, W, shift=self.shift)
        else:
            Wg = gram_whitener(m.gram_g, damping, steep_g)
            U, s, Vt = torch.linalg.svd(Wg.t() @ m.form @ W, full_matrices=False)
            found = Heads(s, W @ Vt.t(), Wg @ U)
        values = torch.cat([found.values.new_ones(1), found.values])
        return Heads(values, with_constant(found.right, means[0]), with_constant(found.left, means[1]))

    def heads(self) -> Heads:
        """Return all heads, the constant before the others."""
        return self.ridged(self.damping)

    def judged(self, heads: Heads) -> Tensor:
        """Return 1 and the correlation of each pair of functions after the constant.

        Nothing is fitted here, so that few pairs do not flatter many functions. Of a data set, the pair where
        a component is largest is left out: functions that are large at a single pair of each part, and nearly
        zero elsewhere, would else seem to be correlated.
        """
        return self._judged(heads, slice(None))

    def judged_parts(self, heads: Heads) -> list[Tensor]:
        """Return the same on stretches of the pairs, where there are enough."""
        count = min(PARTS, len(self.f) // LEAST_PART)
        edges = edges_of(len(self.f), count) if count > 1 else []
        return [self._judged(heads, slice(start, end)) for start, end in pairwise(edges)]

    def _judged(self, heads: Heads, rows: slice) -> Tensor:
        f, g = self.f[rows] @ heads.right[1:], self.g[rows] @ heads.left[1:]
        wf, wg = (n.weights[rows, None].expand_as(f) for n in (self.x, self.y))
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
        if self.rough > 0:
            steep = [((d @ H) ** 2).mean(0) for d, H in zip(self.slopes, (C, D), strict=True)]
            damped = damped + self.rough * (steep[0] + steep[1]) / 2
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


def gram_whitener(
    S: Float[Tensor, "H H"], ridge: float, extra: Float[Tensor, "H H"] | None = None
) -> Float[Tensor, "H H"]:
    r"""Return W with ``W^T (S + extra + ridge^2 diag S) W = I``.

    Example:
        >>> S = torch.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
        >>> W = gram_whitener(S, 1e-3)
        >>> (W.t() @ S @ W).diagonal().round(decimals=3).abs()
        tensor([0., 1.], dtype=torch.float64)
    """
    check_finite(S)
    size = S.diagonal().clamp_min(0).sqrt()
    size = torch.where(size > 0, size, 1.0)
    e, U = torch.linalg.eigh((S if extra is None else S + extra) / size[:, None] / size)
    damped = e.clamp_min(0) + ridge**2
    W: Tensor = U / damped.sqrt() / size[:, None]
    return W


def slopes(basis: Basis, points: Float[Tensor, "B d"], length: float) -> Float[Tensor, "n H"]:
    """Return a basis' slopes, but its constant's, along random directions, normal of size ``length``."""
    some = points[:: max(1, len(points) // STEEP) | 1]  # an odd step meets both orders of a pair
    generator = torch.Generator().manual_seed(0)  # the same ones in every evaluation of a round
    v = length * torch.randn(some.shape, generator=generator, dtype=torch.float64).to(some)
    found: Tensor = (basis(some + STEP * v) - basis(some - STEP * v))[:, 1:] / (2 * STEP)
    return found


def correlations(m: Moments, heads: Heads) -> Tensor:
    """Return 1 and the correlation of each pair of functions after the constant, from centred moments."""
    C, D = heads.right[1:], heads.left[1:]
    covariance = (D * (m.form @ C)).sum(0)
    sizes = [(C * (m.gram_f @ C)).sum(0), (D * (m.gram_g @ D)).sum(0)]
    scale = torch.stack(sizes).clamp_min(0).prod(0).sqrt()
    values = covariance / torch.where(scale > 0, scale, 1.0)
    values[0] = 1
    return values


def edges_of(rows: int, count: int) -> list[int]:
    """Return where to cut rows in stretches, always between two pairs in both orders.

    Example:
        >>> edges_of(10, 4)
        [0, 2, 4, 8, 10]
    """
    return [2 * round(i * rows / (2 * count)) for i in range(count)] + [rows]


Sums = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@torch.no_grad()
def sums_of_blocks(sample: PairedSample, count: int = PARTS) -> list[Sums]:
    """Return weighted sums over contiguous blocks: products of f, of g, of both, f, g, the weights."""
    found, cuts = [], edges_of(len(sample.f), count)[1:-1]
    for f, g, w in zip(*(t.tensor_split(cuts) for t in (sample.f, sample.g, sample.x.weights)), strict=True):
        wf, wg = w[:, None] * f, w[:, None] * g
        found.append((wf.t() @ f, wg.t() @ g, wg.t() @ f, wf.sum(0), wg.sum(0), w.sum()))
    return found


def centred_sums(sums: Sums, twin: bool) -> tuple[Moments, tuple[Tensor, Tensor]]:
    """Return the centred moments that sums give, and the means that were subtracted."""
    gram_f, gram_g, form, f, g = (t / sums[5] for t in sums[:5])
    if twin:
        gram_f = gram_g = (gram_f + gram_g) / 2
        form, f = (form + form.t()) / 2, (f + g) / 2
        g = f
    moments = Moments(gram_f - torch.outer(f, f), gram_g - torch.outer(g, g), form - torch.outer(g, f))
    return moments, (f, g)


@torch.no_grad()
def best_roughness(sample: PairedSample, vector: Tensor, tried: tuple[float, ...]) -> float:
    """Return the roughness whose heads, found on all blocks but one, reach most on that one, in the mean.

    Arguments:
        sample: all pairs that may be learned from.
        vector: the nesting's weights of the values, ``(k,)``.
        tried: the numbers to choose from.
    """
    blocks = sums_of_blocks(sample)
    total = [torch.stack(part).sum(0) for part in zip(*blocks, strict=True)]
    means = (sample.mean_f.detach(), sample.mean_g.detach())

    def reached(rough: float) -> float:
        found = 0.0
        for block in blocks:
            rest = tuple(t - part for t, part in zip(total, block, strict=True))
            m, offset = centred_sums(rest, sample.symmetric)  # type: ignore[arg-type]
            near = (means[0] + offset[0], means[1] + offset[1])
            heads = sample.solved(m, near, sample.damping, rough).first(len(vector))
            values = correlations(centred_sums(block, sample.symmetric)[0], heads).clamp_min(0)
            found += float(vector.to(values) @ values**2)
        return found

    return max(tried, key=reached)
