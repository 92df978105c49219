"""Devices by name, and what a run ran on."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from nbsvd._errors import ArgumentError, nearest


def pick_device(name: str | torch.device, dtype: torch.dtype) -> torch.device:
    """Return the device for a run; ``"auto"`` takes a GPU that knows the dtype, else the CPU.

    Raises:
        ArgumentError: an unknown device, one that is not there, or one that lacks the dtype.

    Example:
        >>> pick_device("cpu", torch.float64)
        device(type='cpu')
    """
    kind, _, index = str(name).partition(":")
    nearest("device", kind, ("auto", "cpu", "cuda", "mps"))
    if name != "auto":
        _read(name)
    mps = torch.backends.mps.is_available()
    if kind == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if mps and dtype != torch.float64 else "cpu")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(mps)}[kind]
    if int(index or 0) >= there:
        raise ArgumentError(
            "device",
            got=repr(name),
            expected="a device of this machine",
            remedy=f'It has {there or "no"} {kind} device{"s" if there > 1 else ""}; use "auto".',
        )
    if kind == "mps" and dtype == torch.float64:
        raise ArgumentError(
            "device", got="'mps' with float64", expected="float32 on mps", remedy='Use device="cpu".'
        )
    return torch.device(name)


def _read(name: str | torch.device) -> None:
    """Refuse what torch can't read as a device."""
    try:
        torch.device(name)
    except RuntimeError as error:
        raise ArgumentError(
            "device",
            got=repr(name),
            expected="a name such as 'cuda:0'",
            remedy='Write a whole number after the colon, or use "auto".',
        ) from error


def surroundings() -> dict[str, Any]:
    """Return threads, machine, date and versions, as a result tells them.

    Example:
        >>> sorted(surroundings())
        ['date', 'machine', 'threads', 'versions']
    """
    packages = ("torch", "numpy", "scipy", "nbsvd")
    return {
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
    }
