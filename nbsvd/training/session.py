"""One run from a problem to a result: build the functions, find the start, train, measure."""

import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nbsvd._device import surroundings
from nbsvd._errors import require
from nbsvd.functions import Table
from nbsvd.measures import Pairs
from nbsvd.spectrum import History, Result, replicate
from nbsvd.spectrum.moments import PAIR_NODES, chunks, measure_moments, node_count, paired_moments
from nbsvd.spectrum.pencils import check_finite
from nbsvd.training.compiled import Compiled
from nbsvd.training.draws import Drawn
from nbsvd.training.frame import warn_unbound
from nbsvd.training.gentle import gentle, long_enough
from nbsvd.training.losses import make_loss
from nbsvd.training.models import Pair
from nbsvd.training.objective import (
    find_inverse,
    least_objective,
    sizes_at_optimum,
    told,
    unfit_for_omm,
)
from nbsvd.training.prepared import Prepared
from nbsvd.training.rescue import rescue
from nbsvd.training.start import MARGIN, Start, has_basis, ritz_start
from nbsvd.training.tables import least_value, minimise_tables, rate_of_samples, safe_shift
from nbsvd.training.trainer import Callback, Trainer, train

# A bounded operator's small values live in small directions of the start, which larger steps would destroy.
LR_AFTER_START, LR_AFTER_START_BOUNDED, LR_GENTLE, LR_COLD = 3e-3, 3e-4, 1e-2, 1e-2
MATRIX_STEPS = 100_000
CLEARLY = 1e-5  # share of the largest value by which a Ritz value must be negative to count as such


class Session(Prepared):
    """A problem, its functions and its settings on the way to a result."""

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
        """Whether training starts without what larger steps would destroy: of what integrates, under LoRA.

        Not of a graph or a table, whose pairs are all there: small batches of these are noisier than the Ritz
        solution is wrong.
        """
        law = self.problem.operator.pairs
        whole = isinstance(law, Pairs) and law.complete
        kernel = self.operator.bounded and not isinstance(self.pair.right, Table) and not whole
        plain = self.choices.method == "sgd" and self.choices.objective == "lora"
        return kernel and plain and long_enough(self.settings)

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
        law, device = self.parts.train, _with_float64(self.choices.device)
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
