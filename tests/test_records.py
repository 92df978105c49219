"""The run ledger: labs at longer budgets are recorded by running them, and go stale when the code changes."""

import copy
import importlib.util
import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent

spec = importlib.util.spec_from_file_location("record_labs", ROOT / "book" / "_templates" / "record_labs.py")
assert spec is not None
assert spec.loader is not None
record_labs: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(record_labs)


def test_records_are_whole():
    for path in sorted(record_labs.RECORDS.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        assert record_labs.faults(record) == [], path.name
        assert path.stem == f"{record['lab']}-{record['budget']}"
        assert record["lab"] in {p.stem for p in record_labs.LABS.glob("*.ipynb")}
        assert f"--budget {record['budget']}" in record["command"]
        assert isinstance(record_labs.state(record), str)


LABS = {path.stem: nbformat.read(path, as_version=4) for path in sorted(record_labs.LABS.glob("*.ipynb"))}


@pytest.mark.parametrize("lab", LABS)
def test_each_lab_leaves_its_results(lab):
    cells = [cell for cell in LABS[lab].cells if cell.cell_type == "code"]
    names = [cell.id for cell in cells]
    assert names.index("results") == names.index("final-check") - 1
    cell = cells[names.index("results")]
    assert cell.source.startswith("results = {")
    assert not {"nbval-ignore-output", "nbval-skip"} & set(cell.metadata.get("tags", []))


@pytest.fixture
def trial(tmp_path, monkeypatch):
    """A lab of four cells in a folder of its own, and a folder for its records."""
    labs, kept = tmp_path / "labs", tmp_path / "records"
    labs.mkdir()
    monkeypatch.setattr(record_labs, "LABS", labs)
    monkeypatch.setattr(record_labs, "RECORDS", kept)
    monkeypatch.setattr(record_labs, "ROOT", tmp_path)

    def write(results: str, exercise: str = "answer = None") -> Path:
        cells = [
            nbformat.v4.new_markdown_cell("# A trial\n\nOf the recorder."),
            nbformat.v4.new_code_cell("import nbsvd", id="set-up"),
            nbformat.v4.new_code_cell(exercise, id="exercise-1-answer"),
            nbformat.v4.new_code_cell(results, id="results"),
        ]
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        nbformat.write(
            nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), labs / "trial.ipynb"
        )
        return kept / "trial-laptop.json"

    return write


def test_a_run_is_recorded_and_goes_stale(trial, capsys, monkeypatch):
    stored = trial("results = {'largest error of <a|b>': 1.5e-9, 'modes': 9}")
    assert record_labs.main(["--threads", "1"]) == 0
    assert "trial-laptop.json" in capsys.readouterr().out
    record = json.loads(stored.read_text(encoding="utf-8"))
    assert record_labs.faults(record) == []
    assert record["results"] == {"largest error of <a|b>": 1.5e-9, "modes": 9.0}
    assert (record["title"], record["budget"], record["threads"]) == ("A trial", "laptop", 1)
    assert (record["seed"], record["device"]) == (0, "cpu")
    assert record_labs.state(record) == "current"
    assert record_labs.main(["--list"]) == 0
    assert "current" in capsys.readouterr().out

    shown = record_labs.lab_tables([record, record | {"budget": "full", "results": {"modes": 16.0}}])
    assert "1.50\u00a0×\u00a010⁻⁹" in shown
    assert "largest error of &lt;a|b&gt;" in shown
    assert '<th scope="col">budget full</th>' in shown
    assert "make records" in record_labs.lab_tables([])

    trial(
        record["command"] and "results = {'largest error of <a|b>': 1.5e-9, 'modes': 9}",
        exercise="answer = 1",
    )
    assert record_labs.state(record) == "current", "an exercise records nothing"
    trial("results = {'modes': 9}")
    assert record_labs.state(record) == "stale: the lab's code has changed since"
    stored.parent.parent.joinpath("labs", "trial.ipynb").unlink()
    assert record_labs.state(record) == "stale: the lab is gone"


def test_a_change_of_the_package_is_noticed(trial, tmp_path):
    trial("results = {'modes': 9}")
    [path] = record_labs.LABS.glob("*.ipynb")
    record = {
        "lab": "trial",
        "cells_sha256": record_labs.cells_digest(nbformat.read(path, as_version=4)),
        "package_sha256": "of yesterday",
    }
    assert record_labs.state(record) == "the package has changed since"
    package = tmp_path / "package"
    package.mkdir()
    package.joinpath("a.py").write_text("a = 1\n")
    before = record_labs.package_digest(package)
    package.joinpath("a.py").rename(package / "b.py")
    assert record_labs.package_digest(package) != before


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        ("1 / 0", "stopped at the budget laptop"),
        ("nothing = {}", "name 'results' is not defined"),
        ("results = {'a': float('nan')}", "expected finite numbers"),
    ],
)
def test_a_run_that_fails_is_not_recorded(trial, capsys, results, reason):
    stored = trial(results)
    assert record_labs.main(["--threads", "1", "trial"]) == 1
    said = capsys.readouterr().err
    assert reason in said
    assert "Not recorded: trial" in said
    assert not stored.exists()


def test_an_unknown_lab_is_refused(trial, capsys):
    trial("results = {'modes': 9}")
    with pytest.raises(SystemExit):
        record_labs.main(["tiral"])
    assert "no lab tiral; there are trial" in capsys.readouterr().err


WHOLE: dict[str, Any] = {key: "x" for key in record_labs.KEYS} | {
    "budget": "full",
    "results": {"error": 0.5},
}


@pytest.mark.parametrize(
    "change",
    [
        {"minutes": None},
        {"budget": "ci"},
        {"results": {}},
        {"results": {"error": "small"}},
        {"results": {"error": float("inf")}},
        {"note": "fast"},
    ],
)
def test_a_faulty_record_is_found(change):
    assert record_labs.faults(copy.deepcopy(WHOLE)) == []
    assert record_labs.faults(copy.deepcopy(WHOLE) | change)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.0123456, "0.0123"),
        (9.0, "9"),
        (42849.0, "42800"),
        (1.234e-5, "1.23\u00a0×\u00a010⁻⁵"),
        (-2e7, "-2.00\u00a0×\u00a010⁷"),
    ],
)
def test_numbers_are_written_as_they_are_read(value, text):
    assert record_labs.number(value) == text
