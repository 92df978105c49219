"""Predictions with a learned Koopman operator: expectations of the future, and how sure they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nbsvd._errors import ArgumentError, require
from nbsvd.measures import PairLaw, Pairs
from nbsvd.spectrum import Spectrum

BLOCKS = 8
LAW_PAIRS = 2**17  # drawn where the pairs are a law
PIECE = 2**14


@dataclass(frozen=True)
class Prediction:
    """What is expected of an observable after 1, 2, ..., n steps.

    Attributes:
        mean: conditional expectation ``E[h(X_j) | X_0 = y]``, ``(n, B, m)``.
        spread: conditional standard deviation of ``h(X_j)``, how far the future itself scatters,
            ``(n, B, m)``.
        stderr: standard error of ``mean``, from blocks of the data, ``(n, B, m)``. It does not know what the
            learned functions leave out.
    """

    mean: Tensor
    spread: Tensor
    stderr: Tensor


@dataclass(frozen=True)
class _Sums:
    """Over one block of pairs: ``<g|g>``, the mean of g times g at the future, the share of rows."""

    gram: Tensor
    step: Tensor
    share: float


class Koopman:
    r"""The Koopman operator compressed to learned functions of the present state.

    With g the k left singular functions of ``(T h)(y) = E[h(X) | Y = y]``, Y the present and X the future
    state, what T does inside their span is a matrix,

    .. math:: K = \langle g|g\rangle^{-1}\, E[g(Y)\, g(X)^T], \qquad
              c = \langle g|g\rangle^{-1}\, E[g(Y)\, h(X)^T], \qquad
              E[h(X_n) | X_0 = y] \approx g(y)^T K^{n-1} c .

    That is extended dynamic mode decomposition (EDMD) with a learned dictionary, k functions small.

    Arguments:
        result: a solved conditional expectation with states as points on both sides.
        pairs: (future, present) to take the means over; those of the problem unless given.
        blocks: number of stretches the pairs are cut in for standard errors.

    Raises:
        ArgumentError: a result of another operator, future and present of different dimension.

    Source: Williams, Kevrekidis and Rowley, J. Nonlinear Science 25 (2015), for EDMD; Wu and Noé,
    J. Nonlinear Science 30 (2020), for the singular functions.

    Example:
        >>> import nbsvd
        >>> problem = nbsvd.problems.gaussian_pair(0.5)
        >>> result = nbsvd.solve(problem, k=3, steps=0, progress=False)
        >>> K = Koopman(result)
        >>> p = K.predict(lambda x: x, torch.tensor([[1.0]]), steps=2)
        >>> [round(float(m), 1) for m in p.mean], p.spread.shape  # 0.5, 0.25
        ([0.5, 0.2], torch.Size([2, 1, 1]))
    """

    def __init__(self, result: Spectrum, pairs: PairLaw | None = None, *, blocks: int = BLOCKS) -> None:
        law = pairs or getattr(result.operator, "pairs", None)
        if not isinstance(law, PairLaw):
            raise ArgumentError(
                "result",
                got=f"a result of {type(result.operator).__name__}",
                expected="one of a conditional expectation of the future given the present",
                remedy="Solve Conditional(Pairs.from_trajectory(states, lag)).",
            )
        require(
            law.first.dim == law.second.dim == result.measure_y.dim,
            "pairs",
            got=f"x in {law.first.dim} and y in {law.second.dim} dimensions",
            expected=f"states of {result.measure_y.dim} coordinates on both sides",
        )
        if not isinstance(law, Pairs):
            x, y = law.nodes(LAW_PAIRS, kind="iid", generator=torch.Generator().manual_seed(0))
            law = Pairs(x.x, y.x)
        require(
            isinstance(blocks, int) and blocks >= 1,
            "blocks",
            got=repr(blocks),
            expected="an integer, at least 1",
            remedy="Leave it out for eight.",
        )
        self.result, self.pairs = result, law
        self.blocks: Sequence[Pairs] = law.blocks(blocks)
        self._sums = [self._summed(block) for block in self.blocks]

    def _pieces(self, block: Pairs) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return future, present and the weights over their sum, cut so that memory stays bounded."""
        w = torch.ones(len(block), dtype=torch.float64) if block.weights is None else block.weights
        w = w / w.sum()
        cut = zip(block.x.split(PIECE), block.y.split(PIECE), w.split(PIECE), strict=True)
        return [(x, y, share) for x, y, share in cut]

    def _summed(self, block: Pairs) -> _Sums:
        gram = step = torch.zeros((), dtype=torch.float64)
        for x, y, w in self._pieces(block):
            now, later = self.result.left(y), self.result.left(x)
            weighted = (w.to(now)[:, None] * now).t()
            gram, step = gram.to(now) + weighted @ now, step.to(now) + weighted @ later
        return _Sums(gram, step, block.size / self.pairs.size)

    def _solved(self, sums: Sequence[Tensor], left_out: int | None) -> Tensor:
        """Return ``<g|g>^{-1}`` times the mean of the sums, all blocks or all but one."""
        kept = [i for i in range(len(self._sums)) if i != left_out]
        gram = torch.stack([self._sums[i].share * self._sums[i].gram for i in kept]).sum(0)
        right = torch.stack([self._sums[i].share * sums[i] for i in kept]).sum(0)
        solved: Tensor = torch.linalg.lstsq(gram.cpu(), right.cpu(), driver="gelsd").solution
        return solved.to(gram)

    @property
    def matrix(self) -> Float[Tensor, "k k"]:
        """K: column j holds the coefficients of ``T g_j`` in the functions g."""
        return self._solved([s.step for s in self._sums], None)

    @property
    def eigenvalues(self) -> Tensor:
        """Eigenvalues of K, by descending modulus, complex, ``(k,)``; the constant's is 1."""
        values: Tensor = torch.linalg.eigvals(self.matrix.cpu())
        return values[values.abs().argsort(descending=True)]

    def timescales(self, lag_time: float = 1.0) -> Float[Tensor, " M"]:
        """Return the implied timescales ``-lag / log|lambda|`` of all eigenvalues but the first, ``(k-1,)``.

        Arguments:
            lag_time: time between present and future, in the unit that the answer is wanted in.

        Raises:
            ArgumentError: a lag that is not positive.
        """
        require(lag_time > 0, "lag_time", got=lag_time, expected="a positive time")
        return -lag_time / self.eigenvalues[1:].abs().clamp(1e-300, 1 - 1e-15).log()

    def predict(self, observable: Callable[[Tensor], Tensor], y: Tensor, steps: int = 1) -> Prediction:
        """Predict an observable from present states.

        Arguments:
            observable: h, maps states ``(B, d)`` to ``(B, m)``.
            y: present states, ``(B, d)``.
            steps: how many steps ahead.

        Raises:
            ArgumentError: a number of steps below 1; an observable of another shape, or not finite.
        """
        require(
            isinstance(steps, int) and steps >= 1,
            "steps",
            got=repr(steps),
            expected="an integer, at least 1",
            remedy="What is expected after no step is the observable itself.",
        )
        sums = [self._observed(observable, block) for block in self.blocks]
        g = self.result.left(y)
        mean, square = self._ahead(g, sums, steps, None)
        spread = (square - mean**2).clamp_min(0).sqrt()
        if len(self.blocks) == 1:
            return Prediction(mean, spread, torch.zeros_like(mean))
        n = len(self.blocks)
        others = torch.stack([self._ahead(g, sums, steps, i)[0] for i in range(n)])
        stderr = others.std(0, correction=0) * (n - 1) ** 0.5  # the jackknife
        return Prediction(mean, spread, stderr)

    def _observed(self, observable: Callable[[Tensor], Tensor], block: Pairs) -> Tensor:
        """Return the mean products of g at present with h and its square in the future, ``(k, 2 m)``."""
        total = torch.zeros((), dtype=torch.float64)
        for x, y, w in self._pieces(block):
            h = observable(x)
            fine = isinstance(h, Tensor) and h.ndim == 2 and len(h) == len(x)
            require(
                fine,
                "observable",
                got=f"shape {tuple(h.shape)}" if isinstance(h, Tensor) else type(h).__name__,
                expected=f"a tensor of shape ({len(x)}, m) for {len(x)} states",
                remedy="For one number a state return a column, such as x[:, :1].",
            )
            require(
                bool(torch.isfinite(h).all()),
                "observable",
                got="NaN or infinite values",
                expected="finite values",
            )
            now = self.result.left(y)
            both = torch.cat([h, h**2], 1).to(now)
            total = total.to(now) + (w.to(now)[:, None] * now).t() @ both
        return total

    def _ahead(
        self, g: Tensor, sums: Sequence[Tensor], steps: int, left_out: int | None
    ) -> tuple[Tensor, Tensor]:
        """Return the expectation of h and of its square, ``(n, B, m)`` each."""
        c = self._solved(sums, left_out)
        K = self._solved([s.step for s in self._sums], left_out)
        ahead = []
        for _ in range(steps):
            ahead.append(g @ c)
            c = K @ c
        mean, square = torch.stack(ahead).chunk(2, dim=2)
        return mean, square
