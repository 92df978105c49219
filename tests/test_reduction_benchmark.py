"""The benchmark of dimension reduction: what it measures is right, and it says who wins."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import KernelPCA

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
Script = Callable[..., str]


@pytest.fixture(autouse=True)
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Results go to a folder of the test."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(importlib.import_module("_machine"), "RESULTS", tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def reduction() -> ModuleType:
    return importlib.import_module("reduction")


@pytest.fixture
def parts() -> ModuleType:
    return importlib.import_module("_reduction")


def test_the_reference_is_what_kernel_pca_computes(parts: ModuleType) -> None:
    X, Z = parts.surface(200, 0), parts.surface(50, 1)
    gamma = parts.width(X)
    found = KernelPCA(parts.K, kernel="rbf", gamma=gamma).fit(X).transform(Z)
    expected = parts.exact_scores(X, Z, gamma)
    assert parts.apart(found, expected) < 1e-6
    assert parts.angles(found, expected).max() < 1e-6
    turned = found @ np.array([[1, 0, 0, 0.1], [0, 1, 0, 0], [0, 0, 1, 0], [-0.1, 0, 0, 1]])
    assert parts.apart(turned, expected) > 0.05
    # the held-out share sees the span alone, and no other span of this size explains more of all points
    assert parts.share(turned, Z, gamma) == pytest.approx(parts.share(found, Z, gamma))
    best = parts.exact_scores(X, X, gamma)
    assert parts.share(best, X, gamma) > parts.share(best + 0.1 * X[:, :4], X, gamma)


def test_all_that_compete_find_the_components(parts: ModuleType, reduction: ModuleType) -> None:
    X, Z = parts.surface(250, 0), parts.surface(100, 1)
    expected = parts.exact_scores(X, Z, parts.width(X))
    for label in reduction.QUICK:
        found, model = parts.measured(label, X, Z, 0, {"max_iter": 40})
        assert parts.apart(model.transform(Z), expected) < 0.05, label
        assert set(found) < set(reduction.MEASURED)
        assert min(found["fit_seconds"], found["transform_seconds"], found["model_mb"]) > 0


def test_what_is_said_follows_the_numbers(reduction: ModuleType) -> None:
    def row(ratio: float, better_on: int) -> dict[str, Any]:
        return {"network, varpro": {"over_matrix": {"median": ratio}, "better_on": better_on}}

    for ratios, said in (
        ((0.5, 0.9), "varpro: better than the matrix method, errors 0.5 to 0.9"),
        ((1.2, 1.1), "varpro: worse than the matrix method"),
        ((0.5, 1.1), "better than the matrix method in places, worse in others"),
        ((0.99, 1.0), "no better and no worse"),
    ):
        points = {str(i): row(ratio, 2) for i, ratio in enumerate(ratios)}
        told = reduction.said_of_extrapolation({"gaussian": {"points": points}}, 5)
        assert said in told
        assert "smaller on 4 of 10 draws" in told


@pytest.mark.slow
def test_reduction(
    reduction: ModuleType, script: Script, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it, in small."""
    monkeypatch.setattr(reduction, "ROWS", {"surface": 120})
    monkeypatch.setattr(reduction, "CONTENDERS", reduction.QUICK)
    monkeypatch.setattr(reduction, "POINTS", (40,))
    monkeypatch.setattr(reduction, "GRADIENTS", (40,))
    monkeypatch.setattr(reduction, "OPTIONS", {"max_iter": 10})
    monkeypatch.setattr(reduction, "COSTS", (60, 120))
    monkeypatch.setattr(reduction, "POPULATION", 300)
    said = script("reduction", "--threads", "1", "--seeds", "0", "--rounds", "1", "--record")
    assert "fastest on new points" in said
    assert "smaller on" in said
    [path] = results.glob("reduction-1threads-2*.json")
    report = json.loads(path.read_text())
    table = report["sets"]["surface"]["contenders"]
    assert list(table) == list(reduction.QUICK)
    assert all(set(row) == set(reduction.MEASURED) for row in table.values())
    assert table["KernelPCA, ARPACK"]["score_error"]["median"] < 1e-6
    assert table["NeuralSVD"]["score_error"]["median"] < 0.5
    assert set(report["extrapolation"]["gaussian"]["points"]["40"]) == set(reduction.LEARNERS)
    assert report["costs"]["KernelPCA, randomised"]["model_exponent"] > 0.5
    numbers = reduction.numbers(report)
    assert {number.kind for number in numbers.values()} == {"time", "memory", "error"}
    assert len(numbers) == 3 * 4 + 2 * 3


def test_reduction_quick(script: Script) -> None:
    said = script("reduction", "--quick", "--only", "extrapolation", "--record")
    assert "Recorded" not in said
    assert "gaussian, n = 50" in said
