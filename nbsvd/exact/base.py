"""What every exact answer can be asked: values, functions on both sides, and which of them are degenerate."""

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from itertools import groupby

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from nbsvd._errors import ArgumentError, require

# beartype, which checks the annotations in tests, does not take an int for a float; we do.
Real = float | int


class Exact(ABC):
    r"""The ordered singular triplets of an operator ``T: F -> G``, known in closed form.

    .. math:: T \phi_l = \lambda_l \psi_l, \qquad \lambda_1 \ge \lambda_2 \ge \dots\ \text{with multiplicity}

    ``functions`` are the right functions phi_l in F, ``left`` the left functions psi_l in G, both orthonormal
    in the reference measure that the subclass names. When :attr:`self_adjoint` is true, the values are signed
    eigenvalues and both sides are the same functions. Everything is float64, whatever the dtype of the
    points, and differentiable in the points.

    Degenerate values: :meth:`levels` groups the first ``k`` indices by quantum numbers. When ``k`` falls
    inside a level, :meth:`level_complete` is false and :meth:`completed` is the smallest number of functions,
    ``k`` or more, that ends with a level. The metrics want whole levels::

        K = exact.completed(k)
        metrics.angle(learned, exact.functions(x, K), exact.levels(K), weights)
    """

    @property
    @abstractmethod
    def dim(self) -> int:
        """Dimension ``d`` of a point."""

    @property
    def max_k(self) -> int | None:
        """How many values there are; ``None`` when there is no end to them."""
        return None

    @property
    def self_adjoint(self) -> bool:
        """Whether left and right functions are the same and the values are signed eigenvalues."""
        return True

    @abstractmethod
    def _values(self, k: int) -> Float64[Tensor, " k"]: ...

    @abstractmethod
    def _functions(self, x: Float64[Tensor, "B d"], k: int) -> Float64[Tensor, "B k"]: ...

    def _left(self, y: Float64[Tensor, "B d"], k: int) -> Float64[Tensor, "B k"]:
        return self._functions(y, k)

    def _tags(self, k: int) -> Sequence[Hashable]:
        """Name the level of each of the first ``k`` values; by default every value is simple."""
        return range(k)

    def values(self, k: int) -> Float64[Tensor, " k"]:
        """Return the first ``k`` values, descending, repeated by multiplicity.

        Raises:
            ArgumentError: ``k`` is below 1 or above :attr:`max_k`.
        """
        return self._values(self._count(k))

    def functions(self, x: Tensor, k: int) -> Float64[Tensor, "B k"]:
        """Evaluate the first ``k`` right functions.

        Arguments:
            x: points, ``(B, d)``.
            k: number of functions.

        Returns:
            ``(B, k)``, float64, on the device of ``x`` (on the CPU if that device has no float64).

        Raises:
            ArgumentError: ``k`` out of range; points that are not real, finite and ``(B, d)``.
        """
        k = self._count(k)
        return self._functions(as_points("x", x, self.dim), k)

    def left(self, y: Tensor, k: int) -> Float64[Tensor, "B k"]:
        """Evaluate the first ``k`` left functions; same arguments and errors as :meth:`functions`."""
        k = self._count(k)
        return self._left(as_points("y", y, self.dim), k)

    def levels(self, k: int) -> list[list[int]]:
        """Group the indices ``0 .. k-1`` into degenerate levels, in order.

        The last group may be only the first part of its level: see :meth:`level_complete`.
        """
        tags = self._tags(self._count(k))
        return [list(group) for _, group in groupby(range(k), key=lambda index: tags[index])]

    def level_complete(self, k: int) -> bool:
        """Tell whether the level of the ``k``-th value ends there, so that ``k`` cuts nothing."""
        return self.completed(k) == k

    def completed(self, k: int) -> int:
        """Return the smallest number of values, at least ``k``, that consists of whole levels."""
        end, asked = self._count(k), k
        while True:
            asked = 2 * asked + 1 if self.max_k is None else min(2 * asked + 1, self.max_k)
            tags = self._tags(asked)
            while end < asked:
                if tags[end] != tags[k - 1]:
                    return end
                end += 1
            if end == self.max_k:
                return end

    def _count(self, k: int) -> int:
        whole = isinstance(k, int) and not isinstance(k, bool)
        if self.max_k is None:
            require(whole and k >= 1, "k", got=repr(k), expected="an integer of at least 1")
        else:
            require(
                whole and 1 <= k <= self.max_k,
                "k",
                got=repr(k),
                expected=f"an integer from 1 to {self.max_k}",
                remedy=f"The exact answer holds {self.max_k} values.",
            )
        return k


def lora_optimum(values: Tensor, vector: Tensor | None = None) -> Float[Tensor, ""]:
    r"""Return the smallest value that the LoRA loss can take: the line to plot under every training curve.

    .. math:: \min L = -\sum_{l \le L} m_l \max(\lambda_l, 0)^2

    With singular values, which are not negative, this is the optimum of the SVD form, ``-sum m_l sigma_l^2``.

    Arguments:
        values: the first ``L`` eigenvalues or singular values, descending, ``(L,)``.
        vector: nesting weights ``m_l``, ``(L,)``; ``None`` means no nesting, ``m_l = 1``.

    Raises:
        ArgumentError: ``values`` is not ``(L,)``, or ``vector`` has another length or a negative entry.

    Source: Theorem 1 and the joint nesting of Ryu et al., "Operator SVD with neural networks via nested
    low-rank approximation", ICML 2024.

    Example:
        >>> from nbsvd.exact import Hydrogen2D
        >>> print(f"{lora_optimum(Hydrogen2D().values(9)):.6f}")
        -1.045037
    """
    require(values.ndim == 1, "values", got=f"shape {tuple(values.shape)}", expected="shape (L,)")
    squares = values.clamp(min=0) ** 2
    if vector is None:
        return -squares.sum()
    require(
        vector.shape == values.shape,
        "vector",
        got=f"shape {tuple(vector.shape)}",
        expected=f"shape {tuple(values.shape)}, one weight per value",
        remedy="Use Nesting.vector of as many components as there are values.",
    )
    require(bool((vector >= 0).all()), "vector", got=vector.tolist(), expected="weights m_l >= 0")
    return -(vector.to(squares) * squares).sum()


def as_points(name: str, x: object, dim: int) -> Float64[Tensor, "B d"]:
    """Return points as float64, or say what is wrong with them."""
    expected = f"a tensor of real points, shape (B, {dim})"
    if not isinstance(x, Tensor):
        raise ArgumentError(name, got=type(x).__name__, expected=expected, remedy="Use torch.as_tensor.")
    require(not x.is_complex(), name, got=f"dtype {x.dtype}", expected=expected)
    require(
        x.ndim == 2 and x.shape[1] == dim,
        name,
        got=f"shape {tuple(x.shape)}",
        expected=expected,
        remedy="A single point is x[None, :]; points on a line are x[:, None]."
        if x.ndim < 2
        else "One row for each point, one column for each coordinate.",
    )
    require(bool(torch.isfinite(x).all()), name, got="NaN or infinity", expected="finite points")
    # Apple's MPS device has no float64.
    return (x.cpu() if x.device.type == "mps" else x).to(torch.float64)


def as_positive(name: str, value: Real) -> float:
    """Return a finite positive number as a float, or say what is wrong with it."""
    require(math.isfinite(value) and value > 0, name, got=repr(value), expected="a finite number above 0")
    return float(value)


def as_center(center: Iterable[Real] | Tensor | None, dim: int) -> tuple[float, ...]:
    """Return a centre as ``dim`` floats; ``None`` is the origin."""
    if center is None:
        return (0.0,) * dim
    entries = tuple(float(entry) for entry in center)
    fine = len(entries) == dim and all(map(math.isfinite, entries))
    require(fine, "center", got=entries, expected=f"{dim} finite coordinates")
    return entries
