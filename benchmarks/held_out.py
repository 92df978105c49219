"""Operators that nobody has tuned for, drawn at random and solved with the defaults.

    python benchmarks/held_out.py --seconds 60 --record
    python benchmarks/held_out.py --families oscillator wells --count 3 --seconds 20

It is the guard against tuning to the named problems. The seed of the draw, 20261124, was fixed before the
first run; a version is run once and its result recorded, whatever it is. Nothing is declared but singular
points: the sampling law is that of length 1 at the origin, there is no ansatz. All options are the defaults,
but for the method, ``varpro``, and the seconds.

Reference values are closed forms, or eigenvalues of a fine spectral grid in float64 that shares no code with
the package; a grid of another size says how far to trust it. An error is divided by the value, or by a tenth
of the largest where the value is smaller than that.

Every run is kept at once in ``_build/held_out``, in a folder for the state of the package's files; the same
command goes on where it was stopped.
"""

import argparse
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse.linalg
import scipy.special
import torch
from _machine import RUNS, Number, compare, describe, kept, provenance, quartiles, record, sources
from numpy.typing import NDArray

import nbsvd
from nbsvd.measures import Lebesgue, Radial

SEED = 20261124
Array = NDArray[np.float64]


@dataclass
class Drawn:
    """An operator, how many values are asked for, what they are, and how it was drawn."""

    potential: Callable[[torch.Tensor], torch.Tensor]
    dim: int
    values: Array
    about: dict[str, Any]
    trust: float = 1e-14
    singular: tuple[tuple[float, ...], ...] = ()


# Families ------------------------------------------------------------------------------------------------


def oscillator(rng: np.random.Generator) -> Drawn:
    """Coupled oscillators in one to three dimensions: frequencies, axes and centre at random."""
    dim, k = int(rng.integers(1, 4)), int(rng.integers(4, 11))
    omega, center = np.exp(rng.uniform(-1.2, 1.2, dim)), rng.uniform(-8, 8, dim)
    axes = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    K = torch.from_numpy(axes @ np.diag(omega**2) @ axes.T)
    c = torch.from_numpy(center)
    levels = np.array(np.meshgrid(*[np.arange(40)] * dim)).reshape(dim, -1)
    values = np.sort(-(omega[:, None] * (2 * levels + 1)).sum(0))[::-1][:k]
    about = {"frequencies": omega.tolist(), "center": center.tolist()}
    return Drawn(lambda x: ((x - c.to(x)) @ K.to(x) * (x - c.to(x))).sum(1), dim, values.copy(), about)


def coulomb(rng: np.random.Generator) -> Drawn:
    """An atom in two or three dimensions: charge and place of the nucleus at random."""
    dim, k = int(rng.integers(2, 4)), int(rng.integers(1, 10))
    charge, center = float(np.exp(rng.uniform(-0.7, 1.4))), rng.uniform(-8, 8, dim)
    shells = [n for n in range(1, 5) for _ in range(2 * n - 1 if dim == 2 else n * n)]
    values = np.array([charge**2 / (2 * n - (1 if dim == 2 else 0)) ** 2 for n in shells[:k]])
    c = torch.from_numpy(center)
    about = {"charge": charge, "center": center.tolist()}
    point = (tuple(center.tolist()),)
    return Drawn(lambda x: -charge / (x - c.to(x)).norm(dim=1), dim, values, about, singular=point)


def trapped_atom(rng: np.random.Generator) -> Drawn:
    """An atom in the plane in the middle of an oscillator: charge, frequency and place at random."""
    charge, omega = np.exp(rng.uniform(-0.7, 1.4)), np.exp(rng.uniform(-2.0, 0.5))
    center, k = rng.uniform(-8, 8, 2), int(rng.integers(3, 9))
    values, other = (trapped_atom_values(charge, omega, k, n) for n in (70, 60))
    c = torch.from_numpy(center)

    def potential(x: torch.Tensor) -> torch.Tensor:
        q = ((x - c.to(x)) ** 2).sum(1)
        return omega**2 * q - charge / q.sqrt()

    about = {"charge": float(charge), "frequency": float(omega), "center": center.tolist()}
    trust = float(np.abs(values - other).max() / np.abs(values).max())
    return Drawn(potential, 2, values, about, trust, (tuple(center.tolist()),))


def poeschl_teller(rng: np.random.Generator) -> Drawn:
    """The well ``-l (l + 1) a^2 / cosh^2(a (x - c))`` on a line: all its states."""
    l, a, c = int(rng.integers(1, 5)) + rng.uniform(0.3, 1.0), np.exp(rng.uniform(-1, 1)), rng.uniform(-8, 8)
    values = a**2 * (l - np.arange(math.ceil(l))) ** 2
    about = {"l": float(l), "a": float(a), "center": float(c)}
    return Drawn(lambda x: -l * (l + 1) * a**2 / torch.cosh(a * (x[:, 0] - c)) ** 2, 1, values, about)


def quartic(rng: np.random.Generator) -> Drawn:
    """A single or double well ``a (y^4 - b y^2)``, ``y = x - c``, on a line."""
    a, b, c = np.exp(rng.uniform(-1.5, 1.5)), rng.uniform(-3, 6), rng.uniform(-8, 8)
    k = int(rng.integers(3, 9))

    def potential(y: Any) -> Any:
        return a * (y**4 - b * y**2)

    reach = 6 / a ** (1 / 6) + 2
    values, other = (line_values(potential, reach, n, k) for n in (400, 300))
    trust = float(np.abs(values - other).max() / np.abs(values).max())
    about = {"a": float(a), "b": float(b), "center": float(c)}
    return Drawn(lambda x: potential(x[:, 0] - c), 1, values, about, trust)


def bumps(rng: np.random.Generator) -> tuple[Callable[[Any, Any], Any], dict[str, Any], Array]:
    """Two to four Gaussian wells and barriers near each other, the first one a deep well."""
    m = int(rng.integers(2, 5))
    middle, width = rng.uniform(-6, 6, 2), rng.uniform(0.6, 1.6, m)
    heights = np.concatenate([-rng.uniform(10, 25, 1), rng.uniform(-15, 12, m - 1)])
    centers = middle + np.concatenate([np.zeros((1, 2)), rng.uniform(-3, 3, (m - 1, 2))])

    def potential(x: Any, exp: Any) -> Any:
        return sum(
            h * exp(-((x[:, 0] - p[0]) ** 2 + (x[:, 1] - p[1]) ** 2) / (2 * w * w))
            for h, w, p in zip(heights.tolist(), width.tolist(), centers.tolist(), strict=True)
        )

    about = {"heights": heights.tolist(), "widths": width.tolist(), "centers": centers.tolist()}
    return potential, about, middle


def wells(rng: np.random.Generator) -> Drawn:
    """Gaussian wells and barriers in the plane: the states that are bound by more than a twentieth."""
    potential, about, middle = bumps(rng)
    values, other = (plane_values(lambda x: potential(x, np.exp), middle, 16.0, n, 8) for n in (128, 112))
    keep = min(6, int((values > 0.05 * values[0]).sum()))
    trust = float(np.abs(values - other)[:keep].max() / values[0])
    return Drawn(lambda x: potential(x, torch.exp), 2, values[:keep], about, trust)


def trapped_wells(rng: np.random.Generator) -> Drawn:
    """The same with an oscillator around them that is not round."""
    potential, about, middle = bumps(rng)
    axes = np.linalg.qr(rng.normal(size=(2, 2)))[0]
    K = axes @ np.diag(np.exp(2 * rng.uniform(-0.7, 0.7, 2))) @ axes.T
    middle = middle + rng.uniform(-1, 1, 2)
    k = int(rng.integers(4, 10))

    def total(x: Any, exp: Any) -> Any:
        u, v = x[:, 0] - middle[0], x[:, 1] - middle[1]
        return K[0, 0] * u * u + 2 * K[0, 1] * u * v + K[1, 1] * v * v + potential(x, exp)

    values, other = (plane_values(lambda x: total(x, np.exp), middle, 11.0, n, k) for n in (120, 100))
    trust = float(np.abs(values - other).max() / np.abs(values).max())
    about |= {"stiffness": K.tolist(), "middle": middle.tolist()}
    return Drawn(lambda x: total(x, torch.exp), 2, values, about, trust)


FAMILIES: dict[str, Callable[[np.random.Generator], Drawn]] = {
    "oscillator": oscillator,
    "coulomb": coulomb,
    "trapped_atom": trapped_atom,
    "poeschl_teller": poeschl_teller,
    "quartic": quartic,
    "wells": wells,
    "trapped_wells": trapped_wells,
}


# References ----------------------------------------------------------------------------------------------


def kinetic(n: int, step: float) -> Array:
    """Minus the second derivative in a basis of sinc functions (Colbert and Miller, 1992)."""
    i = np.arange(n)
    d = i[:, None] - i[None, :]
    return np.where(d == 0, np.pi**2 / 3, 2.0 * (-1.0) ** d / np.where(d == 0, 1, d) ** 2) / step**2


def line_values(potential: Callable[[Array], Array], reach: float, n: int, k: int) -> Array:
    x = np.linspace(-reach, reach, n)
    H = kinetic(n, x[1] - x[0]) + np.diag(potential(x))
    return -scipy.linalg.eigh(H, eigvals_only=True, subset_by_index=(0, k - 1))


def plane_values(potential: Callable[[Array], Array], middle: Array, reach: float, n: int, k: int) -> Array:
    """The k largest values of ``laplacian - V`` on an n x n grid of sinc functions, by LOBPCG.

    The preconditioner inverts ``shift - laplacian``, which is diagonal in the eigenvectors of the second
    derivative.
    """
    axes = [np.linspace(m - reach, m + reach, n) for m in middle]
    T = kinetic(n, axes[0][1] - axes[0][0])
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    V = potential(grid).reshape(n, n, 1)
    e, U = np.linalg.eigh(T)
    weights = 1 / (e[:, None] + e[None, :] + max(1.0, -0.5 * V.min()))

    def apply(u: Array) -> Array:
        w = u.reshape(n, n, -1)
        w = (
            np.einsum("ij,jkm->ikm", T, w, optimize=True)
            + np.einsum("kj,ijm->ikm", T, w, optimize=True)
            + V * w
        )
        return w.reshape(u.shape)

    def invert(u: Array) -> Array:
        w = np.einsum("ia,ijm,jb->abm", U, u.reshape(n, n, -1), U, optimize=True) * weights[:, :, None]
        return np.einsum("ia,abm,jb->ijm", U, w, U, optimize=True).reshape(u.shape)

    size = (n * n, n * n)
    H, M = (
        scipy.sparse.linalg.LinearOperator(size, matvec=f, matmat=f, dtype=float) for f in (apply, invert)
    )
    start = np.random.default_rng(0).normal(size=(n * n, k + 6))
    start *= np.exp(-np.clip(V.reshape(-1, 1) - V.min(), 0, 500) / (1 + abs(V.min())))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says when the last of the extra vectors has not converged
        found = scipy.sparse.linalg.lobpcg(H, invert(start), M=M, largest=False, tol=1e-8, maxiter=400)[0]
    return -np.sort(found)[:k]


def trapped_atom_values(charge: float, omega: float, k: int, n: int) -> Array:
    """The k largest values of ``laplacian + Z/r - omega^2 r^2`` in the plane, by a radial form for each m.

    The functions are polynomials of degree n on [0, R], zero at the origin for m > 0; R is where the
    oscillator has left nothing. Gauss and Legendre's rule is exact for all integrals.
    """
    reach = math.sqrt(80 / omega) + 2
    t, w = np.polynomial.legendre.leggauss(n + 8)
    r, w = reach * (t + 1) / 2, reach * w / 2
    P = np.stack([scipy.special.eval_legendre(j, t) * math.sqrt(2 * j + 1) for j in range(n)])
    Q = np.polynomial.legendre.legder(np.eye(n), axis=0)  # derivatives as sums of Legendre polynomials
    D = np.polynomial.legendre.legval(t, Q * np.sqrt(2 * np.arange(n) + 1)) * (2 / reach)
    values: list[float] = []
    for m in range(k):
        u, du = (P, D) if m == 0 else (r * P, P + r * D)
        S = (u * (w * r)) @ u.T
        H = (du * (w * r)) @ du.T + (u * (w * (m * m / r + omega**2 * r**3 - charge))) @ u.T
        size = np.sqrt(S.diagonal())
        S, H = S / size / size[:, None], H / size / size[:, None]
        found = -scipy.linalg.eigh(H, S, eigvals_only=True)
        values += found[:k].tolist() * (1 if m == 0 else 2)
    return np.sort(np.array(values))[::-1][:k].copy()


# Runs ----------------------------------------------------------------------------------------------------


def relative(values: Array, exact: Array) -> float:
    return float((np.abs(values - exact) / np.maximum(np.abs(exact), 0.1 * np.abs(exact).max())).max())


def run(drawn: Drawn, seed: int, seconds: float) -> dict[str, Any]:
    T = nbsvd.Schrodinger(drawn.potential, singular_points=drawn.singular)
    problem = nbsvd.Problem(T, Lebesgue(Radial(drawn.dim, scale=1.0)))
    k = len(drawn.values)
    one = {
        "dim": drawn.dim,
        "k": k,
        "drawn": drawn.about,
        "exact": drawn.values.tolist(),
        "trust": drawn.trust,
    }
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            untrained = nbsvd.solve(problem, k, method="varpro", steps=0, seed=seed, progress=False)
            began = time.process_time()
            result = nbsvd.solve(problem, k, method="varpro", seconds=seconds, seed=seed, progress=False)
        except (nbsvd.ArgumentError, nbsvd.TrainingDiverged) as error:
            return one | {"error": math.inf, "failed": f"{type(error).__name__}: {error}"}
    if "interrupted" in (untrained.info["stopped"], result.info["stopped"]):
        raise KeyboardInterrupt  # it is no result
    return one | {
        "error": relative(result.values.numpy(), drawn.values),
        "control": relative(untrained.values.numpy(), drawn.values),
        "values": result.values.tolist(),
        "stderr": result.stderr.tolist(),
        "steps": result.info["steps"],
        "stopped": result.info["stopped"],
        "seconds": round(result.info["seconds"], 2),
        "cpu_seconds": round(time.process_time() - began, 2),
        "warnings": [str(w.message) for w in said],
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Median, quartiles and worst error of some runs; a failed run's is infinite."""
    errors = [one["error"] for one in runs]
    return quartiles(errors) | {"worst": max(errors)}


def numbers(report: dict[str, Any]) -> dict[str, Number]:
    """Median and worst error of each family and of all."""
    found = {}
    limit = f"{report['arguments']['seconds']:g} s on {report['threads']} thread(s)"
    runs = {name: family["runs"] for name, family in report["results"].items()}
    for name, own in (runs | {"all": [one for family in runs.values() for one in family]}).items():
        of = summary(own)
        for key in ("median", "worst"):
            found[f"{name}, {len(own)} operators, {limit}: error, {key}"] = Number(of[key], "error")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--count", type=int, default=5, help="operators of each family")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--record", action="store_true", help="keep the report in benchmarks/results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    about = provenance() | {"package": sources(), "arguments": vars(arguments), "seed": SEED}
    folder = RUNS / "held_out" / sources()
    print(describe(about))
    print(f"{'family':>15}{'no.':>4}{'dim':>4}{'k':>4}{'steps':>7}{'error':>10}", end="")
    print(f"{'untrained':>11}{'trust':>8}  ended")
    report: dict[str, Any] = {}
    for name in arguments.families:
        # each family has its own stream, so that a choice of families does not change what is drawn
        rng = np.random.default_rng([SEED, list(FAMILIES).index(name)])
        runs = []
        for number in range(arguments.count):
            drawn = FAMILIES[name](rng)
            setting = {"seconds": arguments.seconds, "threads": arguments.threads, "drawn": drawn.about}
            file = folder / f"{name}-{number}-{arguments.seconds:g}s-{arguments.threads}threads.json"
            one = kept(file, setting, partial(run, drawn, number, arguments.seconds))
            runs.append(one)
            ended = one.get("failed", one.get("stopped"))
            print(
                f"{name:>15}{number:4}{one['dim']:4}{one['k']:4}{one.get('steps', 0):7}{one['error']:10.1e}"
                f"{one.get('control', math.nan):11.1e}{one['trust']:8.0e}  {ended}",
                flush=True,
            )
        report[name] = summary(runs) | {"runs": runs}
    total = summary([one for family in report.values() for one in family["runs"]])
    for name, of in (report | {"all": total}).items():
        spread = f"quartiles {of['low']:.1e} to {of['high']:.1e}"
        print(f"{name:>15}: median {of['median']:.1e}, {spread}, worst {of['worst']:.1e}")
    whole = about | total | {"results": report}
    compare("held_out", whole, numbers)
    if arguments.record:
        print("Recorded in", record("held_out", whole).name)


if __name__ == "__main__":
    main()
