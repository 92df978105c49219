"""Memory and time of one step against the number of components L, the batch B and the dimension d.

    python benchmarks/scaling.py --threads 2 --record

The step is that of the default setting: disjoint networks on multi-scale features times a decay, T f by the
forward Laplacian, the NestedLoRA loss, its gradient, SOAP. Beside it one evaluation of objective and gradient
of variable projection (one trunk, heads in closed form, weak form) for as many components. One of L, B and d
changes at a time; memory is the most that a step holds above what it found.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from _machine import describe, keep_freed_memory, last, provenance, record
from step import peak_bytes, spread
from torch import nn

import nbsvd
from nbsvd.objectives import Nesting, lora_evd
from nbsvd.training.heads import sample
from nbsvd.training.models import default_network
from nbsvd.training.optimizers import make_optimizer
from nbsvd.training.start import Basis
from nbsvd.training.varpro import Objective, Parameters

LS, BS, DS = (9, 36, 100, 400), (128, 320, 1280, 5120), (1, 2, 3, 6, 10)
L, B, D = 9, 320, 2
NODES = 3000


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
    net = default_network(p, p.measure, L, generator, options, adaptive=True).double()
    basis, heads = Basis(net), {id(q) for q in net.network.head.parameters()}  # type: ignore[union-attr]
    vector = Parameters([q for q in net.parameters() if id(q) not in heads])
    nodes = p.measure.nodes(B, kind=p.measure.evaluation_kind, generator=generator)
    objective = Objective(Nesting.joint(L), "log", 1e3)

    def step() -> None:
        taken = sample(p.operator, basis, basis, nodes, nodes)
        found = taken.heads()
        _, slopes = objective.of(found.values)
        vector.gradient(taken.surrogate(found.first(objective.count), -slopes))

    return step


def measure(step: Callable[[], None], repeats: int) -> dict[str, Any]:
    peak = peak_bytes(step)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    return {"ms": spread(times), "peak_mb": peak / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory and time of one step against L, B and d.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--record", action="store_true", help="keep the report in benchmarks/results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    report, name = provenance(), f"scaling-{args.threads}threads"
    print(describe(report))
    print(f"{'method':<8}{'L':>5}{'B':>6}{'d':>4}{'ms':>10}{'quartiles':>20}{'peak MB':>10}")
    rows = [("sgd", n, B, D) for n in LS] + [("sgd", L, n, D) for n in BS] + [("sgd", L, B, n) for n in DS]
    rows += [("varpro", n, NODES, D) for n in LS] + [("varpro", L, n, D) for n in (1500, 3000, 6000, 12000)]
    rows += [("varpro", L, NODES, n) for n in DS]
    before = last(name)
    old = {} if before is None else {tuple(r["of"]): r["ms"]["median"] for r in before["rows"]}
    report["rows"] = []
    for row in dict.fromkeys(rows):
        method, *sizes = row
        step = (sgd_step if method == "sgd" else varpro_step)(*sizes)
        found = {"of": list(row)} | measure(step, args.repeats)
        report["rows"].append(found)
        ms = found["ms"]
        print(f"{method:<8}{sizes[0]:>5}{sizes[1]:>6}{sizes[2]:>4}{ms['median']:>10.2f}", end="")
        print(f"{ms['low']:>10.2f} -{ms['high']:>8.2f}{found['peak_mb']:>10.1f}", end="")
        then = old.get(row)
        print(f"   SLOWER: {then:.2f} ms before" if then and ms["low"] > 1.15 * then else "", flush=True)
    if args.record:
        print("Recorded in", record(name, report).name)


if __name__ == "__main__":
    main()
