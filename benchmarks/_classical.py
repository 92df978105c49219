"""The classical contenders: finite elements on a grid, the same with a symmetry used; sparse rotations."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
import skfem
import torch
from numpy.typing import NDArray
from skfem.helpers import dot, grad

Potential = Callable[[torch.Tensor], torch.Tensor]
Array = NDArray[np.float64]
MESHES = {1: skfem.MeshLine, 2: skfem.MeshQuad, 3: skfem.MeshHex}
ELEMENTS = {1: skfem.ElementLineP2, 2: skfem.ElementQuad2, 3: skfem.ElementHex2}


def finite_elements(
    potential: Potential,
    dim: int,
    k: int,
    *,
    half_width: float,
    elements: int,
    grading: float = 1.0,
    center: Sequence[float] | None = None,
    below: float,
    order: int = 2,
) -> dict[str, Any]:
    """The k largest values of ``laplacian - V`` in a box with zero boundary values, and the time they took.

    The mesh has ``elements`` intervals on each axis, at ``half_width sign(t) |t|^grading`` around the centre.
    Eigenvalues are found by shift and inversion at ``below``, an energy below the lowest one. Elements of
    another ``order`` than two there are in the plane.
    """
    start = time.perf_counter()
    c = np.zeros(dim) if center is None else np.asarray(center, dtype=float)
    axis = graded(half_width, elements, grading)
    mesh = MESHES[dim].init_tensor(*(axis + ci for ci in c))
    basis = skfem.Basis(mesh, ELEMENTS[dim]() if order == 2 else skfem.ElementQuadP(order))

    @skfem.BilinearForm
    def energy(u, v, w):  # type: ignore[no-untyped-def]
        points = torch.from_numpy(np.ascontiguousarray(w.x.reshape(dim, -1).T))
        return dot(grad(u), grad(v)) + potential(points).numpy().reshape(w.x.shape[1:]) * u * v

    @skfem.BilinearForm
    def mass(u, v, w):  # type: ignore[no-untyped-def]
        return u * v

    H, M = energy.assemble(basis), mass.assemble(basis)
    values = lowest(H, M, basis.complement_dofs(basis.get_dofs()), k, below)
    return {
        "values": values.tolist(),
        "unknowns": len(basis.complement_dofs(basis.get_dofs())),
        "seconds": time.perf_counter() - start,
    }


def radial_elements(
    potential: Potential, k: int, *, half_width: float, elements: int, grading: float, below: float
) -> dict[str, Any]:
    """The same in the plane for a potential of the radius alone: a problem on a line for each angular number.

    It uses a symmetry that has to be known: ``exp(i m phi)`` is split off.
    """
    start = time.perf_counter()
    mesh = skfem.MeshLine(half_width * np.linspace(0, 1, elements + 1) ** grading)
    basis = skfem.Basis(mesh, skfem.ElementLineP2())

    @skfem.BilinearForm
    def energy(u, v, w):  # type: ignore[no-untyped-def]
        r = w.x[0]
        points = torch.from_numpy(np.stack([r.ravel(), np.zeros(r.size)], 1))
        return r * (dot(grad(u), grad(v)) + potential(points).numpy().reshape(r.shape) * u * v)

    @skfem.BilinearForm
    def centrifugal(u, v, w):  # type: ignore[no-untyped-def]
        return u * v / w.x[0]

    @skfem.BilinearForm
    def mass(u, v, w):  # type: ignore[no-untyped-def]
        return w.x[0] * u * v

    H, C, M = (form.assemble(basis) for form in (energy, centrifugal, mass))
    wall, both = basis.get_dofs(lambda x: np.isclose(x[0], half_width)), basis.get_dofs()
    found: list[float] = []
    for m in range(k // 2 + 1):
        inside = basis.complement_dofs(both if m else wall)  # a function with m > 0 vanishes at the centre
        found += (2 if m else 1) * lowest(H + m * m * C, M, inside, k, below).tolist()
    return {
        "values": sorted(found, reverse=True)[:k],
        "unknowns": M.shape[0] * (k // 2 + 1),
        "seconds": time.perf_counter() - start,
    }


def product_elements(
    potential: Potential, k: int, *, half_width: float, elements: int, below: float
) -> dict[str, Any]:
    """The same in the plane for a potential ``v(x) + v(y)``: sums of the values on a line, for v."""
    start = time.perf_counter()
    one = finite_elements(potential, 1, k, half_width=half_width, elements=elements, below=below)
    line = np.asarray(one["values"])
    return {
        "values": sorted((line[:, None] + line[None, :]).ravel().tolist(), reverse=True)[:k],
        "unknowns": one["unknowns"],
        "seconds": time.perf_counter() - start,
    }


def graded(half_width: float, elements: int, grading: float) -> Array:
    t = np.linspace(-1, 1, elements + 1)
    return half_width * np.sign(t) * np.abs(t) ** grading


def lowest(H: Any, M: Any, inside: Any, k: int, below: float) -> Array:
    """Minus the k lowest energies, descending, by shift and inversion."""
    H, M = H[inside][:, inside].tocsc(), M[inside][:, inside].tocsc()
    start = np.random.default_rng(0).normal(size=H.shape[0])
    energies = scipy.sparse.linalg.eigsh(H, k=k, M=M, sigma=below, v0=start, return_eigenvectors=False)
    return -np.sort(energies)


def relative_max(values: Sequence[float], exact: torch.Tensor) -> float:
    found = torch.tensor(values, dtype=torch.float64)
    return float(((found - exact) / exact).abs().max())


def rotations(n: int, layers: int, rng: np.random.Generator) -> scipy.sparse.csr_array:
    """A sparse orthogonal matrix: layers of rotations, each of random pairs of coordinates."""
    G = scipy.sparse.eye_array(n, format="csr")
    for _ in range(layers):
        order = rng.permutation(n)
        i, j, alone = order[: n // 2], order[n // 2 : 2 * (n // 2)], order[2 * (n // 2) :]
        angle = rng.uniform(0, 2 * np.pi, n // 2)
        c, s = np.cos(angle), np.sin(angle)
        rows, columns = np.concatenate([i, j, i, j, alone]), np.concatenate([i, j, j, i, alone])
        entries = np.concatenate([c, c, s, -s, np.ones(len(alone))])
        G = scipy.sparse.coo_array((entries, (rows, columns)), shape=(n, n)).tocsr() @ G
    return G


def chain(dim: int, coupling: float = 0.5) -> list[list[float]]:
    """The stiffness matrix of unit oscillators in a row, each tied to the next by a spring."""
    K = torch.eye(dim, dtype=torch.float64)
    for i in range(dim - 1):
        K[i, i] += coupling
        K[i + 1, i + 1] += coupling
        K[i, i + 1] -= coupling
        K[i + 1, i] -= coupling
    return K.tolist()
