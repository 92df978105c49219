"""Gram matrices and forms of learned functions on independent nodes, and the pencils made of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float
from torch import Tensor

from nbsvd._errors import require
from nbsvd.measures import Counting, Empirical, Kind, Measure, Nodes
from nbsvd.operators import Operator

Function = Callable[[Tensor], Tensor]
REPLICATES = 8
# Of one replicate, for a local operator in the plane or space and on a line.
LOCAL_NODES, LINE_NODES = 8192, 2048
KERNEL_NODES = 2048  # a kernel's matrix is their square
CHUNK = 4096
RANK_TOLERANCE = 1e-12
ASYMMETRY = 1e-12  # what is below this share of the largest is rounding


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
    """Cut nodes into pieces, each with its share of the total."""
    for start in range(0, len(nodes), CHUNK):
        piece = Nodes(nodes.x[start : start + CHUNK], nodes.weights[start : start + CHUNK], nodes.kind)
        yield len(piece) / len(nodes), piece


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
) -> list[Moments]:
    """Return moments on several independent sets of nodes.

    Their mean is the estimate and their spread its error. Where the nodes are all there are (indices of a
    matrix, rows of a data set) one set is enough and the error is zero.
    """
    n = node_count(operator, measure_x) if n is None else n
    finite = isinstance(measure_x, (Counting, Empirical)) and isinstance(measure_y, (Counting, Empirical))
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


def _whitener(S: Tensor, tolerance: float, least: int) -> Tensor:
    """Return W with ``W^T S W = I`` on the independent part of the span, of dimension ``least`` if it can."""
    check_finite(S)
    d = torch.sqrt(S.diagonal())
    d = torch.where(d > 0, d, 1.0)
    e, U = torch.linalg.eigh(S / d[:, None] / d)
    tolerance = max(
        RANK_TOLERANCE, min(tolerance, 0.99 * float(e[-least] / e[-1]) if least <= len(e) else 0.0)
    )
    keep = e > tolerance * e[-1]
    whitener: Tensor = U[:, keep] / torch.sqrt(e[keep]) / d[:, None]
    return whitener


def pencil(moments: Moments, k: int, *, tolerance: float = RANK_TOLERANCE) -> tuple[Tensor, Tensor]:
    """Return the k largest Ritz values of ``A C = S C diag(mu)`` and the vectors C, orthonormal in S.

    Raises:
        ArgumentError: fewer than k linearly independent functions; moments that are not finite.
    """
    check_finite(moments.form)
    W = _whitener(moments.gram_f, tolerance, k)
    _enough(W, k)
    mu, V = leading(W.t() @ moments.form @ W, k)
    return mu, W @ V


def leading(A: Float[Tensor, "r r"], k: int) -> tuple[Float[Tensor, " k"], Float[Tensor, "r k"]]:
    """Return the k largest values, and orthonormal vectors, of the form of orthonormal functions.

    A form that is not symmetric is the strong one on sampled nodes: the coefficients of the projection of
    ``T f`` onto the functions. Its leading invariant subspace is free of the noise of the functions outside,
    which a symmetrised form would mix in; only inside the subspace is the form symmetrised.

    Source: Nightingale and Melik-Alaverdian, Phys. Rev. Lett. 87 (2001) 043401, on the same asymmetry in
    variational Monte Carlo.

    Example:
        >>> A = torch.tensor([[1.0, 0.0], [0.5, 3.0]], dtype=torch.float64)
        >>> leading(A, 1)[0]
        tensor([3.], dtype=torch.float64)
    """
    r = len(A)
    if k < r and float((A - A.t()).abs().max()) > ASYMMETRY * float(A.abs().max()):
        real = torch.linalg.eigvals(A).real.sort(descending=True).values
        gaps = real[k - 1 : -1] - real[k:]
        wide = gaps > ASYMMETRY * real.abs().max()
        m = k + int(wide.long().argmax())  # both of a complex pair, or neither
        middle = float((real[m - 1] + real[m]) / 2)
        shifted = A.cpu().numpy() - middle * np.eye(r)
        Z = scipy.linalg.schur(shifted, sort="rhp", check_finite=False)[1]
        Q = torch.from_numpy(np.ascontiguousarray(Z[:, :m])).to(A)
    else:
        Q = torch.eye(r, dtype=A.dtype, device=A.device)
    B = Q.t() @ A @ Q
    mu, V = torch.linalg.eigh((B + B.t()) / 2)
    return mu.flip(0)[:k], (Q @ V).flip(1)[:, :k]


def singular_pencil(
    moments: Moments, k: int, *, tolerance: float = RANK_TOLERANCE
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the k largest singular values of the whitened form, and the vectors (right, left).

    Raises:
        ArgumentError: fewer than k linearly independent functions on one side.
    """
    check_finite(moments.form)
    Wf, Wg = _whitener(moments.gram_f, tolerance, k), _whitener(moments.gram_g, tolerance, k)
    _enough(Wf, k)
    _enough(Wg, k)
    U, s, Vt = torch.linalg.svd(Wg.t() @ moments.form @ Wf)
    return s[:k], Wf @ Vt[:k].t(), Wg @ U[:, :k]


def check_finite(*matrices: Tensor) -> None:
    """Refuse inner products that are NaN or infinite, and say what usually causes them."""
    require(
        all(bool(torch.isfinite(M).all()) for M in matrices),
        "operator",
        got="NaN or infinite inner products",
        expected="functions and a potential or kernel that are finite and square integrable on the measure",
        remedy="Keep the domain where the potential is finite, as in Lebesgue(Uniform(low, high)), and let "
        "functions decay with an ansatz such as DecayFactor, GaussianFactor or BoxFactor.",
    )


def _enough(W: Tensor, k: int) -> None:
    require(
        W.shape[1] >= k,
        "k",
        got=f"{k} with {W.shape[1]} linearly independent functions",
        expected=f"at most {W.shape[1]}",
        remedy="Use a wider network, or train longer until the components differ.",
    )
