"""The classical contender on a grid: quadratic finite elements of scikit-fem on graded tensor meshes."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse.linalg
import skfem
import torch

MESHES = {1: skfem.MeshLine, 2: skfem.MeshQuad, 3: skfem.MeshHex}
ELEMENTS = {1: skfem.ElementLineP2, 2: skfem.ElementQuad2, 3: skfem.ElementHex2}


def finite_elements(
    potential: Callable[[torch.Tensor], torch.Tensor],
    dim: int,
    k: int,
    *,
    half_width: float,
    elements: int,
    grading: float = 1.0,
    center: Sequence[float] | None = None,
    below: float,
) -> dict[str, Any]:
    """The k largest values of ``laplacian - V`` in a box with zero boundary values, and the time they took.

    The mesh has ``elements`` intervals on each axis, at ``half_width sign(t) |t|^grading`` around the centre.
    Eigenvalues are found by shift and inversion at ``-below``, an energy below the lowest.
    """
    start = time.perf_counter()
    t = np.linspace(-1, 1, elements + 1)
    axis = half_width * np.sign(t) * np.abs(t) ** grading
    c = np.zeros(dim) if center is None else np.asarray(center, dtype=float)
    mesh = MESHES[dim].init_tensor(*(axis + ci for ci in c))
    basis = skfem.Basis(mesh, ELEMENTS[dim]())

    @skfem.BilinearForm
    def energy(u, v, w):  # type: ignore[no-untyped-def]
        points = torch.from_numpy(np.ascontiguousarray(w.x.reshape(dim, -1).T))
        V = potential(points).numpy().reshape(w.x.shape[1:])
        return skfem.helpers.dot(skfem.helpers.grad(u), skfem.helpers.grad(v)) + V * u * v

    @skfem.BilinearForm
    def mass(u, v, w):  # type: ignore[no-untyped-def]
        return u * v

    H, M = energy.assemble(basis), mass.assemble(basis)
    inside = basis.complement_dofs(basis.get_dofs())
    H, M = H[inside][:, inside].tocsc(), M[inside][:, inside].tocsc()
    energies = scipy.sparse.linalg.eigsh(H, k=k, M=M, sigma=below, return_eigenvectors=False)
    return {
        "values": sorted((-energies).tolist(), reverse=True),
        "unknowns": len(inside),
        "seconds": time.perf_counter() - start,
    }


def relative_max(values: Sequence[float], exact: torch.Tensor) -> float:
    found = torch.tensor(values, dtype=torch.float64)
    return float(((found - exact) / exact).abs().max())


def chain(dim: int, coupling: float = 0.5) -> list[list[float]]:
    """The stiffness matrix of unit oscillators in a row, each tied to the next by a spring."""
    K = torch.eye(dim, dtype=torch.float64)
    for i in range(dim - 1):
        K[i, i] += coupling
        K[i + 1, i + 1] += coupling
        K[i, i + 1] -= coupling
        K[i + 1, i] -= coupling
    return K.tolist()
