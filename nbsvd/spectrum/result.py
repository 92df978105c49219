"""The result of a decomposition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from nbsvd import metrics
from nbsvd._errors import ArgumentError, nearest, require
from nbsvd.exact import Exact
from nbsvd.measures import Measure, Nodes
from nbsvd.operators import Operator
from nbsvd.spectrum.history import History
from nbsvd.spectrum.moments import Moments, average, node_count, pencil, singular_pencil, standard_error

SIGN_SEED = 1907


@dataclass(frozen=True)
class Result:
    r"""Ordered values and functions of an operator, with their errors.

    The functions are combinations of what was learned, ``f(x) @ mix``: unit norm in the reference measure, in
    nesting order (descending once trained), each with the sign that makes its largest entry by modulus on a fixed
    set of nodes positive.

    Attributes:
        values: Rayleigh quotients ``<g_l|T f_l>/(|f_l||g_l|)`` on nodes independent of training, ``(k,)``.
        stderr: their standard errors over independent sets of nodes, ``(k,)``.
        history: loss and values against step and seconds.
        control: the same errors for the Ritz solution on the untrained network.
        info: how the result came about: problem, method, seed, seconds, versions.
        label: ``"learned"``, ``"ritz"`` or ``"aligned"``.

    Example:
        >>> import nbsvd
        >>> result = nbsvd.solve(nbsvd.Problem(nbsvd.Matrix(torch.diag(torch.tensor([3.0, 2.0, 1.0])))), k=2)
        >>> [round(v, 6) for v in result.values.tolist()]
        [3.0, 2.0]
    """

    right_model: nn.Module
    left_model: nn.Module
    mix_right: Tensor
    mix_left: Tensor
    replicates: Sequence[Moments]
    operator: Operator | None
    measure_x: Measure
    measure_y: Measure
    exact: Exact | None = None
    history: History = field(default_factory=History)
    info: Mapping[str, Any] = field(default_factory=dict)
    control: Mapping[str, float] = field(default_factory=dict)
    label: str = "learned"

    @classmethod
    def from_models(cls, right: nn.Module, left: nn.Module, replicates: Sequence[Moments], **fields: Any) -> "Result":
        """Normalise learned functions and fix their signs."""
        mean = average(replicates)
        mix_right = torch.diag(mean.gram_f.diagonal().rsqrt())
        mix_left = mix_right if left is right else torch.diag(mean.gram_g.diagonal().rsqrt())
        result = cls(right, left, mix_right, mix_left, replicates, **fields)
        return result._with_signs()

    @property
    def k(self) -> int:
        """Number of components."""
        return self.mix_right.shape[1]

    @property
    def self_adjoint(self) -> bool:
        """Whether this is an eigenproblem, so that left and right functions are the same."""
        return self.left_model is self.right_model

    def _mixed(self) -> list[Moments]:
        return [p.mixed(self.mix_right, self.mix_left) for p in self.replicates]

    @property
    def values(self) -> Tensor:
        """Rayleigh quotients on independent nodes, ``(k,)``."""
        return average(self._mixed()).quotients()

    @property
    def stderr(self) -> Tensor:
        """Standard errors of the values over independent sets of nodes, ``(k,)``."""
        return standard_error(self._mixed())

    @property
    def cosine_gram(self) -> Tensor:
        """Cosines between the right functions, ``(k, k)``."""
        G = average(self._mixed()).gram_f
        d = G.diagonal().rsqrt()
        return d[:, None] * G * d

    def right(self, x: Tensor) -> Tensor:
        """Evaluate the right singular functions (the eigenfunctions) at points ``(B, d)``; returns ``(B, k)``."""
        return self._evaluate(self.right_model, self.mix_right, self.measure_x, x)

    def left(self, x: Tensor) -> Tensor:
        """Evaluate the left singular functions at points ``(B, d)``; returns ``(B, k)``."""
        return self._evaluate(self.left_model, self.mix_left, self.measure_y, x)

    @torch.no_grad()
    def _evaluate(self, model: nn.Module, mix: Tensor, measure: Measure, x: Tensor) -> Tensor:
        require(
            isinstance(x, Tensor) and x.ndim == 2 and x.shape[1] == measure.dim,
            "points",
            got=f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__,
            expected=f"a tensor of shape (B, {measure.dim})",
            remedy="Points are rows; add the missing axis with x[:, None] on a line.",
        )
        x = x.to(device=mix.device, dtype=mix.dtype if x.is_floating_point() else None)
        parts = [model(piece) @ mix for piece in x.split(8192)]
        return torch.cat(parts)

    def nodes(self, side: str = "right", n: int | None = None) -> Nodes:
        """Return a fixed set of nodes on which functions are compared: the same for every result of a problem."""
        measure = self.measure_x if side == "right" else self.measure_y
        n = 2048 if n is None and self.operator is None else n or node_count_of(self.operator)
        kind = measure.evaluation_kind
        generator = None if kind == "quadrature" else torch.Generator().manual_seed(SIGN_SEED)
        return measure.nodes(n, kind=kind, generator=generator, device=self.mix_right.device)

    def _with_signs(self) -> "Result":
        f = self.right(self.nodes().x)
        peak = f.gather(0, f.abs().argmax(0, keepdim=True))[0]
        sign = torch.where(peak < 0, -1.0, 1.0)
        return replace(self, mix_right=self.mix_right * sign, mix_left=self.mix_left * sign)

    def ritz(self) -> "Result":
        """Return the Rayleigh-Ritz solution inside the learned span, labelled ``"ritz"``.

        The rotation is found on one half of the independent sets of nodes and the values are measured on the other.

        Raises:
            ArgumentError: learned functions that are linearly dependent.
        """
        fit, test = (self.replicates, self.replicates)
        if len(self.replicates) > 1:
            fit, test = self.replicates[::2], self.replicates[1::2]
        base = average([p.mixed(self.mix_right, self.mix_left) for p in fit])
        if self.self_adjoint:
            C = pencil(base, self.k)[1]
            D = C
        else:
            C, D = singular_pencil(base, self.k)[1:]
        mixed = replace(
            self, mix_right=self.mix_right @ C, mix_left=self.mix_left @ D, replicates=test, label="ritz"
        )
        return mixed._with_signs()

    def align(self) -> "Result":
        """Return the functions turned onto the exact ones inside degenerate levels, labelled ``"aligned"``.

        Only orthogonal rotations inside a level are used: what was learned wrongly stays wrong.

        Raises:
            ArgumentError: a problem without a known exact answer.
        """
        rotation = self._alignment().learned.to(self.mix_right)
        return replace(
            self, mix_right=self.mix_right @ rotation, mix_left=self.mix_left @ rotation, label="aligned"
        )

    def exact_like(self, x: Tensor, side: str = "right") -> Tensor:
        """Return the exact functions to compare the aligned ones with, ``(B, k)``.

        They are the first k, except in a level that k cuts: there, the part of the level nearest to what was learned.
        """
        exact = self._exact()
        K = exact.completed(self.k)
        at = exact.functions(x, K) if side == "right" else exact.left(x, K)
        return at @ self._alignment().exact.to(at)

    def _exact(self) -> Exact:
        if self.exact is None:
            raise ArgumentError(
                "exact",
                got=None,
                expected="a problem with a known answer",
                remedy="Give Problem(..., exact=...), or look at values and stderr.",
            )
        return self.exact

    def _alignment(self) -> metrics.Alignment:
        exact = self._exact()
        K = exact.completed(self.k)
        nodes = self.nodes()
        cross = metrics.cosine_gram(self.right(nodes.x), nodes.weights, exact.functions(nodes.x, K))
        if not self.self_adjoint:
            nodes = self.nodes("left")
            cross = cross + metrics.cosine_gram(self.left(nodes.x), nodes.weights, exact.left(nodes.x, K))
        return metrics.alignment(cross, exact.levels(K))

    def errors(self) -> dict[str, float]:
        """Return the errors against the exact answer, in the reference measure.

        ``relative_max`` and ``relative_mean`` of the values; ``angle_max``, the largest sine of an angle to the exact
        function after alignment inside levels; ``subspace_max``, the largest ``1 - tr(P1 P2)/k`` of a level;
        ``orthogonality_max``, the largest cosine between two of the functions before alignment.

        Raises:
            ArgumentError: a problem without a known exact answer.
        """
        exact = self._exact()
        K = exact.completed(self.k)
        nodes = self.nodes()
        sides: dict[str, Tensor] = {}
        if not self.self_adjoint:
            at_y = self.nodes("left")
            sides = {"g": self.left(at_y.x), "exact_g": exact.left(at_y.x, K), "weights_g": at_y.weights}
        return metrics.summary(
            self.values,
            exact.values(self.k),
            self.right(nodes.x),
            exact.functions(nodes.x, K),
            exact.levels(K),
            nodes.weights,
            **sides,
        )

    def report(self) -> dict[str, Any]:
        """Return the whole report as plain data, with the keys that the command line writes to ``report.json``."""
        known = self.exact is not None
        return {
            **self.info,
            "k": self.k,
            "label": self.label,
            "values": self.values.tolist(),
            "stderr": self.stderr.tolist(),
            "exact": self.exact.values(self.k).tolist() if self.exact is not None else None,
            "reference": type(self.exact).__name__ if known else None,
            "errors": self.errors() if known else None,
            "control": dict(self.control),
        }

    def plot(self, kind: str = "overview") -> Figure:
        """Draw the result.

        Arguments:
            kind: ``"overview"``, the layout of the paper's Figure 1: functions as learned, aligned and exact, and their
                cosine Gram matrix (lines in one dimension); ``"ladder"``, the values with error bars beside the exact
                ones; ``"training"``, the loss against the least one possible.
        """
        from nbsvd.spectrum import figures  # the figure room needs Result's type

        kinds = {"overview": figures.overview, "ladder": figures.ladder, "training": figures.training_curve}
        return kinds[nearest("kind", kind, kinds)](self)

    def save(self, path: str | Path) -> Path:
        """Write the result to one safetensors file with its description as JSON inside; nothing is pickled.

        Raises:
            ArgumentError: a path that can't be written.
        """
        from nbsvd.spectrum.storage import write

        return write(self, Path(path))

    def __repr__(self) -> str:
        values = ", ".join(f"{v:.6g}" for v in self.values.tolist())
        return f"Result({self.info.get('problem', 'custom')}, k={self.k}, {self.label}, values=[{values}])"


def node_count_of(operator: Operator | None) -> int:
    """Return the number of comparison nodes for an operator."""
    return 2048 if operator is None else node_count(operator)
