"""Where functions live: found from the operator, against what is known of it."""

import math
import warnings

import pytest
import torch

import nbsvd
from nbsvd import ArgumentError, Problem, Schrodinger, solve
from nbsvd.exact import Hydrogen2D, Oscillator
from nbsvd.functions import DecayFactor, Envelope
from nbsvd.measures import CellsRule, Gaussian, Lebesgue, Mixture, PolarRule, Radial, Stretched, Uniform
from nbsvd.training.cloud import Cloud, Place, clusters, place, shape, sizes, split
from nbsvd.training.frame import find_frame, unframed, warn_unbound
from nbsvd.training.scan import level, phase_density, power, scan, symbol, threshold

f64 = torch.float64
NONE = torch.zeros(0, 2, dtype=f64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def t(*numbers):
    return torch.tensor(numbers, dtype=f64)


def undeclared(potential, dim, points=()):
    return Problem(Schrodinger(potential, singular_points=points), Lebesgue(Radial(dim, scale=1.0)))


def oscillator(K, c):
    K, c = torch.as_tensor(K, dtype=f64), torch.as_tensor(c, dtype=f64)
    return lambda x: ((x - c.to(x)) @ K.to(x) * (x - c.to(x))).sum(1)


def well(depth, center, width=1.0):
    return lambda x: -depth * torch.exp(-((x - x.new_tensor(center)) ** 2).sum(1) / (2 * width**2))


def normal(n=4000, dim=2, seed=0):
    x = torch.randn(n, dim, generator=seeded(seed), dtype=f64)
    return Cloud(x, torch.full((n,), 1 / n, dtype=f64))


ROTATED = t(0.8, 0.6, -0.6, 0.8).view(2, 2) @ t(1.0, 25.0).diag() @ t(0.8, -0.6, 0.6, 0.8).view(2, 2)


class TestSymbol:
    def test_of_sums_and_multiples(self):
        x = torch.randn(20, 3, generator=seeded(), dtype=f64)
        T = 2.5 * Schrodinger(lambda x: x[:, 0] ** 2).shift(3.0) + Schrodinger(lambda x: x[:, 1])
        a, c = symbol(T, x)
        torch.testing.assert_close(a, torch.full((20,), 3.5, dtype=f64))
        torch.testing.assert_close(c, 2.5 * (3 - x[:, 0] ** 2) - x[:, 1])

    def test_where_the_potential_is_infinite(self):
        a, c = symbol(Schrodinger(lambda x: 1 / (x[:, 0] - 1).clamp_min(0)), t(0.0, 2.0)[:, None])
        assert a.tolist() == [1.0, 1.0]
        assert c.tolist() == [-math.inf, -1.0]

    @pytest.mark.parametrize(
        ("potential", "limit"),
        [
            (lambda x: -1 / x.norm(dim=1), 0.0),
            (lambda x: 3 - torch.exp(-(x**2).sum(1)), -3.0),
            (lambda x: 12 * (1 - torch.exp(-x[:, 0])) ** 2, -12.0),
            (lambda x: torch.where(x[:, 0] > 0, -1.0, 2.0), 1.0),
        ],
    )
    def test_threshold(self, potential, limit):
        T = Schrodinger(potential)
        assert threshold(T, torch.zeros(2, dtype=f64), 1.0, seeded()) == pytest.approx(limit, abs=1e-5)

    def test_a_confining_operator_has_none(self):
        T = Schrodinger(lambda x: (x**2).sum(1))
        assert threshold(T, torch.zeros(3, dtype=f64), 1.0, seeded()) == -math.inf
        slow = Schrodinger(lambda x: x.norm(dim=1).log())
        assert threshold(slow, torch.zeros(3, dtype=f64), 1.0, seeded()) == -math.inf


@pytest.mark.parametrize(
    ("potential", "expected"),
    [
        (lambda x: -1 / x.norm(dim=1), 1.0),
        (well(20.0, (0.0, 0.0)), 1.0),
        (lambda x: x.norm(dim=1), 1.5),
        (oscillator(ROTATED, (0.1, 0.1)), 2.0),
        (lambda x: (x**2).sum(1) + 20 * torch.exp(-(x**2).sum(1)) - 3 / x.norm(dim=1), 2.0),
        (lambda x: (x**4).sum(1) - 3 * (x**2).sum(1), 3.0),
        (lambda x: x[:, 0] ** 2 + x[:, 1] ** 4, 2.0),  # the slower of two
        (lambda x: (x**6).sum(1), 4.0),
        (lambda x: torch.cosh(x.norm(dim=1)), 4.0),
        (lambda x: torch.cos(5 * x[:, 0]), 1.0),
    ],
)
def test_power_of_the_decay(potential, expected):
    assert power(Schrodinger(potential), normal(), seeded()) == expected


class TestWeyl:
    @pytest.mark.parametrize("dim", [1, 2, 3])
    def test_counts_the_oscillator(self, dim):
        """N(E) = (E / 2)^d / d! for frequencies one."""
        nodes = Lebesgue(Radial(dim, scale=3.0)).nodes(3000 * dim, kind="quadrature")
        a, c = symbol(Schrodinger(lambda x: (x**2).sum(1)), nodes.x)
        density = phase_density(c, a, -8.0, dim)
        assert float(nodes.integrate(density)) == pytest.approx(4**dim / math.factorial(dim), rel=1e-2)
        value, count = level(c, a, nodes, 7.0, -math.inf)
        assert count == pytest.approx(7, rel=1e-6)
        assert value == pytest.approx(-2 * (7 * math.factorial(dim)) ** (1 / dim), rel=1e-2)

    def test_a_floor_ends_the_count(self):
        nodes = Lebesgue(Radial(2, scale=2.0)).nodes(5000, kind="quadrature")
        a, c = symbol(Schrodinger(well(8.0, (0.0, 0.0))), nodes.x)
        value, count = level(c, a, nodes, 50.0, 0.0)
        assert value == 0.0
        assert count == pytest.approx(4, rel=1e-2)  # 8 * 2 pi / (4 pi)
        assert level(c, a, nodes, 50.0, 9.0) == (9.0, 0.0)


SCANS = {
    "atom": (lambda x: -1 / x.norm(dim=1), (0.0, 0.0), None),
    "atom elsewhere": (lambda x: -2 / (x - t(6.0, -3.0)).norm(dim=1), (6.0, -3.0), None),
    "far oscillator": (oscillator(torch.eye(2), (300.0, -200.0)), (300.0, -200.0), 1.73),
    "tiny oscillator": (oscillator(1e8 * torch.eye(2), (0.3, 0.3)), (0.3, 0.3), 0.0173),
    "wide oscillator": (oscillator(1e-8 * torch.eye(2), (5.0, 5.0)), (5.0, 5.0), 173.0),
    "narrow well": (well(300.0, (15.0, 9.0), 0.1), (15.0, 9.0), None),
    "space": (oscillator(torch.eye(3), (4.0, 4.0, -9.0)), (4.0, 4.0, -9.0), None),
    "ten dimensions": (oscillator(torch.eye(10), (2.0,) * 10), (2.0,) * 10, None),
}


@pytest.mark.parametrize("name", SCANS)
def test_scan_finds_centre_and_size(name):
    potential, center, size = SCANS[name]
    start = torch.zeros(len(center), dtype=f64)
    found = scan(Schrodinger(potential), start, 1.0, 10, seeded())
    spread = found.cloud.spread().diagonal().sqrt()
    assert bool(((found.cloud.center - t(*center)).abs() < 0.1 * spread + 1e-6).all())
    if size is not None:
        length = math.sqrt(float(found.cloud.spread().trace()))
        assert length == pytest.approx(size, rel=0.05)


def test_scan_finds_nothing_above_a_barrier():
    found = scan(
        Schrodinger(lambda x: torch.exp(-(x**2).sum(1))), torch.zeros(2, dtype=f64), 1.0, 3, seeded()
    )
    assert found.cloud is None
    assert found.count == 0


def placed(cloud, singular):
    return place(cloud, split(cloud, seeded()), singular)


class TestPlace:
    def test_shape(self):
        length, frame = shape(t(4.0, 4.0).diag())
        assert length == pytest.approx(math.sqrt(8))
        assert torch.equal(frame, torch.eye(2, dtype=f64))
        # Sizes 16 and 1: axes as 4 to 1, with determinant one; seen from there, sizes 8 and 2.
        length, frame = shape(t(256.0, 1.0).diag())
        torch.testing.assert_close(frame, t(2.0, 0.5).diag())
        assert length == pytest.approx(math.hypot(8, 2))

    def test_a_round_cloud(self):
        here = placed(normal(), NONE)
        assert here.frame is None
        assert here.cells == ()
        assert here.length == pytest.approx(math.sqrt(2), rel=0.05)
        assert isinstance(here.measure().law, Radial)

    def test_a_long_cloud(self):
        cloud = normal()
        here = placed(Cloud(cloud.x * t(5.0, 1.0), cloud.p), NONE)
        assert isinstance(here.measure().law, Stretched)
        frame = torch.tensor(here.frame, dtype=f64)
        assert float(torch.linalg.det(frame)) == pytest.approx(1)
        assert float(frame[0, 0] / frame[1, 1]) == pytest.approx(math.sqrt(5), rel=0.1)

    def test_a_singular_point_near_the_middle_is_the_centre(self):
        here = placed(normal(), t(0.3, -0.2)[None])
        assert here.center == (0.3, -0.2)
        assert here.cells == ()
        assert here.measure()._rule == PolarRule(here.length, (0.3, -0.2))

    def test_one_elsewhere_is_a_centre_of_its_own(self):
        here = placed(normal(), t(3.0, 0.0)[None])
        assert here.cells[0] == (3.0, 0.0)
        assert here.cells[1] == pytest.approx((0, 0), abs=0.1)
        assert isinstance(here.measure()._rule, CellsRule)
        assert isinstance(here.measure().law, Mixture)

    def test_several(self):
        points = torch.stack([t(-0.5, 0.0), t(0.5, 0.0)])
        here = placed(normal(), points)
        assert here.cells == ((-0.5, 0.0), (0.5, 0.0))
        assert all(0.5 < length < 2 for length in here.lengths)

    def test_clusters_far_apart(self):
        x = normal(600).x
        x[:200] += t(20.0, 0.0)
        x[200:300] *= 0.3
        cloud = Cloud(x, torch.full((600,), 1 / 600, dtype=f64))
        here = placed(cloud, NONE)
        assert sorted(round(c[0]) for c in here.cells) == [0, 20]
        assert all(0.8 < length < 1.8 for length in here.lengths)
        with_nucleus = placed(cloud, t(20.3, 0.0)[None])
        assert with_nucleus.cells[0] == (20.3, 0.0)
        assert len(with_nucleus.cells) == 2

    @pytest.mark.parametrize("seed", range(5))
    def test_one_cluster_is_left_whole(self, seed):
        for dim in (2, 3, 6):
            assert clusters(normal(3000, dim, seed), seeded(seed)) is None
        ring = normal(3000, 2, seed).x
        ring = Cloud(ring / ring.norm(dim=1, keepdim=True), torch.full((3000,), 1 / 3000, dtype=f64))
        assert clusters(ring, seeded(seed)) is None

    def test_a_centre_without_mass(self):
        lengths = sizes(normal(), torch.stack([t(0.0, 0.0), t(100.0, 0.0)]))
        assert lengths.tolist() == pytest.approx([math.sqrt(2), 50.0], rel=0.05)

    def test_files(self):
        import json

        for here in (
            placed(normal(), NONE),
            placed(normal(), t(3.0, 0.0)[None]),
            Place((0.0, 0.0), 1.0, ((2.0, 0.0), (0.0, 0.5))),
        ):
            again = Place.read(json.loads(json.dumps(here.config())))
            assert again == here
            assert again.measure().same_as(here.measure())


def test_who_is_framed():
    T = Schrodinger(lambda x: (x**2).sum(1))
    law = Radial(2, scale=1.0)
    assert unframed(Problem(T, Lebesgue(law)))
    assert unframed(Problem(2.0 * T.shift(1.0), Lebesgue(law)))
    for problem in (
        Problem(T, Lebesgue(law), DecayFactor(1.0)),
        Problem(T, Lebesgue(law, rule=PolarRule(3.0))),
        Problem(T, Lebesgue(Uniform([-1.0] * 2, [1.0] * 2))),
        Problem(T, Gaussian(2)),
        nbsvd.problems.hydrogen2d(),
        nbsvd.problems.infinite_well2d(),
        nbsvd.problems.brownian(),
    ):
        assert not unframed(problem)


# problem, k, what the frame must be: centre, power, lengths of the decay (least and greatest) within bounds
FRAMES = {
    "atom": (undeclared(lambda x: -1 / x.norm(dim=1), 2, [(0.0, 0.0)]), 9, (0.0, 0.0), 1.0, (3.0, 12.0)),
    "atom elsewhere": (
        undeclared(lambda x: -1 / (x - t(7.0, 2.0)).norm(dim=1), 2, [(7.0, 2.0)]),
        4,
        (7.0, 2.0),
        1.0,
        (1.5, 6.0),
    ),
    "atom in space": (
        undeclared(lambda x: -1 / x.norm(dim=1), 3, [(0.0, 0.0, 0.0)]),
        5,
        (0.0, 0.0, 0.0),
        1.0,
        (2.5, 10.0),
    ),
    "oscillator": (undeclared(oscillator(torch.eye(2), (-9.0, 30.0)), 2), 10, (-9.0, 30.0), 2.0, (0.8, 1.6)),
    "tiny oscillator": (
        undeclared(oscillator(1e8 * torch.eye(2), (0.3, 0.3)), 2),
        6,
        (0.3, 0.3),
        2.0,
        (0.008, 0.016),
    ),
    "turned oscillator": (undeclared(oscillator(ROTATED, (4.0, 4.0)), 2), 10, (4.0, 4.0), 2.0, (0.3, 3.5)),
    "quartic": (undeclared(lambda x: (x[:, 0] - 3) ** 4, 1), 6, (3.0,), 3.0, (0.5, 2.5)),
    "well on a line": (
        undeclared(lambda x: -12 / torch.cosh(x[:, 0] - 8) ** 2, 1),
        3,
        (8.0,),
        None,
        (0.5, 4.0),
    ),
    "five dimensions": (undeclared(oscillator(torch.eye(5), (2.0,) * 5), 5), 6, (2.0,) * 5, 2.0, (0.7, 1.7)),
}


@pytest.mark.parametrize("name", FRAMES)
def test_find_frame(name):
    problem, k, center, power, (least, greatest) = FRAMES[name]
    frame = find_frame(problem, k, seeded())
    axes = torch.linalg.svdvals(torch.tensor(frame.ansatz.axes, dtype=f64))
    assert t(*frame.place.center).tolist() == pytest.approx(center, abs=0.3 * float(axes.min()))
    assert frame.ansatz.center.tolist() == pytest.approx(center, abs=0.3 * float(axes.min()))
    assert power is None or frame.ansatz.power == power
    assert least < float(axes.min())
    assert float(axes.max()) < greatest
    assert frame.bound == k
    for point in problem.operator.singular_points:
        assert frame.place.center == point


def test_axes_turn_with_the_operator():
    problem, k, *_ = FRAMES["turned oscillator"]
    frame = find_frame(problem, k, seeded())
    values, axes = torch.linalg.eigh(torch.tensor(frame.ansatz.axes, dtype=f64))
    assert abs(float(axes[:, 1] @ t(0.8, -0.6))) > 0.98  # the direction of the lower frequency
    assert (
        1.8 < float(values[1] / values[0]) < 8
    )  # the functions' ratio: between that of the ground state and of the orbits


def test_a_frame_is_reproducible():
    problem, k, *_ = FRAMES["oscillator"]
    a, b = (find_frame(problem, k, seeded(3)) for _ in range(2))
    assert a.config() == b.config()


class TestSolving:
    @pytest.mark.parametrize("method", ["varpro", "sgd"])
    def test_the_session_finds_the_frame(self, method):
        potential = oscillator(torch.eye(2), (-9.0, 30.0))
        problem = undeclared(potential, 2)
        result = solve(problem, 3, method=method, steps=5, progress=False)
        exact = Oscillator(frequencies=(1.0, 1.0), center=(-9.0, 30.0)).values(3)
        assert float(((result.values - exact) / exact).abs().max()) < 0.02
        assert result.info["frame"]["ansatz"]["power"] == 2.0
        assert result.measure_x.center == pytest.approx((-9.0, 30.0), abs=0.2)

    def test_a_round_decay_is_kept_by_gradients_and_found_by_projection(self):
        result = solve("hydrogen2d", 1, steps=2, progress=False)
        assert result.info["frame"] is None
        assert result.measure_x.config() == nbsvd.problems.hydrogen2d().measure.config()
        result = solve("hydrogen2d", 1, method="varpro", steps=2, progress=False)
        assert 0.2 < result.info["frame"]["place"]["length"] < 2  # of the ground state: sqrt(3 / 8)

    def test_any_other_ansatz_is_kept(self):
        declared = nbsvd.problems.hydrogen2d()
        problem = Problem(declared.operator, declared.measure, DecayFactor(2.0) * DecayFactor(8.0))
        result = solve(problem, 1, method="varpro", steps=2, progress=False)
        assert result.info["frame"] is None
        assert result.measure_x.config() == declared.measure.config()

    def test_a_network_of_the_user_s_own_is_not_framed(self):
        problem = undeclared(lambda x: (x**2).sum(1), 1)

        class Bells(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.width = torch.nn.Parameter(torch.ones(1))

            def forward(self, x):
                return torch.exp(-0.4 * self.width * x**2)

        result = solve(problem, 1, steps=2, progress=False, network=lambda generator: Bells())
        assert result.info["frame"] is None

    def test_accuracy_with_nothing_declared(self):
        exact = Hydrogen2D(charge=2.0, center=(3.0, -4.0))
        problem = undeclared(lambda x: -2 / (x - t(3.0, -4.0)).norm(dim=1), 2, [(3.0, -4.0)])
        result = solve(problem, 4, method="varpro", steps=60, progress=False)
        assert float(((result.values - exact.values(4)) / exact.values(4)).abs().max()) < 1e-5

    def test_saved_and_loaded(self, tmp_path):
        problem = undeclared(oscillator(torch.eye(2), (5.0, 5.0)), 2)
        result = solve(problem, 2, method="varpro", steps=2, progress=False)
        again = nbsvd.load(result.save(tmp_path / "r.safetensors"), problem=problem)
        assert torch.equal(again.values, result.values)
        assert again.measure_x.same_as(result.measure_x)

    def test_fewer_bound_states_than_asked_for(self):
        """A shallow well binds one state; the rest must neither run away nor pass for eigenvalues."""
        problem = undeclared(well(1.0, (2.0, 0.0)), 2)
        with pytest.warns(RuntimeWarning, match="k: of 4 values 1 lie above the continuous spectrum"):
            result = solve(problem, 4, method="varpro", steps=60, progress=False)
        assert float(result.values[0]) == pytest.approx(0.11539, rel=1e-3)
        assert bool((result.values[1:] < 0).all())
        assert result.measure_x.length < 30

    def test_nothing_bound(self):
        problem = undeclared(lambda x: torch.exp(-(x**2).sum(1)), 2)
        with pytest.warns(RuntimeWarning, match="k: of 2 values 0 lie above"):
            result = solve(problem, 2, method="varpro", steps=2, progress=False)
        assert result.measure_x.length == 1.0


def test_the_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_unbound([2.0, 1.0], 0.0)
        warn_unbound([-2.0, -5.0], -math.inf)
    with pytest.warns(RuntimeWarning, match=r"of 3 values 1 lie above .* ends at 0\. .*Ask for k=1"):
        warn_unbound([2.0, -1.0, -2.0], 0.0)


def test_a_potential_that_no_decay_can_meet():
    problem = undeclared(lambda x: torch.where(x[:, 0] > 1.0, math.inf, x[:, 0] ** 2), 1)
    with pytest.raises(ArgumentError, match=r"operator: got a potential that is not finite .*BoxFactor"):
        find_frame(problem, 2, seeded())


def test_envelope_is_what_a_frame_gives():
    frame = find_frame(FRAMES["oscillator"][0], 3, seeded())
    assert isinstance(frame.ansatz, Envelope)
    framed = frame.applied(FRAMES["oscillator"][0])
    assert framed.ansatz is frame.ansatz
    assert framed.measure.length == frame.place.length
