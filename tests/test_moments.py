"""Which estimator is unbiased for what.

Two kinds of proof. On a few states every batch can be listed, so the expectation of value and gradient is
an exact sum: equality to rounding, and no chance in it. On continuous laws the mean over many batches is
compared by a z-test at 5 standard errors: with a fixed seed the tests pass or fail for good, and over seeds
each number compared would raise a false alarm with probability 5.7e-7 (29 numbers: 1.7e-5 in all).
"""

import math

import pytest
import torch
from torch.func import grad_and_value, vmap

from nbsvd._errors import ArgumentError
from nbsvd.objectives import Nesting, choose, lora_evd, lora_svd
from nbsvd.objectives.moments import inner, product

KINDS = ["joint", "sequential", "none"]
f64 = torch.float64


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=f64)


def law(*shape, seed):
    p = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=f64) + 0.2
    return p / p.sum()


def expectation(estimate, p, size):
    """Exact mean of ``estimate(indices)``, a tree of tensors, over iid batches from the law p (states,)."""
    every = torch.cartesian_prod(*[torch.arange(len(p))] * size).reshape(-1, size)
    chance = p[every].prod(1)
    outputs, tree = torch.utils._pytree.tree_flatten(vmap(estimate)(every))
    return torch.utils._pytree.tree_unflatten([torch.tensordot(chance, out, 1) for out in outputs], tree)


def field(loss, nesting):
    """Exact gradient of ``loss(*functions, nesting)``; sequential: column l from the loss of the first l."""
    if nesting.kind != "sequential":
        return lambda *F: torch.func.grad(lambda F: loss(*F, nesting))(F)

    def columns(*F):
        levels = [
            torch.func.grad(lambda F, l=l: loss(*F, Nesting.none(l + 1)))(tuple(X[:, : l + 1] for X in F))
            for l in range(nesting.L)
        ]
        return tuple(torch.stack([level[i][:, -1] for level in levels], 1) for i in range(len(F)))

    return columns


def svd_loss(A, mu, nu):
    """Exact loss of <g|Tf> = g^T A f with measures mu (x) and nu (y), from norms."""
    B = A / torch.sqrt(nu[:, None] * mu[None, :])

    def loss(f, g, nesting):
        F, G = mu.sqrt()[:, None] * f, nu.sqrt()[:, None] * g
        weights = nesting.weights if nesting.kind == "joint" else [0.0] * (nesting.L - 1) + [1.0]
        parts = (G[:, : l + 1] @ F[:, : l + 1].T for l in range(nesting.L))
        levels = ((B - P).square().sum() - B.square().sum() for P in parts)
        return sum(w * level for w, level in zip(weights, levels, strict=True))

    return loss


class FourStates:
    """T = diag(1/mu) K is self-adjoint for <a|b> = sum mu a b; points are sampled from p, so w = mu / p."""

    mu, p = torch.tensor([0.7, 1.5, 0.4, 1.1], dtype=f64), law(4, seed=1)
    K = randn(4, 4) + randn(4, 4).T
    w = mu / p

    @classmethod
    def T(cls, f):
        return cls.K @ f / cls.mu[:, None]

    @classmethod
    def loss(cls, f, nesting):
        return svd_loss(cls.K, cls.mu, cls.mu)(f, f, nesting)

    @classmethod
    def estimate(cls, f, nesting, moment, size, gram=None):
        def loss(f, batch):
            return lora_evd(
                f[batch], cls.T(f)[batch], nesting, weights=cls.w[batch], moment=moment, gram=gram
            )

        return expectation(lambda batch: grad_and_value(loss)(f, batch), cls.p, size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("moment", "size"), [("u", 2), ("u", 3), ("split", 2), ("split", 3), ("split", 4)])
def test_evd_value_and_gradient_are_unbiased_over_all_batches(kind, moment, size):
    f, nesting = randn(4, 3, seed=2), Nesting(kind, 3)
    gradient, value = FourStates.estimate(f, nesting, moment, size)
    torch.testing.assert_close(value, FourStates.loss(f, nesting), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, field(FourStates.loss, nesting)(f)[0], rtol=1e-12, atol=1e-11)


def test_evd_plain_is_biased_by_the_variance_over_b():
    f, nesting = randn(4, 3, seed=2), Nesting.joint(3)
    _, value = FourStates.estimate(f, nesting, "plain", 3)
    products = FourStates.w[:, None, None] * f[:, :, None] * f[:, None, :]
    mean = torch.tensordot(FourStates.p, products, 1)
    variance = torch.tensordot(FourStates.p, (products - mean).square(), 1)
    bias = (nesting.matrix * variance).sum() / 3
    assert bias > 0.1
    torch.testing.assert_close(value, FourStates.loss(f, nesting) + bias, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_evd_with_an_independent_gram_matrix_is_unbiased_even_from_one_point(kind):
    f, nesting = randn(4, 3, seed=2), Nesting(kind, 3)
    gram = f.T @ (FourStates.mu[:, None] * f)
    gradient, value = FourStates.estimate(f, nesting, "u", 1, gram=gram)
    torch.testing.assert_close(value, FourStates.loss(f, nesting), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, field(FourStates.loss, nesting)(f)[0], rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
def test_svd_of_a_kernel_from_independent_batches_is_unbiased(kind):
    """Tf at y is itself a mean over the x batch that also estimates the Gram matrix of f."""
    k, p, q = randn(3, 3), law(3, seed=1), law(3, seed=2)
    mu, nu = torch.tensor([0.5, 1.2, 0.8], dtype=f64), torch.tensor([1.1, 0.6, 0.9], dtype=f64)
    f, g, nesting = randn(3, 2, seed=3), randn(3, 2, seed=4), Nesting(kind, 2)

    def estimate(xy):
        x, y = xy // 3, xy % 3
        wx, wy = mu[x] / p[x], nu[y] / q[y]

        def loss(fg):
            fx, gy = fg[0][x], fg[1][y]
            Tf = k[y[:, None], x[None, :]] @ (wx[:, None] * fx) / len(x)
            return lora_svd(fx, gy, Tf, nesting, weights=(wx, wy))

        return grad_and_value(loss)((f, g))

    gradient, value = expectation(estimate, torch.outer(p, q).flatten(), 2)
    exact = svd_loss(nu[:, None] * k * mu, mu, nu)
    torch.testing.assert_close(value, exact(f, g, nesting), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, field(exact, nesting)(f, g), rtol=1e-12, atol=1e-11)


def paired(kind, moment, size):
    """Conditional expectation from pairs of law J, sampled from another law Q with weights J / Q."""
    J, Q = law(3, 2, seed=1), law(3, 2, seed=2)  # (y, x)
    f, g, nesting = randn(2, 2, seed=3), randn(3, 2, seed=4), Nesting(kind, 2)

    def estimate(pairs):
        y, x = pairs // 2, pairs % 2
        w = (J / Q)[y, x]

        def loss(fg):
            fx, gy = fg[0][x], fg[1][y]
            return lora_svd(fx, gy, fx, nesting, weights=w, paired=True, moment=moment)

        return grad_and_value(loss)((f, g))

    return J, Q, f, g, nesting, *expectation(estimate, Q.flatten(), size)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("moment", "size"), [("u", 2), ("u", 3), ("split", 2), ("split", 3)])
def test_svd_from_pairs_is_unbiased_over_all_batches(kind, moment, size):
    J, _, f, g, nesting, gradient, value = paired(kind, moment, size)
    exact = svd_loss(J, J.sum(0), J.sum(1))
    torch.testing.assert_close(value, exact(f, g, nesting), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, field(exact, nesting)(f, g), rtol=1e-12, atol=1e-11)


def test_svd_plain_from_pairs_is_biased_by_the_covariance_over_b():
    J, Q, f, g, nesting, _, value = paired("joint", "plain", 3)
    w = J / Q
    s = w[:, :, None, None] * (f[:, :, None] * f[:, None, :])[None]
    r = w[:, :, None, None] * (g[:, :, None] * g[:, None, :])[:, None]
    s, r = s.flatten(0, 1), r.flatten(0, 1)
    mean = torch.tensordot(Q.flatten(), s, 1) * torch.tensordot(Q.flatten(), r, 1)
    covariance = torch.tensordot(Q.flatten(), s * r, 1) - mean
    bias = (nesting.matrix * covariance).sum() / 3
    assert bias.abs() > 0.03
    exact = svd_loss(J, J.sum(0), J.sum(1))(f, g, nesting)
    torch.testing.assert_close(value, exact + bias, rtol=1e-12, atol=1e-12)


def hermite(x):
    """Probabilists' Hermite polynomials 0..2; under N(0, 1) orthogonal, of squared norms 1, 1, 2."""
    return torch.stack([torch.ones_like(x), x, x**2 - 1], -1)


NORMS = torch.tensor([1.0, 1.0, 2.0], dtype=f64)
RHO = torch.tensor([1.0, 0.6, 0.36], dtype=f64)  # the Ornstein-Uhlenbeck semigroup, or the Gaussian pair


def hermite_loss(a, b, nesting):
    """Exact loss for f = hermite @ a, g = hermite @ b and T He_n = rho^n He_n."""
    return svd_loss(torch.diag(RHO * NORMS), NORMS, NORMS)(a, b, nesting)


def z_scores(samples, exact):
    """(R, ...) samples against (...): how many standard errors the mean is off."""
    error = samples.std(0) / math.sqrt(len(samples))
    return (samples.mean(0) - exact) / error


def ornstein_uhlenbeck(moment, size, runs, generator):
    """Gradients and values over many batches: reference N(0, 1), points from N(0, 1.4^2)."""
    theta, nesting, scale = randn(3, 2, seed=5), Nesting.joint(2), 1.4
    x = scale * torch.randn(runs, size, generator=generator, dtype=f64)
    w = scale * torch.exp(-0.5 * x**2 * (1 - scale**-2))

    def loss(theta, x, w):
        h = hermite(x)
        return lora_evd(h @ theta, h @ (RHO[:, None] * theta), nesting, weights=w, moment=moment)

    gradient, value = vmap(grad_and_value(loss), in_dims=(None, 0, 0))(theta, x, w)
    exact_gradient, exact = grad_and_value(lambda t: hermite_loss(t, t, nesting))(theta)
    outer = w[..., None, None] * (hermite(x) @ theta)[..., None] * (hermite(x) @ theta)[..., None, :]
    variance = (nesting.matrix * outer.flatten(0, 1).var(0)).sum()
    return gradient, value, exact_gradient, exact, variance


@pytest.mark.statistical
@pytest.mark.parametrize("moment", ["u", "split"])
def test_evd_is_unbiased_with_importance_weights(moment):
    """7 numbers at 5 standard errors: false alarm 4e-6."""
    gradient, value, exact_gradient, exact, _ = ornstein_uhlenbeck(
        moment, 8, 40_000, torch.Generator().manual_seed(0)
    )
    assert z_scores(value, exact).abs() < 5
    assert z_scores(gradient, exact_gradient).abs().max() < 5


@pytest.mark.statistical
def test_evd_plain_is_biased_upward_by_the_predicted_amount():
    """The bias is seen at more than 5 standard errors, and is Var/B to within 5: false alarm 6e-7."""
    _, value, _, exact, variance = ornstein_uhlenbeck("plain", 8, 40_000, torch.Generator().manual_seed(1))
    assert z_scores(value, exact) > 5
    assert z_scores(value, exact + variance / 8).abs() < 5


@pytest.mark.statistical
def test_the_u_statistic_varies_less_than_two_halves():
    """For a mean of zero the variances are 2/(B(B-1)) and 4/B^2; each sample variance is within 10%."""
    x = torch.randn(40_000, 8, 1, generator=torch.Generator().manual_seed(2), dtype=f64)
    one = torch.ones(8, 1, dtype=f64)
    for moment, expected in (("u", 2 / (8 * 7)), ("split", 4 / 64)):
        squares = vmap(lambda a, moment=moment: product(a, one, a, one, moment=moment))(x)
        assert squares.var().item() == pytest.approx(expected, rel=0.1)


def gaussian_pairs(moment, size=6, runs=40_000):
    a, b, nesting = randn(3, 2, seed=6), randn(3, 2, seed=7), Nesting.joint(2)
    x, z = torch.randn(2, runs, size, generator=torch.Generator().manual_seed(3), dtype=f64)
    y = 0.6 * x + 0.8 * z

    def loss(ab, x, y):
        f, g = hermite(x) @ ab[0], hermite(y) @ ab[1]
        return lora_svd(f, g, f, nesting, paired=True, moment=moment)

    gradient, value = vmap(grad_and_value(loss), in_dims=(None, 0, 0))((a, b), x, y)
    exact_gradient, exact = grad_and_value(lambda ab: hermite_loss(*ab, nesting))((a, b))
    f, g = hermite(x.flatten()) @ a, hermite(y.flatten()) @ b
    s, r = f[:, :, None] * f[:, None], g[:, :, None] * g[:, None]
    covariance = (nesting.matrix * ((s * r).mean(0) - s.mean(0) * r.mean(0))).sum()
    return gradient, value, exact_gradient, exact, covariance


@pytest.mark.statistical
def test_svd_from_gaussian_pairs_is_unbiased():
    """13 numbers at 5 standard errors: false alarm 7e-6."""
    gradient, value, exact_gradient, exact, _ = gaussian_pairs("u")
    assert z_scores(value, exact).abs() < 5
    for side in (0, 1):
        assert z_scores(gradient[side], exact_gradient[side]).abs().max() < 5


@pytest.mark.statistical
def test_svd_plain_from_gaussian_pairs_is_biased_by_the_covariance():
    """The bias is seen at more than 5 standard errors, and is Cov/B to within 5: false alarm 6e-7."""
    _, value, _, exact, covariance = gaussian_pairs("plain")
    assert z_scores(value, exact).abs() > 5
    assert z_scores(value, exact + covariance / 6).abs() < 5


@pytest.mark.statistical
def test_on_scrambled_sobol_points_plain_is_right_and_the_u_statistic_too_low():
    """By Var/(B-1), for a square of int_0^1 (1 + sin 2 pi x) dx = 1, Var = 1/2; 400 scrambles."""
    size = 64
    x = torch.stack(
        [
            torch.quasirandom.SobolEngine(1, scramble=True, seed=seed).draw(size, dtype=f64)
            for seed in range(400)
        ]
    )
    a, one = 1 + torch.sin(2 * torch.pi * x), torch.ones_like(x)
    plain, u = (
        vmap(lambda a, one, moment=moment: product(a, one, a, one, moment=moment))(a, one).flatten()
        for moment in ("plain", "u")
    )
    predicted = -0.5 / (size - 1)
    assert z_scores(u, 1.0) < -5
    assert (plain - 1).mean().abs() < 0.05 * abs(predicted)
    assert (u - 1).mean() == pytest.approx(predicted, rel=0.1)


def test_on_fixed_nodes_the_u_statistic_has_no_lower_bound():
    """A function on the first of two nodes: all of its square is in the diagonal that "u" drops."""
    f = torch.tensor([[1.0], [0.0]], dtype=f64)
    values = [lora_evd(c * f, c * f, Nesting.none(1), moment="u").item() for c in (1.0, 10.0, 100.0)]
    assert values == pytest.approx([-1.0, -100.0, -10_000.0])
    assert lora_evd(100 * f, 100 * f, Nesting.none(1), moment="plain") > 0


def test_choose_takes_the_right_estimator_for_the_nodes():
    assert [choose(kind) for kind in ("iid", "sobol", "quadrature")] == ["u", "plain", "plain"]
    assert [choose("iid", moment, size=2) for moment in ("u", "split", "plain")] == ["u", "split", "plain"]
    assert choose("quadrature", "plain", size=1) == "plain"


@pytest.mark.parametrize(
    ("arguments", "size", "argument", "message"),
    [
        (("quadrature", "u"), None, "moment", "'u' on quadrature nodes"),
        (("quadrature", "split"), None, "moment", "'split' on quadrature nodes"),
        (("sobol", "u"), None, "moment", "'u' on sobol nodes"),
        (("sobol", "split"), None, "moment", "'split' on sobol nodes"),
        (("iid", "ustat"), None, "moment", "one of 'u', 'split', 'plain'"),
        (("iid", "plian"), None, "moment", "Did you mean 'plain'"),
        (("quadratur", None), None, "kind", "Did you mean 'quadrature'"),
        (("iid", None), 1, "moment", "'u' with a batch of 1"),
        (("iid", "split"), 1, "moment", "'split' with a batch of 1"),
    ],
)
def test_choose_refuses_what_would_be_wrong(arguments, size, argument, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        choose(*arguments, size=size)
    assert caught.value.argument == argument


def test_inner_is_the_weighted_mean_of_products():
    a, b, w = randn(5, 2), randn(5, 3, seed=1), law(5, seed=2)
    expected = torch.einsum("b,bi,bl->il", w, a, b) / 5
    torch.testing.assert_close(inner(a, b, w), expected)
    torch.testing.assert_close(inner(a, b), torch.einsum("bi,bl->il", a, b) / 5)
