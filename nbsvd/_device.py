"""Devices by name."""

import torch

from nbsvd._errors import ArgumentError, nearest


def pick_device(name: str, dtype: torch.dtype) -> torch.device:
    """Return the device for a run; ``"auto"`` takes a GPU that knows the dtype, else the CPU.

    Raises:
        ArgumentError: an unknown device, one that is not there, or one that lacks the dtype.

    Example:
        >>> pick_device("cpu", torch.float64)
        device(type='cpu')
    """
    kind = name.split(":")[0]
    nearest("device", kind, ("auto", "cpu", "cuda", "mps"))
    mps = torch.backends.mps.is_available()
    if kind == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if mps and dtype != torch.float64 else "cpu")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ArgumentError(
            "device", got=repr(name), expected="a device of this machine", remedy='No CUDA GPU was found; use "auto".'
        )
    if kind == "mps" and not mps:
        raise ArgumentError("device", got=repr(name), expected="a device of this machine", remedy='Use "auto".')
    if kind == "mps" and dtype == torch.float64:
        raise ArgumentError("device", got="'mps' with float64", expected="float32 on mps", remedy='Use device="cpu".')
    return torch.device(name)
