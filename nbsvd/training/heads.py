r"""The head in closed form: the best combinations of a basis, and what is left of the objective.

Let h be the basis, ``S = <h|h>`` and ``A = <h|T h>``. Over all heads C the objective of ``f = h C`` has a
least value that depends on the Ritz values mu of the pencil (A, S) alone. Its derivative in the basis needs
no derivative of the head (the envelope theorem): with C held at the best heads, orthonormal in S,

.. math:: d\mu_l = c_l^T (dA - \mu_l \, dS) \, c_l .

For an SVD ``A = <h_g|T h_f>``, mu are the singular values of the form of orthonormal functions, and S stands
for the mean of both Gram matrices.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nbsvd.functions import Jet
from nbsvd.measures import Nodes
from nbsvd.operators import Operator
from nbsvd.spectrum.pencils import check_finite, leading
from nbsvd.training.anchor import Anchor
from nbsvd.training.start import Basis

# Directions of the basis smaller than this share of the largest are left out. They come from the values of
# the basis themselves, not from its Gram matrix, in which they would be squared and lost to rounding.
TOLERANCE = 1e-10
# In training no direction is left out: a cut that moves with the basis is a step that no derivative sees, and
# a line search then finds neither the slope nor the values that it was promised. Instead the square of each
# function counts 1 + damping^2 times, as if it had that much of its own that no other function has. Heads
# stay below 1/damping, so that their gradient is not lost to rounding; the check damps nothing. Measured on
# oscillator, hydrogen and well: below 1e-8 line searches fail long before the end, above 1e-7 the oscillator
# loses a digit; on the Gaussian kernel with values down to 1e-4 of the first it takes 1e-6.
DAMPING, LARGEST_DAMPING = 2e-8, 1e-5


def orthonormaliser(h: Float[Tensor, "B H"], weights: Tensor) -> Float[Tensor, "H r"]:
    """Return W such that the functions ``h W`` are orthonormal on the nodes, r of them independent ones.

    Example:
        >>> h = torch.tensor([[1.0, 1.0], [0.0, 2.0]], dtype=torch.float64)
        >>> f = h @ orthonormaliser(h, torch.ones(2, dtype=torch.float64))
        >>> torch.allclose(f.t() @ f / 2, torch.eye(2, dtype=torch.float64))
        True
    """
    check_finite(h)
    rows = torch.sqrt(weights / len(weights))[:, None] * h
    size = torch.linalg.vector_norm(rows, dim=0)
    size = torch.where(size > 0, size, 1.0)
    R = torch.linalg.qr(rows / size, mode="r").R  # the same singular values, a third of the time
    _, s, Vt = torch.linalg.svd(R, full_matrices=False)
    keep = s > TOLERANCE * s[0]
    W: Tensor = Vt[keep].t() / s[keep] / size[:, None]
    return W


def damped_orthonormaliser(
    h: Float[Tensor, "B H"], weights: Tensor, damping: float = DAMPING
) -> tuple[Float[Tensor, "H H"], Float[Tensor, " H"]]:
    r"""Return W with ``W^T (S + damping^2 diag S) W = I``, and the diagonal of ``W^T S W``.

    Where :func:`orthonormaliser` leaves a direction out, this one lets it in with little weight.

    Example:
        >>> h = torch.tensor([[1.0, 1.0], [0.0, 1e-12]], dtype=torch.float64)
        >>> W, share = damped_orthonormaliser(h, torch.ones(2, dtype=torch.float64))
        >>> share.round(decimals=3) + 0.0
        tensor([1., 0.], dtype=torch.float64)
    """
    check_finite(h)
    rows = torch.sqrt(weights / len(weights))[:, None] * h
    size = torch.linalg.vector_norm(rows, dim=0)
    size = torch.where(size > 0, size, 1.0)
    R = torch.linalg.qr(rows / size, mode="r").R
    _, s, Vt = torch.linalg.svd(R, full_matrices=True)
    s = torch.cat([s, s.new_zeros(len(Vt) - len(s))])  # fewer nodes than functions
    damped = torch.sqrt(s**2 + damping**2)
    W: Tensor = Vt.t() / damped / size[:, None]
    return W, (s / damped) ** 2


def whitener(h: Tensor, weights: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """Return W of the one kind or, without damping, the other, and the diagonal of ``W^T S W``."""
    if damping > 0:
        return damped_orthonormaliser(h, weights, damping)
    W = orthonormaliser(h, weights)
    return W, W.new_ones(W.shape[1])


def damped_sizes(h: Tensor, f: Tensor, C: Tensor, nodes: Nodes, damping: float) -> Float[Tensor, " k"]:
    """Return ``c^T (S + damping^2 diag S) c`` of each column of C, ``f = h C``, with its graph."""
    return nodes.integrate(f**2) + damping**2 * (nodes.integrate(h**2) @ C**2)


@dataclass(frozen=True, eq=False)
class Heads:
    """The best heads on some nodes.

    Arguments:
        values: Ritz values, for an SVD singular values, descending, as many as there are independent
            functions.
        right, left: the coefficients of their functions, ``(H, r)``, orthonormal; the same for an
            eigenproblem.
    """

    values: Tensor
    right: Tensor
    left: Tensor

    def first(self, count: int) -> "Heads":
        """Return the first ``count`` of them."""
        return Heads(self.values[:count], self.right[:, :count], self.left[:, :count])


class Sample(ABC):
    """A basis (for an SVD, two) under an operator, on given nodes, with the graph of the basis."""

    @abstractmethod
    def heads(self) -> Heads:
        """Return all heads that solve the Ritz problem on these nodes."""

    def checked(self, count: int) -> Heads:
        """Return the first heads, for nodes on which nothing is trained."""
        return self.heads().first(count)

    @abstractmethod
    def judged(self, heads: Heads) -> Tensor:
        """Return the values of functions whose heads come from other nodes, descending."""

    def judged_parts(self, heads: Heads) -> list[Tensor]:
        """Return such values on parts of the nodes, where these are a sample; else none."""
        return []

    def noise(self, heads: Heads) -> Tensor:
        """Return the standard errors of the values of these heads; zero for a rule, and for a kernel."""
        return torch.zeros_like(heads.values)

    def anchor(self, count: int) -> Anchor | None:
        """Return what a round on these nodes is expanded about: ``None`` where nodes are no sample."""
        return None

    @abstractmethod
    def surrogate(self, heads: Heads, slopes: Tensor) -> Tensor:
        """Return a number with the gradient of a function of the values, given its slopes, ``(k,)``."""


class LocalSample(Sample):
    """A local operator: all it needs is the jet of the basis at the nodes."""

    def __init__(
        self,
        operator: Operator,
        basis: Basis,
        nodes: Nodes,
        *,
        shift: float = 0.0,
        damping: float = DAMPING,
        check: bool = False,
        anchor: Anchor | None = None,
    ) -> None:
        self.basis, self.anchored = basis, anchor
        self.operator, self.nodes, self.shift = operator, nodes, shift
        self.damping = 0.0 if check else damping
        # Steps climb the weak form, which no nodes can drive above the top of -V; on sampled nodes where it
        # is expanded about an anchor. For a check on sampled nodes the strong form has the smaller error.
        self.strong = check and nodes.kind != "quadrature"
        self.jet = basis.jet(nodes.x) if self.strong else basis.weak_jet(nodes.x, operator.weak_order)

    def form(self, u: Jet) -> Tensor:
        """Return ``<u_i|T u_j>`` of combinations of the basis."""
        return self.operator.weak_form(self.nodes, u) if self.anchored is None else self.anchored.form(u)

    @torch.no_grad()
    def anchor(self, count: int) -> Anchor | None:
        """Return the leading functions of the basis as it is, by the strong form."""
        if self.nodes.kind == "quadrature" or not self.operator.self_adjoint:
            return None
        jet = self.basis.jet(self.nodes.x)
        return Anchor.of(self.operator, self.nodes, jet.linear(self._strongly(jet, count).right))

    def noise(self, heads: Heads) -> Tensor:
        """Return the standard errors of the means of ``f (T f - mu f)``, for a check on sampled nodes."""
        if not self.strong:
            return super().noise(heads)
        f = self.jet.linear(heads.right)
        residual = self.operator.from_jet(self.nodes.x, f) - heads.values * f.value
        error: Tensor = (self.nodes.weights[:, None] * f.value * residual).std(0) / len(self.nodes) ** 0.5
        return error

    @torch.no_grad()
    def heads(self) -> Heads:
        """Return the heads, from the form of orthonormal functions."""
        W, share = whitener(self.jet.value, self.nodes.weights, self.damping)
        A = self.form(self.jet.linear(W))
        return eigenheads(A, W, self.shift * share, self.shift)

    @torch.no_grad()
    def checked(self, count: int) -> Heads:
        """Return the first heads, on sampled nodes from the strong form."""
        if not self.strong:
            return super().checked(count)
        return self._strongly(self.jet, count)

    @torch.no_grad()
    def judged(self, heads: Heads) -> Tensor:
        """Return the Ritz values of the functions' own span."""
        f = self.jet.linear(heads.right)
        if self.strong:
            return self._strongly(f, f.value.shape[1]).values
        W = orthonormaliser(f.value, self.nodes.weights)
        return eigenheads(self.operator.weak_form(self.nodes, f.linear(W)), W).values

    def _strongly(self, jet: Jet, count: int) -> Heads:
        W = orthonormaliser(jet.value, self.nodes.weights)
        A = self.operator.strong_form(self.nodes, jet.linear(W))
        check_finite(A)
        values, V = leading(A, min(count, len(A)))
        return Heads(values, W @ V, W @ V)

    def surrogate(self, heads: Heads, slopes: Tensor) -> Tensor:
        """Return ``sum_l slope_l c_l^T (A - mu_l S) c_l``, with the damping in S."""
        f = self.jet.linear(heads.right)
        A = self.form(f).diagonal() + self.shift * self.nodes.integrate(f.value**2)
        S = damped_sizes(self.jet.value, f.value, heads.right, self.nodes, self.damping)
        total: Tensor = slopes @ (A - (heads.values + self.shift) * S)
        return total


class KernelSample(Sample):
    """An operator that integrates: values of the right basis at x, of the left one at y.

    Of a self-adjoint one on two samples, rather than one rule, both are nodes of the one basis: its inner
    products are means over the two.
    """

    def __init__(
        self,
        operator: Operator,
        right: Basis,
        left: Basis,
        x: Nodes,
        y: Nodes,
        *,
        shift: float = 0.0,
        damping: float = DAMPING,
        check: bool = False,
    ) -> None:
        self.operator, self.x, self.y = operator, x, y
        self.damping = 0.0 if check else damping
        self.symmetric = right is left
        self.shift = shift if self.symmetric else 0.0  # the other side of an SVD has no shift
        self.f = right(x.x)
        self.g = self.f if self.symmetric and x is y else left(y.x)

    def form(self, right: Tensor, left: Tensor) -> Tensor:
        """Return ``<g_i|T f_j>`` of combinations of the bases."""
        Tf = self.operator.transform(self.y.x, self.x, self.f @ right)
        form: Tensor = (self.y.weights[:, None] * (self.g @ left)).t() @ Tf / len(self.y)
        return form

    @torch.no_grad()
    def heads(self) -> Heads:
        """Return the heads: eigenvectors, or singular vectors, of the form of orthonormal functions."""
        return self._heads(self.f, self.g)

    @torch.no_grad()
    def judged(self, heads: Heads) -> Tensor:
        """Return the Ritz values, or singular values, of the functions' own span."""
        right, left = heads.right, heads.left
        return self._heads(self.f @ right, self.g @ left, right, left).values

    def _heads(self, f: Tensor, g: Tensor, right: Tensor | None = None, left: Tensor | None = None) -> Heads:
        """Return the heads in terms of functions f and g, combinations by ``right`` and ``left`` if any."""

        def of(C: Tensor | None, W: Tensor) -> Tensor:
            return W if C is None else C @ W

        if self.symmetric:
            h, weights = f, self.x.weights
            if self.x is not self.y:
                h = torch.cat([f, g])
                weights = torch.cat([n.weights * (len(h) / (2 * len(n))) for n in (self.x, self.y)])
            W, share = whitener(h, weights, self.damping)
            form = self.form(of(right, W), of(right, W))
            return eigenheads(form, W, self.shift * share, self.shift)
        W, _ = whitener(f, self.x.weights, self.damping)
        Wg, _ = whitener(g, self.y.weights, self.damping)
        A = self.form(of(right, W), of(left, Wg))
        check_finite(A)
        U, s, Vt = torch.linalg.svd(A, full_matrices=False)
        return Heads(s, W @ Vt.t(), Wg @ U)

    def surrogate(self, heads: Heads, slopes: Tensor) -> Tensor:
        """Return ``sum_l slope_l (<g_l|T f_l> - (mu_l / 2) (<f_l|f_l> + <g_l|g_l>))``, with the damping."""
        form = self.form(heads.right, heads.left).diagonal()
        plain, damped = torch.zeros_like(form), torch.zeros_like(form)
        for h, C, nodes in ((self.f, heads.right, self.x), (self.g, heads.left, self.y)):
            f = h @ C
            plain = plain + nodes.integrate(f**2) / 2
            damped = damped + damped_sizes(h, f, C, nodes, self.damping) / 2
        total: Tensor = slopes @ (form + self.shift * plain - (heads.values + self.shift) * damped)
        return total


def eigenheads(A: Tensor, W: Tensor, moved: Tensor | None = None, shift: float = 0.0) -> Heads:
    """Return the heads of the form A of functions ``h W``, with ``moved`` added to its diagonal."""
    check_finite(A)
    A = (A + A.t()) / 2
    values, V = torch.linalg.eigh(A if moved is None else A + torch.diag(moved))
    C = (W @ V).flip(1)
    return Heads(values.flip(0) - shift, C, C)


def damping_for(values: Tensor, shift: float) -> float:
    """Return the damping for values so far apart: the smallest needs the larger part of the precision.

    Example:
        >>> damping_for(torch.tensor([1.0, 0.01]), 0.0) / DAMPING
        10.0
    """
    ratio = float((values[0] + shift) / (values[-1] + shift).clamp_min(1e-300))
    return min(DAMPING * math.sqrt(max(ratio, 1.0)), LARGEST_DAMPING)


def sample(
    operator: Operator,
    right: Basis,
    left: Basis,
    x: Nodes,
    y: Nodes,
    *,
    shift: float = 0.0,
    damping: float = DAMPING,
    check: bool = False,
    anchor: Anchor | None = None,
) -> Sample:
    """Evaluate a basis, or two, on nodes.

    Arguments:
        operator: T, unshifted.
        right, left: the bases; the same one for an eigenproblem.
        x, y: nodes for each; the same ones where one rule serves both.
        shift: a number that makes the values positive when added; where it does, the damping lowers them.
        damping: see ``DAMPING``.
        check: nodes that no step is taken on: nothing is damped.
        anchor: of a local operator, what the form is expanded about.
    """
    if operator.local:
        return LocalSample(operator, right, x, shift=shift, damping=damping, check=check, anchor=anchor)
    return KernelSample(operator, right, left, x, y, shift=shift, damping=damping, check=check)
