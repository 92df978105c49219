"""The runs of ``rivals.py``: which methods and settings there are, one run, the cost of one step."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from step import take_turns
from torch import Tensor

import nbsvd
from nbsvd import metrics
from nbsvd.solve import make_settings
from nbsvd.spectrum import moments
from nbsvd.training.average import Average
from nbsvd.training.choices import check_choices
from nbsvd.training.optimizers import make_optimizer
from nbsvd.training.session import Session

NODES = 1024  # of each of the eight sets of a measurement: errors below 1e-5 are not looked for here
WIDE, SMALL = (128, 128, 128), (32, 32)
BATCHES = (32, 128, 512)

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "joint": ("NestedLoRA, joint", {}),
    "sequential": ("NestedLoRA, sequential", {"nesting": "sequential"}),
    "omm": ("OMM of (c - T)^-1", {"objective": "omm", "invert": True}),
    "neuralef": ("NeuralEF, unbiased", {"objective": "neuralef"}),
    "neuralef-original": ("NeuralEF, original", {"objective": "neuralef", "form": "original"}),
    "spin": ("SpIN, decay 0.01", {"objective": "spin", "decay": 0.01}),
    "spin-no-memory": ("SpIN, decay 1", {"objective": "spin", "decay": 1.0}),
}


@dataclass(frozen=True)
class Setting:
    """A problem, how many values, and the options of every run."""

    said: str
    make: Callable[[], nbsvd.Problem]
    k: int
    methods: tuple[str, ...] = tuple(METHODS)
    options: dict[str, Any] = field(default_factory=lambda: {"network": {"widths": WIDE}})


def sampled(size: int) -> Setting:
    """Independent points, ``size`` in a step."""
    options = {"network": {"widths": SMALL}, "kind": "iid", "batch_size": size}
    return Setting(
        f"hydrogen, {size} independent points in a step",
        nbsvd.problems.hydrogen2d,
        9,
        ("joint", "neuralef", "neuralef-original"),
        options,
    )


SETTINGS = {
    "hydrogen": Setting("hydrogen, default recipe", nbsvd.problems.hydrogen2d, 9),
    "oscillator": Setting("oscillator, default recipe", nbsvd.problems.oscillator2d, 10),
    "hydrogen-cold": Setting(
        "hydrogen, from random heads, small networks",
        nbsvd.problems.hydrogen2d,
        9,
        options={"network": {"widths": SMALL}, "warm_start": None},
    ),
}
BATCH_SETTINGS = {f"batch-{size}": sampled(size) for size in BATCHES}
ALL = SETTINGS | BATCH_SETTINGS


def solve(setting: Setting, method: str, *, seed: int, lr: float, steps: int) -> dict[str, Any]:
    """One run: what it was and its errors. A run that diverged is a result, an interrupted one is not."""
    moments.LOCAL_NODES = NODES
    told = {"seed": seed, "lr": lr}
    options = setting.options | METHODS[method][1]
    try:
        result = nbsvd.solve(
            setting.make(), setting.k, steps=steps, seed=seed, lr=lr, progress=False, **options
        )
    except nbsvd.TrainingDiverged as error:
        return told | {"stopped": "failed", "said": str(error)}
    if result.history.stopped == "interrupted":
        raise KeyboardInterrupt
    untrained = {name: short(e) for name, e in result.control.items() if name.startswith("relative")}
    found = {"errors": all_errors(result), "control": untrained}
    if result.info["objective"] == "spin":
        try:
            found["measured"] = all_errors(orthonormalised(result))
        except torch.linalg.LinAlgError:  # functions that depend linearly on each other
            found["measured"] = dict.fromkeys(found["errors"], math.inf)
    return told | {"steps": result.info["steps"], "seconds": round(result.info["seconds"], 2)} | found


def orthonormalised(result: nbsvd.Result) -> nbsvd.Result:
    """SpIN's functions made orthonormal by the Gram matrix of the networks that is measured at the end.

    Its own answer takes the running average, which lags behind.
    """
    C = torch.linalg.cholesky(moments.average(result.replicates).gram_f)
    mix = torch.linalg.inv(C).mT
    return replace(result, mix_right=mix, mix_left=mix, label="measured")


def all_errors(result: nbsvd.Result) -> dict[str, float]:
    """Means and maxima of the four metrics: over values, functions, levels, pairs of functions.

    ``raw_orthogonality_max`` is of the networks themselves; only with SpIN are they not the functions.
    """
    exact, nodes = result.exact, result.nodes()
    assert exact is not None
    K = exact.completed(result.k)
    f, levels = result.right(nodes.x), exact.levels(K)
    found = {
        "relative": metrics.relative_error(result.values, exact.values(result.k)),
        "angle": metrics.angle(f, exact.functions(nodes.x, K), levels, nodes.weights),
        "subspace": metrics.subspace_distance(f, exact.functions(nodes.x, K), levels, nodes.weights),
        "orthogonality": off_diagonal(metrics.cosine_gram(f, nodes.weights)),
    }
    raw = off_diagonal(metrics.cosine_gram(result.right_model(nodes.x).detach(), nodes.weights))
    errors = {
        f"{name}_{how}": short(getattr(e, how)()) for name, e in found.items() for how in ("mean", "max")
    }
    return errors | {"raw_orthogonality_max": short(raw.max())}


def short(error: float | Tensor) -> float:
    """An error as it is kept: four digits."""
    return float(f"{float(error):.4g}")


def off_diagonal(cosines: Tensor) -> Tensor:
    """The magnitudes above the diagonal."""
    first, second = torch.triu_indices(*cosines.shape, offset=1)
    return cosines[first, second].abs()


def stepper(setting: Setting, method: str) -> Callable[[], None]:
    """A method's whole step, as the trainer takes it."""
    options = {"method": "sgd", "objective": "lora", "nesting": "joint", "warm_start": "ritz"} | {
        "preset": None, "seed": 0, "device": "cpu", "dtype": None, "callbacks": ()
    }  # fmt: skip
    given = setting.options | METHODS[method][1]
    settings = make_settings(steps=1, **{n: v for n, v in given.items() if n not in (*options, "network")})
    chosen = {n: given.get(n, v) for n, v in options.items()}
    problem = setting.make()
    choices = check_choices(problem, setting.k, settings, network=given["network"], **chosen)
    session = Session(problem, setting.k, choices, settings, time.perf_counter())
    session.start()
    loss = session.loss()
    optimizer = make_optimizer(settings.optimizer, session.pair.parameters(), 1e-6)
    average = Average(session.pair, settings.ema)

    def step() -> None:
        value = loss(session.pair)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        average.update_parameters(session.pair)

    return step


def costs(setting: Setting, quick: bool) -> dict[str, Any]:
    """Milliseconds per step of each method, all in turns: medians of the rounds."""
    moments.LOCAL_NODES = NODES
    contenders = {method: stepper(setting, method) for method in setting.methods}
    times = take_turns(contenders, 3 if quick else 15, 1 if quick else 4)
    return {"ms": {name: round(statistics.median(own), 3) for name, own in times.items()}}
