r"""Features: bounded coordinates on several length scales, cusps at declared points, random Fourier waves.

A perceptron fed with bare coordinates must learn the length scales of the modes. These maps offer several at
once:

* ``(x_i - c_i) / sqrt(s^2 + |x - c|^2)``, bounded and smooth, linear inside the scale s;
* ``1 / sqrt(1 + |x - c|^2 / s^2)``, which tells the distance from the centre on the scale s;
* ``r / (s + r)`` with r the distance to a declared singular point: the only ones with a cusp there.

A cusp is offered in two or more dimensions only: on a line the second derivative of ``|x|`` is a point mass,
which the strong form can't see.
"""

import math
import numbers
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nbsvd._errors import require
from nbsvd.functions.jet import (
    Jet,
    Pointwise,
    Real,
    concatenate,
    coordinates,
    dtype_name,
    hold,
    radius,
    squared_radius,
)


class Features(Pointwise):
    """A map ``(B, d) -> (B, count)`` with a jet; see the module's text for the formulas.

    Arguments:
        dim: dimension of a point.
        scales: length scales s of the bounded coordinates, in the units of x.
        center: c, the origin unless given.
        frame: A, ``(d, d)``, without unit: ``A^{-1} (x - c)`` takes the place of ``x - c`` in the first two
            maps.
        cusps: points where the functions may have a cusp, ``(m, d)`` as nested sequences.
        fourier: number of random waves ``sin(k . x), cos(k . x)`` with k normal of width ``1 / min(scales)``.
        learned: whether the scales are parameters.
        generator: source of the wave vectors, needed for ``fourier > 0``.

    Raises:
        ArgumentError: a scale that is not positive and finite, a cusp on a line or of the wrong dimension, a
            centre that is not finite.

    Example:
        >>> features = Features(2, scales=[1.0, 4.0], cusps=[(0.0, 0.0)])
        >>> features(torch.ones(5, 2)).shape
        torch.Size([5, 8])
    """

    log_scales: Tensor
    center: Tensor
    inverse: Tensor | None
    cusps: Tensor
    waves: Tensor | None

    def __init__(
        self,
        dim: int,
        *,
        scales: Sequence[Real],
        center: Sequence[Real] | None = None,
        frame: Sequence[Sequence[Real]] | None = None,
        cusps: Sequence[Sequence[Real]] = (),
        fourier: int = 0,
        learned: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        require(
            isinstance(scales, Sequence) and len(scales) > 0 and all(map(is_length, scales)),
            "scales",
            got=repr(scales),
            expected="one or more positive lengths",
            remedy="Give the sizes of the functions in the units of x, such as scales=[0.5, 2.0].",
        )
        require(
            not cusps or dim > 1,
            "cusps",
            got=f"{len(cusps)} on a line",
            expected="none in one dimension",
            remedy="There the second derivative of |x| is a point mass, which the strong form misses.",
        )
        require(
            all(len(c) == dim and all(map(math.isfinite, c)) for c in cusps),
            "cusps",
            got=[list(c) for c in cusps],
            expected=f"points of {dim} finite coordinates",
            remedy="Give each as a sequence of numbers, one for each dimension.",
        )
        center = [0.0] * dim if center is None else [float(c) for c in center]
        require(
            len(center) == dim and all(map(math.isfinite, center)),
            "center",
            got=center,
            expected=f"{dim} finite coordinates",
            remedy="Leave it out for the origin.",
        )
        require(fourier >= 0, "fourier", got=fourier, expected="a number of waves, zero or more")
        require(
            fourier == 0 or generator is not None,
            "generator",
            got=None,
            expected="a torch.Generator for the wave vectors",
        )
        self.dim, self.learned = dim, learned
        hold(self, "log_scales", torch.log(torch.tensor([float(s) for s in scales])), learned)
        self.register_buffer("center", torch.tensor(center))
        self.frame = None if frame is None else [[float(entry) for entry in row] for row in frame]
        self.register_buffer("inverse", None if self.frame is None else inverted(self.frame, dim))
        self.register_buffer(
            "cusps", torch.tensor([[float(c) for c in p] for p in cusps]).reshape(len(cusps), dim)
        )
        waves = None
        if generator is not None and fourier > 0:
            draw = torch.randn(dim, fourier, generator=generator, device=generator.device).cpu()
            waves = draw / min(scales)
        self.register_buffer("waves", waves)

    @property
    def count(self) -> int:
        """Number of features."""
        waves = 0 if self.waves is None else 2 * self.waves.shape[1]
        return len(self.log_scales) * (self.dim + 1 + len(self.cusps)) + waves

    def config(self) -> dict[str, object]:
        """Describe the features by plain data; tensors are restored from the saved state."""
        return {
            "name": "Features",
            "dtype": dtype_name(self.log_scales),
            "dim": self.dim,
            "scales": self.log_scales.detach().exp().tolist(),
            "center": self.center.tolist(),
            "frame": self.frame,
            "cusps": self.cusps.tolist(),
            "fourier": 0 if self.waves is None else self.waves.shape[1],
            "learned": self.learned,
        }

    def _turned(self, x: Tensor) -> Tensor:
        """Return ``A^{-1} (x - c)``."""
        z = x - self.center
        return z if self.inverse is None else z @ self.inverse.t()

    def _turned_square(self, z: Tensor, live: bool, order: int) -> Jet:
        """Return the jet of ``|z|^2`` in x, ``z = A^{-1} (x - c)``."""
        assert self.inverse is not None
        derivatives = 2 * (z @ self.inverse).t().unsqueeze(-1)
        if order == 2:
            laplacian = (2 * (self.inverse**2).sum()).expand(1, len(z), 1)
            derivatives = torch.cat([derivatives, laplacian])
        return Jet((z * z).sum(1, keepdim=True), derivatives, live, order)

    def forward(self, x: Float[Tensor, "B d"]) -> Float[Tensor, "B F"]:
        """Return the features."""
        z = self._turned(x)
        q = (z * z).sum(1, keepdim=True)
        scales = self.log_scales.exp()
        shrink = torch.rsqrt(scales**2 + q)
        parts = [(z[:, :, None] * shrink[:, None, :]).flatten(1), scales * shrink]
        for cusp in self.cusps:
            r = (x - cusp).norm(dim=1, keepdim=True)
            parts.append(r / (scales + r))
        if self.waves is not None:
            phase = x @ self.waves
            parts += [torch.sin(phase), torch.cos(phase)]
        return torch.cat(parts, 1)

    def jet(self, x: Float[Tensor, "B d"], *, live: bool = False, order: int = 2) -> Jet:
        """Return the features with gradients and, for order 2, Laplacians."""
        z = self._turned(x)
        q = (
            squared_radius(z, live=live, order=order)
            if self.inverse is None
            else self._turned_square(z, live, order)
        )
        scales = self.log_scales.exp()
        shrink = torch.rsqrt(scales**2 + q.value)
        with q.derive():
            cube = shrink**3
            first, second = -0.5 * cube, 0.75 * cube * shrink**2
        inverse = q.map(shrink, first, second)
        with q.derive():  # of z_i times shrink, the axes are (derivative, B, i, scale)
            bounded = z[:, :, None] * inverse.derivatives[:, :, None]
            slopes = inverse.gradient.transpose(0, 1)
            if self.inverse is None:
                bounded[: self.dim].diagonal(dim1=0, dim2=2).add_(shrink[:, :, None])
            else:
                bounded[: self.dim] += self.inverse.t()[:, None, :, None] * shrink[:, None]
                slopes = self.inverse @ slopes
            if order == 2:
                bounded[-1].add_(slopes, alpha=2)
        with q.derive():
            derivatives = scales * inverse.derivatives
        value = (z[:, :, None] * shrink[:, None]).flatten(1)
        parts = [
            Jet(value, bounded.flatten(2), live, order),
            Jet(scales * inverse.value, derivatives, live, order),
        ]
        for cusp in self.cusps:
            r = radius(x, cusp, live=live, order=order)
            total = scales + r.value
            with r.derive():
                first, second = scales / total**2, -2 * scales / total**3
            parts.append(r.map(r.value / total, first, second))
        if self.waves is not None:
            phase = coordinates(x, live=live, order=order).linear(self.waves)
            s, c = torch.sin(phase.value), torch.cos(phase.value)
            parts += [phase.map(s, c, -s), phase.map(c, -s, -c)]
        return concatenate(parts)


class Joined(Pointwise):
    """Several maps of features side by side, for functions that live in several places.

    Arguments:
        parts: the maps, all of points of one dimension.

    Raises:
        ArgumentError: no map, or maps of different dimensions.

    Example:
        >>> left, right = (Features(2, scales=[1.0], center=[c, 0.0]) for c in (-3.0, 3.0))
        >>> Joined([left, right])(torch.ones(5, 2)).shape
        torch.Size([5, 6])
    """

    def __init__(self, parts: Sequence[Features]) -> None:
        super().__init__()
        dims = {part.dim for part in parts}
        require(
            len(dims) == 1,
            "parts",
            got=f"maps of {sorted(dims)} coordinates",
            expected="one map or more, of points of one dimension",
        )
        self.parts = nn.ModuleList(parts)
        self.dim, self.count = dims.pop(), sum(part.count for part in parts)

    def config(self) -> dict[str, object]:
        """Describe the maps."""
        return {"name": "Joined", "parts": [p.config() for p in self.parts if isinstance(p, Features)]}

    def forward(self, x: Float[Tensor, "B d"]) -> Float[Tensor, "B F"]:
        """Return all features."""
        return torch.cat([part(x) for part in self.parts], 1)

    def jet(self, x: Float[Tensor, "B d"], *, live: bool = False, order: int = 2) -> Jet:
        """Return all features with their derivatives."""
        jets = [p.jet(x, live=live, order=order) for p in self.parts if isinstance(p, Features)]
        return concatenate(jets)


def is_length(value: object) -> bool:
    """Tell whether something is a positive and finite number.

    Example:
        >>> is_length(2), is_length(0.0), is_length(math.inf), is_length("2"), is_length(True)
        (True, False, False, False, False)
    """
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return number and 0 < value < math.inf  # type: ignore[operator]


def inverted(frame: list[list[float]], dim: int) -> Tensor:
    """Return the inverse of a frame, or refuse it."""
    square = len(frame) == dim and all(len(row) == dim for row in frame)
    A = torch.tensor(frame if square else [[0.0]], dtype=torch.float64)
    fine = square and bool(A.isfinite().all()) and float(torch.linalg.cond(A)) < 1e12
    require(fine, "frame", got=frame, expected=f"an invertible matrix, shape ({dim}, {dim})")
    inverse: Tensor = torch.linalg.inv(A).float()
    return inverse


def length_of(argument: str, value: Real) -> float:
    """Return a positive and finite length, or refuse it."""
    require(
        is_length(value),
        argument,
        got=repr(value),
        expected="a positive length",
        remedy="Give a size in the units of x, such as 2.0.",
    )
    return float(value)


def center_of(center: Sequence[Real] | None) -> Tensor | None:
    """Return a centre as a tensor, or refuse one that is not finite."""
    if center is None:
        return None
    c = [float(entry) for entry in center]
    require(
        all(map(math.isfinite, c)),
        "center",
        got=c,
        expected="finite coordinates",
        remedy="Leave it out for the origin.",
    )
    return torch.tensor(c)
