"""The singular value decomposition of any kernel on a fine grid, as an oracle where there is no formula."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from nbsvd._errors import require
from nbsvd._kernels import check_finite_kernel, kernel_matrix
from nbsvd.exact.base import Exact, as_points

RESOLVED = 1e-10  # share of the largest value; below it the functions lose more than five digits to rounding
MOST = 10**8  # entries of the matrix, 800 MB
PIECE = 10**7  # entries made at once for functions between the nodes


class GridSVD(Exact):
    r"""The singular triplets of ``(T f)(y) = int k(x, y) f(x) dmu(x)``, from a fine rule on either side.

    With nodes and weights in the mean convention, ``(1/n) sum_i w_i h(x_i)`` for the integral of h, the
    triplets are those of a matrix, and Nystroem's formula carries the functions to any other point:

    .. math:: \Big(\frac{w^y_j w^x_i}{n_y n_x}\Big)^{1/2} k(x_i, y_j) = \sum_l \sigma_l\, u_{jl} v_{il},
        \qquad \phi_l(x_i) = \Big(\frac{n_x}{w^x_i}\Big)^{1/2} v_{il},

    .. math:: \phi_l(x) = \frac{1}{\sigma_l\, n_y} \sum_j w^y_j\, k(x, y_j)\, \psi_l(y_j), \qquad
        \psi_l(y) = \frac{1}{\sigma_l\, n_x} \sum_i w^x_i\, k(x_i, y)\, \phi_l(x_i).

    The answer is as good as the rule: for a smooth kernel exact to rounding on a few dozen Gauss nodes a
    dimension; with a kink the error of values and functions falls like 1/n^2, with a jump like 1/n. Try
    twice the nodes. Sign: :math:`\phi_l` is positive at the node where it is largest. Every value counts as
    simple. ``max_k`` counts the values above 1e-10 of the largest: what lies below is rounding.

    Arguments:
        kernel: ``k(x, y)`` for points ``(B, d)`` and ``(B', d')``, returns ``(B, B')``.
        x: nodes of the right side, ``(n_x, d)``.
        wx: their weights, ``(n_x,)``.
        y, wy: the same for the left side, ``(n_y, d')`` and ``(n_y,)``.
        self_adjoint: give eigenvalues, the positive ones alone, in place of singular values; x and y must be
            one rule and k symmetric.

    Raises:
        ArgumentError: nodes, weights or kernel values of another shape, complex, NaN or infinite; weights
            that are not positive; a kernel that is zero everywhere; more than 1e8 pairs of nodes.

    Source: the method is due to Nystroem, Acta Math. 54 (1930) 185.

    Example:
        >>> from nbsvd.measures import Gaussian
        >>> nodes = Gaussian(1).nodes(100, kind="quadrature")
        >>> rule = nodes.x, nodes.weights
        >>> grid = GridSVD(lambda x, y: torch.exp(-((x - y.t()) ** 2) / 2), *rule, *rule)
        >>> grid.values(3)
        tensor([0.6180, 0.2361, 0.0902], dtype=torch.float64)
    """

    def __init__(
        self,
        kernel: Callable[[Tensor, Tensor], Tensor],
        x: Tensor,
        wx: Tensor,
        y: Tensor,
        wy: Tensor,
        *,
        self_adjoint: bool = False,
    ) -> None:
        require(
            callable(kernel), "kernel", got=type(kernel).__name__, expected="a function of two sets of points"
        )
        self._kernel, self._self_adjoint = kernel, self_adjoint
        self.x, self.y = _nodes("x", x), _nodes("y", y)
        size = len(self.x) * len(self.y)
        require(
            size <= MOST,
            "x, y",
            got=f"{len(self.x)} and {len(self.y)} nodes, {size:.1g} pairs",
            expected=f"at most {MOST:.0g} pairs",
            remedy="Use fewer nodes, or a better rule.",
        )
        self._root_x, self._root_y = _roots("wx", wx, self.x), _roots("wy", wy, self.y)
        A = (self._matrix(self.x, self.y) * self._root_x[:, None]).T * self._root_y[:, None]
        if self_adjoint:
            require(
                torch.equal(self.x, self.y)
                and torch.equal(self._root_x, self._root_y)
                and torch.allclose(A, A.T, rtol=1e-9, atol=1e-12 * float(A.abs().max())),
                "self_adjoint",
                got="True for a kernel with k(x, y) other than k(y, x), or for two different rules",
                expected="a symmetric kernel on one rule",
                remedy="Leave self_adjoint out for singular values.",
            )
            values, vectors = torch.linalg.eigh((A + A.T) / 2)
            sigma, v = values.flip(0), vectors.flip(1)
            u, largest = v, float(values.abs().max())
        else:
            u, sigma, right = torch.linalg.svd(A, full_matrices=False)
            v, largest = right.T, float(sigma[0])
        count = int((sigma > RESOLVED * largest).sum())
        require(
            count > 0,
            "kernel",
            got="no positive value",
            expected="a kernel that is not zero everywhere"
            + (", with a positive eigenvalue" if self_adjoint else ""),
        )
        phi, psi = v[:, :count] / self._root_x[:, None], u[:, :count] / self._root_y[:, None]
        signs = torch.sign(phi.gather(0, phi.abs().argmax(dim=0, keepdim=True)))
        self._sigma, self._phi, self._psi = sigma[:count], phi * signs, psi * signs

    @property
    def dim(self) -> int:
        """Dimension of a point x."""
        return self.x.shape[1]

    @property
    def max_k(self) -> int:
        """How many values are resolved."""
        return len(self._sigma)

    @property
    def self_adjoint(self) -> bool:
        """As it was said to be."""
        return self._self_adjoint

    def left(self, y: Tensor, k: int) -> Float64[Tensor, "B k"]:
        """Evaluate the first ``k`` left functions; same errors as :meth:`functions`."""
        k = self._count(k)  # points y may have another dimension than points x
        return self._left(as_points("y", y, self.y.shape[1]), k)

    def _values(self, k: int) -> Float64[Tensor, " k"]:
        values: Tensor = self._sigma[:k].clone()
        return values

    def _functions(self, x: Float64[Tensor, "B d"], k: int) -> Float64[Tensor, "B k"]:
        table = self._root_y[:, None] ** 2 * self._psi[:, :k] / self._sigma[:k]
        y = self.y.to(x.device)
        pieces = [self._matrix(part, y) @ table.to(x.device) for part in x.split(self._rows(len(y)))]
        return torch.cat(pieces)

    def _left(self, y: Float64[Tensor, "B d"], k: int) -> Float64[Tensor, "B k"]:
        table = self._root_x[:, None] ** 2 * self._phi[:, :k] / self._sigma[:k]
        x = self.x.to(y.device)
        pieces = [self._matrix(x, part).T @ table.to(y.device) for part in y.split(self._rows(len(x)))]
        return torch.cat(pieces)

    def _rows(self, n: int) -> int:
        return max(1, PIECE // n)

    def _matrix(self, x: Tensor, y: Tensor) -> Float64[Tensor, "n m"]:
        """Return kernel values, checked, in float64."""
        K = kernel_matrix(self._kernel, x, y)
        check_finite_kernel(K)
        return K


def _nodes(name: str, x: Any) -> Float64[Tensor, "n d"]:
    """Return nodes as float64 on the CPU."""
    fine = isinstance(x, Tensor) and x.ndim == 2 and x.numel() > 0
    require(
        fine,
        name,
        got=f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__,
        expected="a tensor of nodes, shape (n, d), at least one",
        remedy="Nodes on a line are x[:, None].",
    )
    return as_points(name, x, x.shape[1]).detach().cpu()


def _roots(name: str, weights: Any, x: Tensor) -> Float64[Tensor, " n"]:
    """Return the square roots of the nodes' shares, ``w / n``."""
    expected = f"positive finite weights, shape ({len(x)},), one for each node"
    shaped = isinstance(weights, Tensor) and weights.shape == x.shape[:1]
    require(
        shaped,
        name,
        got=f"shape {tuple(weights.shape)}" if isinstance(weights, Tensor) else type(weights).__name__,
        expected=expected,
        remedy="Where all weigh the same, give torch.ones(len(x)).",
    )
    require(not weights.is_complex(), name, got=f"dtype {weights.dtype}", expected=expected)
    w = weights.detach().cpu().to(torch.float64)
    fine = bool(((w > 0) & torch.isfinite(w)).all())
    require(fine, name, got="zero, negative, infinite or NaN entries", expected=expected)
    return torch.sqrt(w / len(w))
