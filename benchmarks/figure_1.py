"""The paper's own setting, run once for each method: what the book's Figure 1 is drawn from.

    python benchmarks/figure_1.py joint --record            5e5 steps, about an hour on one core
    python benchmarks/figure_1.py spin --steps N --record   another number of steps

The setting: nine disjoint networks 2-128-128-128-1, softplus, times the factor that vanishes on the walls of
the box D = 50; 128 points of N(0, 16^2) cut off at the box in each step, random start, RMSProp 1e-3 with a
cosine, moving average 0.995 of the parameters. The paper does not say how its inner products are weighted;
here a factor sqrt(p) multiplies the networks, as in its authors' later code, and the weights are 1/p. SpIN
has the paper's rate of 1e-4 and decay of 0.01, and a step that is not compiled.

A finished run is kept in ``_build/figure_1``, with its functions; ``--record`` takes errors, cosines, history
and a picture of each function to benchmarks/results.
"""

import argparse
import base64
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from _machine import RUNS, describe, provenance, record, sources, write
from torch import Tensor

import nbsvd
from nbsvd import metrics
from nbsvd.functions import ProductFactor
from nbsvd.functions.ansatz import SqrtDensity

WIDTH, K = 16.0, 9
HALVES = (5.0, 20.0, 45.0)  # of the square that shows a level
PIXELS = 64
POINTS = 50  # of the history
METHODS: dict[str, dict[str, Any]] = {
    "joint": {"nesting": "joint"},
    "sequential": {"nesting": "sequential"},
    "neuralef": {"objective": "neuralef"},
    "omm": {"objective": "omm", "invert": True},
    "spin": {"objective": "spin", "decay": 0.01, "lr": 1e-4, "compile": False},
}


def atom() -> nbsvd.Problem:
    """The paper's atom in its box, with the square root of the density in the ansatz."""
    problem = nbsvd.problems.hydrogen2d("box")
    assert problem.ansatz is not None
    factor = ProductFactor([problem.ansatz, SqrtDensity(WIDTH, center=[0.0, 0.0])])
    return dataclasses.replace(problem, ansatz=factor)


def run(method: str, steps: int, seed: int, about: dict[str, Any]) -> Path:
    """Run one method at the paper's setting, unless that has been done; return the file of its result."""
    path = RUNS / "figure_1" / f"{method}-{steps}-{seed}.safetensors"
    if path.with_suffix(".json").exists():
        return path
    options = {"compile": True} | METHODS[method]
    result = nbsvd.solve(
        atom(), K, preset="paper", steps=steps, seed=seed, report_every=5000, progress=False, **options
    )
    if result.history.stopped == "interrupted":
        raise KeyboardInterrupt
    path.parent.mkdir(parents=True, exist_ok=True)
    result.save(path)
    found = {"info": dict(result.info), "errors": result.errors(), "ritz": result.ritz().errors()}
    found |= {"values": result.values.tolist(), "history": dataclasses.asdict(result.history)}
    write(path.with_suffix(".json"), about | found)
    return path


def coded(pictures: Tensor) -> dict[str, Any]:
    """Pictures ``(k, n, n)`` in one byte a pixel, each in units of its own largest value / 127."""
    largest = pictures.abs().amax((1, 2))
    small = (127 * pictures / largest[:, None, None]).round().to(torch.int8)
    return {
        "shape": list(small.shape),
        "largest": [float(f"{x:.5g}") for x in largest],
        "int8": base64.b64encode(small.numpy().tobytes()).decode(),
    }


def pictures(result: nbsvd.Result) -> dict[str, Any]:
    """The functions aligned inside levels, and the exact ones, on a grid for each."""
    turned, exact = result.align(), result.exact
    assert exact is not None
    halves = [HALVES[n] for n, level in enumerate(exact.levels(result.k)) for _ in level]
    learned, truth = [], []
    for l, half in enumerate(halves):
        t = torch.linspace(-half, half, PIXELS, dtype=torch.float64)
        y, x = torch.meshgrid(t, t, indexing="ij")
        points = torch.stack([x.reshape(-1), y.reshape(-1)], 1)
        learned.append(turned.right(points)[:, l].reshape(PIXELS, PIXELS))
        truth.append(turned.exact_like(points)[:, l].reshape(PIXELS, PIXELS))
    return {
        "extents": [[-half, half, -half, half] for half in halves],
        "functions": coded(torch.stack(learned)),
        "exact_functions": coded(torch.stack(truth)),
    }


def report(method: str, path: Path) -> dict[str, Any]:
    """What is recorded of a run: its own provenance, errors, cosines, history, pictures."""
    kept = json.loads(path.with_suffix(".json").read_text())
    result = nbsvd.load(path, problem=atom())
    info, history = kept.pop("info"), kept.pop("history")
    nodes = result.nodes()
    every = max(1, -(-len(history["step"]) // POINTS))
    chosen = sorted({*range(every - 1, len(history["step"]), every), len(history["step"]) - 1})
    thinned = {
        "step": [history["step"][j] for j in chosen],
        "values": [[float(f"{v:.5g}") for v in history["values"][j]] for j in chosen],
    }
    networks = result.right_model(nodes.x).detach()
    return {
        **{
            key: kept[key]
            for key in ("date", "revision", "command", "machine", "threads", "versions", "package")
        },
        "method": method,
        "steps": info["steps"],
        "minutes": round(info["seconds"] / 60, 1),
        "seed": info["seed"],
        "lr": METHODS[method].get("lr", 1e-3),
        "values": kept["values"],
        "exact": result.exact.values(result.k).tolist(),  # type: ignore[union-attr]
        "errors": kept["errors"],
        "ritz_errors": kept["ritz"],
        "cosines": result.cosine_gram.tolist(),
        "raw_cosines": metrics.cosine_gram(networks, nodes.weights).tolist(),
        "history": thinned,
        **pictures(result),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("--steps", type=int, default=500_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", action="store_true", help="keep what is shown in benchmarks/results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    about = provenance() | {"package": sources()}
    print(describe(about), flush=True)
    found = report(args.method, run(args.method, args.steps, args.seed, about))
    print(f"{args.method}, {found['steps']} steps, {found['minutes']} minutes:", found["errors"])
    if args.record:
        print("Recorded in", record(f"figure_1-{args.method}", found).name)


if __name__ == "__main__":
    main()
