"""A run by variable projection, from a problem to a result."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nbsvd._errors import TrainingDiverged, require
from nbsvd.measures import Counting, Empirical, Kind, Measure
from nbsvd.spectrum import History, Result
from nbsvd.training.heads import Heads, Sample, damping_for, sample
from nbsvd.training.models import default_network
from nbsvd.training.session import Session
from nbsvd.training.settings import SPECTRAL
from nbsvd.training.spectral import Objective
from nbsvd.training.start import Basis, Start, has_basis
from nbsvd.training.varpro import Placed, Projection, project, too_coarse

WIDTH, PER_VALUE = 64, 5  # of the last hidden layer: at least, and functions for each of the k values
# Nodes of one round where the caller does not choose, and those of the check, by dimension; of a kernel,
# whose matrix is their square, less.
NODES = {1: 600, 2: 3000, 3: 6000}
# A check on a sample needs more: it finds the heads, too, and they are no better than their nodes.
MANY, KERNEL, CHECK, CHECK_SAMPLE = 4000, 600, 3, 8
PER_FUNCTION = 8  # nodes for each function of the basis, at least
# The values of the independent nodes and those of others may differ by the first share and so many standard
# deviations of one set of nodes, but never by the last share of the largest. It takes nodes far too coarse.
DOUBT, SIGMAS, CRUDE = 0.01, 10.0, 0.2


class ProjectionSession(Session):
    """A session whose heads are eliminated: one trunk, lengths that adapt, all in float64."""

    data = False  # whether nodes are rows of a data set

    @property
    def last_width(self) -> int:
        """Width of the last hidden layer."""
        return max(WIDTH, PER_VALUE * self.k)

    def _functions(self, measure: Measure) -> nn.Module:
        c = self.choices
        if isinstance(measure, Counting) or not isinstance(c.network, Mapping):
            return super()._functions(measure)
        options = {"disjoint": False, "widths": (32, self.last_width), **c.network}
        made = default_network(self.problem, measure, self.k, self.generator, options, adaptive=True)
        return self._placed(made)

    @staticmethod
    def _inner(module: Any) -> Any:
        return getattr(module, "network", module)

    def start(self) -> Start:
        """Refuse functions without a basis; then solve the Ritz problem on the untrained ones."""
        for side in {self.pair.right, self.pair.left}:
            require(
                has_basis(side),
                "network",
                got=f"{type(self._inner(side)).__name__}, which has no basis, with method='varpro'",
                expected="functions whose heads combine a basis (first_basis, first_basis_jet, start_from)",
                remedy="Use method='sgd', or build on nbsvd.functions.MLP(..., disjoint=False).",
            )
        return super().start()

    def run(self, callbacks: Sequence[Callable[[Projection], Any]], progress: bool) -> Result:  # type: ignore[override]
        """Start, project and measure."""
        start, c = self.start(), self.choices
        right = Basis(self.pair.right)
        left = right if self.symmetric else Basis(self.pair.left)
        usual = self._usual(right, left)
        count = self.settings.batch_size or usual
        # Enough for the check whatever was asked for, and of a kernel, whose matrix is their square, no more.
        rule = self._kind(self.problem.measure, count, check=True) == "quadrature"
        many = (CHECK if rule else CHECK_SAMPLE) * max(count, usual)
        if not self.problem.operator.local:
            many = max(count, CHECK * usual)

        sides = (self.pair.right, self.pair.left)
        own = [getattr(self._inner(side), "head", None) for side in sides]
        heads = {id(p) for head in own if isinstance(head, nn.Module) for p in head.parameters()}
        parameters = [p for p in self.pair.parameters() if p.requires_grad and id(p) not in heads]
        objective = Objective(c.nesting, self.spectral, start.shift, self.threshold)
        untrained = copy.deepcopy(self.pair.state_dict())
        independent = self._independent(many)
        try:
            run = project(
                self.pair,
                parameters,
                self._place,
                self._evaluator(right, left, start, independent),
                independent,
                objective,
                self.settings,
                nodes=count,
                data=self.data,
                began=self.began,
                optimum=self._least(objective),
                callbacks=callbacks,
                progress=progress,
            )
        except TrainingDiverged as error:
            if isinstance(error.result, Projection):
                error.result = self._finish(error.result, start)
            raise
        return self._confirmed(run, start, untrained)

    @property
    def spectral(self) -> str:
        """What is maximised."""
        return self.settings.spectral or SPECTRAL[0]

    def _place(self, n: int, check: bool = False) -> Placed:
        """Place about n nodes on both sides, of the same kind as for a step or for the check."""
        x, y = (
            m.nodes(n, kind=self._kind(m, n, check), generator=self.generator, device=self.choices.device)
            for m in (self.problem.measure, self.problem.left_measure)
        )
        shared = self.symmetric and (self.problem.operator.local or x.kind == "quadrature")
        return x, x if shared else y

    def _independent(self, n: int) -> tuple[Placed, Placed]:
        """Place the nodes that heads are found on for the check, and those that judge them."""
        return self._place(n, check=True), self._place(n, check=True)

    def _evaluator(self, right: Basis, left: Basis, start: Start, independent: Any) -> Callable[..., Sample]:
        """Return what evaluates the bases on nodes."""
        damping = damping_for(start.values, start.shift)

        def evaluate(placed: Placed, **options: Any) -> Sample:
            T, shift = self.problem.operator, start.shift
            return sample(T, right, left, *placed, shift=shift, damping=damping, **options)

        return evaluate

    def _confirmed(self, run: Projection, start: Start, untrained: dict[str, Tensor]) -> Result:
        """Return the result if new nodes agree with it."""
        result = self._finish(run, start)
        assert run.heads is not None
        bound = int((run.heads.values[: self.k] > self.threshold).sum())  # others hold no promise
        spread = result.stderr * len(result.replicates) ** 0.5
        checked = run.heads.values[:bound].to(result.values)
        if bound == 0 or agree(result.values[:bound], spread[:bound], checked, start.shift):
            return result
        self.pair.load_state_dict(untrained)
        run.history.stopped = "contradicted"
        got = "values " + ", ".join(f"{value:.6g}" for value in run.heads.values[: self.k].tolist())
        found = ", ".join(f"{value:.6g}" for value in result.values.tolist())
        run.heads = Heads(start.values, start.right, start.left)
        said = too_coarse(f"{got} that new nodes contradict, on which they are {found}")
        raise TrainingDiverged(said, step=run.step, result=self._finish(run, start))

    def _finish(self, run: Projection, start: Start) -> Result:
        """Set the heads to the best ones on the independent nodes, and measure on others."""
        assert run.heads is not None
        heads = run.heads.first(self.k)
        self.pair.right.start_from(heads.right)  # type: ignore[operator]
        if not self.symmetric:
            self.pair.left.start_from(heads.left)  # type: ignore[operator]
        return self._result(self.pair, run.history, start)

    def _info(self, history: History, trained: float) -> dict[str, Any]:
        """Describe the run, with the function of the values that it maximised."""
        return super()._info(history, trained) | {"spectral": self.spectral}

    def _kind(self, measure: Measure, n: int, check: bool) -> Kind:
        """Return the kind of nodes: the most accurate there is, for the check whatever was asked for.

        Of a data set with more rows than nodes are wanted, some rows. A rule that is not centred on the
        singular points does not see them: the check is then made on a sample.
        """
        if isinstance(measure, Empirical) and len(measure.data) > n:
            return "iid"
        if check and not self._centred(measure):
            return "sobol"
        return measure.evaluation_kind if check or self.settings.kind is None else self.settings.kind

    def _centred(self, measure: Measure) -> bool:
        """Tell whether the law of a measure has its centres on all singular points of a local operator."""
        T = self.problem.operator
        if not T.local or measure.dim == 1 or "sobol" not in measure.kinds:
            return True
        centers = [part.center for part in measure.parts or (measure,)]
        return all(any(math.dist(p, c) < 1e-9 for c in centers) for p in T.singular_points)

    def _usual(self, right: Basis, left: Basis) -> int:
        """Return how many nodes a round begins with where the caller does not choose."""
        usual = NODES.get(self.problem.measure.dim, MANY) if self.problem.operator.local else KERNEL
        return max(usual, PER_FUNCTION * max(map(self._width, (right, left))))

    def _width(self, basis: Basis) -> int:
        """Return how many functions a basis has."""
        probe = self.problem.measure if basis.model is self.pair.right else self.problem.left_measure
        nodes = probe.nodes(1, kind="iid", generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            return int(basis(nodes.x.to(self.choices.device)).shape[1])

    def _least(self, objective: Objective) -> float | None:
        """Return the least possible objective, where the exact values are known."""
        exact = self.problem.exact
        return None if exact is None else objective.of(exact.values(self.k))[0]


def agree(measured: Tensor, spread: Tensor, values: Tensor, shift: float) -> bool:
    """Tell whether values measured on new nodes are those of the independent ones.

    Arguments:
        measured: values on new nodes.
        spread: their standard deviations from one set of nodes to another.
        values: those of the independent nodes.
        shift: a number that makes them positive when added.

    Example:
        >>> values = torch.tensor([1.0, 0.5])
        >>> [agree(values + d, 0 * values, values, 0.0) for d in (0.004, 0.04)]
        [True, False]
        >>> agree(values + 0.04, 0 * values + 0.01, values, 0.0)
        True
    """
    size = (values + shift).abs()
    room = (DOUBT * size + SIGMAS * spread).clamp_max(CRUDE * float(size.max()))
    return bool(((measured - values).abs() <= room).all())
