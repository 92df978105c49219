"""The Ritz start: what SciPy says of the same moments, heads at the objective's optimum, and the shift."""

from dataclasses import replace

import pytest
import scipy.linalg
import torch
from torch import nn

import nbsvd
from nbsvd import problems
from nbsvd.functions import MLP, DecayFactor, Features, WithFactor
from nbsvd.measures import Gaussian, Lebesgue, Radial, Uniform
from nbsvd.objectives import Nesting, lora_evd, lora_svd, omm
from nbsvd.operators import Integral, Matrix, Schrodinger
from nbsvd.spectrum import replicate
from nbsvd.spectrum.moments import average
from nbsvd.training import ritz_start
from nbsvd.training.objective import Inverse, sizes_at_optimum
from nbsvd.training.start import Basis, choose_shift, has_basis
from nbsvd.training.tables import least_value, safe_shift

f64 = torch.float64
CPU = torch.device("cpu")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def network(L, dim, width=4, seed=0):
    """A small trunk whose functions are far from dependent, so that no direction is left out."""
    features = Features(dim, scales=[0.1, 0.5])
    net = MLP(L, dim, widths=(width,), features=features, weight_gain=4.0, generator=generator(seed))
    return net.to(f64)


def moments_of(operator, right, left, measure_x, measure_y):
    """The moments that a start with this seed finds its coefficients with."""
    parts = replicate(operator, right, left, measure_x, measure_y, generator=generator(5), replicates=2)
    return average(parts)


@pytest.mark.parametrize(
    ("operator", "measure"),
    [
        (Integral(lambda x, y: torch.minimum(x, y.t()), Uniform(0.0, 1.0)), Uniform(0.0, 1.0)),
        (Integral(lambda x, y: torch.exp(-((x - y.t()) ** 2)), Gaussian(1)), Gaussian(1)),
        (Schrodinger(lambda x: (x**2).sum(1)), Gaussian(2)),
    ],
)
def test_ritz_values_and_vectors_are_those_of_scipy(operator, measure):
    net = network(2, measure.dim)
    start = ritz_start(operator, net, net, measure, measure, 2, generator=generator(5), device=CPU)
    basis = Basis(net)
    m = moments_of(operator, basis, basis, measure, measure)
    values, vectors = scipy.linalg.eigh(m.form.numpy(), m.gram_f.numpy())
    assert start.values.tolist() == pytest.approx(values[::-1][:2].tolist(), rel=1e-8)
    assert start.least == pytest.approx(values[0], rel=1e-4, abs=1e-10)
    S = m.gram_f
    cosines = (start.right.t() @ S @ torch.from_numpy(vectors[:, ::-1][:, :2].copy())).abs()
    torch.testing.assert_close(cosines, torch.eye(2, dtype=f64), rtol=0, atol=1e-5)
    torch.testing.assert_close(start.right.t() @ S @ start.right, torch.eye(2, dtype=f64))
    assert start.left is start.right


def test_singular_values_and_vectors_are_those_of_scipy():
    unit = Uniform(0.0, 1.0)
    T = Integral(lambda x, y: (x < y.t()).to(x), unit, unit, self_adjoint=False)
    right, left = network(3, 1), network(3, 1, width=5, seed=1)
    start = ritz_start(T, right, left, unit, unit, 3, generator=generator(5), device=CPU)
    m = moments_of(T, Basis(right), Basis(left), unit, unit)
    root_f, root_g = (scipy.linalg.sqrtm(S.numpy()).real for S in (m.gram_f, m.gram_g))
    half = scipy.linalg.solve(root_g, m.form.numpy())
    _, s, Vt = scipy.linalg.svd(scipy.linalg.solve(root_f, half.T).T)
    assert start.values.tolist() == pytest.approx(s[:3].tolist(), rel=1e-7)
    assert start.right.shape == (5, 3)
    assert start.left.shape == (6, 3)
    one = torch.eye(3, dtype=f64)
    torch.testing.assert_close(start.right.t() @ m.gram_f @ start.right, one)
    torch.testing.assert_close(start.left.t() @ m.gram_g @ start.left, one)
    torch.testing.assert_close(start.left.t() @ m.form @ start.right, torch.diag(start.values))
    cosines = start.right.t() @ torch.from_numpy(root_f @ Vt[:3].T)
    torch.testing.assert_close(cosines.abs(), one, rtol=0, atol=1e-5)
    assert (start.shift, start.least) == (0.0, 0.0)


def test_the_start_changes_no_parameter_and_draws_only_from_its_generator():
    measure = Gaussian(1)
    T = Integral(lambda x, y: torch.exp(-((x - y.t()) ** 2)), measure)
    net = network(2, 1)
    before, state = {n: t.clone() for n, t in net.state_dict().items()}, torch.get_rng_state()
    first, second = (
        ritz_start(T, net, net, measure, measure, 2, generator=generator(5), device=CPU) for _ in range(2)
    )
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first.right, second.right)


@pytest.mark.parametrize("name", ["oscillator2d", "hydrogen2d", "brownian"])
def test_heads_start_at_the_optimum_of_the_objective(name):
    """The loss of Ritz functions scaled to sqrt(mu + shift) is -sum m (mu + shift)^2: no head does better."""
    result = nbsvd.solve(name, 3, steps=0, dtype=f64, progress=False)
    shift, model, measure = result.info["shift"], result.right_model, result.measure_x
    count = 20000 if result.operator.local else 2000
    nodes = measure.nodes(count, kind=measure.evaluation_kind, generator=generator(3))
    mu = result.values + shift
    assert (mu > 0).all()
    with torch.no_grad():
        f, Tf = result.operator.shift(shift).evaluate(model, nodes)
        for nesting in (Nesting.joint(3), Nesting.none(3), Nesting.joint(3, [0.2, 0.3, 0.5])):
            loss = lora_evd(f, Tf, nesting, weights=nodes.weights, moment="plain")
            # What differs: the nodes, and the strong form here against the weak form there.
            assert loss.item() == pytest.approx(-(nesting.vector * mu**2).sum().item(), rel=2e-4)
    gram = (nodes.weights[:, None] * f).t() @ f / len(nodes)
    torch.testing.assert_close(gram, torch.diag(mu), rtol=2e-3, atol=2e-3 * float(mu[0]))


def test_both_sides_of_an_svd_start_at_the_optimum():
    result = nbsvd.solve("volterra", 3, steps=0, dtype=f64, progress=False)
    x, y = (result.measure_x.nodes(2000, kind="quadrature") for _ in range(2))
    with torch.no_grad():
        f, g = result.right_model(x.x), result.left_model(y.x)
        Tf = result.operator.transform(y.x, x, f)
        loss = lora_svd(f, g, Tf, Nesting.joint(3), weights=(x.weights, y.weights))
    assert loss.item() == pytest.approx(-(Nesting.joint(3).vector * result.values**2).sum().item(), rel=1e-3)
    for h, nodes in ((f, x), (g, y)):
        norms = (nodes.weights[:, None] * h**2).mean(0)
        assert norms.tolist() == pytest.approx(result.values.tolist(), rel=1e-3)


def test_omm_starts_with_unit_norms():
    result = nbsvd.solve("brownian", 3, steps=0, objective="omm", dtype=f64, progress=False)
    nodes = result.measure_x.nodes(2000, kind="quadrature")
    with torch.no_grad():
        f, Tf = result.operator.evaluate(result.right_model, nodes)
        loss = omm(f, Tf, Nesting.joint(3), weights=nodes.weights)
    assert (nodes.weights[:, None] * f**2).mean(0).tolist() == pytest.approx([1, 1, 1], rel=1e-3)
    assert loss.item() == pytest.approx(-(Nesting.joint(3).vector * result.values).sum().item(), rel=1e-3)


@pytest.mark.parametrize("disjoint", [True, False])
def test_start_from_makes_each_component_its_combination_of_the_basis(disjoint):
    net = MLP(3, 2, widths=(8, 5), disjoint=disjoint, generator=generator(1)).to(f64)
    net = WithFactor(net, DecayFactor(2.0).to(f64))
    C = torch.randn(6, 3, generator=generator(2), dtype=f64)
    x = torch.randn(50, 2, generator=generator(3), dtype=f64)
    expected = net.first_basis(x) @ C
    net.start_from(C)
    torch.testing.assert_close(net(x), expected)


def test_the_control_is_measured_on_nodes_of_its_own():
    problem = problems.hydrogen2d()
    net = network(3, 2, width=16)
    net = WithFactor(net, DecayFactor(8.0).to(f64))
    start = ritz_start(
        problem.operator,
        net,
        net,
        problem.measure,
        problem.measure,
        3,
        generator=generator(5),
        device=CPU,
        exact=problem.exact,
    )
    assert start.control.label == "control"
    assert not torch.equal(start.control.values, start.values)
    assert start.control.errors()["relative_max"] < 1
    assert (start.control.values <= problem.exact.values(3) + 1e-6).all()  # min-max, up to quadrature


def test_an_untrained_result_is_its_own_control_up_to_nodes():
    result = nbsvd.solve("gaussian_kernel", 3, steps=0, dtype=f64, progress=False)
    errors = result.errors()
    for name in ("relative_max", "angle_max"):
        assert errors[name] == pytest.approx(result.control[name], rel=0.2)


@pytest.mark.parametrize(
    ("values", "shift"),
    [
        ([3.0, 1.0], 0.0),
        ([3.0, 1e-6], 0.0),
        ([3.0, 1e-15], 0.9),  # zero up to rounding
        ([3.0, 0.0], 0.9),
        ([3.0, -1.0], 2.2),
        ([-2.0, -4.5], 5.25),
        ([-2.0], 2.6),
        ([0.0, 0.0], 3e-13),
    ],
)
def test_shift_lifts_the_smallest_value_to_three_tenths_of_the_spread(values, shift):
    assert choose_shift(torch.tensor(values, dtype=f64)) == pytest.approx(shift, rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("lowest", [-1.0, -30.0, -1000.0])
def test_safe_shift_bounds_the_negative_end(seed, lowest):
    A = torch.randn(30, 30, generator=generator(seed), dtype=f64)
    A = A + A.t()
    e, V = torch.linalg.eigh(A)
    e[0] = min(lowest, float(e[0]))
    A = V * e @ V.t()
    least = least_value(Matrix(A), float(e[-1]), generator=generator(seed))
    assert e[0] - 1e-9 <= least <= 0.8 * e[0]  # from above, and near
    top = e.flip(0)[:4]
    start = choose_shift(top)
    shift = safe_shift(top, least, start)
    assert shift >= start
    assert least + shift >= -2 * (top[-1] + shift) - 1e-9  # the bound itself
    assert e[0] + shift > -3 * (top[-1] + shift)  # what stability needs


def test_the_least_value_of_a_multiple_of_the_identity():
    for c in (2.0, -2.0, 0.0):
        assert least_value(Matrix(c * torch.eye(5, dtype=f64)), c, generator=generator()) == pytest.approx(c)


def test_safe_shift_leaves_positive_matrices_alone():
    assert safe_shift(torch.tensor([3.0, 1.0]), 0.1, 0.0) == 0.0
    assert safe_shift(torch.tensor([3.0, 1.0]), -1.9, 0.25) == 0.25


VALUES = torch.tensor([4.0, 1.0, 1e-9], dtype=f64)


@pytest.mark.parametrize(
    ("objective", "shift", "invert", "sizes"),
    [
        ("lora", 0.0, None, [2, 1, 2 * 1e-3**0.5]),  # no component starts at zero
        ("lora", 5.0, None, [3, 6**0.5, 5**0.5]),
        ("omm", 5.0, None, [1, 1, 1]),
        ("omm", 0.0, 5.0, [1, 0.5, 0.2**0.5]),  # of the inverse: the root of 1 / (c - value)
        ("spin", 5.0, None, [1, 1, 1]),
        ("neuralef", 5.0, None, [1, 1, 1]),
    ],
)
def test_each_objective_has_its_own_norms(objective, shift, invert, sizes):
    found = sizes_at_optimum(objective, VALUES, shift, None if invert is None else Inverse(invert))
    assert found.tolist() == pytest.approx(sizes)


def test_heads_are_scaled_to_the_norms_that_are_asked_for():
    one = torch.eye(3, dtype=f64)
    net = network(3, 1)
    T = Integral(lambda x, y: torch.exp(-((x - y.t()) ** 2)), Gaussian(1))
    start = ritz_start(T, net, net, Gaussian(1), Gaussian(1), 3, generator=generator(5), device=CPU)
    start = replace(start, right=one, left=2 * one)
    right, left = start.scaled(torch.tensor([3.0, 2.0, 0.5], dtype=f64))
    assert right.tolist() == torch.diag(torch.tensor([3.0, 2.0, 0.5])).tolist()
    assert torch.equal(left, 2 * right)


def test_the_inverse_starts_at_its_optimum():
    """Of an operator that is unbounded below: -sum m / (c - mu), with the norms that go with it."""
    result = nbsvd.solve("oscillator2d", 3, steps=0, objective="omm", invert=True, dtype=f64, progress=False)
    nodes = result.measure_x.nodes(20000, kind=result.measure_x.evaluation_kind, generator=generator(3))
    nesting, c = Nesting.joint(3), result.info["objective_settings"]["invert"]
    assert c > result.values[0]
    with torch.no_grad():
        f, Tf = result.operator.evaluate(result.right_model, nodes)
        loss = omm(f, Tf, nesting, weights=nodes.weights, invert=c)
    values = 1 / (c - result.values)
    assert loss.item() == pytest.approx(-(nesting.vector * values).sum().item(), rel=1e-3)
    assert (nodes.weights[:, None] * f**2).mean(0).tolist() == pytest.approx(values.tolist(), rel=2e-3)


def test_which_modules_have_a_basis():
    net = MLP(2, 1, widths=(3,), generator=generator())
    assert has_basis(net)
    assert has_basis(WithFactor(net, DecayFactor(1.0)))
    assert not has_basis(nn.Linear(1, 2))
    assert not has_basis(WithFactor(nn.Linear(1, 2), DecayFactor(1.0)))


def test_without_a_warm_start_the_heads_stay_random_and_the_control_is_the_same():
    warm = nbsvd.solve("brownian", 2, steps=0, progress=False)
    cold = nbsvd.solve("brownian", 2, steps=0, warm_start=None, progress=False)
    assert warm.control == cold.control
    assert (warm.info["warm_start"], cold.info["warm_start"]) == ("ritz", None)
    assert cold.errors()["angle_max"] > 10 * warm.errors()["angle_max"]


def test_a_shift_is_found_for_functions_that_decay_too_slowly():
    """A law much wider than the modes: poor Ritz values, and still a shift that makes all values positive."""
    problem = nbsvd.Problem(Schrodinger(lambda x: (x**2).sum(1)), Lebesgue(Radial(2, scale=4.0)))
    result = nbsvd.solve(problem, 3, steps=0, progress=False)
    assert (torch.tensor([-2.0, -4.0, -4.0]) + result.info["shift"] > 0).all()
