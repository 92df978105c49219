"""Nesting: what breaks the rotation symmetry of low-rank approximation, written as masks."""

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nbsvd._errors import ArgumentError, nearest, require

KINDS = ("joint", "sequential", "none")


class Masks(NamedTuple):
    """The masks of a nesting on one device and in one dtype."""

    vector: Tensor  # (L,)   weight m_l of <g_l|T f_l>
    matrix: Tensor  # (L, L) weight M_il with which component l feels component i
    loss: Tensor  # (L, L) weight of <f_i|f_l><g_i|g_l> in the reported value; symmetric


@dataclass(frozen=True)
class Nesting:
    r"""How the first 1, 2, ..., L components share one low-rank objective.

    The nested objective is :math:`\sum_l m_l a_l + \sum_{il} M_{il} q_{il}`, for low-rank approximation with
    :math:`a_l = -2 \langle g_l|T f_l\rangle` and
    :math:`q_{il} = \langle f_i|f_l\rangle \langle g_i|g_l\rangle`:

    * ``joint``: minimise :math:`\sum_l w_l \mathcal{L}(f_{1:l})` with positive weights, so
      :math:`m_l = \sum_{i \ge l} w_i` and :math:`M_{il} = m_{\max(i, l)}`. One loss; its minimisers are the
      ordered singular functions (ties leave a rotation inside the tied subspace).
    * ``sequential``: component l moves on :math:`\mathcal{L}(f_{1:l})` with those below it held fixed. Here
      the matrix is not a weight in a loss but a *routing of gradients*: column l says which components i
      component l is orthogonalised against, ``M[i, l] = 1`` if ``i <= l`` (upper triangular). For L >= 2 the
      update field is not the gradient of any loss.
    * ``none``: plain low-rank approximation; only the spanned subspace is determined.

    Make one with :meth:`joint`, :meth:`sequential`, :meth:`none`, or by name: ``Nesting("joint", 4)``.

    Arguments:
        kind: ``"joint"``, ``"sequential"`` or ``"none"``.
        L: number of components, at least 1.
        weights: for ``joint`` only, L positive finite numbers; they need not sum to 1. ``None`` means 1/L
        each.

    Raises:
        ArgumentError: unknown kind, ``L < 1``, or weights that are not L positive finite numbers.

    Source: Theorem 2 of the NeuralSVD workshop paper (joint); the ICML 2024 paper (sequential).

    Example:
        >>> Nesting.joint(2).vector.tolist()
        [1.0, 0.5]
        >>> Nesting.joint(2).matrix.tolist()
        [[1.0, 0.5], [0.5, 0.5]]
        >>> Nesting.sequential(2).matrix.tolist()
        [[1.0, 1.0], [0.0, 1.0]]
    """

    kind: str
    L: int
    weights: tuple[float, ...] | None = None
    _cache: dict[tuple[torch.dtype, torch.device], Masks] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        nearest("nesting", self.kind, KINDS)
        object.__setattr__(self, "L", _length(self.L))
        if self.kind == "joint":
            weights = (1.0 / self.L,) * self.L if self.weights is None else _positive(self.weights, self.L)
            object.__setattr__(self, "weights", weights)
        elif self.weights is not None:
            raise ArgumentError(
                "weights",
                got=f"weights for {self.kind!r} nesting",
                expected="None",
                remedy="Only joint nesting has weights.",
            )

    @classmethod
    def joint(cls, L: int, weights: Iterable[float] | None = None) -> "Nesting":
        """One weighted sum of the losses of the first 1..L components; ``weights`` (L,) > 0, default 1/L."""
        return cls("joint", L, None if weights is None else _floats(weights))

    @classmethod
    def sequential(cls, L: int) -> "Nesting":
        """Each component sees those before it as fixed."""
        return cls("sequential", L)

    @classmethod
    def none(cls, L: int) -> "Nesting":
        """No nesting: the top-L subspace, up to a change of basis."""
        return cls("none", L)

    @property
    def vector(self) -> Float[Tensor, " L"]:
        r"""(L,) float64: :math:`m_l = \sum_{i \ge l} w_i` for joint, ones otherwise."""
        if self.weights is None:
            return torch.ones(self.L, dtype=torch.float64)
        m = list(accumulate(reversed(self.weights)))[::-1]
        return torch.tensor(m, dtype=torch.float64)

    @property
    def matrix(self) -> Float[Tensor, "L L"]:
        """(L, L) float64: ``m[max(i, l)]`` for joint, ones for none, upper triangular ones for sequential."""
        if self.kind == "sequential":
            return torch.ones(self.L, self.L, dtype=torch.float64).triu()
        return self._loss()

    def _loss(self) -> Float[Tensor, "L L"]:
        # The sequential field belongs to no loss, so its reported value is the un-nested one: ones.
        index = torch.arange(self.L)
        return self.vector[torch.maximum(index[:, None], index[None, :])]

    def masks(self, like: Tensor) -> Masks:
        """The masks in the dtype and on the device of ``like``, made once for each.

        Call it once before capturing a CUDA graph: a compiled function reads what is kept but keeps nothing
        itself, for what is made inside a graph lives in memory that the next replay overwrites.
        """
        key = (like.dtype, like.device)
        kept = self._cache.get(key)
        if kept is not None:
            return kept
        if torch.compiler.is_compiling():
            return self._make(like)
        # Masks first asked for in inference mode must still serve in training.
        with torch.inference_mode(False):
            return self._cache.setdefault(key, self._make(like))

    def _make(self, like: Tensor) -> Masks:
        vector, matrix, loss = (
            mask.to(device=like.device, dtype=like.dtype) for mask in (self.vector, self.matrix, self._loss())
        )
        return Masks(vector, matrix, loss)


def check_nesting(nesting: Nesting, f: Tensor, argument: str = "f") -> None:
    """Raise ArgumentError unless ``nesting`` is one, and has as many components as ``f`` (B, L)."""
    if not isinstance(nesting, Nesting):
        raise ArgumentError(
            "nesting",
            got=nesting,
            expected="a Nesting",
            remedy=f"Nesting('joint', {f.shape[1]}) makes one from its name.",
        )
    if f.shape[1] != nesting.L:
        raise ArgumentError(
            "nesting",
            got=f"L = {nesting.L} with {argument} of shape {tuple(f.shape)}",
            expected=f"L = {f.shape[1]}, the number of columns of {argument}",
            remedy=f"Use Nesting({nesting.kind!r}, {f.shape[1]}).",
        )


def with_gradient(value: Tensor, surrogate: Tensor) -> Tensor:
    """A number with the value of one expression and the gradient of another.

    Both are ordinary tensors, so the result may be scaled, added or differentiated like any other loss.

    Example:
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> y = with_gradient(x, x**2)
        >>> y.backward()
        >>> y.item(), x.grad.item()
        (3.0, 6.0)
    """
    return value.detach() + (surrogate - surrogate.detach())


def _length(L: object) -> int:
    try:
        length = operator.index(L)  # type: ignore[arg-type]
    except TypeError:
        length = 0
    require(
        length >= 1 and not isinstance(L, bool),
        "L",
        got=repr(L),
        expected="an integer, at least 1",
        remedy="Ask for one component or more.",
    )
    return length


def _floats(weights: Iterable[float]) -> tuple[float, ...]:
    try:
        return tuple(float(w) for w in weights)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            "weights",
            got=repr(weights),
            expected="a sequence of L positive numbers",
            remedy="None means 1/L each.",
        ) from error


def _positive(weights: Iterable[float], L: int) -> tuple[float, ...]:
    values = _floats(weights)
    if len(values) != L:
        raise ArgumentError(
            "weights",
            got=f"{len(values)} weights",
            expected=f"{L} weights, one for each component",
            remedy="None means 1/L each.",
        )
    require(
        all(math.isfinite(w) and w > 0 for w in values),
        "weights",
        got=values,
        expected="positive finite numbers",
        remedy="A zero weight leaves neighbouring components unseparated; use a small positive one.",
    )
    return values
