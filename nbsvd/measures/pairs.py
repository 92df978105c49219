"""Data sets of pairs: rows that belong together, trajectories, tables of probabilities, graphs."""

from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from nbsvd._errors import require
from nbsvd.measures.base import Kind, Measure
from nbsvd.measures.empirical import Empirical
from nbsvd.measures.joint import Draw, PairLaw, Parts
from nbsvd.measures.tables import as_rows, as_weights, drawn

# Shares of a data set: what is trained on, what early stopping and reports look at. On the rest values are
# measured.
TRAIN, CHECK = 0.7, 0.1
SPLIT_SEED = 1907  # the same rows in the same part, whatever the seed of a run
LEAST = 20  # pairs of a data set that can be divided
LARGEST = 2**27  # numbers in the points of a table


class Pairs(PairLaw):
    r"""A data set of pairs ``(x_b, y_b)``, from one joint law.

    In training, rows are drawn at random: ``(1/B) sum_b h(x_b, y_b)`` is then unbiased for the mean over the
    data set, which is an estimate of the mean over the law.

    Arguments:
        x: ``(N, d)``, a tensor or an array.
        y: ``(N, d')``, row by row the partners of x.
        weights: positive, ``(N,)``; all the same unless given. Rows are drawn in proportion to them.
        ordered: whether the rows are in the order of time, so that neighbours depend on each other: the data
            are then divided into contiguous parts, and error bars come from contiguous blocks.
        complete: whether the rows are the whole law, as of a table of probabilities, and not a sample of it:
            nothing is then held out, and values have no error.
        gap: rows left out between two parts of an ordered data set, a twentieth of it at most.
        law_x, law_y: the laws of x and y where they are known, for reports and reference.

    Raises:
        ArgumentError: points that are not ``(N, d)``, of different number, NaN or infinite; no pairs at all;
            weights that are not positive.

    Example:
        >>> x = torch.randn(100, 1, generator=torch.Generator().manual_seed(0))
        >>> pairs = Pairs(x, x**2)
        >>> len(pairs), [len(part) for part in (pairs.parts().train, pairs.parts().test)]
        (100, [70, 20])
    """

    exchangeable = False  # whether each pair is there in both orders
    together = 1  # neighbouring rows that are one observation: no part and no block takes a share of them

    def __init__(
        self,
        x: Any,
        y: Any,
        *,
        weights: Any = None,
        ordered: bool = False,
        complete: bool = False,
        gap: int = 0,
        law_x: Measure | None = None,
        law_y: Measure | None = None,
    ) -> None:
        self.x, self.y = as_rows("x", x), as_rows("y", y)
        require(
            len(self.x) == len(self.y),
            "x, y",
            got=f"{len(self.x)} points x and {len(self.y)} points y",
            expected="as many of each: row b of x belongs to row b of y",
            remedy="Cut both to the rows that have a partner.",
        )
        self.weights = None if weights is None else as_weights(weights, len(self.x))
        self.ordered, self.complete, self.gap = ordered, complete, gap
        self.law_x, self.law_y = law_x, law_y
        for name, law, points in (("law_x", law_x, self.x), ("law_y", law_y, self.y)):
            require(
                law is None or (isinstance(law, Measure) and law.dim == points.shape[1]),
                name,
                got=type(law).__name__ if not isinstance(law, Measure) else f"a law in {law.dim} dimensions",
                expected=f"None, or a Measure in {points.shape[1]} dimensions, as the points",
            )
        self.first: Measure = law_x or Empirical(self.x, self.weights)
        self.second: Measure = law_y or Empirical(self.y, self.weights)

    @classmethod
    def from_trajectory(cls, states: Any, lag: int = 1, **fields: Any) -> "Pairs":
        r"""Return the pairs (future, present) of one trajectory or several.

        ``x_t = s_{t + lag}`` and ``y_t = s_t``: the conditional expectation ``E[f(X) | Y = y]`` is then the
        Koopman operator over this lag, and its right functions are functions of the future state.

        Arguments:
            states: ``(T, d)``, or a list of such.
            lag: number of steps from present to future.
            fields: ``law_x``, ``law_y``.

        Raises:
            ArgumentError: a trajectory no longer than the lag, or of another number of coordinates.

        Example:
            >>> pairs = Pairs.from_trajectory(torch.arange(5.0)[:, None], lag=2)
            >>> pairs.y[:, 0].tolist(), pairs.x[:, 0].tolist()
            ([0.0, 1.0, 2.0], [2.0, 3.0, 4.0])
        """
        several = isinstance(states, (list, tuple)) and len(states) > 0 and np.ndim(states[0]) > 1
        parts = [as_rows("states", s) for s in (states if several else [states])]
        require(
            isinstance(lag, int) and not isinstance(lag, bool) and lag >= 1,
            "lag",
            got=repr(lag),
            expected="an integer, at least 1",
            remedy="It is the number of steps between present and future.",
        )
        require(
            len({part.shape[1] for part in parts}) == 1,
            "states",
            got=f"trajectories with {sorted({part.shape[1] for part in parts})} coordinates",
            expected="the same coordinates in each",
        )
        shortest = min(len(part) for part in parts)
        require(
            shortest > lag,
            "lag",
            got=f"{lag} with a trajectory of {shortest} states",
            expected=f"a lag of at most {shortest - 1}",
            remedy="Take a longer trajectory or a shorter lag; leave out trajectories that are too short.",
        )
        future = torch.cat([part[lag:] for part in parts])
        present = torch.cat([part[:-lag] for part in parts])
        return cls(future, present, ordered=True, gap=lag, **fields)

    @classmethod
    def from_table(cls, table: Any) -> "Pairs":
        r"""Return the whole law of two discrete variables from its table of probabilities.

        A point is the unit vector of its value, so that a network on it can be any function of the value.

        Arguments:
            table: ``P[i, j]`` in proportion to the probability of ``y = i`` and ``x = j``, ``(n_y, n_x)``.

        Raises:
            ArgumentError: negative, NaN or infinite entries; a row or column of zeros.

        Example:
            >>> pairs = Pairs.from_table([[0.4, 0.1], [0.0, 0.5]])
            >>> len(pairs), pairs.x[0].tolist()
            (3, [1.0, 0.0])
        """
        P = as_rows("table", table).double()
        fine = bool((P >= 0).all()) and bool((P.sum(0) > 0).all()) and bool((P.sum(1) > 0).all())
        require(
            fine,
            "table",
            got="negative entries, or a row or column of zeros",
            expected="probabilities, with each value of x and y possible",
            remedy="Leave out values that never occur.",
        )
        i, j = torch.nonzero(P, as_tuple=True)
        require(
            len(i) * sum(P.shape) <= LARGEST,
            "table",
            got=f"{len(i)} possible pairs of {P.shape[0]} and {P.shape[1]} values",
            expected=f"at most {LARGEST} numbers, one for each pair and value",
            remedy="Decompose the normalised table: Matrix(P / sqrt(outer(P.sum(1), P.sum(0)))).",
        )
        eye_x, eye_y = (torch.eye(n, dtype=torch.float64) for n in (P.shape[1], P.shape[0]))
        return cls(eye_x[j], eye_y[i], weights=P[i, j], complete=True)

    @classmethod
    def from_graph(cls, adjacency: Any, features: Any) -> "Pairs":
        r"""Return the ends of a random edge of a graph, as features of nodes; both directions.

        The conditional expectation given one end is the random walk ``P = D^{-1} A``, self-adjoint under the
        law of a node in proportion to its degree. With ``Conditional(pairs, reversible=True)`` its
        eigenvalues are ``1 - mu``, mu those of the normalised Laplacian ``I - D^{-1/2} A D^{-1/2}``.

        Arguments:
            adjacency: symmetric, nonnegative weights of the edges, ``(n, n)``, dense or SciPy sparse.
            features: ``(n, d)``.

        Raises:
            ArgumentError: an adjacency that is not square, symmetric and nonnegative, a node without edges,
                or another number of features.

        Example:
            >>> pairs = Pairs.from_graph([[0, 1], [1, 0]], [[0.0], [1.0]])
            >>> pairs.x[:, 0].tolist(), pairs.y[:, 0].tolist()
            ([1.0, 0.0], [0.0, 1.0])
        """
        nodes = as_rows("features", features)
        A = scipy.sparse.coo_array(adjacency if scipy.sparse.issparse(adjacency) else np.asarray(adjacency))
        n = len(nodes)
        require(
            A.shape == (n, n),
            "adjacency",
            got=f"shape {A.shape} with features of {n} nodes",
            expected=f"shape ({n}, {n})",
        )
        A = A.tocsr().astype(np.float64)
        fine = np.isfinite(A.data).all() and (A.data >= 0).all()
        symmetric = fine and abs(A - A.T).max() <= 1e-12 * max(A.max(), 1e-300)
        require(
            bool(symmetric),
            "adjacency",
            got="negative, NaN or infinite entries" if not fine else "a matrix other than its transpose",
            expected="symmetric, nonnegative weights",
            remedy="Of a directed graph take A + A.T.",
        )
        A.eliminate_zeros()
        lonely = np.flatnonzero(A.sum(axis=1) == 0)
        require(
            len(lonely) == 0,
            "adjacency",
            got=f"{len(lonely)} nodes without an edge, such as node {lonely[0] if len(lonely) else 0}",
            expected="at least one edge at each node",
            remedy="Leave these nodes out: the random walk has nowhere to go from them.",
        )
        edges = A.tocoo()
        i, j = (torch.from_numpy(index.astype(np.int64)) for index in edges.coords)
        both = cls(nodes[j], nodes[i], weights=torch.from_numpy(edges.data), complete=True)
        both.exchangeable = True
        return both

    def __len__(self) -> int:
        return len(self.x)

    @property
    def size(self) -> float:
        """The sum of the weights, the number of pairs unless there are any."""
        return float(len(self)) if self.weights is None else float(self.weights.sum())

    def __repr__(self) -> str:
        return f"Pairs({len(self)} pairs, x in {self.x.shape[1]} and y in {self.y.shape[1]} dimensions)"

    def config(self) -> dict[str, object]:
        """Describe the size of the data set; the data are not repeated."""
        return {"name": "Pairs", "rows": len(self), "dims": [self.x.shape[1], self.y.shape[1]]}

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Rows at random, or all of them at once."""
        return ("iid", "quadrature")

    def place(self, n: int, kind: Kind, generator: torch.Generator | None) -> Draw:
        """Draw n rows in proportion to their weights, or return all."""
        if kind == "quadrature":
            w = self.weights
            return self.x, self.y, torch.ones(len(self)) if w is None else w * (len(w) / w.sum())
        assert generator is not None
        rows = drawn(n, len(self), self.weights, generator)
        return self.x[rows], self.y[rows], torch.ones(n)

    def swapped(self) -> "Pairs":
        """Return the pairs (y, x)."""
        return self._with(self.y, self.x, self.weights, law_x=self.law_y, law_y=self.law_x)

    def symmetrised(self) -> "Pairs":
        """Return each pair in both orders, one after the other; if all are there already, the same pairs."""
        if self.exchangeable:
            return self
        x, y = torch.stack([self.x, self.y], 1), torch.stack([self.y, self.x], 1)
        weights = None if self.weights is None else self.weights.repeat_interleave(2)
        laws = [law for law in (self.law_x, self.law_y) if law is not None]
        require(
            len(laws) < 2 or laws[0].same_as(laws[1]),
            "law_x, law_y",
            got="two different laws",
            expected="one law, of either point of an exchangeable pair",
            remedy="Leave them out, or reversible=True.",
        )
        law = laws[0] if laws else None
        both = self._with(x.flatten(0, 1), y.flatten(0, 1), weights, law_x=law, law_y=law)
        both.together, both.exchangeable = 2 * self.together, True
        return both

    def rows(self, index: Any) -> "Pairs":
        """Return some of the pairs."""
        weights = None if self.weights is None else self.weights[index]
        some = self._with(self.x[index], self.y[index], weights)
        some.exchangeable = self.exchangeable and self.together > 1  # then both orders lie side by side
        return some

    def joined(self, other: "Pairs") -> "Pairs":
        """Return the pairs of both."""
        weights = None
        if self.weights is not None and other.weights is not None:
            weights = torch.cat([self.weights, other.weights])
        return self._with(torch.cat([self.x, other.x]), torch.cat([self.y, other.y]), weights)

    def _with(self, x: Tensor, y: Tensor, weights: Tensor | None, **changes: Any) -> "Pairs":
        kept = {"ordered": self.ordered, "complete": self.complete, "gap": self.gap}
        made = Pairs(x, y, weights=weights, **(kept | {"law_x": self.law_x, "law_y": self.law_y} | changes))
        made.together, made.exchangeable = self.together, self.exchangeable
        return made

    def parts(self) -> Parts:
        """Divide the data, at random or, if they are ordered, into stretches with a gap between.

        Raises:
            ArgumentError: fewer than 20 pairs.
        """
        if self.complete:
            return Parts(self, self, self)
        each = torch.arange(self.together)
        N = len(self) // self.together
        require(
            N >= LEAST,
            "pairs",
            got=f"{N} pairs",
            expected=f"at least {LEAST}: some are held out, to stop in time and to measure on",
            remedy="For a law whose table is known use Pairs.from_table, or complete=True.",
        )
        first, second = round(TRAIN * N), round((TRAIN + CHECK) * N)
        if self.ordered:
            gap = min(self.gap, N // LEAST)
            order = torch.arange(N)
            index = [order[: first - gap], order[first : second - gap], order[second:]]
        else:
            order = torch.randperm(N, generator=torch.Generator().manual_seed(SPLIT_SEED))
            index = [order[:first], order[first:second], order[second:]]
        return Parts(*(self.rows((piece[:, None] * self.together + each).flatten()) for piece in index))

    def blocks(self, count: int) -> "list[Pairs]":
        """Cut the pairs into stretches of equal length, one set only if they are the whole law."""
        if self.complete:
            return [self]
        whole = len(self) // self.together
        count = min(count, max(1, whole // 2))
        edges = [self.together * round(i * whole / count) for i in range(count + 1)]
        return [self.rows(slice(a, b)) for a, b in pairwise(edges)]
