"""The benchmarks of the rivals: nothing wrong is timed, no run is lost, and the page says what was found."""

import importlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import nbsvd

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
Script = Callable[..., str]


@pytest.fixture(autouse=True)
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Results go to a folder of the test."""
    monkeypatch.syspath_prepend(str(FOLDER))
    machine = importlib.import_module("_machine")
    monkeypatch.setattr(machine, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(importlib.import_module("rivals"), "RUNS", tmp_path / "runs")
    return tmp_path / "results"


@pytest.fixture
def rivals_step(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with networks of a few units."""
    monkeypatch.setattr(importlib.import_module("step"), "WIDTHS", (16, 12))
    return importlib.import_module("rivals_step")


@pytest.fixture
def rivals() -> ModuleType:
    return importlib.import_module("rivals")


# One step ------------------------------------------------------------------------------------------------


def test_each_gradient_is_that_of_its_field(rivals_step: ModuleType) -> None:
    found = rivals_step.agreement()
    assert set(found) == set(rivals_step.SAID)
    assert max(found.values()) < 1e-7, found


@pytest.mark.parametrize("method", ["joint", "omm", "omm-2", "neuralef", "neuralef-original", "spin"])
def test_a_wrong_gradient_is_not_timed(
    method: str, rivals_step: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One per cent too much of T f is seen."""
    right = rivals_step.FIELDS[method]
    monkeypatch.setitem(rivals_step.FIELDS, method, lambda f, Tf, w: right(f, 1.01 * Tf, w))
    with pytest.raises(SystemExit, match="does not compute its gradient"):
        rivals_step.check(rivals_step.agreement())


def test_no_term_of_a_gradient_hides_another(rivals_step: ModuleType) -> None:
    """Halved functions have a gradient that is far from half of it, where there is more than one degree."""
    law = nbsvd.measures.Lebesgue(nbsvd.measures.TruncatedGaussian(2, scale=16.0, bound=50.0))
    nodes = law.nodes(128, kind="iid", generator=torch.Generator().manual_seed(1))
    for method in ("joint", "sequential", "omm", "omm-2"):
        f = importlib.import_module("step").network(scale=rivals_step.SCALES.get(method, 1e-3)).double()
        values, Tf = rivals_step.OPERATOR.evaluate(f, nodes)
        whole, half = (
            rivals_step.FIELDS[method](c * values.detach(), c * Tf.detach(), nodes.weights) for c in (1, 0.5)
        )
        assert float((2 * half - whole).norm() / whole.norm()) > 0.05, method


def test_rivals_step(rivals_step: ModuleType, script: Script, results: Path) -> None:
    said = script("rivals_step", "--threads", "1", "--repeats", "2", "--block", "1", "--naive", "--record")
    assert "SpIN, point by point" in said
    [path] = results.glob("rivals_step-paper-1threads-2*.json")
    report = json.loads(path.read_text())
    assert list(report["steps"]) == list(report["methods"]) == list(rivals_step.SAID)
    assert report["steps"]["joint"]["times_joint"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    L, one = rivals_step.L, sum(p.nelement() for p in importlib.import_module("step").network().parameters())
    # What is kept grows with the copies of the parameters: L, one for each pair, L of L.
    kept = {method: row["kept_mb"] for method, row in report["steps"].items()}
    for method, copies in {"spin": L, "spin-pairs": L * (L + 1) // 2, "spin-naive": L * L}.items():
        assert kept[method] == pytest.approx(4e-6 * copies * one, rel=0.05)
    assert kept["joint"] == kept["omm-2"] == 0
    work = {method: row["mflop"] for method, row in report["steps"].items()}
    for method in ("sequential", "omm", "omm-2", "neuralef", "neuralef-original"):
        assert work[method] == pytest.approx(work["joint"], rel=0.08)
    # A backward pass is what the pairs have more of than the components.
    passes = (work["spin-pairs"] - work["spin"]) / (L * (L + 1) // 2 - L)
    assert work["spin"] - work["joint"] == pytest.approx(L * passes, rel=0.05)
    numbers = rivals_step.numbers(report)
    assert {number.kind for number in numbers.values()} == {"ratio", "memory"}
    assert numbers["spin: joint / it"].value == pytest.approx(
        1 / report["steps"]["spin"]["times_joint"]["median"]
    )
    assert "spin: joint / it" in script("rivals_step", "--threads", "1", "--repeats", "2", "--block", "1")


def test_what_can_be_compiled_is(rivals_step: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """SpIN is not among them; one that torch can't compile stops the run."""
    assert {"joint", "omm", "neuralef"} <= set(rivals_step.COMPILED) <= set(rivals_step.TIMED) - {"spin"}
    compiled = importlib.import_module("nbsvd.training.compiled")

    def broken(self: Any, *arguments: Any) -> bool:
        return False

    monkeypatch.setattr(compiled.Compiled, "_compile", broken)
    args = importlib.import_module("argparse").Namespace(compile=True, naive=False, repeats=2, block=1)
    with pytest.raises(SystemExit, match="could not be compiled"):
        rivals_step.contest(args, {})


# The study -----------------------------------------------------------------------------------------------


def fake(method: str, *, seed: int, lr: float, steps: int) -> dict[str, Any]:
    """A run whose error says which it is: least at the rate 1e-3, and failed at 1e-2."""
    told = {"seed": seed, "lr": lr}
    if lr == 1e-2:
        return told | {"stopped": "failed", "said": "no longer finite"}
    error = 1e-3 * (1 + abs(math.log10(lr) + 3)) + 1e-5 * seed
    errors = {
        f"{name}_{how}": error
        for name in ("relative", "angle", "subspace", "orthogonality")
        for how in ("mean", "max")
    }
    if method.startswith("spin"):  # orthonormalised by the measured Gram matrix as well
        told["measured"] = {name: error / 2 for name, error in errors.items()}
    return told | {"steps": steps, "seconds": 1.0, "errors": errors, "control": {"relative_mean": 0.5}}


@pytest.fixture
def runs(rivals: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Let runs cost nothing, and list those that were made."""
    made: list[tuple[Any, ...]] = []

    def solve(setting: Any, method: str, **options: Any) -> dict[str, Any]:
        made.append((setting.said, method, *options.values()))
        return fake(method, **options)

    monkeypatch.setattr(rivals, "solve", solve)
    monkeypatch.setattr(rivals, "costs", lambda setting, quick: {"ms": COST})
    monkeypatch.setattr(
        rivals.Plan,
        "in_pairs",
        lambda plan, arguments: [plan.work(stage, part, 2) for stage in ("tune", "run") for part in (0, 1)],
    )
    return made


COST = {
    "joint": 10.0,
    "sequential": 10.0,
    "omm": 10.0,
    "neuralef": 12.5,
    "neuralef-original": 12.5,
    "spin": 30.0,
    "spin-no-memory": 31.25,
}


def test_the_study(
    rivals: ModuleType,
    runs: list[tuple[Any, ...]],
    script: Script,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = script("rivals", "--record")
    assert "±" in said
    [path] = results.glob("rivals-1threads-two-at-once-2*.json")
    report = json.loads(path.read_text())
    assert list(report["settings"]) == ["hydrogen", "oscillator", "hydrogen-cold"]
    for setting in report["settings"].values():
        assert list(setting["time"]) == list(setting["steps"]) == list(report["methods"])
        for method, tuned in setting["tuned"].items():
            assert tuned["lr"] == 1e-3
            assert len(tuned["tried"]) == len(rivals.RATES)
            assert tuned["tried"]["0.01"] == math.inf, "a run that failed is not chosen"
            for mode in ("time", "steps"):
                found = setting[mode][method]
                assert [run["seed"] for run in found] == list(rivals.SEEDS)
                assert {run["lr"] for run in found} == {1e-3}
        assert {run["steps"] for runs in setting["steps"].values() for run in runs} == {500}
        assert [setting["time"][method][0]["steps"] for method in COST] == [
            round(15e3 / ms) for ms in COST.values()
        ]
        for method in ("spin", "spin-no-memory"):
            own, measured = (setting["steps"][name] for name in (method, f"{method}-measured"))
            assert [run["errors"]["angle_max"] / 2 for run in own] == [
                run["errors"]["angle_max"] for run in measured
            ]
    assert set(report["batch"]["runs"]) == {"32", "128", "512"}
    assert len(set(runs)) == len(runs), "a run was made twice"
    trials = [run for run in runs if run[2] == rivals.TUNING_SEED]
    assert rivals.TUNING_SEED not in rivals.SEEDS
    assert len(trials) == len(rivals.RATES) * (3 * len(COST) + 3), "equal effort for all"

    before = len(runs)
    again = script("rivals")
    assert len(runs) == before, "it was run again"
    assert "1.00x" in again

    monkeypatch.syspath_prepend(str(FOLDER.parent / "book" / "_ext"))
    tell = pytest.importorskip("recorded_rivals", reason="the book's tools are not installed")
    rows = [row for _, heads, rows in tell.rivals(report) for row in rows if len(row) == len(heads)]
    assert sum("0.00102\u00a0±\u00a00.00002" in row for row in rows) == 3 * 2 * len(COST) + 3 * 3
    assert not any(tell.MISSING in row for row in rows)


def test_one_setting_alone(rivals: ModuleType, runs: list[tuple[Any, ...]], script: Script) -> None:
    said = script("rivals", "--only", "batch-32")
    assert {run[0] for run in runs} == {
        "hydrogen, 32 independent points in a step",
        "hydrogen, 128 independent points in a step",
    }
    assert "hydrogen, 32 independent points in a step" in said


@pytest.fixture
def hydrogen(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The first setting with networks of a few units, measured on few nodes."""
    _rivals, moments = map(importlib.import_module, ("_rivals", "nbsvd.spectrum.moments"))
    monkeypatch.setattr(moments, "LOCAL_NODES", moments.LOCAL_NODES)  # which a run changes
    return replace(_rivals.SETTINGS["hydrogen"], options={"network": {"widths": (8, 8)}})


def test_a_run_depends_on_its_seed_alone(hydrogen: Any) -> None:
    _rivals = importlib.import_module("_rivals")
    for method in ("joint", "neuralef", "spin"):
        first, again, other = (
            _rivals.solve(hydrogen, method, seed=seed, lr=1e-3, steps=2) for seed in (0, 0, 1)
        )
        assert first["errors"] == again["errors"]
        assert first["errors"] != other["errors"]
        assert first["steps"] == 2
        assert {f"{metric}_mean" for metric in importlib.import_module("rivals").COLUMNS} <= set(
            first["errors"]
        )
        assert first["control"]["relative_mean"] == again["control"]["relative_mean"] > 0


def test_spin_is_told_of_twice(hydrogen: Any) -> None:
    """By the averaged Gram matrix, which lags, and by the measured one, which makes it orthonormal."""
    found = importlib.import_module("_rivals").solve(hydrogen, "spin", seed=0, lr=1e-2, steps=20)
    own, measured = found["errors"], found["measured"]
    assert measured["orthogonality_max"] < 1e-3 < own["orthogonality_max"]
    assert measured["raw_orthogonality_max"] == own["raw_orthogonality_max"]
    assert measured["relative_max"] != own["relative_max"]


def test_all_methods_have_a_cost(hydrogen: Any) -> None:
    found = importlib.import_module("_rivals").costs(hydrogen, quick=True)["ms"]
    assert tuple(found) == hydrogen.methods
    assert min(found.values()) > 0


def test_a_run_that_diverges_is_a_result(monkeypatch: pytest.MonkeyPatch, hydrogen: Any) -> None:
    _rivals = importlib.import_module("_rivals")

    def diverge(*arguments: Any, **options: Any) -> None:
        raise nbsvd.TrainingDiverged("no longer finite", step=3, result=None)

    monkeypatch.setattr(nbsvd, "solve", diverge)
    found = _rivals.solve(hydrogen, "joint", seed=0, lr=1e-3, steps=2)
    assert found["stopped"] == "failed"
    assert found["lr"] == 1e-3
