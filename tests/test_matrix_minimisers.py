"""The minimisers of the objectives on matrices are what torch.linalg.svd says, to 1e-8 in float64.

How they are reached. L-BFGS alone stops at about 1e-8 on a well-conditioned matrix, where the loss itself has
lost its digits, and far earlier on an ill-conditioned one. So the tests take gradient steps preconditioned by
the exact curvature of one side: the loss is quadratic in F for fixed G, with Hessian 2 (M * G^T G), and the
other way round. Each step needs nothing but the gradient of the objective and that (L, L) matrix.
"""

import pytest
import torch
from matrices import f64, randn, with_values

from nbsvd.objectives import Nesting, lora_evd, lora_svd

# Thousands of small steps: the run-time check of shapes would cost more than they do.
pytestmark = pytest.mark.usefixtures("unchecked")


def loss(F, G, A, nesting):
    m, n = A.shape
    weights = torch.full((n,), float(n), dtype=f64), torch.full((m,), float(m), dtype=f64)
    return lora_svd(F, G, A @ F, nesting, weights=weights)


def start(A, L):
    m, n = A.shape
    return randn(n, L, seed=1).requires_grad_(), randn(m, L, seed=2).requires_grad_()


def descend(A, nesting, steps):
    F, G = start(A, nesting.L)
    for _ in range(steps):
        for moving, other in ((F, G), (G, F)):
            (gradient,) = torch.autograd.grad(loss(F, G, A, nesting), moving)
            curvature = 2 * nesting.matrix * (other.T @ other).detach()
            moving.data -= torch.linalg.solve(curvature, gradient, left=False)
    return F.detach(), G.detach()


def lbfgs(A, nesting):
    F, G = start(A, nesting.L)
    optimizer = torch.optim.LBFGS(
        [F, G],
        max_iter=400,
        history_size=50,
        tolerance_grad=1e-12,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        value = loss(F, G, A, nesting)
        value.backward()
        return value

    optimizer.step(closure)
    return F.detach(), G.detach()


def values(F, G):
    return F.norm(dim=0) * G.norm(dim=0)


def assert_is_the_svd(F, G, A, atol):
    """Values relative to themselves; each |g_l><f_l| to the singular triple, relative to its value."""
    L = F.shape[1]
    U, s, Vh = torch.linalg.svd(A, full_matrices=False)
    torch.testing.assert_close(values(F, G) / s[:L], torch.ones(L, dtype=f64), rtol=0, atol=atol)
    for l in range(L):
        triple = torch.outer(U[:, l], Vh[l])
        torch.testing.assert_close(torch.outer(G[:, l], F[:, l]) / s[l], triple, rtol=0, atol=atol)


@pytest.mark.parametrize("kind", ["joint", "sequential"])
@pytest.mark.parametrize(("m", "n"), [(8, 5), (5, 8)])
def test_rectangular(kind, m, n):
    A = with_values([3.0, 2.2, 1.5, 0.7, 0.3], m, n)
    assert_is_the_svd(*descend(A, Nesting(kind, 3), 200), A, 1e-8)


@pytest.mark.parametrize("kind", ["joint", "sequential"])
def test_ill_conditioned(kind):
    A = with_values([1.0, 1e-1, 1e-2, 1e-3, 1e-4], 8, 6)
    assert_is_the_svd(*descend(A, Nesting(kind, 5), 100), A, 1e-8)


def test_without_nesting_only_the_truncation_is_determined():
    A = with_values([3.0, 2.2, 1.5, 0.7, 0.3], 8, 5)
    F, G = descend(A, Nesting.none(3), 100)
    U, s, Vh = torch.linalg.svd(A, full_matrices=False)
    torch.testing.assert_close(G @ F.T, U[:, :3] * s[:3] @ Vh[:3], rtol=0, atol=1e-8)
    assert (values(F, G) - s[:3]).abs().max() > 0.1


@pytest.mark.parametrize("kind", ["joint", "sequential"])
def test_a_tie_leaves_values_and_projections(kind):
    A = with_values([3.0, 2.0, 2.0, 1.0, 0.5], 8, 6)
    F, G = descend(A, Nesting(kind, 4), 200)
    U, s, Vh = torch.linalg.svd(A, full_matrices=False)
    torch.testing.assert_close(values(F, G), s[:4], rtol=0, atol=1e-8)
    f, g = F / F.norm(dim=0), G / G.norm(dim=0)
    for level in (slice(0, 1), slice(1, 3), slice(3, 4)):
        torch.testing.assert_close(f[:, level] @ f[:, level].T, Vh[level].T @ Vh[level], rtol=0, atol=1e-8)
        torch.testing.assert_close(
            g[:, level] @ g[:, level].T, U[:, level] @ U[:, level].T, rtol=0, atol=1e-8
        )


def test_a_tie_across_the_cut_leaves_a_piece_of_the_tied_subspace():
    A = with_values([3.0, 2.0, 2.0, 1.0], 7, 6)
    F, G = descend(A, Nesting.joint(2), 200)
    _, s, Vh = torch.linalg.svd(A, full_matrices=False)
    torch.testing.assert_close(values(F, G), s[:2], rtol=0, atol=1e-8)
    f = F[:, 1] / F[:, 1].norm()
    torch.testing.assert_close(Vh[1:3].T @ (Vh[1:3] @ f), f, rtol=0, atol=1e-8)


def test_lbfgs_alone_on_a_rectangular_matrix():
    A = with_values([3.0, 2.2, 1.5, 0.7, 0.3], 8, 5)
    assert_is_the_svd(*lbfgs(A, Nesting.joint(3)), A, 1e-5)


def test_rank_deficient_finds_the_values_there_are():
    """L-BFGS, then three Newton steps (the joint loss has true second derivatives) by pseudo-inverse."""
    A = with_values([2.0, 1.0], 8, 6)
    F, G = lbfgs(A, Nesting.joint(3))
    x, split = torch.cat([F.flatten(), G.flatten()]), F.numel()

    def flat(x):
        return loss(x[:split].view(6, 3), x[split:].view(8, 3), A, Nesting.joint(3))

    for _ in range(3):
        hessian = torch.func.jacrev(torch.func.grad(flat))(x)
        x = x - torch.linalg.pinv(hessian, rtol=1e-12, hermitian=True) @ torch.func.grad(flat)(x)
    found = values(x[:split].view(6, 3), x[split:].view(8, 3))
    torch.testing.assert_close(found[:2], torch.tensor([2.0, 1.0], dtype=f64), rtol=0, atol=1e-8)
    assert found[2] < 1e-2  # its loss is m_3 |f|^2 |g|^2: flat to fourth order


@pytest.mark.parametrize("balanced", [True, False])
def test_a_zero_value_is_approached_like_one_over_t_if_the_start_is_balanced(balanced):
    """Gradient flow of m |f|^2 |g|^2: |f|^2 - |g|^2 is conserved. Equal norms r: r^2 = 1/(1/r_0^2 + 4 m t).
    Otherwise the larger survives, and the smaller goes exponentially."""
    A, nesting, L = with_values([2.0, 1.0], 6, 6), Nesting.joint(3), 3
    U, s, Vh = torch.linalg.svd(A)
    norm = torch.tensor([1.0, 1.0 if balanced else 2.0], dtype=f64)
    F = torch.cat([Vh[:2].T * s[:2].sqrt(), norm[0] * Vh[2:3].T], 1)
    G = torch.cat([U[:, :2] * s[:2].sqrt(), norm[1] * U[:, 2:3]], 1)
    x, h, steps = torch.stack([F, G]), 0.1, 200 if balanced else 80

    def flow(x):
        x = x.detach().requires_grad_()
        return -torch.autograd.grad(loss(*x, A, nesting), x)[0]

    for _ in range(steps):  # Runge-Kutta of order 4
        k1 = flow(x)
        k2 = flow(x + h / 2 * k1)
        k3 = flow(x + h / 2 * k2)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + flow(x + h * k3))
    t, m = h * steps, nesting.vector[L - 1]
    torch.testing.assert_close(values(*x)[:2], s[:2], rtol=1e-10, atol=0)
    if balanced:
        torch.testing.assert_close(values(*x)[2], 1 / (1 + 4 * m * t), rtol=1e-4, atol=0)
    else:
        # With |g|^2 - |f|^2 = 3 the smaller decays at the rate 2 m |g|^2 -> 6 m.
        assert values(*x)[2] < 10 * torch.exp(-6 * m * t) < 1e-5


def eigen_descend(A, nesting, steps, step=0.03):
    F = (0.5 * randn(len(A), nesting.L, seed=3)).requires_grad_()
    weights = torch.full((len(A),), float(len(A)), dtype=f64)
    for _ in range(steps):
        value = lora_evd(F, A @ F, nesting, weights=weights, moment="plain")
        F.data -= step * torch.autograd.grad(value, F)[0]
    return F.detach()


def projections(F):
    return F.T[:, :, None] * F.T[:, None, :]


@pytest.mark.parametrize("kind", ["joint", "sequential"])
def test_eigenvectors_by_plain_gradient_descent(kind):
    Q = torch.linalg.qr(randn(5, 5)).Q
    eigenvalues = torch.tensor([3.0, 1.5, -1.0, -2.0, -4.0], dtype=f64)
    F = eigen_descend(Q * eigenvalues @ Q.T, Nesting(kind, 2), 900)
    expected = eigenvalues[:2, None, None] * projections(Q[:, :2])
    torch.testing.assert_close(projections(F), expected, rtol=0, atol=1e-8)


def test_a_component_past_the_positive_eigenvalues_goes_to_zero_slowly():
    """The deflated operator is zero on the eigenvectors found, so |f_3|^2 goes like 1/(8 m t) inside their
    span, not exponentially as its negative eigenvalue might suggest. Under joint nesting it holds back the
    others at the same rate; sequentially they don't feel it."""
    Q = torch.linalg.qr(randn(5, 5)).Q
    eigenvalues = torch.tensor([3.0, 1.5, -1.0, -2.0, -4.0], dtype=f64)
    A, t = Q * eigenvalues @ Q.T, 0.03 * 1000
    F = eigen_descend(A, Nesting.sequential(3), 1000)
    expected = eigenvalues[:2, None, None] * projections(Q[:, :2])
    torch.testing.assert_close(projections(F[:, :2]), expected, rtol=0, atol=1e-8)
    assert F[:, 2].square().sum().item() == pytest.approx(1 / (8 * t), rel=0.1)
    assert (Q[:, 2:].T @ F[:, 2]).abs().max() < 1e-8
    F = eigen_descend(A, Nesting.joint(3), 1000)
    assert 1e-4 < (projections(F[:, :2]) - expected).abs().max() < 0.1
