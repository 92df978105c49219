"""Features: jets, cusps, bad input."""

import pytest
import torch
from by_autograd import assert_jet, assert_live, assert_value_only, points

from nbsvd._errors import ArgumentError
from nbsvd.functions import Features

DIMS = range(1, 6)
KINDS = {
    "one scale": {"scales": [1.5]},
    "several scales": {"scales": [0.5, 2.0, 8.0]},
    "centre": {"scales": [1.0, 3.0], "center": True},
    "cusp": {"scales": [1.0, 3.0], "cusps": True},
    "waves": {"scales": [1.0, 3.0], "fourier": 4},
    "all": {"scales": [1.0, 3.0], "center": True, "cusps": True, "fourier": 2},
}
CASES = [(kind, dim) for kind in KINDS for dim in DIMS if dim > 1 or not KINDS[kind].get("cusps")]


def features(kind, dim, learned=False):
    options = dict(KINDS[kind])
    if options.get("center"):
        options["center"] = [0.5 * (i + 1) for i in range(dim)]
    if options.get("cusps"):
        options["cusps"] = [[0.0] * dim, [0.25] * dim]
    return Features(dim, learned=learned, generator=torch.Generator().manual_seed(0), **options).double()


@pytest.mark.parametrize(("kind", "dim"), CASES)
class TestJets:
    def test_jet(self, kind, dim):
        phi = features(kind, dim)
        assert_jet(phi.jet(points(7, dim)), phi, points(7, dim))

    def test_count(self, kind, dim):
        phi = features(kind, dim)
        assert phi(points(7, dim)).shape == (7, phi.count)

    def test_learned_scales(self, kind, dim):
        phi = features(kind, dim, learned=True)
        assert [name for name, _ in phi.named_parameters()] == ["log_scales"]
        assert_live(phi, points(7, dim))
        assert_value_only(phi, points(7, dim))

    def test_fixed_scales_are_no_parameters(self, kind, dim):
        assert not list(features(kind, dim).parameters())


def test_formulas():
    phi = Features(2, scales=[3.0], center=[1.0, 0.0], cusps=[(1.0, 0.0)]).double()
    x = torch.tensor([[1.0, 4.0]], dtype=torch.float64)  # at a distance of 4 from centre and cusp
    torch.testing.assert_close(
        phi(x), torch.tensor([[0.0, 4 / 5, 3 / 5, 4 / 7]], dtype=torch.float64), rtol=1e-6, atol=1e-6
    )


def test_features_are_bounded_far_away():
    phi = features("all", 3)
    assert float(phi(points(50, 3, scale=1e6)).abs().max()) <= 1


def test_only_the_cusp_features_have_a_cusp():
    """The slopes on the two sides of a declared point differ for r / (s + r), and for no other feature."""
    phi = Features(2, scales=[1.0, 2.0], cusps=[(0.0, 0.0)]).double()
    h = torch.tensor([[1e-7, 0.0]], dtype=torch.float64)
    kink = (phi(h) + phi(-h) - 2 * phi(0 * h))[0] / 1e-7
    assert (kink.abs() > 0.5).tolist() == [False] * 6 + [True] * 2


def test_a_cusp_on_a_line_is_refused(unchecked):
    with pytest.raises(ArgumentError, match="cusps: got 1 on a line; expected none in one dimension"):
        Features(1, scales=[1.0], cusps=[(0.0,)])


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("scales", {"scales": []}),
        ("scales", {"scales": [1.0, -1.0]}),
        ("scales", {"scales": [float("nan")]}),
        ("cusps", {"scales": [1.0], "cusps": [(0.0,)]}),
        ("center", {"scales": [1.0], "center": [0.0]}),
        ("fourier", {"scales": [1.0], "fourier": -1}),
        ("generator", {"scales": [1.0], "fourier": 3}),
    ],
)
def test_bad_arguments(argument, options, unchecked):
    with pytest.raises(ArgumentError, match=rf"{argument}: got .*; expected"):
        Features(2, **options)


def test_waves_depend_on_the_generator_only():
    a, b = (
        Features(2, scales=[1.0], fourier=3, generator=torch.Generator().manual_seed(4)) for _ in range(2)
    )
    c = Features(2, scales=[1.0], fourier=3, generator=torch.Generator().manual_seed(5))
    assert torch.equal(a.waves, b.waves)
    assert not torch.equal(a.waves, c.waves)
