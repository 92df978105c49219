"""The facade on operators: each named problem in a few hundred steps, a user's own, presets, reports.

The bounds are loose: what is tested is that a run goes the right way from its control, not how good it gets
in minutes; that is what the benchmarks record.
"""

import json
import math

import pytest
import scipy.special
import torch
from torch import nn

import nbsvd
from nbsvd import Problem, Schrodinger, eigsh, problems, solve, svds
from nbsvd.exact import Hydrogen2D, Hydrogen2DBox
from nbsvd.functions import BoxFactor, GaussianFactor
from nbsvd.measures import Gaussian, Lebesgue, Radial, Uniform
from nbsvd.objectives import Nesting, lora_evd
from nbsvd.problems import PROBLEMS
from nbsvd.spectrum import moments
from nbsvd.training import PRESETS
from nbsvd.training.optimizers import OPTIMIZERS

# Thousands of steps: the run-time check of shapes would cost more than they do. Other tests have it on.
pytestmark = pytest.mark.usefixtures("unchecked")
f64 = torch.float64


def quick(problem, k, steps, **options):
    return solve(problem, k, steps=steps, progress=False, **options)


@pytest.mark.parametrize(
    ("name", "k", "steps", "share"),
    [
        ("hydrogen2d", 4, 300, 0.3),  # of the control's largest relative error
        ("hydrogen3d", 2, 200, 0.3),
        ("oscillator2d", 3, 300, 0.3),
        ("infinite_well2d", 1, 300, 1.0),
        ("volterra", 2, 200, 5.0),  # the control is good already: training must not lose it
        ("brownian", 2, 200, 5.0),
        ("gaussian_kernel", 2, 200, 5.0),
    ],
)
def test_named_problems(name, k, steps, share):
    result = quick(name, k, steps)
    errors, control = result.errors(), result.control
    assert errors["relative_max"] < share * control["relative_max"] + 1e-4
    assert errors["relative_max"] < 0.05
    assert errors["orthogonality_max"] < 0.1
    assert result.history.loss[-1] == pytest.approx(result.history.optimum, rel=0.05)
    assert result.info["problem"] == name
    assert (result.stderr < 1e-3 * result.values.abs()).all()


def test_the_box():
    result = quick(problems.hydrogen2d("box"), 2, 400)
    assert isinstance(result.exact, Hydrogen2DBox)
    assert result.report()["reference"] == "Hydrogen2DBox"
    # k = 2 cuts the level of three, which the box splits by less than float32 can see.
    errors = result.errors()
    assert errors["relative_max"] < max(0.05, result.control["relative_max"])
    assert errors["subspace_max"] < 0.05
    walls = torch.tensor([[50.0, 3.0], [-7.0, -50.0]])
    assert result.right(walls).abs().max() < 1e-12


def test_the_box_is_reported_against_its_own_values():
    problem = problems.hydrogen2d("box")
    assert (problem.exact.values(9) < Hydrogen2D().values(9)).any()
    assert problem.exact.levels(9) == Hydrogen2D().levels(9)
    assert problem.options == {"domain": "box"}
    assert problems.hydrogen2d().options == {}


def test_shifted_problems_report_unshifted_values():
    result = quick("oscillator2d", 3, 0)
    assert result.info["shift"] > 4
    assert result.values.tolist() == pytest.approx([-2, -4, -4], rel=0.02)
    assert result.history.values == []
    history = quick("oscillator2d", 3, 5).history
    assert history.values[-1] == pytest.approx([-2, -4, -4], rel=0.05)
    assert history.optimum < -1  # of the shifted operator


def test_every_named_problem_can_be_asked_by_name():
    for name, make in PROBLEMS.items():
        problem = problems.get(name)
        assert problem.name == make().name == name
        assert problem.exact.dim == problem.dim == problem.measure.dim
        if (
            problem.operator.pairs is None
        ):  # of pairs both sides are learned, unless they are said to be the same
            assert problem.exact.self_adjoint == problem.operator.self_adjoint


@pytest.mark.parametrize("name", ["hydrogen2d", "hydrogen3d", "oscillator2d", "infinite_well2d"])
def test_the_operator_of_a_named_problem_has_the_exact_functions(name):
    problem = problems.get(name)
    k = problem.exact.completed(2)
    x = problem.measure.nodes(50, kind="iid", generator=torch.Generator().manual_seed(0)).x
    Tf = problem.operator.apply(lambda x: problem.exact.functions(x, k), x)
    expected = problem.exact.functions(x, k) * problem.exact.values(k)
    torch.testing.assert_close(Tf, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("nesting", "expected"), [(Nesting.none(9), -1.045037), (Nesting.joint(9), -1.031473)]
)
def test_loss_at_the_exact_hydrogen_modes(nesting, expected):
    """The problem's own nodes and operator, derivatives by automatic differentiation; closed form to 1e-4."""
    problem = problems.hydrogen2d()
    scale = problem.exact.values(9).sqrt()
    nodes = problem.measure.nodes(8000, kind="quadrature")
    f, Tf = problem.operator.evaluate(lambda x: problem.exact.functions(x, 9) * scale, nodes)
    loss = lora_evd(f, Tf, nesting, weights=nodes.weights, moment="plain")
    assert loss.item() == pytest.approx(expected, abs=1e-4)


DEPTH = 20.0


def morse_function(x, n):
    """Bound state n of ``-d^2/dx^2 + D (1 - exp(-x))^2``, not normalised (Morse 1929)."""
    root = math.sqrt(DEPTH)
    z = 2 * root * torch.exp(-x)
    order = 2 * root - 2 * n - 1
    laguerre = torch.as_tensor(scipy.special.eval_genlaguerre(n, order, z.numpy()))
    return z ** (order / 2) * torch.exp(-z / 2) * laguerre


def test_a_problem_of_the_users_own():
    """The Morse oscillator between two far walls: values ``(n + 1/2)^2 - 2 sqrt(D) (n + 1/2)``."""
    morse = Problem(
        Schrodinger(lambda x: DEPTH * (1 - torch.exp(-x[:, 0])) ** 2),
        Lebesgue(Uniform(-1.5, 4.5)),
        BoxFactor(3.0, center=[1.5]),
    )
    result = quick(morse, 2, 600)
    exact = [(n + 0.5) ** 2 - 2 * math.sqrt(DEPTH) * (n + 0.5) for n in range(2)]
    assert result.values.tolist() == pytest.approx(exact, rel=5e-3)
    assert result.ritz().values.tolist() == pytest.approx(exact, rel=5e-3)
    nodes = result.nodes()
    for n in range(2):
        g = morse_function(nodes.x[:, 0], n)
        cosine = nodes.integrate(result.right(nodes.x)[:, n] * g) / nodes.integrate(g * g).sqrt()
        assert abs(cosine.item()) > 0.995
    assert result.report()["errors"] is None
    assert result.control == {}


class Own(nn.Module):
    def __init__(self, k, generator):
        super().__init__()
        self.inner, self.outer = nn.Linear(1, 16), nn.Linear(16, k)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=generator)

    def forward(self, x):
        return self.outer(torch.tanh(self.inner(x)))


LINE = Problem(Schrodinger(lambda x: (x**2).sum(1)), Lebesgue(Radial(1, scale=2.0)), GaussianFactor(1.3))


def test_a_network_of_the_users_own():
    result = quick(LINE, 2, 400, network=lambda generator: Own(2, generator), lr=1e-2)
    assert result.values.tolist() == pytest.approx([-1, -3], rel=0.1)
    assert result.ritz().values.tolist() == pytest.approx([-1, -3], rel=0.05)
    assert result.info["warm_start"] is None  # it has no heads that a Ritz solution could set
    assert 3 < result.info["shift"] < 6
    assert isinstance(result.right_model.network, Own)


def test_networks_of_the_users_own_on_both_sides():
    result = quick("volterra", 1, 200, network=lambda generator: Own(1, generator), lr=1e-2)
    assert result.values.item() == pytest.approx(2 / math.pi, rel=0.05)


def test_arguments_of_the_default_network():
    result = quick("brownian", 2, 1, network={"widths": (7, 5), "activation": "sin", "disjoint": False})
    config = result.right_model.config()
    assert (config["widths"], config["activation"], config["disjoint"]) == ([7, 5], "sin", False)
    assert config["features"]["scales"]


@pytest.mark.parametrize("nesting", ["sequential", "none"])
def test_other_nestings(nesting):
    result = quick("gaussian_kernel", 2, 100, nesting=nesting)
    assert result.info["nesting"] == nesting
    assert result.ritz().errors()["relative_max"] < 0.01
    assert result.history.loss[-1] == pytest.approx(result.history.optimum, rel=0.02)


def test_omm_on_a_positive_kernel():
    result = quick("gaussian_kernel", 2, 150, objective="omm")
    assert result.errors()["relative_max"] < 0.01
    assert result.history.loss[-1] == pytest.approx(result.history.optimum, rel=0.01)
    nodes = result.nodes()
    norms = (nodes.weights[:, None] * result.right_model(nodes.x) ** 2).mean(0)
    assert norms.tolist() == pytest.approx([1, 1], rel=0.05)


def test_the_paper(monkeypatch):
    """Ryu et al., section 4: the numbers of the preset, and what is built from them."""
    monkeypatch.setattr(moments, "LOCAL_NODES", 512)  # it is not its accuracy that is tested
    preset = PRESETS["paper"]
    assert (preset.steps, preset.batch_size, preset.kind) == (500_000, 128, "iid")
    assert (preset.optimizer, preset.lr, preset.warmup, preset.ema) == ("rmsprop", 1e-3, 0, 0.995)
    seen = []
    problem = problems.hydrogen2d("box")
    result = quick(problem, 9, 20, preset="paper", report_every=10, callbacks=[seen.append])
    trainer = seen[0]
    assert trainer.settings.steps == 20
    assert type(trainer.optimizer) is type(OPTIMIZERS["rmsprop"]([nn.Parameter(torch.ones(1))], 1.0))
    assert trainer.optimizer.param_groups[0]["initial_lr"] == 1e-3
    config = trainer.model.right.network.config()
    assert config["L"] == 9
    assert config["disjoint"] is True
    assert config["widths"] == [128, 128, 128]
    assert config["activation"] == "softplus"
    assert config["features"] is None
    assert (config["weight_gain"], config["bias_gain"]) == (1.0, 1.0)
    assert trainer.model.right.factor.config() == BoxFactor(50.0).config()
    law = problem.measure.law.config()
    assert (law["name"], law["scale"], law["bound"]) == ("TruncatedGaussian", 16.0, 50.0)
    assert result.info["preset"] == "paper"
    assert result.info["warm_start"] is None  # random heads, as there
    assert result.info["steps"] == 20


REPORT = (
    "problem method objective nesting warm_start k values stderr exact reference errors control "
    "steps seconds seconds_total threads seed device versions"
).split()
ERRORS = {"relative_max", "relative_mean", "angle_max", "subspace_max", "orthogonality_max"}


@pytest.fixture(scope="module")
def reported():
    return quick("gaussian_kernel", 3, 10, seed=4)


def test_report_is_what_the_contract_says(reported):
    report = json.loads(json.dumps(reported.report()))
    assert set(REPORT) <= set(report)
    assert set(report["errors"]) == set(report["control"]) == ERRORS
    assert report["k"] == len(report["values"]) == len(report["stderr"]) == len(report["exact"]) == 3
    assert (report["steps"], report["seed"], report["reference"]) == (10, 4, "GaussianKernel")
    assert 0 < report["seconds"] <= report["seconds_total"]
    assert {"torch", "nbsvd", "python"} <= set(report["versions"])
    assert report["threads"] == torch.get_num_threads()


def test_eigsh_gives_values_and_a_function():
    w, phi = eigsh(problems.gaussian_kernel().operator, 2, steps=0, progress=False)
    assert w.tolist() == pytest.approx(problems.gaussian_kernel().exact.values(2).tolist(), rel=1e-2)
    assert phi(torch.zeros(5, 1)).shape == (5, 2)


def test_eigsh_of_a_differential_operator():
    w, phi = eigsh(LINE.operator, 2, measure=LINE.measure, ansatz=LINE.ansatz, steps=0, progress=False)
    assert w.tolist() == pytest.approx([-1, -3], rel=1e-2)
    assert phi(torch.zeros(1, 1)).shape == (1, 2)


def test_svds_of_an_eigenproblem_with_negative_values():
    """The kernel x y - 1/2 has eigenvalues of both signs; singular values are their moduli."""
    kernel = nbsvd.Integral(lambda x, y: x @ y.t() - 0.5, Gaussian(1))
    u, s, v = svds(kernel, 2, steps=0, progress=False)
    assert s.tolist() == pytest.approx([1, 0.5], rel=2e-2)  # x with value 1, the constant with -1/2
    x = torch.tensor([[0.5], [1.0]])
    assert torch.sign(u(x)[:, 1] * v(x)[:, 1]).tolist() == [-1, -1]


def test_seconds_are_kept():
    result = nbsvd.solve("gaussian_kernel", 1, seconds=2.0, progress=False)
    assert result.info["stopped"] == "seconds"
    assert 2.0 <= result.info["seconds"] < 20


def test_dtype_and_device():
    result = quick("gaussian_kernel", 1, 2, dtype=f64, device=torch.device("cpu"))
    assert (result.info["dtype"], result.info["device"]) == ("float64", "cpu")
    assert quick("gaussian_kernel", 1, 2).info["dtype"] == "float32"


@pytest.mark.parametrize(("asked", "trained"), [(None, torch.float32), (f64, f64)])
def test_training_has_the_dtype_that_was_asked_for(asked, trained):
    seen = []

    def look(run):
        seen.extend([next(run.model.parameters()).dtype, next(run.averaged.module.parameters()).dtype])

    quick("gaussian_kernel", 1, 2, dtype=asked, callbacks=[look])
    assert seen == [trained, trained]


def from_random_heads(name, k, steps=300, **options):
    """A run that has nothing but training to get it right, and the same without its training."""
    options = {"warm_start": None, **options}
    return quick(name, k, steps, **options), quick(name, k, 0, **options)


def test_training_alone_finds_singular_functions():
    trained, untrained = from_random_heads("volterra", 2)
    assert trained.info["warm_start"] is None
    assert untrained.errors()["relative_max"] > 0.5
    errors = trained.errors()
    assert errors["relative_max"] < 0.03
    assert errors["angle_max"] < 0.2
    assert trained.history.loss[-1] == pytest.approx(trained.history.optimum, rel=0.03)


@pytest.mark.parametrize("nesting", ["joint", "sequential"])
def test_training_alone_finds_the_order_if_nested(nesting):
    trained, untrained = from_random_heads("gaussian_kernel", 2, nesting=nesting)
    assert untrained.errors()["relative_max"] > 0.3
    errors = trained.errors()  # of each function as it was trained, not turned by ritz()
    assert errors["relative_max"] < 0.03
    assert errors["angle_max"] < 0.2
    assert errors["orthogonality_max"] < 0.1


def test_training_alone_finds_the_span_if_not_nested():
    trained, untrained = from_random_heads("gaussian_kernel", 2, nesting="none")
    assert untrained.ritz().errors()["relative_max"] > 0.1
    assert trained.errors()["relative_max"] > 0.1  # any basis of the span is as good
    assert trained.errors()["angle_max"] > 0.3
    assert trained.ritz().errors()["relative_max"] < 0.03
    assert trained.ritz().errors()["angle_max"] < 0.2


def test_training_alone_minimises_omm():
    trained, untrained = from_random_heads("gaussian_kernel", 2, objective="omm")
    assert untrained.errors()["relative_max"] > 0.3
    assert trained.errors()["relative_max"] < 0.03
    assert trained.errors()["angle_max"] < 0.2
    nodes = trained.nodes()
    norms = (nodes.weights[:, None] * trained.right_model(nodes.x) ** 2).mean(0)
    assert norms.tolist() == pytest.approx([1, 1], rel=0.1)  # orthonormal, not scaled by the value


@pytest.mark.parametrize("method", ["sgd", "varpro"])
def test_untrained_values_are_told_without_an_exact_answer(method):
    problem = Problem(Schrodinger(lambda x: (x**2).sum(1)), Lebesgue(Radial(1, scale=1.0)))
    trained, untrained = (solve(problem, 2, method=method, steps=n, progress=False) for n in (3, 0))
    assert trained.control == {}
    assert trained.info["untrained"] == untrained.info["untrained"]
    # Nearly the same functions (of a start less is kept than of the control), on other nodes.
    assert trained.info["untrained"] == pytest.approx(untrained.values.tolist(), rel=1e-2)
