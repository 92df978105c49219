"""Retrieval of the other half of an image: measures, rivals and ours are what the page says they are."""

import importlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.linalg

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
Script = Callable[..., str]

pytest.importorskip("sklearn")


@pytest.fixture(autouse=True)
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Results and single runs go to a folder of the test."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(importlib.import_module("_machine"), "RESULTS", tmp_path / "results")
    monkeypatch.setattr(importlib.import_module("retrieval"), "RUNS", tmp_path / "runs")
    return tmp_path / "results"


@pytest.fixture
def parts() -> ModuleType:
    return importlib.import_module("_retrieval")


@pytest.fixture
def retrieval() -> ModuleType:
    return importlib.import_module("retrieval")


def test_measures_by_hand(parts: ModuleType) -> None:
    """Three images of the digits 1, 1, 2; each row ranks the right halves."""
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    found = parts.measures(scores, np.array([1, 1, 2]))
    # Relevant of the same digit: places 1, 2 | 2, 3 | 3. Average precisions 1, (1/2 + 2/3)/2, 1/3.
    assert found["mean_average_precision"] == pytest.approx((1 + 7 / 12 + 1 / 3) / 3)
    # Places of the very half: 1, 2, 3.
    assert found["median_rank"] == 2
    assert found["mean_reciprocal_rank"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert found["recall_at_10"] == 1
    # Row i likes the column 19 - i best, then its neighbours: its own is among ten where |2i - 19| <= 5.
    i = np.arange(20)
    mirror = parts.measures(-np.abs(i[:, None] - i[::-1]).astype(float), i % 2)
    assert mirror["recall_at_10"] == 6 / 20


def test_scikit_learn_agrees_on_average_precision(parts: ModuleType) -> None:
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(0)
    scores, digit = rng.normal(size=(30, 30)), rng.integers(3, size=30)
    expected = np.mean(
        [average_precision_score(digit == d, row) for d, row in zip(digit, scores, strict=True)]
    )
    assert parts.measures(scores, digit)["mean_average_precision"] == pytest.approx(expected)


def test_no_image_is_in_two_parts(parts: ModuleType, retrieval: ModuleType) -> None:
    assert sum(retrieval.SIZES) == len(parts.digits().x) == 1797
    pieces = parts.divided(3, retrieval.SIZES)
    every = np.concatenate([np.hstack([p.x, p.y, p.digit[:, None]]) for p in pieces])
    whole = parts.digits()
    expected = np.hstack([whole.x, whole.y, whole.digit[:, None]])
    order = [np.lexsort(rows.T) for rows in (every, expected)]
    np.testing.assert_array_equal(every[order[0]], expected[order[1]])


@pytest.fixture
def few(parts: ModuleType) -> Any:
    return parts.divided(0, (90, 40, 50))[0]


def test_linear_cca_solves_its_eigenproblem(parts: ModuleType, few: Any) -> None:
    """The oracle is SciPy's generalised eigenproblem of the two covariances with the same ridge."""
    model = parts.LinearCCA(few, 0.1)
    A, B = (half - half.mean(0) for half in (few.x, few.y))
    Cx, Cy, C = A.T @ A / len(A), B.T @ B / len(B), A.T @ B / len(A)
    Cx, Cy = (M + 0.1 * np.trace(M) / len(M) * np.eye(len(M)) for M in (Cx, Cy))
    zero = np.zeros_like(C)
    found = scipy.linalg.eigh(
        np.block([[zero, C], [C.T, zero]]), scipy.linalg.block_diag(Cx, Cy), eigvals_only=True
    )
    np.testing.assert_allclose(model.values, found[::-1][: len(model.values)], atol=1e-10)
    [(f, g, s)] = model.functions(few.x, few.y)
    np.testing.assert_allclose(f.T @ g / len(f), np.diag(s), atol=1e-10)


def test_kernel_cca_solves_its_eigenproblem(parts: ModuleType, few: Any) -> None:
    """The oracle is the regularised problem of Bach and Jordan on the centred kernel matrices."""
    from sklearn.metrics.pairwise import rbf_kernel

    width, ridge, N = 1.0, 1e-2, len(few.x)
    model = parts.KernelCCA(few, width, ridge)
    H = np.eye(N) - 1 / N
    K, L = (H @ rbf_kernel(half, gamma=0.5 / width**2) @ H for half in (few.x, few.y))
    inverse = [np.linalg.inv(M + N * ridge * np.eye(N)) for M in (K, L)]
    squares = np.linalg.eigvals(inverse[0] @ K @ inverse[1] @ L).real
    np.testing.assert_allclose(model.values[:20] ** 2, np.sort(squares)[::-1][:20], atol=1e-9)
    [(f, g, s)] = model.functions(few.x, few.y)
    np.testing.assert_allclose((f.T @ g / N)[:20, :20], np.diag(s[:20]), atol=1e-7)
    np.testing.assert_allclose(f.mean(0), 0, atol=1e-8)


def test_the_scores(parts: ModuleType) -> None:
    """The score "normal" is the logarithm of the density ratio of two normal variables."""
    x, y, rho = 0.3, -1.1, 0.7
    C = np.array([[1, rho], [rho, 1]])
    z = np.array([x, y])
    expected = -0.5 * z @ (np.linalg.inv(C) - np.eye(2)) @ z
    found = parts.SCORES["normal"](np.array([[x]]), np.array([[y]]), np.array([rho]))
    assert float(found[0, 0]) == pytest.approx(expected)
    f, g, s = np.array([[1.0, 2.0]]), np.array([[0.5, -1.0]]), np.array([0.8, 0.2])
    assert float(parts.SCORES["density ratio"](f, g, s)[0, 0]) == pytest.approx(0.8 * 0.5 - 0.2 * 2)
    assert float(parts.SCORES["cosine, sigma"](f, f, s)[0, 0]) == pytest.approx(1)


def test_quick(
    parts: ModuleType,
    retrieval: ModuleType,
    script: Script,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In this process; but one of the contenders also in its own."""
    specs: list[dict[str, Any]] = []

    def here(spec: dict[str, Any]) -> dict[str, Any]:
        specs.append(spec)
        return dict(parts.one(json.loads(json.dumps(spec))))

    monkeypatch.setattr(retrieval, "in_a_process", here)
    said = script("retrieval", "--quick", "--record")
    assert "kernel CCA" in said
    assert "A fit of ours takes" in said
    assert not results.exists(), "a quick run is not recorded"
    [linear] = [spec for spec in specs if spec["name"] == "linear CCA"]
    assert parts.in_a_process(linear)["digit"] == parts.one(linear)["digit"]
    [ours] = [spec for spec in specs if spec["name"] == "ours"]
    digit = parts.one(ours)["digit"]
    chance = parts.one(ours | {"name": "pixels"})["chance"]
    assert digit["precision_at_10"] > 2 * chance["precision_at_10"]


def fake(spec: dict[str, Any]) -> dict[str, Any]:
    """A run whose numbers say which contender it is: ours between linear and kernel CCA."""
    good = {"linear CCA": 0.2, "kernel CCA": 0.8, "ours": 0.5}.get(spec["name"], 0.6) + 0.01 * spec["seed"]
    told = {"precision_at_10": good, "mean_average_precision": good, "recall_at_10": good}
    told |= {"median_rank": 10 * (1 - good), "mean_reciprocal_rank": good}
    if spec["name"] == "pixels":
        return {name: told for name in ("chance", "pixels", "mirrored")}
    costs = ("fit_seconds", "all_seconds", "memory_mb", "transform_seconds", "transform_memory_mb")
    return dict.fromkeys([*costs, "model_mb"], 1.0) | {"digit": told, "half": told}


def test_the_verdict_follows_from_the_numbers(
    retrieval: ModuleType, script: Script, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(retrieval, "in_a_process", lambda spec: (made.append(spec), fake(spec))[1])
    said = script("retrieval", "--record")
    assert "ours: better than linear CCA on all measures, in every division." in said
    assert "ours: worse than kernel CCA on all measures, in every division." in said
    [path] = results.glob("retrieval-1threads-2*.json")
    report = json.loads(path.read_text())
    assert report["wins"]["ours / linear CCA"]["median_rank"]["better"] == 5
    assert report["rows"]["ours"]["digit"]["precision_at_10"]["median"] == pytest.approx(0.52)
    assert all(math.isfinite(number.value) for number in retrieval.numbers(report).values())
    again = len(made)
    assert again == 5 * len(report["runs"])
    script("retrieval")
    assert len(made) == again, "a run was made twice"
