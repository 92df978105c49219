"""Orbital minimisation on matrices against its definition, and its bias on batches."""

import pytest
import torch

from nbsvd._errors import ArgumentError
from nbsvd.objectives import Nesting, omm

KINDS = ["joint", "sequential", "none"]
f64 = torch.float64


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=f64)


def positive(n, seed=0):
    A = randn(n, n, seed=seed)
    return A @ A.T / n


def on_indices(F, A, nesting, **options):
    """Each point is an index of the matrix and weighs 1, so n in the mean convention."""
    return omm(F, A @ F, nesting, weights=torch.full((len(F),), float(len(F)), dtype=f64), **options)


def definition(F, A, p):
    rest = torch.eye(len(A), dtype=f64) - F @ F.T
    return torch.trace(torch.linalg.matrix_power(rest, 2 * p) @ A) - torch.trace(A)


def dense_value(F, A, nesting, p):
    if nesting.kind != "joint":
        return definition(F, A, p)
    return sum(w * definition(F[:, : l + 1], A, p) for l, w in enumerate(nesting.weights))


def dense_gradient(F, A, nesting, p):
    def of(loss, F):
        F = F.detach().clone().requires_grad_()
        return torch.autograd.grad(loss(F), F)[0]

    if nesting.kind != "sequential":
        return of(lambda F: dense_value(F, A, nesting, p), F)
    return torch.stack(
        [of(lambda F: definition(F, A, p), F[:, : l + 1])[:, -1] for l in range(F.shape[1])], 1
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("L", [1, 3])
def test_value_and_gradient_on_a_matrix(kind, p, L):
    A, F = positive(6), 0.5 * randn(6, L, seed=1).requires_grad_()
    nesting = Nesting(kind, L)
    loss = on_indices(F, A, nesting, p=p)
    (gradient,) = torch.autograd.grad(loss, F)
    torch.testing.assert_close(loss, dense_value(F, A, nesting, p), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, dense_gradient(F, A, nesting, p), rtol=1e-11, atol=1e-11)


def test_true_is_not_a_number_to_invert_at():
    with pytest.raises(ArgumentError, match="invert=True is for"):
        omm(torch.ones(3, 1), torch.ones(3, 1), Nesting.joint(1), invert=True)


VALUES = torch.tensor([3.0, 2.0, 1.0, 0.3, 0.0], dtype=f64)


@pytest.mark.parametrize("kind", KINDS)
def test_descent_finds_orthonormal_eigenvectors(kind):
    """p = 1, plain gradient descent from a random start."""
    Q = torch.linalg.qr(randn(5, 5)).Q
    A, nesting = Q * VALUES @ Q.T, Nesting(kind, 2)
    F = (0.3 * randn(5, 2, seed=1)).requires_grad_()
    for _ in range(600):
        (gradient,) = torch.autograd.grad(on_indices(F, A, nesting), F)
        F.data -= 0.08 * gradient
    F = F.detach()
    torch.testing.assert_close(F @ F.T, Q[:, :2] @ Q[:, :2].T, rtol=0, atol=1e-8)
    if kind != "none":
        torch.testing.assert_close((Q[:, :2].T @ F).abs(), torch.eye(2, dtype=f64), rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("p", [1, 2, 3])
def test_the_optimum_is_minus_the_sum_of_eigenvalues(kind, p):
    """For p > 1 the minimum is flat to order 2p in the norms and descent is slow: value and bound only."""
    Q = torch.linalg.qr(randn(5, 5)).Q
    A, nesting = Q * VALUES @ Q.T, Nesting(kind, 3)
    best = -(nesting.vector * VALUES[:3]).sum()
    F = Q[:, :3].clone().requires_grad_()
    loss = on_indices(F, A, nesting, p=p)
    torch.testing.assert_close(loss.detach(), best, rtol=1e-12, atol=0)
    assert torch.autograd.grad(loss, F)[0].abs().max() < 1e-12
    if kind != "sequential":
        near = (on_indices(Q[:, :3] + 0.3 * randn(5, 3, seed=s), A, nesting, p=p) for s in range(20))
        assert all(value > best for value in near)


def test_a_negative_value_leaves_no_lower_bound():
    A, f = torch.diag(torch.tensor([1.0, -0.5], dtype=f64)), torch.tensor([[0.0], [1.0]], dtype=f64)
    assert on_indices(1000 * f, A, Nesting.joint(1)) < -1e5


def all_batches(f, A, p, size, **options):
    """Exact mean of value and gradient over all iid batches of three states from the law p (3,)."""
    batches = torch.cartesian_prod(*[torch.arange(3)] * size)

    def estimate(batch):
        def loss(f):
            return omm(f[batch], (A @ f)[batch], weights=(1 / p)[batch], **options)

        return torch.func.grad_and_value(loss)(f)

    chance = p[batches].prod(1)
    return [torch.tensordot(chance, part, 1) for part in torch.func.vmap(estimate)(batches)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("moment", ["u", "split"])
def test_u_and_split_are_unbiased_for_p_1(kind, moment):
    A, f, p, nesting = (
        positive(3),
        randn(3, 2, seed=1),
        torch.tensor([0.2, 0.5, 0.3], dtype=f64),
        Nesting(kind, 2),
    )
    gradient, value = all_batches(f, A, p, 3, nesting=nesting, moment=moment)
    torch.testing.assert_close(value, dense_value(f, A, nesting, 1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, dense_gradient(f, A, nesting, 1), rtol=1e-12, atol=1e-11)


def test_plain_is_biased_by_the_covariance_over_b():
    A, f, p, nesting = (
        positive(3),
        randn(3, 2, seed=1),
        torch.tensor([0.2, 0.5, 0.3], dtype=f64),
        Nesting.joint(2),
    )
    _, value = all_batches(f, A, p, 3, nesting=nesting)
    Tf = A @ f
    s, r = (torch.einsum("b,bi,bl->bil", 1 / p, left, f) for left in (f, Tf))
    covariance = torch.tensordot(p, s * r, 1) - torch.tensordot(p, s, 1) * torch.tensordot(p, r, 1)
    bias = (nesting.matrix * covariance).sum() / 3
    assert bias.abs() > 0.05
    torch.testing.assert_close(value, dense_value(f, A, nesting, 1) + bias, rtol=1e-12, atol=1e-12)


INDEFINITE = torch.tensor([2.0, 1.5, 0.4, -0.5, -3.0], dtype=f64)
C = 2.6  # above all of them


def indefinite():
    Q = torch.linalg.qr(randn(5, 5)).Q
    return Q * INDEFINITE @ Q.T, Q


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("L", [1, 3])
def test_the_inverse_is_the_objective_of_the_dense_inverse(kind, p, L):
    """With c - T = R^T R, in the coordinates y = R f: there the inner product is the plain one."""
    A, F, nesting = indefinite()[0], (0.4 * randn(5, L, seed=1)).requires_grad_(), Nesting(kind, L)
    R = torch.linalg.cholesky(C * torch.eye(5, dtype=f64) - A).mT
    K = R @ torch.linalg.inv(C * torch.eye(5, dtype=f64) - A) @ torch.linalg.inv(R)
    Y = R @ F.detach()
    loss = on_indices(F, A, nesting, p=p, invert=C)
    (gradient,) = torch.autograd.grad(loss, F)
    torch.testing.assert_close(loss.detach(), dense_value(Y, K, nesting, p), rtol=1e-11, atol=1e-11)
    expected = R.mT @ dense_gradient(Y, (K + K.mT) / 2, nesting, p)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("p", [1, 2])
def test_the_optimum_of_the_inverse(kind, p):
    """-sum m_l / (c - lambda_l), at |f_l|^2 = 1 / (c - lambda_l)."""
    (A, Q), nesting = indefinite(), Nesting(kind, 2)
    F = (Q[:, :2] / (C - INDEFINITE[:2]).sqrt()).requires_grad_()
    loss, best = on_indices(F, A, nesting, p=p, invert=C), -(nesting.vector / (C - INDEFINITE[:2])).sum()
    torch.testing.assert_close(loss.detach(), best, rtol=1e-12, atol=0)
    assert torch.autograd.grad(loss, F)[0].abs().max() < 1e-12
    if kind != "sequential":
        near = (
            on_indices(F.detach() + 0.2 * randn(5, 2, seed=s), A, nesting, p=p, invert=C) for s in range(20)
        )
        assert all(value > best for value in near)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", ["joint", "sequential"])
def test_descent_on_the_inverse_where_the_objective_itself_diverges(kind):
    """From a start with some of the lowest function in it; without that the pull is back to zero."""
    (A, Q), nesting, ends = indefinite(), Nesting(kind, 2), []
    for c in (None, C):
        F = (0.3 * randn(5, 2, seed=1) + 1.2 * Q[:, [3, 4]]).requires_grad_()
        for _ in range(1500):
            (gradient,) = torch.autograd.grad(on_indices(F, A, nesting, invert=c), F)
            F.data -= 0.04 * gradient
            if not F.abs().max() < 1e3:
                break
        ends.append(F.detach())
    assert not ends[0].abs().max() < 1e3
    found = Q.T @ ends[1] * (C - INDEFINITE[:2]).sqrt()
    torch.testing.assert_close(found.abs(), torch.eye(5, 2, dtype=f64), rtol=0, atol=1e-3)


@pytest.mark.parametrize("moment", ["u", "split"])
def test_the_inverse_is_unbiased_too(moment):
    A, f, p, nesting = (
        positive(3),
        randn(3, 2, seed=1),
        torch.tensor([0.2, 0.5, 0.3], dtype=f64),
        Nesting.joint(2),
    )
    F = f.clone().requires_grad_()
    exact = on_indices(F, A, nesting, invert=4.0)
    slope = torch.autograd.grad(exact, F)[0]
    for used in (moment, "plain"):
        gradient, value = all_batches(f, A, p, 3, nesting=nesting, moment=used, invert=4.0)
        off = max(float((value - exact.detach()).abs()), float((gradient - slope).abs().max()))
        assert off < 1e-10 if used == moment else off > 0.1


@pytest.mark.parametrize("p", [1, 2])
def test_it_can_be_scaled_and_keeps_the_dtype(p):
    f = randn(16, 2).float().requires_grad_()
    loss = omm(f, 2 * f, Nesting.joint(2), p=p)
    assert loss.dtype == torch.float32
    once = torch.autograd.grad(loss, f, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(3 * loss, f)[0], 3 * once)


@pytest.mark.parametrize(("p", "invert"), [(1, None), (2, None), (1, 3.0), (2, 3.0)])
def test_compiled_code_agrees_with_eager(p, invert, unchecked):
    f, nesting = randn(8, 3).requires_grad_(), Nesting.joint(3)

    def loss(f):
        return omm(f, 2 * f, nesting, p=p, invert=invert)

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    expected, got = (torch.autograd.grad(call(f), f)[0] for call in (loss, compiled))
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(
    ("call", "argument", "message"),
    [
        (lambda f: omm(f, f[:, :1], Nesting.joint(2)), "Tf", "that of f"),
        (lambda f: omm(f, f, Nesting.joint(3)), "nesting", "L = 3"),
        (lambda f: omm(f, f, Nesting.joint(2), p=0), "p", "at least 1"),
        (lambda f: omm(f, f, Nesting.joint(2), p=1.5), "p", "at least 1"),
        (lambda f: omm(f, f, Nesting.joint(2), p=2, moment="u"), "moment", "'plain' for p > 1"),
        (lambda f: omm(f, f, Nesting.joint(2), moment="upstat"), "moment", "one of"),
        (lambda f: omm(f[:1], f[:1], Nesting.joint(2), moment="u"), "moment", "batch of 1"),
        (lambda f: omm(f, f, Nesting.joint(2), invert="yes"), "invert", "a number above all values"),
        (lambda f: omm(f, f, Nesting.joint(2), invert=float("nan")), "invert", "a number above all values"),
        (lambda f: omm(f, f, Nesting.joint(2), weights=torch.zeros(4)), "weights", "positive finite"),
    ],
)
def test_bad_input_is_refused(call, argument, message, unchecked):
    with pytest.raises(ArgumentError, match=message) as caught:
        call(randn(4, 2))
    assert caught.value.argument == argument
