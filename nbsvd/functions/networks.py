"""Networks: L disjoint multilayer perceptrons held as one batched network, or one trunk shared by L heads."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nbsvd._errors import nearest, require
from nbsvd.functions.activations import ACTIVATIONS
from nbsvd.functions.adjoint import DisjointJet
from nbsvd.functions.features import Features, Joined
from nbsvd.functions.jet import Jet, Pointwise, Real, check_points, deriving, dtype_name


class BatchedLinear(nn.Module):
    """``nets`` linear layers side by side: ``(nets, B, n) -> (nets, B, m)`` in one batched product."""

    def __init__(
        self,
        nets: int,
        inputs: int,
        outputs: int,
        generator: torch.Generator,
        *,
        weight_gain: Real = 1.0,
        bias_gain: Real = 1.0,
    ) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)  # torch's own default for nn.Linear
        draw = torch.rand(nets, inputs + 1, outputs, generator=generator, device=generator.device).cpu()
        draw = bound * (2 * draw - 1)
        self.weight = nn.Parameter(weight_gain * draw[:, :-1])
        self.bias = nn.Parameter(bias_gain * draw[:, -1:])

    def forward(self, h: Tensor) -> Tensor:
        """Return ``h @ weight + bias``; a two-dimensional ``h`` enters every network."""
        if h.ndim == 2:
            h = h.expand(len(self.weight), *h.shape)
        if self.weight.shape[2] == 1:  # a product with one column for each network is slow
            return self.bias + (h * self.weight.mT).sum(-1, keepdim=True)
        return torch.baddbmm(self.bias, h, self.weight)

    def jet(self, h: Jet) -> Jet:
        """Carry a jet through the layer."""
        return Jet(self(h.value), h.derivatives_through(self.weight), h.live, h.order)

    def coordinates_jet(self, x: Tensor, *, live: bool = False, order: int = 2) -> Jet:
        """Return the jet of the layer over bare coordinates; its derivatives are the same at all points."""
        with deriving(live):
            laplacian = torch.zeros_like(self.bias)[:, : order - 1]
            derivatives = torch.cat([self.weight, laplacian], 1)[:, :, None]
        return Jet(self(x), derivatives, live, order)


class MLP(Pointwise):
    r"""L functions of a point, by disjoint networks or by one shared trunk.

    With ``disjoint=True`` component l is its own perceptron, ``f_l(x) = c_l . h_l(x) + b_l``; otherwise all
    components read the same last hidden layer, ``f(x) = C^T h(x) + b``. Both are one batched network with
    parameters ``(nets, inputs, outputs)``, so L networks cost one product a layer.

    Arguments:
        L: number of components.
        dim: dimension of a point.
        widths: hidden widths.
        activation: ``"tanh"``, ``"softplus"``, ``"sin"``, ``"silu"`` or ``"gelu"``.
        disjoint: separate networks (the paper's choice) or a shared trunk.
        features: a fixed or learned map of the point that replaces the bare coordinates.
        weight_gain, bias_gain: factors on the initial weights and biases of the hidden layers (not the head),
            over torch's default of uniform numbers in ``+- 1/sqrt(inputs)``. With 1 and 1 (the paper's) the
            last hidden layer starts nearly linearly dependent, and the heads of a Ritz start need large
            coefficients of opposite sign, which large steps of training would upset.
        generator: source of the initial weights.

    Raises:
        ArgumentError: ``L < 1``, an empty or non-positive width, an unknown activation, a gain that is not
            positive; points that are not ``(B, dim)``.

    Source: Ryu et al., section 4 (nine disjoint networks, 128-128-128, softplus).

    Example:
        >>> net = MLP(9, 2, widths=(8, 8), generator=torch.Generator().manual_seed(0))
        >>> net(torch.zeros(5, 2)).shape
        torch.Size([5, 9])
    """

    def __init__(
        self,
        L: int,
        dim: int,
        *,
        widths: Sequence[int] = (32, 32),
        activation: str = "tanh",
        disjoint: bool = True,
        features: Features | Joined | None = None,
        weight_gain: Real = 2.0,
        bias_gain: Real = 4.0,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        require(L >= 1, "L", got=L, expected="at least one component")
        require(
            len(widths) > 0 and min(widths) >= 1,
            "widths",
            got=list(widths),
            expected="one or more positive widths",
        )
        for name, gain in (("weight_gain", weight_gain), ("bias_gain", bias_gain)):
            require(math.isfinite(gain) and gain > 0, name, got=gain, expected="a positive number")
        require(
            features is None or features.dim == dim,
            "features",
            got=f"a map of {features.dim if features else 0} coordinates",
            expected=f"a map of {dim}, as dim says",
        )
        self.L, self.dim, self.widths, self.disjoint = L, dim, tuple(widths), disjoint
        self.weight_gain, self.bias_gain = float(weight_gain), float(bias_gain)
        self.activation = nearest("activation", activation, ACTIVATIONS)
        self.features = features
        nets = L if disjoint else 1
        sizes = [dim if features is None else features.count, *widths]
        self.hidden = nn.ModuleList(
            BatchedLinear(nets, n, m, generator, weight_gain=weight_gain, bias_gain=bias_gain)
            for n, m in pairwise(sizes)
        )
        self.head = BatchedLinear(nets, sizes[-1], 1 if disjoint else L, generator)

    def config(self) -> dict[str, object]:
        """Describe the network by plain data, enough to build it again."""
        return {
            "name": "MLP",
            "dtype": dtype_name(self.head.weight),
            "L": self.L,
            "dim": self.dim,
            "widths": list(self.widths),
            "activation": self.activation,
            "disjoint": self.disjoint,
            "weight_gain": self.weight_gain,
            "bias_gain": self.bias_gain,
            "features": None if self.features is None else self.features.config(),
        }

    @property
    def component_axis(self) -> int | None:
        """The axis of every parameter along which the components lie; ``None`` if they share any."""
        shared = [] if self.features is None else [p for p in self.features.parameters() if p.requires_grad]
        return 0 if self.disjoint and not shared else None

    @property
    def basis_size(self) -> int:
        """Number of functions that one head combines: the last hidden layer and the constant."""
        return self.widths[-1] + 1

    def trunk(self, x: Float[Tensor, "B d"]) -> Tensor:
        """Return the last hidden layers, ``(nets, B, width)``."""
        check_points(x, self.dim)
        value = ACTIVATIONS[self.activation][0]
        h = x if self.features is None else self.features(x)
        for layer in self.hidden:
            h = value(layer(h))
        return h

    def trunk_jet(self, x: Float[Tensor, "B d"], *, live: bool = False, order: int = 2) -> Jet:
        """Return the jet of the last hidden layers."""
        check_points(x, self.dim)
        value, derivatives = ACTIVATIONS[self.activation]
        h: Jet | None = None if self.features is None else self.features.jet(x, live=live, order=order)
        for layer in self.hidden:
            assert isinstance(layer, BatchedLinear)
            a = layer.coordinates_jet(x, live=live, order=order) if h is None else layer.jet(h)
            y = value(a.value)
            with a.derive():
                first, second = derivatives(a.value, y, order)
            h = a.map(y, first, second, consume=True)
        assert h is not None
        return h

    def forward(self, x: Float[Tensor, "B d"]) -> Float[Tensor, "B L"]:
        """Return the values of all components."""
        out: Tensor = self.head(self.trunk(x))
        return out.squeeze(-1).t() if self.disjoint else out[0]

    def jet(self, x: Float[Tensor, "B d"], *, live: bool = False, order: int = 2) -> Jet:
        """Return values, gradients and, for order 2, Laplacians of all components."""
        if self.disjoint and order == 2 and not live:
            return self._disjoint_jet(x)
        out = self.head.jet(self.trunk_jet(x, live=live, order=order))
        if self.disjoint:
            derivatives = out.derivatives.squeeze(-1).permute(1, 2, 0)
            return Jet(out.value.squeeze(-1).t(), derivatives, out.live, order)
        return Jet(out.value[0], out.derivatives[0], out.live, order)

    def _disjoint_jet(self, x: Tensor) -> Jet:
        """Return the jet of networks with one output each, whose derivatives need no graph."""
        check_points(x, self.dim)
        inputs = None if self.features is None else self.features.jet(x)
        layers = [p for layer in (*self.hidden, self.head) for p in (layer.weight, layer.bias)]
        value, derivatives = DisjointJet.apply(  # type: ignore[no-untyped-call]
            x if inputs is None else inputs.value,
            None if inputs is None else inputs.derivatives,
            self.activation,
            *layers,
        )
        return Jet(value.t(), derivatives.permute(2, 1, 0))

    def first_basis(self, x: Float[Tensor, "B d"]) -> Float[Tensor, "B H"]:
        """Return the first network's last hidden layer and the constant, ``H = basis_size`` functions."""
        h = self.trunk(x)[0]
        return torch.cat([h, torch.ones_like(h[:, :1])], 1)

    def first_basis_jet(self, x: Float[Tensor, "B d"], *, live: bool = False, order: int = 2) -> Jet:
        """Return the jet of :meth:`first_basis`."""
        h = self.trunk_jet(x, live=live, order=order)
        value, derivatives = h.value[0], h.derivatives[0]
        value = torch.cat([value, torch.ones_like(value[:, :1])], 1)
        with h.derive():
            derivatives = torch.cat([derivatives, torch.zeros_like(derivatives[..., :1])], -1)
        return Jet(value, derivatives, live, order)

    @torch.no_grad()
    def start_from(self, coefficients: Float[Tensor, "H L"]) -> None:
        """Make every network a copy of the first and set the heads to combinations of its basis."""
        C = coefficients.to(self.head.weight)
        if self.disjoint:
            for layer in self.hidden:
                assert isinstance(layer, BatchedLinear)
                layer.weight.copy_(layer.weight[:1].expand_as(layer.weight).clone())
                layer.bias.copy_(layer.bias[:1].expand_as(layer.bias).clone())
            self.head.weight.copy_(C[:-1].t().unsqueeze(-1))
            self.head.bias.copy_(C[-1][:, None, None])
        else:
            self.head.weight.copy_(C[None, :-1])
            self.head.bias.copy_(C[None, -1:])
