"""The boxed atom's reference: functions, values, symmetry and provenance, by means its making did not use."""

import itertools
import time
from collections.abc import Callable

import pytest
import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from nbsvd._errors import ArgumentError
from nbsvd.exact import Exact, Hydrogen2D, Hydrogen2DBox

D = 50.0
ALL = 27


def gauss(edges: tuple[float, ...], count: int) -> tuple[Tensor, Tensor]:
    nodes, weights = (torch.as_tensor(array) for array in leggauss(count))
    halves = torch.tensor(edges, dtype=torch.float64).diff()[:, None] / 2
    starts = torch.tensor(edges[:-1], dtype=torch.float64)[:, None]
    return (starts + halves * (1 + nodes)).flatten(), (halves * weights).flatten()


def along(direction: Tensor, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Directional derivative by forward automatic differentiation."""
    derivative: Tensor = torch.func.jvp(function, (x,), (direction.expand_as(x),))[1]
    return derivative


@pytest.fixture(scope="module")
def polar() -> tuple[Tensor, Tensor]:
    """Polar quadrature of the square: r up to the wall at each angle, panels that are not the elements."""
    angle, weight = gauss((-torch.pi / 4, torch.pi / 4), 26)
    part, part_weight = gauss((0.0, 0.03, 0.09, 0.2, 0.45, 0.7, 1.0), 15)
    reach = D / angle.cos()
    r = (part[:, None] * reach).flatten()
    q = (part_weight[:, None] * reach * weight).flatten() * r
    theta = angle.repeat(len(part))
    turned = [theta + quarter * torch.pi / 2 for quarter in range(4)]
    x = torch.cat([torch.stack([r * t.cos(), r * t.sin()], dim=1) for t in turned])
    return x, q.repeat(4)


def test_is_an_exact_answer() -> None:
    atom = Hydrogen2DBox()
    assert isinstance(atom, Exact)
    assert atom.max_k == ALL
    assert atom.self_adjoint
    x = torch.tensor([[1.0, 2.0]])
    assert torch.equal(atom.functions(x, 3), atom.left(x, 3))
    assert atom.functions(x, 3).dtype == torch.float64


def test_rayleigh_quotients_are_the_values(polar: tuple[Tensor, Tensor]) -> None:
    x, q = polar
    atom = Hydrogen2DBox()
    u, energy = atom.functions(x, ALL), torch.zeros(len(x), ALL, dtype=torch.float64)
    for direction in torch.eye(2, dtype=torch.float64):
        energy += along(direction, lambda at: atom.functions(at, ALL), x) ** 2
    density = u**2 / torch.linalg.vector_norm(x, dim=1, keepdim=True) - energy
    quotients = (q @ density) / (q @ u**2)
    torch.testing.assert_close(quotients, atom.values(ALL), rtol=0, atol=1e-11)


def test_orthonormal_in_the_box(polar: tuple[Tensor, Tensor]) -> None:
    x, q = polar
    u = Hydrogen2DBox().functions(x, ALL)
    torch.testing.assert_close((u.T * q) @ u, torch.eye(ALL, dtype=torch.float64), rtol=0, atol=1e-10)


def test_equation_holds_at_points_by_second_derivatives() -> None:
    generator = torch.Generator().manual_seed(3)
    x = 98 * torch.rand(40, 2, generator=generator, dtype=torch.float64) - 49
    x = torch.cat([x, torch.tensor([[0.3, 0.2], [-0.5, 1.5], [2.0, -3.0]], dtype=torch.float64)])
    atom = Hydrogen2DBox()

    def slope(direction: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda at: along(direction, lambda there: atom.functions(there, ALL), at)

    laplacian = sum(along(direction, slope(direction), x) for direction in torch.eye(2, dtype=torch.float64))
    u = atom.functions(x, ALL)
    residual = laplacian + u / torch.linalg.vector_norm(x, dim=1, keepdim=True) - atom.values(ALL) * u
    assert residual.abs().max() < 1e-6


def test_zero_on_the_walls_and_outside() -> None:
    side = torch.linspace(-D, D, 201, dtype=torch.float64)
    wall = torch.full_like(side, D)
    edges = [torch.stack(pair, dim=1) for a in (wall, -wall) for pair in ((a, side), (side, a))]
    atom = Hydrogen2DBox()
    assert atom.functions(torch.cat(edges), ALL).abs().max() < 1e-12
    assert not atom.functions(1.02 * torch.cat(edges), ALL).any()


def test_shifts_against_the_free_atom() -> None:
    values = Hydrogen2DBox().values(9)
    shifts = (values / Hydrogen2D().values(9) - 1).tolist()
    assert max(map(abs, shifts[:4])) < 1e-10
    # n = 2: m = 2 (the two differ by symmetry), m = 1 twice, m = 0
    assert [f"{shift:.1e}" for shift in shifts[4:]] == [
        "-2.8e-05",
        "-1.1e-04",
        "-1.9e-04",
        "-1.9e-04",
        "-2.6e-04",
    ]


def test_functions_near_the_free_atom_where_the_box_is_far() -> None:
    generator = torch.Generator().manual_seed(0)
    x = 8 * torch.randn(500, 2, generator=generator, dtype=torch.float64)
    boxed, free = Hydrogen2DBox().functions(x, 4), Hydrogen2D().functions(x, 4)
    torch.testing.assert_close(boxed, free[:, [0, 2, 3, 1]], rtol=0, atol=1e-6)


def test_levels_are_the_pairs_of_the_square() -> None:
    atom = Hydrogen2DBox()
    values, labels, levels = atom.values(ALL), atom.labels(ALL), atom.levels(ALL)
    assert sorted(itertools.chain.from_iterable(levels)) == list(range(ALL))
    for level in levels:
        assert len(level) == (2 if labels[level[0]] == "E" else 1)
        assert len(set(values[level].tolist())) == 1
    firsts = torch.stack([values[level[0]] for level in levels])
    assert (firsts.diff() < -1e-12).all()
    assert int((values > 0).sum()) == 25
    assert atom.completed(2) == 3
    assert atom.completed(ALL) == ALL


def test_nearly_degenerate_levels_can_be_joined() -> None:
    atom = Hydrogen2DBox(resolution=1e-3)
    assert atom.levels(11) == [[0], [1, 2, 3], [4, 5, 6, 7, 8], [9, 10]]
    assert (atom.completed(2), atom.completed(5)) == (4, 9)
    x = torch.tensor([[1.0, 2.0], [-3.0, 0.5]])
    assert torch.equal(atom.functions(x, 6), Hydrogen2DBox().functions(x, 6))
    for wrong in (-1e-3, float("nan")):
        with pytest.raises(ArgumentError, match="resolution: got"):
            Hydrogen2DBox(resolution=wrong)


def test_symmetry_of_each_class() -> None:
    generator = torch.Generator().manual_seed(1)
    x = 60 * torch.rand(300, 2, generator=generator, dtype=torch.float64) - 30
    atom = Hydrogen2DBox()
    u, labels = atom.functions(x, ALL), atom.labels(ALL)
    mirror = atom.functions(x * torch.tensor([1.0, -1.0]), ALL)  # y -> -y
    swap = atom.functions(x.flip(1), ALL)  # x <-> y
    expected = {"A1": (1, 1), "A2": (-1, -1), "B1": (1, -1), "B2": (-1, 1)}
    for index, label in enumerate(labels):
        if label != "E":
            torch.testing.assert_close(mirror[:, index], expected[label][0] * u[:, index], rtol=0, atol=1e-12)
            torch.testing.assert_close(swap[:, index], expected[label][1] * u[:, index], rtol=0, atol=1e-12)
    for first, second in [level for level in atom.levels(ALL) if len(level) == 2]:
        torch.testing.assert_close(mirror[:, first], u[:, first], rtol=0, atol=1e-12)
        torch.testing.assert_close(mirror[:, second], -u[:, second], rtol=0, atol=1e-12)
        torch.testing.assert_close(swap[:, first], u[:, second], rtol=0, atol=1e-12)


def test_a_pair_can_be_cut_and_chunks_do_not_show() -> None:
    atom = Hydrogen2DBox()
    x = torch.linspace(-49, 49, 20_000, dtype=torch.float64).reshape(-1, 2)
    torch.testing.assert_close(atom.functions(x, 2), atom.functions(x, 9)[:, :2], rtol=0, atol=1e-14)
    assert atom.functions(x[:0], 4).shape == (0, 4)


def test_continuous_at_the_origin_and_across_quarters_and_elements() -> None:
    atom = Hydrogen2DBox()
    centre = atom.functions(torch.zeros(1, 2), ALL)
    near = atom.functions(torch.tensor([[1e-9, 0.0], [0.0, -1e-9], [-1e-9, 1e-9]]), ALL)
    torch.testing.assert_close(near, centre.expand(3, -1), rtol=0, atol=1e-8)
    where = torch.linspace(-45, 45, 91, dtype=torch.float64)
    seam = torch.stack([where, where], dim=1)
    step = torch.tensor([1e-10, 0.0], dtype=torch.float64)
    torch.testing.assert_close(
        atom.functions(seam + step, ALL), atom.functions(seam - step, ALL), rtol=0, atol=1e-9
    )
    edges = torch.tensor([[5.0, 1.0], [18.0, -3.0]], dtype=torch.float64)
    torch.testing.assert_close(
        atom.functions(edges + step, ALL), atom.functions(edges - step, ALL), rtol=0, atol=1e-9
    )


def test_error_bounds_and_provenance() -> None:
    atom = Hydrogen2DBox()
    assert (atom.bounds(16) / atom.values(16)).max() < 1e-9  # relative, the promise for the first 16
    assert atom.bounds(ALL).max() < 2e-11
    origin = atom.provenance
    assert origin["command"].startswith("python benchmarks/references/hydrogen2d_box.py")
    assert origin["date"] == "2026-11-24"
    assert set(origin["versions"]) == {"python", "numpy", "scipy", "mpmath", "scikit-fem"}
    assert origin["error_bound_first_16"] == atom.bounds(16).max()
    assert origin["galerkin_difference"] < 1e-12
    assert origin["function_error"] < 1e-9
    assert origin["counting_proved_first"] >= 16
    assert origin["scikit_fem_relative_first_16"] < 1e-3
    assert origin["scikit_fem_from_below"]


@pytest.mark.parametrize("k", [0, ALL + 1])
def test_k_out_of_range_is_refused(k: int) -> None:
    for ask in (
        Hydrogen2DBox().values,
        Hydrogen2DBox().levels,
        Hydrogen2DBox().bounds,
        Hydrogen2DBox().labels,
    ):
        with pytest.raises(ArgumentError, match=f"k: got {k}; expected an integer from 1 to {ALL}"):
            ask(k)


@pytest.mark.timing
def test_a_hundred_thousand_points_in_seconds() -> None:
    generator = torch.Generator().manual_seed(2)
    x = 100 * torch.rand(100_000, 2, generator=generator, dtype=torch.float64) - 50
    start = time.perf_counter()
    Hydrogen2DBox().functions(x, ALL)
    assert time.perf_counter() - start < 10  # about one second on one undisturbed core
