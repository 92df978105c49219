"""What the chapter on pairs proves, on laws so small that nothing has to be drawn."""

from itertools import permutations, product
from math import factorial

import numpy as np
import pytest
import torch

import nbsvd
from nbsvd.measures import Pairs


@pytest.fixture
def random():
    return np.random.default_rng(0)


def table(random, rows=5, columns=6):
    """A joint law of y (rows) and x (columns), and both marginal laws."""
    P = random.random((rows, columns)) ** 3
    P /= P.sum()
    return P, P.sum(1), P.sum(0)


def normalised(P, q, p):
    return P / np.sqrt(np.outer(q, p))


def orthonormal(random, law, n, centred=True):
    """Values of n functions, orthonormal under a law, and of mean zero."""
    start = [np.ones(len(law))] if centred else []
    columns = np.stack([*start, *random.standard_normal((n, len(law)))], 1)
    Q = np.linalg.qr(np.sqrt(law)[:, None] * columns)[0] / np.sqrt(law)[:, None]
    return Q[:, len(start) :]


def counts(B, cells):
    """All ways to share B draws among the cells, with their multinomial coefficients."""
    if cells == 1:
        yield (B,)
        return
    for first in range(B + 1):
        for rest in counts(B - first, cells - 1):
            yield (first, *rest)


def chance(count, law):
    log = [np.log(float(factorial(int(c)))) for c in count]
    return np.exp(np.log(float(factorial(sum(count)))) - sum(log) + np.dot(count, np.log(law)))


def test_the_density_ratio_is_the_sum_of_its_singular_terms(random):
    P, q, p = table(random)
    U, s, Vt = np.linalg.svd(normalised(P, q, p))
    phi, psi = Vt.T / np.sqrt(p)[:, None], U / np.sqrt(q)[:, None]
    ratio = P / np.outer(q, p)
    np.testing.assert_allclose((psi * s) @ phi[:, : len(s)].T, ratio, atol=1e-12)
    np.testing.assert_allclose(s[0], 1)
    np.testing.assert_allclose(phi[:, 0] * np.sign(phi[0, 0]), 1)
    np.testing.assert_allclose((s[1:] ** 2).sum(), ((ratio - 1) ** 2 * np.outer(q, p)).sum())


@pytest.mark.parametrize("kind", ["joint", "none", "sequential"])
def test_the_constant_leaves_the_centred_loss(random, kind):
    """The loss with a column of ones, and its gradient, are those of T - |1><1| for the other columns."""
    P, q, p = table(random)
    i, j = map(torch.from_numpy, np.nonzero(P))
    w = torch.from_numpy(P[P > 0] * P.size)
    L = 4
    f = torch.from_numpy(random.standard_normal((6, L - 1))).requires_grad_()
    g = torch.from_numpy(random.standard_normal((5, L - 1))).requires_grad_()
    one = torch.ones(1, dtype=torch.float64)
    full = [torch.cat([one.expand(len(t), 1), t], 1) for t in (f, g)]
    nesting = getattr(nbsvd.Nesting, kind)(L)
    loss = nbsvd.lora_svd(full[0][j], full[1][i], full[0][j], nesting, weights=w, paired=True, moment="plain")
    slopes = torch.autograd.grad(loss, (f, g))

    M, m = nesting.masks(f).loss[1:, 1:], nesting.masks(f).vector
    law_x, law_y = torch.from_numpy(p), torch.from_numpy(q)
    centred = torch.from_numpy(P - np.outer(q, p))

    def rest(f, g, M, m):
        linear = torch.einsum("yl,yx,xl->l", g, centred, f)
        grams = (f.T @ (law_x[:, None] * f)) * (g.T @ (law_y[:, None] * g))
        return -2 * (m * linear).sum() + (M * grams).sum()

    torch.testing.assert_close(loss, -m[0] + rest(f, g, M, m[1:]))
    if kind == "sequential":
        for l in range(L - 1):
            level = rest(f[:, : l + 1], g[:, : l + 1], torch.ones(l + 1, l + 1), torch.ones(l + 1))
            for slope, wanted in zip(slopes, torch.autograd.grad(level, (f, g)), strict=True):
                torch.testing.assert_close(slope[:, l], wanted[:, l])
    else:
        for slope, wanted in zip(slopes, torch.autograd.grad(rest(f, g, M, m[1:]), (f, g)), strict=True):
            torch.testing.assert_close(slope, wanted)


def test_means_cost_what_the_formula_says(random):
    P, q, p = table(random)
    f, g = random.standard_normal((6, 3)), random.standard_normal((5, 3))
    a, b = p @ f, q @ g

    def loss(f, g):
        linear = np.einsum("yl,yx,xl->", g, P - np.outer(q, p), f)
        return -2 * linear + ((f.T @ (p[:, None] * f)) * (g.T @ (q[:, None] * g))).sum()

    extra = p @ ((f - a) @ b) ** 2 + q @ ((g - b) @ a) ** 2 + (a @ b) ** 2
    np.testing.assert_allclose(loss(f, g), loss(f - a, g - b) + extra)


def test_centring_by_the_batch_is_biased_as_the_formula_says():
    """All batches of a law on four pairs; what is left after the first order falls like 1/B."""
    law = np.array([0.4, 0.1, 0.2, 0.3])
    f = np.array([[1.0, 0.3], [1.0, 0.3], [-1.0, 0.8], [-1.0, 0.8]])
    g = np.array([[0.5, -1.0], [-2.0, 0.7], [0.5, -1.0], [-2.0, 0.7]])
    f, g = f - law @ f, g - law @ g
    s, r = f[:, 0] * f[:, 1], g[:, 0] * g[:, 1]
    first = law @ (s * r) - (law @ s) * (law @ r) - 2 * (law @ s) * (law @ r)
    left = []
    for B in (6, 12, 24):
        covariance = bias = 0.0
        for count in counts(B, 4):
            weight, probability = np.array(count) / B, chance(count, law)
            fc, gc = f - weight @ f, g - weight @ g
            covariance += probability * (weight @ (fc[:, 0] * gc[:, 0]))
            bias += probability * (weight @ (fc[:, 0] * fc[:, 1])) * (weight @ (gc[:, 0] * gc[:, 1]))
        np.testing.assert_allclose(covariance, (1 - 1 / B) * (law @ (f[:, 0] * g[:, 0])))
        left.append(B * (bias - (law @ s) * (law @ r)) - first)
    assert abs(left[1] / left[0]) < 0.6
    assert abs(left[2] / left[1]) < 0.6


def test_many_functions_correlate_on_few_pairs(random):
    x, y = random.exponential(size=(12, 8)), random.standard_normal((12, 9))
    s = np.linalg.svd(np.linalg.qr(y)[0].T @ np.linalg.qr(x)[0])[1]
    assert (s > 1 - 1e-10).sum() == 8 + 9 - 12
    assert (
        np.linalg.svd(np.linalg.qr(random.random((12, 12)))[0].T @ np.linalg.qr(x)[0])[1] > 1 - 1e-10
    ).all()


def test_what_is_found_where_there_is_nothing(random):
    """Independent variables: the average over all orders of the rows is exact."""
    N, nf, ng = 6, 2, 3
    x, y = random.exponential(size=(N, nf)), random.standard_normal((N, ng)) ** 3
    qx, qy = (np.linalg.qr(t - t.mean(0))[0] for t in (x, y))
    scores = [((qy[list(order)].T @ qx) ** 2).sum() for order in permutations(range(N))]
    np.testing.assert_allclose(np.mean(scores), nf * ng / (N - 1))
    scored = nbsvd.metrics.vamp2(torch.from_numpy(x - x.mean(0)), torch.from_numpy(y - y.mean(0)))
    np.testing.assert_allclose(float(scored), scores[0])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [2, 4])
def test_predictions_err_by_no_more_than_the_bound(seed, k):
    random = np.random.default_rng(seed)
    n = 10
    A = random.random((n, n)) ** 4 + 1e-3
    A /= A.sum(1, keepdims=True)
    law = np.abs(np.real(np.linalg.eig(A.T)[1][:, np.argmax(np.real(np.linalg.eigvals(A.T)))]))
    law /= law.sum()
    root = np.sqrt(law)
    T = root[:, None] * A / root
    U, s, _ = np.linalg.svd(T)
    h = random.standard_normal(n)
    spread = np.linalg.norm(root * (h - law @ h))
    noisy = np.column_stack([root, U[:, 1:k] + 0.2 * random.standard_normal((n, k - 1))])
    for columns in (U[:, :k], noisy):
        Q = np.linalg.qr(columns)[0]
        PT = Q @ Q.T @ T
        delta = (s[:k] ** 2).sum() - (PT**2).sum()
        missing = np.linalg.norm(T - PT, 2)
        assert missing**2 <= s[k] ** 2 + delta + 1e-12
        g = columns / root[:, None]
        gram = g.T @ (law[:, None] * g)
        c = np.linalg.solve(gram, g.T @ (law * (A @ h)))
        K = np.linalg.solve(gram, g.T @ (law[:, None] * (A @ g)))
        for steps in (1, 2, 3, 6, 12):
            ahead = np.linalg.matrix_power(PT, steps) @ (root * h)
            np.testing.assert_allclose(
                root * (g @ np.linalg.matrix_power(K, steps - 1) @ c), ahead, atol=1e-9
            )
            error = np.linalg.norm(np.linalg.matrix_power(T, steps) @ (root * h) - ahead)
            assert error <= steps * missing * s[1] ** (steps - 1) * spread + 1e-12


def test_both_estimates_for_exchangeable_pairs_are_unbiased_and_one_is_quieter():
    """All batches of three edges of a graph on three nodes."""
    edges = Pairs.from_graph([[0, 1, 2], [1, 0, 1], [2, 1, 0]], torch.arange(3.0)[:, None])
    law = (edges.weights / edges.weights.sum()).numpy()
    values = np.array([[1.0, 0.5], [-0.4, 2.0], [0.3, -1.0]])
    u = values.prod(1)
    s, r = u[edges.x[:, 0].long().numpy()], u[edges.y[:, 0].long().numpy()]
    B = 3
    moments = np.zeros((2, 2))
    for batch in product(range(len(law)), repeat=B):
        rows = list(batch)
        a, b, half = s[rows], r[rows], (s[rows] + r[rows]) / 2
        one = (a.sum() * b.sum() - a @ b) / (B * (B - 1))
        two = (half.sum() ** 2 - half @ half) / (B * (B - 1))
        moments += law[rows].prod() * np.array([[one, one**2], [two, two**2]])
    np.testing.assert_allclose(moments[:, 0], (law @ s) ** 2)
    variance = moments[:, 1] - moments[:, 0] ** 2
    assert variance[1] < 0.9 * variance[0]


def test_a_held_out_correlation_scatters_as_its_first_order_says():
    """All samples of a law on four pairs."""
    law = np.array([0.4, 0.1, 0.15, 0.35])
    x, y = np.array([1.0, 1.0, -1.0, -1.0]), np.array([1.0, -1.0, 1.0, -1.0])
    x, y = ((t - law @ t) / np.sqrt(law @ t**2 - (law @ t) ** 2) for t in (x, y))
    r = law @ (x * y)
    first = law @ (x * y - r / 2 * (x**2 + y**2)) ** 2
    off = []
    for N in (10, 20, 40):
        total = mean = square = 0.0
        for count in counts(N, 4):
            weight = np.array(count) / N
            spread = [weight @ t**2 - (weight @ t) ** 2 for t in (x, y)]
            if min(spread) < 1e-9:
                continue
            probability = chance(count, law)
            found = (weight @ (x * y) - (weight @ x) * (weight @ y)) / np.sqrt(spread[0] * spread[1])
            total, mean = total + probability, mean + probability * found
            square += probability * found**2
        assert abs(mean / total - r) < 1 / N
        off.append(N * (square / total - (mean / total) ** 2) / first - 1)
    assert abs(off[2]) < 0.1
    assert abs(off[2]) < abs(off[0])


def test_sums_of_correlations_stay_below_those_of_the_values(random):
    P, q, p = table(random)
    s = np.linalg.svd(normalised(P, q, p))[1][1:]
    for _ in range(50):
        f, g = orthonormal(random, p, 3), orthonormal(random, q, 3)
        r = np.diag(g.T @ P @ f)
        assert (np.cumsum(np.abs(r)) <= np.cumsum(s[:3]) + 1e-12).all()
        assert (np.cumsum(r**2) <= np.cumsum(s[:3] ** 2) + 1e-12).all()


@pytest.mark.parametrize("a", [0.0, 0.5, 0.9])
def test_blocks_of_time_tell_the_error_and_blocks_at_random_do_not(random, a):
    m, b = 8, 40
    N = m * b
    place = np.arange(N)
    covariance = a ** np.abs(place[:, None] - place).astype(float)
    true = covariance.sum() / N**2

    def reported(blocks):
        """The mean of the error's square that blocks of rows report."""
        means = np.zeros((m, N))
        means[blocks, place] = 1 / b
        means -= 1 / N
        return np.einsum("kn,nl,kl->", means, covariance, means) / (m * (m - 1))

    ordered = reported(place // b)
    kappa = a / (1 - a) ** 2
    assert abs(true - ordered) <= 2 * kappa / (m * b**2) + 1e-15
    dealt = np.mean([reported(random.permutation(place // b)) for _ in range(200)])
    np.testing.assert_allclose(dealt, (1 - true) / (N - 1), rtol=0.02)
    if a == 0.9:
        assert ordered > 0.7 * true
        assert dealt < 0.1 * true


def test_the_answers_of_the_exercises():
    values = np.sort(np.outer(0.9 ** np.arange(10), 0.5 ** np.arange(3)).ravel())[::-1]
    assert int(np.argmin(np.abs(values - 0.5))) == 7  # the eighth
    T = (np.eye(4) + np.roll(np.eye(4), 1, axis=1)) / 2
    np.testing.assert_allclose(np.linalg.svd(T)[1], [1, 0.5**0.5, 0.5**0.5, 0], atol=1e-12)
    eigenvalues = np.linalg.eigvals(T)
    assert min(abs(eigenvalues - (1 + 1j) / 2)) < 1e-12
    np.testing.assert_allclose(np.linalg.eigvalsh((T + T.T) / 2), [0, 0.5, 0.5, 1], atol=1e-12)
