"""Ordered values and functions of an operator, and how far they are from the exact ones."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nbsvd import metrics
from nbsvd._errors import ArgumentError, nearest, require
from nbsvd.exact import Exact
from nbsvd.measures import Measure, Nodes
from nbsvd.operators import Operator
from nbsvd.spectrum.moments import Moments, average, node_count, standard_error
from nbsvd.spectrum.pencils import pencil, singular_pencil

NODE_SEED = 1907
PIECE = 8192  # points evaluated at once
PEAK = 0.9
SIDES = ("right", "left")

# typing.Self would do, but the run-time check in the tests looks at methods one by one, and refuses it there.
Same = TypeVar("Same", bound="Spectrum")


@dataclass(frozen=True, eq=False)
class Spectrum:
    r"""Ordered values and functions of an operator, with their errors.

    The functions are combinations of what was learned, ``f(x) @ mix``: unit norm in the reference measure, in
    nesting order (descending once trained; measured on a sample, neighbours may stand out of order within
    their errors). Their signs: :math:`f_l` is positive at the first of a fixed set
    of nodes where :math:`|f_l|` exceeds nine tenths of its largest value, and the left function goes with it.
    A function that is zero stays zero.

    Attributes:
        right_model, left_model: modules from points to ``(B, H)``; the same one for an eigenproblem.
        mix_right, mix_left: combinations of their outputs, ``(H, k)``.
        replicates: inner products of those outputs on independent sets of nodes.
        operator: T, unshifted.
        measure_x, measure_y: the reference measures.
        exact: the exact answer where it is known.
        label: ``"learned"``, ``"ritz"``, ``"aligned"`` or ``"control"``.
    """

    right_model: nn.Module
    left_model: nn.Module
    mix_right: Tensor
    mix_left: Tensor
    replicates: Sequence[Moments]
    operator: Operator
    measure_x: Measure
    measure_y: Measure
    exact: Exact | None = None
    label: str = "learned"

    @classmethod
    def from_models(
        cls: type[Same],
        right: nn.Module,
        left: nn.Module,
        replicates: Sequence[Moments],
        *,
        mix: Tensor | None = None,
        **fields: Any,
    ) -> Same:
        """Normalise learned functions and fix their signs.

        Arguments:
            right, left: the modules; the same one for an eigenproblem.
            replicates: their inner products on independent sets of nodes.
            mix: for an eigenproblem whose functions are combinations ``f @ mix`` of the outputs, ``(H, k)``.
            fields: the other attributes.
        """
        mean = average(replicates if mix is None else [p.mixed(mix, mix) for p in replicates])
        mix_right = torch.diag(_inverse_norms(mean.gram_f))
        mix_left = mix_right if left is right else torch.diag(_inverse_norms(mean.gram_g))
        if mix is not None:
            mix_right = mix_left = mix @ mix_right
        return cls(right, left, mix_right, mix_left, replicates, **fields).with_signs()

    @property
    def k(self) -> int:
        """Number of components."""
        return self.mix_right.shape[1]

    @property
    def self_adjoint(self) -> bool:
        """Whether this is an eigenproblem, so that left and right functions are the same."""
        return self.left_model is self.right_model

    @cached_property
    def _mixed(self) -> list[Moments]:
        return [p.mixed(self.mix_right, self.mix_left) for p in self.replicates]

    @property
    def values(self) -> Float[Tensor, " k"]:
        """Rayleigh quotients ``<g_l|T f_l>/(|f_l||g_l|)`` on nodes independent of training, ``(k,)``."""
        return average(self._mixed).quotients()

    @property
    def stderr(self) -> Float[Tensor, " k"]:
        """Standard errors of the values over independent sets of nodes, ``(k,)``."""
        return standard_error(self._mixed)

    @property
    def cosine_gram(self) -> Float[Tensor, "k k"]:
        """Cosines between the right functions, ``(k, k)``."""
        G = average(self._mixed).gram_f
        d = _inverse_norms(G)
        return d[:, None] * G * d

    def right(self, x: Tensor) -> Tensor:
        """Evaluate the right singular functions, or eigenfunctions, at points ``(B, d)``: ``(B, k)``."""
        return self._evaluate(self.right_model, self.mix_right, self.measure_x, x)

    def left(self, x: Tensor) -> Tensor:
        """Evaluate the left singular functions at points ``(B, d)``: ``(B, k)``."""
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
        return torch.cat([model(piece) @ mix for piece in x.split(PIECE)])

    def nodes(self, side: str = "right", n: int | None = None) -> Nodes:
        """Return the fixed nodes on which functions are compared, the same for all results of a problem."""
        measure = self.measure_x if nearest("side", side, SIDES) == "right" else self.measure_y
        kind = measure.evaluation_kind
        generator = None if kind == "quadrature" else torch.Generator().manual_seed(NODE_SEED)
        return measure.nodes(
            n or node_count(self.operator, measure),
            kind=kind,
            generator=generator,
            device=self.mix_right.device,
        )

    def with_signs(self: Same) -> Same:
        """Return the same functions with their signs fixed by the rule above."""
        f = self.right(self.nodes().x)
        # The first large value, not the largest one: of that an odd function has two, of either sign.
        first = (f.abs() >= PEAK * f.abs().amax(0)).long().argmax(0, keepdim=True)
        sign = torch.where(f.gather(0, first)[0] < 0, -1.0, 1.0).to(f)
        return self._combined(torch.diag(sign), torch.diag(sign))

    def _combined(self: Same, right: Tensor, left: Tensor, **changes: Any) -> Same:
        return replace(self, mix_right=self.mix_right @ right, mix_left=self.mix_left @ left, **changes)

    def ritz(self: Same) -> Same:
        """Return the Rayleigh-Ritz solution inside the learned span, labelled ``"ritz"``.

        The rotation is found on one half of the independent sets of nodes and the values are measured on the
        other. For a data set of pairs these are halves of the pairs held out: with few of them the rotation
        is noise.

        Raises:
            ArgumentError: learned functions that are linearly dependent.
        """
        fit, test = self._mixed, self.replicates
        if len(self.replicates) > 1:
            fit, test = self._mixed[::2], self.replicates[1::2]
        base = average(fit)
        if self.self_adjoint:
            C = D = pencil(base, self.k)[1]
        else:
            C, D = singular_pencil(base, self.k)[1:]
        return self._combined(C, D, label="ritz", replicates=test).with_signs()

    def align(self: Same) -> Same:
        """Return the functions turned onto the exact ones inside degenerate levels, labelled ``"aligned"``.

        Only orthogonal rotations inside a level are used: what was learned wrongly stays wrong.

        Raises:
            ArgumentError: a problem without a known exact answer.
        """
        turn = self._alignment.learned.to(self.mix_right)
        return self._combined(turn, turn, label="aligned")

    def exact_like(self, x: Tensor, side: str = "right") -> Tensor:
        """Return the exact functions to compare the aligned ones with, ``(B, k)``.

        They are the first k, except in a level that k cuts: there, the part of the level nearest to what was
        learned.
        """
        exact = self._known()
        K = exact.completed(self.k)
        at = exact.functions(x, K) if nearest("side", side, SIDES) == "right" else exact.left(x, K)
        return at @ self._alignment.exact.to(at)

    def _known(self) -> Exact:
        if self.exact is None:
            raise ArgumentError(
                "exact",
                got=None,
                expected="a problem with a known answer",
                remedy="Give Problem(..., exact=...), or look at values and stderr.",
            )
        return self.exact

    @cached_property
    def _alignment(self) -> metrics.Alignment:
        exact = self._known()
        K = exact.completed(self.k)
        nodes = self.nodes()
        cross = metrics.cosine_gram(self.right(nodes.x), nodes.weights, exact.functions(nodes.x, K))
        if not self.self_adjoint:
            nodes = self.nodes("left")
            cross = cross + metrics.cosine_gram(self.left(nodes.x), nodes.weights, exact.left(nodes.x, K))
        return metrics.alignment(cross, exact.levels(K))

    def errors(self) -> dict[str, float]:
        """Return the errors against the exact answer, in the reference measure.

        ``relative_max`` and ``relative_mean`` of the values; ``angle_max``, the largest sine of an angle to
        the exact function after alignment inside levels; ``subspace_max``, the largest ``1 - tr(P1 P2)/k`` of
        a level; ``orthogonality_max``, the largest cosine between two of the functions before alignment.

        Raises:
            ArgumentError: a problem without a known exact answer.
        """
        exact = self._known()
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

    def __repr__(self) -> str:
        values = ", ".join(f"{v:.6g}" for v in self.values.tolist())
        return f"{type(self).__name__}(k={self.k}, {self.label}, values=[{values}])"


def _inverse_norms(gram: Tensor) -> Tensor:
    """Return one over the norm of each function, and zero for a zero function."""
    squares = gram.diagonal()
    return torch.where(squares > 0, squares.clamp_min(torch.finfo(gram.dtype).tiny).rsqrt(), 0.0)
