"""Results on disk: one safetensors file, with its description as JSON in the header. Nothing is ever unpickled."""

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
from nbsvd.functions import from_config
from nbsvd.spectrum.history import History
from nbsvd.spectrum.moments import Moments
from nbsvd.spectrum.result import Result

FORMAT = 1


def check_writable(path: Path) -> Path:
    """Return the path with its folder made, or refuse one that can't be written, before any work is done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ArgumentError(
            "path",
            got=str(path),
            expected="a file in a folder that can be written",
            remedy=f"{error.strerror or error}. Choose another folder.",
        ) from None
    if path.is_dir():
        raise ArgumentError("path", got=f"the folder {path}", expected="a file name, such as result.safetensors")
    return path


def describe(module: nn.Module) -> dict[str, Any] | None:
    """Return the description from which a module can be built again, or ``None`` for one that is not ours."""
    config = getattr(module, "config", None)
    return config() if callable(config) else None


def write(result: Result, path: Path) -> Path:
    """Write a result, whole or not at all: a file that is there already is replaced in one move."""
    check_writable(path)
    tensors = {f"right.{name}": t for name, t in result.right_model.state_dict().items()}
    if not result.self_adjoint:
        tensors |= {f"left.{name}": t for name, t in result.left_model.state_dict().items()}
    tensors |= {"mix_right": result.mix_right, "mix_left": result.mix_left}
    for name in ("gram_f", "gram_g", "form"):
        tensors[f"moments.{name}"] = torch.stack([getattr(p, name) for p in result.replicates])
    tensors |= {f"history.{name}": t for name, t in result.history.arrays().items()}
    description = {
        "format": FORMAT,
        "right": describe(result.right_model),
        "left": None if result.self_adjoint else describe(result.left_model),
        "self_adjoint": result.self_adjoint,
        "info": dict(result.info),
        "control": dict(result.control),
        "label": result.label,
        "optimum": result.history.optimum,
        "stopped": result.history.stopped,
    }
    contiguous = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    partial = path.with_name(path.name + ".partial")
    try:
        save_file(contiguous, partial, metadata={"nbsvd": json.dumps(description)})
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


@dataclass(frozen=True)
class Stored:
    """What a file holds: tensors and their description."""

    tensors: Mapping[str, Tensor]
    description: Mapping[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors of one part, without its prefix."""
        start = prefix + "."
        return {name.removeprefix(start): t for name, t in self.tensors.items() if name.startswith(start)}


def read(path: str | Path) -> Stored:
    """Read a file written by :func:`write`.

    Raises:
        ArgumentError: no such file, a foreign or broken one, or one of a later format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118: not a dict
        description = json.loads(metadata["nbsvd"])
    except (OSError, SafetensorError) as error:
        raise ArgumentError(
            "path", got=str(path), expected="a file written by Result.save", remedy=f"{error}"
        ) from None
    except (KeyError, ValueError):
        raise ArgumentError(
            "path", got=f"{path}, a safetensors file of another program", expected="a file written by Result.save"
        ) from None
    if description.get("format") != FORMAT:
        raise ArgumentError(
            "path", got=f"format {description.get('format')}", expected=f"format {FORMAT}", remedy="Update nbsvd."
        )
    return Stored(tensors, description)


def restore(stored: Stored, model: nn.Module | None, left_model: nn.Module | None, **context: Any) -> Result:
    """Build a result from what a file holds and from what it can't hold: operator, measures, a user's own module."""
    d = stored.description
    right = _rebuild("model", d["right"], model, stored.part("right"))
    left = right if d["self_adjoint"] else _rebuild("left_model", d["left"], left_model, stored.part("left"))
    parts = stored.part("moments")
    replicates = [
        Moments(*rows) for rows in zip(parts["gram_f"], parts["gram_g"], parts["form"], strict=True)
    ]
    entries = stored.part("history")
    history = History(
        step=entries["step"].long().tolist(),
        seconds=entries["seconds"].tolist(),
        loss=entries["loss"].tolist(),
        values=entries["values"].tolist(),
        optimum=d["optimum"],
        stopped=d["stopped"],
    )
    return Result(
        right,
        left,
        stored.tensors["mix_right"],
        stored.tensors["mix_left"],
        replicates,
        history=history,
        info=d["info"],
        control=d["control"],
        label=d["label"],
        **context,
    )


def _rebuild(
    argument: str, config: Mapping[str, Any] | None, model: nn.Module | None, state: dict[str, Tensor]
) -> nn.Module:
    if model is None and config is None:
        raise ArgumentError(
            argument,
            got=None,
            expected="the module that was trained",
            remedy=f"The file holds numbers, not code: build your own module and pass it as {argument}=.",
        )
    module = from_config(config) if model is None and config is not None else model
    assert module is not None
    module = module.to(torch.float64)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ArgumentError(
            argument, got="a module with other parameters", expected="the one that was trained", remedy=str(error)
        ) from None
    return module.requires_grad_(False)
