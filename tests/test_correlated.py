"""The benchmark of two correlated normal variables: it runs, and judges by the law itself."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import nbsvd
from nbsvd.exact import GaussianPair

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
Script = Callable[..., str]


@pytest.fixture
def correlated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script; runs and results go to a folder of the test."""
    monkeypatch.syspath_prepend(str(FOLDER))
    script = importlib.import_module("correlated")
    monkeypatch.setattr(script, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(importlib.import_module("_machine"), "RESULTS", tmp_path / "results")
    return script


def test_the_law_gives_exact_functions_their_values(correlated: ModuleType) -> None:
    exact = GaussianPair(correlated.RHO)

    def functions(x: torch.Tensor) -> torch.Tensor:
        return 3 * exact.functions(x, 5)[:, 1:] + 1  # neither size nor mean matters

    values = [correlated.RHO**i for i in range(1, 5)]
    torch.testing.assert_close(
        correlated.population(functions, functions), torch.tensor(values, dtype=torch.float64)
    )


def test_polynomials_of_many_pairs_are_near_the_optimum(correlated: ModuleType) -> None:
    pairs = nbsvd.problems.gaussian_pair(correlated.RHO, samples=100_000, seed=0).operator.pairs
    reached = sum(s * s for s in correlated.polynomials(pairs))
    optimum = float((GaussianPair(correlated.RHO).values(correlated.K)[1:] ** 2).sum())
    assert 0.99 * optimum < reached < optimum


def run(seed: int, off: float) -> dict[str, Any]:
    """A run of known numbers: ``off`` standard errors from the functions' own correlations."""
    truth = [1.0, 0.75, 0.6, 0.5, 0.4]
    return {
        "seed": seed,
        "values": [1.0, *(t + 0.01 * off for t in truth[1:])],
        "stderr": [0.0] + [0.01] * 4,
        "population": truth,
        "polynomials": truth,
        "seconds": 1.0,
    }


def test_what_the_error_bars_cover(correlated: ModuleType) -> None:
    """Two standard errors are covered, three are not; of the exact values all but one (0.77) lie as near."""
    found = correlated.summary([run(0, 2.0), run(1, 3.0)])
    assert found["covers_population"] == 0.5
    # 0.77, 0.62, 0.52, 0.42 and 0.78, 0.63, 0.53, 0.43 beside 0.8, 0.64, 0.512, 0.4096.
    assert found["covers_exact"] == 7 / 8
    assert found["mean"] == pytest.approx([0.775, 0.625, 0.525, 0.425])
    assert found["score"] == pytest.approx(0.75**2 + 0.6**2 + 0.5**2 + 0.4**2)
    assert found["optimum"] == pytest.approx(0.8**2 + 0.64**2 + 0.512**2 + 0.4096**2)
    assert "50.0%" in correlated.tell("varpro", [run(0, 2.0)], found)


def test_a_record(
    correlated: ModuleType, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(correlated, "one", lambda m, seed, *a: (made.append(m), run(seed, seed % 4))[1])
    script("correlated", "--record")
    [path] = (tmp_path / "results").glob("correlated-2*.json")
    report = json.loads(path.read_text())
    assert {m: len(own["runs"]) for m, own in report["methods"].items()} == correlated.SEEDS
    # Of 20 seeds five are three errors off, and of five one.
    told = [own["summary"]["covers_population"] for own in report["methods"].values()]
    assert told == pytest.approx([0.75, 0.8])
    assert len(correlated.numbers(report)) == 2
    again = len(made)
    assert "1.00x" in script("correlated")
    assert len(made) == again, "a run was made twice"

    monkeypatch.syspath_prepend(str(FOLDER.parent / "book" / "_ext"))
    book = pytest.importorskip("recorded_data", reason="the book's tools are not installed")
    rows = [row for _, heads, rows in book.correlated(report) for row in rows if len(row) == len(heads)]
    assert not any(book.MISSING in row for row in rows)
    assert rows[-1][-1] == "neither, within 5%", "polynomials are as near the optimum"


def test_quick(correlated: ModuleType, script: Script) -> None:
    said = script("correlated", "--quick")
    assert "varpro: 2 data sets" in said
    assert "sgd: 2 data sets" in said
    assert "degree by the check pairs" in said
    with pytest.raises(SystemExit):
        script("correlated", "--quick", "--record")
