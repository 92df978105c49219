"""Values, functions and errors of made-up models: exact functions, changed in known ways."""

import math

import pytest
import scipy.linalg
import scipy.stats
import torch
from torch import nn

import nbsvd
from nbsvd import problems
from nbsvd.exact import Brownian, Oscillator, Volterra
from nbsvd.measures import Empirical, Gaussian
from nbsvd.spectrum import Result, Spectrum, replicate

f64 = torch.float64


class Mixed(nn.Module):
    """The first K exact functions times a matrix ``(K, k)``, on one side."""

    def __init__(self, exact, matrix, side="functions"):
        super().__init__()
        self.exact, self.matrix, self.side = exact, matrix, side

    def forward(self, x):
        return getattr(self.exact, self.side)(x, len(self.matrix)) @ self.matrix


def spectrum(problem, right, left=None, **options):
    """A spectrum of these models, on a few nodes."""
    left = right if left is None else left
    options = {"replicates": 2, "n": 600} | options
    parts = replicate(
        problem.operator,
        right,
        left,
        problem.measure,
        problem.left_measure,
        generator=torch.Generator().manual_seed(0),
        **options,
    )
    return Spectrum.from_models(
        right,
        left,
        parts,
        operator=problem.operator,
        measure_x=problem.measure,
        measure_y=problem.left_measure,
        exact=problem.exact,
    )


BROWNIAN = problems.brownian()
VOLTERRA = problems.volterra()


def brownian(matrix, **options):
    return spectrum(BROWNIAN, Mixed(BROWNIAN.exact, torch.as_tensor(matrix, dtype=f64)), **options)


def rotation(n, i, j, angle):
    R = torch.eye(n, dtype=f64)
    R[i, i] = R[j, j] = math.cos(angle)
    R[i, j], R[j, i] = -math.sin(angle), math.sin(angle)
    return R


def errors_are_zero(errors, tolerance=1e-4):  # the kernel min(x, y) has a kink, which 600 nodes blur
    return all(value < tolerance for value in errors.values())


def test_exact_functions_have_no_errors():
    result = brownian(torch.eye(4))
    torch.testing.assert_close(result.values, Brownian().values(4), rtol=1e-4, atol=0)
    assert errors_are_zero(result.errors())
    assert result.k == 4
    assert result.self_adjoint


@pytest.mark.parametrize("scale", [1e-6, -3.0, 1e5])
def test_scale_plays_no_part(scale):
    result = brownian(torch.diag(torch.tensor([1.0, scale, 2.0])))
    assert errors_are_zero(result.errors())
    nodes = result.measure_x.nodes(2000, kind="quadrature")
    norms = (nodes.weights[:, None] * result.right(nodes.x) ** 2).mean(0)
    assert norms.tolist() == pytest.approx([1, 1, 1], rel=1e-6)


def test_values_are_rayleigh_quotients_unrotated():
    angle = 0.3
    result = brownian(rotation(3, 0, 1, angle))
    a, b = Brownian().values(2).tolist()
    c, s = math.cos(angle) ** 2, math.sin(angle) ** 2
    assert result.values[:2].tolist() == pytest.approx([c * a + s * b, s * a + c * b], rel=1e-4)
    errors = result.errors()
    assert errors["angle_max"] == pytest.approx(math.sin(angle), rel=1e-4)
    assert errors["subspace_max"] == pytest.approx(s, rel=1e-4)
    assert errors["relative_max"] == pytest.approx(s * (a - b) / b, rel=1e-4)
    assert errors["orthogonality_max"] < 1e-5


def test_swapped_functions_are_wrong_and_stay_so_when_aligned():
    result = brownian(torch.eye(3)[:, [1, 0, 2]])
    a, b = Brownian().values(2).tolist()
    for shown in (result, result.align()):
        errors = shown.errors()
        assert errors["angle_max"] == pytest.approx(1)
        assert errors["relative_max"] == pytest.approx((a - b) / b, rel=1e-4)
    assert errors_are_zero(result.ritz().errors())


def test_dependent_functions_show_before_any_rotation():
    skew = torch.eye(3)
    skew[0, 1] = 0.5
    result = brownian(skew)
    cosine = 0.5 / math.hypot(1, 0.5)
    assert result.errors()["orthogonality_max"] == pytest.approx(cosine, rel=1e-4)
    torch.testing.assert_close(result.cosine_gram[0, 1].item(), cosine, rtol=1e-4, atol=0)
    assert result.align().errors()["orthogonality_max"] == pytest.approx(cosine, rel=1e-4)


def oscillator(matrix):
    """On nodes of the plane, with the derivatives of the exact functions by automatic differentiation."""
    problem = problems.oscillator2d()
    return spectrum(problem, Mixed(problem.exact, matrix), n=1000)


def test_a_rotation_inside_a_level_is_no_error():
    turned = rotation(6, 1, 2, 0.7) @ rotation(6, 3, 5, 1.1)
    result = oscillator(turned)
    assert errors_are_zero(result.errors())
    nodes = result.nodes()
    raw, aligned = result.right(nodes.x), result.align().right(nodes.x)
    exact = Oscillator(frequencies=[1.0, 1.0]).functions(nodes.x, 6)
    assert (raw - exact).abs().max() > 0.1
    torch.testing.assert_close(aligned, exact, rtol=0, atol=1e-6)
    torch.testing.assert_close(result.align().exact_like(nodes.x), exact, rtol=0, atol=1e-6)


def test_a_level_that_k_cuts_may_be_any_part_of_it():
    turned = rotation(6, 3, 5, 0.9)[:, :4]
    result = oscillator(turned)  # 1 + 2 + one of three
    assert errors_are_zero(result.errors())
    aligned = result.align()
    x = result.nodes().x
    torch.testing.assert_close(aligned.right(x), aligned.exact_like(x), rtol=0, atol=1e-6)


def test_an_alignment_is_labelled_and_changes_neither_values_in_levels_nor_errors():
    result = oscillator(rotation(6, 1, 2, 0.7) @ rotation(6, 0, 1, 0.2))
    aligned = result.align()
    assert (result.label, aligned.label, aligned.align().label) == ("learned", "aligned", "aligned")
    before, after = result.errors(), aligned.errors()
    for name in ("angle_max", "subspace_max", "orthogonality_max"):
        assert after[name] == pytest.approx(before[name], abs=1e-8)


def volterra(right, left):
    return spectrum(VOLTERRA, Mixed(Volterra(), right), Mixed(Volterra(), left, "left"))


def test_both_sides_of_an_svd():
    one = torch.eye(3, dtype=f64)
    result = volterra(2 * one, 5 * one)
    assert not result.self_adjoint
    torch.testing.assert_close(result.values, Volterra().values(3), rtol=1e-3, atol=0)
    errors = result.errors()
    assert errors["relative_max"] < 1e-3
    assert errors["angle_max"] < 1e-5
    x = result.nodes().x
    torch.testing.assert_close(result.right(x), Volterra().functions(x, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(result.left(x), Volterra().left(x, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(result.exact_like(x, "left"), Volterra().left(x, 3))


def test_a_left_function_of_the_wrong_sign_shows():
    one = torch.eye(3, dtype=f64)
    result = volterra(one, torch.diag(torch.tensor([1.0, -1.0, 1.0], dtype=f64)))
    assert result.values[1] == pytest.approx(-2 / (3 * math.pi), rel=1e-2)
    assert result.errors()["angle_max"] == pytest.approx(1, abs=1e-3)


def test_a_common_mixture_of_both_sides_is_undone_by_ritz():
    C = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=f64)
    result = volterra(C, torch.linalg.inv(C).t() + 1)
    assert result.errors()["angle_max"] > 0.1
    ritz = result.ritz()
    assert ritz.label == "ritz"
    assert ritz.errors()["angle_max"] < 1e-2
    torch.testing.assert_close(ritz.values, Volterra().values(3), rtol=1e-3, atol=0)


def test_ritz_is_what_scipy_says():
    C = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=f64)
    result = brownian(C, replicates=1)
    [moments] = result.replicates
    expected = scipy.linalg.eigvalsh(moments.form.numpy(), moments.gram_f.numpy())[::-1]
    assert result.ritz().values.tolist() == pytest.approx(expected.tolist(), rel=1e-9)
    assert result.ritz().cosine_gram.numpy() == pytest.approx(torch.eye(3).numpy(), abs=1e-9)


def test_ritz_is_fitted_on_one_half_and_measured_on_the_other():
    result = brownian(torch.randn(6, 3, generator=torch.Generator().manual_seed(1)), replicates=4, kind="iid")
    ritz = result.ritz()
    assert list(ritz.replicates) == list(result.replicates)[1::2]
    assert (ritz.stderr > 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_signs_follow_the_rule(seed):
    flips = torch.where(torch.rand(4, generator=torch.Generator().manual_seed(seed)) < 0.5, -1.0, 1.0)
    result = brownian(torch.diag(flips))
    f = result.right(result.nodes().x)
    for column in f.unbind(1):
        first = int((column.abs() >= 0.9 * column.abs().max()).nonzero()[0])
        assert column[first] > 0
    again = brownian(torch.eye(4))
    torch.testing.assert_close(f, again.right(again.nodes().x))


def test_the_sign_of_an_odd_function_does_not_hang_on_rounding():
    """Its two largest values have opposite signs: one is made a little larger, then a little smaller."""
    problem = nbsvd.Problem(problems.gaussian_kernel().operator)
    signs = []
    for epsilon in (1e-9, -1e-9):
        model = nn.Module()
        model.forward = lambda x, e=epsilon: x * torch.exp(-(x**2) + e * x)
        result = spectrum(problem, model)
        signs.append(result.right(torch.ones(1, 1, dtype=f64)).sign().item())
    assert signs[0] == signs[1]


def test_a_zero_function_stays_zero():
    result = brownian(torch.diag(torch.tensor([1.0, 0.0, 1.0])))
    assert result.values[1] == 0
    assert result.values.isfinite().all()
    assert result.stderr.isfinite().all()
    assert (result.right(result.nodes().x)[:, 1] == 0).all()
    errors = result.errors()
    assert errors["angle_max"] == pytest.approx(1)
    assert result.cosine_gram[1].abs().max() == 0


def test_functions_evaluate_anywhere_in_float64():
    result = brownian(torch.eye(2))
    x = torch.tensor([[0.25], [0.5]])  # float32
    y = result.right(x)
    assert y.dtype == f64
    torch.testing.assert_close(y, Brownian().functions(x, 2), rtol=0, atol=1e-6)
    many = torch.linspace(0, 1, 20000, dtype=f64)[:, None]
    torch.testing.assert_close(result.right(many)[::1000], result.right(many[::1000]))


def test_comparison_nodes_are_fixed():
    first, second = brownian(torch.eye(2)).nodes(), brownian(2 * torch.eye(2)).nodes("left")
    assert torch.equal(first.x, second.x)
    assert len(brownian(torch.eye(2)).nodes(n=64)) == 64


@pytest.mark.statistical
def test_standard_errors_cover_the_truth():
    """On iid nodes about 95 % of the intervals of a t law with 7 degrees of freedom hold the truth.

    400 intervals; with coverage 0.95 fewer than 0.90 or more than 0.99 of them hold it in less than 1 case
    in 10,000. The quotient of two noisy means is a little biased and not quite normal: the margin allows it.
    """
    operator = problems.gaussian_kernel().operator
    problem = nbsvd.Problem(operator)
    model = nn.Module()
    model.forward = lambda x: torch.cat([torch.exp(-(x**2) / 5), x * torch.exp(-(x**2) / 4)], 1)
    truth = spectrum(problem, model, kind="quadrature", n=2000, replicates=1).values
    held = torch.zeros(2)
    trials = 200
    reach = float(scipy.stats.t.ppf(0.975, 7))
    for seed in range(trials):
        parts = replicate(
            operator,
            model,
            model,
            problem.measure,
            problem.measure,
            generator=torch.Generator().manual_seed(seed),
            replicates=8,
            n=400,
            kind="iid",
        )
        result = Spectrum.from_models(
            model, model, parts, operator=operator, measure_x=problem.measure, measure_y=problem.measure
        )
        held += ((result.values - truth).abs() <= reach * result.stderr).float()
    share = float(held.sum()) / (2 * trials)
    alarm = scipy.stats.binom.cdf(0.90 * 2 * trials, 2 * trials, 0.95)
    alarm += scipy.stats.binom.sf(0.99 * 2 * trials, 2 * trials, 0.95)
    assert alarm < 1e-4
    assert 0.90 <= share <= 0.99


def test_sums_that_are_exact_have_no_error():
    data = torch.randn(40, 1, generator=torch.Generator().manual_seed(0), dtype=f64)
    kernel = nbsvd.Integral(lambda x, y: torch.exp(-((x - y.t()) ** 2)), Empirical(data))
    result = nbsvd.solve(nbsvd.Problem(kernel), 2, steps=0, progress=False)
    assert len(result.replicates) == 1
    assert result.stderr.tolist() == [0, 0]
    K = torch.exp(-((data - data.t()) ** 2)) / 40
    assert (result.values <= torch.linalg.eigvalsh(K).flip(0)[:2] + 1e-12).all()


def test_a_result_says_what_it_is():
    result = brownian(torch.eye(2))
    assert repr(result).startswith("Spectrum(k=2, learned, values=[0.405")
    fields = {name: getattr(result, name) for name in result.__dataclass_fields__}
    assert repr(Result(**fields)).startswith("Result(k=2, learned, values=[0.405")
    assert result == result  # by identity: tensors have no single truth
    assert result != brownian(torch.eye(2))


def test_without_an_exact_answer_there_are_no_errors():
    problem = nbsvd.Problem(nbsvd.Integral(lambda x, y: x @ y.t(), Gaussian(1)))
    result = spectrum(problem, Mixed(Brownian(), torch.eye(1, dtype=f64)))
    for ask in (result.errors, result.align, lambda: result.exact_like(torch.zeros(1, 1))):
        with pytest.raises(nbsvd.ArgumentError, match="exact: got None; expected a problem with a known"):
            ask()
