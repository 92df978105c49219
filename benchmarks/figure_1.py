"""The paper's own setting, run once for each method: what the book's Figure 1 is drawn from.

    python benchmarks/figure_1.py joint            5e5 steps, about an hour on one core
    python benchmarks/figure_1.py spin --steps N   another number of steps

The setting: nine disjoint networks 2-128-128-128-1, softplus, times the factor that vanishes on the walls of
the box D = 50; 128 points of N(0, 16^2) cut off at the box in each step, random start, RMSProp 1e-3 with a
cosine, moving average 0.995 of the parameters. The paper does not say how its inner products are weighted;
here a factor sqrt(p) multiplies the networks, as in its authors' later code, and the weights are 1/p.

The functions on a grid, their Gram matrix, errors and history are written to benchmarks/results.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import torch
from _machine import RESULTS, RUNS, describe, provenance, sources, write

import nbsvd
from nbsvd.functions import ProductFactor
from nbsvd.functions.ansatz import SqrtDensity

WIDTH, K = 16.0, 9
METHODS: dict[str, dict[str, Any]] = {
    "joint": {"nesting": "joint"},
    "sequential": {"nesting": "sequential"},
    "neuralef": {"objective": "neuralef"},
    "omm": {"objective": "omm", "invert": True},
    # As the paper says: a rate of 1e-4 and averages of decay 0.01. Its step is not compiled.
    "spin": {"objective": "spin", "decay": 0.01, "lr": 1e-4, "compile": False},
}


def atom() -> nbsvd.Problem:
    """The paper's atom in its box, with the square root of the density in the ansatz."""
    problem = nbsvd.problems.hydrogen2d("box")
    assert problem.ansatz is not None
    factor = ProductFactor([problem.ansatz, SqrtDensity(WIDTH, center=[0.0, 0.0])])
    return dataclasses.replace(problem, ansatz=factor)


def solve(method: str, steps: int, seed: int) -> nbsvd.Result:
    """Run one method at the paper's setting."""
    return nbsvd.solve(
        atom(),
        K,
        preset="paper",
        steps=steps,
        seed=seed,
        report_every=5000,
        progress=False,
        **{"compile": True} | METHODS[method],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("--steps", type=int, default=500_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    about = provenance() | {"package": sources()}
    print(describe(about), flush=True)
    result = solve(args.method, args.steps, args.seed)
    folder = RUNS / "figure_1"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{args.method}-{args.steps}-{args.seed}.safetensors"
    result.save(path)
    report = about | {
        "info": dict(result.info),
        "errors": result.errors(),
        "ritz": result.ritz().errors(),
        "values": result.values.tolist(),
        "history": dataclasses.asdict(result.history),
    }
    write(path.with_suffix(".json"), report)
    print(result.errors(), result.info["seconds"])


if __name__ == "__main__":
    main()
