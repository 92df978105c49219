"""Files: one safetensors file, with its description as JSON in the header. Nothing is ever unpickled."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nbsvd._errors import ArgumentError
from nbsvd.functions import ConstantFirst, Factor, WithFactor, from_config
from nbsvd.measures import Measure

FORMAT = 1
EXPECTED = "a file written by Result.save"


@dataclass(frozen=True)
class Stored:
    """What a file holds: tensors, and their description as plain data."""

    tensors: Mapping[str, Tensor]
    description: Mapping[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors of one part, without its prefix."""
        start = prefix + "."
        return {name.removeprefix(start): t for name, t in self.tensors.items() if name.startswith(start)}

    def digest(self, text: str) -> str:
        """Return the checksum of the tensors and of the description's text."""
        total = hashlib.sha256(text.encode())
        for name in sorted(self.tensors):
            total.update(name.encode())
            total.update(self.tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return total.hexdigest()


def check_writable(path: Path, argument: str = "path") -> Path:
    """Return the path with its folder made, or refuse one that can't be written, before any work is done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ArgumentError(
            argument,
            got=str(path),
            expected="a file in a folder that can be written",
            remedy=f"{error.strerror or error}. Choose another folder.",
        ) from None
    if path.is_dir():
        raise ArgumentError(
            argument, got=f"the folder {path}", expected="a file name, such as result.safetensors"
        )
    return path


def write(stored: Stored, path: Path) -> Path:
    """Write a file whole or not at all: one that is there already is replaced in one move.

    Raises:
        ArgumentError: a path that can't be written, or a full disk; what was there before is still there.
    """
    check_writable(path)
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in stored.tensors.items()}
    text = json.dumps({"format": FORMAT, **stored.description}, default=str)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        metadata = {"nbsvd": text, "sha256": Stored(tensors, {}).digest(text)}
        save_file(tensors, partial, metadata=metadata)
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        raise ArgumentError(
            "path", got=str(path), expected="room for a file that can be written", remedy=f"{error}"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def read(path: str | Path) -> Stored:
    """Read a file written by :func:`write`.

    Raises:
        ArgumentError: no such file, a foreign or broken one, or one of another format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (OSError, SafetensorError) as error:
        raise ArgumentError("path", got=str(path), expected=EXPECTED, remedy=f"{error}.") from None
    if not {"nbsvd", "sha256"} <= set(metadata):
        raise ArgumentError("path", got=f"{path}, a safetensors file of another program", expected=EXPECTED)
    stored = Stored(tensors, {})
    if stored.digest(metadata["nbsvd"]) != metadata["sha256"]:
        raise ArgumentError(
            "path",
            got=f"{path}, whose content does not agree with its checksum",
            expected=EXPECTED,
            remedy="The file was changed or damaged after it was written.",
        )
    description = json.loads(metadata["nbsvd"])
    if description["format"] != FORMAT:
        raise ArgumentError(
            "path",
            got=f"format {description['format']}",
            expected=f"format {FORMAT}",
            remedy="It was written by another version of nbsvd: use that one.",
        )
    return Stored(tensors, description)


def spaces(operator: object, *measures: Measure) -> str:
    """Return a line that tells which kind of operator, between which spaces, a result belongs to."""
    return json.dumps([type(operator).__name__, *(measure.config() for measure in measures)])


def describe(module: nn.Module) -> dict[str, Any] | None:
    """Return the description from which a module can be built again; ``None`` for one that is not ours.

    Of a module of the user's own inside one of ours, such as an ansatz factor, ours is described.
    """
    if isinstance(module, WithFactor):
        return {
            "name": "WithFactor",
            "network": describe(module.network),
            "factor": module.factor.config(),
        }
    if isinstance(module, ConstantFirst):
        return {"name": "ConstantFirst", "network": describe(module.network), "L": module.L}
    config = getattr(module, "config", None)
    return config() if callable(config) and type(module).__module__.startswith("nbsvd.") else None


def rebuild(
    argument: str, config: Mapping[str, Any] | None, model: nn.Module | None, state: Mapping[str, Tensor]
) -> nn.Module:
    """Build a module from its description, or take the user's, and load its state in float64.

    Raises:
        ArgumentError: a module of the user's own that is missing, or that has other parameters.
    """
    if model is not None:
        module = model
        if config is not None and config["name"] == "WithFactor" and not isinstance(model, WithFactor):
            factor = from_config(config["factor"])
            assert isinstance(factor, Factor)
            module = WithFactor(model, factor)
        if config is not None and config["name"] == "ConstantFirst" and not isinstance(model, ConstantFirst):
            module = ConstantFirst(model, config["L"])
    elif config is None or config.get("network", config) is None:
        raise ArgumentError(
            argument,
            got=None,
            expected="the module that was trained",
            remedy=f"The file holds numbers, not code: build your own module and pass it as {argument}=.",
        )
    else:
        module = from_config(config)
    module = module.to(torch.float64)
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        raise ArgumentError(
            argument,
            got="a module with other parameters",
            expected="the one that was trained",
            remedy=str(error),
        ) from None
    return module.requires_grad_(False)
