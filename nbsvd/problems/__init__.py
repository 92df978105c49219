"""Named problems: operator, measure, ansatz and exact answer in one object."""

from collections.abc import Callable
from inspect import signature

from nbsvd._errors import nearest, require
from nbsvd.problems.base import Problem as Problem
from nbsvd.problems.dynamics import logistic_map as logistic_map
from nbsvd.problems.dynamics import ornstein_uhlenbeck as ornstein_uhlenbeck
from nbsvd.problems.kernels import brownian as brownian
from nbsvd.problems.kernels import gaussian_kernel as gaussian_kernel
from nbsvd.problems.kernels import volterra as volterra
from nbsvd.problems.pairs import gaussian_pair as gaussian_pair
from nbsvd.problems.schrodinger import hydrogen2d as hydrogen2d
from nbsvd.problems.schrodinger import hydrogen3d as hydrogen3d
from nbsvd.problems.schrodinger import infinite_well2d as infinite_well2d
from nbsvd.problems.schrodinger import oscillator as oscillator
from nbsvd.problems.schrodinger import oscillator2d as oscillator2d

PROBLEMS: dict[str, Callable[..., Problem]] = {
    "hydrogen2d": hydrogen2d,
    "hydrogen3d": hydrogen3d,
    "oscillator": oscillator,
    "oscillator2d": oscillator2d,
    "infinite_well2d": infinite_well2d,
    "volterra": volterra,
    "brownian": brownian,
    "gaussian_kernel": gaussian_kernel,
    "gaussian_pair": gaussian_pair,
    "ornstein_uhlenbeck": ornstein_uhlenbeck,
    "logistic_map": logistic_map,
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
    known = list(signature(make).parameters)
    for option in options:
        require(known, "options", got=option, expected=f"none: problems.{name} has no options")
        nearest("options", option, known)
    return make(**options)
