"""Heads in closed form: against SciPy's pencils, finite differences, and heads found by descent."""

import numpy as np
import pytest
import scipy.linalg
import torch

import nbsvd
from nbsvd.functions import MLP, DecayFactor, WithFactor
from nbsvd.measures import Gaussian
from nbsvd.training.heads import DAMPING, TOLERANCE, Heads, damped_orthonormaliser, orthonormaliser, sample
from nbsvd.training.spectral import SPECTRAL, Objective
from nbsvd.training.start import Basis
from nbsvd.training.varpro import Parameters


def basis(dim: int, width: int, seed: int, factor: bool = False) -> Basis:
    net = MLP(2, dim, widths=(6, width), disjoint=False, generator=torch.Generator().manual_seed(seed))
    return Basis((WithFactor(net, DecayFactor(2.0, learned=True)) if factor else net).double())


def case(name: str):
    """A problem, its bases (one for an eigenproblem) and nodes."""
    generator = torch.Generator().manual_seed(1)
    problem = nbsvd.problems.get(name)
    right = basis(problem.dim, 3 if name == "volterra" else 7, 0, factor=name == "hydrogen2d")
    left = right if problem.operator.self_adjoint else basis(problem.dim, 4, 2)
    x = problem.measure.nodes(150, kind="quadrature", generator=generator)
    y = x if left is right else problem.left_measure.nodes(130, kind="quadrature", generator=generator)
    operator = problem.operator
    if name == "volterra":  # by plain sums, as the oracle here; without its kink
        operator = nbsvd.Integral(operator.kernel, problem.measure, self_adjoint=False)
    return operator, right, left, x, y


CASES = ("hydrogen2d", "gaussian_kernel", "volterra")


def matrices(operator, right, left, x, y):
    """Gram matrices and form of the bases, by plain sums in NumPy."""
    f, g = right(x.x).detach().numpy(), left(y.x).detach().numpy()
    wx, wy = x.weights.numpy() / len(x), y.weights.numpy() / len(y)
    S, R = (f.T * wx) @ f, (g.T * wy) @ g
    if operator.local:
        jet = right.jet(x.x)
        G = jet.gradient.detach().numpy()
        V = operator.potential(x.x).numpy()
        A = -sum((D.T * wx) @ D for D in G) - (f.T * (wx * V)) @ f
    else:
        K = operator.kernel(x.x, y.x).numpy()
        A = (g.T * wy) @ K.T @ (wx[:, None] * f) if K.shape == (len(x), len(y)) else None
    return S, R, A


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_scipy(name):
    operator, right, left, x, y = case(name)
    S, _, A = matrices(operator, right, left, x, y)
    values = sample(operator, right, left, x, y, check=True).heads().values.numpy()
    if left is right:
        expected = scipy.linalg.eigh((A + A.T) / 2, S, eigvals_only=True)[::-1]
    else:  # the Gram matrices of these two are too ill-conditioned for SciPy's own way: orthonormalise by QR
        rows_x, rows_y = (np.sqrt(n.weights.numpy() / len(n))[:, None] for n in (x, y))
        Qf = np.linalg.qr(rows_x * right(x.x).detach().numpy()).Q
        Qg = np.linalg.qr(rows_y * left(y.x).detach().numpy()).Q
        K = operator.kernel(x.x, y.x).numpy().T
        expected = np.linalg.svd(Qg.T @ (rows_y * K * rows_x.T) @ Qf, compute_uv=False)
    np.testing.assert_allclose(values[:4], expected[:4], rtol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_heads_are_orthonormal_and_diagonalise(name):
    operator, right, left, x, y = case(name)
    S, R, A = matrices(operator, right, left, x, y)
    heads = sample(operator, right, left, x, y, check=True).heads().first(2)
    C, D = heads.right.numpy(), heads.left.numpy()
    np.testing.assert_allclose(C.T @ S @ C, np.eye(2), atol=1e-7)
    np.testing.assert_allclose(D.T @ R @ D, np.eye(2), atol=1e-7)
    np.testing.assert_allclose(D.T @ A @ C, np.diag(heads.values.numpy()), atol=1e-7)


@pytest.mark.parametrize("spectral", SPECTRAL)
@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_that_of_finite_differences(name, spectral):
    operator, right, left, x, y = case(name)
    tensors = [p for b in {right, left} for key, p in b.named_parameters() if "head" not in key]
    vector, objective = Parameters(tensors), Objective(nbsvd.Nesting.joint(2), spectral, 3.0)

    def loss(flat):
        vector.set(flat)
        return objective.of(sample(operator, right, left, x, y, shift=3.0).heads().values)[0]

    at = vector.get()
    s = sample(operator, right, left, x, y, shift=3.0)
    heads = s.heads()
    slopes = objective.of(heads.values)[1]
    gradient = vector.gradient(s.surrogate(heads.first(2), -slopes))
    rng = np.random.default_rng(0)
    for _ in range(3):
        along = rng.normal(size=at.shape)
        step = 1e-4 * along / np.linalg.norm(along)
        slope = (loss(at + step) - loss(at - step)) / 2
        assert slope == pytest.approx(gradient @ step, rel=1e-3, abs=1e-13)


def test_no_head_does_better():
    """NestedLoRA over heads, by descent from several starts, ends at -sum m_l mu_l^2 and never below."""
    operator, right, _, x, _ = case("gaussian_kernel")
    S, _, A = (
        None if m is None else torch.from_numpy(np.ascontiguousarray(m))
        for m in matrices(operator, right, right, x, x)
    )
    nesting = nbsvd.Nesting.joint(3)
    values = sample(operator, right, right, x, x, check=True).heads().values
    least = float(SPECTRAL["lora"](values[:3], nesting)[0])
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        C = torch.randn(len(S), 3, generator=generator, dtype=torch.float64).requires_grad_()
        optimizer = torch.optim.LBFGS(
            [C], max_iter=500, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
        )

        def closure(C=C, optimizer=optimizer):
            optimizer.zero_grad()
            G, P = C.t() @ S @ C, C.t() @ A @ C
            m, M = nesting.vector.double(), nesting.matrix.double()
            loss = -2 * (m * P.diagonal()).sum() + (M * G**2).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        reached = float(closure().detach())
        assert reached >= least - 1e-12
    assert reached == pytest.approx(least, rel=1e-4)


def test_dependent_functions_are_left_out():
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(40, 5, generator=generator, dtype=torch.float64)
    h = torch.cat([h, h[:, :2] + 1e-13, torch.zeros(40, 1, dtype=torch.float64)], 1)
    w = torch.rand(40, generator=generator, dtype=torch.float64) + 0.5
    W = orthonormaliser(h, w)
    assert W.shape == (8, 5)
    f = h @ W
    torch.testing.assert_close(
        (w[:, None] * f).t() @ f / 40, torch.eye(5, dtype=torch.float64), atol=1e-8, rtol=0
    )


def test_small_functions_are_not_small_directions():
    """A column of tiny entries counts by its direction alone."""
    h = torch.eye(3, dtype=torch.float64) * torch.tensor([1.0, 1e-30, TOLERANCE / 10], dtype=torch.float64)
    assert orthonormaliser(h, torch.ones(3, dtype=torch.float64)).shape == (3, 3)


def on_two_samples(width):
    """A symmetric kernel with nodes of its own for either side: values 1 and -2, and zeros."""
    T = nbsvd.Integral(lambda x, y: x @ y.t() - (x**2 - 1) @ (y**2 - 1).t(), Gaussian(1))
    right = basis(1, width, 0)
    x, y = (
        T.measure_x.nodes(n, kind="sobol", generator=torch.Generator().manual_seed(n)) for n in (400, 300)
    )
    return T, right, right, x, y


def test_a_symmetric_kernel_on_two_samples_keeps_its_signs():
    heads = sample(*on_two_samples(6), check=True).heads()
    assert heads.right is heads.left
    assert float(heads.values[0]) == pytest.approx(1.0, abs=0.05)
    assert float(heads.values[-1]) == pytest.approx(-2.0, abs=0.2)


@pytest.mark.parametrize(
    ("make", "k", "shift", "damping"),
    [
        (lambda: on_two_samples(6), 2, 1.0, DAMPING),
        (lambda: wide("gaussian_kernel"), 9, 0.0, 1e-6),
        (lambda: wide("hydrogen2d"), 6, 0.5, DAMPING),
    ],
    ids=["two samples", "a wide basis on a line", "a wide basis in the plane"],
)
def test_the_gradient_where_functions_are_nearly_dependent(make, k, shift, damping):
    """A cut of small directions would not pass: it moves with the basis, and no derivative knows."""
    operator, right, left, x, y = make()
    tensors = [p for key, p in right.named_parameters() if "head" not in key]
    vector, objective = Parameters(tensors), Objective(nbsvd.Nesting.joint(k), "log", shift)

    def evaluated():
        return sample(operator, right, left, x, y, shift=shift, damping=damping)

    def loss(flat):
        vector.set(flat)
        return objective.of(evaluated().heads().values)[0]

    at, s = vector.get(), evaluated()
    heads = s.heads()
    gradient = vector.gradient(s.surrogate(heads.first(k), -objective.of(heads.values)[1]))
    along = gradient / np.linalg.norm(gradient)
    slope = (loss(at + 1e-5 * along) - loss(at - 1e-5 * along)) / 2e-5
    assert slope == pytest.approx(gradient @ along, rel=0.02)


def wide(name):
    """A basis with far more functions than independent ones, to rounding."""
    problem = nbsvd.problems.get(name)
    right = basis(problem.dim, 40, 0, factor=name == "hydrogen2d")
    x = problem.measure.nodes(300, kind="quadrature", generator=torch.Generator().manual_seed(1))
    return problem.operator, right, right, x, x


@pytest.mark.parametrize("name", CASES)
def test_damped_values_are_hardly_lower(name):
    operator, right, left, x, y = case(name)
    plain, damped = (
        sample(operator, right, left, x, y, shift=5.0, check=check).heads().values[:2]
        for check in (True, False)
    )
    assert (damped <= plain + 1e-12).all()
    assert (plain - damped < 1e-5 * (plain + 5)).all()


def test_damped_functions_are_orthonormal_but_for_the_damping():
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(40, 5, generator=generator, dtype=torch.float64)
    h = torch.cat([h, h[:, :2] + 1e-13, torch.zeros(40, 1, dtype=torch.float64)], 1)
    w = torch.rand(40, generator=generator, dtype=torch.float64) + 0.5
    W, share = damped_orthonormaliser(h, w)
    f = h @ W
    torch.testing.assert_close((w[:, None] * f).t() @ f / 40, torch.diag(share), atol=1e-7, rtol=0)
    assert share.sort().values.round(decimals=6).tolist() == [0.0] * 3 + [1.0] * 5


def test_fewer_nodes_than_functions():
    generator = torch.Generator().manual_seed(0)
    W, share = damped_orthonormaliser(
        torch.randn(3, 6, generator=generator, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    )
    assert W.shape == (6, 6)
    assert share.sort().values.round(decimals=6).tolist() == [0.0] * 3 + [1.0] * 3


@pytest.mark.parametrize("name", CASES)
def test_functions_are_judged_by_the_values_of_their_span(name):
    operator, right, left, x, y = case(name)
    s = sample(operator, right, left, x, y, check=True)
    heads = s.heads().first(2)
    torch.testing.assert_close(s.judged(heads), heads.values, rtol=1e-7, atol=0)
    turn = torch.linalg.qr(torch.randn(2, 2, dtype=torch.float64)).Q
    turned = Heads(heads.values, heads.right @ turn * 3, heads.left @ turn)
    torch.testing.assert_close(s.judged(turned), heads.values, rtol=1e-7, atol=0)


def test_moments_that_are_not_finite_are_refused():
    with pytest.raises(nbsvd.ArgumentError, match="NaN or infinite inner products"):
        orthonormaliser(
            torch.full((3, 2), torch.nan, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
        )
