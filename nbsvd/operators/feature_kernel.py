"""Kernels as inner products of features: the usual ones by name, centred if asked."""

from collections.abc import Callable

import torch
from torch import Tensor

from nbsvd._kernels import check_finite_kernel
from nbsvd.measures import Empirical
from nbsvd.operators.integral import Integral

KERNELS = ("rbf", "laplacian", "polynomial", "linear")
RANK = 1e-10  # share of the largest value below which one counts as zero
PIECE, SELF = 1024, 32  # rows at a time; rows of a block whose diagonal is wanted


class FeatureKernel:
    r"""A kernel of points, with the mean feature subtracted if asked.

    .. math:: k(x, x') - m(x) - m(x') + \frac1M \sum_j m(x_j), \qquad m(x) = \frac1M \sum_j k(x, x_j)

    is the kernel of the features less their mean over M rows. The matrix of the rows among themselves is
    kept until :meth:`forget`.

    Arguments:
        kernel: a name of ``KERNELS``, or a function of two sets of points.
        gamma, degree, coef0: as for :class:`nbsvd.sklearn.NeuralSVD`, gamma a number.
        rows: where the mean is taken, ``(M, d)``; ``None`` subtracts nothing.
        origin: subtracted from all points where the kernel sees differences only, against rounding, ``(d,)``.

    Example:
        >>> x = torch.tensor([[1.0], [3.0]])
        >>> FeatureKernel("linear", 1.0, 3.0, 1.0, x, x.mean(0))(x, x)
        tensor([[ 1., -1.],
                [-1.,  1.]])
    """

    def __init__(
        self,
        kernel: str | Callable[[Tensor, Tensor], Tensor],
        gamma: float,
        degree: float,
        coef0: float,
        rows: Tensor | None,
        origin: Tensor,
    ) -> None:
        self.kernel, self.gamma, self.degree, self.coef0 = kernel, gamma, degree, coef0
        self.rows, self.origin = rows, origin
        self.mean: Tensor | None = None
        self.remembered: tuple[Tensor, Tensor] | None = None

    def plain(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the kernel without centring."""
        if callable(self.kernel):
            return self.kernel(x, y)
        if self.kernel == "laplacian":
            return torch.exp(-self.gamma * torch.cdist(x, y, p=1.0))
        if self.kernel == "rbf":
            x, y = x - self.origin.to(x), y - self.origin.to(y)
            squares = (x * x).sum(1)[:, None] + (y * y).sum(1) - 2 * x @ y.t()
            return torch.exp(-self.gamma * squares.clamp_min(0))
        product = x @ y.t()
        return product if self.kernel == "linear" else (self.gamma * product + self.coef0) ** self.degree

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the matrix of the kernel, ``(B, B')``."""
        if self.remembered is not None and self.remembered[0] is x and x is y:
            return self.remembered[1]
        K = self.plain(x, y)
        if self.rows is not None and isinstance(K, Tensor) and K.shape == (len(x), len(y)):
            m, other = self._means(x), self._means(y)
            if self.mean is None:
                self.mean = self._means(self.rows).mean()
            K = K - m[:, None] - other + self.mean.to(K)
        if x is y:
            self.remembered = (x, K)
        return K

    def _means(self, x: Tensor) -> Tensor:
        assert self.rows is not None
        return torch.cat([self.plain(piece, self.rows.to(x)).mean(1) for piece in x.split(PIECE)])

    def forget(self) -> None:
        """Drop the matrix that was kept."""
        self.remembered = None

    def centred(self, rows: Tensor) -> "FeatureKernel":
        """Return the kernel of the features less their mean over some rows."""
        return FeatureKernel(self.kernel, self.gamma, self.degree, self.coef0, rows, self.origin)

    def rank(self, rows: Tensor, *, center: bool) -> int:
        """Return how many independent features some rows have, to working precision; 1 at least.

        Raises:
            ArgumentError: a kernel that returns another shape, or NaN.

        Example:
            >>> x = torch.eye(3, dtype=torch.float64)
            >>> kernel = FeatureKernel("linear", 1.0, 3.0, 1.0, None, x[0])
            >>> kernel.rank(x, center=False), kernel.rank(x, center=True)
            (3, 2)
        """
        K = Integral(self, Empirical(rows), self_adjoint=True).matrix(rows, rows.clone())
        check_finite_kernel(K)
        if center:
            K = K - K.mean(0)
            K = K - K.mean(1)[:, None]
        values = torch.linalg.eigvalsh((K + K.t()) / 2)
        return max(1, int((values > RANK * values[-1]).sum()))

    def variance(self, rows: Tensor, some: Tensor) -> float:
        """Return the mean squared distance of the features from their mean, centred or not.

        Arguments:
            rows: all rows, whose squared lengths are averaged.
            some: rows enough for the mean feature.
        """
        squares = torch.cat([self.plain(few, few).diagonal() for few in rows.split(SELF)])
        mean = torch.cat([self.plain(piece, some).mean(1) for piece in some.split(PIECE)]).mean()
        return max(0.0, float(squares.mean() - mean))
