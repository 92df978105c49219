"""Time of one training step at the paper's setting, beside two finite-difference references and the floor.

    python benchmarks/step.py --threads 2              the comparison, eager
    python benchmarks/step.py --threads 2 --compile    all of it under torch.compile as well
    python benchmarks/step.py --threads 2 --parts      where the time of our default setting goes

The setting: nine disjoint networks 2-128-128-128-1, softplus, box factor D = 50, 128 points of N(0, 16^2)
truncated to the box, T = laplacian + 1/r, joint nesting, RMSProp 1e-3, moving average 0.995. All contenders
use the same batched networks, factor, sampler, optimizer and average; they differ in how f and T f are found:

(a) *as published*: the Laplacian by a five-point stencil of step 0.01, the five shifted batches stacked
    into one call of the network, the loss differentiated through the whole stencil;
(b) *value only*: as (a), with T f computed without a graph; T is self-adjoint, so the gradient needs f alone;
(c) *ours*: ``Schrodinger.evaluate`` (exact derivatives, no differences) and ``lora_evd``;
(d) the same three compiled (``--compile``), loss, gradient and RMSProp;
(e) *floor*: the products of the hidden layers alone, as the Laplacian carried forward takes them: value, two
    slopes and Laplacian forward, two products backward. Ours takes one less, see ``nbsvd.functions.adjoint``.

Before anything is timed, loss and gradients of (a), (b) and (c) are compared in float64. Then all contenders
take turns in short blocks of steps; a ratio is the median of the ratios within a round. (a) and (b) take
plain means in the loss, (c) the U-statistic, a little more work, which training takes for such points.
"""

import argparse
import copy
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _machine import Number, compare, describe, keep_freed_memory, provenance, record
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from nbsvd.functions import MLP, BoxFactor, DecayFactor, Features, WithFactor, jet_of
from nbsvd.measures import Lebesgue, Nodes, Radial, TruncatedGaussian
from nbsvd.objectives.lora import lora_evd
from nbsvd.objectives.nesting import Nesting
from nbsvd.operators import Schrodinger
from nbsvd.training.average import Average
from nbsvd.training.compiled import Compiled, Update
from nbsvd.training.draws import batches
from nbsvd.training.soap import SOAP

L, WIDTHS, BATCH, STEP, HALF_WIDTH = 9, (128, 128, 128), 128, 0.01, 50.0
SMALL = 2e-4  # times this, the functions have both terms of the loss of about the same size
WARM_UP = 20
OPERATOR = Schrodinger(lambda x: -1 / x.norm(dim=1))
NESTING = Nesting.joint(L)
Loss = Callable[..., Tensor]  # of a module and nodes


def network(half_width: float = HALF_WIDTH, scale: float = 1.0) -> WithFactor:
    """The paper's networks with the paper's factor, times ``scale``."""
    mlp = MLP(L, 2, widths=WIDTHS, activation="softplus", generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mlp.head.weight.mul_(scale)
        mlp.head.bias.mul_(scale)
    return WithFactor(mlp, BoxFactor(half_width))


def stencil(f: nn.Module, x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Values and ``laplacian f + f/r`` by the five-point stencil, in one call."""
    shifts = eps * torch.tensor([[0.0, 0.0], [1, 0], [-1, 0], [0, 1], [0, -1]], dtype=x.dtype)
    values = f((x + shifts[:, None]).flatten(0, 1)).unflatten(0, (5, len(x)))
    laplacian = (values[1:].sum(0) - 4 * values[0]) / eps**2
    return values[0], laplacian + values[0] / x.norm(dim=1)[:, None]


def nested(f: Tensor, Tf: Tensor, w: Tensor, factor: float) -> Tensor:
    """``-factor sum_l m_l <f_l|T f_l> + sum_il M_il <f_i|f_l>^2``, plain means; factor 2 is the loss."""
    masks, wf = NESTING.masks(f), w[:, None] * f
    linear = (masks.vector * (wf * Tf).mean(0)).sum()
    return (masks.loss * (wf.t() @ f / len(f)) ** 2).sum() - factor * linear


def as_published(f: nn.Module, nodes: Nodes, eps: float = STEP) -> Tensor:
    values, Tf = stencil(f, nodes.x, eps)
    return nested(values, Tf, nodes.weights, 2)


def value_only(f: nn.Module, nodes: Nodes, eps: float = STEP) -> Tensor:
    x, values = nodes.x, f(nodes.x)
    with torch.no_grad():  # four shifted batches; the value in the middle is there already
        shifts = eps * torch.tensor([[1.0, 0.0], [-1, 0], [0, 1], [0, -1]], dtype=x.dtype)
        around = f((x + shifts[:, None]).flatten(0, 1)).unflatten(0, (4, len(x))).sum(0)
        Tf = (around - 4 * values) / eps**2 + values / x.norm(dim=1)[:, None]
    return nested(values, Tf, nodes.weights, 4)  # 4: the other half of the gradient, which T's symmetry gives


def ours(f: nn.Module, nodes: Nodes, moment: str = "u") -> Tensor:
    values, Tf = OPERATOR.evaluate(f, nodes)
    return lora_evd(values, Tf, NESTING, weights=nodes.weights, moment=moment)


def through_jet(f: nn.Module, nodes: Nodes) -> Tensor:
    """The loss of (a) with the exact Laplacian, differentiated through: a check, not a contender."""
    jet = jet_of(f, nodes.x, live=True)
    return nested(jet.value, OPERATOR.from_jet(nodes.x, jet), nodes.weights, 2)


def gradient(loss: Loss, f: nn.Module, nodes: Nodes, **options: Any) -> Tensor:
    """All derivatives of a loss in one vector."""
    grads = torch.autograd.grad(loss(f, nodes, **options), list(f.parameters()))
    return torch.cat([g.flatten() for g in grads])


def agreement() -> dict[str, float]:
    """Relative differences of the contenders in float64, stencil step 1e-3; stops if one is not small."""

    def apart(a: Tensor, b: Tensor) -> float:
        return float(((a - b).norm() / b.norm()).item())

    law = Lebesgue(TruncatedGaussian(2, scale=16.0, bound=HALF_WIDTH))
    nodes = law.nodes(BATCH, kind="iid", generator=torch.Generator().manual_seed(1))
    x = nodes.x
    f = network().double()
    Tf = OPERATOR.evaluate(f, nodes)[1].detach()
    # The quartic term of the loss does not know T f: functions so small that it does not hide the other.
    g = network(scale=SMALL).double()
    found = {
        "T f, stencil and (c)": apart(stencil(f, x, 1e-3)[1].detach(), Tf),
        "loss, (a) and (c)": apart(as_published(g, nodes, 1e-3).detach(), ours(g, nodes, "plain").detach()),
        "gradient, (b) and (c)": apart(
            gradient(value_only, g, nodes, eps=1e-3), gradient(ours, g, nodes, moment="plain")
        ),
        "gradient, (a) and the exact one through T f": apart(
            gradient(as_published, g, nodes, eps=1e-3), gradient(through_jet, g, nodes)
        ),
    }
    # (a) differentiates T f too. On a batch that is another estimate of the same gradient; on nodes fine
    # enough for the symmetry of T it is the same number. In a smaller box few nodes are fine.
    law, small = Lebesgue(TruncatedGaussian(2, scale=2.0, bound=4.0)), network(4.0, scale=0.01).double()
    fine = law.nodes(40**2, kind="quadrature")
    found["gradient, (a) and (c) on a fine rule"] = apart(
        gradient(as_published, small, fine, eps=1e-3),
        gradient(ours, small, fine, moment="plain"),
    )
    for name, difference in found.items():
        if not difference < 1e-4:
            raise SystemExit(f"The contenders do not compute the same: {name}, differ by {difference:.1e}.")
    noisy = stencil(network(), x.float(), STEP)[1].detach().double()
    return found | {"(not required) T f, stencil of step 0.01 in float32": apart(noisy, Tf)}


class Step:
    """A contender's whole step on its own copy of network, optimizer, average and random points."""

    def __init__(self, f: nn.Module, loss: Loss, *, compiled: bool = False) -> None:
        self.f = copy.deepcopy(f)
        self.loss: Loss = Compiled(loss) if compiled else loss
        self.optimizer = torch.optim.RMSprop(self.f.parameters(), lr=1e-3)
        self.update = Update(self.optimizer, compiled=compiled)
        self.average = Average(self.f, 0.995)
        law = Lebesgue(TruncatedGaussian(2, scale=16.0, bound=HALF_WIDTH))
        self.nodes = batches(law, BATCH, "iid", torch.Generator().manual_seed(0))

    def __call__(self) -> None:
        self.loss(self.f, next(self.nodes)).backward()
        self.update()
        self.average.update_parameters(self.f)
        self.optimizer.zero_grad()


def floor() -> Callable[[], None]:
    """The products of the hidden layers: four streams forward, the value stream backward."""
    streams, h = torch.randn(L, 4 * BATCH, 128), torch.randn(L, BATCH, 128)
    weights = [torch.randn(L, a, b) for a, b in itertools.pairwise(WIDTHS)]

    def products() -> None:
        for W in weights:
            torch.bmm(streams, W)
            torch.bmm(h.mT, h)
            torch.bmm(h, W.mT)

    return products


def flops(step: Callable[[], None]) -> int:
    """Floating-point operations of the matrix products of one step."""
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def peak_bytes(step: Callable[[], None]) -> int:
    """The most memory that one step holds above what it found, from torch's own record of allocations."""
    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    with tempfile.TemporaryDirectory() as folder:
        profiler.export_chrome_trace(f"{folder}/trace.json")
        events = json.loads(Path(folder, "trace.json").read_text())["traceEvents"]
    held = peak = 0
    for event in sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"]):
        held += event["args"]["Bytes"]
        peak = max(peak, held)
    return peak


def spread(values: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4)
    return {"median": median, "low": low, "high": high}


def take_turns(contenders: dict[str, Callable[[], None]], repeats: int, block: int) -> dict[str, list[float]]:
    """Milliseconds per step of each contender in each round."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for step in contenders.values():
        for _ in range(block):
            step()
    for _ in range(repeats):
        for name, step in contenders.items():
            start = time.perf_counter()
            for _ in range(block):
                step()
            times[name].append(1e3 * (time.perf_counter() - start) / block)
    return times


def contest(args: argparse.Namespace, report: dict[str, Any]) -> None:
    """Let the contenders take turns and print what they took."""
    report["agreement"] = agreement()
    for name, difference in report["agreement"].items():
        print(f"  {name:<54}{difference:.1e}")
    f = network()
    losses: dict[str, Loss] = {
        "(a) as published": as_published,
        "(b) value only": value_only,
        "(c) ours": ours,
    }
    contenders: dict[str, Callable[[], None]] = {name: Step(f, loss) for name, loss in losses.items()}
    report["compile_seconds"] = {}
    torch._inductor.config.force_disable_caches = True  # the time of a first run
    for name, loss in losses.items() if args.compile else ():
        compiled = f"{name}, compiled"
        contenders[compiled] = Step(f, loss, compiled=True)
        start = time.perf_counter()
        contenders[compiled]()
        report["compile_seconds"][compiled] = round(time.perf_counter() - start, 1)
    contenders["(e) floor"] = floor()
    work = {name: flops(step) for name, step in contenders.items() if "compiled" not in name}
    memory = {name: peak_bytes(step) for name, step in contenders.items()}
    times = take_turns(contenders, args.repeats, args.block)

    print(f"\n{'one step':<28}{'ms':>8}{'quartiles':>18}{'(a) / it':>10}{'quartiles':>16}", end="")
    print(f"{'(b) / it':>10}{'it / (e)':>10}{'MFLOP':>8}{'peak MB':>9}")
    report["steps"] = {}
    for name, own in times.items():
        row: dict[str, Any] = {"ms": spread(own)}
        for key, other in ("faster_than_a", "(a) as published"), ("faster_than_b", "(b) value only"):
            row[key] = spread([t / o for t, o in zip(times[other], own, strict=True)])
        row["times_floor"] = spread([o / t for t, o in zip(times["(e) floor"], own, strict=True)])
        row |= {"mflop": work[name.removesuffix(", compiled")] / 1e6, "peak_mb": memory[name] / 1e6}
        report["steps"][name] = row
        ms, a, b = row["ms"], row["faster_than_a"], row["faster_than_b"]
        print(f"{name:<28}{ms['median']:>8.2f}{ms['low']:>9.2f} -{ms['high']:>7.2f}", end="")
        print(f"{a['median']:>9.2f}x{a['low']:>8.2f} -{a['high']:>6.2f}{b['median']:>9.2f}x", end="")
        print(f"{row['times_floor']['median']:>10.2f}{row['mflop']:>8.0f}{row['peak_mb']:>9.1f}")
    if args.compile:
        seconds = [f"{s} s for {name[:3]}" for name, s in report["compile_seconds"].items()]
        print("Compiling took", ", ".join(seconds))
        own = times["(c) ours, compiled"]
        for other in "(a) as published, compiled", "(b) value only, compiled":
            ratio = spread([t / o for t, o in zip(times[other], own, strict=True)])
            report["steps"]["(c) ours, compiled"]["faster_than_" + other[1] + "_compiled"] = ratio
            print(f"(c) compiled is {ratio['median']:.2f}x faster than {other}")


def parts(args: argparse.Namespace, report: dict[str, Any]) -> None:
    """Print where the time of one step at our default setting goes."""
    law = Lebesgue(Radial(2, scale=5.0))
    report["parts"] = {}
    for size in (320, 640):
        generator = torch.Generator().manual_seed(0)
        features = Features(2, scales=[0.5, 2.0, 8.0], cusps=[(0.0, 0.0)])
        f = WithFactor(MLP(L, 2, features=features, generator=generator), DecayFactor(8.0))
        optimizer = SOAP(f.parameters(), lr=3e-3)
        average = Average(f, 0.995)
        times: dict[str, list[float]] = {}
        for _ in range(WARM_UP + args.repeats * args.block):
            marks = [time.perf_counter()]
            nodes = law.nodes(size, generator=generator, dtype=torch.float32)
            marks.append(time.perf_counter())
            values, Tf = OPERATOR.evaluate(f, nodes)
            marks.append(time.perf_counter())
            loss = lora_evd(values, Tf, NESTING, weights=nodes.weights, moment="plain")
            marks.append(time.perf_counter())
            loss.backward()
            marks.append(time.perf_counter())
            optimizer.step()
            marks.append(time.perf_counter())
            average.update_parameters(f)
            optimizer.zero_grad()
            marks.append(time.perf_counter())
            names = ("nodes", "f and T f", "loss", "backward", "SOAP", "average, zero")
            for name, (start, stop) in zip(names, itertools.pairwise(marks), strict=True):
                times.setdefault(name, []).append(1e3 * (stop - start))
            times.setdefault("step", []).append(1e3 * (marks[-1] - marks[0]))
        times = {name: v[WARM_UP:] for name, v in times.items()}
        # SOAP refreshes its bases every tenth step, which a median would not see: hence the mean.
        rows = {name: spread(v) | {"mean": statistics.fmean(v)} for name, v in times.items()}
        report["parts"][str(len(nodes))] = rows
        print(f"\n{len(nodes)} nodes{'ms: median':>19}{'quartiles':>18}{'mean':>8}")
        for name, r in rows.items():
            print(f"{name:<16}{r['median']:>12.3f}{r['low']:>9.3f} -{r['high']:>7.3f}{r['mean']:>8.3f}")


def numbers(report: dict[str, Any]) -> dict[str, Number]:
    """How far we are ahead, and the memory of a step. Milliseconds change with the clock of the day."""
    found = {}
    for name, row in report["steps"].items():
        if name.startswith("(c)"):
            found[f"{name}: (a) / it"] = Number(row["faster_than_a"]["median"], "ratio")
            found[f"{name}: (b) / it"] = Number(row["faster_than_b"]["median"], "ratio")
            found[f"{name}: peak MB"] = Number(row["peak_mb"], "memory")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of one training step beside its references.")
    parser.add_argument("--threads", type=int, default=2, help="torch.set_num_threads (default 2)")
    parser.add_argument("--repeats", type=int, default=25, help="rounds (default 25)")
    parser.add_argument(
        "--block", type=int, default=10, help="steps of each contender in a round (default 10)"
    )
    parser.add_argument("--compile", action="store_true", help="compile all three as well")
    parser.add_argument("--parts", action="store_true", help="take our default setting apart instead")
    parser.add_argument("--record", action="store_true", help="keep the numbers in benchmarks/results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    report = provenance()
    print(describe(report))
    (parts if args.parts else contest)(args, report)
    name = f"step-{'parts' if args.parts else 'paper'}-{args.threads}threads"
    if not args.parts:
        compare(name, report, numbers)
    if args.record:
        print("Recorded in", record(name, report).name)


if __name__ == "__main__":
    main()
