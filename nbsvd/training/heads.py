r"""The head in closed form: the best combinations of a basis, and what is left of the objective.

Let h be the basis, ``S = <h|h>`` and ``A = <h|T h>``. Over all heads C the objective of ``f = h C`` has a
least value that depends on the Ritz values mu of the pencil (A, S) alone. Its derivative in the basis needs
no derivative of the head (the envelope theorem): with C held at the best heads, orthonormal in S,

.. math:: d\mu_l = c_l^T (dA - \mu_l \, dS) \, c_l .
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nbsvd.measures import Nodes
from nbsvd.operators import Operator
from nbsvd.spectrum.moments import check_finite, leading
from nbsvd.training.start import Basis

# Directions of the basis smaller than this share of the largest are left out. They come from the values of
# the basis themselves, not from its Gram matrix, in which they would be squared and lost to rounding.
TOLERANCE = 1e-10


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
    def surrogate(self, heads: Heads, slopes: Tensor) -> Tensor:
        """Return a number with the gradient of a function of the values, given its slopes, ``(k,)``."""


class LocalSample(Sample):
    """A local operator: all it needs is the jet of the basis at the nodes."""

    def __init__(self, operator: Operator, basis: Basis, nodes: Nodes, *, check: bool = False) -> None:
        self.operator, self.nodes = operator, nodes
        # Steps climb the weak form, which no nodes can drive above the top of -V. For a check on sampled
        # nodes the strong form has the smaller error.
        self.strong = check and nodes.kind != "quadrature"
        self.jet = basis.jet(nodes.x) if self.strong else basis.weak_jet(nodes.x, operator.weak_order)

    @torch.no_grad()
    def heads(self) -> Heads:
        """Return the heads, from the weak form of orthonormal functions."""
        W = orthonormaliser(self.jet.value, self.nodes.weights)
        A = self.operator.weak_form(self.nodes, self.jet.linear(W))
        check_finite(A)
        values, V = torch.linalg.eigh((A + A.t()) / 2)
        C = (W @ V).flip(1)
        return Heads(values.flip(0), C, C)

    @torch.no_grad()
    def checked(self, count: int) -> Heads:
        """Return the first heads, on sampled nodes from the strong form."""
        if not self.strong:
            return super().checked(count)
        W = orthonormaliser(self.jet.value, self.nodes.weights)
        A = self.operator.strong_form(self.nodes, self.jet.linear(W))
        check_finite(A)
        values, V = leading(A, min(count, len(A)))
        return Heads(values, W @ V, W @ V)

    def surrogate(self, heads: Heads, slopes: Tensor) -> Tensor:
        """Return ``sum_l slope_l c_l^T (A - mu_l S) c_l``."""
        f = self.jet.linear(heads.right)
        A = self.operator.weak_form(self.nodes, f).diagonal()
        S = self.nodes.integrate(f.value**2)
        total: Tensor = slopes @ (A - heads.values * S)
        return total


class KernelSample(Sample):
    """An operator that integrates: values of the right basis at x, of the left one at y."""

    def __init__(self, operator: Operator, right: Basis, left: Basis, x: Nodes, y: Nodes) -> None:
        self.operator, self.x, self.y = operator, x, y
        self.f = right(x.x)
        self.same = right is left and x is y
        self.g = self.f if self.same else left(y.x)

    def form(self, right: Tensor, left: Tensor) -> Tensor:
        """Return ``<g_i|T f_j>`` of combinations of the bases."""
        Tf = self.operator.transform(self.y.x, self.x, self.f @ right)
        form: Tensor = (self.y.weights[:, None] * (self.g @ left)).t() @ Tf / len(self.y)
        return form

    @torch.no_grad()
    def heads(self) -> Heads:
        """Return the heads: eigenvectors, or singular vectors, of the form of orthonormal functions."""
        W = orthonormaliser(self.f, self.x.weights)
        if self.same:
            A = self.form(W, W)
            check_finite(A)
            values, V = torch.linalg.eigh((A + A.t()) / 2)
            C = (W @ V).flip(1)
            return Heads(values.flip(0), C, C)
        Wg = orthonormaliser(self.g, self.y.weights)
        A = self.form(W, Wg)
        check_finite(A)
        U, s, Vt = torch.linalg.svd(A, full_matrices=False)
        return Heads(s, W @ Vt.t(), Wg @ U)

    def surrogate(self, heads: Heads, slopes: Tensor) -> Tensor:
        """Return ``sum_l slope_l (<g_l|T f_l> - (mu_l / 2) (<f_l|f_l> + <g_l|g_l>))``."""
        form = self.form(heads.right, heads.left).diagonal()
        sizes = self.x.integrate((self.f @ heads.right) ** 2) + self.y.integrate((self.g @ heads.left) ** 2)
        total: Tensor = slopes @ (form - heads.values * sizes / 2)
        return total


def sample(
    operator: Operator, right: Basis, left: Basis, x: Nodes, y: Nodes, *, check: bool = False
) -> Sample:
    """Evaluate a basis, or two, on nodes; with ``check`` on nodes that no step is taken on."""
    if operator.local:
        return LocalSample(operator, right, x, check=check)
    return KernelSample(operator, right, left, x, y)
