"""Where a measurement was taken, and where its numbers are kept: shared by all benchmarks."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).resolve().parent / "results"


def processor() -> str:
    """The name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def revision() -> str | None:
    """The commit of this checkout, with "+" if files differ from it; None without git or a commit."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=RESULTS.parent, capture_output=True, text=True, check=False
            )
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "--short=12", "HEAD")
    return commit and commit + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def provenance(*packages: str) -> dict[str, Any]:
    """Machine, threads, versions (torch, numpy, scipy and ``packages``), date, revision and command."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "revision": revision(),
        "command": " ".join(["python", "benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]]),
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "gpu": gpu,
            "system": platform.system(),
            "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        },
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in ("torch", "numpy", "scipy", *packages)},
    }


def keep_freed_memory() -> None:
    """Let the C library keep freed blocks from now on, instead of returning them to the system.

    glibc returns large blocks until it has seen one as large come back (up to 32 MB). Page faults would
    then depend on what ran before; a real run frees blocks this large early on.
    """
    torch.empty(31 * 2**18)


def describe(about: dict[str, Any]) -> str:
    """One or two lines for the top of a printed table."""
    machine, load = about["machine"], about["machine"]["load_average"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    where = f"{machine['processor']}, {machine['cores']} cores, {about['threads']} thread(s)"
    busy = load is not None and load > 0.5
    warning = f"\nOther work was running (load average {load}): indicative numbers only." if busy else ""
    return f"{where}; {versions}; {about['date']}, revision {about['revision']}{warning}"


def last(name: str) -> dict[str, Any] | None:
    """The newest recorded result of a benchmark."""
    files = sorted(RESULTS.glob(f"{name}-20*.json"))
    return json.loads(files[-1].read_text()) if files else None


def record(name: str, report: dict[str, Any]) -> Path:
    """Keep a report, which holds its provenance, as ``results/NAME-DATE.json``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{report['date'][:10]}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    return path
