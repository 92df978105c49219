"""Accuracy of NestedLoRA by stochastic gradients on the 2-D hydrogen atom, in a given time, over seeds.

    python benchmarks/hydrogen.py --seconds 100 --seeds 0 1 2 3 4 --threads 2 --record

Each seed is run twice: from the Ritz start (the default) and from random heads. All runs are shown.
"""

import argparse
import statistics
from typing import Any

import torch
from _machine import describe, provenance, record

import nbsvd

SHOWN = ("relative_max", "relative_mean", "angle_max", "subspace_max", "orthogonality_max")


def run(seed: int, warm_start: str | None, arguments: argparse.Namespace) -> dict[str, Any]:
    result = nbsvd.solve(
        "hydrogen2d",
        arguments.k,
        seconds=arguments.seconds,
        seed=seed,
        warm_start=warm_start,
        progress=False,
    )
    info = result.info
    return {
        "seed": seed,
        "warm_start": warm_start,
        "errors": result.errors(),
        "control": dict(result.control),
        "ritz": result.ritz().errors(),
        "steps": info["steps"],
        "seconds": round(info["seconds"], 2),
        "loss_gap": result.history.loss[-1] - (result.history.optimum or 0.0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=100.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--k", type=int, default=9)
    parser.add_argument("--record", action="store_true", help="keep the report in benchmarks/results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    about = provenance()
    print(describe(about))
    print(
        f"{'start':>6}{'seed':>5}{'steps':>7}" + "".join(f"{name:>18}" for name in SHOWN) + f"{'control':>10}"
    )
    runs = []
    for warm_start in ("ritz", None):
        for seed in arguments.seeds:
            runs.append(one := run(seed, warm_start, arguments))
            errors = "".join(f"{one['errors'][name]:18.1e}" for name in SHOWN)
            control = f"{one['control']['relative_max']:10.1e}"
            print(f"{warm_start or 'random':>6}{seed:5}{one['steps']:7}{errors}{control}", flush=True)
        chosen = [r["errors"]["relative_max"] for r in runs if r["warm_start"] == warm_start]
        median, worst = statistics.median(chosen), max(chosen)
        print(f"{warm_start or 'random'} start: median {median:.1e}, worst {worst:.1e}\n")
    if arguments.record:
        print("kept in", record("hydrogen", about | {"arguments": vars(arguments), "runs": runs}).name)


if __name__ == "__main__":
    main()
