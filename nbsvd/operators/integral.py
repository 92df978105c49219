"""Integral operators, given by a kernel and two measures."""

import math
from functools import cached_property

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from nbsvd._errors import require
from nbsvd._kernels import Kernel, check_finite_kernel, kernel_matrix
from nbsvd.measures import Measure, Nodes, Uniform
from nbsvd.measures.rules import gauss_legendre
from nbsvd.operators.base import Operator


class Integral(Operator):
    r"""The integral operator of a kernel, ``(T f)(y) = int k(x, y) f(x) dmu(x)``.

    It maps L2(mu) to L2(nu). Right singular functions live at x, left ones at y.

    **A jump or a kink where x = y.** A quadrature rule wants smooth functions, and does not see where between
    two of its nodes a kernel jumps: its error falls like 1/n for a jump, like 1/n^2 for a kink. On a line it
    can be told, by ``kink=True``. What must then be smooth is f, and k on either side of x = y. On a rule,

    .. math:: (T f)(y) = \sum_{m, n < p} e_m(y) \, K_{mn} \, \langle e_n|f \rangle, \qquad
        K_{mn} = \int\!\!\int e_m(y) \, k(x, y) \, e_n(x) \, d\mu(x) \, d\mu(y),

    with :math:`e_n` the orthonormal Legendre polynomials of the interval, a quarter as many as there are
    nodes and 256 at most. The inner integral of K is split at x = y. K is found once; nodes that are drawn
    anew cost no further look at the kernel, and the error falls faster than any power of their number. On
    ``"iid"`` and ``"sobol"`` nodes nothing changes.

    Arguments:
        kernel: ``k(x, y)`` for points ``(B, d)`` and ``(B', d')``, returns the matrix ``(B, B')``.
        measure_x: mu.
        measure_y: nu; the same as mu unless given.
        self_adjoint: whether ``k(x, y) = k(y, x)``; tried out on a few points unless given.
        kink: whether k has a jump or a kink where x = y, and is smooth elsewhere. Both measures must then be
            the uniform law on one interval.

    Raises:
        ArgumentError: a kernel that fails, or returns another shape, complex numbers or NaN; a kink on other
            measures; a kernel with a jump or kink elsewhere, on first use.

    Source: Ryu et al., section 2.

    Example:
        >>> from nbsvd.measures import Uniform
        >>> T = Integral(lambda x, y: x < y.t(), Uniform(0.0, 1.0), kink=True)  # Volterra
        >>> T.self_adjoint
        False
        >>> nodes = T.measure_x.nodes(100, kind="quadrature")
        >>> y = torch.tensor([[0.3]]).double()
        >>> abs(float(T.transform(y, nodes, torch.cos(nodes.x)) - torch.sin(y))) < 1e-12
        True
    """

    def __init__(
        self,
        kernel: Kernel,
        measure_x: Measure,
        measure_y: Measure | None = None,
        *,
        self_adjoint: bool | None = None,
        kink: bool = False,
    ) -> None:
        require(
            callable(kernel),
            "kernel",
            got=type(kernel).__name__,
            expected="a function of two sets of points",
            remedy="For a matrix of numbers use Matrix(A).",
        )
        measure_y = measure_x if measure_y is None else measure_y
        for name, measure in (("measure_x", measure_x), ("measure_y", measure_y)):
            require(isinstance(measure, Measure), name, got=type(measure).__name__, expected="a Measure")
        self.kernel = kernel
        self.measure_x: Measure = measure_x
        self.measure_y: Measure = measure_y
        x = self.measure_x.nodes(16, kind="iid", generator=torch.Generator().manual_seed(0)).x
        y = self.measure_y.nodes(8, kind="iid", generator=torch.Generator().manual_seed(1)).x
        K = self.matrix(x, y)
        check_finite_kernel(K)
        symmetric = measure_x.same_as(measure_y) and bool(torch.allclose(K, self.matrix(y, x).t()))
        require(
            symmetric or not self_adjoint,
            "self_adjoint",
            got="True for a kernel with k(x, y) other than k(y, x), or for two different measures",
            expected="a symmetric kernel on one measure",
            remedy="Leave self_adjoint out, and take the singular value decomposition.",
        )
        self.self_adjoint = symmetric if self_adjoint is None else self_adjoint
        self.kink = kink
        self._product = _split(self.matrix, measure_x, measure_y) if kink else None

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the kernel matrix ``(B, B')``, checked, real and floating.

        Raises:
            ArgumentError: a kernel that fails at these points, or returns something else.
        """
        return kernel_matrix(self.kernel, x, y)

    def transform(self, y: Tensor, nodes: Nodes, f: Tensor) -> Tensor:
        """Return ``(1/B) sum_b w_b k(x_b, y) f(x_b)``; for a kink on a rule, what the class says.

        Raises:
            ArgumentError: points y outside the interval, for a kink on a rule; a kernel that can't be used.
        """
        if self._product is not None and nodes.kind == "quadrature":
            return self._product.transform(y, nodes, f)
        return self.matrix(nodes.x, y).t() @ (nodes.weights[:, None] * f) / len(nodes)

    @cached_property
    def adjoint(self) -> Operator:
        """The operator of the kernel with its arguments exchanged."""
        if self.self_adjoint:
            return self
        kernel = self.kernel
        return Integral(
            lambda y, x: kernel(x, y).t(),
            self.measure_y,
            self.measure_x,
            self_adjoint=False,
            kink=self.kink,
        )


def _split(matrix: Kernel, measure_x: Measure, measure_y: Measure) -> "SplitKernel":
    """Return a kernel that is split at x = y, or say that these measures have no such line."""
    fine = isinstance(measure_x, Uniform) and measure_x.dim == 1 and measure_y.same_as(measure_x)
    require(
        fine,
        "kink",
        got=f"True with {measure_x.config()} and {measure_y.config()}",
        expected="the uniform law on one interval for both sides",
        remedy="Leave kink out: a rule then needs many nodes, and kind='sobol' is unbiased on any law.",
    )
    assert isinstance(measure_x, Uniform)
    return SplitKernel(matrix, measure_x.low[0], measure_x.high[0])


def legendre(t: Float[Tensor, " B"], p: int) -> Float[Tensor, "B p"]:
    """Return the first p Legendre polynomials, orthonormal for the uniform law on [-1, 1].

    Example:
        >>> (legendre(torch.tensor([1.0], dtype=torch.float64), 3) ** 2).round(decimals=9)
        tensor([[1., 3., 5.]], dtype=torch.float64)
    """
    columns = [torch.ones_like(t), t]
    for n in range(1, p - 1):
        columns.append(((2 * n + 1) / (n + 1)) * t * columns[n] - (n / (n + 1)) * columns[n - 1])
    sizes = torch.sqrt(2 * torch.arange(p, dtype=t.dtype, device=t.device) + 1)
    return torch.stack(columns[:p], 1) * sizes


def from_cosines(p: int) -> Float64[Tensor, "p p"]:
    """Return the coefficients of the polynomials in ``cos(n arccos t)``, by sums over Chebyshev's points."""
    angles = (torch.arange(2 * p, dtype=torch.float64) + 0.5) * math.pi / (2 * p)
    cosines = torch.cos(angles[:, None] * torch.arange(p, dtype=torch.float64))
    coefficients = cosines.t() @ legendre(torch.cos(angles), p) / p
    coefficients[0] /= 2
    return coefficients


class SplitKernel:
    """The matrix of a kernel in Legendre polynomials, its integrals split at x = y.

    The integrals do not depend on how many polynomials there are, so one matrix holds all the smaller ones.

    Arguments:
        matrix: the kernel, checked.
        low, high: ends of the interval.
    """

    PER_NODE = (
        4  # nodes per polynomial: a rule in two pieces, the smaller with a quarter, still tells them apart
    )
    MOST, LEAST = 256, 64  # polynomials
    SPARE = 32  # nodes beside those that the polynomials alone need
    LOOK, ALIKE = 16, 1e-4  # a corner of the matrix from two rules, and how far they may differ
    ROWS = 16  # points y at a time

    def __init__(self, matrix: Kernel, low: float, high: float) -> None:
        self.matrix, self.low, self.high = matrix, low, high
        self.found: Tensor | None = None
        self.cosines: Tensor | None = None
        self.copies: dict[tuple[int, torch.dtype, torch.device], Tensor] = {}

    def transform(self, y: Tensor, nodes: Nodes, f: Tensor) -> Tensor:
        """Return T f at y, from values f on a rule."""
        p = max(1, min(self.MOST, len(nodes) // self.PER_NODE))
        K = self.coefficients(p, f)
        e = self.basis(nodes.x, p)
        coefficients = e.t() @ (nodes.weights[:, None] * f) / len(nodes)
        return (e if y is nodes.x else self.basis(y, p)) @ (K @ coefficients)

    def basis(self, x: Tensor, p: int) -> Tensor:
        """Return the polynomials at points ``(B, 1)`` of the interval, ``(B, p)``."""
        t = (2 * x[:, 0] - (self.low + self.high)) / (self.high - self.low)
        # a look on another device would wait for it, and no compiler sees through one
        if t.device.type == "cpu" and len(t) and not torch.compiler.is_compiling():
            furthest = float(t.detach().abs().max())
            require(
                furthest <= 1 + 1e-5,
                "points",
                got=f"a point {(furthest - 1) / 2:.3g} times the interval's length outside",
                expected=f"points of the interval from {self.low:g} to {self.high:g}",
                remedy="Functions of a uniform law are known on its interval only.",
            )
        if t.dtype is torch.float32 and self.cosines is not None:  # an eighth of the time, nothing is lost
            angles = torch.arccos(t.clamp(-1, 1))[:, None] * torch.arange(p, dtype=t.dtype, device=t.device)
            return torch.cos(angles) @ self.cosines[:p, :p].to(t)
        return legendre(t, p)

    def coefficients(self, p: int, like: Tensor) -> Tensor:
        """Return the first ``(p, p)`` coefficients, rows for y, in dtype and on the device of a tensor."""
        if self.found is None or len(self.found) < p:
            size = self.LEAST
            while size < p:
                size *= 2
            self.found, self.cosines = self._checked(size), from_cosines(size)
            self.copies.clear()
        key = (p, like.dtype, like.device)
        if key not in self.copies:
            self.copies[key] = self.found[:p, :p].to(like)
        return self.copies[key]

    @torch.no_grad()
    def _checked(self, size: int) -> Tensor:
        K = self._integrate(size, size + self.SPARE)
        check_finite_kernel(K)
        again = self._integrate(self.LOOK, size + 2 * self.SPARE)
        apart = float((K[: self.LOOK, : self.LOOK] - again).abs().max() / K.abs().max().clamp_min(1e-300))
        require(
            apart <= self.ALIKE,
            "kink",
            got=f"True for a kernel whose integrals, split at x = y, still differ by {apart:.1g} of the "
            f"largest from {size + self.SPARE} nodes to {size + 2 * self.SPARE}",
            expected="a kernel that is smooth on either side of x = y",
            remedy="Leave kink out; kind='sobol' is unbiased for any kernel.",
        )
        return K

    def _integrate(self, p: int, q: int) -> Tensor:
        """Return the coefficients from q nodes for y, and for x as many on either side of each."""
        t, share = gauss_legendre(q)
        sides = torch.cat([t, t])[None, :]
        lengths = torch.cat([t[:, None].expand(q, q), (1 - t)[:, None].expand(q, q)], 1)  # rows y
        places = torch.cat([torch.zeros(q, q, dtype=t.dtype), t[:, None].expand(q, q)], 1) + lengths * sides
        weights = lengths * torch.cat([share, share])
        x, y = (self.low + (self.high - self.low) * u for u in (places, t))
        inner = torch.empty(q, p, dtype=t.dtype)
        for start in range(0, q, self.ROWS):
            rows = slice(start, start + self.ROWS)
            values = [self.matrix(x[i][:, None], y[i][None, None])[:, 0] for i in range(*rows.indices(q))]
            e = legendre((2 * places[rows] - 1).reshape(-1), p).reshape(-1, 2 * q, p)
            inner[rows] = torch.einsum("yx,yxp->yp", weights[rows] * torch.stack(values), e)
        return (share[:, None] * legendre(2 * t - 1, p)).t() @ inner
