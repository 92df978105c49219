"""The visible loop: limits, schedule, averaging, callbacks, Ctrl-C, and a loss that is no number.

Most tests minimise ``(w - 1)^2`` over three numbers, for which everything can be said in closed form.
"""

import inspect
import math
import random
import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import nbsvd
from nbsvd import TrainingDiverged
from nbsvd.measures import Uniform
from nbsvd.training import SOAP, Settings, Trainer, train, trainer
from nbsvd.training.average import Average
from nbsvd.training.draws import STOCK, Drawn, batches
from nbsvd.training.optimizers import make_optimizer


class Numbers(nn.Module):
    def __init__(self, *w):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w or (3.0, 2.0, 0.0)))


def distance(model):
    return ((model.w - 1) ** 2).sum()


def values_of(model):
    return model.w.detach()


def run(loss=distance, *, model=None, values=values_of, lr=0.1, callbacks=(), began=None, **settings):
    chosen = Settings(**{"optimizer": "adam", "warmup": 0, "report_every": 10, "ema": 0.5} | settings)
    return train(
        model or Numbers(),
        loss,
        values,
        chosen,
        lr=lr,
        callbacks=callbacks,
        progress=False,
        began=began,
    )


def test_steps_end_the_run_and_the_last_ones_are_reported():
    losses = []

    def watched(model):
        losses.append(distance(model))
        return losses[-1]

    done = run(watched, steps=25)
    assert done.step == len(losses) == 25
    assert done.history.step == [10, 20, 25]
    assert done.history.stopped == "steps"
    means = [sum(losses[a:b]).item() / (b - a) for a, b in ((0, 10), (10, 20), (20, 25))]
    assert done.history.loss == pytest.approx(means)
    assert done.history.values[-1] == done.averaged.module.w.tolist()
    assert done.history.seconds == sorted(done.history.seconds)


def test_no_steps_change_nothing():
    model = Numbers(3.0, 2.0)
    done = run(model=model, steps=0)
    assert done.step == 0
    assert done.history.step == []
    assert done.history.stopped == "steps"
    assert model.w.tolist() == done.averaged.module.w.tolist() == [3.0, 2.0]


def test_seconds_end_the_run():
    def slow(model):
        time.sleep(0.01)
        return distance(model)

    began = time.perf_counter()
    done = run(slow, seconds=0.2)
    assert 0.2 <= time.perf_counter() - began < 5
    assert done.history.stopped == "seconds"
    assert done.history.step[-1] == done.step > 0


def test_seconds_count_from_the_warm_start():
    done = run(seconds=5.0, began=time.perf_counter() - 6)
    assert (done.step, done.history.stopped) == (0, "seconds")


def test_the_nearer_limit_counts():
    assert run(steps=5, seconds=60.0).history.stopped == "steps"
    assert Settings(steps=100, seconds=10.0).fraction(50, 8.0) == 0.8
    assert Settings(steps=100, seconds=10.0).fraction(90, 8.0) == 0.9
    assert Settings(steps=100, seconds=10.0).fraction(500, 80.0) == 1.0


def test_schedule_is_a_warm_up_and_a_cosine():
    rates = []

    def spying(run):
        rates.append(run.optimizer.param_groups[0]["lr"])

    # The rate seen after step s is the one for the step to come.
    run(steps=40, warmup=10, report_every=1, lr=0.2, callbacks=[spying])
    expected = [0.2 * min(1, (s + 1) / 10) * 0.5 * (1 + math.cos(math.pi * s / 40)) for s in range(1, 41)]
    assert rates == pytest.approx(expected)
    assert rates[-1] == 0


def test_the_average_is_that_of_torch():
    seen = []

    def watched(run):
        seen.append(run.model.w.detach().clone())

    done = run(steps=30, ema=0.9, report_every=1, callbacks=[watched])
    assert isinstance(done.averaged, AveragedModel)
    average = seen[0]
    for w in seen[1:]:
        average = 0.9 * average + 0.1 * w
    torch.testing.assert_close(done.averaged.module.w.detach(), average)


def test_the_average_in_one_call_is_torch_s_own():
    """Parameters and buffers, over updates of a module that has both."""
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).double()
    ours, theirs = Average(model, 0.9), AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        with torch.no_grad():
            for p in model.parameters():
                p += torch.rand(p.shape, generator=generator, dtype=p.dtype)
        model(torch.rand(5, 2, generator=generator, dtype=torch.float64))
        ours.update_parameters(model)
        theirs.update_parameters(model)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor)


def test_it_minimises():
    # The average trails the numbers, which stand still at the end of the cosine.
    assert run(steps=400, lr=0.05).history.values[-1] == pytest.approx([1, 1, 1], abs=1e-3)


def test_callbacks_see_the_trainer_and_can_end_the_run():
    calls = []

    def first(run):
        assert isinstance(run, Trainer)
        calls.append(("first", run.step, len(run.history.step)))
        return run.step >= 20

    def second(run):
        calls.append(("second", run.step, len(run.history.step)))
        return 1  # only True ends a run

    done = run(steps=100, callbacks=[first, second])
    assert calls == [(name, step, step // 10) for step in (10, 20) for name in ("first", "second")]
    assert (done.step, done.history.stopped) == (20, "callback")


def test_the_last_report_calls_back_too():
    steps = []
    run(steps=7, callbacks=[lambda run: steps.append(run.step)])
    assert steps == [7]


@pytest.mark.parametrize("where", ["loss", "callback", "values"])
def test_ctrl_c_returns_what_there_is(where):
    count = {"loss": 0, "values": 0}

    def loss(model):
        count["loss"] += 1
        if where == "loss" and count["loss"] == 16:
            raise KeyboardInterrupt
        return distance(model)

    def values(model):
        count["values"] += 1
        if where == "values" and count["values"] == 2:
            raise KeyboardInterrupt
        return values_of(model)

    def callback(run):
        if where == "callback" and run.step == 20:
            raise KeyboardInterrupt

    done = run(loss, values=values, steps=100, callbacks=[callback])
    assert done.history.stopped == "interrupted"
    assert done.history.step == {"loss": [10, 15], "callback": [10, 20], "values": [10, 20]}[where]
    assert done.history.values[-1] == done.averaged.module.w.tolist()
    assert len(done.history.loss) == len(done.history.values) == len(done.history.seconds) == 2


def test_ctrl_c_before_the_first_step():
    def loss(model):
        raise KeyboardInterrupt

    done = run(loss, steps=100)
    assert (done.step, done.history.step, done.history.stopped) == (0, [], "interrupted")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_keeps_the_last_good_state(bad):
    steps = []

    def loss(model):
        steps.append(1)
        return distance(model) * (bad if len(steps) == 26 else 1)

    with pytest.raises(
        TrainingDiverged, match=r"loss: got -?(nan|inf) at step 25; expected finite"
    ) as caught:
        run(loss, steps=100)
    error = caught.value
    assert error.step == 25
    assert isinstance(error.result, Trainer)
    assert error.result.history.step == [10, 20]
    assert error.result.averaged.module.w.tolist() == error.result.history.values[-1]
    assert "smaller lr" in str(error)


def test_a_bad_first_loss_keeps_the_start():
    with pytest.raises(TrainingDiverged, match="the start") as caught:
        run(lambda model: distance(model) * float("nan"), steps=10)
    assert caught.value.step == 0
    assert caught.value.result.averaged.module.w.tolist() == [3.0, 2.0, 0.0]


def test_parameters_that_are_no_numbers_are_not_kept():
    """A finite loss with an infinite gradient: the report of that very step must not take it for good."""
    steps = []

    def loss(model):
        steps.append(1)
        endless = (model.w[0] - model.w[0].detach()).abs().sqrt() if len(steps) == 20 else 0.0
        return distance(model) + endless

    with pytest.raises(TrainingDiverged, match="values: got nan") as caught:
        run(loss, steps=100)
    assert caught.value.step == 20
    assert caught.value.result.averaged.module.w.isfinite().all()
    assert caught.value.result.history.step == [10]


def test_a_potential_that_turns_nan_keeps_a_result():
    broken = []

    def potential(x):  # training is in float32, what is measured afterwards in float64
        return (x**2).sum(1) * (float("nan") if broken and x.dtype == torch.float32 else 1)

    def breaking(run):
        if run.step == 30:
            broken.append(True)

    problem = nbsvd.Problem(nbsvd.Schrodinger(potential), nbsvd.problems.oscillator2d().measure)
    options = {"steps": 100, "report_every": 10, "progress": False, "network": {"widths": (8,)}}
    with pytest.raises(TrainingDiverged) as caught:
        nbsvd.solve(problem, 1, callbacks=[breaking], **options)
    result = caught.value.result
    assert isinstance(result, nbsvd.Result)
    assert caught.value.step == 30
    assert result.values.isfinite().all()
    assert result.history.stopped == "diverged"
    assert result.info["steps"] == 30
    # values of float32 functions on few nodes, and of the same in float64 on many
    assert result.values.tolist() == pytest.approx(result.history.values[-1], rel=1e-3)


def quick(seed=0, **options):
    options = {"steps": 30, "network": {"widths": (8, 8)}, "batch_size": 64} | options
    return nbsvd.solve("oscillator2d", 2, seed=seed, progress=False, **options)


@pytest.mark.parametrize("options", [{}, {"kind": "iid", "optimizer": "rmsprop"}, {"kind": "sobol"}])
def test_same_seed_same_result_to_the_bit(options):
    first, second, other = quick(**options), quick(**options), quick(seed=1, **options)
    assert torch.equal(first.values, second.values)
    assert first.history.loss == second.history.loss
    assert first.history.values == second.history.values
    ours, theirs = first.right_model.state_dict(), second.right_model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not torch.equal(first.values, other.values)


class TestDraws:
    def test_independent_points_come_in_one_call_for_many_steps(self):
        law, calls = Uniform((0.0, 0.0), (1.0, 1.0)), []
        draw = law.nodes
        law.nodes = lambda n, **options: calls.append(n) or draw(n, **options)
        size = STOCK // 4
        steps = batches(law, size, "iid", torch.Generator().manual_seed(0))
        drawn = [next(steps) for _ in range(6)]
        assert calls == [STOCK, STOCK]
        assert all(len(nodes) == size and nodes.kind == "iid" for nodes in drawn)
        assert len({nodes.x[0, 0].item() for nodes in drawn}) == 6
        whole = draw(STOCK, kind="iid", generator=torch.Generator().manual_seed(0), dtype=torch.float32)
        assert torch.equal(torch.cat([nodes.x for nodes in drawn[:4]]), whole.x)

    @pytest.mark.parametrize("kind", ["sobol", "quadrature"])
    def test_points_that_belong_together_are_made_for_each_step(self, kind):
        law = Uniform((0.0, 0.0), (1.0, 1.0))
        generators = [torch.Generator().manual_seed(3) for _ in range(2)]
        steps = batches(law, 16, kind, generators[0], dtype=torch.float64)
        for _ in range(3):
            nodes, alone = next(steps), law.nodes(16, kind=kind, generator=generators[1])
            assert torch.equal(nodes.x, alone.x)
            assert torch.equal(nodes.weights, alone.weights)

    def test_a_batch_larger_than_the_stock(self):
        steps = batches(Uniform(), STOCK + 1, "iid", torch.Generator().manual_seed(0))
        assert len(next(steps)) == STOCK + 1

    def test_held_nodes_stay_in_place(self):
        steps = batches(Uniform(), 4, "iid", torch.Generator().manual_seed(0))
        loss = Drawn(lambda model, nodes: nodes.x.sum(), lambda: (next(steps),), fixed=True)
        values = []
        for _ in range(3):
            loss.refill()
            place = loss.held[0].x.data_ptr()
            values.append(loss(Numbers()).item())
            assert loss.held[0].x.data_ptr() == place
        again = batches(Uniform(), 4, "iid", torch.Generator().manual_seed(0))
        assert values == [next(again).x.sum().item() for _ in range(3)]


def test_no_global_state_is_touched_or_read(unchecked):  # the check itself draws from Python's random
    first = quick()
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002
    random.seed(123)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    second = quick()
    after = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert (before[1] == after[1]).all()
    assert before[2] == after[2]
    assert torch.equal(first.values, second.values)


def test_the_loop_fits_one_page():
    source = inspect.getsource(train).rstrip().splitlines()
    assert len(source) <= 66  # lines of a printed page
    assert max(map(len, source)) <= 110
    assert len(inspect.getsource(trainer).splitlines()) <= 200


def test_progress_shows_values_and_time_left(capsys):
    train(Numbers(), distance, values_of, Settings(steps=40, report_every=10), lr=0.1, progress=True)
    shown = capsys.readouterr().err
    assert "values" in shown
    assert "step 40" in shown
    assert "<" in shown  # elapsed<remaining
    run(steps=20)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "kind"), [("soap", SOAP), ("adam", torch.optim.Adam), ("rmsprop", torch.optim.RMSprop)]
)
def test_optimizers_by_name(name, kind):
    optimizer = make_optimizer(name, [nn.Parameter(torch.ones(2))], 0.25)
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["lr"] == 0.25
