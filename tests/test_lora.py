"""LoRA on matrices, where sums are exact: values, gradients, invariances, and bad input.

Points are the indices of a matrix and weigh 1 each, so the mean convention's weight is n everywhere. The
oracles are written from the definition, the norm of A - G F^T, and share no code with the package.
"""

import pytest
import torch

from nbsvd._errors import ArgumentError
from nbsvd.objectives import Nesting, lora_evd, lora_svd

KINDS = ["joint", "sequential", "none"]


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def symmetric(n, seed=0):
    A = randn(n, n, seed=seed)
    return A + A.T


def ones(n):
    """Weights of a sum over n points."""
    return torch.full((n,), float(n), dtype=torch.float64)


def evd(F, A, nesting, **options):
    return lora_evd(F, A @ F, nesting, weights=ones(len(F)), moment="plain", **options)


def svd(F, G, A, nesting):
    return lora_svd(F, G, A @ F, nesting, weights=(ones(len(F)), ones(len(G))))


def distance(A, G, F):
    return (A - G @ F.T).square().sum() - A.square().sum()


def dense_loss(A, G, F, nesting):
    """Sum over levels of w_l |A - G_l F_l^T|^2 - |A|^2; the last level alone unless the nesting is joint."""
    L = F.shape[1]
    if nesting.kind != "joint":
        return distance(A, G, F)
    return sum(nesting.weights[l] * distance(A, G[:, : l + 1], F[:, : l + 1]) for l in range(L))


def dense_gradient(A, G, F, nesting):
    """Gradients in G and F; for sequential, column l from the loss of the first l with those below fixed."""

    def of(loss, *variables):
        variables = [v.detach().clone().requires_grad_() for v in variables]
        return torch.autograd.grad(loss(*variables), variables)

    if nesting.kind != "sequential":
        return of(lambda G, F: dense_loss(A, G, F, nesting), G, F)
    levels = [of(lambda G, F: distance(A, G, F), G[:, : l + 1], F[:, : l + 1]) for l in range(F.shape[1])]
    return tuple(torch.stack([level[side][:, -1] for level in levels], 1) for side in (0, 1))


@pytest.mark.parametrize("L", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_evd_value_and_gradient_on_a_symmetric_matrix(kind, L):
    A, F = symmetric(6), randn(6, L, seed=1).requires_grad_()
    nesting = Nesting(kind, L)
    loss = evd(F, A, nesting)
    (gradient,) = torch.autograd.grad(loss, F)
    # f = g: the derivative along F is the sum of both sides.
    G, F = F.detach(), F.detach()
    torch.testing.assert_close(loss.detach(), dense_loss(A, G, F, nesting), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, sum(dense_gradient(A, G, F, nesting)), rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("L", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_svd_value_and_gradient_on_a_matrix(kind, L):
    A = randn(7, 5)
    F, G = randn(5, L, seed=1).requires_grad_(), randn(7, L, seed=2).requires_grad_()
    nesting = Nesting(kind, L)
    loss = svd(F, G, A, nesting)
    gradient = torch.autograd.grad(loss, (G, F))
    torch.testing.assert_close(loss.detach(), dense_loss(A, G, F, nesting).detach(), rtol=1e-12, atol=1e-12)
    for got, expected in zip(gradient, dense_gradient(A, G, F, nesting), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_evd_gradient_with_respect_to_parameters_of_the_functions(kind):
    A, X, theta = symmetric(6), randn(6, 4, seed=1), randn(4, 3, seed=2).requires_grad_()
    nesting = Nesting(kind, 3)
    F = torch.tanh(X @ theta)
    (gradient,) = torch.autograd.grad(evd(F, A, nesting), theta, retain_graph=True)
    field = sum(dense_gradient(A, F.detach(), F.detach(), nesting))
    (expected,) = torch.autograd.grad(F, theta, grad_outputs=field)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("moment", ["u", "split", "plain"])
def test_evd_gradient_of_the_quadratic_part_is_its_derivative(moment):
    """With Tf = 0 the rest is symmetric: the surrogate must agree with plain autograd for every estimator."""
    F, w = randn(7, 3).requires_grad_(), 0.5 + randn(7, seed=1).abs()
    (gradient,) = torch.autograd.grad(
        lora_evd(F, torch.zeros_like(F), Nesting.joint(3), weights=w, moment=moment), F
    )
    outer = w[:, None, None] * F[:, :, None] * F[:, None, :]
    pairs = torch.einsum("bil,cil->bcil", outer, outer)
    if moment == "u":
        square = (pairs.sum((0, 1)) - pairs.diagonal().sum(-1)) / (7 * 6)
    elif moment == "split":
        square = outer[:3].mean(0) * outer[3:].mean(0)
    else:
        square = pairs.mean((0, 1))
    (expected,) = torch.autograd.grad((Nesting.joint(3).matrix * square).sum(), F)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)


def test_value_at_the_exact_eigenvectors():
    values = torch.tensor([3.0, 2.0, -1.0, -2.0], dtype=torch.float64)
    Q = torch.linalg.qr(randn(4, 4)).Q
    F = (Q * values.clamp(min=0).sqrt())[:, :3]
    best = values[:3].clamp(min=0).square()
    for nesting in (Nesting.joint(3, [0.2, 0.5, 0.3]), Nesting.sequential(3), Nesting.none(3)):
        F = F.detach().requires_grad_()
        loss = evd(F, Q * values @ Q.T, nesting)
        expected = -(nesting.vector * best).sum()
        torch.testing.assert_close(loss.detach(), expected, rtol=1e-13, atol=0)
        (gradient,) = torch.autograd.grad(loss, F)
        assert gradient.abs().max() < 1e-13


def test_value_at_the_exact_singular_vectors():
    A = randn(6, 4)
    U, s, Vh = torch.linalg.svd(A, full_matrices=False)
    scale = torch.tensor([0.5, 2.0, 7.0], dtype=torch.float64)  # may move between f and g
    F, G = Vh.T[:, :3] * s[:3].sqrt() * scale, U[:, :3] * s[:3].sqrt() / scale
    for nesting in (Nesting.joint(3), Nesting.sequential(3), Nesting.none(3)):
        expected = -(nesting.vector * s[:3].square()).sum()
        torch.testing.assert_close(svd(F, G, A, nesting), expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("kind", ["joint", "none"])
def test_no_value_is_below_the_optimum(kind):
    A = symmetric(5)
    nesting = Nesting(kind, 3)
    best = torch.linalg.eigvalsh(A).flip(0)[:3].clamp(min=0).square()
    floor = -(nesting.vector * best).sum()
    assert all(
        evd(scale * randn(5, 3, seed=s), A, nesting) > floor for s in range(20) for scale in (0.3, 1.0)
    )


def test_svd_without_nesting_allows_every_change_of_basis_and_joint_only_scales():
    A, F, G, Q = randn(6, 5), randn(5, 3, seed=1), randn(6, 3, seed=2), randn(3, 3, seed=3)
    changed = F @ Q, G @ torch.linalg.inv(Q).T
    torch.testing.assert_close(svd(*changed, A, Nesting.none(3)), svd(F, G, A, Nesting.none(3)))
    assert (svd(*changed, A, Nesting.joint(3)) - svd(F, G, A, Nesting.joint(3))).abs() > 0.1
    c = torch.tensor([2.0, -3.0, 0.1], dtype=torch.float64)
    torch.testing.assert_close(svd(F * c, G / c, A, Nesting.joint(3)), svd(F, G, A, Nesting.joint(3)))


def test_evd_without_nesting_allows_only_rotations():
    A, F, Q = symmetric(5), randn(5, 3, seed=1), torch.linalg.qr(randn(3, 3, seed=2)).Q
    torch.testing.assert_close(evd(F @ Q, A, Nesting.none(3)), evd(F, A, Nesting.none(3)))
    assert (evd(F @ (2 * Q), A, Nesting.none(3)) - evd(F, A, Nesting.none(3))).abs() > 0.1


@pytest.mark.parametrize(("kind", "is_gradient"), [("joint", True), ("none", True), ("sequential", False)])
def test_the_sequential_field_is_not_a_gradient(kind, is_gradient):
    """A gradient field has a symmetric Jacobian. Here by central differences of the field."""
    A, x = symmetric(4), randn(8, seed=1)

    def field(x):
        F = x.view(4, 2).clone().requires_grad_()
        return torch.autograd.grad(evd(F, A, Nesting(kind, 2)), F)[0].flatten()

    h = 1e-5
    steps = h * torch.eye(8, dtype=torch.float64)
    jacobian = torch.stack([(field(x + e) - field(x - e)) / (2 * h) for e in steps], 1)
    asymmetry = (jacobian - jacobian.T).abs().max()
    assert asymmetry < 1e-7 if is_gradient else asymmetry > 1.0


def test_tf_is_detached_for_evd_and_differentiated_for_svd():
    F, G, A = randn(5, 2).requires_grad_(), randn(5, 2, seed=1), symmetric(5)
    Tf = (A @ F).detach().requires_grad_()
    loss = lora_evd(F, Tf, Nesting.joint(2), weights=ones(5), moment="plain")
    assert torch.autograd.grad(loss, Tf, allow_unused=True) == (None,)
    (through,) = torch.autograd.grad(lora_svd(F, G, Tf, Nesting.joint(2), weights=ones(5)), Tf)
    torch.testing.assert_close(through, -2 * Nesting.joint(2).vector * G)


@pytest.mark.parametrize("kind", KINDS)
def test_scaling_the_loss_scales_the_gradient(kind):
    A = symmetric(5)
    gradients = []
    for scale in (1.0, 7.0):
        F = randn(5, 2, seed=1).requires_grad_()
        (scale * evd(F, A, Nesting(kind, 2))).backward()
        gradients.append(F.grad)
    torch.testing.assert_close(gradients[1], 7 * gradients[0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_exact_gram_matrix_gives_the_exact_field(kind):
    A, F = symmetric(5), randn(5, 3, seed=1).requires_grad_()
    nesting = Nesting(kind, 3)
    plain, known = evd(F, A, nesting), evd(F, A, nesting, gram=(F.T @ F).detach())
    torch.testing.assert_close(known, plain)
    torch.testing.assert_close(torch.autograd.grad(known, F), torch.autograd.grad(plain, F))


def test_a_known_gram_matrix_needs_only_one_point():
    f = randn(1, 2).requires_grad_()
    lora_evd(f, f.detach(), Nesting.joint(2), gram=torch.eye(2, dtype=torch.float64)).backward()
    assert f.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("moment", ["u", "split", "plain"])
def test_every_float_dtype_keeps_its_own(dtype, moment):
    f, g = randn(256, 3).to(dtype).requires_grad_(), randn(256, 3, seed=1).to(dtype)
    w = torch.ones(256, dtype=torch.float64)  # taken to the dtype of the functions
    for loss in (
        lora_evd(f, 2 * f, Nesting.joint(3), weights=w, moment=moment),
        lora_svd(f, g, f, Nesting.sequential(3), weights=w, paired=True, moment=moment),
    ):
        assert loss.dtype == dtype
        assert torch.autograd.grad(loss, f, retain_graph=True)[0].isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_function_transforms_agree_with_autograd(kind):
    A, F = symmetric(6), randn(6, 3, seed=1).requires_grad_()

    def loss(F):
        return lora_evd(F, A @ F, Nesting(kind, 3), weights=ones(6))

    (expected,) = torch.autograd.grad(loss(F), F)
    batch = torch.stack([F.detach(), 2 * F.detach()])
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(batch)[0], expected)


def test_compiled_code_agrees_with_eager_for_every_batch_size(unchecked):
    nesting = Nesting.sequential(3)

    def loss(f, g, Tf, w):
        return lora_evd(f, Tf, nesting, weights=w) + lora_svd(f, g, Tf, nesting, paired=True)

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True, dynamic=True)
    for size in (8, 11):
        w = torch.ones(size, dtype=torch.float64)
        inputs = [randn(size, 3, seed=s).requires_grad_() for s in range(3)]
        expected, got = (torch.autograd.grad(function(*inputs, w), inputs) for function in (loss, compiled))
        torch.testing.assert_close(got, expected)


def bad(call, argument, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        call()
    assert caught.value.argument == argument


def test_bad_input_of_evd(unchecked):
    f, joint = randn(4, 2), Nesting.joint(2)
    bad(lambda: lora_evd(f, f[:, :1], joint), "Tf", r"shape \(4, 1\); expected shape \(4, 2\)")
    bad(lambda: lora_evd(f[:, 0], f[:, 0], Nesting.joint(1)), "f", r"f\[:, None\]")
    bad(lambda: lora_evd(f[:, :1], f[:, 0], Nesting.joint(1)), "Tf", r"got shape \(4,\)")
    bad(lambda: lora_evd(f[:0], f[:0], joint), "f", "neither zero")
    bad(lambda: lora_evd(f.to(torch.complex128), f, joint), "f", "real")
    bad(lambda: lora_evd(f.numpy(), f, joint), "f", "as_tensor")
    bad(lambda: lora_evd(f, f, joint, weights=[1.0] * 4), "weights", "as_tensor")
    bad(lambda: lora_evd(f, f, "joint"), "nesting", r"Nesting\('joint', 2\)")
    bad(lambda: lora_evd(f, f, Nesting.joint(3)), "nesting", "L = 3")
    bad(lambda: lora_evd(f, f, joint, moment="ustat"), "moment", "one of")
    bad(lambda: lora_evd(f[:1], f[:1], joint), "moment", "batch of 1")
    bad(lambda: lora_evd(f[:1], f[:1], joint, moment="split"), "moment", "batch of 1")
    bad(lambda: lora_evd(f, f, joint, weights=torch.ones(3)), "weights", r"expected shape \(4,\)")
    bad(lambda: lora_evd(f, f, joint, weights=torch.ones(4, 1)), "weights", r"expected shape \(4,\)")
    for value in (0.0, -1.0, float("nan"), float("inf")):
        w = torch.tensor([1.0, 1.0, 1.0, value])
        bad(lambda w=w: lora_evd(f, f, joint, weights=w), "weights", "positive finite")
    bad(lambda: lora_evd(f, f, joint, gram=torch.eye(3)), "gram", r"\(2, 2\)")
    assert lora_evd(f[:1], f[:1], joint, moment="plain").isfinite()


def test_bad_input_of_svd(unchecked):
    f, g, joint = randn(4, 2), randn(3, 2, seed=1), Nesting.joint(2)
    bad(lambda: lora_svd(f, g, f, joint), "Tf", "that of g")
    bad(lambda: lora_svd(f, g[:, :1], g[:, :1], joint), "nesting", r"g of shape \(3, 1\)")
    bad(lambda: lora_svd(f, g, g, joint, paired=True), "paired", "as many x as y")
    bad(lambda: lora_svd(f[:1], g[:1], g[:1], joint, paired=True), "moment", "batch of 1")
    bad(lambda: lora_svd(f, g, g, joint, weights=torch.ones(4)), "weights", r"\(wx, wy\)")
    bad(lambda: lora_svd(f, g, g, joint, weights=(None, torch.ones(4))), "weights[1]", r"\(3,\)")
    assert lora_svd(f[:1], g[:1], g[:1], joint).isfinite()
