"""Accuracy in a given time, over seeds: the table that stands or falls with the package.

    python benchmarks/accuracy.py --threads 2 --record          all of it, an hour and a half
    python benchmarks/accuracy.py --only hydrogen9 --seeds 0 1

Every run is kept at once, as ``_build/accuracy/REVISION/CASE-SEED-THREADS.json``; the same command goes on
where it was stopped. ``seconds`` is the training; ``checked`` says whether each bound was met. Default
settings
throughout: nothing but problem, k, method and time is chosen.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from _classical import chain
from _machine import describe, last, provenance, record

import nbsvd

KEPT = Path(__file__).resolve().parent.parent / "_build" / "accuracy"


@dataclass(frozen=True)
class Case:
    make: Callable[[], nbsvd.Problem]
    k: int
    seconds: float
    bounds: dict[str, float] = field(default_factory=dict)  # none: reported, not required
    method: str = "varpro"
    options: dict[str, Any] = field(default_factory=dict)


def tilted() -> nbsvd.Problem:
    """Frequencies 1 and 2.3 along axes turned by half a radian, off-centre."""
    c, s = float(torch.cos(torch.tensor(0.5))), float(torch.sin(torch.tensor(0.5)))
    R = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    K = R @ torch.diag(torch.tensor([1.0, 2.3], dtype=torch.float64) ** 2) @ R.t()
    return nbsvd.problems.oscillator(K=((K + K.t()) / 2).tolist(), center=[3.0, -2.0])


ATOM, WELL = nbsvd.problems.hydrogen2d, nbsvd.problems.infinite_well2d
CASES = {
    "hydrogen9": Case(ATOM, 9, 15, {"relative_max": 1e-7, "angle_max": 1e-3}),
    "hydrogen9-long": Case(ATOM, 9, 60, {"relative_max": 1e-9}),  # a stretch
    "hydrogen16": Case(ATOM, 16, 60, {"relative_max": 1e-6}),
    "hydrogen25": Case(ATOM, 25, 60),
    "oscillator10": Case(nbsvd.problems.oscillator2d, 10, 30, {"relative_max": 1e-7}),
    "oscillator-tilted": Case(tilted, 10, 60, {"relative_max": 1e-6}),
    "well": Case(WELL, 9, 60, {"relative_max": 1e-5}),
    "hydrogen3d": Case(nbsvd.problems.hydrogen3d, 5, 60, {"relative_max": 1e-5}),
    "sgd": Case(ATOM, 9, 40, {"relative_max": 5e-4, "orthogonality_max": 1e-3}, "sgd"),
    "sgd-long": Case(ATOM, 9, 100, {"relative_max": 1e-5}, "sgd"),  # a stretch
    "sgd-cold": Case(ATOM, 9, 40, {}, "sgd", {"warm_start": None}),
    "six": Case(lambda: nbsvd.problems.oscillator(K=chain(6)), 7, 300, {"relative_max": 1e-3}),
    "ten": Case(lambda: nbsvd.problems.oscillator(K=chain(10)), 11, 300),
}


def run(case: Case, seed: int) -> dict[str, Any]:
    busy = time.process_time()
    try:
        result = nbsvd.solve(
            case.make(),
            case.k,
            method=case.method,
            seconds=case.seconds,
            seed=seed,
            progress=False,
            **case.options,
        )
    except nbsvd.TrainingDiverged as error:
        return {
            "seed": seed,
            "stopped": "diverged",
            "said": str(error),
            "checked": dict.fromkeys(case.bounds),
        }
    errors = result.errors()
    return {
        "seed": seed,
        "errors": errors,
        "control": dict(result.control),
        "stderr_max": float((result.stderr / result.values.abs()).max()),
        "ritz": result.ritz().errors() if case.method == "sgd" else None,
        "steps": result.info["steps"],
        "seconds": round(result.info["seconds"], 2),
        "processor_seconds": round(time.process_time() - busy, 1),
        "stopped": result.history.stopped,
        "checked": {name: errors[name] <= bound for name, bound in case.bounds.items()},
        "history": {
            "seconds": result.history.seconds,
            "relative_max": [
                float(((torch.tensor(v).double() - e) / e).abs().max())
                for v, e in ((v, result.exact.values(case.k)) for v in result.history.values)  # type: ignore[union-attr]
            ],
        },
    }


def kept(name: str, case: Case, seed: int, folder: Path, threads: int) -> dict[str, Any]:
    """The run from its file, or a new run, which is written to it."""
    path = folder / f"{name}-{seed}-{threads}.json"
    if path.exists():
        return json.loads(path.read_text())
    load = round(os.getloadavg()[0], 2)
    one = run(case, seed) | {"load_average": load}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(one, indent=1) + "\n")
    part.replace(path)  # a stop while writing leaves no broken file
    return one


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy in a given time, over seeds.")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="these cases alone")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where single runs are kept")
    parser.add_argument("--record", action="store_true", help="keep the table in benchmarks/results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    report = provenance()
    folder = args.folder or KEPT / str(report["revision"])
    folder.mkdir(parents=True, exist_ok=True)
    print(describe(report))
    print(f"{'case':<18}{'k':>4}{'s':>6}{'relative_max: median':>22}{'worst':>10}", end="")
    print(f"{'angle: worst':>14}{'orthogonality':>15}{'untrained':>11}{'bounds met':>12}")
    before = last(f"accuracy-{args.threads}threads")
    report["cases"] = {}
    for name in args.only:
        case = CASES[name]
        runs = [kept(name, case, seed, folder, args.threads) for seed in args.seeds]
        report["cases"][name] = {
            "k": case.k,
            "method": case.method,
            "limit_seconds": case.seconds,
            "bounds": case.bounds,
            "runs": runs,
        }
        done = [r for r in runs if "errors" in r]
        if not done:
            print(f"{name:<18} all runs diverged")
            continue
        found = {key: [r["errors"][key] for r in done] for key in done[0]["errors"]}
        met = sum(all(r["checked"].values()) for r in runs)
        print(
            f"{name:<18}{case.k:>4}{case.seconds:>6g}{statistics.median(found['relative_max']):>22.1e}",
            end="",
        )
        print(f"{max(found['relative_max']):>10.1e}{max(found['angle_max']):>14.1e}", end="")
        print(f"{max(found['orthogonality_max']):>15.1e}{done[0]['control']['relative_max']:>11.1e}", end="")
        print(f"{f'{met} of {len(runs)}' if case.bounds else '-':>12}", flush=True)
        old = before and before["cases"].get(name)
        if old:
            then = statistics.median(r["errors"]["relative_max"] for r in old["runs"] if "errors" in r)
            if statistics.median(found["relative_max"]) > 2 * then:
                print(f"  WORSE than on {before['date'][:10]}: the median was {then:.1e}")
    if args.record:
        print("Recorded in", record(f"accuracy-{args.threads}threads", report).name)


if __name__ == "__main__":
    main()
