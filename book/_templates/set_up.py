"""Set-up: finds a GPU, and where nbsvd is missing, as on Colab, installs it."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = ""  # OWNER/NAME on GitHub, once the book has a public address
ADDRESS = f"nbsvd @ git+https://github.com/{REPOSITORY}" if REPOSITORY else ""
SOURCE = os.environ.get("NBSVD_SOURCE") or ADDRESS

if importlib.util.find_spec("nbsvd") is None:
    remedy = "Run `pip install .` in a copy of the book's repository, then restart."
    if not SOURCE:
        raise ModuleNotFoundError(f"nbsvd is not installed here. {remedy}")
    # What a hosted session brings stays: its torch fits its driver, and so on.
    kept = [
        name
        for name in ("torch", "numpy", "ipywidgets")
        if importlib.util.find_spec(name)
    ]
    lines = [f"{name}=={importlib.metadata.version(name)}\n" for name in kept]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "kept.txt").write_text("".join(lines))
        pip = [sys.executable, "-m", "pip", "install", "--quiet"]
        options = ["--constraint", str(Path(folder, "kept.txt")), SOURCE]
        done = subprocess.run(pip + options, capture_output=True, text=True)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise ModuleNotFoundError(f"{SOURCE} can't be installed ({why}). {remedy}")
    importlib.invalidate_caches()

import torch

import nbsvd

device = "cuda" if torch.cuda.is_available() else "cpu"
place = torch.cuda.get_device_name() if device == "cuda" else "the CPU (no CUDA GPU)"
print(f"nbsvd {nbsvd.__version__} on {place}.")
