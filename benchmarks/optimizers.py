"""Which optimizer gets further in a given time: the hydrogen atom by NestedLoRA, everything else equal.

    python benchmarks/optimizers.py --seconds 20 --seeds 0 1 2 --threads 1 --record

Ours keeps one pair of Kronecker factors for each network; the library's SOAP is run on the batched tensors,
where its factors are shared by the networks, and on one parameter for each network and layer, where it does
the same arithmetic as ours in many small pieces. Each optimizer has its learning rate chosen from the same
three by the first seed at a quarter of the time; all numbers shown are of runs after that choice.
"""

import argparse
import statistics
from collections.abc import Callable, Iterable
from typing import Any

import pytorch_optimizer
import torch
from _machine import Number, compare, describe, provenance, record
from torch import Tensor

import nbsvd
from nbsvd.training import OPTIMIZERS

RATES = (1e-3, 3e-3, 1e-2)
OPTIONS: dict[str, Any] = {"weight_decay": 0.0, "precondition_frequency": 10}


class PerNetwork(pytorch_optimizer.SOAP):  # type: ignore[misc]
    """The library's SOAP on one parameter for each network and layer, in the memory of the batched ones."""

    def __init__(self, parameters: Iterable[Tensor], **options: Any) -> None:
        self.batched = list(parameters)
        self.slices = [[torch.nn.Parameter(_matrix(row)) for row in p.data] for p in self.batched]
        super().__init__([row for rows in self.slices for row in rows], **options)

    def zero_grad(self, set_to_none: bool = True) -> None:
        for p in self.batched:
            p.grad = None

    def step(self, closure: Callable[[], float] | None = None) -> None:
        for p, rows in zip(self.batched, self.slices, strict=True):
            assert p.grad is not None
            for row, gradient in zip(rows, p.grad, strict=True):
                row.grad = _matrix(gradient)
        super().step()


def _matrix(x: Tensor) -> Tensor:
    return x[0] if x.shape[0] == 1 else x


def contenders() -> dict[str, Callable[[Iterable[Tensor], float], torch.optim.Optimizer]]:
    return {
        "soap": OPTIMIZERS["soap"],
        "library batched": lambda p, lr: pytorch_optimizer.SOAP(p, lr=lr, **OPTIONS),
        "library per net": lambda p, lr: PerNetwork(p, lr=lr, **OPTIONS),
        "adam": OPTIMIZERS["adam"],
        "rmsprop": OPTIMIZERS["rmsprop"],
    }


def run(name: str, lr: float, seed: int, seconds: float) -> dict[str, Any]:
    try:
        result = nbsvd.solve(
            "hydrogen2d", 9, seconds=seconds, seed=seed, optimizer=name, lr=lr, progress=False
        )
    except nbsvd.TrainingDiverged:
        return {"seed": seed, "lr": lr, "steps": 0, "relative_max": float("inf"), "angle_max": 1.0}
    errors = result.errors()
    return {
        "seed": seed,
        "lr": lr,
        "steps": result.info["steps"],
        "relative_max": errors["relative_max"],
        "angle_max": errors["angle_max"],
    }


def numbers(report: dict[str, Any]) -> dict[str, Number]:
    """Median and worst error of each optimizer."""
    found = {}
    of = report["arguments"]
    for name, told in report["results"].items():
        errors = [run["relative_max"] for run in told["runs"]]
        setting = f"{name}, {of['seconds']:g} s, {len(errors)} seeds, {of['threads']} thread(s)"
        found[f"{setting}: error, median"] = Number(statistics.median(errors), "error")
        found[f"{setting}: error, worst"] = Number(max(errors), "error")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--record", action="store_true", help="keep the report in benchmarks/results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    about = provenance("pytorch-optimizer")
    print(describe(about))
    print(
        f"{'optimizer':>16}{'lr':>8}{'steps':>8}{'median relative_max':>21}{'worst':>9}{'median angle':>14}"
    )
    report = {}
    for name, make in contenders().items():
        OPTIMIZERS[name] = make
        tried = {lr: run(name, lr, arguments.seeds[0], arguments.seconds / 4) for lr in RATES}
        lr = min(tried, key=lambda rate: tried[rate]["relative_max"])
        runs = [run(name, lr, seed, arguments.seconds) for seed in arguments.seeds]
        errors, angles = [r["relative_max"] for r in runs], [r["angle_max"] for r in runs]
        steps = int(statistics.median(r["steps"] for r in runs))
        print(
            f"{name:>16}{lr:8.0e}{steps:8}{statistics.median(errors):21.1e}{max(errors):9.1e}"
            f"{statistics.median(angles):14.1e}",
            flush=True,
        )
        report[name] = {"tried": list(tried.values()), "runs": runs}
    whole = about | {"arguments": vars(arguments), "results": report}
    compare("optimizers", whole, numbers(whole))
    if arguments.record:
        print("kept in", record("optimizers", whole).name)


if __name__ == "__main__":
    main()
