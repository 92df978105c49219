"""SpIN, NeuralEF and OMM beside NestedLoRA: same networks, nodes, operator and start, equal effort of tuning.

    python benchmarks/rivals.py --record             all of it, two runs at a time with one thread each
    python benchmarks/rivals.py --only hydrogen      one setting
    python benchmarks/rivals.py --list               what it costs
    python benchmarks/rivals.py --quick              a few steps a run, two seeds: to see that it runs

Each method is compared with the others

* at *equal time*: as many steps as take ``--seconds`` (15) at the cost of its step, where the costs are
  measured first, all methods in turns in one process. So a run is limited by steps: its result depends on the
  seed, and not on what else the machine was doing;
* at *equal steps*: as many as the slowest method, SpIN, gets in that time.

The learning rate of each method in each setting is the one of RATES that gives the smallest mean relative
error of the values in a third of the time, for a seed that is not among those reported. Everything else is
the default recipe, at the paper's network size: disjoint networks of three layers of 128. From random heads
that takes longer than this, so there the networks are the default ones, two layers of 32. Means and
standard deviations are over five seeds; no run is left out. The rates of equal steps are those of equal
time, and where a chosen rate is an end of the list a better one may lie beyond. SpIN is shown twice: its
own answer, orthonormalised by the running average of its Gram matrix, and "S measured", by the Gram matrix
measured at the end. It is tuned for the first.

A further part asks for the batch size: NeuralEF in both forms and NestedLoRA on independent points, 32, 128
and 512 in a step, in equal steps, with small networks.

Every run is kept at once in ``_build/rivals``, in a folder for the state of the package's files; the same
command goes on where it was stopped; date and revision of a record are those of its last call.
"""

import argparse
import itertools
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from _machine import RUNS, Number, compare, describe, kept, provenance, record, sources
from _rivals import ALL, BATCH_SETTINGS, METHODS, SETTINGS, costs, solve

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
SEEDS, TUNING_SEED = (0, 1, 2, 3, 4), 100
BATCH_STEPS = 1000
SLOWEST = "spin"
NAMES = {method: said for method, (said, _) in METHODS.items()}
NAMES |= {f"{m}-measured": f"{NAMES[m]}, S measured" for m in METHODS if m.startswith("spin")}


# Which runs there are ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What is to be run, and where it is kept."""

    names: list[str]
    seeds: tuple[int, ...]
    seconds: float
    folder: Path

    @property
    def quick(self) -> bool:
        return self.seconds < 1

    def cost(self, name: str) -> dict[str, float]:
        """Milliseconds per step of the methods of a setting."""
        path, about = self.folder / f"cost-{name}.json", {"seconds": self.seconds}
        found: dict[str, float] = kept(path, about, lambda: costs(ALL[name], self.quick))["ms"]
        return found

    def steps(self, name: str, method: str, mode: str) -> int:
        """How many steps a run has."""
        if name in BATCH_SETTINGS:
            return max(2, BATCH_STEPS // 100) if self.quick else BATCH_STEPS // (3 if mode == "tune" else 1)
        seconds = self.seconds / 3 if mode == "tune" else self.seconds
        cost = self.cost(name)
        return max(2, round(1e3 * seconds / cost[SLOWEST if mode == "steps" else method]))

    def one(self, name: str, method: str, mode: str, seed: int, lr: float) -> dict[str, Any]:
        """A run from its file, or a new one."""
        steps = self.steps(name, method, mode)
        path = self.folder / f"{name}-{method}-{mode}-{seed}-{lr:g}.json"
        return kept(path, {"steps": steps}, lambda: solve(ALL[name], method, seed=seed, lr=lr, steps=steps))

    def tuned(self, name: str, method: str) -> dict[str, Any]:
        """The rate that did best, and what all did. The batch sizes share the rate that is best for 128."""
        name = "batch-128" if name in BATCH_SETTINGS else name
        tried = {lr: score(self.one(name, method, "tune", TUNING_SEED, lr)) for lr in RATES}
        return {
            "lr": min(tried, key=lambda lr: tried[lr]),
            "tried": {f"{lr:g}": e for lr, e in tried.items()},
        }

    def jobs(self, stage: str) -> Iterator[tuple[str, str, str, int, float]]:
        """Setting, method, mode, seed and rate of each run of a stage, ``"tune"`` or ``"run"``."""
        for name in self.names:
            modes = ("time",) if name in BATCH_SETTINGS else ("time", "steps")
            for method in ALL[name].methods:
                if stage == "tune":
                    shared = "batch-128" if name in BATCH_SETTINGS else name
                    again = name in BATCH_SETTINGS and name != next(
                        n for n in self.names if n in BATCH_SETTINGS
                    )
                    yield from ((shared, method, "tune", TUNING_SEED, lr) for lr in RATES if not again)
                else:
                    lr = self.tuned(name, method)["lr"]
                    yield from (
                        (name, method, mode, seed, lr)
                        for mode in modes
                        for seed in self.seeds
                        if mode == "time" or method != SLOWEST
                    )

    def work(self, stage: str, part: int, of: int) -> None:
        """Make every ``of``-th run of a stage."""
        for job in list(self.jobs(stage))[part::of]:
            found = self.one(*job)
            error = f"{found['errors']['relative_mean']:.1e}" if "errors" in found else "failed"
            print(f"  {' '.join(map(str, job))}: {error}", flush=True)

    def in_pairs(self, arguments: list[str]) -> None:
        """Let two processes make the runs, stage after stage."""
        for name in self.names:
            if name in SETTINGS:
                self.cost(name)
        for stage in ("tune", "run"):
            command = [sys.executable, __file__, *arguments, "--worker", stage]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            both = [subprocess.Popen([*command, str(part)], env=environment) for part in range(2)]
            try:
                if any([process.wait() for process in both]):
                    raise SystemExit(f"A worker of stage {stage} stopped: see above.")
            except BaseException:
                for process in both:
                    process.terminate()
                raise


def score(run: dict[str, Any]) -> float:
    """What the rate is chosen by."""
    error = run["errors"]["relative_mean"] if "errors" in run else math.inf
    return error if math.isfinite(error) else math.inf


# The table -----------------------------------------------------------------------------------------------


def results(plan: Plan, name: str) -> dict[str, Any]:
    """All runs of a setting."""
    setting = ALL[name]
    found: dict[str, Any] = {"said": setting.said, "k": setting.k, "tuned": {}, "time": {}, "steps": {}}
    if name in SETTINGS:
        found["cost_ms"] = plan.cost(name)
    for method in setting.methods:
        found["tuned"][method] = plan.tuned(name, method)
        lr = found["tuned"][method]["lr"]
        for mode in ("time", "steps") if name in SETTINGS else ("time",):
            same = "time" if method == SLOWEST else mode
            found[mode][method] = [plan.one(name, method, same, seed, lr) for seed in plan.seeds]
    for mode, method in itertools.product(("time", "steps"), METHODS):
        runs = found[mode].get(method, [])
        if any("measured" in run for run in runs):
            found[mode][f"{method}-measured"] = [measured(run) for run in runs]
    return found


def measured(run: dict[str, Any]) -> dict[str, Any]:
    """A run of SpIN with its functions made orthonormal afterwards; a failed run as it is."""
    return {**run, "errors": run["measured"]} if "measured" in run else run


def spread(runs: list[dict[str, Any]], key: str) -> tuple[float, float]:
    """Mean and standard deviation of an error over seeds; infinite if a run failed."""
    of = [run["errors"][key] if "errors" in run else math.inf for run in runs]
    return statistics.fmean(of), statistics.stdev(of) if len(of) > 1 and all(map(math.isfinite, of)) else 0.0


def tell(found: dict[str, Any], mode: str) -> None:
    """Print a table."""
    print(f"\n{found['said']}, k = {found['k']}, equal {mode}: mean and standard deviation over seeds")
    print(f"{'method':<32}{'lr':>8}{'steps':>7}" + "".join(f"{n:>20}" for n in COLUMNS))
    for method, runs in found[mode].items():
        cells = "".join("{:>11.1e} ± {:.0e}".format(*spread(runs, f"{n}_mean")) for n in COLUMNS)
        print(f"{NAMES[method]:<32}{runs[0]['lr']:>8g}{runs[0].get('steps', 0):>7}{cells}")


COLUMNS = ("relative", "angle", "subspace", "orthogonality")


def numbers(report: dict[str, Any]) -> dict[str, Number]:
    """Mean errors of each method in each setting."""
    tables = {(n, mode): s[mode] for n, s in report["settings"].items() for mode in ("time", "steps")}
    tables |= {("batch", size): runs for size, runs in report["batch"]["runs"].items()}
    return {
        f"{name}, {mode}, {method}, {len(runs)} seeds: {key}": Number(spread(runs, f"{key}_mean")[0], "error")
        for (name, mode), table in tables.items()
        for method, runs in table.items()
        for key in ("relative", "angle")
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=ALL, default=list(ALL), help="these settings alone")
    parser.add_argument("--seconds", type=float, default=15.0, help="of a run, by the cost of its steps")
    parser.add_argument(
        "--quick", action="store_true", help="a few steps a run, two seeds: not for the record"
    )
    parser.add_argument("--list", action="store_true", help="what it costs; runs nothing")
    parser.add_argument("--folder", type=Path, help="where single runs are kept (default _build/rivals)")
    parser.add_argument("--record", action="store_true", help="keep the tables in benchmarks/results")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.record and (args.quick or args.seconds < 1 or set(args.only) != set(ALL)):
        parser.error(
            "--record: only whole studies are recorded; leave out --quick, --only and short --seconds"
        )
    torch.set_num_threads(1)
    seconds = 0.1 if args.quick else args.seconds
    plan = Plan(
        args.only, SEEDS[: 2 if args.quick else None], seconds, args.folder or RUNS / "rivals" / sources()
    )
    if args.list:
        print(estimate(plan))
        return
    if args.worker:
        plan.work(args.worker[0], int(args.worker[1]), 2)
        return
    report = provenance() | {"at_once": 2, "package": sources(), "budget_seconds": seconds}
    print(describe(report), flush=True)
    plan.in_pairs([a for a in sys.argv[1:] if a != "--record"])
    found = {name: results(plan, name) for name in args.only}
    report["methods"] = NAMES
    report["settings"] = {name: found[name] for name in args.only if name in SETTINGS}
    sizes = {name.removeprefix("batch-"): found[name]["time"] for name in args.only if name in BATCH_SETTINGS}
    report["batch"] = {"said": "hydrogen, independent points, equal steps", "runs": sizes}
    for name in args.only:
        for mode in ("time", "steps") if name in SETTINGS else ("time",):
            tell(found[name], mode)
    compare("rivals-1threads-two-at-once", report, numbers)
    if args.record:
        print("Recorded in", record("rivals-1threads-two-at-once", report).name)


def estimate(plan: Plan) -> str:
    """What each setting costs, in minutes with two runs at a time."""
    lines, overhead = [], 10.0
    for name in plan.names:
        methods = len(ALL[name].methods)
        if name in SETTINGS:
            whole = methods * len(RATES) * (plan.seconds / 3 + overhead)
            whole += len(plan.seeds) * (2 * methods - 1) * (plan.seconds + overhead)
        else:
            whole = methods * len(plan.seeds) * 2 * overhead
        lines.append(f"{name:<16}{whole / 120:>6.0f} minutes")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
