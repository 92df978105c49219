"""The closed forms against quadrature, automatic differentiation, brute force and NumPy."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from numpy.polynomial.hermite import hermgauss
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from nbsvd._errors import ArgumentError
from nbsvd.exact import (
    Brownian,
    Exact,
    GaussianKernel,
    GaussianPair,
    Hydrogen2D,
    Hydrogen3D,
    InfiniteWell,
    MatrixExact,
    OrnsteinUhlenbeck,
    Oscillator,
    Volterra,
    lora_optimum,
)

K2 = [[2.0, 0.6], [0.6, 1.0]]


def uniform(*shape: int, low: float, high: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)


# Quadrature rules: points (B, d) and weights (B,) of a plain sum.


def interval(low: float, high: float, n: int) -> tuple[Tensor, Tensor]:
    nodes, weights = leggauss(n)
    return torch.tensor(low + (high - low) * (nodes + 1) / 2)[:, None], torch.tensor(
        weights * (high - low) / 2
    )


def grid(rules: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    points = torch.cartesian_prod(*[x[:, 0] for x, _ in rules]).reshape(-1, len(rules))
    weights = torch.cartesian_prod(*[q for _, q in rules]).reshape(-1, len(rules)).prod(dim=1)
    return points, weights


def radii(radius: float, n: int, dim: int) -> tuple[Tensor, Tensor]:
    """Nodes on the half line that crowd near 0, r = radius s^2, with the weight r^(dim-1)."""
    s, q = interval(0, 1, n)
    r = radius * s[:, 0] ** 2
    return r[:, None], q * 2 * radius * s[:, 0] * r ** (dim - 1)


def circle(n: int) -> tuple[Tensor, Tensor]:
    turns = torch.arange(n, dtype=torch.float64) / n
    return 2 * math.pi * turns[:, None], torch.full((n,), 2 * math.pi / n, dtype=torch.float64)


def polar(radius: float, n: int, n_angle: int) -> tuple[Tensor, Tensor]:
    rt, q = grid([radii(radius, n, 2), circle(n_angle)])
    return rt[:, :1] * torch.stack([rt[:, 1].cos(), rt[:, 1].sin()], dim=1), q


def ball(radius: float, n: int, n_angle: int) -> tuple[Tensor, Tensor]:
    rct, q = grid([radii(radius, n, 3), interval(-1, 1, n_angle), circle(2 * n_angle)])
    r, c, t = rct.unbind(dim=1)
    s = (1 - c * c).sqrt()
    return torch.stack([r * s * t.cos(), r * s * t.sin(), r * c], dim=1), q


def normal(s: float, n: int) -> tuple[Tensor, Tensor]:
    nodes, weights = hermgauss(n)
    return torch.tensor(nodes * s * math.sqrt(2))[:, None], torch.tensor(weights / math.sqrt(math.pi))


def bell(s: float, n: int) -> tuple[Tensor, Tensor]:
    """N(0, s^2) again, for functions that decay, which Gauss-Hermite samples too thinly."""
    x, q = interval(-9 * s, 9 * s, n)
    return x, q * torch.exp(-(x[:, 0] ** 2) / (2 * s * s)) / (s * math.sqrt(2 * math.pi))


def shifted(rule: tuple[Tensor, Tensor], center: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    return rule[0] + torch.tensor(center, dtype=torch.float64), rule[1]


ORTHONORMAL: dict[str, tuple[Exact, int, Callable[[], tuple[Tensor, Tensor]], float]] = {
    "hydrogen2d": (
        Hydrogen2D(1.3, (0.2, -0.5)),
        16,
        lambda: shifted(polar(250, 150, 16), (0.2, -0.5)),
        1e-12,
    ),
    "hydrogen2d-400": (Hydrogen2D(), 400, lambda: polar(5000, 400, 48), 1e-10),
    "hydrogen3d": (Hydrogen3D(1.7, (1, 0, -1)), 30, lambda: shifted(ball(250, 80, 8), (1, 0, -1)), 1e-12),
    "oscillator": (Oscillator(K2), 20, lambda: grid([interval(-10, 10, 100)] * 2), 1e-12),
    "oscillator-400": (
        Oscillator(frequencies=(1.0,)),
        400,
        lambda: (
            torch.arange(-4000, 4001, dtype=torch.float64)[:, None] / 100,
            torch.full((8001,), 0.01, dtype=torch.float64),
        ),
        1e-11,
    ),
    "well": (
        InfiniteWell(3.0, 3, (1, 0, 0)),
        30,
        lambda: grid([interval(-0.5, 2.5, 24)] + [interval(-1.5, 1.5, 24)] * 2),
        1e-12,
    ),
    "volterra": (Volterra(), 400, lambda: interval(0, 1, 900), 1e-11),
    "brownian": (Brownian(), 40, lambda: interval(0, 1, 120), 1e-12),
    "gaussian_kernel": (GaussianKernel(0.7, 1.4), 30, lambda: bell(1.4, 250), 1e-11),
    "gaussian_pair": (GaussianPair(-0.6), 12, lambda: normal(1.0, 60), 1e-12),
    "ornstein_uhlenbeck": (OrnsteinUhlenbeck(0.5, 2.0, 3.0), 12, lambda: normal(3.0, 60), 1e-12),
    "matrix": (
        MatrixExact(uniform(9, 5, low=-1, high=1)),
        5,
        lambda: (torch.arange(5)[:, None], torch.ones(5)),
        1e-13,
    ),
}


@pytest.mark.parametrize("name", ORTHONORMAL)
def test_right_functions_are_orthonormal_in_the_reference_measure(name: str) -> None:
    exact, k, rule, tolerance = ORTHONORMAL[name]
    x, q = rule()
    phi = exact.functions(x, k)
    assert phi.shape == (len(x), k)
    assert phi.dtype == torch.float64
    identity = torch.eye(k, dtype=torch.float64)
    assert (phi.T @ (q.double()[:, None] * phi) - identity).abs().max() < tolerance
    if exact.self_adjoint:
        assert torch.equal(exact.left(x, k), phi)


@pytest.mark.parametrize("name", ["volterra", "gaussian_pair"])
def test_left_functions_are_orthonormal(name: str) -> None:
    exact, k, rule, tolerance = ORTHONORMAL[name]
    y, q = rule()
    psi = exact.left(y, k)
    assert not exact.self_adjoint
    assert not torch.allclose(psi, exact.functions(y, k))
    assert (psi.T @ (q[:, None] * psi) - torch.eye(k)).abs().max() < tolerance


def laplacian(exact: Exact, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    f = exact.functions(x, k)
    columns = []
    for column in range(k):
        (gradient,) = torch.autograd.grad(f[:, column].sum(), x, create_graph=True)
        second = [
            torch.autograd.grad(gradient[:, i].sum(), x, retain_graph=True)[0][:, i]
            for i in range(x.shape[1])
        ]
        columns.append(sum(second[1:], start=second[0]))
    return f.detach(), torch.stack(columns, dim=1)


def coulomb_potential(charge: float, center: tuple[float, ...]) -> Callable[[Tensor], Tensor]:
    return lambda x: -charge / (x - torch.tensor(center, dtype=x.dtype)).norm(dim=1)


def quadratic(K: list[list[float]], center: tuple[float, ...]) -> Callable[[Tensor], Tensor]:
    def potential(x: Tensor) -> Tensor:
        u = x - torch.tensor(center, dtype=x.dtype)
        return ((u @ torch.tensor(K, dtype=x.dtype)) * u).sum(dim=1)

    return potential


K3 = [[1.0, 0.2, 0.0], [0.2, 2.0, -0.3], [0.0, -0.3, 1.5]]


@pytest.mark.parametrize(
    ("exact", "potential", "k"),
    [
        (Hydrogen2D(1.3, (0.2, -0.5)), coulomb_potential(1.3, (0.2, -0.5)), 25),
        (Hydrogen3D(1.7, (0.1, 0.3, -0.2)), coulomb_potential(1.7, (0.1, 0.3, -0.2)), 30),
        (Oscillator(K3, center=(0.5, 0, -1)), quadratic(K3, (0.5, 0, -1)), 20),
        (Oscillator(frequencies=(1, 3)), quadratic([[1, 0], [0, 9]], (0, 0)), 12),
        (InfiniteWell(5, 3), lambda x: torch.zeros(len(x)), 12),
        (InfiniteWell(6.0, 1, (0.5,)), lambda x: torch.zeros(len(x)), 5),
    ],
    ids=["hydrogen2d", "hydrogen3d", "oscillator", "frequencies", "well3", "well1"],
)
def test_eigenvalue_equation(exact: Exact, potential: Callable[[Tensor], Tensor], k: int) -> None:
    x = uniform(40, exact.dim, low=0.7, high=2.2)
    f, second = laplacian(exact, x, k)
    assert (f.abs().amax(dim=0) > 1e-6).all()
    residual = second - potential(x)[:, None] * f - exact.values(k) * f
    assert (residual.abs().amax(dim=0) / f.abs().amax(dim=0)).max() < 1e-9


def conditional(rho: float, s: float) -> Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]:
    """E[f(s X) | s Y = y] for a Gaussian pair (X, Y)."""
    nodes, q = normal(s * math.sqrt(1 - rho * rho), 60)
    return lambda f, y: torch.stack([q @ f(rho * point + nodes) for point in y])


def volterra(f: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    rows = []
    for point in y[:, 0].tolist():
        x, q = interval(0, point, 40)
        rows.append(q @ f(x))
    return torch.stack(rows)


def brownian(f: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    rows = []
    for point in y[:, 0].tolist():
        (x, q), (x2, q2) = interval(0, point, 40), interval(point, 1, 40)
        rows.append((q * x[:, 0]) @ f(x) + point * (q2 @ f(x2)))
    return torch.stack(rows)


def gaussian(f: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    x, q = bell(1.4, 250)
    return torch.exp(-((y - x.T) ** 2) / (2 * 0.7**2)) @ (q[:, None] * f(x))


@pytest.mark.parametrize(
    ("exact", "apply"),
    [
        (Volterra(), volterra),
        (Brownian(), brownian),
        (GaussianKernel(0.7, 1.4), gaussian),
        (GaussianPair(0.6), conditional(0.6, 1.0)),
        (GaussianPair(-0.6), conditional(-0.6, 1.0)),
        (OrnsteinUhlenbeck(0.5, 0.8, 3.0), conditional(math.exp(-0.4), 3.0)),
    ],
    ids=["volterra", "brownian", "gaussian_kernel", "pair", "pair_negative", "ornstein_uhlenbeck"],
)
def test_operator_maps_right_functions_to_left_ones(exact: Exact, apply: Callable[..., Tensor]) -> None:
    y, k = uniform(12, 1, low=0.05, high=0.95), 8
    applied = apply(lambda x: exact.functions(x, k), y)
    assert torch.allclose(applied, exact.values(k) * exact.left(y, k), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize(
    ("exact", "kernel"),
    [
        (Volterra(), lambda y, x: (x < y) + 0.5 * (x == y)),
        (Brownian(), np.minimum),
    ],
    ids=["volterra", "brownian"],
)
def test_values_and_pairs_against_a_fine_grid_svd(exact: Exact, kernel: Callable[..., np.ndarray]) -> None:
    n, k = 500, 6
    x = (np.arange(n) + 0.5) / n
    u, s, vt = np.linalg.svd(kernel(x[:, None], x[None, :]) / n)
    assert np.allclose(exact.values(k).numpy(), s[:k], rtol=2e-4)
    points = torch.tensor(x)[:, None]
    cosines_right = (vt[:k] @ exact.functions(points, k).numpy()).diagonal() / math.sqrt(n)
    cosines_left = (u[:, :k].T @ exact.left(points, k).numpy()).diagonal() / math.sqrt(n)
    # The product of the two cosines is free of NumPy's sign, and tells whether ours go together.
    assert np.all(cosines_right * cosines_left > 0.9999)


def test_gaussian_kernel_values_against_a_discretised_operator() -> None:
    x, q = bell(1.4, 250)
    kernel = torch.exp(-((x - x.T) ** 2) / (2 * 0.7**2))
    eigenvalues = np.linalg.eigvalsh((q.sqrt()[:, None] * kernel * q.sqrt()).numpy())[::-1]
    assert np.allclose(GaussianKernel(0.7, 1.4).values(25).numpy(), eigenvalues[:25], rtol=1e-8, atol=1e-13)


@pytest.mark.parametrize(
    ("exact", "table"),
    [
        (Hydrogen2D(2), [(4 / (2 * n + 1) ** 2, n) for n in range(40) for _ in range(-n, n + 1)]),
        (
            Hydrogen3D(2),
            [(1 / n**2, n) for n in range(1, 20) for order in range(n) for _ in range(-order, order + 1)],
        ),
        (
            Oscillator(frequencies=(1, 1, 2)),
            [(-float(4 + 2 * a + 2 * b + 4 * c), a + b + 2 * c) for a, b, c in product(range(40), repeat=3)],
        ),
        (
            Oscillator(torch.eye(10)),
            [(-10.0 - 2 * n, n) for n in range(9) for _ in range(math.comb(n + 9, 9))],
        ),
        (
            InfiniteWell(math.pi),
            [(-float(a * a + b * b), a * a + b * b) for a, b in product(range(1, 60), repeat=2)],
        ),
        (
            InfiniteWell(math.pi, 3),
            [
                (-float(a * a + b * b + c * c), a * a + b * b + c * c)
                for a, b, c in product(range(1, 30), repeat=3)
            ],
        ),
    ],
    ids=["hydrogen2d", "hydrogen3d", "oscillator112", "oscillator10", "well2", "well3"],
)
def test_values_multiplicities_and_levels_against_brute_force(
    exact: Exact, table: list[tuple[float, int]]
) -> None:
    table = sorted(table, key=lambda row: -row[0])
    values = exact.values(400)
    assert torch.allclose(
        values, torch.tensor([row[0] for row in table[:400]], dtype=torch.float64), rtol=1e-14, atol=0
    )
    assert (values.diff() <= 0).all()
    groups: dict[int, list[int]] = {}
    for index, (_, tag) in enumerate(table[:400]):
        groups.setdefault(tag, []).append(index)
    assert exact.levels(400) == list(groups.values())
    for k in (1, 2, 5, 9, 10, 37):
        end = next(i for i in range(k, len(table)) if table[i][1] != table[k - 1][1])
        assert exact.completed(k) == end
        assert exact.level_complete(k) == (end == k)
        assert exact.completed(end) == end


def test_levels_cut_by_k() -> None:
    atom = Hydrogen2D()
    assert atom.levels(6) == [[0], [1, 2, 3], [4, 5]]
    assert not atom.level_complete(6)
    assert atom.completed(6) == 9
    assert atom.level_complete(9)
    assert InfiniteWell(1).levels(9) == [[0], [1, 2], [3], [4, 5], [6, 7], [8]]
    assert InfiniteWell(1).completed(9) == 10
    assert Volterra().levels(3) == [[0], [1], [2]]
    assert Volterra().level_complete(3)


def test_accidental_ties_are_levels() -> None:
    well = InfiniteWell(math.pi)
    index = next(i for i, value in enumerate(well.values(60).round().tolist()) if value == -50)
    assert [index, index + 1, index + 2] in well.levels(60)  # 1 + 49, 25 + 25, 49 + 1
    # A rotated stiffness matrix with frequencies 1 and 2: the resonance holds only up to rounding.
    c, s = math.cos(0.3), math.sin(0.3)
    R = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    assert Oscillator(R @ torch.diag(torch.tensor([1.0, 4.0]).double()) @ R.T).levels(4) == [[0], [1], [2, 3]]
    # Nearly equal is not equal.
    assert Oscillator(frequencies=(1, 1 + 1e-6)).levels(3) == [[0], [1], [2]]


def test_a_cut_level_keeps_its_first_functions() -> None:
    """The order inside a level does not depend on k."""
    for exact in (Hydrogen2D(), Hydrogen3D(), Oscillator(frequencies=(1, 1)), InfiniteWell(4)):
        x = uniform(5, exact.dim, low=-1, high=1)
        full = exact.functions(x, 30)
        for k in (1, 2, 3, 7, 8, 20):
            assert torch.equal(exact.functions(x, k), full[:, :k])


def test_signs_are_as_documented() -> None:
    near = 1e-3
    right, up = torch.tensor([[near, 0.0]]), torch.tensor([[0.0, near]])
    atom = Hydrogen2D()
    m = [m for n in range(4) for m in [0, *[sign * j for j in range(1, n + 1) for sign in (1, -1)]]]
    on_right, on_up = atom.functions(right, 16)[0], atom.functions(up, 16)[0]
    for index, number in enumerate(m):
        if number >= 0:
            assert on_right[index] > 0  # cos(m theta) and a positive radial part at theta = 0
        else:
            assert abs(on_right[index]) < 1e-15
        if number == -1:
            assert on_up[index] > 0
    x, y, z = torch.eye(3).unbind()
    p = Hydrogen3D().functions(torch.stack([x, y, z]) * near, 5)[:, 2:]
    assert (p.argmax(dim=0) == torch.tensor([2, 0, 1])).all()  # p_z, p_x, p_y
    far = torch.full((1, 2), 6.0)
    assert (Oscillator(frequencies=(1, 1.5)).functions(far, 10) > 0).all()
    assert (GaussianKernel().functions(torch.tensor([[9.0]]), 10) > 0).all()
    assert (GaussianPair(0.5).functions(torch.tensor([[9.0]]), 10) > 0).all()
    corner = torch.full((1, 2), -0.5 + near)
    assert (InfiniteWell(1).functions(corner, 10) > 0).all()
    assert (Volterra().functions(torch.tensor([[near]]), 10) > 0).all()
    assert (Volterra().left(torch.tensor([[near]]), 10) > 0).all()


def test_oscillator_is_the_product_of_lines_in_lexicographic_order() -> None:
    frequencies = (0.1, 0.2, 0.3)  # sums that are equal, up to rounding, in many ways
    x = uniform(6, 3, low=-3, high=3)
    energies = {
        n: round(sum((2 * i + 1) * omega for i, omega in zip(n, frequencies, strict=True)), 9)
        for n in product(range(14), repeat=3)
    }
    indices = sorted(energies, key=lambda n: (energies[n], n))[:60]
    lines = [Oscillator(frequencies=(omega,)).functions(x[:, [i]], 14) for i, omega in enumerate(frequencies)]
    expected = torch.stack([lines[0][:, a] * lines[1][:, b] * lines[2][:, c] for a, b, c in indices], dim=1)
    assert torch.allclose(Oscillator(frequencies=frequencies).functions(x, 60), expected, rtol=1e-10)


def test_axes_of_the_oscillator_point_along_their_largest_entry() -> None:
    turns = [0.3, 1.2, 1.9, 2.8, 4.0, 5.5]
    for turn in turns:
        c, s = math.cos(turn), math.sin(turn)
        R = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
        exact = Oscillator(R @ torch.diag(torch.tensor([1.0, 9.0], dtype=torch.float64)) @ R.T)
        soft = torch.tensor([c, s]) * math.copysign(1, max((c, s), key=abs))
        assert exact.functions(soft[None, :], 2)[0, 1] > 0


def test_ground_states_in_closed_form() -> None:
    x = uniform(20, 2, low=-2, high=2)
    expected = 2 * 1.5 / math.sqrt(2 * math.pi) * torch.exp(-1.5 * x.norm(dim=1))
    assert torch.allclose(Hydrogen2D(1.5).functions(x, 1)[:, 0], expected, rtol=1e-13)
    x = uniform(20, 3, low=-2, high=2)
    expected = math.sqrt(0.75**3 / math.pi) * torch.exp(-0.75 * x.norm(dim=1))
    assert torch.allclose(Hydrogen3D(1.5).functions(x, 1)[:, 0], expected, rtol=1e-13)


def test_hydrogen_is_finite_at_the_nucleus_and_far_away() -> None:
    for atom in (Hydrogen2D(), Hydrogen3D()):
        x = torch.zeros(2, atom.dim)
        x[1] = 1e6
        f = atom.functions(x, 400)
        assert torch.isfinite(f).all()
        assert f[0, 0] > 0
        assert (f[1] == 0).all()


def test_well_is_zero_outside() -> None:
    x = torch.tensor([[0.0, 0.0], [0.0, 1.5], [-0.5, -0.5]])
    f = InfiniteWell(2).functions(x, 1)
    assert f[:, 0].tolist() == pytest.approx([1.0, 0.0, 0.5])


def test_single_precision_points_give_double_precision_functions() -> None:
    x = uniform(4, 2, low=-1, high=1).float()
    assert torch.equal(Hydrogen2D().functions(x, 9), Hydrogen2D().functions(x.double(), 9))


def test_ornstein_uhlenbeck_and_pair_agree() -> None:
    process, pair = OrnsteinUhlenbeck(theta=0.5, tau=2, s=1), GaussianPair(math.exp(-1))
    assert torch.allclose(process.values(10), pair.values(10), rtol=1e-13)
    assert torch.allclose(GaussianPair(-0.3).values(4), torch.tensor([1, 0.3, 0.09, 0.027]).double())


def test_independent_pair_has_the_constant_only() -> None:
    pair = GaussianPair(0.0)
    assert pair.max_k == 1
    assert pair.values(1).tolist() == [1.0]
    assert pair.completed(1) == 1
    assert pair.levels(1) == [[0]]
    with pytest.raises(ArgumentError, match=r"k: got 2; expected an integer from 1 to 1"):
        pair.values(2)


@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 5)])
def test_matrix_against_numpy(shape: tuple[int, int]) -> None:
    A = uniform(*shape, low=-1, high=1, seed=3)
    exact = MatrixExact(A)
    k = min(shape)
    rows, columns = (torch.arange(n)[:, None] for n in shape)
    assert exact.max_k == k
    assert exact.dim == 1
    assert np.allclose(exact.values(k).numpy(), np.linalg.svd(A.numpy(), compute_uv=False), rtol=1e-12)
    phi, psi = exact.functions(columns, k), exact.left(rows, k)
    assert torch.allclose(psi @ torch.diag(exact.values(k)) @ phi.T, A, atol=1e-13)
    assert torch.allclose(psi.T @ psi, torch.eye(k).double(), atol=1e-13)
    largest = phi.gather(0, phi.abs().argmax(dim=0, keepdim=True))
    assert (largest > 0).all()
    assert torch.equal(exact.functions(torch.tensor([[2.0], [2.0]]), k), phi[[2, 2]])


def test_self_adjoint_matrix_keeps_the_signs_of_its_values() -> None:
    Q = torch.linalg.qr(uniform(6, 6, low=-1, high=1, seed=5)).Q
    spectrum = torch.tensor([1.0, -3.0, 2.0, 2.0, 2.0, -3.0], dtype=torch.float64)
    A = Q @ torch.diag(spectrum) @ Q.T
    exact = MatrixExact(A, self_adjoint=True)
    assert exact.self_adjoint
    assert torch.allclose(exact.values(6), spectrum.sort(descending=True).values)
    assert exact.levels(6) == [[0, 1, 2], [3], [4, 5]]
    assert exact.completed(1) == 3
    assert exact.completed(4) == 4
    assert exact.completed(5) == 6
    x = torch.arange(6)[:, None]
    phi = exact.functions(x, 6)
    assert torch.allclose(A @ phi, phi * exact.values(6), atol=1e-13)
    assert torch.equal(exact.left(x, 6), phi)
    assert MatrixExact(A).levels(6) == [[0, 1], [2, 3, 4], [5]]
    assert not MatrixExact(A).self_adjoint


def test_optimum_of_the_lora_loss_for_hydrogen() -> None:
    values = Hydrogen2D().values(9)
    assert abs(float(lora_optimum(values)) + 1.045037) < 1e-6
    joint = torch.arange(9, 0, -1) / 9
    assert abs(float(lora_optimum(values, joint)) + 1.031473) < 1e-6


def test_optimum_of_the_lora_loss_is_attained_and_not_beaten() -> None:
    A = uniform(8, 8, low=-1, high=1, seed=2)
    A = A + A.T
    exact = MatrixExact(A, self_adjoint=True)
    assert (exact.values(6) < 0).any()
    weights = torch.tensor([1.0, 0.9, 0.5, 0.5, 0.2, 0.1]).double()  # m_l
    matrix = torch.minimum(weights[:, None], weights)  # m_max(l, l')

    def loss(f: Tensor) -> float:
        return float(-2 * (weights * (f * (A @ f)).sum(dim=0)).sum() + (matrix * (f.T @ f) ** 2).sum())

    best = exact.functions(torch.arange(8)[:, None], 6) * exact.values(6).clamp(min=0).sqrt()
    optimum = float(lora_optimum(exact.values(6), weights))
    assert loss(best) == pytest.approx(optimum, rel=1e-12)
    for seed in range(20):
        assert loss(best + uniform(8, 6, low=-0.05, high=0.05, seed=seed)) > optimum


@pytest.mark.parametrize("k", [0, -1, 10, True, 2.0])
def test_bad_k(unchecked: None, k: int) -> None:
    exact = MatrixExact(torch.eye(9)) if k == 10 else Hydrogen2D()
    dim = exact.dim
    calls = [exact.values, exact.levels, exact.completed, lambda k: exact.functions(torch.ones(1, dim), k)]
    for call in calls:
        with pytest.raises(ArgumentError, match=r"^k: got"):
            call(k)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(5), r"shape \(5,\); expected .*shape \(B, 2\)"),
        (torch.zeros(5, 3), r"shape \(5, 3\)"),
        (torch.zeros(5, 2, 1), r"shape \(5, 2, 1\)"),
        (torch.zeros(5, 2, dtype=torch.complex64), "complex"),
        (torch.tensor([[0.0, math.nan]]), "NaN"),
        (torch.tensor([[0.0, math.inf]]), "infinity"),
        ([[0.0, 0.0]], "list"),
    ],
)
def test_bad_points(unchecked: None, x: Tensor, message: str) -> None:
    with pytest.raises(ArgumentError, match="^x: got .*" + message):
        Hydrogen2D().functions(x, 3)
    with pytest.raises(ArgumentError, match="^y: got .*" + message):
        Hydrogen2D().left(x, 3)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: Hydrogen2D(0), "charge"),
        (lambda: Hydrogen3D(math.inf), "charge"),
        (lambda: Hydrogen2D(center=(0, 0, 0)), "center"),
        (lambda: Oscillator(), "K"),
        (lambda: Oscillator([[1.0]], frequencies=[1.0]), "K"),
        (lambda: Oscillator([1.0, 2.0]), "K"),
        (lambda: Oscillator([[1.0, 0.5], [0.0, 1.0]]), "K"),
        (lambda: Oscillator([[1.0, 2.0], [2.0, 1.0]]), "K"),
        (lambda: Oscillator(torch.eye(2) * math.nan), "K"),
        (lambda: Oscillator(torch.eye(2) * 1j), "K"),
        (lambda: Oscillator(frequencies=(1, -1)), "frequencies"),
        (lambda: Oscillator(frequencies=(1, 1), center=(0,)), "center"),
        (lambda: InfiniteWell(-1), "side"),
        (lambda: InfiniteWell(1, 0), "dim"),
        (lambda: GaussianKernel(0), "length_scale"),
        (lambda: GaussianKernel(1, -1), "s"),
        (lambda: GaussianPair(1.0), "rho"),
        (lambda: GaussianPair(math.nan), "rho"),
        (lambda: OrnsteinUhlenbeck(tau=0), "tau"),
        (lambda: MatrixExact(torch.ones(3)), "A"),
        (lambda: MatrixExact(torch.tensor([[math.nan]])), "A"),
        (lambda: MatrixExact(torch.eye(2) * 1j), "A"),
        (lambda: MatrixExact(torch.ones(2, 3), self_adjoint=True), "A"),
        (lambda: MatrixExact(torch.tensor([[0.0, 1.0], [0.0, 0.0]]), self_adjoint=True), "A"),
        (lambda: MatrixExact(torch.eye(2)).functions(torch.tensor([[0.5]]), 1), "x"),
        (lambda: MatrixExact(torch.eye(2)).functions(torch.tensor([[2]]), 1), "x"),
        (lambda: MatrixExact(torch.eye(2)).left(torch.tensor([[-1]]), 1), "y"),
        (lambda: lora_optimum(torch.ones(2, 2)), "values"),
        (lambda: lora_optimum(torch.ones(2), torch.ones(3)), "vector"),
        (lambda: lora_optimum(torch.ones(2), -torch.ones(2)), "vector"),
    ],
)
def test_bad_arguments_are_named(unchecked: None, make: Callable[[], object], argument: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{argument}: got ") as caught:
        make()
    assert caught.value.argument == argument
