"""Reference spectrum of the paper's boxed 2-D hydrogen atom, computed once, with an error bound.

T = laplacian + 1/r on the square [-D, D]^2, D = 50, with Dirichlet walls; lambda are its largest eigenvalues.

1. *Spectral Galerkin.* The right quarter |y| <= x of the square is (x, y) = D s (1, t), 0 <= s <= 1, -1 <= t
   <= 1. With 1/r = 1/(D s sqrt(1 + t^2)) and dx dy = D^2 s ds dt the weak form is

       -int |grad u|^2 + int u^2/r
           = int int [ -(u_s - t u_t / s)^2 - (u_t / s)^2 + D u^2 / (s sqrt(1 + t^2)) ] s ds dt,

   a sum of products of one-dimensional forms. In (s, t) the cusp at the origin is smooth, so polynomials
   converge geometrically. The symmetry of the square (D4) splits the problem: A1, A2, B1, B2 and the twofold
   E, whose member that is even across one diagonal and odd across the other lives on a single quarter too.
   Galerkin values bound the true ones from below (min-max). The functions in the data file are these.
2. *Particular solutions.* u = sum_m c_m R_m(r) cos(m theta), R_m the regular solution of the radial equation
   (power series, 100 digits), solves T u = lambda u exactly; lambda is tuned until u vanishes at collocation
   points of the wall. What is left there, |u| <= eps, gives the error bound. Let w solve (T - 2) w = 0 with
   w = u on the wall. phi = 1 + exp(1 - 2r) satisfies (2 - T) phi = (2 - 1/r)(1 - exp(1 - 2r)) >= 0 and
   phi >= 1, hence |w| <= eps phi (comparison principle: 2 - T > 0, as T <= 1 on the square). Now u - w
   vanishes on the wall and (T - lambda)(u - w) = (lambda - 2) w. So some eigenvalue of u's class is within
   |lambda - 2| |w| / (|u| - |w|) of lambda (norms in L2), and |w| <= eps (2 D + e sqrt(2 pi / 16)).
   (After Fox, Henrici and Moler 1967; Moler and Payne 1968.) The values in the data file are these.
3. *Counting.* A disc of radius sqrt(2) D contains the square, so its values, class by class, bound those of
   the square from above. The intervals of 2. that lie above the next value of the disc hold one eigenvalue
   each, and none was missed.
4. *Cross-check.* scikit-fem, biquadratic elements on a graded quarter of the square: another code.

Rounding is not enclosed (no interval arithmetic), and eps is twice the largest value on points three times as
dense as the collocation points.

Run, from the top of the repository (about ten minutes on one core):

    python benchmarks/references/hydrogen2d_box.py --out nbsvd/data/hydrogen2d_box.npz --date 2026-11-24
"""

import argparse
import datetime
import itertools
import json
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mpmath  # type: ignore[import-untyped]
import numpy as np
import scipy.linalg
from numpy.polynomial import legendre
from numpy.typing import NDArray

Array = NDArray[np.float64]
Matrix = NDArray[np.floating[Any]]

HALF_WIDTH = 50.0
BREAKS = (0.0, 5.0, 18.0, 50.0)  # edges of the elements along the ray, in units of length
DEGREES = (18, 31)  # in s, in t; the second is odd so that even and odd parts have equally many terms
REFINED = (22, 39)
COUNT = 27  # the 25 positive eigenvalues and the first negative pair
CLASSES = ("A1", "A2", "B1", "B2", "E")


@dataclass(frozen=True, eq=False)
class Level:
    """One eigenvalue of a symmetry class; its function on the right quarter, as Legendre coefficients."""

    value: float
    label: str
    coefficients: Array  # (elements, degree_s + 1, degree_t + 1)


def across_basis(degree: int, label: str) -> Array:
    """Polynomials in t with the class's conditions on the diagonals, as Legendre coefficients in columns."""
    unit = np.eye(degree + 1)
    if label in ("A1", "B2"):
        return np.stack([unit[j] for j in range(label == "B2", degree + 1, 2)], axis=1)
    if label in ("B1", "A2"):  # zero at t = 1 and -1
        return np.stack([unit[j] - unit[j - 2] for j in range(2 + (label == "A2"), degree + 1, 2)], axis=1)
    return np.stack([unit[j] + unit[j - 1] for j in range(1, degree + 1)], axis=1)  # E: zero at t = -1 only


def along_basis(elements: int, degree: int) -> Array:
    """Hats and bubbles in s, zero at s = 1, as Legendre coefficients; index 0 is the hat at the origin."""
    count = elements * degree
    basis = np.zeros((elements, degree + 1, count))
    for e in range(elements):
        basis[e, :2, e] = 0.5, -0.5
        if e + 1 < elements:
            basis[e, :2, e + 1] = 0.5, 0.5
        for j in range(2, degree + 1):
            column = elements + e * (degree - 1) + j - 2
            basis[e, j, column], basis[e, j - 2, column] = 1.0, -1.0
    return basis


def along_forms(breaks: Array, degree: int) -> tuple[Array, Array, Array, Array, Array]:
    """The forms int u'v' s, int u'v, int uv/s (without the hat at 0), int uv, int uv s on [0, 1]."""
    basis = along_basis(len(breaks) - 1, degree)
    x, w = legendre.leggauss(degree + 3)
    forms = np.zeros((5, basis.shape[2], basis.shape[2]))
    for e, (a, b) in enumerate(itertools.pairwise(breaks)):
        h = (b - a) / 2
        s, ws = a + h * (x + 1), h * w
        u = legendre.legvander(x, degree) @ basis[e]
        du = legendre.legval(x, legendre.legder(basis[e])).T / h
        v = u.copy()
        v[:, 0] = 0.0  # the hat at the origin only goes with functions that don't depend on t
        forms += np.stack(
            [(du.T * ws * s) @ du, (du.T * ws) @ u, (v.T * (ws / s)) @ v, (u.T * ws) @ u, (u.T * ws * s) @ u]
        )
    return forms[0], forms[1], forms[2], forms[3], forms[4]


def largest(form: Matrix, mass: Matrix, count: int) -> tuple[Array, Array]:
    """Largest eigenvalues of -form u = lambda mass u, by the inverse of form + 1.2 mass > 0."""
    shift = 1.2
    factor = scipy.linalg.cholesky(form + shift * mass, lower=True)
    half = scipy.linalg.solve_triangular(factor, mass, lower=True)
    inverse = scipy.linalg.solve_triangular(factor, half.T, lower=True)
    size = len(inverse)
    mu, vectors = scipy.linalg.eigh((inverse + inverse.T) / 2, subset_by_index=[size - count, size - 1])
    modes = scipy.linalg.solve_triangular(factor, vectors[:, ::-1], lower=True, trans="T")
    return shift - 1 / mu[::-1], modes


def galerkin(label: str, degrees: tuple[int, int], count: int) -> list[Level]:
    """The largest ``count`` levels of one symmetry class by the spectral Galerkin method."""
    p, q = degrees
    breaks = np.array(BREAKS) / HALF_WIDTH
    across = across_basis(q, label)
    t, wt = legendre.leggauss(q + 25)  # 1/sqrt(1 + t^2) is no polynomial: 25 nodes more, exact to rounding
    v, dv = legendre.legvander(t, q) @ across, legendre.legval(t, legendre.legder(across)).T
    mass_t, mixed_t = (v.T * wt) @ v, (v.T * (wt * t)) @ dv
    slope_t, pole_t = (dv.T * (wt * (1 + t**2))) @ dv, (v.T * (wt / np.sqrt(1 + t**2))) @ v
    stiff, mixed, pole, plain, mass_s = along_forms(breaks, p)
    cross = np.kron(mixed, mixed_t)
    form = np.kron(stiff, mass_t) - cross - cross.T + np.kron(pole, slope_t)
    form -= HALF_WIDTH * np.kron(plain, pole_t)
    mass = HALF_WIDTH**2 * np.kron(mass_s, mass_t)
    # At the origin u has one value: only A1 keeps the hat there, times its first function of t, the constant.
    kept = np.arange(across.shape[1], len(form))
    kept = np.concatenate([[0], kept]) if label == "A1" else kept
    values, modes = largest(form[np.ix_(kept, kept)], mass[np.ix_(kept, kept)], count)
    # unit mass on the whole square (four quarters); E: (u_x + u_y) / sqrt(2) of an orthonormal pair
    modes /= 2 * np.sqrt(np.einsum("ik,ij,jk->k", modes, mass[np.ix_(kept, kept)], modes))
    full = np.zeros((len(form), count))
    full[kept] = modes
    nodal = full.reshape(stiff.shape[0], across.shape[1], count)
    coefficients = np.einsum("eia,jb,abk->keij", along_basis(len(breaks) - 1, p), across, nodal)
    return [Level(float(x), label, c * orientation(c)) for x, c in zip(values, coefficients, strict=True)]


def on_grid(coefficients: Array) -> Array:
    """Values on a fixed grid of the right quarter, (elements, 41, 41)."""
    grid = np.linspace(-1, 1, 41)
    s = legendre.legvander(grid, coefficients.shape[1] - 1)
    t = legendre.legvander(grid, coefficients.shape[2] - 1)
    return np.asarray(np.einsum("ai,eij,bj->eab", s, coefficients, t))


def orientation(coefficients: Array) -> float:
    """The sign that makes the value of largest modulus on the upper half of the right quarter positive."""
    upper = on_grid(coefficients)[:, :, 20:]
    return float(np.sign(upper.flat[np.argmax(np.abs(upper))]))


def disc(radius: float, label: str, count: int) -> Array:
    """The largest values of the disc in one class: radial problems, the same forms as along a ray."""
    first, step = ORDERS[label]
    stiff, _, pole, plain, mass = along_forms(np.array(BREAKS) / HALF_WIDTH, 24)
    values: list[float] = []
    for m in range(first, 20, step):
        kept = slice(0 if m == 0 else 1, None)
        form = stiff + m**2 * pole - radius * plain
        values.extend(largest(form[kept, kept], radius**2 * mass[kept, kept], count)[0])
    return np.sort(values)[::-1][:count]


ORDERS = {"A1": (0, 4), "A2": (4, 4), "B1": (2, 4), "B2": (2, 4), "E": (1, 2)}  # first m, step in m


class Particular:
    """Sums of exact solutions R_m(r) cos(m theta), or sin, of one class, tuned to vanish on the wall."""

    def __init__(self, label: str) -> None:
        self.terms = 80 if label == "E" else 32
        first, step = ORDERS[label]
        self.orders = range(first, first + step * self.terms, step)
        self.angular = mpmath.sin if label in ("A2", "B2") else mpmath.cos
        self.quadrant = label == "E"  # odd in x, even in y: the wall of a quadrant; the others: of an octant

    def wall(self, count: int) -> list[tuple[Any, Any]]:
        """Points (r, theta) of the wall, denser towards the corner, not where the class vanishes anyway."""
        half = count // 2 if self.quadrant else count
        quarter = mpmath.pi / 4
        angles = [quarter * mpmath.sin(mpmath.pi / 2 * (i + 0.5) / half) for i in range(half)]
        angles += [2 * quarter - angle for angle in angles] if self.quadrant else []
        return [(HALF_WIDTH / max(mpmath.cos(a), mpmath.sin(a)), a) for a in angles]

    def radial(self, m: int, value: Any, radii: list[Any]) -> list[Any]:
        """(r/D)^m times the series of R'' + R'/r - m^2 R/r^2 + R/r = lambda R."""
        series, reach, small = [mpmath.mpf(1)], mpmath.mpf(71), mpmath.mpf(10) ** -mpmath.mp.dps
        before, power = mpmath.mpf(0), mpmath.mpf(1)
        while len(series) < 60 or abs(series[-1]) * power > small or abs(before) * power > small:
            n = len(series)
            before, term = series[-1], (value * before - series[-1]) / (n * (n + 2 * m))
            series.append(term)
            power *= reach
        series.reverse()
        return [(r / HALF_WIDTH) ** m * mpmath.polyval(series, r) for r in radii]

    def matrix(self, value: Any, points: list[tuple[Any, Any]]) -> Any:
        """Rows: points of the wall; columns: exact solutions."""
        result = mpmath.matrix(len(points), self.terms)
        radii = [r for r, _ in points]
        for j, m in enumerate(self.orders):
            for i, column in enumerate(self.radial(m, value, radii)):
                result[i, j] = column * self.angular(m * points[i][1])
        return result

    def enclose(self, start: float) -> tuple[Any, float]:
        """The value near ``start`` (secant steps on the determinant) and the bound derived at the top."""
        points = self.wall(self.terms)
        old, new = mpmath.mpf(start), mpmath.mpf(start) * (1 + mpmath.mpf(10) ** -12)
        det_old, det_new = mpmath.det(self.matrix(old, points)), mpmath.det(self.matrix(new, points))
        for _ in range(10):
            step = -det_new * (new - old) / (det_new - det_old)
            old, det_old, new = new, det_new, new + step
            if abs(step) < mpmath.mpf(10) ** -50:  # R_0 at the corner magnifies the error of lambda by e^100
                break
            det_new = mpmath.det(self.matrix(new, points))
        system, weights = self.matrix(new, points), mpmath.matrix([1] * self.terms)
        for _ in range(2):  # inverse iteration for the null vector
            weights = mpmath.lu_solve(system, weights)
            weights /= mpmath.norm(weights, mpmath.inf)
        eps = 2 * mpmath.norm(self.matrix(new, self.wall(3 * self.terms + 2)) * weights, mpmath.inf)
        # the norm of u is at least that on the disc of radius D, where the terms are orthogonal
        x, w = legendre.leggauss(60)
        half = mpmath.mpf(HALF_WIDTH) / 2
        radii, factors = [half * (1 + z) for z in x], [half * z for z in w]
        square = mpmath.mpf(0)
        for m, weight in zip(self.orders, weights, strict=True):
            rows = zip(factors, radii, self.radial(m, new, radii), strict=True)
            square += mpmath.pi * (1 + (m == 0)) * weight**2 * sum(f * r * v**2 for f, r, v in rows)
        norm_w = eps * (2 * HALF_WIDTH + mpmath.e * mpmath.sqrt(2 * mpmath.pi / 16))
        return new, float((2 - new) * norm_w / (mpmath.sqrt(square) - norm_w))


def scikit_fem(count: int, cells: int = 56) -> Array:
    """The largest values by biquadratic elements on a graded quarter of the square (a check, about 1e-4)."""
    import skfem
    from scipy.sparse.linalg import eigsh
    from skfem.helpers import dot, grad

    form = skfem.BilinearForm(lambda u, v, w: dot(grad(u), grad(v)) - u * v / np.hypot(w.x[0], w.x[1]))
    mass = skfem.BilinearForm(lambda u, v, w: u * v)
    axis = HALF_WIDTH * np.linspace(0, 1, cells + 1) ** 2.5
    space = skfem.Basis(skfem.MeshQuad.init_tensor(axis, axis), skfem.ElementQuad2(), intorder=8)
    a, b = form.assemble(space), mass.assemble(space)
    walls = space.get_dofs(lambda x: np.isclose(np.maximum(x[0], x[1]), HALF_WIDTH)).all()
    left, bottom = space.get_dofs(lambda x: x[0] == 0).all(), space.get_dofs(lambda x: x[1] == 0).all()
    found: list[float] = []
    # even-even (A1, B1); odd-odd (A2, B2); odd-even, which with its mirror image is E
    for fixed, times in (([walls], 1), ([walls, left, bottom], 1), ([walls, left], 2)):
        a_free, b_free, *_ = skfem.condense(a, b, D=np.unique(np.concatenate(fixed)))
        found.extend(np.repeat(-eigsh(a_free, k=12, M=b_free, sigma=-1.2, return_eigenvectors=False), times))
    return np.sort(found)[::-1][:count]


def rows_of(level: Level) -> list[Array]:
    """What the data file holds: the even or the odd part in t; both for E, as the pair (u_x, u_y)."""
    even, odd = level.coefficients[:, :, 0::2], level.coefficients[:, :, 1::2]
    if level.label == "E":
        sign = orientation(np.stack([even, 0 * odd], axis=-1).reshape(level.coefficients.shape))
        return [np.sqrt(2) * sign * even, np.sqrt(2) * sign * odd]
    return [even] if level.label in ("A1", "B1") else [odd]


def main() -> None:
    """Compute everything, print what was checked, write the data file."""
    parser = argparse.ArgumentParser(description="Reference spectrum of the 2-D hydrogen atom in the box.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--date", default=datetime.date.today().isoformat())
    options = parser.parse_args()

    by_class = {label: galerkin(label, DEGREES, 9) for label in CLASSES}
    refined = {label: galerkin(label, REFINED, 9) for label in CLASSES}
    mpmath.mp.dps = 100
    found = sorted(itertools.chain.from_iterable(by_class.values()), key=lambda level: -level.value)
    values: list[float] = []
    bounds: list[float] = []
    labels, coefficients, differences, changes = [], [], [], []
    ceiling = dict.fromkeys(CLASSES, np.inf)  # no further eigenvalue of the class lies above
    for level in found:
        if len(values) >= COUNT:
            break
        position = by_class[level.label].index(level)
        value, bound = Particular(level.label).enclose(level.value)
        finer = refined[level.label][position]
        above = disc(np.sqrt(2) * HALF_WIDTH, level.label, position + 2)[position + 1]
        if float(value) - bound > above:
            ceiling[level.label] = above
        differences.append(max(abs(float(value) - level.value), abs(float(value) - finer.value)))
        exact = on_grid(finer.coefficients)
        changes.append(np.max(np.abs(on_grid(level.coefficients) - exact)) / np.max(np.abs(exact)))
        print(
            f"{len(values):3d} {level.label:2s} {mpmath.nstr(value, 18):24s} bound {bound:.1e}"
            f"  Galerkin differs {differences[-1]:.1e}  functions change {changes[-1]:.1e}",
            flush=True,
        )
        for row in rows_of(level):
            values.append(float(value))
            bounds.append(bound + np.spacing(abs(float(value))))
            labels.append(level.label)
            coefficients.append(np.where(np.abs(row) < 1e-14 * np.max(np.abs(row)), 0.0, row))
    counted = int(np.sum(np.array(values) - np.array(bounds) > max(ceiling.values())))

    fem = scikit_fem(len(values))
    provenance = {
        "operator": "laplacian + 1/r on [-50, 50]^2, zero on the walls; largest eigenvalues",
        "command": "python benchmarks/references/hydrogen2d_box.py"
        f" --out {options.out.as_posix()} --date {options.date}",
        "date": options.date,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("numpy", "scipy", "mpmath", "scikit-fem")},
        "error_bound_first_16": float(np.max(bounds[:16])),
        "error_bound_all": float(np.max(bounds)),
        "bound": "method of particular solutions, maximum principle; absolute; rounding not enclosed",
        "galerkin_difference": float(np.max(differences)),
        "function_error": float(np.max(changes)),
        "scikit_fem_relative_first_16": float(np.max(np.abs(fem / values - 1)[:16])),
        "scikit_fem_from_below": bool(np.all(fem < values)),
        "counting_proved_first": counted,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        options.out,
        values=np.array(values),
        bounds=np.array(bounds),
        labels=np.array(labels),
        breaks=np.array(BREAKS) / HALF_WIDTH,
        coefficients=np.stack(coefficients),
        provenance=np.array(json.dumps(provenance)),
    )
    print(json.dumps(provenance, indent=1))


if __name__ == "__main__":
    main()
