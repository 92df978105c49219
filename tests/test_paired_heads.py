"""Heads in closed form from pairs, and moments: against canonical correlations by SciPy and NumPy."""

import numpy as np
import pytest
import torch
from few_pairs import normal, seeded
from refusals import check
from scipy.linalg import eigh

from nbsvd import Conditional
from nbsvd.measures import Nodes, Pairs
from nbsvd.metrics import vamp2
from nbsvd.spectrum.moments import inner_products, paired_moments, replicate
from nbsvd.spectrum.pencils import centred, pencil, singular_pencil, with_constant
from nbsvd.training.paired import PairedSample, gram_whitener, varying

f64 = torch.float64


def dense_canonical(x, y, p):
    """Canonical correlations and vectors of centred tables by SciPy's generalised eigenproblem."""
    x, y = x - p @ x, y - p @ y
    a, b, c = (u.T @ (p[:, None] * v) for u, v in ((x, x), (y, y), (y, x)))
    n, m = len(a), len(b)
    zero = np.zeros((n, m))
    values, V = eigh(
        np.block([[np.zeros((n, n)), c.T], [c, np.zeros((m, m))]]), np.block([[a, zero], [zero.T, b]])
    )
    return values[::-1][: min(n, m)], np.sqrt(2) * V[:n, ::-1], np.sqrt(2) * V[n:, ::-1]


def with_one(h):
    return torch.cat([torch.ones_like(h[:, :1]), h], 1)


def sample_of(h_x, h_y, p, *, twin=False, **options):
    """A sample whose bases are given tables: points are row numbers."""
    rows = torch.arange(len(h_x), dtype=f64)[:, None]
    w = p * len(p)
    x, y = Nodes(rows, w, "quadrature"), Nodes(rows.clone(), w, "quadrature")

    def right(at):
        return with_one(h_x if at is x.x else h_y)

    def other(at):
        return with_one(h_y)

    left = right if twin else other
    return PairedSample(right, left, x, y, **options)


@pytest.fixture
def data():
    x = normal(40, 3, seed=1) + 2
    y = x @ normal(3, 2, seed=2) + 0.5 * normal(40, 2, seed=3) - 1
    p = torch.rand(40, generator=seeded(4), dtype=f64) + 0.1
    return x, y, p / p.sum()


def test_heads_are_canonical_correlations(data, unchecked):
    x, y, p = data
    values, right, left = dense_canonical(*(t.numpy() for t in data))
    sample = sample_of(x, y, p)
    heads = sample.heads()
    np.testing.assert_allclose(heads.values.numpy(), [1, *values], atol=1e-8)
    assert torch.equal(heads.right[:, 0], with_one(torch.zeros(1, 3, dtype=f64))[0])
    for l in range(2):
        for found, exact in ((heads.right[1:, 1 + l], right[:, l]), (heads.left[1:, 1 + l], left[:, l])):
            np.testing.assert_allclose(found.abs().numpy(), np.abs(exact), rtol=1e-6)
    f, g = with_one(x) @ heads.right[:, :3], with_one(y) @ heads.left[:, :3]
    identity = torch.eye(3, dtype=f64)
    for h in (f, g):
        torch.testing.assert_close(h.t() @ (p[:, None] * h), identity, atol=1e-8, rtol=0)
    torch.testing.assert_close(sample.judged(heads), heads.values, atol=1e-8, rtol=0)


def test_control_and_heads_agree_on_the_same_pairs(data):
    """The other way to the same numbers: moments of the bases with the constant, centred, whitened."""
    x, y, p = data
    nodes = (Nodes(t, p * 40, "quadrature") for t in (x, y))
    m = centred(inner_products(with_one(x), with_one(y), *nodes, twin=False))
    values, C, _ = singular_pencil(m, 2)
    exact, _, _ = dense_canonical(*(t.numpy() for t in data))
    np.testing.assert_allclose(values, exact, atol=1e-12)
    f = with_one(x) @ with_constant(C, p @ x)
    assert torch.equal(f[:, 0], torch.ones(40, dtype=f64))
    assert (p @ f[:, 1:]).abs().max() < 1e-13


def test_negative_eigenvalues_come_before_no_constant():
    """A reversible law whose only value after the constant is negative; a constant function in its basis."""
    one, h = torch.ones(2, 1, dtype=f64), torch.tensor([[1.0], [-1.0]], dtype=f64)
    x, y = (Nodes(t, torch.ones(2, dtype=f64), "quadrature") for t in (h, -h))
    f, g = (torch.cat([one, 0.3 * one, 5 + t], 1) for t in (h, -h))
    m = centred(inner_products(f, g, x, y, twin=True))
    assert m.gram_f[0].tolist() == [0, 0]
    assert pencil(m, 1)[0].tolist() == pytest.approx([-1])


def test_a_single_row_of_a_data_set_convinces_nobody(unchecked):
    """Functions of noise with one common spike: by all rows 1, as the law is known; as a sample, nothing."""
    h_x, h_y, p = normal(40, 1), normal(40, 1, seed=1), torch.full((40,), 1 / 40, dtype=f64)
    h_x[3] = h_y[3] = 1e3
    sample = sample_of(h_x, h_y, p)
    heads = sample.heads()
    assert sample.judged(heads)[1] > 0.99
    sample.x = Nodes(sample.x.x, sample.x.weights, "iid")
    keep = torch.arange(40) != 3
    exact = np.corrcoef(h_x[keep, 0], h_y[keep, 0])[0, 1]
    assert float(sample.judged(heads)[1].abs()) == pytest.approx(abs(exact), abs=1e-9)


def test_judged_is_the_correlation_by_numpy(data, unchecked):
    x, y, p = data
    heads = sample_of(normal(40, 3, seed=7), normal(40, 2, seed=8), p).heads().first(3)
    found = sample_of(x, y, p).judged(heads)
    f, g = x @ heads.right[1:], y @ heads.left[1:]
    for l in (1, 2):
        c = np.cov(f[:, l], g[:, l], aweights=p.numpy())
        assert float(found[l]) == pytest.approx(c[0, 1] / np.sqrt(c[0, 0] * c[1, 1]), abs=1e-12)
    assert found[0] == 1


@pytest.mark.parametrize(("twin", "shift"), [(False, 0.0), (True, 0.0), (True, 0.8)])
@pytest.mark.parametrize("damping", [1e-5, 0.2])
def test_surrogate_has_the_gradient_of_the_objective(data, twin, shift, damping, unchecked):
    """Against differences of the sum of slopes times values, the heads found anew at each point."""
    x, y, p = data
    y = torch.cat([y, normal(40, 1, seed=9)], 1) if twin else y
    slopes = torch.tensor([5.0, 2.0, -0.7], dtype=f64)
    step, towards = 1e-5, (normal(40, 3, seed=5), normal(40, y.shape[1], seed=6))

    def made(t):
        return sample_of(x + t * towards[0], y + t * towards[1], p, twin=twin, shift=shift, damping=damping)

    def objective(t):
        return slopes[1:] @ made(t).heads().values[1:3]

    t = torch.zeros((), dtype=f64, requires_grad=True)
    sample = made(t)
    (found,) = torch.autograd.grad(sample.surrogate(sample.heads().first(3), slopes), t)
    exact = (objective(step) - objective(-step)) / (2 * step)
    assert float(found) == pytest.approx(float(exact), rel=2e-6)


@pytest.mark.parametrize(("twin", "shift"), [(False, 0.0), (True, 0.0), (True, 0.8)])
@pytest.mark.parametrize("rough", [1e-3, 0.3])
def test_surrogate_has_the_gradient_of_the_objective_with_a_roughness(data, twin, shift, rough, unchecked):
    """Against differences in a parameter of the basis, on which its slopes depend, too."""
    x, y = data[0][:, :1], data[1][:, :1]
    nodes = [Nodes(z, torch.ones(len(z), dtype=f64), "iid") for z in (x, y)]
    slopes = torch.tensor([5.0, 2.0, -0.7], dtype=f64)
    rates = torch.tensor([0.5, 1.0, 1.7, 2.5], dtype=f64)

    def made(t):
        def basis(z):
            return torch.cat([torch.ones_like(z), torch.tanh(z * (rates + t) + rates)], 1)

        def other(z):
            return torch.cat([torch.ones_like(z), torch.sin(z * (rates + 2 * t) + rates)], 1)

        return PairedSample(
            basis, basis if twin else other, *nodes, shift=shift, rough=rough, lengths=(1.0, 1.3)
        )

    def objective(t):
        return slopes[1:] @ made(t).heads().values[1:3]

    t = torch.zeros((), dtype=f64, requires_grad=True)
    sample, step = made(t), 1e-5
    (found,) = torch.autograd.grad(sample.surrogate(sample.heads().first(3), slopes), t)
    exact = (objective(step) - objective(-step)) / (2 * step)
    assert float(found) == pytest.approx(float(exact), rel=1e-5)
    smoother = made(torch.zeros((), dtype=f64)).solved(
        sample.moments, (sample.mean_f, sample.mean_g), 1e-5, 0.0
    )
    assert bool((sample.heads().values[1:3] < smoother.values[1:3]).all())  # a roughness shrinks values


def test_a_ridge_shrinks_values(data, unchecked):
    x, y, p = data
    values = [sample_of(x, y, p, damping=r).heads().values[1].item() for r in (1e-5, 0.1, 1.0)]
    assert values[0] > values[1] > values[2] > 0
    S = torch.diag(torch.tensor([4.0, 1.0], dtype=f64))
    W = gram_whitener(S, 0.5)
    torch.testing.assert_close(W.t() @ (1.25 * S) @ W, torch.eye(2, dtype=f64))


def test_a_function_that_does_not_vary_is_zero():
    h = torch.cat([torch.full((50, 1), 0.1, dtype=f64), normal(50, 1)], 1)
    left = varying(h, h.mean(0) + 1e-14)
    assert left[:, 0].abs().max() == 0
    assert left[:, 1].abs().max() > 1


# Moments on blocks and the score ---------------------------------------------------------------------------


def test_moments_of_a_data_set_come_from_all_of_its_blocks():
    pairs = Pairs(normal(80, 1), normal(80, 1, seed=1))
    T = Conditional(pairs)

    def left(y):  # the same function object would mean a reversible law
        return with_one(y)

    parts = replicate(T, with_one, left, T.measure_x, T.measure_y, generator=seeded())
    assert len(parts) == 8
    for i, part in enumerate(parts):
        rows = slice(10 * i, 10 * i + 10)
        f, g = with_one(pairs.x[rows]).numpy(), with_one(pairs.y[rows]).numpy()
        np.testing.assert_allclose(part.form, g.T @ f / 10)
        np.testing.assert_allclose(part.gram_f, f.T @ f / 10)
        np.testing.assert_allclose(part.gram_g, g.T @ g / 10)
    other = replicate(
        T, with_one, left, T.measure_x, T.measure_y, generator=seeded(), pairs=pairs.rows(slice(0, 16))
    )
    np.testing.assert_allclose(other[0].gram_f[1, 1], (pairs.x[:2] ** 2).mean())


def test_moments_of_a_reversible_law_are_symmetric():
    T = Conditional(Pairs(normal(20, 1), normal(20, 1, seed=1)), reversible=True)
    x, y = T.pairs.nodes(1, kind="quadrature")
    m = paired_moments(with_one, with_one, x, y)
    a, b = with_one(normal(20, 1)), with_one(normal(20, 1, seed=1))
    torch.testing.assert_close(m.gram_f, (a.t() @ a + b.t() @ b) / 40)
    torch.testing.assert_close(m.form, (a.t() @ b + b.t() @ a) / 40)
    assert m.gram_g is m.gram_f or torch.equal(m.gram_g, m.gram_f)


def test_vamp2_is_the_sum_of_squared_correlations(data):
    x, y, p = data
    exact = 1 + sum(dense_canonical(*(t.numpy() for t in data))[0] ** 2)
    mixed = with_one(x) @ normal(4, 4, seed=1)
    assert vamp2(mixed, with_one(y), p * 40).item() == pytest.approx(exact, abs=1e-10)
    doubled = torch.cat([mixed, mixed[:, :1]], 1)  # dependent functions add nothing
    assert vamp2(doubled, with_one(y), p * 40).item() == pytest.approx(exact, abs=1e-8)
    assert vamp2(x, x).item() == pytest.approx(3)
    check(lambda: vamp2(x, y[:5]), "g", "5 rows with 40")
    check(lambda: vamp2(x, torch.full((40, 1), torch.nan, dtype=f64)), "g")


def test_weights_are_as_repeated_rows():
    x, y, w = normal(5, 1), normal(5, 1, seed=1), torch.tensor([1.0, 2.0, 1.0, 3.0, 1.0])
    weighted = Pairs(x, y, weights=w, complete=True)
    rows = torch.repeat_interleave(torch.arange(5), w.long())
    repeated = Pairs(x[rows], y[rows], complete=True)
    found, exact = (
        paired_moments(with_one, with_one, *pairs.nodes(1, kind="quadrature"))
        for pairs in (weighted, repeated)
    )
    for name in ("gram_f", "gram_g", "form"):
        torch.testing.assert_close(getattr(found, name), getattr(exact, name))
