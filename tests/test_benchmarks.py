"""The benchmarks run, say what they found, and tell when something got worse.

The oracle of the comparison is a set of result files that are written here by hand.
"""

import importlib
import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

import nbsvd

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))
ONE_THREAD = ("rivals", "figure_1")  # whose runs always have one
MACHINE = {"processor": "Abacus", "cores": 2, "gpu": None, "system": "Wood", "load_average": 0.1}
Script = Callable[..., str]
# Dimension and largest value of the first operator drawn of some families.
FIRST = {
    "oscillator": (1, -3.0384470137831836),
    "coulomb": (3, 0.5164409427408425),
    "poeschl_teller": (1, 0.8855932611235828),
    "quartic": (1, -0.9333014438310321),
}


@pytest.fixture(autouse=True)
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Results and single runs go to a folder of the test, where ``_machine`` also looks for earlier ones."""
    monkeypatch.syspath_prepend(str(FOLDER))
    machine = importlib.import_module("_machine")
    monkeypatch.setattr(machine, "RESULTS", tmp_path / "results")
    for name in ("accuracy", "held_out"):
        monkeypatch.setattr(importlib.import_module(name), "RUNS", tmp_path / "runs")
    return tmp_path / "results"


@pytest.fixture
def machine() -> ModuleType:
    return importlib.import_module("_machine")


@pytest.fixture
def accuracy() -> ModuleType:
    return importlib.import_module("accuracy")


@pytest.fixture
def held_out() -> ModuleType:
    return importlib.import_module("held_out")


@pytest.fixture
def side_by_side() -> ModuleType:
    return importlib.import_module("side_by_side")


@pytest.fixture
def bounded() -> ModuleType:
    return importlib.import_module("_bounded")


def about(**changes: Any) -> dict[str, Any]:
    """Return a report's provenance."""
    plain = {
        "date": "2030-01-02T03:04:05+00:00",
        "revision": "abc",
        "machine": MACHINE,
        "threads": 1,
        "versions": {"torch": "2"},
    }
    return plain | changes


def recorded(folder: Path, name: str, report: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}-{report['date'][:10]}.json").write_text(json.dumps(report))


# Command lines -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_help(name: str, script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        script(name, "--help")
    said = capsys.readouterr().out
    assert stop.value.code == 0
    assert "--record" in said
    assert "--threads" in said or name in ONE_THREAD


@pytest.mark.parametrize("name", SCRIPTS)
def test_readme_tells_of(name: str) -> None:
    assert f"python benchmarks/{name}.py" in (FOLDER / "README.md").read_text(encoding="utf-8")


# Nothing slower than before ------------------------------------------------------------------------------


def taken(kind: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Let all entries of ``found`` be numbers of a kind."""
    from _machine import Number

    return lambda report: {key: Number(value, kind) for key, value in report["found"].items()}


@pytest.mark.parametrize(
    ("kind", "now", "then", "word"),
    [
        ("time", 1.3, 1.0, "SLOWER"),
        ("time", 1.19, 1.0, ""),
        ("time", 0.85, 1.0, ""),
        ("time", 0.5, 1.0, "faster"),
        ("time", math.inf, 1.0, "SLOWER"),
        ("time", math.inf, math.inf, ""),
        ("error", 2e-7, 1e-7, "LESS ACCURATE"),
        ("error", 1e-9, 1e-7, "more accurate"),
        ("error", 5e-15, 1e-15, "rounding"),
        ("error", math.nan, 1e-7, "LESS ACCURATE"),
        ("error", math.inf, 1e-7, "LESS ACCURATE"),
        ("error", 1e-7, math.inf, "more accurate"),
        ("memory", 2.0, 1.0, "MORE MEMORY"),
        ("ratio", 2.0, 3.0, "FALLEN BEHIND"),
        ("ratio", 3.0, 2.0, "further ahead"),
        ("ratio", 0.0, 2.0, "FALLEN BEHIND"),
        ("ratio", 0.0, 0.0, ""),
    ],
)
def test_verdict(machine: ModuleType, kind: str, now: float, then: float, word: str) -> None:
    assert machine.verdict(machine.Number(now, kind), machine.Number(then, kind)) == word


def test_the_first_result_has_nothing_beside_it(
    machine: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert machine.compare("a", about(found={"x": 1.0}), taken("time")) == []
    assert "nothing to compare 1 numbers" in capsys.readouterr().out


def test_what_got_worse_is_flagged(
    machine: ModuleType, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(results, "a", about(date="2029-12-31", found={"x": 9.0, "y": 9.0}))  # not the newest
    recorded(results, "a", about(found={"x": 1.0, "y": 2.0, "z": 1.0, "gone": 1.0}))
    recorded(results, "ab", about(date="2031-01-01", found={"x": 100.0}))  # another benchmark
    worse = machine.compare("a", about(found={"x": 1.5, "y": 2.1, "z": 0.5, "w": 1.0}), taken("time"))
    said = capsys.readouterr().out
    assert worse == ["x: slower, 1 before, 1.5 now"]
    lines = {line.split()[0]: line for line in said.splitlines() if line.startswith("  ")}
    assert "1.50x  SLOWER" in lines["x"]
    assert lines["y"].endswith("1.05x")
    assert "0.50x  faster" in lines["z"]
    assert lines["w"].endswith("new")
    assert "2030-01-02, revision abc" in said
    assert "1 of the 4 numbers recorded then were not measured now" in said
    assert "1 of 3 got worse by more than 20%" in said


def test_an_error_that_grew_is_flagged(
    machine: ModuleType, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(results, "a", about(found={"x": 1e-8}))
    assert machine.compare("a", about(found={"x": 1e-6}), taken("error")) != []
    assert "100.00x  LESS ACCURATE" in capsys.readouterr().out


def test_times_of_another_machine_are_not_compared(
    machine: ModuleType, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(results, "a", about(found={"x": 1.0}))
    other = about(machine=MACHINE | {"processor": "Slide rule"}, found={"x": 5.0})
    assert machine.compare("a", other, taken("time")) == []
    said = capsys.readouterr().out
    assert "made on Abacus, this one on Slide rule" in said
    assert "5.00x  other machine" in said
    assert len(machine.compare("a", other, taken("error"))) == 1


def test_two_gpus_are_two_machines(machine: ModuleType, results: Path) -> None:
    recorded(results, "a", about(found={"x": 1.0}))
    other = about(machine=MACHINE | {"gpu": "fast"}, found={"x": 5.0})
    assert machine.compare("a", other, taken("time")) == []


# Result files --------------------------------------------------------------------------------------------


def test_a_result_file(machine: ModuleType, results: Path) -> None:
    report = about(numbers=[1.0, 2.5, -3e-7], rows=[{"x": [1, 2]}], said="[\\n 1 ]", none=[])
    path = machine.record("a", report)
    assert path == results / "a-2030-01-02.json"
    text = path.read_text()
    assert "[1.0, 2.5, -3e-07]" in text
    found = json.loads(text)
    assert "load_average_after" in found
    assert {key: found[key] for key in report} == report
    assert machine.last("a") == found
    assert [p.name for p in results.iterdir()] == [path.name]


def test_a_result_of_the_same_day_is_not_lost(machine: ModuleType, results: Path) -> None:
    machine.record("a", about(found=1))
    machine.record("a", about(found=2))
    assert not (results / "earlier").exists()
    machine.record("a", about(found=3, revision="def"))
    assert machine.last("a")["found"] == 3
    assert json.loads((results / "earlier" / "a-2030-01-02-abc.json").read_text())["found"] == 2


def test_provenance(machine: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["somewhere/step.py", "--threads", "1"])
    found = machine.provenance("scikit-fem")
    assert found["command"] == "python benchmarks/step.py --threads 1"
    assert found["threads"] == torch.get_num_threads()
    assert {"python", "torch", "numpy", "scipy", "scikit-fem"} == set(found["versions"])
    assert {"processor", "cores", "gpu", "system", "load_average"} == set(found["machine"])
    assert found["machine"]["processor"] in machine.describe(found)


@pytest.mark.parametrize("path", sorted((FOLDER / "results").glob("*.json")), ids=lambda path: path.stem)
def test_recorded_results_say_where_they_were_made(path: Path) -> None:
    report = json.loads(path.read_text())
    assert {"date", "revision", "command", "machine", "threads", "versions"} <= set(report)
    assert path.stem.endswith(report["date"][:10])
    assert report["command"].startswith("python benchmarks/")


def test_a_run_is_kept(machine: ModuleType, tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> dict[str, Any]:
        made.append(1)
        return {"error": 0.5}

    path = tmp_path / "deep" / "one.json"
    first = machine.kept(path, {"seconds": 1, "pair": (1, 2)}, make)
    assert first["error"] == 0.5
    assert machine.kept(path, {"seconds": 1, "pair": (1, 2)}, make) == first
    assert len(made) == 1
    machine.kept(path, {"seconds": 2, "pair": (1, 2)}, make)  # another setting is another run
    assert len(made) == 2


def test_an_interrupted_run_is_not_kept(machine: ModuleType, tmp_path: Path) -> None:
    def make() -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        machine.kept(tmp_path / "one.json", {}, make)
    assert list(tmp_path.glob("*.json")) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2.0], (2.0, 2.0, 2.0)),
        ([3.0, 1.0, 2.0], (1.0, 2.0, 3.0)),
        ([1.0, 2.0, math.inf], (1.0, 2.0, math.inf)),
        ([1.0, 2.0, 3.0, 4.0, math.inf], (2.0, 3.0, 4.0)),
        ([math.inf, math.inf], (math.inf, math.inf, math.inf)),
    ],
)
def test_quartiles(machine: ModuleType, values: list[float], expected: tuple[float, ...]) -> None:
    found = machine.quartiles(values)
    assert (found["low"], found["median"], found["high"]) == expected


# Accuracy ------------------------------------------------------------------------------------------------


def test_accuracy_fits_into_three_quarters_of_an_hour(script: Script) -> None:
    said = script("accuracy", "--parallel", "--list")
    assert said.splitlines()[-1].split()[0] == "all"
    assert float(said.split()[-1]) <= 45


def test_thinned(accuracy: ModuleType) -> None:
    seconds = [0.1 * 1.02**i for i in range(400)]
    errors = [1 / s for s in seconds]
    found = accuracy.thinned(seconds, errors)
    assert 25 <= len(found["seconds"]) <= accuracy.POINTS
    assert found["seconds"] == sorted(found["seconds"])
    assert found["seconds"][0] == round(seconds[0], 2)
    assert found["seconds"][-1] == round(seconds[-1], 2)
    assert found["relative_max"][-1] == pytest.approx(errors[-1], rel=1e-2)
    assert accuracy.thinned([1.0, 2.0], [0.5, 0.25]) == {"seconds": [1.0, 2.0], "relative_max": [0.5, 0.25]}


def trained(value: float, angle: float = 0.0, reached: float | None = None) -> dict[str, Any]:
    errors = {"relative_max": value, "angle_max": angle, "orthogonality_max": 0.0}
    return {"errors": errors, "control": {"relative_max": 0.1}, "seconds_to_bound": reached}


def test_accuracy_counts(accuracy: ModuleType) -> None:
    """Bounds met on n of m, a failed run among the worst."""
    case = {
        "k": 9,
        "limit_seconds": 15,
        "stretch": False,
        "bounds": {"relative_max": 1e-7, "angle_max": 1e-3},
        "runs": [trained(1e-8, reached=3.0), trained(5e-8, 1.0, 5.0), trained(2e-7), {"stopped": "failed"}],
    }
    assert accuracy.met(case) == 1
    told = accuracy.tell("hydrogen9", case).split()
    assert told[:4] == ["hydrogen9", "9", "15", "2.0e-07"]
    assert "inf" in told
    assert told[-3:] == ["1", "of", "4"]
    found = accuracy.numbers({"cases": {"hydrogen9": case}})
    assert {key.split(": ")[1]: number.value for key, number in found.items()} == {
        "error, median": 2e-7,
        "error, worst": math.inf,
        "seconds to the bound, median": math.inf,
    }


def short(accuracy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be one case, of one second."""
    case = replace(accuracy.CASES["hydrogen9"], seconds=1.0, seeds=1)
    monkeypatch.setattr(accuracy, "CASES", {"hydrogen9": case})


def test_accuracy_records_and_goes_on(
    accuracy: ModuleType, script: Script, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short(accuracy, monkeypatch)
    script("accuracy", "--threads", "1", "--record")
    [path] = results.glob("*.json")
    assert path.name.startswith("accuracy-1threads-2")
    report = json.loads(path.read_text())
    assert report["threads"] == report["at_once"] == 1
    case = report["cases"]["hydrogen9"]
    [run] = case["runs"]
    assert case["met"] == 0
    assert case["limit_seconds"] == 1
    assert set(run["errors"]) >= {"relative_max", "angle_max", "orthogonality_max"}
    assert run["control"]["relative_max"] > 0
    assert len(run["history"]["seconds"]) == len(run["history"]["relative_max"]) <= accuracy.POINTS
    monkeypatch.setattr(nbsvd, "solve", lambda *a, **o: pytest.fail("it was run again"))
    assert "1.00x" in script("accuracy", "--threads", "1")
    report["cases"]["hydrogen9"]["runs"][0]["errors"]["relative_max"] /= 10
    path.write_text(json.dumps(report))
    assert "10.00x  LESS ACCURATE" in script("accuracy", "--threads", "1")


def test_accuracy_two_at_a_time(script: Script, tmp_path: Path) -> None:
    said = script("accuracy", "--parallel", "--quick", "--only", "hydrogen9", "--folder", str(tmp_path / "r"))
    assert "2 runs at a time" in said
    assert "0 of 1" in said
    [path] = (tmp_path / "r").iterdir()
    stored = json.loads(path.read_text())
    assert stored["setting"]["threads"] == 1
    assert stored["setting"]["at_once"] == 2


def test_accuracy_refuses(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        script("accuracy", "--parallel", "--threads", "2")
    assert "one thread" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        script("accuracy", "--quick", "--record")
    assert "not for the record" in capsys.readouterr().err


def test_accuracy_keeps_failures_but_no_interrupted_run(
    accuracy: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = accuracy.CASES["hydrogen9"]

    def diverge(*arguments: Any, **options: Any) -> None:
        raise nbsvd.TrainingDiverged("no longer finite", step=3, result=None)

    monkeypatch.setattr(nbsvd, "solve", diverge)
    assert accuracy.run(case, 0, 1.0)["stopped"] == "failed"
    stopped = SimpleNamespace(history=SimpleNamespace(stopped="interrupted"))
    monkeypatch.setattr(nbsvd, "solve", lambda *a, **o: stopped)
    with pytest.raises(KeyboardInterrupt):
        accuracy.run(case, 0, 1.0)


def test_tilted(accuracy: ModuleType) -> None:
    """Its first values, from the two frequencies."""
    assert accuracy.tilted().exact.values(3).tolist() == pytest.approx([-3.3, -5.3, -7.3])


# Held out ------------------------------------------------------------------------------------------------


def test_what_is_drawn_is_fixed(held_out: ModuleType) -> None:
    """The guard against tuning is worth nothing if the draw can change."""
    assert held_out.SEED == 20261124
    names = list(held_out.FAMILIES)
    for name, (dim, value) in FIRST.items():
        drawn = held_out.FAMILIES[name](np.random.default_rng([held_out.SEED, names.index(name)]))
        assert drawn.dim == dim
        assert drawn.values[0] == pytest.approx(value, rel=1e-8)


def test_held_out_goes_on(
    held_out: ModuleType, script: Script, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--families", "poeschl_teller", "--count", "1", "--seconds", "1")
    script("held_out", *options, "--record")
    [path] = results.glob("held_out-2*.json")
    report = json.loads(path.read_text())
    [run] = report["results"]["poeschl_teller"]["runs"]
    assert report["seed"] == held_out.SEED
    assert run["error"] == report["median"] == report["worst"]
    assert run["control"] >= 0
    monkeypatch.setattr(held_out, "run", lambda *a: pytest.fail("it was run again"))
    said = script("held_out", *options)
    assert "poeschl_teller, 1 operators, 1 s on 1 thread(s): error, median" in said


def test_held_out_counts_failures(held_out: ModuleType) -> None:
    runs = [{"error": 1e-3}, {"error": math.inf}, {"error": 1e-5}]
    report = {"arguments": {"seconds": 60.0}, "threads": 1, "results": {"wells": {"runs": runs}}}
    found = {key: number.value for key, number in held_out.numbers(report).items()}
    assert found["wells, 3 operators, 60 s on 1 thread(s): error, median"] == 1e-3
    assert found["all, 3 operators, 60 s on 1 thread(s): error, worst"] == math.inf


# Side by side --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hydrogen2d", "oscillator2d", "infinite_well2d"])
def test_finite_elements_against_closed_forms(side_by_side: ModuleType, name: str) -> None:
    setting, problem = side_by_side.PLANES[name], nbsvd.problems.get(name)
    exact, potential = problem.exact.values(setting.k), problem.operator.potential
    errors = []
    for elements in (8, 16):
        found = side_by_side.finite_elements(potential, 2, setting.k, elements=elements, **setting.mesh)
        errors.append(side_by_side.relative_max(found["values"], exact))
    assert errors[1] < errors[0] / 4
    if setting.line is None:
        found = side_by_side.radial_elements(potential, setting.k, **setting.symmetric)
    else:
        found = side_by_side.product_elements(setting.line, setting.k, **setting.symmetric)
    assert side_by_side.relative_max(found["values"], exact) < 1e-7


def test_elements_of_order_four(side_by_side: ModuleType) -> None:
    exact = nbsvd.problems.infinite_well2d().exact.values(4)
    two, four = (
        side_by_side.finite_elements(
            lambda x: torch.zeros_like(x[:, 0]), 2, 4, half_width=1.0, elements=4, below=0.0, order=order
        )
        for order in (2, 4)
    )
    assert (
        side_by_side.relative_max(four["values"], exact)
        < side_by_side.relative_max(two["values"], exact) / 50
    )


@pytest.mark.parametrize("make", ["dense", "symmetric", "sparse", "operator"])
def test_matrices_have_the_values_they_claim(bounded: ModuleType, make: str) -> None:
    A, values = getattr(bounded, make)(31, seed=3)
    entries = A.toarray() if make == "sparse" else A @ np.eye(31)
    assert np.linalg.svd(entries)[1][:10] == pytest.approx(values)
    if make == "sparse":
        assert (entries != 0).sum(1).max() <= 64
    if make == "symmetric":
        assert np.linalg.eigvalsh(entries)[::-1][:10] == pytest.approx(values)
    if make == "operator":
        assert A.H @ np.eye(31) == pytest.approx(entries.T)


def test_six_dimensional_kernel_has_the_values_it_claims(bounded: ModuleType) -> None:
    """The trace of the kernel is 1; its first level is single, the next one sixfold."""
    T, values = bounded.kernel6()
    x = T.measure_x.nodes(3, kind="iid", generator=torch.Generator().manual_seed(0)).x
    assert T.matrix(x, x).diagonal().tolist() == pytest.approx([1.0] * 3)
    assert len(set(np.round(values, 12))) == 2
    found = bounded.of_points(T, len(values), 1500, "sobol", 0)
    assert np.sort(found)[::-1] == pytest.approx(values, rel=0.1)


def test_who_can_not_run_is_said(bounded: ModuleType) -> None:
    turn = bounded.Turn()
    T = bounded.volterra()[0]
    turn.take(lambda: scipy.sparse.linalg.svds(T, 3)[1], np.ones(3), may_refuse=True)
    with pytest.raises(TypeError):
        turn.take(lambda: scipy.sparse.linalg.svds(T, 3)[1], np.ones(3), may_refuse=False)
    assert turn.refused.startswith("TypeError")
    assert turn.seconds == []


def test_seconds_to_an_error(side_by_side: ModuleType) -> None:
    run = {"history": [[1.0, 2.0, 3.0], [1e-2, 1e-4, 1e-6]]}
    assert side_by_side.seconds_to(run, 1e-3) == 2.0
    assert side_by_side.seconds_to(run, 1e-9) == math.inf


def test_side_by_side(
    side_by_side: ModuleType,
    bounded: ModuleType,
    script: Script,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    unchecked: None,
) -> None:
    """All of it, in small."""
    well = replace(side_by_side.PLANES["infinite_well2d"], meshes=((2, 4), (4, 2)))
    monkeypatch.setattr(side_by_side, "PLANES", {"infinite_well2d": well})
    small = {label: (make, (8,)) for label, (make, _) in bounded.MATRICES.items()}
    monkeypatch.setattr(bounded, "MATRICES", small)
    monkeypatch.setattr(bounded, "K", 2)
    monkeypatch.setattr(bounded, "DRAWN", (60,))
    said = script("side_by_side", "--threads", "1", "--seeds", "0", "--seconds", "1", "--record")
    assert "Finite elements are faster to their own error: " in said
    assert "SciPy wins on all of these" in said
    assert "can't run: TypeError" in said
    assert "benchmarks/step.py" in said
    [path] = results.glob("side_by_side-1threads-2*.json")
    report = json.loads(path.read_text())
    assert (
        report["plane"]["infinite_well2d"]["finite_elements"]["finite elements 4^2, order 2"]["unknowns"]
        == 49
    )
    assert report["sampled"]["Volterra"]["SciPy svds, of the operator"]["refused"].startswith("TypeError")
    ours = report["matrices"]["svds, dense, n = 8"]["ours"]
    assert set(ours) == {"seconds", "relative_max", "its_time_over_ours"}
    assert ours["relative_max"]["median"] < 1e-10
    numbers = side_by_side.numbers(report)
    assert {number.kind for number in numbers.values()} == {"error", "time", "ratio"}
    assert len(numbers) == len(set(numbers))


def test_side_by_side_quick(bounded: ModuleType, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "DRAWN", (60, 10**9))  # a quick run takes the first alone
    monkeypatch.setattr(bounded, "SAMPLED", {"Volterra": bounded.SAMPLED["Volterra"]})
    said = script("side_by_side", "--quick", "--threads", "1", "--only", "sampled", "--record")
    assert "Recorded" not in said
    assert "of 60 points" in said
