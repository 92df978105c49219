"""Laws: their densities, and points that follow them.

Statistical bounds: 5 standard errors for means (false alarm 5.7e-7 each), level 1e-6 for Kolmogorov-Smirnov
tests; less than 1e-4 for the whole file over seeds, and nothing for the seeds that stand here.
"""

import math

import pytest
import scipy.integrate
import scipy.stats
import torch
from measure_cases import CASES, f64, seeded, two

from nbsvd._errors import ArgumentError
from nbsvd.measures import Gaussian, Law, Mixture, Radial, TruncatedGaussian, Uniform

LAWS = [name for name in CASES if isinstance(CASES[name][0], Law)]


RULES = {1: 200, 2: 10_000, 3: 60_000}  # nodes; the kink of "radial 1" has its own test below


@pytest.mark.parametrize("name", [n for n in LAWS if CASES[n][0].lebesgue_rule() and n != "radial 1"])
def test_density_integrates_to_one(name):
    law = CASES[name][0]
    x, w = law.lebesgue_rule()(RULES[law.dim], None)
    assert float((w * law.log_density(x).exp()).mean()) == pytest.approx(1, rel=1e-8)


@pytest.mark.parametrize("name", LAWS)
class TestDensities:
    def test_points_follow_it(self, name):
        """Importance sampling from the law gives the integral of a narrow bell inside its support."""
        law = CASES[name][0]
        centre = torch.tensor(law.center, dtype=f64)
        width = 0.15 * law.length

        def narrow(x):
            z = (x - centre) / width - 0.2
            return torch.exp(-0.5 * (z * z).sum(1)) / (width * math.sqrt(2 * math.pi)) ** law.dim

        x = law.transport(torch.rand(60_000, law.dim, generator=seeded(6), dtype=f64))
        terms = narrow(x) / law.log_density(x).exp()
        assert abs(float(terms.mean()) - 1) < 5 * float(terms.std()) / math.sqrt(len(terms))

    def test_points_of_another_shape(self, name, unchecked):
        law = CASES[name][0]
        for shape in ((5,), (5, law.dim + 1), (2, 5, law.dim)):
            with pytest.raises(
                ArgumentError, match=rf"points: got shape .*; expected shape \(B, {law.dim}\)"
            ):
                law.log_density(torch.zeros(shape))


@pytest.mark.parametrize("dim", range(1, 6))
class TestRadial:
    law = staticmethod(lambda dim: Radial(dim, scale=1.5, center=(0.5,) * dim))

    def polar(self, dim):
        law = self.law(dim)
        z = law.transport(torch.rand(20_000, dim, generator=seeded(7), dtype=f64)) - 0.5
        return z.norm(dim=1), z

    def test_radius(self, dim):
        r, _ = self.polar(dim)
        assert scipy.stats.kstest((r / (1.5 + r)).numpy(), "uniform").pvalue > 1e-6

    def test_direction(self, dim):
        r, z = self.polar(dim)
        if dim == 1:
            assert abs(float((z > 0).double().mean()) - 0.5) < 5 * 0.5 / math.sqrt(len(z))
            return
        for i in range(dim):  # the square of one coordinate of a uniform direction is a Beta variable
            share = (z[:, i] / r) ** 2
            assert scipy.stats.kstest(share.numpy(), scipy.stats.beta(0.5, (dim - 1) / 2).cdf).pvalue > 1e-6
            assert abs(float((z[:, i] > 0).double().mean()) - 0.5) < 5 * 0.5 / math.sqrt(len(z))

    def test_radius_and_direction_are_independent(self, dim):
        r, z = self.polar(dim)
        t = r / (1.5 + r) - 0.5
        correlation = (t * z[:, 0] / r).mean() / (t.std() * (z[:, 0] / r).std())
        assert abs(float(correlation)) < 5 / math.sqrt(len(z))

    def test_density_in_closed_form(self, dim):
        """The density at a radius, times the surface of the sphere, integrates to one over radii."""
        law = self.law(dim)
        sphere = 2 * math.pi ** (dim / 2) / math.gamma(dim / 2)

        def shell(r):
            x = torch.full((1, dim), 0.5, dtype=f64)
            x[0, 0] += r
            return sphere * r ** (dim - 1) * float(law.log_density(x).exp())

        assert shell(2.0) == pytest.approx(1.5 / 3.5**2, rel=1e-12)
        assert scipy.integrate.quad(shell, 0, math.inf)[0] == pytest.approx(1, rel=1e-8)


@pytest.mark.parametrize("dim", [1, 2, 4, 6])
@pytest.mark.parametrize("power", [0.7, 1.0, 2.0, 4.5])
class TestPowersOfRadialLaws:
    def test_radius(self, dim, power):
        """``(r/s)^a`` has the law of ``u / (1 - u)``; Kolmogorov-Smirnov at 1e-6, 16 times."""
        law = Radial(dim, scale=1.5, center=(0.5,) * dim, power=power)
        r = (law.transport(torch.rand(20_000, dim, generator=seeded(9), dtype=f64)) - 0.5).norm(dim=1)
        odds = (r / 1.5) ** power
        assert scipy.stats.kstest((odds / (1 + odds)).numpy(), "uniform").pvalue > 1e-6

    def test_density(self, dim, power):
        law = Radial(dim, scale=1.5, center=(0.5,) * dim, power=power)
        sphere = 2 * math.pi ** (dim / 2) / math.gamma(dim / 2)

        def shell(t):  # over log r, where the law is the logistic one
            r = math.exp(t)
            x = torch.full((1, dim), 0.5, dtype=f64)
            x[0, -1] += r
            return sphere * r**dim * float(law.log_density(x).exp())

        assert scipy.integrate.quad(shell, -12, 25, limit=200)[0] == pytest.approx(1, abs=1e-3)
        spread = scipy.integrate.quad(lambda t: (t - math.log(1.5)) ** 2 * shell(t), -30, 40, limit=200)[0]
        assert math.sqrt(spread) == pytest.approx(math.pi / math.sqrt(3) / power, rel=1e-2)

    def test_description_and_centre(self, dim, power):
        law = Radial(dim, scale=1.5, power=power)
        assert law.config().get("power", 1.0) == power
        assert law.same_as(Radial(dim, scale=1.5)) == (power == 1.0)
        at_centre = float(law.log_density(torch.zeros(1, dim, dtype=f64)))
        assert at_centre == pytest.approx({True: math.inf, False: -math.inf}[power < dim]) or power == dim


def second_moments(law, h, n):
    """Sample means of ``(h/p)^2`` over n points: the median of 15, for of an infinite mean no mean exists."""
    found = []
    for seed in range(15):
        x = law.transport(torch.rand(n, law.dim, generator=seeded(100 + seed), dtype=f64))
        found.append(float((h(x) / law.log_density(x).exp()).square().mean()))
    return sorted(found)[7]


def coulomb_energy(x, c=(0.0, 0.0)):
    """``f^2 / r`` of a hydrogen function: its slowest decay and its singular point."""
    r = (x - x.new_tensor(c)).norm(dim=1)
    return torch.exp(-2 * r) / r


def steep(x):
    """An integrable singularity whose square is not: ``exp(-r) / r^(3/2)``."""
    r = x.norm(dim=1)
    return torch.exp(-r) / r**1.5


@pytest.mark.parametrize(
    ("law", "h", "finite"),
    [
        (Radial(2, scale=1.0), coulomb_energy, True),
        (Radial(2, scale=0.2), coulomb_energy, True),  # a scale that is wrong by far
        (Gaussian(2, scale=0.5), lambda x: torch.exp(-x.norm(dim=1)), False),  # its tail is too light
        (Gaussian(2, scale=3.0), steep, False),  # it is bounded at the singular point
        (Radial(2, scale=1.0, power=0.4), steep, True),  # density like 1/r^1.6 there
        (two, lambda x: coulomb_energy(x, (1.0, 0.0)) + coulomb_energy(x, (-1.0, 0.0)), True),
        (Radial(6, scale=2.0, power=4.5), lambda x: torch.exp(-x.norm(dim=1)), True),
    ],
)
def test_variances_that_are_finite_and_others_that_grow_with_the_number_of_points(law, h, finite):
    few, many = (second_moments(law, h, n) for n in (500, 64_000))
    assert (many < 1.25 * few) == finite
    assert finite or many > 2 * few


def test_the_centre_of_a_radial_law_on_a_line_is_a_point_like_any_other():
    assert float(Radial(1, scale=1.0).log_density(torch.zeros(1, 1)).exp()) == pytest.approx(0.5)
    assert float(Radial(2, scale=1.0).log_density(torch.zeros(1, 2))) == math.inf


def test_truncated_gaussian_stays_inside():
    law = TruncatedGaussian(3, scale=16.0, bound=50.0)
    u = torch.rand(10_000, 3, generator=seeded(), dtype=f64)
    u[0], u[1] = 1e-15, 1 - 1e-15
    x = law.transport(u)
    assert float(x.abs().max()) <= 50
    normal = scipy.stats.truncnorm(-50 / 16, 50 / 16, scale=16)
    assert scipy.stats.kstest(x[2:, 0].numpy(), normal.cdf).pvalue > 1e-6
    outside = torch.tensor([[51.0, 0.0, 0.0]], dtype=f64)
    assert float(law.log_density(outside)) == -math.inf


def test_mixture_chooses_by_its_shares():
    law = Mixture([Uniform(0.0, 1.0), Uniform(2.0, 3.0), Gaussian(1, mean=10.0, scale=0.1)], [1.0, 2.0, 5.0])
    n = 20_000
    x = law.transport(torch.rand(n, 1, generator=seeded(8), dtype=f64))[:, 0]
    for inside, share in ((x < 1.5, 1 / 8), ((x > 1.5) & (x < 5), 2 / 8), (x > 5, 5 / 8)):
        assert abs(float(inside.double().mean()) - share) < 5 * math.sqrt(share * (1 - share) / n)
    for part, cdf in (
        (x[x < 1.5], scipy.stats.uniform(0, 1).cdf),
        (x[(x > 1.5) & (x < 5)], scipy.stats.uniform(2, 1).cdf),
        (x[x > 5], scipy.stats.norm(10, 0.1).cdf),
    ):
        assert scipy.stats.kstest(part.numpy(), cdf).pvalue > 1e-6


def test_mixture_of_mixtures_and_its_middle():
    law = Mixture([two, Radial(2, scale=4.0)])
    assert law.length == 4.0
    assert law.center == pytest.approx((0.25, 0.0))
    assert float(law.log_density(torch.tensor([[0.3, 0.4]], dtype=f64)).exp()) == pytest.approx(
        float(
            0.375 * two.laws[0].log_density(torch.tensor([[0.3, 0.4]], dtype=f64)).exp()
            + 0.125 * two.laws[1].log_density(torch.tensor([[0.3, 0.4]], dtype=f64)).exp()
            + 0.5 * Radial(2, scale=4.0).log_density(torch.tensor([[0.3, 0.4]], dtype=f64)).exp()
        ),
        rel=1e-12,
    )


def test_whole_numbers_are_taken_for_lengths():
    for whole, real in (
        (Uniform(0, 2), Uniform(0.0, 2.0)),
        (Uniform((0, 1), (1, 2)), Uniform((0.0, 1.0), (1.0, 2.0))),
        (Gaussian(1, scale=2, mean=1), Gaussian(1, scale=2.0, mean=1.0)),
        (TruncatedGaussian(2, scale=16, bound=50), TruncatedGaussian(2, scale=16.0, bound=50.0)),
        (Radial(2, scale=3, center=(1, 0)), Radial(2, scale=3.0, center=(1.0, 0.0))),
        (Mixture([Gaussian(1), Gaussian(1)], [1, 3]), Mixture([Gaussian(1), Gaussian(1)], [0.25, 0.75])),
    ):
        assert whole.config() == real.config()
