"""Compiled steps: the same numbers to rounding, and training that goes on where nothing can be compiled."""

import os
import shutil
import subprocess
import sys

import pytest
import torch

import nbsvd
from nbsvd._errors import ArgumentError
from nbsvd.training.compiled import Compiled

COMPILER = any(shutil.which(name) for name in ("g++", "clang++", os.environ.get("CXX", "g++")))
# In a process of its own: the run-time check of the other tests would be traced along.
BOTH = """
import torch, nbsvd
from nbsvd.training.compiled import Compiled
torch.set_num_threads(1)
names = []
for name, k in (("hydrogen2d", 3), ("gaussian_kernel", 2), ("volterra", 2)):
    values = [
        nbsvd.solve(name, k, steps=4, batch_size=64, progress=False, dtype=torch.float64, compile=flag,
                    network={"widths": (6,)})
        for flag in (False, True)
    ]
    assert [v.info["compiled"] for v in values] == [False, True], name
    plain, fast = ({key: p for key, p in v.right_model.state_dict().items()} for v in values)
    for key in plain:
        torch.testing.assert_close(fast[key], plain[key], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(values[0].values, values[1].values, rtol=1e-10, atol=0)
    names.append(name)
print("same:", *names)
"""


@pytest.mark.slow
@pytest.mark.skipif(not COMPILER, reason="no C++ compiler")
def test_a_compiled_run_is_the_same_to_rounding(tmp_path):
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", BOTH], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["same:", "hydrogen2d", "gaussian_kernel", "volterra"]


@pytest.fixture
def no_compiler(monkeypatch):
    def refuse(function, **options):
        def fails(*arguments):
            raise RuntimeError("No working C++ compiler found\nand a long story")

        return fails

    monkeypatch.setattr(torch, "compile", refuse)


def test_without_a_compiler_training_goes_on(no_compiler):
    options = {"steps": 3, "batch_size": 64, "progress": False}
    with pytest.warns(
        RuntimeWarning, match=r"^compile: .*RuntimeError: No working C\+\+ compiler found$"
    ) as caught:
        result = nbsvd.solve("hydrogen2d", 2, compile=True, **options)
    assert len(caught) == 1
    assert result.info["compiled"] is False
    assert torch.equal(result.values, nbsvd.solve("hydrogen2d", 2, **options).values)


def test_it_is_tried_once_and_changes_no_parameter(monkeypatch):
    calls = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: calls.append(options) or function)
    model = torch.nn.Linear(2, 1)
    before = [p.clone() for p in model.parameters()]
    loss = Compiled(lambda model, x: model(x).square().sum())
    assert not loss.works
    for _ in range(3):
        loss(model, torch.ones(4, 2))
    assert loss.works
    assert calls == [{"mode": "default"}]
    assert all(torch.equal(p, b) and p.grad is None for p, b in zip(model.parameters(), before, strict=True))


def test_an_error_of_the_loss_itself_is_not_hidden(no_compiler):
    def loss(model, x):
        raise ValueError("potential")

    compiled = Compiled(loss)
    with pytest.warns(RuntimeWarning), pytest.raises(ValueError, match="potential"):
        compiled(torch.nn.Linear(1, 1), torch.ones(1, 1))


@pytest.mark.parametrize(
    ("problem", "options"),
    [
        ("hydrogen2d", {"compile": "yes"}),
        ("hydrogen2d", {"compile": True, "method": "varpro"}),
        (nbsvd.Problem(nbsvd.Matrix(torch.eye(3))), {"compile": True}),
    ],
)
def test_bad_choices_are_refused(problem, options, unchecked, no_work):
    with pytest.raises(ArgumentError, match="compile"):
        nbsvd.solve(problem, 1, steps=1, progress=False, **options)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_captured_graphs_give_the_same_run():
    options = {"steps": 20, "batch_size": 64, "progress": False, "device": "cuda", "dtype": torch.float64}
    plain = nbsvd.solve("hydrogen2d", 3, **options)
    fast = nbsvd.solve("hydrogen2d", 3, compile=True, **options)
    assert fast.info["compiled"]
    torch.testing.assert_close(fast.values, plain.values, rtol=1e-8, atol=0)
