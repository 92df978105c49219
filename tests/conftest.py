"""What every test shares: the run-time check of shapes and types, one thread, no windows.

**The check.** While the tests run, jaxtyping's import hook and beartype check the functions of ``nbsvd``
against their annotations: a call or a result of the wrong shape raises ``jaxtyping.TypeCheckError``. The
hook must be in place before ``nbsvd`` is imported, hence the order of the lines below.

**Switching it off.** A test that shows what a *user* sees when an argument is wrong asks for the fixture
:func:`unchecked`; without it the check may speak first, and our own ``ArgumentError`` is never reached::

    def test_points_must_be_two_dimensional(unchecked):
        with pytest.raises(ArgumentError, match="points"):
            functions(torch.zeros(5))

Functions, methods, ``forward`` and the fields of dataclasses all obey it. It holds for the whole test.
"""

import importlib
import os
import sys
from collections.abc import Callable, Iterator

# The kernels that nbval starts inherit these, so notebooks run as the tests do. MPLBACKEND is not among them:
# a kernel that finds it set does not show its figures.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NBSVD_BUDGET", "ci")

import jaxtyping
import pytest

if "nbsvd" in sys.modules:
    raise RuntimeError("nbsvd was imported before its run-time check was installed: see tests/conftest.py")
jaxtyping.install_import_hook("nbsvd", "beartype.beartype")

import matplotlib
import torch

matplotlib.use("Agg")
torch.set_num_threads(1)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Run one test as a user's program runs: without the run-time check (see the top of this file)."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail when training begins."""
    from nbsvd.training import session

    for loop in ("train", "minimise_tables"):
        monkeypatch.setattr(session, loop, lambda *a, **o: pytest.fail("training began"))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a benchmark as its command line would, and return what it prints."""

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name + ".py", *arguments])
        capsys.readouterr()
        importlib.import_module(name).main()
        return capsys.readouterr().out

    return run
