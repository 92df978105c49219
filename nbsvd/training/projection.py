"""A run by variable projection, from a problem to a result."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from nbsvd._errors import TrainingDiverged, require
from nbsvd.functions import Table
from nbsvd.measures import Counting, Measure
from nbsvd.spectrum import Result
from nbsvd.training.heads import Sample, sample
from nbsvd.training.models import default_network
from nbsvd.training.session import Session
from nbsvd.training.start import Basis, Start, has_basis
from nbsvd.training.varpro import Objective, Placed, Projection, project

WIDTH, PER_VALUE = 64, 5  # of the last hidden layer: at least, and functions for each of the k values
# Nodes of one round where the caller does not choose, and those of the check, by dimension; of a kernel,
# whose matrix is their square, less.
NODES = {1: 600, 2: 3000, 3: 6000}
MANY, KERNEL, CHECK = 10_000, 600, 3


class ProjectionSession(Session):
    """A session whose heads are eliminated: one trunk, lengths that adapt, all in float64."""

    def _functions(self, measure: Measure) -> nn.Module:
        c = self.choices
        if isinstance(measure, Counting) or not isinstance(c.network, Mapping):
            return super()._functions(measure)
        options = {"disjoint": False, "widths": (32, max(WIDTH, PER_VALUE * self.k)), **c.network}
        made = default_network(self.problem, measure, self.k, self.generator, options, adaptive=True)
        module = self._placed(made)
        size = self._inner(module).basis_size
        require(
            self.k <= size,
            "k",
            got=f"{self.k} with {size} functions to combine",
            expected=f"at most {size}",
            remedy="Widen the last hidden layer: network={'widths': (32, 256)}.",
        )
        return module

    @staticmethod
    def _inner(module: Any) -> Any:
        return getattr(module, "network", module)

    def start(self) -> Start:
        """Solve the Ritz problem on the untrained functions; no head is set."""
        for side in {self.pair.right, self.pair.left}:
            require(
                has_basis(side) and not isinstance(side, Table),
                "network",
                got=type(side).__name__,
                expected="functions whose heads combine a basis (first_basis, first_basis_jet, start_from)",
                remedy="Use method='sgd' for a matrix, or for a network without heads.",
            )
        return super().start()

    def run(self, callbacks: Sequence[Callable[[Projection], Any]], progress: bool) -> Result:  # type: ignore[override]
        """Start, project and measure."""
        start, c = self.start(), self.choices
        right = Basis(self.pair.right)
        left = right if self.symmetric else Basis(self.pair.left)
        count = self._count()

        def place(n: int) -> Placed:
            x, y = (
                m.nodes(
                    n, kind=self.settings.kind or m.evaluation_kind, generator=self.generator, device=c.device
                )
                for m in (self.problem.measure, self.problem.left_measure)
            )
            rule = self.symmetric and (self.problem.operator.local or x.kind == "quadrature")
            return x, x if rule else y

        def evaluate(placed: Placed, check: bool = False) -> Sample:
            return sample(self.problem.operator, right, left, *placed, check=check)

        sides = (self.pair.right, self.pair.left)
        heads = {id(p) for side in sides for p in self._inner(side).head.parameters()}
        parameters = [p for p in self.pair.parameters() if p.requires_grad and id(p) not in heads]
        objective = Objective(c.nesting, self.settings.spectral, start.shift, self.threshold)
        try:
            run = project(
                self.pair,
                parameters,
                place,
                evaluate,
                place(CHECK * count),
                objective,
                self.settings,
                nodes=count,
                began=self.began,
                optimum=self._least(objective),
                callbacks=callbacks,
                progress=progress,
            )
        except TrainingDiverged as error:
            if isinstance(error.result, Projection):
                error.result = self._finish(error.result, start)
            raise
        return self._finish(run, start)

    def _finish(self, run: Projection, start: Start) -> Result:
        """Set the heads to the best ones on the independent nodes, and measure on others."""
        assert run.heads is not None
        heads = run.heads.first(self.k)
        self.pair.right.start_from(heads.right)  # type: ignore[operator]
        if not self.symmetric:
            self.pair.left.start_from(heads.left)  # type: ignore[operator]
        return self._result(self.pair, run.history, start)

    def _count(self) -> int:
        """Return how many nodes a round begins with."""
        if self.settings.batch_size is not None:
            return self.settings.batch_size
        if not self.problem.operator.local:
            return KERNEL
        return NODES.get(self.problem.measure.dim, MANY)

    def _least(self, objective: Objective) -> float | None:
        """Return the least possible objective, where the exact values are known."""
        exact = self.problem.exact
        return None if exact is None else objective.of(exact.values(self.k))[0]
