"""The Trainer estimates squared inner products as its nodes ask for; and one run on a GPU from end to end."""

import pytest
import torch

import nbsvd
from nbsvd import problems, solve
from nbsvd.spectrum import moments
from nbsvd.training import objective as scores

pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.fixture
def used(monkeypatch):
    """The estimators with which the objectives were called."""
    monkeypatch.setattr(moments, "LOCAL_NODES", 512)  # it is not accuracy that is tested
    used = []

    def spy_on(objective):
        def spy(*arguments, moment, **options):
            used.append(moment)
            return objective(*arguments, moment=moment, **options)

        return spy

    for name in ("lora_evd", "omm"):
        monkeypatch.setattr(scores, name, spy_on(getattr(scores, name)))
    return used


@pytest.mark.parametrize(
    ("kind", "moment"), [("iid", "u"), ("sobol", "plain"), ("quadrature", "plain"), (None, "plain")]
)
@pytest.mark.parametrize("name", ["hydrogen2d", "brownian"])
def test_the_nodes_decide_the_estimator(used, name, kind, moment):
    solve(name, 1, kind=kind, steps=2, warm_start=None, progress=False)
    assert used == [moment, moment]


@pytest.mark.parametrize(("kind", "moment"), [("iid", "u"), ("sobol", "plain")])
def test_the_nodes_decide_it_for_omm_too(used, kind, moment):
    solve("brownian", 1, kind=kind, objective="omm", steps=1, progress=False)
    assert used == [moment]


@pytest.mark.parametrize("moment", ["split", "plain", "u"])
def test_the_caller_may_choose_among_those_that_are_right(used, moment):
    solve("brownian", 1, kind="iid", moment=moment, steps=1, progress=False)
    assert used == [moment]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_run_on_a_gpu(tmp_path):
    devices = []
    result = solve(
        "hydrogen2d",
        2,
        steps=20,
        device="cuda",
        progress=False,
        callbacks=[lambda run: devices.append(next(run.model.parameters()).device.type)],
    )
    assert devices == ["cuda"]
    assert result.info["device"].startswith("cuda")
    assert result.errors()["relative_max"] < 0.5
    assert result.plot().axes
    restored = nbsvd.load(result.save(tmp_path / "result.safetensors"))
    torch.testing.assert_close(restored.values.cpu(), result.values.cpu())
    assert restored.errors()["relative_max"] == pytest.approx(result.errors()["relative_max"])
    x = problems.hydrogen2d().measure.nodes(5, generator=torch.Generator().manual_seed(0)).x
    there = next(result.right_model.parameters()).device
    here = next(restored.right_model.parameters()).device
    torch.testing.assert_close(restored.right(x.to(here)).cpu(), result.right(x.to(there)).cpu())
