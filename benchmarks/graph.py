"""Eigenfunctions of a graph's Laplacian as functions of its nodes' features, and at nodes that are not in it.

    python benchmarks/graph.py --record      about eight minutes on one thread
    python benchmarks/graph.py --quick       under a minute, to see that it runs

A graph that joins each point with its nearest neighbours, both ways. ``Conditional(Pairs.from_graph(A, x),
reversible=True)`` is its random walk ``P = D^-1 A``, whose eigenvalues are ``1 - mu``, mu those of the
normalised Laplacian. Ours learns the eigenfunctions as one network of the features, from edges drawn at
random.

* **islands**: 2000 points in two rings joined by a bridge, 30 neighbours.
* **digits**: scikit-learn's 1797 images of 8 x 8 pixels, 20 neighbours; the features are the pixels.

Judged by the exact eigenvectors, SciPy's ``eigsh`` of ``D^-1/2 A D^-1/2``, which is also the rival and, for a
graph that is there, the better and the faster one:

* **in the graph**: the values 1 - mu, and the largest angle between the span of the learned functions and
  that of the eigenvectors, in the inner product weighted by degree. Beside it that of the untrained network's
  best combinations. What remains has two causes: training, and that an eigenvector also follows the accidents
  of its graph from node to node, which no smooth function of the features does.
* **out of the graph**: a fifth of the nodes is taken away. Functions are learned on the graph of the others
  and evaluated at all nodes, and compared with the eigenvectors of the whole graph: correlation at the nodes
  that were away, mean over the components, after the best rotation at the others. The rival is Nystroem's
  extension of the small graph's exact eigenvectors: mean over a node's neighbours, divided by the value.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import torch
from _machine import (
    RUNS,
    Number,
    compare,
    describe,
    keep_freed_memory,
    kept,
    provenance,
    quartiles,
    record,
    sources,
)
from _turns import shown
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors, kneighbors_graph

import nbsvd
from nbsvd.measures import Pairs

SEEDS = (0, 1, 2)
AWAY = 0.2  # share of the nodes that is taken away
NEW = 10_000  # points at which functions are timed

Array = np.ndarray


def islands(n: int, seed: int) -> Array:
    """Points in two rings with a bridge, uniform."""
    rng = np.random.default_rng(seed)
    z = rng.uniform([-1.5, -1.0], [1.5, 1.0], size=(20 * n, 2))

    def away(x: float, y: float) -> Array:
        return np.hypot(z[:, 0] - x, z[:, 1] - y)

    west = (away(-0.7, 0) < 0.7) & (away(-0.7, 0.1) > 0.28)
    east = (away(0.75, 0) < 0.6) & (away(0.75, -0.05) > 0.2)
    bridge = (np.abs(z[:, 1]) < 0.12) & (np.abs(z[:, 0]) < 0.4)
    return z[west | east | bridge][:n]


def images(n: int, seed: int) -> Array:
    """Pixels of the digits, from 0 to 1, in an order that the seed chooses."""
    return np.random.default_rng(seed).permutation(load_digits().data)[:n] / 16.0


@dataclass(frozen=True)
class Setting:
    """A graph, how many functions are wanted, and the settings of ours."""

    said: str
    points: Callable[[int, int], Array]
    n: int
    neighbours: int
    k: int
    options: dict[str, Any]


# For the pixels smooth functions, as torch would start them, since there are many coordinates.
SMOOTH = {"widths": (128, 64), "activation": "gelu", "weight_gain": 1.0, "bias_gain": 1.0, "disjoint": False}
GRAPHS = {
    "islands": Setting(
        "two rings and a bridge",
        islands,
        2000,
        30,
        8,
        {"network": {"disjoint": False, "widths": (64, 64)}, "batch_size": 1024},
    ),
    "digits": Setting(
        "images of digits", images, 1797, 20, 8, {"network": SMOOTH, "batch_size": 512, "lr": 3e-3}
    ),
}
STEPS = 1500


def adjacency(x: Array, neighbours: int) -> Any:
    """1 where one of two points is among the nearest of the other."""
    A = kneighbors_graph(x, neighbours)
    return A.maximum(A.T)


def exact(A: Any, k: int) -> tuple[Array, Array, Array]:
    """Eigenvalues of the random walk, descending, eigenvectors of norm 1 and the shares of degree."""
    d = np.asarray(A.sum(1)).ravel()
    half = scipy.sparse.diags(d**-0.5)
    values, V = scipy.sparse.linalg.eigsh(half @ A @ half, k, which="LA", v0=np.sqrt(d))
    order = np.argsort(-values)
    return values[order], V[:, order] * np.sqrt(d.sum() / d)[:, None], d / d.sum()


def learned(A: Any, x: Array, setting: Setting, seed: int, steps: int) -> nbsvd.Result:
    walk = nbsvd.Conditional(Pairs.from_graph(A, x), reversible=True)
    return nbsvd.solve(
        nbsvd.Problem(walk),
        setting.k,
        steps=steps,
        seed=seed,
        progress=False,
        **setting.options,
    )


def at(result: nbsvd.Result, x: Array) -> Array:
    return result.right(torch.from_numpy(x)).double().numpy()


def angle(f: Array, phi: Array, share: Array) -> float:
    """Sine of the largest angle between two spans."""
    bases = [np.linalg.qr(np.sqrt(share)[:, None] * h)[0] for h in (f, phi)]
    least = np.linalg.svd(bases[0].T @ bases[1], compute_uv=False)[-1]
    return math.sqrt(max(0.0, 1 - min(1.0, float(least)) ** 2))


def in_the_graph(setting: Setting, n: int, seed: int, steps: int) -> dict[str, Any]:
    x = setting.points(n, seed)
    A = adjacency(x, setting.neighbours)
    start = time.perf_counter()
    values, phi, share = exact(A, setting.k)
    classical = time.perf_counter() - start
    start = time.perf_counter()
    trained = learned(A, x, setting, seed, steps)
    seconds = time.perf_counter() - start
    untrained = learned(A, x, setting, seed, 0)
    told: dict[str, Any] = {"edges": int(A.nnz // 2), "seconds": seconds, "eigsh_seconds": classical}
    told |= {"exact": values.tolist(), "values": trained.values.tolist()}
    for name, result in (("ours", trained), ("untrained", untrained)):
        error = np.abs(result.values.numpy() / values - 1).max()
        told[name] = {"relative_max": float(error), "sine": angle(at(result, x), phi, share)}
    return told


def agreement(f: Array, phi: Array, share: Array, there: Array) -> dict[str, float]:
    """Correlations of functions with eigenvectors where nodes were away, after a rotation at the others.

    The constant is left out. The rotation is the best one in the inner product of the nodes that were there.
    """
    w = np.where(there, share, 0.0)
    U, _, Vt = np.linalg.svd(f[:, 1:].T @ (phi[:, 1:] * w[:, None]))
    g, p, w = (f[:, 1:] @ U @ Vt)[~there], phi[~there, 1:], share[~there] / share[~there].sum()
    g, p = g - w @ g, p - w @ p
    found = (w @ (g * p)) / np.sqrt((w @ g**2) * (w @ p**2))
    return {"mean": float(found.mean()), "least": float(found.min())}


def out_of_the_graph(setting: Setting, n: int, seed: int, steps: int) -> dict[str, Any]:
    x = setting.points(n, seed)
    _, phi, share = exact(adjacency(x, setting.neighbours), setting.k)
    there = np.random.default_rng(seed + 1000).permutation(n) >= round(AWAY * n)
    small = adjacency(x[there], setting.neighbours)
    values, own, _ = exact(small, setting.k)
    near = NearestNeighbors(n_neighbors=setting.neighbours).fit(x[there])

    def extended(points: Array) -> Array:
        return own[near.kneighbors(points, return_distance=False)].mean(1) / values

    nystroem = np.empty_like(phi)
    nystroem[there], nystroem[~there] = own, extended(x[~there])
    result = learned(small, x[there], setting, seed, steps)
    told: dict[str, Any] = {}
    many = np.resize(x, (NEW, x.shape[1]))
    for name, f, function in (
        ("ours", at(result, x), lambda: at(result, many)),
        ("nystroem", nystroem, lambda: extended(many)),
    ):
        start = time.perf_counter()
        function()
        told[name] = agreement(f, phi, share, there) | {"transform_seconds": time.perf_counter() - start}
    return told


def contest(name: str, seeds: list[int], steps: int, quick: bool) -> dict[str, Any]:
    setting = GRAPHS[name]
    n, folder = (300, RUNS / "graph-quick") if quick else (setting.n, RUNS / "graph")
    runs = []
    for seed in seeds:
        about = {"graph": name, "n": n, "seed": seed, "steps": steps, "sources": sources()}
        about |= {"neighbours": setting.neighbours, "k": setting.k, "options": setting.options}

        def make(seed: int = seed) -> dict[str, Any]:
            parts = {"in": in_the_graph, "out": out_of_the_graph}
            return {part: work(setting, n, seed, steps) for part, work in parts.items()}

        runs.append({"seed": seed} | kept(folder / f"{name}-{seed}.json", about, make))
    rows = {
        f"{part}, {who}, {what}": quartiles([run[part][who][what] for run in runs])
        for part, contenders, told in (
            ("in", ("ours", "untrained"), ("relative_max", "sine")),
            ("out", ("ours", "nystroem"), ("mean", "least", "transform_seconds")),
        )
        for who in contenders
        for what in told
    }
    rows |= {what: quartiles([run["in"][what] for run in runs]) for what in ("seconds", "eigsh_seconds")}
    report = {
        "said": f"{setting.said}, {n} nodes, {setting.neighbours} neighbours, k = {setting.k}",
        "n": n,
        "neighbours": setting.neighbours,
        "k": setting.k,
        "steps": steps,
        "runs": runs,
        "rows": rows,
    }
    print(f"\n{name}: {report['said']}; median (quartiles)")
    for key, row in rows.items():
        print(f"  {key:<34}{shown(row):>34}", flush=True)
    report["verdict"] = verdict(report)
    for sentence in report["verdict"]:
        print("  " + sentence, flush=True)
    return report


def verdict(report: dict[str, Any]) -> list[str]:
    """Who wins, in sentences made of the numbers."""
    rows, runs = report["rows"], report["runs"]
    slower = rows["seconds"]["median"] / rows["eigsh_seconds"]["median"]
    said = [
        f"In the graph eigsh is exact and {'ahead' if slower > 1 else 'behind'}: training takes {slower:.0f} "
        f"times as long. Sine of the largest angle {rows['in, ours, sine']['median']:.2f}, untrained "
        f"{rows['in, untrained, sine']['median']:.2f}."
    ]
    ahead = sum(run["out"]["ours"]["mean"] > run["out"]["nystroem"]["mean"] for run in runs)
    faster = (
        rows["out, nystroem, transform_seconds"]["median"] / rows["out, ours, transform_seconds"]["median"]
    )
    said.append(
        f"At nodes that were away, mean correlation {rows['out, ours, mean']['median']:.4f}, Nystroem's "
        f"{rows['out, nystroem, mean']['median']:.4f}; ours is ahead in {ahead} of {len(runs)} rounds. "
        f"Nystroem's takes {faster:.2g} times as long at {NEW:,} new points."
    )
    return said


def numbers(report: dict[str, Any]) -> dict[str, Number]:
    """All numbers that say how we stand."""
    found = {}
    for name, own in report["graphs"].items():
        setting = f"{name}, {own['n']} nodes, {own['steps']} steps"
        rows = own["rows"]
        found[f"{setting}: sine"] = Number(rows["in, ours, sine"]["median"], "error")
        found[f"{setting}: error of the values"] = Number(rows["in, ours, relative_max"]["median"], "error")
        found[f"{setting}: lack of correlation"] = Number(1 - rows["out, ours, mean"]["median"], "error")
        found[f"{setting}: seconds"] = Number(rows["seconds"]["median"], "time")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="one for each round")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--only", nargs="+", choices=list(GRAPHS), default=list(GRAPHS))
    parser.add_argument("--quick", action="store_true", help="300 nodes, one round: not for the record")
    parser.add_argument("--record", action="store_true", help="keep the report in benchmarks/results")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.steps, args.record = args.seeds[:1], min(args.steps, 60), False
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    report, name = provenance("scikit-learn"), f"graph-{args.threads}threads"
    report["seeds"] = args.seeds
    print(describe(report), flush=True)
    report["graphs"] = {graph: contest(graph, args.seeds, args.steps, args.quick) for graph in args.only}
    compare(name, report, numbers)
    if args.record:
        print("Recorded in", record(name, report).name)


if __name__ == "__main__":
    main()
