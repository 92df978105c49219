"""Differential operators."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nbsvd._errors import require
from nbsvd.functions import Jet
from nbsvd.functions.jet import Real
from nbsvd.measures import Nodes
from nbsvd.operators.base import Operator


class Schrodinger(Operator):
    r"""Minus the Hamiltonian of a particle in a potential, ``T = laplacian - V``.

    .. math:: (T f)(x) = \Delta f(x) - V(x) f(x), \qquad
              \langle f|T f\rangle = -\int |\nabla f|^2 + V f^2 .

    The largest eigenvalues of T are the lowest energies with the sign turned: ``lambda = -E``. T is
    self-adjoint and unbounded below, so it has eigenvalues to look for at the top of its spectrum and no SVD.

    Arguments:
        potential: V, maps points ``(B, d)`` to ``(B,)``.
        singular_points: points where V is infinite, ``(m, d)`` as nested sequences; sampling and features use
            them.

    Raises:
        ArgumentError: a potential that returns another shape.

    Source: Ryu et al., section 4, in the form ``laplacian + 1/|x|``, that is ``V = -1/|x|``.

    Example:
        >>> from nbsvd.functions import jet_of
        >>> T = Schrodinger(
        ...     lambda x: (x**2).sum(1)
        ... )  # the oscillator, ground state exp(-r^2 / 2), lambda = -2
        >>> x = torch.ones(1, 2)
        >>> f = jet_of(lambda x: torch.exp(-0.5 * (x**2).sum(1, keepdim=True)), x)
        >>> round(float(T.from_jet(x, f) / f.value), 4)
        -2.0
    """

    local = True
    self_adjoint = True
    bounded = False
    weak_order = 1

    def __init__(
        self, potential: Callable[[Tensor], Tensor], *, singular_points: Sequence[Sequence[Real]] = ()
    ) -> None:
        require(
            callable(potential),
            "potential",
            got=type(potential).__name__,
            expected="a function of points (B, d)",
            remedy="A constant potential c is lambda x: torch.full_like(x[:, 0], c).",
        )
        self.potential = potential
        self.singular_points = tuple(dict.fromkeys(tuple(float(c) for c in p) for p in singular_points))

    def potential_at(self, x: Tensor) -> Tensor:
        """Return V at the points as a column, ``(B, 1)``."""
        V = self.potential(x)
        require(
            isinstance(V, Tensor) and V.shape == x.shape[:1],
            "potential",
            got=f"shape {tuple(V.shape)}" if isinstance(V, Tensor) else type(V).__name__,
            expected=f"shape ({len(x)},) for {len(x)} points",
            remedy="Return one number for each point; sum over the axis of the coordinates with .sum(1).",
        )
        return V[:, None]

    def from_jet(self, x: Tensor, jet: Jet) -> Tensor:
        """Return ``laplacian f - V f``."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and jet.live):
            return jet.laplacian - self.potential_at(x) * jet.value

    def weak_form(self, nodes: Nodes, jet: Jet) -> Tensor:
        """Return ``-<grad f_i|grad f_j> - <f_i|V f_j>``; boundary terms are taken to vanish."""
        w = nodes.weights[:, None]
        kinetic = (w * jet.gradient).flatten(0, 1).t() @ jet.gradient.flatten(0, 1)
        potential = (w * self.potential_at(nodes.x) * jet.value).t() @ jet.value
        return -(kinetic + potential) / len(nodes)

    @property
    def adjoint(self) -> "Schrodinger":
        """The operator itself."""
        return self
