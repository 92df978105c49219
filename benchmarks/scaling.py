"""Memory and time of one step against the number of components L, the batch B and the dimension d.

    python benchmarks/scaling.py --threads 2 --record
    python benchmarks/scaling.py --quick               the small sizes only, a few repeats

The step is that of the default setting: disjoint networks on multi-scale features times a decay, T f by the
pass forward and back, the NestedLoRA loss, its gradient, SOAP. Beside it one evaluation of objective and
gradient of variable projection (one trunk, heads in closed form, weak form) for as many components. The
problem is the isotropic oscillator. One of L, B and d changes at a time; every point is measured in a process
of its own. Memory is the most that one step holds above what it found, from torch's own record of what it
allots; beside it the most that the process has held. A growth exponent is the slope of the logarithm of time
or memory over that of the size, by least squares; the last one is the slope between the two largest sizes.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from _machine import Number, compare, describe, keep_freed_memory, provenance, quartiles, record
from step import peak_bytes
from torch import nn

import nbsvd
from nbsvd.objectives import Nesting, lora_evd
from nbsvd.training.heads import sample
from nbsvd.training.models import default_network
from nbsvd.training.optimizers import make_optimizer
from nbsvd.training.spectral import Objective
from nbsvd.training.start import Basis
from nbsvd.training.varpro import Parameters

DEFAULT = {"sgd": (9, 320, 2), "varpro": (9, 3000, 2)}  # L, B, d
AXES = ("L", "B", "d")
SIZES: dict[str, dict[str, tuple[int, ...]]] = {
    "sgd": {"L": (9, 36, 100, 400), "B": (128, 320, 1280, 5120), "d": (1, 2, 3, 6, 10)},
    "varpro": {"L": (9, 36, 100, 400), "B": (1500, 3000, 6000, 12000), "d": (1, 2, 3, 6, 10)},
}
QUICK = {"L": 36, "B": 6000, "d": 3}  # the largest size of a quick run
SHORTEST = 0.5  # seconds for which a step is repeated at least


def problem(dim: int) -> nbsvd.Problem:
    return nbsvd.problems.oscillator([1.0] * dim)


def sgd_step(L: int, B: int, dim: int) -> Callable[[], None]:
    p, generator = problem(dim), torch.Generator().manual_seed(0)
    f: nn.Module = default_network(p, p.measure, L, generator, {})
    optimizer, nesting = make_optimizer("soap", f.parameters(), 1e-3), Nesting.joint(L)
    T = p.operator.shift(10.0)

    def step() -> None:
        nodes = p.measure.nodes(B, kind="sobol", generator=generator, dtype=torch.float32)
        values, Tf = T.evaluate(f, nodes)
        optimizer.zero_grad()
        lora_evd(values, Tf, nesting, weights=nodes.weights, moment="plain").backward()
        optimizer.step()

    return step


def varpro_step(L: int, B: int, dim: int) -> Callable[[], None]:
    p, generator = problem(dim), torch.Generator().manual_seed(0)
    options = {"disjoint": False, "widths": (32, max(64, 5 * L))}
    net: Any = default_network(p, p.measure, L, generator, options, adaptive=True).double()
    basis, heads = Basis(net), {id(q) for q in net.network.head.parameters()}
    vector = Parameters([q for q in net.parameters() if id(q) not in heads])
    nodes = p.measure.nodes(B, kind=p.measure.evaluation_kind, generator=generator)
    objective = Objective(Nesting.joint(L), "log", 1e3)

    def step() -> None:
        taken = sample(p.operator, basis, basis, nodes, nodes, shift=1e3)
        found = taken.heads()
        _, slopes = objective.of(found.values)
        vector.gradient(taken.surrogate(found.first(objective.count), -slopes))

    return step


def measure(method: str, sizes: tuple[int, int, int], repeats: int) -> dict[str, Any]:
    """Time and memory of a step, in this process."""
    keep_freed_memory()
    step = (sgd_step if method == "sgd" else varpro_step)(*sizes)
    for _ in range(3):  # SOAP's first step only builds its bases
        step()
    peak = peak_bytes(step)
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < repeats or time.perf_counter() - began < SHORTEST:
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    unit = 1 if sys.platform == "darwin" else 1024
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    # SOAP refreshes its bases every tenth step, which a median would not see.
    mean = statistics.fmean(times)
    return {"ms": quartiles(times), "ms_mean": mean, "peak_mb": peak / 1e6, "process_mb": process / 1e6}


def apart(method: str, sizes: tuple[int, int, int], args: argparse.Namespace) -> dict[str, Any]:
    """The same in a fresh process."""
    command = [sys.executable, __file__, "--threads", str(args.threads), "--repeats", str(args.repeats)]
    done = subprocess.run(
        [*command, "--point", method, *map(str, sizes)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{method} {sizes}: {done.stderr[-1000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def exponents(points: list[tuple[int, float]]) -> dict[str, float]:
    """The power with which the second number grows with the first: by least squares, and at the end."""
    x, y = ([math.log(p[i]) for p in points] for i in (0, 1))
    last = [(b[1] - b[0]) / (a[1] - a[0]) for a, b in zip(pairwise(x), pairwise(y), strict=True)][-1]
    return {"fit": statistics.linear_regression(x, y).slope, "last": last}


def numbers(report: dict[str, Any]) -> dict[str, Number]:
    """Time and memory of every point."""
    found = {}
    for row in report["rows"]:
        of = "{}, L = {}, B = {}, d = {}".format(row["method"], *row["sizes"])
        found[f"{of}, {report['threads']} thread(s): ms"] = Number(row["ms"]["median"], "time")
        found[f"{of}: peak MB"] = Number(row["peak_mb"], "memory")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory and time of one step against L, B and d.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="small sizes only")
    parser.add_argument("--record", action="store_true", help="keep the report in benchmarks/results")
    parser.add_argument("--point", nargs=4, metavar=("METHOD", *AXES), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.point:
        method, *sizes = args.point
        L, B, dim = map(int, sizes)
        print(json.dumps(measure(method, (L, B, dim), args.repeats)))
        return
    if args.quick:
        args.repeats = min(args.repeats, 5)
    report = provenance()
    print(describe(report))
    print(f"{'method':<8}{'L':>5}{'B':>6}{'d':>4}{'ms':>10}{'quartiles':>20}", end="")
    print(f"{'mean':>9}{'peak MB':>10}{'process MB':>12}")
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    report["exponents"] = {}
    for method, axes in SIZES.items():
        for i, axis in enumerate(AXES):
            values = [n for n in axes[axis] if not args.quick or n <= QUICK[axis]]
            for n in values:
                sizes = list(DEFAULT[method])
                sizes[i] = n
                key = (method, *sizes)
                if key in rows:
                    continue
                row = rows[key] = {"method": method, "sizes": sizes}
                row |= apart(method, (sizes[0], sizes[1], sizes[2]), args)
                ms = row["ms"]
                print(f"{method:<8}{sizes[0]:>5}{sizes[1]:>6}{sizes[2]:>4}{ms['median']:>10.2f}", end="")
                print(f"{ms['low']:>10.2f} -{ms['high']:>8.2f}{row['ms_mean']:>9.2f}", end="")
                print(f"{row['peak_mb']:>10.1f}{row['process_mb']:>12.0f}", flush=True)
            base = DEFAULT[method]
            series = [rows[(method, *base[:i], n, *base[i + 1 :])] for n in values]
            powers = {
                "ms": exponents([(n, row["ms"]["median"]) for n, row in zip(values, series, strict=True)]),
                "memory": exponents([(n, row["peak_mb"]) for n, row in zip(values, series, strict=True)]),
            }
            report["exponents"][f"{method}, {axis}"] = powers
    report["rows"] = list(rows.values())
    print("\nGrows like the power of the size, by least squares (between the two largest):")
    for name, powers in report["exponents"].items():
        of = [f"{what} {p['fit']:.2f} ({p['last']:.2f})" for what, p in powers.items()]
        print(f"  {name:<12}{of[0]:<22}{of[1]}")
    name = f"scaling-{args.threads}threads"
    compare(name, report, numbers)
    if args.record:
        print("Recorded in", record(name, report).name)


if __name__ == "__main__":
    main()
