"""Laws and rules along ellipsoids and around several centres.

Statistical bounds are 5 standard errors: a false alarm has probability 5.7e-7 each, and none for these seeds.
"""

import math

import pytest
import scipy.special
import torch

from nbsvd._errors import ArgumentError
from nbsvd.measures import CellsRule, Gaussian, Lebesgue, PolarRule, Radial, SphericalRule, Stretched
from nbsvd.measures.stretched import cell_weights

f64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def frame(dim):
    B = torch.randn(dim, dim, generator=seeded(1), dtype=f64)
    A = B @ B.t() + 0.3 * torch.eye(dim, dtype=f64)
    return A / torch.linalg.det(A) ** (1 / dim)


@pytest.mark.parametrize("dim", range(1, 6))
class TestStretched:
    def law(self, dim):
        return Stretched(Radial(dim, scale=1.5, center=(0.5,) * dim), frame(dim).tolist())

    def test_points_are_those_of_the_law_seen_through_the_map(self, dim):
        u = torch.rand(100, dim, generator=seeded(), dtype=f64)
        law = self.law(dim)
        y = law.law.transport(u) - 0.5
        torch.testing.assert_close(law.transport(u) - 0.5, y @ frame(dim), rtol=1e-10, atol=1e-10)

    def test_weighted_points_integrate(self, dim):
        """Independent draws, with one over the density as weight, give the volume under a bell."""
        nodes = Lebesgue(self.law(dim)).nodes(200_000, kind="iid", generator=seeded(3))
        terms = nodes.weights * torch.exp(-((nodes.x - 0.2) ** 2).sum(1)) / math.pi ** (dim / 2)
        assert abs(float(terms.mean()) - 1) < 5 * float(terms.std()) / math.sqrt(len(terms))

    def test_length_centre_frame(self, dim):
        law, nodes = self.law(dim), Lebesgue(self.law(dim))
        assert law.length == nodes.length == 1.5
        assert law.center == nodes.center == (0.5,) * dim
        torch.testing.assert_close(torch.tensor(nodes.frame, dtype=f64), frame(dim))
        assert Lebesgue(Radial(dim, scale=1.0)).frame is None

    def test_description(self, dim):
        nodes = Lebesgue(self.law(dim))
        assert nodes.same_as(Lebesgue(self.law(dim)))
        other = Stretched(Radial(dim, scale=1.5, center=(0.5,) * dim), (2 * frame(dim)).tolist())
        assert not nodes.same_as(Lebesgue(other))


@pytest.mark.parametrize(("dim", "n", "bound"), [(1, 80, 1e-9), (2, 1500, 1e-7), (3, 30_000, 1e-6)])
def test_the_rule_of_a_stretched_law(dim, n, bound):
    law = Stretched(Radial(dim, scale=1.0, center=(0.5,) * dim), frame(dim).tolist())
    inverse = torch.linalg.inv(frame(dim))
    for generator in (None, seeded(2)):
        x, w = law.lebesgue_rule()(n, generator)
        bell = torch.exp(-(((x - 0.5) @ inverse) ** 2).sum(1))
        assert float((w * bell).mean()) == pytest.approx(math.pi ** (dim / 2), rel=bound)


def test_a_stretched_rule_still_integrates_what_is_singular_at_its_centre():
    A = ((1.6, 0.0), (0.0, 0.625))
    x, w = Stretched(Radial(2, scale=1.0), A).lebesgue_rule()(4000, None)
    r = x.norm(dim=1)
    assert float((w * torch.exp(-r) / r).mean()) == pytest.approx(2 * math.pi, rel=1e-6)


def test_no_rule_in_four_dimensions():
    law = Stretched(Radial(4, scale=1.0), torch.eye(4).tolist())
    assert law.lebesgue_rule() is None
    assert Lebesgue(law).kinds == ("iid", "sobol")


@pytest.mark.parametrize(
    "bad", [[[1.0]], [[1.0, 0.0]], [[1.0, 1.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, -1.0]], [[math.nan] * 2] * 2]
)
def test_bad_frames(bad, unchecked):
    with pytest.raises(ArgumentError, match=r"frame: got .*; expected a symmetric positive definite matrix"):
        Stretched(Radial(2, scale=1.0), bad)


CENTERS = {2: ((-1.0, 0.0), (1.0, 0.0), (0.5, 4.0)), 3: ((-1.0, 0.0, 0.0), (1.0, 0.5, 0.0))}
RULES = {2: PolarRule, 3: SphericalRule}


def cells(dim):
    return CellsRule(CENTERS[dim], tuple(RULES[dim](1.0, c) for c in CENTERS[dim]))


class TestCells:
    def test_weights_share_out_each_point(self):
        for dim, centers in CENTERS.items():
            x = 3 * torch.randn(500, dim, generator=seeded(), dtype=f64)
            share = cell_weights(x, centers)
            assert bool((share >= 0).all())
            torch.testing.assert_close(share.sum(1), torch.ones(500, dtype=f64))
            at = cell_weights(torch.tensor(centers, dtype=f64), centers)
            torch.testing.assert_close(at, torch.eye(len(centers), dtype=f64))

    def test_weights_vanish_to_fourth_order_at_other_centres(self):
        centers = CENTERS[2][:2]
        along = torch.tensor([[1.0 + h, 0.0] for h in (0.01, 0.02)], dtype=f64)
        small = cell_weights(along, centers)[:, 0]
        assert float(small[1] / small[0]) == pytest.approx(16, rel=0.2) or float(small.max()) < 1e-12

    @pytest.mark.parametrize(("dim", "n", "bound"), [(2, 12_000, 1e-4), (3, 60_000, 1e-4)])
    def test_cusp_and_pole_at_every_centre(self, dim, n, bound):
        for generator in (None, seeded(4)):
            x, w = cells(dim)(n, generator)
            for center in CENTERS[dim]:
                r = (x - x.new_tensor(center)).norm(dim=1)
                cusp, pole = {2: (2 * math.pi, 2 * math.pi), 3: (8 * math.pi, 4 * math.pi)}[dim]
                assert float((w * torch.exp(-r)).mean()) == pytest.approx(cusp, rel=bound)
                assert float((w * torch.exp(-r) / r).mean()) == pytest.approx(pole, rel=bound)

    def test_pole_away_from_the_middle_of_a_bell(self):
        x, w = cells(2)(12_000, None)
        near = torch.exp(-(x**2).sum(1)) / (x - x.new_tensor(CENTERS[2][0])).norm(dim=1)
        exact = math.pi**1.5 * math.exp(-0.5) * scipy.special.iv(0, 0.5)
        assert float((w * near).mean()) == pytest.approx(exact, rel=1e-4)

    def test_errors_fall_with_the_number_of_nodes(self):
        errors = []
        for n in (1000, 4000, 16_000):
            x, w = cells(2)(n, None)
            r = (x - x.new_tensor(CENTERS[2][1])).norm(dim=1)
            errors.append(abs(float((w * torch.exp(-r) / r).mean()) - 2 * math.pi))
        assert errors[0] > 5 * errors[1] > 25 * errors[2]

    def test_copies_differ_and_depend_on_the_generator_only(self):
        a, b, c = (cells(2)(500, seeded(s))[0] for s in (1, 1, 2))
        assert torch.equal(a, b)
        assert a.shape != c.shape or not torch.equal(a, c)


def test_a_gaussian_law_may_be_stretched_too():
    law = Stretched(Gaussian(2), ((2.0, 0.0), (0.0, 1.0)))
    x = torch.tensor([[1.0, 1.0]], dtype=f64)
    expected = -0.5 * (0.25 + 1.0) - math.log(2 * math.pi) - math.log(2)
    assert float(law.log_density(x)) == pytest.approx(expected)
