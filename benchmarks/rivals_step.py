"""Time of one training step of each rival beside that of low-rank approximation, at the paper's setting.

    python benchmarks/rivals_step.py --threads 1              the comparison, eager
    python benchmarks/rivals_step.py --threads 1 --compile    what can be compiled is, as well
    python benchmarks/rivals_step.py --threads 1 --naive      and SpIN as one writes it down first

The setting, networks, operator, sampler, optimizer and average are those of ``step.py``; f and T f are found
the same way for all. The contenders differ in the objective alone:

* LoRA, joint and sequential; OMM of the inverse, of order 1 and 2; NeuralEF, unbiased and original;
* SpIN, which takes L + 1 = 10 backward passes, as each component has parameters of its own;
* with ``--naive``, SpIN twice more: by one backward pass for each pair of components, as for networks that
  share parameters; and by the derivatives of all functions at each point, ``vmap(jacrev(...))``.

SpIN takes derivatives inside its step and is not compiled. Before anything is timed, each gradient is
compared in float64 with the same field written down independently (``_fields.py``), and the two slow forms
of SpIN with the fast one over three batches of a small network. Then all take turns in short blocks of
steps; a ratio is the median of the ratios to LoRA, joint, within a round. *Peak* is what a step holds on top
of what it found, *kept* what an objective carries from step to step.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import _fields
import step
import torch
from _machine import Number, compare, describe, keep_freed_memory, provenance, record
from step import BATCH, HALF_WIDTH, NESTING, OPERATOR, SMALL, L, Loss, Step, flops, peak_bytes, spread
from torch import Tensor, nn

from nbsvd.functions import MLP, BoxFactor, WithFactor, jet_of
from nbsvd.measures import Lebesgue, Nodes, TruncatedGaussian
from nbsvd.objectives import Nesting, NeuralEF, SpIN, lora_evd, omm
from nbsvd.training.compiled import Compiled

C = 2.0  # of the inverse (C - T)^-1; the atom's largest value is 1
SEQUENTIAL = Nesting.sequential(L)
NAIVE_REPEATS = 5
Objective = Callable[..., Tensor]  # of f, Tf and weights=
SAID = {
    "joint": "LoRA, joint",
    "sequential": "LoRA, sequential",
    "omm": "OMM of the inverse",
    "omm-2": "OMM of the inverse, order 2",
    "neuralef": "NeuralEF, unbiased",
    "neuralef-original": "NeuralEF, original",
    "spin": "SpIN",
    "spin-pairs": "SpIN, a pass for each pair",
    "spin-naive": "SpIN, point by point",
}
TIMED = tuple(SAID)[:7]
COMPILED = TIMED[:6]
SLOW = tuple(SAID)[7:]


def objective(method: str, f: nn.Module, k: int = L) -> Objective:
    """The objective of a method, new, for functions f with k components."""
    joint, sequential = Nesting.joint(k), Nesting.sequential(k)
    if method == "spin":
        return SpIN(k, f)
    if method == "spin-pairs":
        return SpIN(k, _fields.Together(f))
    if method == "spin-naive":
        return _fields.NaiveSpIN(k, f)
    if method.startswith("neuralef"):
        return NeuralEF(k, unbiased=method == "neuralef")
    return {
        "joint": lambda f, Tf, weights: lora_evd(f, Tf, joint, weights=weights),
        "sequential": lambda f, Tf, weights: lora_evd(f, Tf, sequential, weights=weights),
        "omm": lambda f, Tf, weights: omm(f, Tf, joint, weights=weights, moment="u", invert=C),
        "omm-2": lambda f, Tf, weights: omm(f, Tf, joint, weights=weights, p=2, invert=C),
    }[method]


def loss(score: Objective) -> Loss:
    """The loss of an objective as a function of a module and nodes."""

    def of(f: nn.Module, nodes: Nodes) -> Tensor:
        values, Tf = OPERATOR.evaluate(f, nodes)
        where = {"x": nodes.x} if isinstance(score, _fields.NaiveSpIN) else {}
        return score(values, Tf, weights=nodes.weights, **where)

    return of


class Turn(Step):
    """A whole step of a method on its own copy of everything."""

    def __init__(self, method: str, *, compiled: bool = False) -> None:
        super().__init__(step.network(), step.ours, compiled=compiled)
        score = objective(method, self.f)
        memory = score if isinstance(score, nn.Module) else None
        self.loss = Compiled(loss(score), memory=memory) if compiled else loss(score)
        self.kept = sum(b.nbytes for b in score.buffers()) if isinstance(score, nn.Module) else 0


# Nothing wrong is timed ----------------------------------------------------------------------------------


# The gradients by the values of f, written down independently.
FIELDS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "joint": lambda f, Tf, w: _fields.lora(f, Tf, w, NESTING),
    "sequential": lambda f, Tf, w: _fields.lora(f, Tf, w, SEQUENTIAL),
    "omm": lambda f, Tf, w: _fields.omm(f, Tf, w, NESTING, C),
    "omm-2": lambda f, Tf, w: _fields.omm_powers(f, Tf, w, C, 2),
    "neuralef": _fields.neuralef,
    "neuralef-original": _fields.neuralef_original,
    "spin": _fields.spin,
}
# Of the random functions: at these no term of the gradient hides another.
SCALES = {"joint": SMALL, "sequential": SMALL}


def apart(a: Tensor, b: Tensor) -> float:
    return float(((a - b).norm() / b.norm()).item())


def agreement() -> dict[str, float]:
    """Relative differences of the gradients in float64 from what they should be; stops if one is not small.

    The reference takes T f from the jet that is carried forward, and f from the module's own forward pass.
    """
    law = Lebesgue(TruncatedGaussian(2, scale=16.0, bound=HALF_WIDTH))
    nodes = law.nodes(BATCH, kind="iid", generator=torch.Generator().manual_seed(1))
    found = {}
    for method, field in FIELDS.items():
        f = step.network(scale=SCALES.get(method, 1e-3)).double()
        jet = jet_of(f, nodes.x, live=True)
        values, Tf = f(nodes.x), OPERATOR.from_jet(nodes.x, jet).detach()
        surrogate = (field(values.detach(), Tf, nodes.weights) * values).sum()
        grads = torch.autograd.grad(surrogate, list(f.parameters()))
        right = torch.cat([g.flatten() for g in grads])
        found[method] = apart(step.gradient(loss(objective(method, f)), f, nodes), right)
    return found | slow_agreement()


def slow_agreement(k: int = 3, batches: int = 3) -> dict[str, float]:
    """How far the slow forms of SpIN are from the fast one after several batches, on a small network."""
    mlp = MLP(k, 2, widths=(6, 5), activation="softplus", generator=torch.Generator().manual_seed(0))
    f = WithFactor(mlp, BoxFactor(HALF_WIDTH)).double()
    fast, *slow = (loss(objective(method, f, k)) for method in ("spin", *SLOW))
    law = Lebesgue(TruncatedGaussian(2, scale=16.0, bound=HALF_WIDTH))
    generator = torch.Generator().manual_seed(1)
    found: dict[str, float] = {}
    for _ in range(batches):
        nodes = law.nodes(20, kind="iid", generator=generator)
        right = step.gradient(fast, f, nodes)
        for method, other in zip(SLOW, slow, strict=True):
            found[method] = max(found.get(method, 0.0), apart(step.gradient(other, f, nodes), right))
    return found


def check(found: dict[str, float]) -> None:
    """Print the differences, and stop if one is not small."""
    for method, difference in found.items():
        print(f"  gradient of {SAID[method]:<36}{difference:.1e}")
        if not difference < 1e-6:
            raise SystemExit(f"{SAID[method]} does not compute its gradient: it is {difference:.1e} from it.")


# The contest ---------------------------------------------------------------------------------------------


def contest(args: argparse.Namespace, report: dict[str, Any]) -> None:
    """Let the methods take turns and print what they took."""
    report |= {"methods": SAID, "agreement": agreement()}
    check(report["agreement"])
    turns = {method: Turn(method) for method in TIMED}
    report["compile_seconds"] = {}
    torch._inductor.config.force_disable_caches = True  # the time of a first run
    for method in COMPILED if args.compile else ():
        turns[f"{method}, compiled"] = turn = Turn(method, compiled=True)
        start = time.perf_counter()
        turn()
        report["compile_seconds"][f"{method}, compiled"] = round(time.perf_counter() - start, 1)
        assert isinstance(turn.loss, Compiled)
        if not turn.loss.works:
            raise SystemExit(f"{SAID[method]} could not be compiled.")

    print(f"\n{'one step':<38}{'ms':>9}{'quartiles':>20}{'it / joint':>12}{'quartiles':>18}", end="")
    print(f"{'MFLOP':>9}{'peak MB':>10}{'kept MB':>10}")
    report["steps"] = {}
    rounds(turns, args.repeats, args.block, report)
    if args.naive:
        slow: dict[str, Turn] = {"joint": turns["joint"]} | {method: Turn(method) for method in SLOW}
        rounds(slow, min(args.repeats, NAIVE_REPEATS), 1, report)
    if args.compile:
        print("Compiling took", ", ".join(f"{s} s ({n[:-10]})" for n, s in report["compile_seconds"].items()))


def rounds(turns: dict[str, Turn], repeats: int, block: int, report: dict[str, Any]) -> None:
    """Measure contenders, of which the first is LoRA, joint; those that the report has stay as they are."""
    work = {method: flops(turn) for method, turn in turns.items() if "compiled" not in method}
    memory = {method: peak_bytes(turn) for method, turn in turns.items()}
    times = step.take_turns(dict(turns), repeats, block)
    for method, own in times.items():
        if method in report["steps"]:
            continue
        row: dict[str, Any] = {"ms": spread(own)}
        for key, other in ("times_joint", "joint"), ("times_joint_compiled", "joint, compiled"):
            if other in times:
                row[key] = spread([t / o for t, o in zip(own, times[other], strict=True)])
        row |= {"mflop": work[method.removesuffix(", compiled")] / 1e6}
        row |= {"peak_mb": memory[method] / 1e6, "kept_mb": turns[method].kept / 1e6}
        report["steps"][method] = row
        ms, ratio = row["ms"], row["times_joint"]
        name = SAID[method.removesuffix(", compiled")] + ", compiled" * method.endswith("compiled")
        print(f"{name:<38}{ms['median']:>9.2f}{ms['low']:>10.2f} -{ms['high']:>8.2f}", end="")
        print(f"{ratio['median']:>11.2f}x{ratio['low']:>9.2f} -{ratio['high']:>7.2f}", end="")
        print(f"{row['mflop']:>9.0f}{row['peak_mb']:>10.1f}{row['kept_mb']:>10.1f}", flush=True)


def numbers(report: dict[str, Any]) -> dict[str, Number]:
    """What a step of each costs beside one of LoRA, upside down, so that more is better; and its memory."""
    found = {}
    for method, row in report["steps"].items():
        if method != "joint":
            found[f"{method}: joint / it"] = Number(1 / row["times_joint"]["median"], "ratio")
        found[f"{method}: peak MB"] = Number(row["peak_mb"], "memory")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of one training step of each rival.")
    parser.add_argument("--threads", type=int, default=1, help="torch.set_num_threads (default 1)")
    parser.add_argument("--repeats", type=int, default=25, help="rounds (default 25)")
    parser.add_argument("--block", type=int, default=10, help="steps of each in a round (default 10)")
    parser.add_argument("--compile", action="store_true", help="compile what can be, as well")
    parser.add_argument(
        "--naive", action="store_true", help="two slow forms of SpIN as well (needs 2.5 GB of memory)"
    )
    parser.add_argument("--record", action="store_true", help="keep the numbers in benchmarks/results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    report = provenance()
    print(describe(report))
    contest(args, report)
    name = f"rivals_step-paper-{args.threads}threads"
    compare(name, report, numbers)
    if args.record:
        print("Recorded in", record(name, report).name)


if __name__ == "__main__":
    main()
