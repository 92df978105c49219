"""Measures: one contract that every measure passes, and what is special to each.

Statistical tests compare a mean with its exact value. For independent draws the bound is 5 standard errors
(false alarm 5.7e-7 for each, 30 in all); for 16 scrambled Sobol sets it is 6 (Student's t with 15 degrees:
2.5e-5, 28 in all). That is less than 1e-3 for the whole file over seeds, and nothing for the seeds that
stand here.
"""

import json
import math

import pytest
import torch
from measure_cases import CASES, DATA, f64, seeded

from nbsvd._errors import ArgumentError
from nbsvd.measures import (
    Counting,
    Empirical,
    Gaussian,
    Lebesgue,
    Mixture,
    Nodes,
    Radial,
    TruncatedGaussian,
    Uniform,
)

STILL = ("empirical", "counting")  # their quadrature is the whole of the space: no random copies


every = pytest.mark.parametrize("name", CASES)


@every
class TestContract:
    def test_nodes_of_every_kind(self, name):
        measure, *_, count, _ = CASES[name]
        assert ("quadrature" in measure.kinds) == (count is not None)
        assert measure.training_kind in measure.kinds
        assert measure.evaluation_kind in measure.kinds
        for kind in measure.kinds:
            for dtype in (torch.float32, f64):
                nodes = measure.nodes(count or 100, kind=kind, generator=seeded(), dtype=dtype)
                assert nodes.kind == kind
                assert nodes.x.shape == (len(nodes), measure.dim)
                assert nodes.weights.shape == (len(nodes),)
                assert nodes.weights.dtype == dtype
                assert nodes.x.dtype == (torch.int64 if name == "counting" else dtype)
                assert bool((nodes.weights > 0).all())
                assert bool(torch.isfinite(nodes.weights**2).all())
                assert bool(torch.isfinite(nodes.x).all())
                assert kind == "quadrature" or len(nodes) == (count or 100)

    def test_the_generator_decides(self, name):
        measure, *_, count, _ = CASES[name]
        for kind in measure.kinds:
            a, b, c = (measure.nodes(count or 100, kind=kind, generator=seeded(seed)) for seed in (1, 1, 2))
            assert torch.equal(a.x, b.x)
            assert torch.equal(a.weights, b.weights)
            if kind != "quadrature" or name not in STILL:
                assert not torch.equal(a.x, c.x)
                generator = seeded(1)
                first, second = (
                    measure.nodes(count or 100, kind=kind, generator=generator) for _ in range(2)
                )
                assert torch.equal(first.x, a.x)
                assert not torch.equal(second.x, a.x)

    def test_independent_draws(self, name):
        measure, function, exact, *_ = CASES[name]
        nodes = measure.nodes(40_000, kind="iid", generator=seeded(3))
        terms = nodes.weights * function(nodes.x)
        error = float(terms.std()) / math.sqrt(len(terms))
        assert abs(float(nodes.integrate(function(nodes.x))) - exact) < 5 * error

    def test_kinds_that_are_not_offered(self, name, unchecked):
        measure, *_ = CASES[name]
        with pytest.raises(
            ArgumentError, match=r"kind: got 'sobel'; expected one of .*Did you mean 'sobol'\?"
        ):
            measure.nodes(10, kind="sobel")
        for kind in {"iid", "sobol", "quadrature"} - set(measure.kinds):
            with pytest.raises(ArgumentError, match=f"kind: got '{kind}'; expected one of 'iid'"):
                measure.nodes(10, kind=kind, generator=seeded())

    def test_random_nodes_need_a_generator_and_a_number(self, name, unchecked):
        measure, *_ = CASES[name]
        with pytest.raises(ArgumentError, match=r"generator: got None; expected a torch\.Generator"):
            measure.nodes(10, kind="iid")
        with pytest.raises(ArgumentError, match="n: got 0; expected at least one node"):
            measure.nodes(0, kind="iid", generator=seeded())

    def test_config_is_plain_data_of_its_own(self, name):
        measure, *_ = CASES[name]
        assert json.loads(json.dumps(measure.config())) == measure.config()
        others = [CASES[other][0].config() for other in CASES if other != name]
        assert measure.config() not in others

    def test_length_and_center(self, name):
        measure, *_ = CASES[name]
        assert measure.length is None or measure.length > 0
        assert len(measure.center) == measure.dim


@pytest.mark.parametrize("name", [name for name in CASES if "quadrature" in CASES[name][0].kinds])
def test_quadrature(name):
    measure, function, exact, count, bound = CASES[name]
    nodes = measure.nodes(count, kind="quadrature")
    assert float(nodes.integrate(function(nodes.x))) == pytest.approx(exact, rel=bound)
    for seed in range(5):  # random copies
        nodes = measure.nodes(count, kind="quadrature", generator=seeded(seed))
        assert float(nodes.integrate(function(nodes.x))) == pytest.approx(exact, rel=max(20 * bound, 1e-12))


@pytest.mark.parametrize("name", [name for name in CASES if "sobol" in CASES[name][0].kinds])
def test_sobol(name):
    measure, function, exact, *_ = CASES[name]
    generator, means = seeded(4), []
    for _ in range(16):
        nodes = measure.nodes(2048, kind="sobol", generator=generator)
        means.append(float(nodes.integrate(function(nodes.x))))
    mean, error = torch.tensor(means, dtype=f64).mean(), torch.tensor(means, dtype=f64).std()
    assert abs(float(mean) - exact) < 6 * float(error) / 4 + 1e-9
    draws = measure.nodes(2048, kind="iid", generator=generator)
    spread = float((draws.weights * function(draws.x)).std()) / math.sqrt(2048)
    assert float(error) < spread  # better than independent draws, which is why we use them


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_nodes_on_a_gpu():
    for measure, *_, count, _ in CASES.values():
        for kind in measure.kinds:
            nodes = measure.nodes(count or 100, kind=kind, generator=seeded(), device="cuda")
            assert nodes.x.device.type == nodes.weights.device.type == "cuda"
            assert torch.equal(nodes.x.cpu(), measure.nodes(count or 100, kind=kind, generator=seeded()).x)


@pytest.mark.parametrize("dim", range(1, 6))
@pytest.mark.parametrize("end", [0.0, 1.0])
def test_far_and_near_points_have_weights_that_can_be_squared(dim, end, monkeypatch):
    """A random number at the very end of (0, 1) must not put inf * 0 into a step in float32."""
    u = 1e-15 if end == 0 else 1 - 1e-15
    monkeypatch.setattr("nbsvd.measures.base.uniform", lambda n, d, g: torch.full((n, d), u, dtype=f64))
    nodes = Lebesgue(Radial(dim, scale=3.0)).nodes(2, kind="iid", generator=seeded(), dtype=torch.float32)
    assert bool(torch.isfinite(nodes.weights**2).all())
    assert bool((nodes.weights > 0).all())


def test_nodes_without_weight_are_left_out():
    nodes = Gaussian(1).nodes(2000, kind="quadrature", dtype=torch.float32)
    assert 100 < len(nodes) < 2000
    assert float(nodes.integrate(nodes.x[:, 0] ** 2)) == pytest.approx(1, rel=1e-5)


def test_a_large_rule_is_made_in_a_moment():
    nodes = Uniform(0.0, 1.0).nodes(4000, kind="quadrature")
    assert float(nodes.integrate(nodes.x[:, 0])) == pytest.approx(0.5, rel=1e-12)


def test_empirical_and_counting_take_all_there_is():
    nodes = Empirical(DATA).nodes(7, kind="quadrature")
    assert torch.equal(nodes.x, DATA)
    nodes = Counting(5).nodes(2)
    assert nodes.x[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert nodes.to(dtype=torch.float32).x.dtype == torch.int64
    draws = Counting(5).nodes(1000, kind="iid", generator=seeded())
    assert sorted(set(draws.x[:, 0].tolist())) == [0, 1, 2, 3, 4]
    rows = Empirical(DATA).nodes(20, kind="iid", generator=seeded()).x
    assert bool((rows[:, None] == DATA).all(2).any(1).all())


class TestNodes:
    x, w = torch.tensor([[0.25], [0.75]]), torch.ones(2)

    def test_integrate_keeps_the_other_axes(self):
        nodes = Nodes(self.x, 2 * self.w, "quadrature")
        assert torch.equal(nodes.integrate(self.x.expand(2, 3)), torch.ones(3))
        assert nodes.integrate(self.x[:, 0]).shape == ()

    @pytest.mark.parametrize(
        ("argument", "x", "weights"),
        [
            ("points", torch.ones(2), w),
            ("weights", x, torch.ones(3)),
            ("weights", x, torch.ones(2, 1)),
            ("weights", x, torch.tensor([1.0, 0.0])),
            ("weights", x, torch.tensor([1.0, -1.0])),
            ("weights", x, torch.tensor([1.0, math.nan])),
            ("weights", x, torch.tensor([1.0, math.inf])),
        ],
    )
    def test_bad_arguments(self, argument, x, weights, unchecked):
        with pytest.raises(ArgumentError, match=rf"^{argument}: got .*; expected"):
            Nodes(x, weights, "iid")


@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("low, high", lambda: Uniform(1.0, 0.0)),
        ("low, high", lambda: Uniform((0.0, 0.0), (1.0,))),
        ("low, high", lambda: Uniform(0.0, math.inf)),
        ("low, high", lambda: Uniform((), ())),
        ("dim", lambda: Gaussian(0)),
        ("scale", lambda: Gaussian(1, scale=0.0)),
        ("mean", lambda: Gaussian(1, mean=math.nan)),
        ("bound", lambda: TruncatedGaussian(1, scale=1.0, bound=-1.0)),
        ("scale", lambda: Radial(2, scale=math.inf)),
        ("center", lambda: Radial(2, scale=1.0, center=(0.0,))),
        ("laws", lambda: Mixture([])),
        ("laws", lambda: Mixture([Gaussian(1), Gaussian(2)])),
        ("shares", lambda: Mixture([Gaussian(1)], [0.0])),
        ("shares", lambda: Mixture([Gaussian(1)], [1.0, 1.0])),
        ("law", lambda: Lebesgue(Counting(3))),
        ("n", lambda: Counting(0)),
        ("data", lambda: Empirical(torch.zeros(5))),
        ("data", lambda: Empirical(torch.zeros(0, 2))),
        ("data", lambda: Empirical(torch.tensor([[math.nan]]))),
    ],
)
def test_bad_arguments(argument, make, unchecked):
    with pytest.raises(ArgumentError, match=rf"^{argument}: got .*; expected"):
        make()
