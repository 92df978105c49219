"""Ansatz factors: known behaviour at the boundary and at infinity, multiplied into the network."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nbsvd._errors import require
from nbsvd.functions.features import center_of, length_of
from nbsvd.functions.jet import Jet, Pointwise, Real, deriving, dtype_name, hold, jet_of, squared_radius


class Factor(Pointwise):
    """A positive function of a point, ``(B, d) -> (B, 1)``, that multiplies every component.

    Factors multiply and add: ``BoxFactor(50.0) * DecayFactor(4.0)``, and with a plus for functions that live
    in two places far apart.
    """

    def __mul__(self, other: "Factor") -> "ProductFactor":
        """Return the product of two factors."""
        return ProductFactor([self, other])

    def __add__(self, other: "Factor") -> "SumFactor":
        """Return the sum of two factors."""
        return SumFactor([self, other])


class BoxFactor(Factor):
    r"""Zero on the walls of a box: ``prod_i (sqrt(2 D^2 - z_i^2) - D) / ((sqrt 2 - 1) D)``, ``z = x - c``.

    The paper's factor, divided by its value at the centre; zero outside the box ``|z_i| < D``.

    Arguments:
        half_width: D, in the units of x.
        center: c, the origin unless given.

    Raises:
        ArgumentError: a half width that is not positive.

    Source: Ryu et al., section 4.

    Example:
        >>> BoxFactor(50.0)(torch.tensor([[0.0, 0.0], [50.0, 0.0]]))
        tensor([[1.],
                [0.]])
    """

    center: Tensor | None

    def __init__(self, half_width: Real, *, center: Sequence[Real] | None = None) -> None:
        super().__init__()
        self.half_width = length_of("half_width", half_width)
        self.register_buffer("center", center_of(center))

    def config(self) -> dict[str, Any]:
        """Describe the factor."""
        box = {"name": "BoxFactor", "half_width": self.half_width, "center": None}
        if self.center is None:
            return box
        return box | {"center": self.center.tolist(), "dtype": dtype_name(self.center)}

    def forward(self, x: Float[Tensor, "B d"]) -> Float[Tensor, "B 1"]:
        """Return the factor."""
        D, z = self.half_width, x if self.center is None else x - self.center
        root = torch.sqrt(2 * D * D - z.clamp(-D, D) ** 2)
        return ((root - D) / ((math.sqrt(2) - 1) * D)).prod(1, keepdim=True)

    def jet(self, x: Float[Tensor, "B d"], *, live: bool = False) -> Jet:
        """Return the factor's jet."""
        D, scale = self.half_width, 1 / ((math.sqrt(2) - 1) * self.half_width)
        z = x if self.center is None else x - self.center
        within = z.clamp(-D, D)
        square = 2 * D * D - within * within
        root = torch.sqrt(square)
        axes = scale * (root - D)
        with deriving(live):
            slope = (z == within) / root
            first, second = slope * within, 2 * D * D * slope / square
            rest = torch.full_like(axes, -scale)
            for i in range(1, z.shape[1]):
                rest = rest * axes.roll(i, 1)  # the product over all axes but one
            laplacian = (second * rest).sum(1, keepdim=True)
            derivatives = torch.cat([first * rest, laplacian], 1).t().unsqueeze(-1)
        return Jet(axes.prod(1, keepdim=True), derivatives, live)


class DecayFactor(Factor):
    r"""Exponential decay that is smooth at the centre: ``exp(-(sqrt(s^2 + r^2) - s) / length)``.

    Here ``r = |x - c|``.

    Arguments:
        length: decay length, in the units of x. Choose it no shorter than the slowest mode's.
        center: c, the origin unless given.
        smooth: s, the radius inside which the factor is flat; ``length`` unless given.
        learned: whether the decay length is a parameter.

    Raises:
        ArgumentError: a length that is not positive and finite, a centre that is not finite.

    Example:
        >>> DecayFactor(2.0)(torch.zeros(1, 3))
        tensor([[1.]])
    """

    log_length: Tensor
    center: Tensor | None

    def __init__(
        self,
        length: Real,
        *,
        center: Sequence[Real] | None = None,
        smooth: Real | None = None,
        learned: bool = False,
    ) -> None:
        super().__init__()
        length = length_of("length", length)
        self.smooth, self.learned = length if smooth is None else length_of("smooth", smooth), learned
        hold(self, "log_length", torch.tensor(math.log(length)), learned)
        self.register_buffer("center", center_of(center))

    def config(self) -> dict[str, object]:
        """Describe the factor."""
        return {
            "name": "DecayFactor",
            "dtype": dtype_name(self.log_length),
            "length": float(self.log_length.detach().exp()),
            "center": None if self.center is None else self.center.tolist(),
            "smooth": self.smooth,
            "learned": self.learned,
        }

    def forward(self, x: Float[Tensor, "B d"]) -> Float[Tensor, "B 1"]:
        """Return the factor."""
        z = x if self.center is None else x - self.center
        root = torch.sqrt(self.smooth**2 + (z * z).sum(1, keepdim=True))
        return torch.exp((self.smooth - root) * torch.exp(-self.log_length))

    def jet(self, x: Float[Tensor, "B d"], *, live: bool = False) -> Jet:
        """Return the factor's jet."""
        q = squared_radius(x, self.center, live=live)
        rate = torch.exp(-self.log_length)
        root = torch.sqrt(self.smooth**2 + q.value)
        value = torch.exp((self.smooth - root) * rate)
        with q.derive():
            first = -0.5 * rate / root
            second = 0.25 * rate / root**3
            second = value * (first**2 + second)
            first = value * first
        return q.map(value, first, second)


class GaussianFactor(Factor):
    r"""Gaussian decay ``exp(-r^2 / (2 s^2))``, ``r = |x - c|``.

    With ``s = sqrt(2) std`` it is the square root of a normal density, up to scale.

    Arguments:
        scale: s, in the units of x.
        center: c, the origin unless given.
        learned: whether the scale is a parameter.

    Raises:
        ArgumentError: a scale that is not positive and finite, a centre that is not finite.

    Example:
        >>> GaussianFactor(1.0)(torch.zeros(1, 2))
        tensor([[1.]])
    """

    log_scale: Tensor
    center: Tensor | None

    def __init__(self, scale: Real, *, center: Sequence[Real] | None = None, learned: bool = False) -> None:
        super().__init__()
        scale = length_of("scale", scale)
        self.learned = learned
        hold(self, "log_scale", torch.tensor(math.log(scale)), learned)
        self.register_buffer("center", center_of(center))

    def config(self) -> dict[str, object]:
        """Describe the factor."""
        return {
            "name": "GaussianFactor",
            "dtype": dtype_name(self.log_scale),
            "scale": float(self.log_scale.detach().exp()),
            "center": None if self.center is None else self.center.tolist(),
            "learned": self.learned,
        }

    def forward(self, x: Float[Tensor, "B d"]) -> Float[Tensor, "B 1"]:
        """Return the factor."""
        z = x if self.center is None else x - self.center
        return torch.exp(-0.5 * (z * z).sum(1, keepdim=True) * torch.exp(-2 * self.log_scale))

    def jet(self, x: Float[Tensor, "B d"], *, live: bool = False) -> Jet:
        """Return the factor's jet."""
        q = squared_radius(x, self.center, live=live)
        rate = -0.5 * torch.exp(-2 * self.log_scale)
        value = torch.exp(rate * q.value)
        with q.derive():
            first, second = rate * value, rate**2 * value
        return q.map(value, first, second)


def SqrtDensity(std: Real, *, center: Sequence[Real] | None = None) -> GaussianFactor:
    """Return the square root of a normal sampling density of width ``std``, up to scale.

    Example:
        >>> SqrtDensity(1.0)(torch.ones(1, 1)).log()
        tensor([[-0.2500]])
    """
    return GaussianFactor(math.sqrt(2) * std, center=center)


class ProductFactor(Factor):
    """The product of several factors.

    Example:
        >>> product = DecayFactor(2.0) * BoxFactor(5.0)
        >>> product(torch.zeros(1, 2))
        tensor([[1.]])
    """

    def __init__(self, factors: Sequence[Factor]) -> None:
        super().__init__()
        require(len(factors) > 0, "factors", got="none", expected="at least one factor")
        self.factors = nn.ModuleList(factors)

    def config(self) -> dict[str, object]:
        """Describe the factors."""
        parts = [f.config() for f in self.factors if isinstance(f, Factor)]
        return {"name": "ProductFactor", "factors": parts}

    def forward(self, x: Float[Tensor, "B d"]) -> Float[Tensor, "B 1"]:
        """Return the product."""
        values: list[Tensor] = [f(x) for f in self.factors]
        return torch.cat(values, 1).prod(1, keepdim=True)

    def jet(self, x: Float[Tensor, "B d"], *, live: bool = False) -> Jet:
        """Return the product's jet."""
        jets = [f.jet(x, live=live) for f in self.factors if isinstance(f, Factor)]
        product = jets[0]
        for jet in jets[1:]:
            product = product * jet
        return product


class SumFactor(Factor):
    """The sum of several factors: each lets functions live in one place.

    Example:
        >>> wells = GaussianFactor(1.0, center=[-9.0]) + GaussianFactor(1.0, center=[9.0])
        >>> wells(torch.tensor([[9.0], [0.0]])).round()
        tensor([[1.],
                [0.]])
    """

    def __init__(self, factors: Sequence[Factor]) -> None:
        super().__init__()
        require(len(factors) > 0, "factors", got="none", expected="at least one factor")
        self.factors = nn.ModuleList(factors)

    def config(self) -> dict[str, object]:
        """Describe the factors."""
        return {"name": "SumFactor", "factors": [f.config() for f in self.factors if isinstance(f, Factor)]}

    def forward(self, x: Float[Tensor, "B d"]) -> Float[Tensor, "B 1"]:
        """Return the sum."""
        values: list[Tensor] = [f(x) for f in self.factors]
        return torch.cat(values, 1).sum(1, keepdim=True)

    def jet(self, x: Float[Tensor, "B d"], *, live: bool = False) -> Jet:
        """Return the sum's jet."""
        jets = [f.jet(x, live=live) for f in self.factors if isinstance(f, Factor)]
        total = jets[0]
        for jet in jets[1:]:
            total = total + jet
        return total


class WithFactor(Pointwise):
    """A network times an ansatz factor: ``f_l(x) = a(x) net_l(x)``.

    Arguments:
        network: maps ``(B, d)`` to ``(B, L)``; one of ours, or any other pointwise module.
        factor: the factor a.

    Example:
        >>> from nbsvd.functions import MLP
        >>> net = MLP(3, 2, widths=(4,), generator=torch.Generator().manual_seed(0))
        >>> WithFactor(net, BoxFactor(1.0))(torch.ones(1, 2)).abs().max() == 0
        tensor(True)
    """

    network: Any  # only some networks have L, dim, config and a basis to start from
    factor: Factor

    def __init__(self, network: nn.Module, factor: Factor) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    @property
    def L(self) -> int:
        """Number of components."""
        return int(self.network.L)

    @property
    def dim(self) -> int:
        """Dimension of a point."""
        return int(self.network.dim)

    @property
    def component_axis(self) -> int | None:
        """The axis of every parameter along which the components lie; ``None`` if they share any."""
        axis: int | None = getattr(self.network, "component_axis", None)
        return None if any(p.requires_grad for p in self.factor.parameters()) else axis

    def config(self) -> dict[str, object]:
        """Describe network and factor."""
        return {"name": "WithFactor", "network": self.network.config(), "factor": self.factor.config()}

    def forward(self, x: Float[Tensor, "B d"]) -> Float[Tensor, "B L"]:
        """Return the values."""
        value: Tensor = self.factor(x) * self.network(x)
        return value

    def jet(self, x: Float[Tensor, "B d"], *, live: bool = False) -> Jet:
        """Return the jet of the product."""
        return self.factor.jet(x, live=live) * jet_of(self.network, x, live=live)

    def first_basis(self, x: Float[Tensor, "B d"]) -> Float[Tensor, "B H"]:
        """Return the first network's basis times the factor."""
        value: Tensor = self.factor(x) * self.network.first_basis(x)
        return value

    def first_basis_jet(self, x: Float[Tensor, "B d"], *, live: bool = False) -> Jet:
        """Return the jet of :meth:`first_basis`."""
        jet: Jet = self.factor.jet(x, live=live) * self.network.first_basis_jet(x, live=live)
        return jet

    def start_from(self, coefficients: Float[Tensor, "H L"]) -> None:
        """Pass the coefficients of the basis on to the network."""
        self.network.start_from(coefficients)
