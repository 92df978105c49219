r"""A form whose error on sampled nodes vanishes with the error of the functions.

On sampled nodes the weak form errs even where the functions are exact: only its expectation is right. A
quasi-Newton method that takes many steps on the same nodes finds functions that the error favours, the more
of them the more parameters there are. The strong form of eigenfunctions is exact on any nodes, but no step
may be taken on it: ``T f`` can be raised at the nodes alone, without end.

The form used here is both, expanded about the functions :math:`f^0` with which a round begins. Write P for
the projection onto their span on the nodes, and :math:`u' = u - P u`. Then, T being self-adjoint,

.. math:: \langle u|T v\rangle = \langle P u|T P v\rangle + \langle T P u|v'\rangle + \langle u'|T P v\rangle
    + \langle u'|T v'\rangle .

The first three terms take ``T f^0`` as numbers at the nodes. The last is the weak form, which no function
drives above the top of the operator's potential. For any :math:`f^0` and any coefficients of P that do not
come from the nodes, the expectation is that of the exact form, whatever the functions are; that they do come
from B nodes adds a bias of order 1/B, which vanishes with the error, too. And where
:math:`T f^0 = \lambda f^0`, value and derivative have no error on any nodes, for
:math:`\langle T f^0|v'\rangle = \lambda \langle f^0|v'\rangle = 0`. So a round errs in proportion to what is
left to learn.

Source: that local energies have no variance at a solution is the principle of variational Monte Carlo;
Umrigar, Toulouse, Filippi, Sorella and Hennig, Phys. Rev. Lett. 98 (2007) 110201, on derivatives that have
none either.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from nbsvd.functions import Jet
from nbsvd.measures import Nodes
from nbsvd.operators import Operator


@dataclass(frozen=True, eq=False)
class Anchor:
    """Functions on some nodes and what a local self-adjoint operator makes of them, as mere numbers.

    Arguments:
        operator: T.
        nodes: the nodes.
        jet: the functions ``f^0``, ``(B, m)``, orthonormal on the nodes, with the derivatives of a weak form.
        image: ``T f^0`` at the nodes, ``(B, m)``.
    """

    operator: Operator
    nodes: Nodes
    jet: Jet
    image: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, operator: Operator, nodes: Nodes, jet: Jet) -> "Anchor":
        """Return the anchor of functions whose jet has a Laplacian."""
        image = operator.from_jet(nodes.x, jet)
        return cls(operator, nodes, jet if operator.weak_order == 2 else jet.first_order(), image)

    def form(self, u: Jet) -> Float[Tensor, "n n"]:
        """Return ``<u_i|T u_j>``, symmetric.

        Example:
            >>> import nbsvd
            >>> from nbsvd.functions import GaussianFactor
            >>> T = nbsvd.Schrodinger(lambda x: (x**2).sum(1))
            >>> law = nbsvd.measures.Lebesgue(nbsvd.measures.Radial(5, scale=1.5, power=4))
            >>> nodes = law.nodes(20, kind="iid", generator=torch.Generator().manual_seed(0))
            >>> f = GaussianFactor(1.0).double().jet(nodes.x)  # exp(-r^2/2), its value is -5
            >>> f = f.linear(nodes.integrate(f.value**2).rsqrt()[:, None])
            >>> round(float(T.weak_form(nodes, f.first_order())), 1)  # on twenty points
            -4.2
            >>> round(float(Anchor.of(T, nodes, f).form(f.first_order())), 12)
            -5.0
        """
        shares = self.nodes.weights[:, None] / len(self.nodes)
        f, image = (shares * self.jet.value).t(), (shares * self.image).t()
        u = u.first_order() if self.jet.order == 1 else u
        a = f @ u.value
        rest = Jet(u.value - self.jet.value @ a, u.derivatives - self.jet.derivatives @ a, u.live, u.order)
        cross = a.t() @ (image @ rest.value + (f @ self.image) @ a / 2)
        return self.operator.weak_form(self.nodes, rest) + cross + cross.t()
