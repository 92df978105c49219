"""Where a measurement was taken, where its numbers are kept, what has changed since: for all benchmarks."""

import datetime
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
RUNS = ROOT / "_build"  # single runs of the long benchmarks, by which they go on where they were stopped
CHANGED = 1.2  # a number that got worse by more than this factor is flagged
ROUNDING = 1e-12  # errors below are rounding, whose changes say nothing
# What each kind of number is called where it got worse, and better. Smaller is better, but for a ratio.
KINDS = {
    "time": ("SLOWER", "faster"),
    "error": ("LESS ACCURATE", "more accurate"),
    "memory": ("MORE MEMORY", "less memory"),
    "ratio": ("FALLEN BEHIND", "further ahead"),
}


@dataclass(frozen=True)
class Number:
    """A measured number that later runs are compared with.

    ``kind`` is a key of ``KINDS``. A ratio says how far we are ahead: larger is better.
    """

    value: float
    kind: str


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
            done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "--short=12", "HEAD")
    return commit and commit + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def sources() -> str:
    """A digest of the package's files, by which runs are kept: a commit may have changes on top."""
    total = hashlib.sha256()
    for path in sorted((ROOT / "nbsvd").rglob("*.py")):
        total.update(path.relative_to(ROOT).as_posix().encode() + b"\n" + path.read_bytes())
    return total.hexdigest()[:12]


def load_average() -> float | None:
    """How many processes wanted a core in the last minute, ours among them."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


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
            "load_average": load_average(),
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


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles; of two numbers the two, of one three times that one. One may be infinite."""
    ordered = sorted(values)
    if len(ordered) == 1 or not all(map(math.isfinite, ordered)):
        n = len(ordered)  # interpolation would turn infinities into "not a number"
        low, high = ordered[n // 4], ordered[-1 - n // 4]
        return {"median": ordered[n // 2], "low": low, "high": high}
    low, median, high = statistics.quantiles(
        ordered, n=4, method="inclusive" if len(ordered) < 3 else "exclusive"
    )
    return {"median": median, "low": max(low, ordered[0]), "high": min(high, ordered[-1])}


def in_a_process(script: str, spec: dict[str, Any]) -> dict[str, Any]:
    """What a script prints last, as JSON, when it is called with a specification in a process of its own.

    ``spec["threads"]`` is the number of threads.
    """
    threads = str(spec["threads"])
    done = subprocess.run(
        [sys.executable, script, json.dumps(spec)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
    )
    if done.returncode != 0:
        raise SystemExit(f"{spec} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


# Results -------------------------------------------------------------------------------------------------


def last(name: str) -> dict[str, Any] | None:
    """The newest recorded result of a benchmark."""
    files = sorted(RESULTS.glob(f"{name}-20*.json"))
    return json.loads(files[-1].read_text()) if files else None


def record(name: str, report: dict[str, Any]) -> Path:
    """Keep a report, which holds its provenance, as ``results/NAME-DATE.json``.

    A result of the same day but of another revision moves to ``results/earlier``.
    """
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{report['date'][:10]}.json"
    if path.exists():
        other = str(json.loads(path.read_text()).get("revision"))
        if other != str(report["revision"]):
            (RESULTS / "earlier").mkdir(exist_ok=True)
            path.replace(RESULTS / "earlier" / f"{path.stem}-{other}.json")
    write(path, report | {"load_average_after": load_average()})
    return path


def write(path: Path, report: dict[str, Any]) -> None:
    """Write a report as JSON, a list of numbers on one line; a stop meanwhile leaves no broken file."""
    text = json.dumps(report, indent=1)
    text = re.sub(r"\[\n([^\[\]{}\"]*?)\n\s*\]", lambda m: "[" + " ".join(m[1].split()) + "]", text)
    part = path.with_suffix(".part")
    part.write_text(text + "\n")
    part.replace(path)


def already(path: Path, setting: dict[str, Any]) -> dict[str, Any] | None:
    """The run that a file holds, if it is of this setting."""
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    return found["run"] if found["setting"] == json.loads(json.dumps(setting)) else None


def kept(path: Path, setting: dict[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A run from its file; or, where there is none of this setting, a new run, which is written to it.

    Arguments:
        path: the file.
        setting: what makes two runs comparable, as plain data.
        make: runs it. An interrupted run must raise, so that it is not taken for a whole one.
    """
    found = already(path, setting)
    if found is not None:
        return found
    load = load_average()
    run = make() | {"load_average": load}
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, {"setting": setting, "run": run})
    return run


# Nothing slower than before ------------------------------------------------------------------------------


def ratio(now: float, then: float) -> float:
    """Now over then; 1 for two numbers that are both infinite, or both zero."""
    if now == then:
        return 1.0
    return math.inf if then == 0 or math.isinf(now) else now / then


def verdict(now: Number, then: Number) -> str:
    """What a change amounts to, in a word or two; nothing, if it is within a fifth."""
    worse, better = KINDS[now.kind]
    if now.kind == "error" and max(now.value, then.value) < ROUNDING:
        return "rounding"
    if math.isnan(now.value):
        return "" if math.isnan(then.value) else worse
    change = ratio(now.value, then.value)
    if now.kind == "ratio":
        change = math.inf if change == 0 else 1 / change
    return worse if change > CHANGED else better if change < 1 / CHANGED else ""


def compare(
    name: str, report: dict[str, Any], numbers: Callable[[dict[str, Any]], Mapping[str, Number]]
) -> list[str]:
    """Print each number of a report beside that of the last recorded result; return what got worse.

    A number that got worse by more than a fifth is flagged. On another processor, or on another GPU, times
    are not compared.

    Arguments:
        name: the benchmark, as it is recorded.
        report: the new report with its provenance.
        numbers: takes the numbers out of a report, the new one and the old one. A key names the setting in
            full (problem, size, seconds): numbers are compared if their keys are equal.
    """
    before = last(name)
    new = numbers(report)
    if before is None:
        print(f"\nNo earlier result of {name} is recorded: nothing to compare {len(new)} numbers with.")
        return []
    old = numbers(before)
    where = [str(about["machine"][part]) for part in ("processor", "gpu") for about in (before, report)]
    moved = where[0] != where[1] or where[2] != where[3]
    print(
        f"\nBeside the result of {before['date'][:10]}, revision {before['revision']}: "
        "before, now, now / before"
    )
    if moved:
        print(f"That one was made on {where[0]}, this one on {where[1]}: times are not compared.")
    if before["versions"].get("torch") != report["versions"].get("torch"):
        print(f"torch was {before['versions'].get('torch')}, and is {report['versions'].get('torch')}.")
    worse = []
    for key, now in new.items():
        then = old.get(key)
        if then is None:
            print(f"  {key:<66}{'':>10}{now.value:>10.3g}  new")
            continue
        word = "other machine" if moved and now.kind == "time" else verdict(now, then)
        change = f"{ratio(now.value, then.value):.2f}x"
        print(f"  {key:<66}{then.value:>10.3g}{now.value:>10.3g}{change:>10}  {word}".rstrip())
        if word in (bad for bad, _ in KINDS.values()):
            worse.append(f"{key}: {word.lower()}, {then.value:.3g} before, {now.value:.3g} now")
    missing = len(set(old) - set(new))
    if missing:
        print(f"  {missing} of the {len(old)} numbers recorded then were not measured now.")
    compared = len(set(old) & set(new))
    print(f"  {len(worse)} of {compared} got worse by more than {CHANGED - 1:.0%}." if compared else "")
    return worse
