"""Eigenfunctions of graphs, learned from the ends of edges, against exact eigenvectors of their matrices.

The oracle is NumPy's ``eigh`` of the symmetric normalised adjacency ``D^-1/2 A D^-1/2``, which shares nothing
with pairs of points; for a ring it is known in closed form.
"""

import importlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

import nbsvd
from nbsvd.measures import Pairs

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
Script = Callable[..., str]


def weighted(n: int, seed: int) -> np.ndarray:
    """Random weights on all edges of a ring and on some others."""
    rng = np.random.default_rng(seed)
    A = rng.random((n, n)) * (rng.random((n, n)) < 0.3)
    A += np.roll(np.eye(n), 1, axis=1)
    np.fill_diagonal(A, 0)
    return A + A.T


def exact(A: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues of ``D^-1 A``, descending; eigenvectors of norm 1 in the shares of degree; these shares."""
    d = A.sum(1)
    values, V = np.linalg.eigh(A / np.sqrt(np.outer(d, d)))
    return values[::-1], V[:, ::-1] * np.sqrt(d.sum() / d)[:, None], d / d.sum()


def solved(A: Any, features: Any, k: int, **options: Any) -> nbsvd.Result:
    walk = nbsvd.Conditional(Pairs.from_graph(A, features), reversible=True)
    return nbsvd.solve(nbsvd.Problem(walk), k, progress=False, **options)


def test_a_random_edge_is_the_random_walk() -> None:
    """Means over pairs are the bilinear form of ``D^-1 A`` in the inner product weighted by degree."""
    A, n = weighted(9, 0), 9
    x, y = Pairs.from_graph(A, np.eye(n)).nodes(1, kind="quadrature")
    f, g = (torch.from_numpy(v) for v in np.random.default_rng(1).normal(size=(2, n)))
    share = A.sum(1) / A.sum()
    walk = A / A.sum(1)[:, None]
    assert float(x.integrate((y.x @ g) * (x.x @ f))) == pytest.approx(
        share @ (g.numpy() * (walk @ f.numpy()))
    )
    assert float(x.integrate((x.x @ f) ** 2)) == pytest.approx(share @ f.numpy() ** 2)


@pytest.mark.parametrize("sparse", [False, True])
def test_any_function_of_the_node(sparse: bool) -> None:
    """Features that tell nodes apart by themselves: the eigenvectors of the matrix."""
    A = weighted(12, 3)
    values, phi, share = exact(A)
    k = 4
    given = scipy.sparse.csr_array(A) if sparse else A
    result = solved(given, np.eye(12), k, method="varpro", steps=100)
    assert result.values[0] == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(result.values.numpy(), values[:k], atol=1e-6)
    f = result.right(torch.eye(12, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(f[:, 0], f[0, 0], atol=1e-12)
    cosines = np.abs((f * phi[:, :k] * share[:, None]).sum(0))
    np.testing.assert_allclose(cosines, 1, atol=1e-3)
    np.testing.assert_allclose(f.T @ (f * share[:, None]), np.eye(k), atol=1e-4)
    assert result.stderr.abs().max() == 0, "the whole law is known: nothing is estimated"


def test_a_ring_between_its_nodes() -> None:
    """Nodes at equal angles: values ``cos(2 pi l / n)`` in pairs, functions right at angles between."""
    n, k = 30, 5
    theta = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    A = np.roll(np.eye(n), 1, axis=1)

    def circle(angles: torch.Tensor) -> torch.Tensor:
        return torch.stack([angles.cos(), angles.sin()], 1)

    result = solved(A + A.T, circle(theta), k, method="varpro", steps=150)
    expected = [math.cos(2 * math.pi * l / n) for l in (0, 1, 1, 2, 2)]
    np.testing.assert_allclose(result.values.numpy(), expected, atol=1e-5)
    between = theta + math.pi / n
    f = result.right(circle(between))
    for l, columns in ((1, f[:, 1:3]), (2, f[:, 3:5])):
        basis = math.sqrt(2) * circle(l * between)
        mixing = basis.t() @ columns / n
        np.testing.assert_allclose((mixing @ mixing.t()).numpy(), np.eye(2), atol=1e-2)
        np.testing.assert_allclose(columns.numpy(), (basis @ mixing).numpy(), atol=2e-2)


def test_two_sides_have_the_singular_values_of_the_walk() -> None:
    """A path is bipartite, with an eigenvalue -1: not among the largest, but among singular values, as 1."""
    n = 6
    A = np.diag(np.ones(n - 1), 1)
    A = A + A.T
    values, _, _ = exact(A)
    assert values[-1] == pytest.approx(-1)
    largest = solved(A, np.eye(n), 3, method="varpro", steps=60).values.numpy()
    np.testing.assert_allclose(largest, values[:3], atol=1e-6)
    singular = nbsvd.solve(
        nbsvd.Problem(nbsvd.Conditional(Pairs.from_graph(A, np.eye(n)))),
        3,
        method="varpro",
        steps=60,
        progress=False,
    )
    np.testing.assert_allclose(singular.values.numpy(), np.sort(np.abs(values))[::-1][:3], atol=1e-6)


# The benchmark -------------------------------------------------------------------------------------------


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script, whose results and single runs go to a folder of the test."""
    pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(importlib.import_module("_machine"), "RESULTS", tmp_path / "results")
    script = importlib.import_module("graph")
    monkeypatch.setattr(script, "RUNS", tmp_path / "runs")
    return script


def test_exact_eigenvectors_agree_with_themselves(graph: ModuleType) -> None:
    """The benchmark's oracle is the one above; turned within its span it loses nothing, noise it does."""
    A = weighted(20, 5)
    values, phi, share = graph.exact(scipy.sparse.csr_array(A), 4)
    expected, _, shares = exact(A)
    np.testing.assert_allclose(values, expected[:4], atol=1e-10)
    np.testing.assert_allclose(share, shares, atol=1e-14)
    there = np.arange(20) >= 4
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turned = np.hstack([phi[:, :1], phi[:, 1:] @ turn])
    assert graph.agreement(turned, phi, share, there)["least"] == pytest.approx(1)
    assert graph.angle(turned, phi, share) < 1e-6
    noisy = turned + 0.5 * np.random.default_rng(1).normal(size=turned.shape)
    assert graph.agreement(noisy, phi, share, there)["mean"] < 0.95
    assert graph.angle(noisy, phi, share) > 0.1


def test_quick(graph: ModuleType, script: Script, tmp_path: Path) -> None:
    said = script("graph", "--quick", "--only", "islands", "--steps", "20", "--record")
    assert "At nodes that were away" in said
    assert not (tmp_path / "results").exists(), "a quick run is not recorded"


def test_the_verdict_follows_from_the_numbers(
    graph: ModuleType, script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def inside(*_: Any) -> dict[str, Any]:
        judged = {"relative_max": 0.01, "sine": 0.05}
        return {"seconds": 40.0, "eigsh_seconds": 0.5, "ours": judged, "untrained": judged}

    def outside(setting: Any, n: int, seed: int, steps: int) -> dict[str, Any]:
        ours, other = (
            {"mean": mean, "least": mean, "transform_seconds": seconds}
            for mean, seconds in ((0.99, 0.1), (0.98 + 0.02 * (seed == 0), 0.3))
        )
        return {"ours": ours, "nystroem": other}

    monkeypatch.setattr(graph, "in_the_graph", inside)
    monkeypatch.setattr(graph, "out_of_the_graph", outside)
    said = script("graph", "--record")
    assert "eigsh is exact and ahead: training takes 80 times as long" in said
    assert "ours is ahead in 2 of 3 rounds. Nystroem's takes 3 times as long" in said
    [path] = (tmp_path / "results").glob("graph-1threads-2*.json")
    report = json.loads(path.read_text())
    assert report["graphs"]["islands"]["rows"]["out, nystroem, mean"]["median"] == 0.98
    found = graph.numbers(report)
    assert found["digits, 1797 nodes, 1500 steps: lack of correlation"].value == pytest.approx(0.01)
