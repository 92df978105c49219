"""Accuracy in a given time, over seeds: the table that stands or falls with the package.

    python benchmarks/accuracy.py --threads 2 --record          all of it, over an hour
    python benchmarks/accuracy.py --parallel --record           two at a time, one thread each: half of that
    python benchmarks/accuracy.py --only hydrogen9 --seeds 0 1  a part
    python benchmarks/accuracy.py --kernels --parallel --record the kernels, which have a record of their own
    python benchmarks/accuracy.py --list                        what each case costs
    python benchmarks/accuracy.py --quick                       two seconds a run: to see that it runs

Every run is kept at once in ``_build/accuracy``, in a folder for the state of the package's files; the same
command goes on where it was stopped. A run trains for the seconds that its case states, and is measured on
nodes that no step was taken on. Default settings throughout: nothing but problem, k, method and time is
chosen. Beside the error stands that of the untrained control, the Ritz solution on the same network before
training.

A record also holds each run's error against time, from the values on the check nodes at the run's own
reports, thinned to thirty points: the data of the figure.

With ``--parallel`` two runs at a time have one thread each, which is stricter than two threads for one run.
"""

import argparse
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from _classical import chain, relative_max
from _machine import RUNS, Number, already, compare, describe, kept, provenance, quartiles, record, sources

import nbsvd

POINTS = 30  # of a run's error against time
OVERHEAD = 12  # seconds of a run beside its training: start of the process, reference, measurement
QUICK = 2.0
Errors = dict[str, float]


@dataclass(frozen=True)
class Case:
    """A problem, how many values in how many seconds, what is required, and on how many of the seeds."""

    make: Callable[[], nbsvd.Problem]
    k: int
    seconds: float
    bounds: Errors = field(default_factory=dict)  # none: reported, not required
    seeds: int = 5
    stretch: bool = False
    method: str = "varpro"
    options: dict[str, Any] = field(default_factory=dict)


def tilted() -> nbsvd.Problem:
    """Frequencies 1 and 2.3 along axes turned by half a radian, off-centre."""
    c, s = math.cos(0.5), math.sin(0.5)
    R = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    K = R @ torch.diag(torch.tensor([1.0, 2.3], dtype=torch.float64) ** 2) @ R.t()
    return nbsvd.problems.oscillator(K=((K + K.t()) / 2).tolist(), center=[3.0, -2.0])


ATOM, WELL = nbsvd.problems.hydrogen2d, nbsvd.problems.infinite_well2d
CASES = {
    "hydrogen9": Case(ATOM, 9, 15.0, {"relative_max": 1e-7, "angle_max": 1e-3}),
    "hydrogen9-long": Case(ATOM, 9, 60.0, {"relative_max": 1e-9}, seeds=3, stretch=True),
    "hydrogen16": Case(ATOM, 16, 30.0, {"relative_max": 1e-6}),
    "hydrogen25": Case(ATOM, 25, 60.0, seeds=1),
    "oscillator10": Case(nbsvd.problems.oscillator2d, 10, 30.0, {"relative_max": 1e-7}),
    "oscillator-tilted": Case(tilted, 10, 30.0, {"relative_max": 1e-6}, seeds=3),
    "well": Case(WELL, 9, 30.0, {"relative_max": 1e-5}, seeds=3),
    "hydrogen3d": Case(nbsvd.problems.hydrogen3d, 5, 30.0, {"relative_max": 1e-5}, seeds=3),
    "sgd": Case(ATOM, 9, 40.0, {"relative_max": 5e-4, "orthogonality_max": 1e-3}, method="sgd"),
    "sgd-long": Case(ATOM, 9, 100.0, {"relative_max": 1e-5}, seeds=3, stretch=True, method="sgd"),
    "sgd-cold": Case(ATOM, 9, 40.0, seeds=3, method="sgd", options={"warm_start": None}),
    "six": Case(lambda: nbsvd.problems.oscillator(K=chain(6)), 7, 60.0, {"relative_max": 1e-3}, seeds=3),
    "ten": Case(lambda: nbsvd.problems.oscillator(K=chain(10)), 11, 60.0, seeds=3),
}
KERNELS = ("volterra5", "brownian5", "gaussian5")
for name, make in {
    "volterra5": nbsvd.problems.volterra,
    "brownian5": nbsvd.problems.brownian,
    "gaussian5": nbsvd.problems.gaussian_kernel,
}.items():
    CASES[name] = Case(make, 5, 60.0, {"relative_max": 1e-3, "angle_max": 2e-2}, method="sgd")
    CASES[f"{name}-varpro"] = Case(make, 5, 30.0, {"relative_max": 1e-6})


def thinned(seconds: list[float], errors: list[float], points: int = POINTS) -> dict[str, list[float]]:
    """At most so many pairs, first and last among them, about evenly spaced in the logarithm of time."""
    chosen = list(range(len(seconds)))
    if len(chosen) > points:
        start, stop = math.log(max(seconds[0], 1e-3)), math.log(max(seconds[-1], 1e-3))
        marks = [math.exp(start + i / (points - 2) * (stop - start)) for i in range(points - 1)]
        nearest = {min(chosen, key=lambda j, t=t: abs(seconds[j] - t)) for t in marks}
        chosen = sorted(nearest | {0, len(seconds) - 1})
    return {
        "seconds": [round(seconds[j], 2) for j in chosen],
        "relative_max": [float(f"{errors[j]:.3g}") for j in chosen],
    }


def run(case: Case, seed: int, seconds: float) -> dict[str, Any]:
    """One run: errors, control, error against time. A failed run is a result, an interrupted one is not."""
    busy = time.process_time()
    try:
        result = nbsvd.solve(
            case.make(),
            case.k,
            method=case.method,
            seconds=seconds,
            seed=seed,
            progress=False,
            **case.options,
        )
    except (nbsvd.TrainingDiverged, nbsvd.ArgumentError) as error:
        return {"seed": seed, "stopped": "failed", "said": str(error)}
    if result.history.stopped == "interrupted":
        raise KeyboardInterrupt
    exact = result.exact.values(case.k)  # type: ignore[union-attr]
    times, way = result.history.seconds, [relative_max(v, exact) for v in result.history.values]
    bound = case.bounds.get("relative_max", 0.0)
    return {
        "seed": seed,
        "errors": result.errors(),
        "control": dict(result.control),
        "stderr_max": float((result.stderr / result.values.abs()).max()),
        "ritz": result.ritz().errors() if case.method == "sgd" else None,
        "steps": result.info["steps"],
        "seconds": round(result.info["seconds"], 2),
        "seconds_to_bound": next((round(t, 2) for t, e in zip(times, way, strict=True) if e <= bound), None),
        "processor_seconds": round(time.process_time() - busy, 1),
        "stopped": result.history.stopped,
        "history": thinned(times, way),
    }


def errors(runs: list[dict[str, Any]], key: str) -> list[float]:
    """An error of all runs; infinite for a run that failed."""
    return [r["errors"][key] if "errors" in r else math.inf for r in runs]


def met(case: dict[str, Any]) -> int:
    """How many runs met all bounds."""
    bounds = case["bounds"].items()
    return sum("errors" in r and all(r["errors"][n] <= b for n, b in bounds) for r in case["runs"])


def tell(name: str, case: dict[str, Any]) -> str:
    """One line of the table."""
    runs = case["runs"]
    value = quartiles(errors(runs, "relative_max"))
    control = [r["control"]["relative_max"] for r in runs if "control" in r]
    spread = f"{value['low']:.0e} to {value['high']:.0e}"
    bound = case["bounds"].get("relative_max")
    count = f"{met(case)} of {len(runs)}" if case["bounds"] else f"- ({len(runs)})"
    untrained = f"{quartiles(control)['median']:.1e}" if control else "-"
    return (
        f"{name:<18}{case['k']:>3}{case['limit_seconds']:>5g}{value['median']:>10.1e}{spread:>17}"
        f"{max(errors(runs, 'relative_max')):>10.1e}{'' if bound is None else f'{bound:.0e}':>8}"
        f"{max(errors(runs, 'angle_max')):>10.1e}{max(errors(runs, 'orthogonality_max')):>10.1e}"
        f"{untrained:>10}{count:>9}"
        f"{'  (a stretch)' if case['stretch'] else ''}"
    )


HEAD = (
    f"{'case':<18}{'k':>3}{'s':>5}{'median':>10}{'quartiles':>17}{'worst':>10}{'bound':>8}"
    f"{'angle':>10}{'orthog.':>10}{'control':>10}{'met':>9}"
)


def numbers(report: dict[str, Any]) -> dict[str, Number]:
    """Median and worst error of each case, and the seconds to its bound."""
    found = {}
    for name, case in report.get("cases", {}).items():
        setting = f"{name}, k = {case['k']}, {case['limit_seconds']:g} s, {len(case['runs'])} seeds"
        of = errors(case["runs"], "relative_max")
        found[f"{setting}: error, median"] = Number(quartiles(of)["median"], "error")
        found[f"{setting}: error, worst"] = Number(max(of), "error")
        if case["bounds"]:
            reached = [r.get("seconds_to_bound") for r in case["runs"]]
            times = [math.inf if t is None else t for t in reached]
            found[f"{setting}: seconds to the bound, median"] = Number(quartiles(times)["median"], "time")
    return found


# Where runs are kept, and two at a time ------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What is to be run, and how."""

    names: list[str]
    seeds: list[int]
    threads: int
    at_once: int
    quick: bool
    folder: Path

    def jobs(self) -> Iterator[tuple[str, int]]:
        """All pairs of case and seed."""
        for name in self.names:
            for seed in self.seeds[: 1 if self.quick else CASES[name].seeds]:
                yield name, seed

    def seconds(self, name: str) -> float:
        return QUICK if self.quick else CASES[name].seconds

    def place(self, name: str, seed: int) -> tuple[Path, dict[str, Any]]:
        """The file of a run, and what makes it that run."""
        case = CASES[name]
        file = f"{name}-{seed}-{self.threads}threads-{self.at_once}{'-quick' * self.quick}.json"
        return self.folder / file, {
            "k": case.k,
            "method": case.method,
            "options": case.options,
            "seconds": self.seconds(name),
            "bounds": case.bounds,
            "threads": self.threads,
            "at_once": self.at_once,
        }

    def one(self, name: str, seed: int) -> dict[str, Any]:
        """The run from its file, or a new one."""
        return kept(*self.place(name, seed), lambda: run(CASES[name], seed, self.seconds(name)))

    def in_pairs(self) -> None:
        """Let two processes at a time make the runs, the longest ones first."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}

        def start(job: tuple[str, int]) -> None:
            name, seed = job
            command = [sys.executable, __file__, "--worker", "--parallel", "--folder", str(self.folder)]
            command += ["--only", name, "--seeds", str(seed), *(["--quick"] if self.quick else [])]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise SystemExit(f"{name}, seed {seed}, stopped:\n{done.stderr}")
            print(f"  {name}, seed {seed}: {done.stdout.strip()}", flush=True)

        missing = [job for job in self.jobs() if already(*self.place(*job)) is None]
        longest_first = sorted(missing, key=lambda job: -self.seconds(job[0]))
        with ThreadPoolExecutor(2) as pool:
            try:
                list(pool.map(start, longest_first))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def costs(plan: Plan) -> str:
    """What each case costs, and all of them."""
    lines, total = [f"{'case':<18}{'seeds':>6}{'seconds':>9}{'minutes, with overhead':>24}"], 0.0
    for name in plan.names:
        count = sum(job[0] == name for job in plan.jobs())
        whole = count * (plan.seconds(name) + OVERHEAD) / plan.at_once
        total += whole
        lines.append(f"{name:<18}{count:>6}{plan.seconds(name):>9g}{whole / 60:>24.1f}")
    return "\n".join([*lines, f"{'all':<33}{total / 60:>24.1f}"])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=CASES, help="these cases alone")
    parser.add_argument("--kernels", action="store_true", help="the kernels; without it all other cases")
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0, 1, 2, 3, 4],
        help="a case that needs fewer takes the first of them",
    )
    parser.add_argument("--threads", type=int, help="of each run (default 2; with --parallel always 1)")
    parser.add_argument("--parallel", action="store_true", help="two runs at a time, one thread each")
    parser.add_argument(
        "--quick", action="store_true", help="two seconds a run, one seed: not for the record"
    )
    parser.add_argument("--list", action="store_true", help="what each case costs; runs nothing")
    parser.add_argument("--folder", type=Path, help="where single runs are kept (default _build/accuracy)")
    parser.add_argument("--record", action="store_true", help="keep the table in benchmarks/results")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.parallel and args.threads not in (None, 1):
        parser.error("--parallel: each of the two runs has one thread; leave --threads out")
    if args.quick and args.record:
        parser.error("--quick: runs of two seconds are not for the record")
    args.threads = args.threads or (1 if args.parallel else 2)
    args.only = args.only or [name for name in CASES if name.startswith(KERNELS) == args.kernels]
    return args


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    folder = args.folder or RUNS / "accuracy" / sources()
    plan = Plan(args.only, args.seeds, args.threads, 2 if args.parallel else 1, args.quick, folder)
    if args.list:
        print(costs(plan))
        return
    if args.worker:
        one = plan.one(args.only[0], args.seeds[0])
        print(f"{one['errors']['relative_max']:.1e}" if "errors" in one else one["said"])
        return
    report = provenance() | {"at_once": plan.at_once, "package": sources()}
    print(describe(report) + (f"\n{plan.at_once} runs at a time" if args.parallel else ""))
    if args.parallel:
        plan.in_pairs()
    print(HEAD)
    report["cases"] = {}
    for name in args.only:
        case = CASES[name]
        report["cases"][name] = {
            "k": case.k,
            "method": case.method,
            "options": case.options,
            "limit_seconds": plan.seconds(name),
            "bounds": case.bounds,
            "stretch": case.stretch,
            "runs": [plan.one(name, seed) for other, seed in plan.jobs() if other == name],
        }
        report["cases"][name]["met"] = met(report["cases"][name])
        print(tell(name, report["cases"][name]), flush=True)
    part = "kernels-" if all(name.startswith(KERNELS) for name in args.only) else ""  # a table of their own
    name = f"accuracy-{part}{args.threads}threads" + ("-two-at-once" if args.parallel else "")
    compare(name, report, numbers)
    if args.record:
        print("Recorded in", record(name, report).name)


if __name__ == "__main__":
    main()
