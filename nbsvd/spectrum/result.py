"""The result of a run: a spectrum and how it came about."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from nbsvd._errors import nearest
from nbsvd.spectrum import figures, storage
from nbsvd.spectrum.history import History
from nbsvd.spectrum.moments import Moments
from nbsvd.spectrum.spectrum import Spectrum


@dataclass(frozen=True, eq=False, repr=False)
class Result(Spectrum):
    """Ordered values and functions of an operator, with their errors and the story of the run.

    Values, functions, alignment and errors are those of :class:`~nbsvd.spectrum.Spectrum`.

    Attributes:
        history: loss and values against step and seconds.
        info: how the result came about: problem, method, seed, seconds, versions.
        control: the same errors for the Ritz solution on the untrained network.

    Example:
        >>> import nbsvd
        >>> result = nbsvd.solve(
        ...     nbsvd.Problem(nbsvd.Matrix(torch.diag(torch.tensor([3.0, 2.0, 1.0])))), k=2
        ... )
        >>> [round(v, 6) for v in result.values.tolist()]
        [3.0, 2.0]
    """

    history: History = field(default_factory=History)
    info: Mapping[str, Any] = field(default_factory=dict)
    control: Mapping[str, float] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """Return the whole report as plain data: what the command line writes to ``report.json``."""
        exact = self.exact
        return {
            **self.info,
            "k": self.k,
            "label": self.label,
            "values": self.values.tolist(),
            "stderr": self.stderr.tolist(),
            "exact": None if exact is None else exact.values(self.k).tolist(),
            "reference": None if exact is None else type(exact).__name__,
            "errors": None if exact is None else self.errors(),
            "control": dict(self.control),
        }

    def plot(self, kind: str = "overview") -> Figure:
        """Draw the result.

        Arguments:
            kind: ``"overview"``, the layout of the paper's Figure 1: functions as learned, aligned and exact,
                and their cosine Gram matrix (lines in one dimension); ``"ladder"``, the values with error
                bars beside the exact ones; ``"training"``, the loss against the least one possible.

        Raises:
            ArgumentError: another kind.
        """
        unit = str(self.info.get("unit", "units of length"))
        kinds = {
            "overview": lambda: figures.overview(self, unit=unit),
            "ladder": lambda: figures.ladder(self),
            "training": lambda: figures.training_curve(self.history),
        }
        return kinds[nearest("kind", kind, kinds)]()

    def save(self, path: str | Path) -> Path:
        """Write the result to one safetensors file with its description as JSON inside; nothing is pickled.

        Raises:
            ArgumentError: a path that can't be written.
        """
        tensors = {f"right.{name}": t for name, t in self.right_model.state_dict().items()}
        if not self.self_adjoint:
            tensors |= {f"left.{name}": t for name, t in self.left_model.state_dict().items()}
        tensors |= {"mix_right": self.mix_right, "mix_left": self.mix_left}
        for name in ("gram_f", "gram_g", "form"):
            tensors[f"moments.{name}"] = torch.stack([getattr(p, name) for p in self.replicates])
        tensors |= {f"history.{name}": t for name, t in self.history.arrays().items()}
        description = {
            "right": storage.describe(self.right_model),
            "left": None if self.self_adjoint else storage.describe(self.left_model),
            "self_adjoint": self.self_adjoint,
            "spaces": storage.spaces(self.operator, self.measure_x, self.measure_y),
            "info": dict(self.info),
            "control": dict(self.control),
            "label": self.label,
            "optimum": self.history.optimum,
            "stopped": self.history.stopped,
        }
        return storage.write(storage.Stored(tensors, description), Path(path))

    @classmethod
    def restore(
        cls, stored: storage.Stored, model: nn.Module | None, left_model: nn.Module | None, **context: Any
    ) -> "Result":
        """Build a result from what a file holds and what it can't: operator, measures, your own modules."""
        d = stored.description
        right = storage.rebuild("model", d["right"], copy.deepcopy(model), stored.part("right"))
        left = right
        if not d["self_adjoint"]:
            left = storage.rebuild("left_model", d["left"], copy.deepcopy(left_model), stored.part("left"))
        parts, entries = stored.part("moments"), stored.part("history")
        history = History(
            step=entries["step"].long().tolist(),
            seconds=entries["seconds"].tolist(),
            loss=entries["loss"].tolist(),
            values=entries["values"].tolist(),
            optimum=d["optimum"],
            stopped=d["stopped"],
        )
        return cls(
            right,
            left,
            stored.tensors["mix_right"],
            stored.tensors["mix_left"],
            [Moments(*rows) for rows in zip(parts["gram_f"], parts["gram_g"], parts["form"], strict=True)],
            history=history,
            info=d["info"],
            control=d["control"],
            label=d["label"],
            **context,
        )
