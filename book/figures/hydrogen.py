"""The run that the front page shows: made, recorded, drawn.

    python book/figures/hydrogen.py run     solve, write hydrogen.safetensors and hydrogen.json, draw
    python book/figures/hydrogen.py         draw again from the record

The record holds the functions themselves, so anyone can check the numbers of hydrogen.json against them
(tests/test_labs.py does), and what made them: command, seed, versions, machine, minutes.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbsvd
from nbsvd import plot
from nbsvd.spectrum import figures

HERE = Path(__file__).resolve().parent
RECORD, REPORT = HERE / "hydrogen.safetensors", HERE / "hydrogen.json"
ARGUMENTS = ["solve", "hydrogen2d", "--k", "9", "--steps", "8000", "--seed", "0"]
# One line of modes for a wide page, two for a telephone: modes in a line, inches, dots an inch.
LAYOUTS = {"wide": (9, 7.2, 192), "narrow": (5, 3.9, 192)}


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run() -> None:
    """Solve as a reader would, and keep the result with its report."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "nbsvd", *ARGUMENTS, "--no-progress", "--out", folder]
        subprocess.run(command, check=True)
        shutil.copyfile(Path(folder, "result.safetensors"), RECORD)
        report: dict[str, Any] = json.loads(Path(folder, "report.json").read_text(encoding="utf-8"))
    report["command"] = " ".join(["nbsvd", *ARGUMENTS])
    report["minutes"] = round(report["seconds"] / 60, 2)
    report["sha256"] = digest(RECORD)
    REPORT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def draw() -> None:
    """Draw the nine modes from the record."""
    result = nbsvd.load(RECORD)
    rows, extent = figures.functions_2d(result)
    for name, (columns, width, dpi) in LAYOUTS.items():
        figure = plot.mode_gallery(
            rows,
            extent=extent,
            exact_values=result.exact.values(result.k),
            unit=result.info["unit"],
            columns=columns,
            width=width,
        )
        figure.savefig(HERE / f"hydrogen-{name}.png", dpi=dpi)


if __name__ == "__main__":
    if sys.argv[1:] == ["run"]:
        run()
    draw()
