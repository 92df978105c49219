"""Named problems: operator, measure, ansatz and exact answer in one object."""

from collections.abc import Callable

from nbsvd._errors import ArgumentError, nearest
from nbsvd.problems.base import Problem as Problem
from nbsvd.problems.kernels import brownian as brownian
from nbsvd.problems.kernels import gaussian_kernel as gaussian_kernel
from nbsvd.problems.kernels import volterra as volterra
from nbsvd.problems.schrodinger import hydrogen2d as hydrogen2d
from nbsvd.problems.schrodinger import hydrogen3d as hydrogen3d
from nbsvd.problems.schrodinger import infinite_well2d as infinite_well2d
from nbsvd.problems.schrodinger import oscillator2d as oscillator2d

PROBLEMS: dict[str, Callable[..., Problem]] = {
    "hydrogen2d": hydrogen2d,
    "hydrogen3d": hydrogen3d,
    "oscillator2d": oscillator2d,
    "infinite_well2d": infinite_well2d,
    "volterra": volterra,
    "brownian": brownian,
    "gaussian_kernel": gaussian_kernel,
}


def get(name: str, **options: object) -> Problem:
    """Return a named problem, made with the given options.

    Raises:
        ArgumentError: an unknown name (the nearest known one is suggested) or option.

    Example:
        >>> get("hydrogen2d", domain="plane").name
        'hydrogen2d'
    """
    make = PROBLEMS[nearest("problem", name, PROBLEMS)]
    try:
        return make(**options)
    except TypeError as error:
        raise ArgumentError("options", got=options, expected=f"arguments of problems.{name}: {error}") from None
