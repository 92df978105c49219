"""A problem: an operator, the measure its functions live on, and the answer if there is one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from nbsvd._errors import require
from nbsvd.exact import Exact
from nbsvd.functions import Factor
from nbsvd.measures import Law, Lebesgue, Measure
from nbsvd.operators import Operator

NEAR = 1e-6  # of the length of a law: how far from a point its density may vanish


@dataclass(frozen=True)
class Problem:
    """An operator to decompose, with the measure, the ansatz and, where it is known, the exact answer.

    Arguments:
        operator: the operator T.
        measure: reference measure of the (right) functions, with its sampling law; the operator's own unless
            given.
        ansatz: factor that multiplies every component; none unless given. Left functions take it too if they
            live on the same measure.
        exact: the exact answer, for error reports.
        measure_y: reference measure of the left functions of an SVD; the operator's own, or ``measure``.
        name: how the problem is called in reports.
        options: the arguments that the named problem was made with, for saving.
        unit: the unit of the coordinates, for figures.

    Raises:
        ArgumentError: no operator, or no measure from either side; a measure or an exact answer that does not
            fit; a singular point of the operator that is no point of the domain.

    Example:
        >>> from nbsvd.measures import Lebesgue, Radial
        >>> from nbsvd.operators import Schrodinger
        >>> morse = Problem(
        ...     Schrodinger(lambda x: 12 * (1 - (-x[:, 0]).exp()) ** 2),
        ...     Lebesgue(Radial(1, scale=1.5)),
        ... )
        >>> morse.dim
        1
    """

    operator: Operator
    measure: Measure = None  # type: ignore[assignment]  # replaced by the operator's own below
    ansatz: Factor | None = None
    exact: Exact | None = None
    measure_y: Measure | None = None
    name: str = "custom"
    options: Mapping[str, object] = field(default_factory=dict)
    unit: str = "units of length"

    def __post_init__(self) -> None:
        require(
            isinstance(self.operator, Operator),
            "operator",
            got=type(self.operator).__name__,
            expected="an Operator",
            remedy="Make one: Schrodinger(potential), Integral(kernel, measure) or Matrix(A).",
        )
        measure = self.operator.measure_x if self.measure is None else self.measure
        require(
            isinstance(measure, Measure),
            "measure",
            got=type(measure).__name__,
            expected="a Measure",
            remedy="For a differential operator: Lebesgue(Radial(dim, scale=...)), "
            "with the size of the largest mode as scale.",
        )
        own = self.operator.measure_x
        require(
            own is None or measure.same_as(own),
            "measure",
            got=measure.config(),
            expected="None: this operator has its own",
            remedy="A kernel or matrix with another measure is another operator: make it with that measure.",
        )
        require(
            self.ansatz is None or isinstance(self.ansatz, Factor),
            "ansatz",
            got=type(self.ansatz).__name__,
            expected="a Factor",
            remedy="Such as DecayFactor, GaussianFactor, BoxFactor, or a product of them.",
        )
        check_singular_points(self.operator, measure)
        object.__setattr__(self, "measure", measure)
        if self.measure_y is None:
            both = measure is not own and self.operator.self_adjoint  # one space, one measure
            object.__setattr__(self, "measure_y", measure if both else self.operator.measure_y or measure)
        if self.exact is not None:
            require(
                isinstance(self.exact, Exact),
                "exact",
                got=type(self.exact).__name__,
                expected="an Exact answer",
                remedy="Subclass nbsvd.exact.Exact, or leave it out.",
            )
            require(
                self.exact.dim == measure.dim,
                "exact",
                got=f"an answer in {self.exact.dim} dimensions",
                expected=f"one in {measure.dim}, as the measure",
            )

    @property
    def dim(self) -> int:
        """Dimension of a point."""
        return self.measure.dim

    @property
    def left_measure(self) -> Measure:
        """Reference measure of the left functions."""
        assert self.measure_y is not None
        return self.measure_y


def check_singular_points(operator: Operator, measure: Measure) -> None:
    """Refuse declared singular points that are no points of the domain: where no node ever comes.

    The domain is where the sampling law has a density, at the point or beside it: a law may have a zero of
    its density there. Of a measure without one only dimensions are compared.
    """
    points, dim = operator.singular_points, measure.dim
    require(
        all(len(point) == dim and all(map(math.isfinite, point)) for point in points),
        "singular_points",
        got=[list(point) for point in points],
        expected=f"points of {dim} finite coordinates, as those of the measure",
        remedy=f"Give each point as {dim} numbers: singular_points=[{[0.0] * dim}].",
    )
    law = measure.law if isinstance(measure, Lebesgue) else measure
    if not points or not isinstance(law, Law):
        return
    step = NEAR * (law.length or 1.0) * torch.cat([torch.eye(dim), -torch.eye(dim), torch.zeros(1, dim)])
    near = torch.tensor(points, dtype=torch.float64)[:, None] + step
    density = law.log_density(near.flatten(0, 1)).unflatten(0, near.shape[:2]).amax(1)
    outside = [list(point) for point, p in zip(points, density.tolist(), strict=True) if p == -math.inf]
    require(
        not outside,
        "singular_points",
        got=f"{outside[0] if outside else None}, outside the domain of {type(law).__name__}",
        expected="points where the measure has nodes",
        remedy="Leave out what lies outside, or choose a law that reaches there, such as Radial, or Uniform "
        "with wider corners.",
    )
