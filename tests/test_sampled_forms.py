"""On sampled nodes the strong form knows an eigenvalue exactly, and error bars say what the rest is worth."""

import math

import pytest
import torch

import nbsvd
from nbsvd.exact import Oscillator
from nbsvd.functions import MLP, GaussianFactor, WithFactor
from nbsvd.measures import Gaussian, Lebesgue, Nodes
from nbsvd.spectrum import replicate
from nbsvd.spectrum.moments import Moments, leading, measure_moments, pencil, standard_error
from nbsvd.training.heads import sample
from nbsvd.training.start import Basis

f64 = torch.float64
OMEGA = [1.0, 1.3, 1.7, 2.2]
PROBLEM = nbsvd.problems.oscillator(OMEGA)
EXACT = Oscillator(frequencies=OMEGA)


class Mixed(torch.nn.Module):
    """Three eigenfunctions and two other functions, hidden by a linear map."""

    def forward(self, x):
        others = EXACT.functions(1.1 * x, 2)
        M = torch.randn(5, 5, generator=torch.Generator().manual_seed(3), dtype=f64)
        return torch.cat([EXACT.functions(x, 3), others], 1) @ M


def nodes(n: int, kind="iid", seed=0) -> Nodes:
    return PROBLEM.measure.nodes(n, kind=kind, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["iid", "sobol"])
def test_eigenfunctions_have_exact_values_on_any_nodes(kind):
    at = nodes(60, kind)
    one = Mixed()
    moments = measure_moments(PROBLEM.operator, one, one, at, at)
    values, C = pencil(moments, 3)
    torch.testing.assert_close(values, EXACT.values(3), rtol=0.02, atol=0)  # with the rotation's second order
    torch.testing.assert_close(pencil(moments, 1)[0], EXACT.values(1), rtol=1e-9, atol=0)
    torch.testing.assert_close(C.t() @ moments.gram_f @ C, torch.eye(3, dtype=f64), atol=1e-8, rtol=0)
    symmetric = Moments(moments.gram_f, moments.gram_g, (moments.form + moments.form.t()) / 2)
    assert (pencil(symmetric, 1)[0] - EXACT.values(1)).abs() > 1e-4  # what the asymmetry saves


def test_a_rule_has_the_weak_form_and_a_sample_the_strong_one():
    problem = nbsvd.problems.oscillator2d()
    f = WithFactor(
        MLP(3, 2, widths=(5,), generator=torch.Generator().manual_seed(0)), GaussianFactor(1.5)
    ).double()
    for kind in ("quadrature", "sobol"):
        at = problem.measure.nodes(400, kind=kind, generator=torch.Generator().manual_seed(0))
        A, T = problem.operator.moments(f, at)[1], problem.operator
        jet = f.jet(at.x)
        torch.testing.assert_close(
            A, T.weak_form(at, jet) if kind == "quadrature" else T.strong_form(at, jet)
        )


class TestLeading:
    def test_a_symmetric_form(self):
        A = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=f64)
        A = A + A.t()
        mu, V = torch.linalg.eigh(A)
        values, vectors = leading(A, 2)
        torch.testing.assert_close(values, mu.flip(0)[:2])
        torch.testing.assert_close(vectors.abs(), V.flip(1)[:, :2].abs())

    @pytest.mark.parametrize("k", [1, 2, 3, 4])
    def test_a_complex_pair_is_not_cut(self, k):
        """Values 3, 2 +- 0.1 i, 1: the pair enters together or not at all."""
        A = torch.diag(torch.tensor([3.0, 2.0, 2.0, 1.0], dtype=f64))
        A[1, 2], A[2, 1] = 0.1, -0.1
        A[3, 0] = 5.0  # far from normal
        Q = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=f64)).Q
        values, V = leading(Q @ A @ Q.t(), k)
        torch.testing.assert_close(V.t() @ V, torch.eye(k, dtype=f64), atol=1e-12, rtol=0)
        if k < 4:  # all of the space is symmetrised as it is
            torch.testing.assert_close(values, torch.tensor([3.0, 2.0, 2.0], dtype=f64)[:k], rtol=0.3, atol=0)
        if k == 1:
            assert float(values) == pytest.approx(3.0, abs=1e-12)


def test_a_check_on_sampled_nodes_is_strong_and_has_no_graph():
    net = MLP(2, 4, widths=(6, 7), disjoint=False, generator=torch.Generator().manual_seed(0))
    basis = Basis(WithFactor(net, GaussianFactor(1.3)).double())
    at = nodes(300, "sobol")
    trained = sample(PROBLEM.operator, basis, basis, at, at)
    checked = sample(PROBLEM.operator, basis, basis, at, at, check=True)
    assert not trained.strong
    assert checked.strong
    heads = checked.checked(2)
    assert heads.values.shape == (2,)
    f = basis(at.x) @ heads.right
    torch.testing.assert_close(f.t() @ (at.weights[:, None] * f) / len(at), torch.eye(2, dtype=f64))
    rule = nbsvd.problems.oscillator2d().measure.nodes(400, kind="quadrature")
    flat = Basis(
        MLP(2, 2, widths=(6, 7), disjoint=False, generator=torch.Generator().manual_seed(0)).double()
    )
    T = nbsvd.problems.oscillator2d().operator
    assert torch.equal(
        sample(T, flat, flat, rule, rule, check=True).checked(2).values,
        sample(T, flat, flat, rule, rule).heads().values[:2],
    )


class Bumps(torch.nn.Module):
    """Two functions that are no eigenfunctions."""

    def forward(self, x):
        r = (x * x).sum(1, keepdim=True)
        return torch.cat([torch.exp(-0.45 * r), x[:, :1] * torch.exp(-0.6 * r)], 1)


# Quotients of Bumps under laplacian - |x|^2 in the plane, by hand: E = a d + d / (4 a) for exp(-a r^2); and
# for x_1 exp(-b r^2) the first axis counts three times.
PLANE = torch.tensor([-(2 * 0.45 + 2 / (4 * 0.45)), -4 * (0.6 + 1 / (4 * 0.6))], dtype=f64)


@pytest.mark.statistical
@pytest.mark.parametrize("kind", ["iid", "sobol"])
def test_error_bars_cover_the_exact_quotient_at_their_rate(kind):
    """Intervals of Student's t with 7 degrees, 95 %, over 200 seeds and two values.

    The hits of each value are binomial(200, 0.95) if the replicates are independent and normal. Fewer than
    176, that is 25 misses or more, has probability 2.6e-5: false alarms in all four counts, about 1e-4.
    """
    law = Lebesgue(Gaussian(2, scale=0.9))
    T, f = nbsvd.Schrodinger(lambda x: (x**2).sum(1)), Bumps()
    t = 2.3646  # the 97.5 % point
    hits = torch.zeros(2)
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        parts = replicate(T, f, f, law, law, generator=generator, n=256, kind=kind)
        q = torch.stack([p.quotients() for p in parts])
        assert torch.equal(standard_error(parts), q.std(0) / math.sqrt(8))
        mean = Moments(
            *(torch.stack([getattr(p, n) for p in parts]).mean(0) for n in ("gram_f", "gram_g", "form"))
        )
        hits += (mean.quotients() - PLANE).abs() <= t * standard_error(parts)
    assert (hits >= 176).all(), hits
