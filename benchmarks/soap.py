"""Time of one SOAP step for nine disjoint networks: the library on the batched tensors, the library on one
parameter per network and layer, and ours; torch's Adam as the floor. All in one process, taking turns.

    OMP_NUM_THREADS=1 python benchmarks/soap.py --threads 1 --record

Only ``optimizer.step()`` is timed, on gradients drawn beforehand, in blocks that hold whole refresh periods.
Ours and the library per network do the same arithmetic (tests/test_soap.py). The library on the batched
tensors does other arithmetic: its factors sum over the networks, and one more mixes them. So the table
compares time per step, not progress per step.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytorch_optimizer
import torch
from _machine import Number, compare, describe, keep_freed_memory, provenance, record
from torch import Tensor
from torch.nn import Parameter

from nbsvd.training.soap import SOAP

NETWORKS = 9
SHAPES = {"16-32-32-1": (16, 32, 32, 1), "2-128-128-128-1": (2, 128, 128, 128, 1)}
POOL = 8  # sets of gradients, taken in turn


def drawn(widths: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> list[Tensor]:
    """Weights (9, fan_in, fan_out) and biases (9, 1, fan_out), or their gradients."""
    shapes = [s for a, b in itertools.pairwise(widths) for s in ((a, b), (1, b))]
    return [torch.randn(NETWORKS, *s, dtype=dtype, generator=generator) for s in shapes]


def per_network(tensors: list[Tensor]) -> list[Tensor]:
    """Matrices (fan_in, fan_out) and vectors (fan_out,), one for each network and layer."""
    return [(x[0] if len(x) == 1 else x).clone() for t in tensors for x in t]


def same(tensors: list[Tensor]) -> list[Tensor]:
    return tensors


class Contender:
    """One optimizer on its own copy of the parameters, with its share of the pool of gradients."""

    def __init__(
        self,
        make: Callable[[list[Parameter]], torch.optim.Optimizer],
        split: Callable[[list[Tensor]], list[Tensor]],
        weights: list[Tensor],
        pool: list[list[Tensor]],
    ) -> None:
        self.params = [Parameter(w.clone()) for w in split(weights)]
        self.pool = [split(grads) for grads in pool]
        self.optimizer = make(self.params)
        self.count = 0

    def seconds(self, steps: int) -> float:
        """Time of this many calls of step()."""
        total = 0.0
        for _ in range(steps):
            for p, grad in zip(self.params, self.pool[self.count % POOL], strict=True):
                p.grad = grad
            self.count += 1
            start = time.perf_counter()
            self.optimizer.step()
            total += time.perf_counter() - start
        return total


def contenders(widths: tuple[int, ...], dtype: torch.dtype, frequency: int) -> dict[str, Contender]:
    generator = torch.Generator().manual_seed(0)
    weights = drawn(widths, dtype, generator)
    pool = [drawn(widths, dtype, generator) for _ in range(POOL)]

    def library(params: list[Parameter]) -> torch.optim.Optimizer:
        return pytorch_optimizer.SOAP(params, weight_decay=0.0, precondition_frequency=frequency)

    def ours(params: list[Parameter]) -> torch.optim.Optimizer:
        return SOAP(params, precondition_frequency=frequency)

    def adam(params: list[Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(params, foreach=True)

    return {
        "library, batched": Contender(library, same, weights, pool),
        "library, per network": Contender(library, per_network, weights, pool),
        "ours": Contender(ours, same, weights, pool),
        "Adam (torch)": Contender(adam, same, weights, pool),
    }


def measure(
    widths: tuple[int, ...], dtype: torch.dtype, frequency: int, budget: float, repeats: int
) -> dict[str, Any]:
    """Milliseconds per step: median and quartiles over ``repeats`` blocks that fill ``budget`` seconds."""
    runners = contenders(widths, dtype, frequency)
    blocks = {}
    for name, runner in runners.items():
        runner.seconds(2 * frequency)  # warm-up: the start and a refresh
        periods = budget / repeats / runner.seconds(2 * frequency) * 2
        blocks[name] = frequency * max(1, round(periods))
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(repeats):
        for name, runner in runners.items():
            times[name].append(1e3 * runner.seconds(blocks[name]) / blocks[name])
    result = {}
    for name, values in times.items():
        low, median, high = statistics.quantiles(values, n=4)
        result[name] = {"median_ms": median, "quartiles_ms": [low, high], "steps_per_block": blocks[name]}
    return result


def numbers(report: dict[str, Any]) -> dict[str, Number]:
    """Milliseconds of each optimizer."""
    return {
        f"{shape}, {name}, {report['dtype']}, every {report['frequency']}: ms": Number(
            row["median_ms"], "time"
        )
        for shape, rows in report["results"].items()
        for name, row in rows.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of one SOAP step for nine disjoint networks.")
    parser.add_argument("--threads", type=int, default=1, help="torch.set_num_threads (default 1)")
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--frequency", type=int, default=10, help="steps between refreshes (default 10)")
    parser.add_argument("--repeats", type=int, default=15, help="blocks for each contender (default 15)")
    parser.add_argument("--seconds", type=float, default=3.0, help="per contender and shape (default 3)")
    parser.add_argument("--record", action="store_true", help="keep the numbers in benchmarks/results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    keep_freed_memory()
    report = provenance("pytorch-optimizer")
    print(describe(report))
    print(f"{args.dtype}, refresh every {args.frequency} steps, {args.repeats} blocks\n")
    print(f"{'9 networks':<18}{'optimizer':<24}{'ms / step':>10}{'quartiles':>18}{'ours is faster by':>20}")
    report |= {"dtype": args.dtype, "frequency": args.frequency, "results": {}}
    for shape, widths in SHAPES.items():
        result = measure(widths, getattr(torch, args.dtype), args.frequency, args.seconds, args.repeats)
        report["results"][shape] = result
        for name, row in result.items():
            low, high = row["quartiles_ms"]
            ratio = row["median_ms"] / result["ours"]["median_ms"]
            spread = f"{low:.3f} - {high:.3f}"
            print(f"{shape:<18}{name:<24}{row['median_ms']:>10.3f}{spread:>18}{ratio:>19.2f}x")
    name = f"soap-{args.threads}threads"
    compare(name, report, numbers)
    if args.record:
        print("Recorded in", record(name, report).name)


if __name__ == "__main__":
    main()
