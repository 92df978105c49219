r"""Value, gradient and Laplacian of a function, carried forward through its layers in one pass.

For a composition ``y = s(a)`` with scalar s the chain rule reads

.. math:: \nabla y = s'(a)\,\nabla a, \qquad \Delta y = s'(a)\,\Delta a + s''(a)\,|\nabla a|^2,

so the d + 2 numbers (value, gradient, Laplacian) of each unit are enough to go one layer up. A linear layer
acts on all of them alike. The cost is d + 2 forward passes, with no graph of second derivatives.

The LoRA gradient of a self-adjoint operator needs no derivative of ``T f`` with respect to the parameters, so
the derivative streams are computed without a graph unless ``live=True`` is asked for. A weak form needs the
gradient alone: a jet of ``order=1`` leaves the Laplacian out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nbsvd._errors import ArgumentError, require

# beartype, which checks the annotations in tests, does not take an int for a float; we do.
Real = float | int


@dataclass(frozen=True)
class Jet:
    r"""A batch of functions with their first derivatives and Laplacians.

    Arguments:
        value: ``(..., B, n)``.
        derivatives: ``(..., d + 1, B, n)``: the d partial derivatives, then the Laplacian; ``(..., d, B, n)``
            for a jet of order 1.
        live: whether derivatives take part in automatic differentiation.
        order: 2 for a jet with its Laplacian, 1 for one without.

    Example:
        >>> x = torch.tensor([[3.0, 4.0]])
        >>> r = radius(x)
        >>> r.value, r.laplacian
        (tensor([[5.]]), tensor([[0.2000]]))
    """

    value: Tensor
    derivatives: Tensor
    live: bool = False
    order: int = 2

    @property
    def gradient(self) -> Tensor:
        """The partial derivatives, ``(..., d, B, n)``."""
        return self.derivatives if self.order == 1 else self.derivatives[..., :-1, :, :]

    @property
    def laplacian(self) -> Tensor:
        """The Laplacian, ``(..., B, n)``."""
        require(
            self.order == 2,
            "order",
            got="a jet without its Laplacian",
            expected="one of order 2",
            remedy="Ask for order=2; an operator whose weak form needs it has weak_order = 2.",
        )
        return self.derivatives[..., -1, :, :]

    def first_order(self) -> "Jet":
        """Return the jet without its Laplacian."""
        return self if self.order == 1 else Jet(self.value, self.gradient, self.live, 1)

    def derive(self) -> torch.autograd.grad_mode.set_grad_enabled:
        """Context in which derivative streams are computed: with a graph only if this jet is live."""
        return deriving(self.live)

    def __mul__(self, other: "Jet") -> "Jet":
        """Multiply: ``grad uv = u grad v + v grad u``, ``lap uv = u lap v + v lap u + 2 grad u . grad v``."""
        live = self.live or other.live
        if self.order != other.order:
            return self.first_order() * other.first_order()
        with deriving(live):
            u, v = self.value.unsqueeze(-3), other.value.unsqueeze(-3)
            derivatives = torch.addcmul(u * other.derivatives, v, self.derivatives)
            if self.order == 2:
                derivatives[..., -1, :, :].add_((self.gradient * other.gradient).sum(-3), alpha=2)
        return Jet(self.value * other.value, derivatives, live, self.order)

    def map(self, value: Tensor, first: Tensor, second: Tensor | None, *, consume: bool = False) -> "Jet":
        """Apply a scalar function given its value and two derivatives at ``self.value``.

        The second one plays no part in a jet of order 1. With ``consume`` this jet is given up, and its
        memory is used again where no graph holds it.
        """
        with self.derive():
            factor = first.unsqueeze(-3)
            if self.order == 1:
                return Jet(value, self.derivatives * factor, self.live, 1)
            assert second is not None
            axes = self.gradient.unbind(-3)
            squared = axes[0] * axes[0]
            for slope in axes[1:]:
                squared = squared.addcmul(slope, slope) if self.live else squared.addcmul_(slope, slope)
            if consume and not self.live and first.shape[-2:] == squared.shape[-2:]:
                scaled = self.derivatives.mul_(factor)
            else:
                scaled = self.derivatives * factor
            scaled[..., -1, :, :].addcmul_(second, squared)
        return Jet(value, scaled, self.live)

    def linear(self, weight: Tensor, bias: Tensor | None = None) -> "Jet":
        """Apply ``value @ weight + bias``.

        Arguments:
            weight: ``(n, m)``, or ``(L, n, m)`` for L networks side by side.
            bias: ``(1, m)`` or ``(L, 1, m)``.
        """
        value = self.value @ weight if bias is None else torch.add(self.value @ weight, bias)
        return Jet(value, self.derivatives_through(weight), self.live, self.order)

    def derivatives_through(self, weight: Tensor) -> Tensor:
        """Return ``derivatives @ weight``, for networks side by side one product each for all streams."""
        with self.derive():
            if weight.ndim == 2:
                return self.derivatives @ weight
            streams, B, n = self.derivatives.shape[-3:]
            rows = self.derivatives.reshape(-1, streams * B, n)
            if self.derivatives.ndim == 3:  # shared features enter all networks
                rows = rows.expand(len(weight), -1, -1)
            if weight.shape[2] == 1:  # a column on the right is slow
                return torch.bmm(weight.mT, rows.mT).view(len(weight), streams, B, 1)
            return torch.bmm(rows, weight).view(len(weight), streams, B, -1)

    def __add__(self, other: "Jet") -> "Jet":
        """Add two jets."""
        live = self.live or other.live
        if self.order != other.order:
            return self.first_order() + other.first_order()
        with deriving(live):
            derivatives = self.derivatives + other.derivatives
        return Jet(self.value + other.value, derivatives, live, self.order)


def deriving(live: bool) -> torch.autograd.grad_mode.set_grad_enabled:
    """Context that keeps the graph of derivatives if they are live and graphs are kept at all."""
    return torch.set_grad_enabled(live and torch.is_grad_enabled())


def concatenate(jets: list[Jet]) -> Jet:
    """Join jets of one order along the function axis."""
    live = any(j.live for j in jets)
    with deriving(live):
        derivatives = torch.cat([j.derivatives for j in jets], -1)
    return Jet(torch.cat([j.value for j in jets], -1), derivatives, live, jets[0].order)


def coordinates(x: Float[Tensor, "B d"], *, live: bool = False, order: int = 2) -> Jet:
    """Return the jet of the coordinates: gradient the identity, Laplacian zero."""
    B, d = x.shape
    derivatives = torch.zeros(d + order - 1, B, d, dtype=x.dtype, device=x.device)
    derivatives[:d].diagonal(dim1=0, dim2=2).fill_(1)
    return Jet(x, derivatives, live, order)


def squared_radius(
    x: Float[Tensor, "B d"], center: Tensor | None = None, *, live: bool = False, order: int = 2
) -> Jet:
    """Return the jet of ``|x - c|^2``: gradient ``2 (x - c)``, Laplacian ``2 d``."""
    z = x if center is None else x - center
    B, d = x.shape
    value = (z * z).sum(1, keepdim=True)
    derivatives = 2 * z.t().unsqueeze(-1)
    if order == 2:
        laplacian = torch.full((1, B, 1), 2.0 * d, dtype=x.dtype, device=x.device)
        derivatives = torch.cat([derivatives, laplacian])
    return Jet(value, derivatives, live, order)


def radius(
    x: Float[Tensor, "B d"], center: Tensor | None = None, *, live: bool = False, order: int = 2
) -> Jet:
    """Return the jet of ``r = |x - c|``: gradient ``(x - c)/r``, Laplacian ``(d - 1)/r``, where r > 0."""
    z = x if center is None else x - center
    r = z.norm(dim=1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny ** 0.5)
    derivatives = (z / r).t().unsqueeze(-1)
    if order == 2:
        derivatives = torch.cat([derivatives, ((x.shape[1] - 1) / r).unsqueeze(0)])
    return Jet(r, derivatives, live, order)


def jet_of(function: Callable[[Tensor], Tensor], x: Float[Tensor, "B d"], *, live: bool = False) -> Jet:
    """Return the jet of any function of points: its own ``jet`` where it has one, ``torch.func`` otherwise.

    Arguments:
        function: maps ``(B, d)`` to ``(B, L)``, each row from its own point. With a method
            ``jet(x, live=...)`` that method is used; any other module takes d nested forward-mode passes.
        x: points, ``(B, d)``.
        live: whether derivatives keep their graph.

    Example:
        >>> jet = jet_of(lambda x: (x**2).sum(1, keepdim=True), torch.ones(1, 3))
        >>> float(jet.laplacian)
        6.0
    """
    own = getattr(function, "jet", None)
    if own is not None:
        jet = own(x, live=live)
        assert isinstance(jet, Jet)
        return jet
    return functional_jet(function, x, live=live)


def functional_jet(
    function: Callable[[Tensor], Tensor], x: Float[Tensor, "B d"], *, live: bool = False
) -> Jet:
    """Return the jet of a pointwise function by automatic differentiation.

    Forward mode twice along each axis; where an operation has no second forward derivative (torch's fused
    SiLU, for one), reverse mode twice for each component.

    Raises:
        ArgumentError: the function does not return ``(B, L)``.
    """
    value = checked(function(x), x)
    keep = live and torch.is_grad_enabled()
    try:
        with torch.set_grad_enabled(keep):
            derivatives = _forward_twice(function, x)
    except (
        RuntimeError
    ):  # NotImplementedError is one; an autograd.Function of the user's without jvp raises another
        derivatives = _reverse_twice(function, x, keep)
    return Jet(value, derivatives if keep else derivatives.detach(), live)


def checked(value: Tensor, x: Tensor) -> Tensor:
    """Return the values of a function at points, or refuse them unless there is one row for each point."""
    if not isinstance(value, Tensor) or value.ndim != 2 or len(value) != len(x):
        raise ArgumentError(
            "function",
            got=f"values of shape {tuple(value.shape)}"
            if isinstance(value, Tensor)
            else type(value).__name__,
            expected=f"shape ({len(x)}, L) for {len(x)} points, one column for each component",
            remedy="A single function needs its axis too: keepdim=True, or [:, None].",
        )
    return value


def _forward_twice(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    first, second = [], []
    for direction in torch.eye(x.shape[1], dtype=x.dtype, device=x.device):
        along = direction.expand_as(x)

        def slope(point: Tensor, along: Tensor = along) -> Tensor:
            derivative: Tensor = torch.func.jvp(function, (point,), (along,))[1]
            return derivative

        derivatives = torch.func.jvp(slope, (x,), (along,))
        first.append(derivatives[0])
        second.append(derivatives[1])
    return torch.stack([*first, torch.stack(second).sum(0)])


def _reverse_twice(function: Callable[[Tensor], Tensor], x: Tensor, keep: bool) -> Tensor:
    def derivative(y: Tensor, point: Tensor, create_graph: bool) -> Tensor:
        if not y.requires_grad:  # a constant
            return torch.zeros_like(point)
        rows: Tensor = torch.autograd.grad(
            y.sum(), point, retain_graph=True, create_graph=create_graph, materialize_grads=True
        )[0]
        return rows

    with torch.enable_grad():
        point = x.detach().requires_grad_()
        columns = []
        for component in function(point).unbind(1):
            slope = derivative(component, point, True)
            second = [derivative(slope[:, i], point, keep)[:, i] for i in range(x.shape[1])]
            columns.append(torch.stack([*slope.unbind(1), torch.stack(second).sum(0)]))
        return torch.stack(columns, -1)


class Pointwise(nn.Module):
    """Base of our own layers and factors: a module that can carry a jet."""

    def jet(self, x: Tensor, *, live: bool = False) -> Jet:
        """Return value, gradient and Laplacian at the points ``x``."""
        raise NotImplementedError

    def config(self) -> dict[str, object]:
        """Describe the module by plain data, enough for :func:`nbsvd.functions.from_config`."""
        raise NotImplementedError


def check_points(x: Tensor, dim: int) -> None:
    """Refuse points that are not ``(B, dim)``."""
    if x.ndim != 2 or x.shape[1] != dim:
        raise ArgumentError(
            "points",
            got=f"shape {tuple(x.shape)}",
            expected=f"shape (B, {dim})",
            remedy="Points are rows; add the missing axis with x[:, None] on a line.",
        )


def dtype_name(tensor: Tensor) -> str:
    """Return the dtype as a config spells it, ``"float64"``."""
    return str(tensor.dtype).removeprefix("torch.")


def hold(module: nn.Module, name: str, tensor: Tensor, learned: bool) -> None:
    """Register a tensor as a parameter if it is learned and as a buffer otherwise."""
    if learned:
        module.register_parameter(name, nn.Parameter(tensor))
    else:
        module.register_buffer(name, tensor)
