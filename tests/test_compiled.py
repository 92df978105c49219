"""Compiled steps: the same numbers to rounding, and training that goes on where nothing can be compiled."""

import os
import shutil
import subprocess
import sys
import warnings

import pytest
import torch

import nbsvd
from nbsvd._errors import ArgumentError
from nbsvd.measures import Nodes
from nbsvd.training import compiled
from nbsvd.training.compiled import Captured, Compiled, Update, captured
from nbsvd.training.draws import Drawn
from nbsvd.training.optimizers import make_optimizer

COMPILER = any(shutil.which(name) for name in ("g++", "clang++", os.environ.get("CXX", "g++")))
# In a process of its own: the run-time check of the other tests would be traced along. Each kind of loss is
# traced; code is generated and built for one. SOAP divides by gradients that start near zero: rounding
# grows, and more is allowed.
BOTH = """
import functools, torch, nbsvd
from torch._dynamo.utils import counters
torch.set_num_threads(1)
whole, names = torch.compile, []
traced = functools.partial(whole, backend="aot_eager")
for name, k, optimizer, torch.compile, objective in (
    ("gaussian_kernel", 2, "soap", traced, {}),
    ("volterra", 2, "soap", traced, {}),
    ("gaussian_kernel", 2, "rmsprop", traced, {"objective": "neuralef"}),
    ("gaussian_kernel", 2, "rmsprop", traced, {"objective": "neuralef", "form": "original"}),
    ("hydrogen2d", 3, "rmsprop", traced, {"objective": "omm", "invert": True}),
    ("hydrogen2d", 3, "rmsprop", whole, {}),
):
    values = [
        nbsvd.solve(name, k, steps=4, batch_size=64, progress=False, dtype=torch.float64, compile=flag,
                    optimizer=optimizer, **objective, network={"widths": (6,), "activation": "softplus"})
        for flag in (False, True)
    ]
    assert [v.info["compiled"] for v in values] == [False, True], name
    assert not counters["graph_break"], counters["graph_break"]
    plain, fast = ({key: p for key, p in v.right_model.state_dict().items()} for v in values)
    for key in plain:
        loose = 1e3 if optimizer == "soap" else 1.0
        torch.testing.assert_close(fast[key], plain[key], rtol=1e-9 * loose, atol=1e-11 * loose)
    torch.testing.assert_close(values[0].values, values[1].values, rtol=1e-9, atol=0)
    names.append(objective.get("objective", name))
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
    names = ["neuralef", "neuralef", "omm"]
    assert done.stdout.split() == ["same:", "gaussian_kernel", "volterra", *names, "hydrogen2d"]


@pytest.fixture
def no_compiler(monkeypatch):
    def refuse(function, **options):
        def fails(*arguments):
            raise RuntimeError("No working C++ compiler found\nand a long story")

        return fails

    monkeypatch.setattr(torch, "compile", refuse)


@pytest.mark.parametrize("optimizer", ["soap", "adam", "rmsprop"])
def test_without_a_compiler_training_goes_on(no_compiler, optimizer):
    options = {"steps": 3, "batch_size": 64, "progress": False, "optimizer": optimizer}
    with pytest.warns(
        RuntimeWarning, match=r"^compile: .*RuntimeError: No working C\+\+ compiler found$"
    ) as caught:
        result = nbsvd.solve("hydrogen2d", 2, compile=True, **options)
    assert len(caught) == 1
    assert result.info["compiled"] is False
    plain = nbsvd.solve("hydrogen2d", 2, **options)
    torch.testing.assert_close(result.values, plain.values, rtol=1e-5 if optimizer == "adam" else 0, atol=0)


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


def test_an_error_of_the_loss_itself_is_not_hidden():
    def loss(model, x):
        raise ValueError("potential")

    compiled = Compiled(loss)
    with pytest.raises(ValueError, match="potential"):
        compiled(torch.nn.Linear(1, 1), torch.ones(1, 1))


@pytest.fixture
def traced(monkeypatch):
    """Steps that are traced, but run as they were written: nothing has to be built."""
    whole = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **options: whole(function, backend="aot_eager"))


def updated(name, compiled, steps=5):
    """Minimise a sum of fourth powers, the learning rate halved at each step; return the numbers."""
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64))
    optimizer = make_optimizer(name, [weight], 0.1)
    update = Update(optimizer, compiled=compiled)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    for _ in range(steps):
        optimizer.zero_grad()
        (weight**4).sum().backward()
        update()
        schedule.step()
    return weight.detach(), update


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of its tracer
@pytest.mark.parametrize("name", ["soap", "adam", "rmsprop"])
def test_a_compiled_update_is_the_same_and_follows_the_schedule(name, traced):
    plain, _ = updated(name, False)
    fast, update = updated(name, True)
    assert (update.fast is not None) == (name != "soap")
    torch.testing.assert_close(fast, plain, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["soap", "adam", "rmsprop"])
def test_an_update_that_cannot_be_compiled_is_made_without(name, no_compiler):
    fast, update = updated(name, True)
    assert update.fast is None
    torch.testing.assert_close(fast, updated(name, False)[0], rtol=1e-12, atol=0)


class TestCaptured:
    """The logic around a graph, with a stand-in for the graph itself; on a GPU see the last test."""

    def setup_method(self):
        self.drawn = []
        self.model = torch.nn.Linear(1, 1).requires_grad_(False)
        self.loss = Drawn(lambda model, nodes: nodes.x.sum(), self.draw, fixed=True)

    def draw(self):
        self.drawn.append(float(len(self.drawn)))
        return (Nodes(torch.full((2, 1), self.drawn[-1]), torch.ones(2), "iid"),)

    def step(self):
        return self.loss(self.model)

    def test_every_step_sees_new_nodes_in_the_same_place(self, monkeypatch):
        monkeypatch.setattr(compiled, "aside", lambda step: step())
        recorded = []

        def record(step):  # a graph reads the memory that was there when it was captured
            recorded.append(self.loss.held)
            return step

        monkeypatch.setattr(compiled, "record", record)
        step = Captured(self.step, self.loss)
        assert [float(step()) for _ in range(6)] == [0, 2, 4, 6, 8, 10]
        assert len(recorded) == 1
        assert self.loss.held is recorded[0]
        assert self.drawn == list(range(6))

    def test_a_step_that_cannot_be_captured_is_taken_without(self, monkeypatch):
        monkeypatch.setattr(compiled, "aside", lambda step: step())

        def refuse(step):
            raise RuntimeError("operation not permitted when stream is capturing\nand more")

        monkeypatch.setattr(compiled, "record", refuse)
        step = Captured(self.step, self.loss)
        with pytest.warns(
            RuntimeWarning, match="RuntimeError: operation not permitted.*capturing$"
        ) as caught:
            assert [float(step()) for _ in range(6)] == [2 * x for x in range(6)]
        assert len(caught) == 1

    def test_on_a_cpu_nothing_is_captured(self):
        weight = torch.nn.Parameter(torch.ones(1))
        update = Update(make_optimizer("rmsprop", [weight], 0.1), compiled=True)
        assert captured(self.step, self.loss, update) == self.step


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
@pytest.mark.parametrize("optimizer", ["soap", "rmsprop"])  # two passes captured, and the whole step
def test_captured_graphs_give_the_same_run(optimizer):
    options = {"steps": 20, "batch_size": 64, "progress": False, "device": "cuda", "dtype": torch.float64}
    options |= {"optimizer": optimizer, "kind": "iid"}
    plain = nbsvd.solve("hydrogen2d", 3, **options)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "compile:")  # as where nothing could be compiled or captured
        fast = nbsvd.solve("hydrogen2d", 3, compile=True, **options)
    assert fast.info["compiled"]
    torch.testing.assert_close(fast.values, plain.values, rtol=1e-8, atol=0)
