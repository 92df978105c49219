"""The paper's run on a GPU: 500,000 steps on 128 points, each step one captured graph.

    python benchmarks/gpu.py --record              the whole run
    python benchmarks/gpu.py --steps 20000         a look

The setting is the paper's (``preset="paper"`` in its box: nine disjoint networks 2-128-128-128-1, RMSProp,
moving average, random heads), with T f by derivatives instead of differences. First some steps as they are
written, one kernel after another; then the run itself with ``compile=True``: loss, gradient, optimizer and
average compiled and captured as one graph, replayed with new points. Time is that of training, compiling
included; the time of a step leaves out everything before the first report.

Without a GPU this says so and ends: no number is estimated, and no row is written.
"""

import argparse
import sys
import warnings
from typing import Any

import torch
from _machine import Number, compare, describe, provenance, record

import nbsvd

NAME = "gpu-paper"


def run(steps: int, every: int, *, compiled: bool) -> dict[str, Any]:
    """Train, and tell how long it took and how far it came."""
    torch.cuda.reset_peak_memory_stats()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "compile:")  # where compiling or capturing fails there is no result
        result = nbsvd.solve(
            nbsvd.problems.hydrogen2d(domain="box"),
            9,
            preset="paper",
            steps=steps,
            report_every=every,
            compile=compiled,
            device="cuda",
            progress=False,
        )
    seen, seconds = result.history.step, result.history.seconds
    return {
        "compiled": result.info["compiled"],
        "steps": result.info["steps"],
        "seconds": result.info["seconds"],
        "ms_per_step": 1e3 * (seconds[-1] - seconds[0]) / (seen[-1] - seen[0]),
        "errors": result.errors(),
        "peak_mb": torch.cuda.max_memory_allocated() / 1e6,
    }


def numbers(report: dict[str, Any]) -> dict[str, Number]:
    """Time and error of the run."""
    found = {}
    for name, row in report["runs"].items():
        of = f"{name}, {row['steps']} steps"
        found[f"{of}: ms per step"] = Number(row["ms_per_step"], "time")
    whole = report["runs"]["captured"]
    found[f"captured, {whole['steps']} steps: seconds"] = Number(whole["seconds"], "time")
    found[f"captured, {whole['steps']} steps: error"] = Number(whole["errors"]["relative_max"], "error")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Time of the paper's run on a GPU.")
    parser.add_argument("--steps", type=int, default=500_000, help="steps of the run (default 500000)")
    parser.add_argument("--plain", type=int, default=2000, help="steps taken uncompiled (default 2000)")
    parser.add_argument("--threads", type=int, default=2, help="torch.set_num_threads (default 2)")
    parser.add_argument("--record", action="store_true", help="keep the numbers in benchmarks/results")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("No GPU: torch.cuda.is_available() is False. Nothing was run, and no result is written.")
        return 0
    torch.set_num_threads(args.threads)
    report = provenance()
    print(describe(report))
    report["runs"] = {
        "plain": run(args.plain, max(1, args.plain // 4), compiled=False),
        "captured": run(args.steps, max(1, args.steps // 50), compiled=True),
    }
    for name, row in report["runs"].items():
        print(
            f"{name:<9}{row['steps']:>8} steps {row['seconds']:>8.1f} s {row['ms_per_step']:>8.3f} ms each, ",
            f"relative_max {row['errors']['relative_max']:.1e}, peak {row['peak_mb']:.0f} MB",
            sep="",
        )
    compare(NAME, report, numbers)
    if args.record:
        print("Recorded in", record(NAME, report).name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
