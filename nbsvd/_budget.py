"""How long the labs may train, from the environment variable ``NBSVD_BUDGET``."""

import os
from typing import Literal, cast

from nbsvd._errors import nearest

Budget = Literal["ci", "laptop", "full"]
BUDGETS = ("ci", "laptop", "full")


def budget() -> Budget:
    """Return ``"ci"``, ``"laptop"`` or ``"full"``: the value of ``NBSVD_BUDGET``, ``"laptop"`` unless set.

    Raises:
        ArgumentError: another value; the three are listed.

    Example:
        >>> budget() in ("ci", "laptop", "full")
        True
    """
    return cast(Budget, nearest("NBSVD_BUDGET", os.environ.get("NBSVD_BUDGET") or "laptop", BUDGETS))
