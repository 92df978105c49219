"""Gram matrices and forms of learned functions on independent nodes, and the pencils made of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nbsvd.measures import Counting, Empirical, Kind, Measure, Nodes, PairLaw
from nbsvd.operators import Operator

Function = Callable[[Tensor], Tensor]
REPLICATES = 8
# Of one replicate, for a local operator in the plane or space and on a line.
LOCAL_NODES, LINE_NODES = 8192, 2048
KERNEL_NODES = 2048  # a kernel's matrix is their square
PAIR_NODES = 2**15
CHUNK = 4096
# Of a data set with more rows than that: entries of its kernel that all replicates may look at together, and
# rows of the small blocks that show what a row has to do with itself.
ENTRIES, SELF = 2**25, 32


@dataclass(frozen=True)
class Moments:
    """Inner products of right functions f and left functions g on one set of nodes, ``(L, L)`` each.

    Arguments:
        gram_f: ``<f_i|f_j>``.
        gram_g: ``<g_i|g_j>``; the same tensor for an eigenproblem.
        form: ``<g_i|T f_j>``; of a local operator on sampled nodes not symmetric.
    """

    gram_f: Tensor
    gram_g: Tensor
    form: Tensor

    def mixed(self, right: Tensor, left: Tensor) -> "Moments":
        """Return the moments of the combinations ``f @ right`` and ``g @ left``."""
        return Moments(
            right.t() @ self.gram_f @ right, left.t() @ self.gram_g @ left, left.t() @ self.form @ right
        )

    def times(self, c: float) -> "Moments":
        """Return all inner products times a number."""
        return Moments(c * self.gram_f, c * self.gram_g, c * self.form)

    def quotients(self) -> Float[Tensor, " L"]:
        """Return ``<g_l|T f_l> / (|f_l| |g_l|)``, the Rayleigh quotient for g = f; 0 for a zero function."""
        sizes = torch.sqrt(self.gram_f.diagonal() * self.gram_g.diagonal())
        return self.form.diagonal() / torch.where(sizes > 0, sizes, 1.0)


def average(parts: Sequence[Moments]) -> Moments:
    """Return the mean of several moments."""
    return Moments(
        *(torch.stack([getattr(p, name) for p in parts]).mean(0) for name in ("gram_f", "gram_g", "form"))
    )


def chunks(nodes: Nodes) -> Iterator[tuple[float, Nodes]]:
    """Cut nodes into pieces, each with its share of the total; indices stay together.

    A matrix gives its product with a vector as a whole.
    """
    size = CHUNK if nodes.x.is_floating_point() else len(nodes)
    for start in range(0, len(nodes), size):
        piece = Nodes(nodes.x[start : start + size], nodes.weights[start : start + size], nodes.kind)
        yield len(piece) / len(nodes), piece


@torch.no_grad()
def paired_moments(right: Function, left: Function, x: Nodes, y: Nodes) -> Moments:
    """Return the moments of functions under a conditional expectation: plain means over pairs."""
    pieces = [
        (share, inner_products(right(at_x.x), left(at_y.x), at_x, at_y, twin=left is right))
        for (share, at_x), (_, at_y) in zip(chunks(x), chunks(y), strict=True)
    ]
    names = ("gram_f", "gram_g", "form")
    return Moments(*(sum(share * getattr(m, name) for share, m in pieces) for name in names))


def inner_products(f: Tensor, g: Tensor, x: Nodes, y: Nodes, *, twin: bool) -> Moments:
    """Return the moments of values f and g at pairs; those of a reversible law where g is f at y."""
    wg = y.weights[:, None] * g / len(g)
    gram_f, gram_g, form = (x.weights[:, None] * f / len(f)).t() @ f, wg.t() @ g, wg.t() @ f
    if twin:
        gram_f = gram_g = (gram_f + gram_g) / 2
        form = (form + form.t()) / 2
    return Moments(gram_f, gram_g, form)


def applied(operator: Operator, function: Function, f: Tensor, nodes: Nodes, y: Tensor) -> Tensor:
    """Return ``(T f)(y)`` for a function whose values f at the nodes are known, ``(B', L)``."""
    return operator.apply(lambda x: f if x is nodes.x else function(x), y, nodes)


@torch.no_grad()
def measure_moments(
    operator: Operator,
    right: Function,
    left: Function,
    nodes_x: Nodes,
    nodes_y: Nodes,
) -> Moments:
    """Return the moments of ``right`` and ``left`` under an operator, with bounded memory.

    A local operator sees one set of nodes. For a nonlocal one the two sets must be independent, or each a
    rule: the terms in which both points of the kernel are the same would otherwise raise every value.
    """
    same = operator.self_adjoint and left is right
    if same and not operator.local and nodes_x.kind == "quadrature" and len(nodes_x) <= CHUNK:
        S, A = operator.moments(right, nodes_x)  # a rule may serve both sides
        return Moments(S, S, (A + A.t()) / 2)
    if same and operator.local:
        pieces = [(share, *operator.moments(right, piece)) for share, piece in chunks(nodes_x)]
        S = torch.stack([share * s for share, s, _ in pieces]).sum(0)
        A = torch.stack([share * a for share, _, a in pieces]).sum(0)
        return Moments(S, S, (A + A.t()) / 2 if nodes_x.kind == "quadrature" else A)
    f = right(nodes_x.x)
    gram_f = (nodes_x.weights[:, None] * f).t() @ f / len(nodes_x)
    grams, forms = [], []
    for share, piece in chunks(nodes_y):
        g = left(piece.x)
        wg = share * piece.weights[:, None] * g / len(piece)
        grams.append(wg.t() @ g)
        forms.append(wg.t() @ applied(operator, right, f, nodes_x, piece.x))
    gram_g, form = torch.stack(grams).sum(0), torch.stack(forms).sum(0)
    if same:
        gram_f = gram_g = (gram_f + gram_g) / 2
        form = (form + form.t()) / 2
    return Moments(gram_f, gram_g, form)


@torch.no_grad()
def row_moments(
    operator: Operator,
    right: Function,
    left: Function,
    nodes: Nodes,
    law: Empirical,
    size: int,
    generator: torch.Generator,
) -> Moments:
    r"""Return the moments of functions on a data set with many rows: their form from some pairs of rows.

    Gram matrices are those of all N rows. Of the form

    .. math:: \frac1{N^2} \sum_{m, n} g(x_m) \, k(x_n, x_m) \, f(x_n)

    the pairs m = n are a share 1/N; they come from blocks of ``SELF`` rows. The others have the mean of those
    pairs that meet in :meth:`~nbsvd.measures.Empirical.blocks`.

    Arguments:
        nodes: all rows, with their weights.
        law: the same as a law.
        size: rows of a block.
        generator: draws the blocks.
    """
    f = torch.cat([right(piece.x) for _, piece in chunks(nodes)])
    g = f if left is right else torch.cat([left(piece.x) for _, piece in chunks(nodes)])
    wf, wg = nodes.weights[:, None] * f, nodes.weights[:, None] * g
    N = len(nodes)

    def between(rows: Tensor, others: Tensor) -> Tensor:
        at = Nodes(nodes.x[others], nodes.weights[others], "iid")
        Tf = operator.apply(lambda _: f[others], nodes.x[rows], at)
        return wg[rows].t() @ Tf / N  # a mean over the rows of all blocks

    apart, within, share = torch.zeros_like(f[:1].t() @ f[:1]), torch.zeros_like(f[:1].t() @ f[:1]), 0.0
    for rows, others in law.blocks(size, generator):
        apart += between(rows, others)
        for few in rows.tensor_split(max(1, len(rows) // SELF)):
            within += between(few, few)
            share += len(few) ** 2 / N
    form = (share / N) * within + (1 - share / N) * apart
    if operator.self_adjoint and left is right:
        form = (form + form.t()) / 2
    return Moments(wf.t() @ f / N, wg.t() @ g / N, form)


def node_count(operator: Operator, measure: Measure) -> int:
    """Return how many nodes one replicate uses."""
    if operator.local:
        return LOCAL_NODES if measure.dim > 1 else LINE_NODES
    return KERNEL_NODES


def replicate(
    operator: Operator,
    right: Function,
    left: Function,
    measure_x: Measure,
    measure_y: Measure,
    *,
    generator: torch.Generator,
    replicates: int = REPLICATES,
    n: int | None = None,
    kind: Kind | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
    pairs: PairLaw | None = None,
) -> list[Moments]:
    """Return moments on several independent sets of nodes.

    Their mean is the estimate and their spread its error. Where the nodes are all there are (indices of a
    matrix, rows of a data set) one set is enough and the error is zero; of a kernel on very many rows, only
    some pairs of rows are looked at, see :func:`row_moments`. A data set of pairs is a sample: it is cut in
    blocks.

    Arguments:
        pairs: of a conditional expectation, the pairs to measure on; its own unless given.
    """
    if (law := pairs or operator.pairs) is not None:
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        blocks = law.blocks(replicates)
        placed = (
            [
                law.nodes(PAIR_NODES, kind=kind or law.evaluation_kind, generator=generator, **where)
                for _ in range(replicates)
            ]
            if blocks is None
            else [block.nodes(1, kind="quadrature", **where) for block in blocks]
        )
        found = [paired_moments(right, left, x, y) for x, y in placed]
        if blocks is None:
            return found
        sizes = [block.size for block in blocks]  # a block counts as much as it weighs
        return [m.times(size * len(sizes) / sum(sizes)) for m, size in zip(found, sizes, strict=True)]
    n = node_count(operator, measure_x) if n is None else n
    finite = all(isinstance(m, (Counting, Empirical)) for m in (measure_x, measure_y))
    crowded = any(isinstance(m, Empirical) and m.evaluation_kind == "iid" for m in (measure_x, measure_y))
    if crowded and operator.local and finite:
        kind = kind or "quadrature"  # whose cost is that of the rows alone
    elif crowded and isinstance(measure_x, Empirical) and measure_x.same_as(measure_y):
        rows = measure_x.nodes(1, kind="quadrature", dtype=dtype, device=device)
        size = max(SELF, min(n, ENTRIES // (len(rows) * replicates)))
        return [
            row_moments(operator, right, left, rows, measure_x, size, generator) for _ in range(replicates)
        ]
    elif crowded:
        finite = False
    parts = []
    for _ in range(1 if finite else replicates):
        nodes_x, nodes_y = (
            m.nodes(n, kind=kind or m.evaluation_kind, generator=generator, dtype=dtype, device=device)
            for m in (measure_x, measure_y)
        )
        parts.append(measure_moments(operator, right, left, nodes_x, nodes_y))
    return parts


def standard_error(parts: Sequence[Moments]) -> Float[Tensor, " L"]:
    """Return the standard error of the mean quotient over replicates, zero for one exact set.

    Sampled replicates are independent, and the error of their mean has this size: ``value +- 2.36 error``
    covers what infinitely many nodes would give in 95 of 100 runs (Student's t with 7 degrees of freedom for
    8 replicates). The randomly turned and stretched copies of a rule share a part of their error; for them
    the number tells its size, but no rate.

    Example:
        >>> one = torch.ones(1, 1)
        >>> parts = [Moments(one, one, c * one) for c in (0.9, 1.1)]
        >>> standard_error(parts)
        tensor([0.1000])
    """
    q = torch.stack([p.quotients() for p in parts])
    return torch.zeros_like(q[0]) if len(parts) == 1 else q.std(0) / len(parts) ** 0.5
