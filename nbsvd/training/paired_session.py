"""A run by variable projection for a conditional expectation, whose nodes are pairs."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nbsvd.measures import Empirical, PairLaw, Pairs
from nbsvd.spectrum import Result
from nbsvd.training.heads import Sample
from nbsvd.training.paired import PairedSample, best_roughness
from nbsvd.training.projection import ProjectionSession
from nbsvd.training.start import Basis, Start
from nbsvd.training.varpro import Placed, Projection

# Pairs of one round at most, whose cost is linear; of the check and of the final heads.
ROUND, MOST = 2**15, 2**20
# From which the roughness of a data set's functions is chosen.
ROUGH = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
DATA_WIDTH = 4  # functions of the basis for each of the k values: of data every one costs accuracy


class PairedSession(ProjectionSession):
    """Variable projection on pairs: VAMP-2 of a trained basis, stopped by pairs that were held out."""

    @property
    def data(self) -> bool:  # type: ignore[override]
        """Whether all there is are some rows of a data set, a sample of the law."""
        law = None if self.parts is None else self.parts.train
        return isinstance(law, Pairs) and not law.complete

    @property
    def spectral(self) -> str:
        """What is maximised: of data the squares, for a value that is noise may be negative."""
        return self.settings.spectral or ("lora" if self.data else super().spectral)

    @property
    def last_width(self) -> int:
        """Width of the last hidden layer."""
        return max(16, DATA_WIDTH * self.k) if self.data else super().last_width

    def _usual(self, right: Basis, left: Basis) -> int:
        """Return how many pairs a round begins with where the caller does not choose."""
        return ROUND

    def _place(self, n: int, check: bool = False) -> Placed:
        """Place n pairs to train on or for the check."""
        assert self.parts is not None
        return self._drawn(self.parts.check if check else self.parts.train, n)

    def _drawn(self, law: PairLaw, n: int) -> Placed:
        """Place n pairs of a law; of a data set all rows, if there are no more than that."""
        many = isinstance(law, Pairs) and self.data and len(law) > n
        kind = "iid" if many else self.settings.kind or law.evaluation_kind
        x, y = law.nodes(n, kind=kind, generator=self.generator, device=self.choices.device)
        # All rows of a sample are a sample still.
        return (replace(x, kind="iid"), replace(y, kind="iid")) if self.data else (x, y)

    def _independent(self, n: int) -> tuple[Placed, Placed]:
        """Place the pairs that heads are found on for the check, and those that judge them.

        Of a data set the first are all that are trained on: heads are few, and want many pairs.
        """
        if not self.data:
            return super()._independent(n)
        assert self.parts is not None
        return self._drawn(self.parts.train, MOST), self._drawn(self.parts.check, MOST)

    def _evaluator(self, right: Basis, left: Basis, start: Start, independent: Any) -> Callable[..., Sample]:
        """Return what evaluates the bases on pairs, of data with the roughness that suits them."""
        lengths = self._lengths()

        def evaluate(placed: Placed, rough: float = 0.0, **options: Any) -> PairedSample:
            return PairedSample(right, left, *placed, shift=start.shift, rough=rough, lengths=lengths)

        if not self.data:
            return evaluate
        with torch.no_grad():
            rough = best_roughness(evaluate(independent[0]), self.choices.nesting.vector, ROUGH)
        return partial(evaluate, rough=rough)

    def _lengths(self) -> tuple[float, float]:
        """Return the lengths of both measures; of data those of the pairs that are trained on."""
        train = None if self.parts is None else self.parts.train
        p = self.problem
        sides = (
            (Empirical(train.x), Empirical(train.y))
            if isinstance(train, Pairs)
            else (p.measure, p.left_measure)
        )
        return sides[0].length or 1.0, sides[1].length or 1.0

    def _confirmed(self, run: Projection, start: Start, untrained: dict[str, Tensor]) -> Result:
        """Find the final heads of a data set on all pairs but those of the test, roughness chosen anew."""
        if not self.data:
            return super()._confirmed(run, start, untrained)
        assert self.parts is not None
        train, check = self.parts.train, self.parts.check
        assert isinstance(train, Pairs)
        assert isinstance(check, Pairs)
        right = Basis(self.pair.right)
        left = right if self.symmetric else Basis(self.pair.left)
        with torch.no_grad():
            both = self._drawn(train.joined(check), MOST)
            run.heads = self._evaluator(right, left, start, (both, both))(both).heads()
        return self._finish(run, start)
