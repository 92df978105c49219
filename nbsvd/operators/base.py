"""What an operator must answer, and the algebra that every operator has."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

from nbsvd._errors import ArgumentError, require
from nbsvd.functions import Jet, jet_of
from nbsvd.functions.jet import Real, checked, deriving
from nbsvd.measures import Measure, Nodes, PairLaw

Function = Callable[[Tensor], Tensor]


class Operator(ABC):
    r"""A linear operator ``T: F -> G`` between spaces of functions.

    Two kinds of subclass exist. A *local* operator, such as a differential one, needs the function and its
    derivatives at the point itself: it overrides ``from_jet``. A *nonlocal* one needs the function
    everywhere: it overrides ``transform``, which integrates over nodes. ``apply``, ``evaluate`` and
    ``moments`` serve both kinds, and their sums.

    Attributes:
        local: whether ``(T f)(x)`` depends on the jet of f at x only.
        self_adjoint: whether ``<f|T g> = <T f|g>``.
        bounded: whether T is bounded; an SVD of an unbounded operator is refused.
        measure_x, measure_y: reference measures of F and G where the operator fixes them.
        singular_points: points where the functions may have a cusp; sampling and features use them.
        weak_order: order of the jet that ``weak_form`` needs: 1 where the gradient is enough.
        pairs: the joint law of x and y, for an operator that is known through pairs of points alone.

    Algebra: ``S + T``, ``c * T``, ``-T``, ``S - T``, ``T.shift(c)`` for ``T + c I``, ``T.adjoint``.
    """

    local: bool = False
    self_adjoint: bool = False
    bounded: bool = True
    measure_x: Measure | None = None
    measure_y: Measure | None = None
    singular_points: tuple[tuple[float, ...], ...] = ()
    weak_order: int = 2
    pairs: PairLaw | None = None

    def from_jet(self, x: Tensor, jet: Jet) -> Tensor:
        """Return ``(T f)(x)`` from the jet of f at x, for a local operator, ``(B, L)``."""
        raise NotImplementedError

    def transform(self, y: Tensor, nodes: Nodes, f: Tensor) -> Tensor:
        """Return ``(T f)(y)`` from values f at nodes, for a nonlocal operator, ``(B', L)``."""
        raise NotImplementedError

    def weak_form(self, nodes: Nodes, jet: Jet) -> Tensor:
        """Return ``<f_i|T f_j>`` for a local operator, ``(L, L)``.

        Unless overridden it is the strong form, symmetrised if the operator is self-adjoint.
        """
        A = self.strong_form(nodes, jet)
        return (A + A.t()) / 2 if self.self_adjoint else A

    def strong_form(self, nodes: Nodes, jet: Jet) -> Tensor:
        r"""Return ``<f_i|T f_j>`` of a local operator from ``T f`` itself, ``(L, L)``; not symmetrised.

        On sampled nodes this has an error only as far as :math:`T f_j` is not a combination of the f: with
        eigenfunctions :math:`f_j` it is ``S diag(lambda)``, S the Gram matrix on the same nodes, whatever the
        nodes are.
        """
        return (nodes.weights[:, None] * jet.value).t() @ self.from_jet(nodes.x, jet) / len(nodes)

    @property
    @abstractmethod
    def adjoint(self) -> "Operator":
        """The adjoint operator ``T*: G -> F``."""

    def apply(self, function: Function, y: Tensor, nodes: Nodes | None = None) -> Tensor:
        """Return ``(T f)(y)``, ``(B', L)``.

        Arguments:
            function: maps points ``(B, d)`` to ``(B, L)``.
            y: points of evaluation, ``(B', d)``.
            nodes: nodes to integrate over; needed by a nonlocal operator only.

        Raises:
            ArgumentError: a nonlocal operator without nodes; a function that does not return ``(B, L)``.
        """
        if self.local:
            return self._from_function(function, y)[1]
        if nodes is None:
            raise ArgumentError(
                "nodes", got=None, expected="nodes to integrate over, for a nonlocal operator"
            )
        return self.transform(y, nodes, checked(function(nodes.x), nodes.x))

    def evaluate(self, function: Function, nodes: Nodes, inner: Nodes | None = None) -> tuple[Tensor, Tensor]:
        """Return f and ``T f`` at the nodes, both ``(B, L)``, in one pass where that is possible.

        Arguments:
            function: maps points ``(B, d)`` to ``(B, L)``.
            nodes: points of evaluation.
            inner: nodes that a nonlocal operator integrates over; ``nodes`` themselves unless given.

        Raises:
            ArgumentError: a function that does not return ``(B, L)``.
        """
        if self.local:
            return self._from_function(function, nodes.x)
        f = checked(function(nodes.x), nodes.x)
        if inner is None:
            return f, self.transform(nodes.x, nodes, f)
        # training does not differentiate through T f where T is self-adjoint
        with deriving(not self.self_adjoint):
            return f, self.transform(nodes.x, inner, checked(function(inner.x), inner.x))

    def _from_function(self, function: Function, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return f and T f for a local operator.

        Training differentiates through T f for an SVD only, which an unbounded operator does not have: its
        T f has no graph.
        """
        jet = jet_of(function, x, live=self.bounded)
        with jet.derive():
            return jet.value, self.from_jet(x, jet)

    def moments(
        self, function: Function, nodes: Nodes, *, jet: Callable[[Tensor], Jet] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the Gram matrix ``<f_i|f_j>`` and the form ``<f_i|T f_j>``, ``(L, L)`` each.

        For a local operator it is the weak form on a quadrature rule and the strong one on sampled nodes,
        where that has the smaller error; the strong form is not symmetric there.
        """
        if self.local:
            j = jet_of(function, nodes.x) if jet is None else jet(nodes.x)
            f = j.value
            A = self.weak_form(nodes, j) if nodes.kind == "quadrature" else self.strong_form(nodes, j)
        else:
            f = checked(function(nodes.x), nodes.x)
            A = (nodes.weights[:, None] * f).t() @ self.transform(nodes.x, nodes, f) / len(nodes)
        return (nodes.weights[:, None] * f).t() @ f / len(nodes), A

    def shift(self, c: Real) -> "Operator":
        """Return ``T + c I``: the same functions, every value moved by c.

        Raises:
            ArgumentError: the operator is not self-adjoint: its singular functions would not stay the same.
        """
        require(
            self.self_adjoint,
            "shift",
            got="an operator that is not self-adjoint",
            expected="a self-adjoint one",
            remedy="A shift changes the singular functions of any other.",
        )
        return self if c == 0 else Shifted(self, c)

    def __add__(self, other: "Operator") -> "Operator":
        """Return the sum of two operators between the same spaces."""
        return Sum(self, other)

    def __mul__(self, c: Real) -> "Operator":
        """Return the operator times a number."""
        if not isinstance(c, (int, float)):
            return NotImplemented
        return Scaled(self, c)

    __rmul__ = __mul__

    def __neg__(self) -> "Operator":
        """Return ``-T``."""
        return Scaled(self, -1.0)

    def __sub__(self, other: "Operator") -> "Operator":
        """Return the difference of two operators."""
        return Sum(self, Scaled(other, -1.0))


def refuse_pairs(*operators: Operator) -> None:
    """Refuse to add or scale operators that are known through pairs alone."""
    inside = [getattr(T, "inner", T) for T in operators]
    require(
        all(getattr(T, "pairs", None) is None for T in inside),
        "operator",
        got="a sum or a multiple of a conditional expectation that is known through pairs",
        expected="the conditional expectation itself",
        remedy="Solve it by itself: a multiple has the same functions and its values times the number.",
    )


class Sum(Operator):
    """The sum of two operators between the same spaces."""

    def __init__(self, first: Operator, second: Operator) -> None:
        require(isinstance(second, Operator), "second", got=type(second).__name__, expected="an Operator")
        refuse_pairs(first, second)
        for side in ("measure_x", "measure_y"):
            a, b = getattr(first, side), getattr(second, side)
            if a is not None and b is not None and a is not b and a.config() != b.config():
                raise ArgumentError(
                    side, got=f"{a.config()} and {b.config()}", expected="summands between the same spaces"
                )
        self.first, self.second = first, second
        self.local = first.local and second.local
        self.self_adjoint = first.self_adjoint and second.self_adjoint
        self.bounded = first.bounded and second.bounded
        self.measure_x = first.measure_x or second.measure_x
        self.measure_y = first.measure_y or second.measure_y
        self.singular_points = tuple(dict.fromkeys(first.singular_points + second.singular_points))
        self.weak_order = max(first.weak_order, second.weak_order)

    def from_jet(self, x: Tensor, jet: Jet) -> Tensor:
        """Add the two actions."""
        return self.first.from_jet(x, jet) + self.second.from_jet(x, jet)

    def transform(self, y: Tensor, nodes: Nodes, f: Tensor) -> Tensor:
        """Add the two transforms."""
        require(
            not (self.first.local or self.second.local),
            "transform",
            got="a sum with a local operator",
            expected="evaluate or apply, which see the function itself",
        )
        return self.first.transform(y, nodes, f) + self.second.transform(y, nodes, f)

    def weak_form(self, nodes: Nodes, jet: Jet) -> Tensor:
        """Add the two forms."""
        return self.first.weak_form(nodes, jet) + self.second.weak_form(nodes, jet)

    def apply(self, function: Function, y: Tensor, nodes: Nodes | None = None) -> Tensor:
        """Return ``(T f)(y)``."""
        if self.local:  # both read the same jet
            return super().apply(function, y, nodes)
        return self.first.apply(function, y, nodes) + self.second.apply(function, y, nodes)

    def evaluate(self, function: Function, nodes: Nodes, inner: Nodes | None = None) -> tuple[Tensor, Tensor]:
        """Return f and ``T f`` at the nodes."""
        if self.local:
            return super().evaluate(function, nodes, inner)
        f, first = self.first.evaluate(function, nodes, inner)
        return f, first + self.second.evaluate(function, nodes, inner)[1]

    def moments(
        self, function: Function, nodes: Nodes, *, jet: Callable[[Tensor], Jet] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return Gram matrix and form."""
        if self.local:
            return super().moments(function, nodes, jet=jet)
        S, A = self.first.moments(function, nodes, jet=jet)
        return S, A + self.second.moments(function, nodes, jet=jet)[1]

    @property
    def adjoint(self) -> Operator:
        """The sum of the adjoints."""
        return self if self.self_adjoint else Sum(self.first.adjoint, self.second.adjoint)


class _Wrapped(Operator):
    """An operator made of one other and a number."""

    def __init__(self, inner: Operator, c: Real) -> None:
        require(isinstance(inner, Operator), "operator", got=type(inner).__name__, expected="an Operator")
        require(math.isfinite(c), "c", got=c, expected="a finite number")
        self.inner, self.c = inner, float(c)
        self.local, self.self_adjoint, self.bounded = inner.local, inner.self_adjoint, inner.bounded
        self.measure_x, self.measure_y = inner.measure_x, inner.measure_y
        self.singular_points, self.weak_order = inner.singular_points, inner.weak_order


class Scaled(_Wrapped):
    """A number times an operator."""

    def __init__(self, inner: Operator, c: Real) -> None:
        refuse_pairs(inner)
        super().__init__(inner, c)

    def from_jet(self, x: Tensor, jet: Jet) -> Tensor:
        """Scale the action."""
        return self.c * self.inner.from_jet(x, jet)

    def transform(self, y: Tensor, nodes: Nodes, f: Tensor) -> Tensor:
        """Scale the transform."""
        return self.c * self.inner.transform(y, nodes, f)

    def weak_form(self, nodes: Nodes, jet: Jet) -> Tensor:
        """Scale the form."""
        return self.c * self.inner.weak_form(nodes, jet)

    def apply(self, function: Function, y: Tensor, nodes: Nodes | None = None) -> Tensor:
        """Return ``c (T f)(y)``."""
        return self.c * self.inner.apply(function, y, nodes)

    def evaluate(self, function: Function, nodes: Nodes, inner: Nodes | None = None) -> tuple[Tensor, Tensor]:
        """Return f and ``c T f`` at the nodes."""
        f, Tf = self.inner.evaluate(function, nodes, inner)
        return f, self.c * Tf

    def moments(
        self, function: Function, nodes: Nodes, *, jet: Callable[[Tensor], Jet] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return Gram matrix and scaled form."""
        S, A = self.inner.moments(function, nodes, jet=jet)
        return S, self.c * A

    @property
    def adjoint(self) -> Operator:
        """The adjoint, scaled."""
        return self if self.self_adjoint else Scaled(self.inner.adjoint, self.c)


class Shifted(_Wrapped):
    """An operator plus a multiple of the identity."""

    def from_jet(self, x: Tensor, jet: Jet) -> Tensor:
        """Shift the action."""
        return self.inner.from_jet(x, jet) + self.c * (jet.value if jet.live else jet.value.detach())

    def transform(self, y: Tensor, nodes: Nodes, f: Tensor) -> Tensor:
        """Shift the transform; possible where y are the nodes themselves."""
        require(
            y is nodes.x,
            "y",
            got="points other than the nodes",
            expected="the nodes: the identity needs f at y itself",
            remedy="Use evaluate or apply.",
        )
        return self.inner.transform(y, nodes, f) + self.c * f

    def weak_form(self, nodes: Nodes, jet: Jet) -> Tensor:
        """Shift the form."""
        gram = (nodes.weights[:, None] * jet.value).t() @ jet.value / len(nodes)
        return self.inner.weak_form(nodes, jet) + self.c * gram

    def apply(self, function: Function, y: Tensor, nodes: Nodes | None = None) -> Tensor:
        """Return ``(T f)(y) + c f(y)``."""
        if self.local:  # the jet holds f
            return super().apply(function, y, nodes)
        return self.inner.apply(function, y, nodes) + self.c * checked(function(y), y)

    def evaluate(self, function: Function, nodes: Nodes, inner: Nodes | None = None) -> tuple[Tensor, Tensor]:
        """Return f and ``T f + c f`` at the nodes."""
        if self.local:
            return super().evaluate(function, nodes, inner)
        f, Tf = self.inner.evaluate(function, nodes, inner)
        return f, Tf + self.c * f

    def moments(
        self, function: Function, nodes: Nodes, *, jet: Callable[[Tensor], Jet] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return Gram matrix and shifted form."""
        S, A = self.inner.moments(function, nodes, jet=jet)
        return S, A + self.c * S

    @property
    def adjoint(self) -> Operator:
        """The operator itself: only self-adjoint operators are shifted."""
        return self
