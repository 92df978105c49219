"""One run from a problem to a result: build the functions, find the start, train, measure."""

import copy
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from nbsvd._errors import TrainingDiverged, require
from nbsvd.exact import lora_optimum
from nbsvd.functions import MLP, Features, Table, WithFactor
from nbsvd.measures import Counting, Measure, Nodes
from nbsvd.objectives import Nesting, choose, lora_evd, lora_svd, omm
from nbsvd.problems import Problem
from nbsvd.spectrum import History, Result, replicate
from nbsvd.spectrum.moments import measure_moments, node_count
from nbsvd.training.settings import Settings
from nbsvd.training.start import Start, ritz_start
from nbsvd.training.tables import minimise_tables, safe_shift
from nbsvd.training.trainer import Callback, train

LR_AFTER_START, LR_COLD = 3e-3, 1e-2
FEATURE_SCALES = (0.1, 0.4, 1.6)  # in units of the sampling law's length
NetworkMaker = Callable[[torch.Generator], nn.Module]


@dataclass(frozen=True)
class Choices:
    """What the caller of ``solve`` chose, checked."""

    method: str
    objective: str
    nesting: Nesting
    warm_start: str | None
    preset: str | None
    seed: int
    device: torch.device
    dtype: torch.dtype
    network: NetworkMaker | Mapping[str, Any] | None = None


class Pair(nn.Module):
    """Right and left functions in one module; the same module twice for an eigenproblem."""

    def __init__(self, right: nn.Module, left: nn.Module) -> None:
        super().__init__()
        self.right = right
        self.twin = left is right
        if not self.twin:
            self.second = left

    @property
    def left(self) -> nn.Module:
        """The left functions."""
        return self.right if self.twin else self.second


def default_network(
    problem: Problem, measure: Measure, k: int, generator: torch.Generator, options: Mapping[str, Any]
) -> nn.Module:
    """Return disjoint networks on features scaled to the measure, times the problem's ansatz."""
    options = dict(options)
    if "features" not in options:
        cusps = getattr(problem.operator, "singular_points", ())
        options["features"] = measure.length and Features(
            measure.dim,
            scales=[s * measure.length for s in FEATURE_SCALES],
            center=measure.center,
            cusps=cusps if measure.dim > 1 else (),
        )
    net = MLP(k, measure.dim, generator=generator, **options)
    return net if problem.ansatz is None else WithFactor(net, copy.deepcopy(problem.ansatz))


class Session:
    """A problem, its functions and its settings on the way to a result."""

    def __init__(self, problem: Problem, k: int, choices: Choices, settings: Settings, began: float) -> None:
        self.problem, self.k, self.choices, self.settings, self.began = problem, k, choices, settings, began
        self.generator = torch.Generator().manual_seed(choices.seed)
        self.symmetric = problem.operator.self_adjoint
        measure = problem.measure
        right = self._functions(measure)
        left = right if self.symmetric else self._functions(problem.left_measure)
        self.pair = Pair(right, left)
        self.operator = problem.operator

    def _functions(self, measure: Measure) -> nn.Module:
        if isinstance(measure, Counting):
            return Table(self.k, measure.n, generator=self.generator)
        network = self.choices.network
        if callable(network):
            module = network(self.generator)
            require(isinstance(module, nn.Module), "network", got=type(module).__name__, expected="an nn.Module")
        else:
            module = default_network(self.problem, measure, self.k, self.generator, network or {})
        module = module.to(device=self.choices.device, dtype=self.choices.dtype)
        probe = measure.nodes(4, kind=measure.training_kind, generator=torch.Generator().manual_seed(0))
        f = module(probe.to(dtype=self.choices.dtype, device=self.choices.device).x)
        require(
            f.shape == (len(probe), self.k),
            "network",
            got=f"values of shape {tuple(f.shape)} at {len(probe)} points",
            expected=f"shape ({len(probe)}, {self.k}): one column for each of the k components",
        )
        return module

    def start(self) -> Start:
        """Solve the Ritz problem on the untrained functions, shift the operator, and set the heads if asked to."""
        p = self.problem
        if isinstance(self.pair.right, Table) and isinstance(self.pair.left, Table):
            self._sketch(self.pair.right, self.pair.left)
        start = ritz_start(
            p.operator,
            self.pair.right,
            self.pair.left,
            p.measure,
            p.left_measure,
            self.k,
            generator=self.generator,
            device=self.choices.device if self.choices.device.type != "mps" else torch.device("cpu"),
            exact=p.exact,
        )
        if self.symmetric:
            shift = start.shift
            if isinstance(self.pair.right, Table):
                shift = safe_shift(p.operator, start.values, shift, generator=self.generator)
            self.operator, self.shift = p.operator.shift(shift), shift
        else:
            self.shift = 0.0
        if self.choices.warm_start == "ritz" and hasattr(self.pair.right, "start_from"):
            size = torch.sqrt((start.values + self.shift).clamp_min(1e-3 * float(start.values[0] + self.shift)))
            self.pair.right.start_from(start.right * size)
            if not self.symmetric:
                assert hasattr(self.pair.left, "start_from")
                self.pair.left.start_from(start.left * size)
        return start

    def _sketch(self, right: Table, left: Table) -> None:
        """Let the untrained basis be the image of a random table: the range finder of a randomized SVD."""
        T = self.problem.operator
        x = self.problem.measure.nodes(1, kind="quadrature")
        y = self.problem.left_measure.nodes(1, kind="quadrature")
        if self.symmetric:
            right.trial.copy_(T.evaluate(right.first_basis, x)[1].to(right.trial))
        else:
            left.trial = T.apply(right.first_basis, y.x, x).to(left.trial)

    def draw(self, measure: Measure) -> Nodes:
        """Place the nodes of one step."""
        return measure.nodes(
            self.settings.batch_size,
            kind=self.settings.kind,
            generator=self.generator,
            dtype=self.choices.dtype,
            device=self.choices.device,
        )

    def loss(self) -> Callable[[nn.Module], Tensor]:
        """Return the function that draws nodes and estimates the objective on them."""
        p, nesting, T = self.problem, self.choices.nesting, self.operator
        kind = self.settings.kind or p.measure.training_kind
        moment = choose(kind, self.settings.moment, size=self.settings.batch_size)
        evd = lora_evd if self.choices.objective == "lora" else omm

        def symmetric(pair: nn.Module) -> Tensor:
            assert isinstance(pair, Pair)
            nodes = self.draw(p.measure)
            inner = None if T.local else self.draw(p.measure)
            f, Tf = T.evaluate(pair.right, nodes, inner)
            return evd(f, Tf, nesting, weights=nodes.weights, moment=moment)

        def two_sided(pair: nn.Module) -> Tensor:
            assert isinstance(pair, Pair)
            x, y = self.draw(p.measure), self.draw(p.left_measure)
            f, g = pair.right(x.x), pair.left(y.x)
            return lora_svd(f, g, T.transform(y.x, x, f), nesting, weights=(x.weights, y.weights))

        return symmetric if self.symmetric else two_sided

    def values(self) -> Callable[[nn.Module], Tensor]:
        """Return the function that measures values on fixed nodes, independent of training, for reports."""
        p, n = self.problem, node_count(self.problem.operator) // 4
        nodes = [
            m.nodes(
                n,
                kind=m.evaluation_kind,
                generator=torch.Generator().manual_seed(self.choices.seed + 1),
                dtype=self.choices.dtype,
                device=self.choices.device,
            )
            for m in (p.measure, p.left_measure)
        ]

        def values_of(pair: nn.Module) -> Tensor:
            assert isinstance(pair, Pair)
            return measure_moments(p.operator, pair.right, pair.left, *nodes).quotients()

        return values_of

    def run(self, callbacks: Sequence[Callback], progress: bool) -> Result:
        """Start, train and measure."""
        start = self.start()
        optimum = self._optimum()
        if isinstance(self.pair.right, Table):
            history = self._minimise_tables()
            history.optimum = optimum
            return self._result(self.pair, history, start)
        lr = self.settings.lr or (LR_AFTER_START if self.choices.warm_start else LR_COLD)
        try:
            run = train(
                self.pair,
                self.loss(),
                self.values(),
                self.settings,
                lr=lr,
                began=self.began,
                optimum=optimum,
                callbacks=callbacks,
                progress=progress,
            )
        except TrainingDiverged as error:
            if isinstance(error.result, tuple):
                module, history = error.result
                error.result = self._result(module, history, start)
            raise
        return self._result(run.averaged.module, run.history, start)

    def _minimise_tables(self) -> History:
        right, left = self.pair.right, self.pair.left
        assert isinstance(right, Table) and isinstance(left, Table)
        steps = self.settings.steps if self.settings.steps is not None else 100_000
        return minimise_tables(
            self.operator, right, left, self.choices.nesting, steps=steps, seconds=self.settings.seconds
        )

    def _optimum(self) -> float | None:
        exact = self.problem.exact
        if exact is None or self.choices.objective != "lora":
            return None
        return float(lora_optimum(exact.values(self.k) + self.shift, self.choices.nesting.vector))

    def _result(self, module: nn.Module, history: History, start: Start) -> Result:
        trained = time.perf_counter()
        p, device = self.problem, self.choices.device
        if device.type == "mps":
            device = torch.device("cpu")
        pair = copy.deepcopy(module).to(device=device, dtype=torch.float64).requires_grad_(False)
        assert isinstance(pair, Pair)
        parts = replicate(
            p.operator, pair.right, pair.left, p.measure, p.left_measure, generator=self.generator, device=device
        )
        control = start.control.errors() if p.exact is not None else {}
        result = Result.from_models(
            pair.right,
            pair.left,
            parts,
            operator=p.operator,
            measure_x=p.measure,
            measure_y=p.left_measure,
            exact=p.exact,
            history=history,
            control=control,
        )
        info = self._info(history, trained)
        object.__setattr__(result, "info", info)
        return result

    def _info(self, history: History, trained: float) -> dict[str, Any]:
        c = self.choices
        packages = ("torch", "numpy", "scipy", "nbsvd")
        return {
            "problem": self.problem.name,
            "options": dict(self.problem.options),
            "unit": self.problem.unit,
            "method": c.method,
            "objective": c.objective,
            "nesting": c.nesting.kind,
            "warm_start": c.warm_start,
            "preset": c.preset,
            "shift": self.shift,
            "steps": history.step[-1] if history.step else 0,
            "stopped": history.stopped,
            "seconds": trained - self.began,
            "seconds_total": time.perf_counter() - self.began,
            "threads": torch.get_num_threads(),
            "seed": c.seed,
            "device": str(c.device),
            "dtype": str(c.dtype).removeprefix("torch."),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
            "date": datetime.now(UTC).date().isoformat(),
            "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
        }


