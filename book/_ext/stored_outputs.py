"""At the budget ``ci`` the pages of the labs show the outputs that are stored in them; no lab is executed.

The tests execute each lab once and compare what its cells print with what is stored (nbval), so a second
execution while the book is built would only cost time. At the budgets ``laptop`` and ``full`` the labs are
executed when the book is built, for their results differ from what is stored. Set ``NBSVD_EXECUTE=1`` to
have them executed at ``ci`` as well.
"""

import os
from typing import Any

from sphinx.util import logging

from nbsvd import budget

LABS = "book/labs/*.ipynb"  # myst-nb compares the end of a notebook's path with it


def choose(app: Any, config: Any) -> None:
    """Exclude the labs from execution where the budget says so, and tell the reader of the build's log."""
    log = logging.getLogger(__name__)
    if budget() != "ci":
        log.info("The labs are executed, at the budget %s.", budget())
    elif os.environ.get("NBSVD_EXECUTE", "0") not in ("", "0"):
        log.info("The labs are executed, at the budget ci, because NBSVD_EXECUTE is set.")
    else:
        config.nb_execution_excludepatterns = [*config.nb_execution_excludepatterns, LABS]
        log.info(
            "The labs show their stored outputs, which are those of the budget ci; `make test` executes each "
            "lab and compares. To execute them now: NBSVD_EXECUTE=1, or NBSVD_BUDGET=laptop."
        )


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("config-inited", choose)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
