"""One run from a problem to a result: build the functions, find the start, train, measure."""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nbsvd._device import surroundings
from nbsvd._errors import require
from nbsvd.functions import ConstantFirst, Table, WithFactor
from nbsvd.measures import Counting, Measure
from nbsvd.problems import Problem
from nbsvd.spectrum import History, Result, replicate
from nbsvd.spectrum.moments import PAIR_NODES, chunks, measure_moments, node_count, paired_moments
from nbsvd.spectrum.pencils import check_finite
from nbsvd.training.choices import Choices
from nbsvd.training.compiled import Compiled
from nbsvd.training.draws import Drawn
from nbsvd.training.frame import Frame, find_frame, unframed, warn_unbound
from nbsvd.training.gentle import gentle, long_enough
from nbsvd.training.losses import make_loss
from nbsvd.training.models import Pair, default_network
from nbsvd.training.objective import (
    Inverse,
    find_inverse,
    least_objective,
    sizes_at_optimum,
    told,
    unfit_for_omm,
)
from nbsvd.training.rescue import rescue
from nbsvd.training.settings import Settings
from nbsvd.training.start import MARGIN, Start, has_basis, ritz_start
from nbsvd.training.tables import least_value, minimise_tables, rate_of_samples, safe_shift
from nbsvd.training.trainer import Callback, Trainer, train

# A bounded operator's small values live in small directions of the start, which larger steps would destroy.
LR_AFTER_START, LR_AFTER_START_BOUNDED, LR_GENTLE, LR_COLD = 3e-3, 3e-4, 1e-2, 1e-2
MATRIX_STEPS = 100_000
CLEARLY = 1e-5  # share of the largest value by which a Ritz value must be negative to count as such


class Session:
    """A problem, its functions and its settings on the way to a result."""

    def __init__(self, problem: Problem, k: int, choices: Choices, settings: Settings, began: float) -> None:
        self.problem, self.k, self.choices, self.settings, self.began = problem, k, choices, settings, began
        self.generator = torch.Generator().manual_seed(choices.seed)
        self.frame = self._frame()
        if self.frame is not None:
            problem = self.problem = self.frame.applied(problem)
        pairs = problem.operator.pairs
        self.parts = None if pairs is None else pairs.parts()
        self.symmetric = problem.operator.self_adjoint
        right = self._functions(self.laws[0])
        left = right if self.symmetric else self._functions(self.laws[1])
        self.pair = Pair(right, left)
        self.operator, self.shift = problem.operator, 0.0
        self.inverse: Inverse | None = None
        self.compiled: Compiled | None = None

    def _frame(self) -> Frame | None:
        """Find where the functions live, for a problem that leaves that to us and with a network of ours.

        Variable projection finds it also where a round decay is declared: nothing is then set by hand.
        """
        c = self.choices
        leaves = unframed(self.problem, plain=c.method == "varpro")
        if not isinstance(c.network, Mapping) or c.preset is not None or not leaves:
            return None
        return find_frame(self.problem, self.k, self.generator)

    @property
    def laws(self) -> tuple[Measure, Measure]:
        """What networks are scaled to: both measures, of pairs as they are in the part trained on."""
        if self.parts is None:
            return self.problem.measure, self.problem.left_measure
        return self.parts.train.first, self.parts.train.second

    @property
    def threshold(self) -> float:
        """The top of the continuous spectrum, as far as it is known."""
        return -math.inf if self.frame is None else self.frame.threshold

    def _functions(self, measure: Measure) -> nn.Module:
        """Make the functions of one side: a table, our network, or one of the user's times the ansatz."""
        if isinstance(measure, Counting):
            return Table(self.k, measure.n, generator=self.generator)
        c = self.choices
        if isinstance(c.network, Mapping):
            return self._placed(default_network(self.problem, measure, self.k, self.generator, c.network))
        module = c.network(self.generator)
        require(
            isinstance(module, nn.Module),
            "network",
            got=type(module).__name__,
            expected="an nn.Module",
            remedy="Let the function return the module itself.",
        )
        if self.problem.ansatz is not None and measure.same_as(self.problem.measure):
            module = WithFactor(module, copy.deepcopy(self.problem.ansatz))
        module = self._placed(module)
        probe = measure.nodes(4, kind="iid", generator=torch.Generator().manual_seed(0))
        f = module(probe.to(dtype=c.dtype, device=c.device).x)
        require(
            isinstance(f, Tensor) and f.shape == (len(probe), self.k),
            "network",
            got=f"values of shape {tuple(f.shape)} at {len(probe)} points"
            if isinstance(f, Tensor)
            else type(f).__name__,
            expected=f"shape ({len(probe)}, {self.k}): one column for each of the k components",
            remedy=f"Let its last layer have {self.k} outputs.",
        )
        return module

    def _placed(self, module: nn.Module) -> nn.Module:
        module = module if self.parts is None else ConstantFirst(module, self.k)
        return module.to(device=self.choices.device, dtype=self.choices.dtype)

    def start(self) -> Start:
        """Solve the Ritz problem on the untrained functions, shift the operator, set the heads if asked."""
        p, c = self.problem, self.choices
        right: Any = self.pair.right  # only some modules have heads to set
        left: Any = self.pair.left
        if isinstance(right, Table) and isinstance(left, Table):
            self._sketch(right, left)
        ready = has_basis(right) and has_basis(left)
        bases = (right, left) if ready else self._stand_in()
        start = ritz_start(
            p.operator,
            bases[0],
            bases[1],
            p.measure,
            p.left_measure,
            self.k,
            generator=self.generator,
            device=_with_float64(c.device),
            parts=self.parts,
            exact=p.exact,
        )
        least = start.least
        if self.symmetric:
            if c.objective != "spin":  # whose order needs no positive values, and whose averages suffer
                self.shift = start.shift
            if isinstance(right, Table):
                least = least_value(p.operator, float(start.values[0]), generator=self.generator)
                if c.objective == "lora":
                    self.shift = safe_shift(start.values, least, start.shift)
            top = None if p.exact is None else float(p.exact.values(1)[0])
            self.inverse = find_inverse(self.settings.invert, start.values, MARGIN, top)
            if self.inverse is not None:
                self.shift = 0.0
            self.operator = p.operator.shift(self.shift)
        if c.objective == "omm" and self.inverse is None and least < -CLEARLY * abs(float(start.values[0])):
            raise unfit_for_omm(f"{type(p.operator).__name__}, which has values down to {least:.3g} or lower")
        self.warm = c.warm_start == "ritz" and ready
        if self.warm:
            sizes = sizes_at_optimum(c.objective, start.values, self.shift, self.inverse)
            begin = gentle(start, self.symmetric) if self._gentle else start
            for side, coefficients in zip((right, left), begin.scaled(sizes), strict=True):
                side.start_from(coefficients)
        return start

    @property
    def _gentle(self) -> bool:
        """Whether training starts without what larger steps would destroy: of kernels, under LoRA."""
        kernel = (
            self.operator.bounded and not isinstance(self.pair.right, Table) and self.operator.pairs is None
        )
        plain = self.choices.method == "sgd" and self.choices.objective == "lora"
        return kernel and plain and long_enough(self.settings)

    def _stand_in(self) -> tuple[nn.Module, nn.Module]:
        """Make networks of ours, for what has to be known of the spectrum where the user's have no basis."""
        p, options = self.problem, {"widths": (32, max(32, 2 * self.k))}
        right = self._placed(default_network(p, self.laws[0], self.k, self.generator, options))
        if self.symmetric:
            return right, right
        return right, self._placed(default_network(p, self.laws[1], self.k, self.generator, options))

    def _sketch(self, right: Table, left: Table) -> None:
        """Let the untrained bases be images of a random table: the range finder of a randomized SVD."""
        T = self.problem.operator
        x = self.problem.measure.nodes(1, kind="quadrature")
        y = self.problem.left_measure.nodes(1, kind="quadrature")
        left.trial = torch.linalg.qr(T.apply(right.first_basis, y.x, x).to(left.trial)).Q
        if not self.symmetric:
            right.trial = torch.linalg.qr(T.adjoint.apply(left.first_basis, x.x, y).to(right.trial)).Q

    def loss(self) -> Drawn:
        """Return the function that draws nodes and estimates the objective on them."""
        drawn = make_loss(
            self.operator,
            (self.problem.measure, self.problem.left_measure),
            None if self.parts is None else self.parts.train,
            self.pair,
            self.choices,
            self.settings,
            shift=self.shift,
            inverse=self.inverse,
            generator=self.generator,
        )
        self.compiled = drawn.estimate if isinstance(drawn.estimate, Compiled) else None
        return drawn

    def values(self) -> Callable[[nn.Module], Tensor]:
        """Return the function that measures values on fixed nodes, independent of training, for reports."""
        p, n = self.problem, node_count(self.problem.operator, self.problem.measure) // 4
        generator = torch.Generator().manual_seed(self.choices.seed + 1)
        where: dict[str, Any] = {"dtype": self.choices.dtype, "device": self.choices.device}
        if self.parts is not None:
            law = self.parts.check
            x, y = law.nodes(n, kind=law.evaluation_kind, generator=generator, **where)
        else:
            x, y = (
                m.nodes(n, kind=m.evaluation_kind, generator=generator, **where)
                for m in (p.measure, p.left_measure)
            )

        def values_of(pair: nn.Module) -> Tensor:
            assert isinstance(pair, Pair)
            if self.parts is None:
                found = measure_moments(p.operator, pair.right, pair.left, x, y)
            else:
                found = paired_moments(pair.right, pair.left, x, y)
            mix = pair.mix if pair.mix is None else pair.mix.to(found.gram_f)
            return (found if mix is None else found.mixed(mix, mix)).quotients()

        return values_of

    def run(self, callbacks: Sequence[Callback], progress: bool) -> Result:
        """Start, train and measure."""
        right, left = self.pair.right, self.pair.left
        tables = isinstance(right, Table) and self.choices.objective == "lora" and self.settings.kind != "iid"
        require(
            not (tables and callbacks),
            "callbacks",
            got="callbacks for a matrix",
            expected="none: its exact sums are not minimised by the Trainer that callbacks see",
            remedy="Use kind='iid' to train a matrix by stochastic gradients.",
        )
        start = self.start()
        values_of = self.values()
        if tables:
            assert isinstance(right, Table)
            assert isinstance(left, Table)
            history = minimise_tables(
                self.operator,
                right,
                left,
                self.choices.nesting,
                lambda: values_of(self.pair),
                steps=MATRIX_STEPS if self.settings.steps is None else self.settings.steps,
                seconds=self.settings.seconds,
                began=self.began,
                progress=progress,
                rescue=lambda history: self._result(self.pair, history, start),
            )
            history.optimum = self._optimum()
            return self._result(self.pair, history, start)
        seen: list[Trainer] = []
        with rescue(seen, lambda t: self._result(t.averaged.module, t.history, start)):
            run = train(
                self.pair,
                self.loss(),
                values_of,
                self.settings,
                lr=self.settings.lr or self._learning_rate(start),
                began=self.began,
                optimum=self._optimum(),
                callbacks=[seen.append, *callbacks],
                progress=progress,
            )
            result = self._result(run.averaged.module, run.history, start)
        return result

    def _learning_rate(self, start: Start) -> float:
        if isinstance(self.pair.right, Table) and self.settings.kind == "iid":
            return rate_of_samples(start.values + self.shift, self.pair.right, self.pair.left)
        if not self.warm:
            return LR_COLD
        if self._gentle:
            return LR_GENTLE
        return LR_AFTER_START_BOUNDED if self.operator.bounded else LR_AFTER_START

    def _optimum(self) -> float | None:
        """Return the least possible loss, where the exact values are known."""
        exact = self.problem.exact
        if exact is None:
            return None
        c = self.choices
        return least_objective(c.objective, c.nesting, exact.values(self.k), self.shift, self.inverse)

    def _result(self, module: nn.Module, history: History, start: Start) -> Result:
        """Measure the functions in float64, on nodes that training has not seen."""
        trained = time.perf_counter()
        p, device = self.problem, _with_float64(self.choices.device)
        pair = copy.deepcopy(module).to(device=device, dtype=torch.float64).requires_grad_(False)
        assert isinstance(pair, Pair)
        self._centre(pair)
        parts = replicate(
            p.operator,
            pair.right,
            pair.left,
            p.measure,
            p.left_measure,
            generator=self.generator,
            device=device,
            pairs=None if self.parts is None else self.parts.test,
        )
        check_finite(*(M for part in parts for M in (part.gram_f, part.gram_g, part.form)))
        control = start.control.errors() if p.exact is not None else {}
        result = Result.from_models(
            pair.right,
            pair.left,
            parts,
            mix=pair.mix,
            operator=p.operator,
            measure_x=p.measure,
            measure_y=p.left_measure,
            exact=p.exact,
            history=history,
            control=control,
            info=self._info(history, trained) | {"untrained": start.control.values.tolist()},
        )
        warn_unbound(result.values.tolist(), self.threshold)
        if self.inverse is not None:
            self.inverse.warn(result.values)
        return result

    @torch.no_grad()
    def _centre(self, pair: Pair) -> None:
        """Subtract the functions' means over the pairs trained on, where the constant is a component."""
        if self.parts is None:
            return
        law, device = self.parts.train, self.choices.device
        x, y = law.nodes(PAIR_NODES, kind=law.evaluation_kind, generator=self.generator, device=device)
        sides = ((pair.right, (x, y)),) if pair.twin else ((pair.right, (x,)), (pair.left, (y,)))
        for side, nodes in sides:
            means = torch.stack(
                [share * piece.integrate(side(piece.x)) for n in nodes for share, piece in chunks(n)]
            )
            side.centre(means.sum(0)[1:] / len(nodes))  # type: ignore[operator]

    def _info(self, history: History, trained: float) -> dict[str, Any]:
        c = self.choices
        return {
            "problem": self.problem.name,
            "options": dict(self.problem.options),
            "unit": self.problem.unit,
            "method": c.method,
            "objective": c.objective,
            "nesting": c.nesting.kind,
            "objective_settings": told(self.settings, self.inverse),
            "warm_start": "ritz" if self.warm else None,
            "preset": c.preset,
            "shift": self.shift,
            "compiled": self.compiled is not None and self.compiled.works,
            "frame": None if self.frame is None else self.frame.config(),
            "steps": history.step[-1] if history.step else 0,
            "stopped": history.stopped,
            "seconds": trained - self.began,
            "seconds_total": time.perf_counter() - self.began,
            "seed": c.seed,
            "device": str(c.device),
            "dtype": str(c.dtype).removeprefix("torch."),
            **surroundings(),
        }


def _with_float64(device: torch.device) -> torch.device:
    """Return the device, or the CPU for one without float64."""
    return torch.device("cpu") if device.type == "mps" else device
