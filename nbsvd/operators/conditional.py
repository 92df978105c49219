"""Conditional expectations, known through pairs of points."""

from functools import cached_property

from torch import Tensor

from nbsvd._errors import require
from nbsvd.measures import Nodes, PairLaw
from nbsvd.operators.base import Operator


class Conditional(Operator):
    r"""The conditional expectation ``(T f)(y) = E[f(X) | Y = y]``, from L2(law of X) to L2(law of Y).

    Nothing is known of it but pairs: ``<g|T f> = E[g(Y) f(X)]`` is a mean over them. Its singular values are
    the canonical correlations of X and Y,

    .. math:: 1 = \sigma_1 \ge \sigma_2 \ge \dots \ge 0, \qquad
              \frac{p(x, y)}{p(x)\,p(y)} = \sum_l \sigma_l\, \phi_l(x)\, \psi_l(y) ,

    the first with the constant 1 on both sides. That component is held exactly, and counts among the k.

    With X the future and Y the present state of a Markov process it is the Koopman operator
    (:meth:`Pairs.from_trajectory <nbsvd.measures.Pairs.from_trajectory>`); with X and Y the ends of a random
    edge of a graph, its random walk (:meth:`Pairs.from_graph <nbsvd.measures.Pairs.from_graph>`).

    Arguments:
        pairs: a data set :class:`~nbsvd.measures.Pairs`, or a law that draws pairs.
        reversible: whether (X, Y) and (Y, X) have the same law. T is then self-adjoint: one family of
            functions serves both sides, values are eigenvalues, and each pair counts in both orders.

    Raises:
        ArgumentError: something else than pairs; a reversible law between points of different dimension.

    Source: Rényi, On measures of dependence (1959); the density ratio is what Ryu et al. call the canonical
    dependence kernel.

    Example:
        >>> from nbsvd.measures import GaussianPair
        >>> T = Conditional(GaussianPair(0.5))
        >>> x, y = T.pairs.nodes(2500, kind="quadrature")
        >>> g = y.x**2
        >>> round(float(y.integrate(g * T.transform(y.x, x, x.x**2))), 4)  # 1 + 2 rho^2
        1.5
    """

    def __init__(self, pairs: PairLaw, *, reversible: bool = False) -> None:
        require(
            isinstance(pairs, PairLaw),
            "pairs",
            got=type(pairs).__name__,
            expected="Pairs, or another law of pairs",
            remedy="Wrap two arrays of points, row by row partners: Pairs(x, y).",
        )
        require(
            not reversible or pairs.first.dim == pairs.second.dim,
            "reversible",
            got=f"True with x in {pairs.first.dim} and y in {pairs.second.dim} dimensions",
            expected="two points of one space",
            remedy="Leave it out.",
        )
        self.pairs: PairLaw = pairs.symmetrised() if reversible else pairs
        self.self_adjoint = reversible
        self.measure_x = self.pairs.first
        self.measure_y = self.measure_x if reversible else self.pairs.second

    def transform(self, y: Tensor, nodes: Nodes, f: Tensor) -> Tensor:
        """Return f itself: at each y an unbiased estimate of ``(T f)(y)``, from the one partner there is."""
        require(
            nodes.partner is y,
            "y",
            got="points that are not the partners of the nodes",
            expected="both nodes of one call of pairs.nodes",
            remedy="A conditional expectation known by pairs can't be applied at other points: solve it, and "
            "use the functions found.",
        )
        return f

    @cached_property
    def adjoint(self) -> Operator:
        """The conditional expectation of functions of Y given X."""
        return self if self.self_adjoint else Conditional(self.pairs.swapped())
