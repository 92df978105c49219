"""What crosses the objectives: one loop for all, their bias on batches, and ``solve`` with each."""

import pytest
import torch
from fields import f64, mean_over_batches, symmetric, whole
from matrices import randn

import nbsvd
from nbsvd import Matrix, Problem, eigsh, solve
from nbsvd.functions import Table
from nbsvd.objectives import Nesting, NeuralEF, SpIN, lora_evd, omm
from nbsvd.training import Settings
from nbsvd.training.objective import Inverse, make_score

pytestmark = pytest.mark.usefixtures("unchecked")

POSITIVE = [3.0, 2.0, 1.0, 0.4, 0.1]
INDEFINITE = [3.0, 2.0, 1.0, -0.4, -2.0]  # the top is what matters, but for plain OMM
JOINT, SEQUENTIAL = Nesting.joint(2), Nesting.sequential(2)

# Objectives of two components, their eigenvalues, and how far from one a cosine may be after 600 steps: the
# averages of SpIN lag, and for p = 2 the minimum is flat.
LOOP = {
    "SpIN, no memory": (lambda table: SpIN(2, table, decay=1.0), INDEFINITE, 1e-12),
    "SpIN": (lambda table: SpIN(2, table, decay=0.05), INDEFINITE, 1e-5),
    "NeuralEF": (lambda table: NeuralEF(2, moment="plain"), INDEFINITE, 1e-9),
    "NeuralEF, original": (lambda table: NeuralEF(2, unbiased=False), INDEFINITE, 1e-12),
    "OMM": (lambda table: pure(omm, JOINT), POSITIVE, 1e-8),
    "OMM, p = 2": (lambda table: pure(omm, JOINT, p=2), POSITIVE, 5e-3),
    "OMM, inverse": (lambda table: pure(omm, JOINT, invert=4.0), INDEFINITE, 1e-4),
    "LoRA, joint": (lambda table: pure(lora_evd, JOINT, moment="plain"), INDEFINITE, 1e-12),
    "LoRA, sequential": (lambda table: pure(lora_evd, SEQUENTIAL, moment="plain"), INDEFINITE, 1e-12),
}
SIZES = {  # norms of the functions, where the objective determines them
    "OMM": [1, 1],
    "OMM, p = 2": [1, 1],
    "OMM, inverse": [1, 0.5**0.5],
    "LoRA, joint": [3**0.5, 2**0.5],
    "LoRA, sequential": [3**0.5, 2**0.5],
}


def pure(objective, nesting, **options):
    return lambda f, Tf, weights: objective(f, Tf, nesting, weights=weights, **options)


@pytest.mark.parametrize("name", LOOP)
def test_one_loop_finds_the_top_by_every_objective(name):
    make, values, near = LOOP[name]
    T, Q = symmetric(values)
    table = Table(2, 5, generator=torch.Generator().manual_seed(3))
    objective, x = make(table), torch.arange(5)[:, None]
    for _ in range(600):
        f = table(x)
        loss = objective(f, T @ f, weights=whole(f))
        table.entries.data -= 0.05 * torch.autograd.grad(loss, table.entries)[0]
    psi = f.detach() @ getattr(objective, "mixture", torch.eye(2, dtype=f64))
    psi = psi / psi.norm(dim=0)
    assert ((Q[:, :2] * psi).sum(0).abs() - 1).abs().max() < near
    exact = torch.linalg.eigvalsh(T).flip(0)[:2]
    torch.testing.assert_close(torch.diag(psi.T @ T @ psi), exact, rtol=0, atol=6 * near)
    if name in SIZES:
        assert f.norm(dim=0).tolist() == pytest.approx(SIZES[name], rel=5e-3)


LAW = torch.tensor([0.3, 0.4, 0.3], dtype=f64)
THREE = symmetric([2.0, 1.2, 0.7], seed=1)[0]
TWO = torch.tensor([[1.0, 0.8], [0.7, -1.1], [-0.8, 0.5]], dtype=f64)


@pytest.mark.parametrize("objective", [lora_evd, omm])
@pytest.mark.parametrize("nesting", [JOINT, SEQUENTIAL, Nesting.none(2)], ids=lambda nesting: nesting.kind)
def test_the_bias_of_batches_exactly(objective, nesting):
    """Mean gradient over all batches of 2, 3 and 4 of three states: none by pairs, 1/B by plain products."""

    def bias(size, moment):
        def gradient(index):
            F = TWO.clone().requires_grad_()
            loss = objective(F[index], (THREE @ TWO)[index], nesting, weights=1 / LAW[index], moment=moment)
            return torch.autograd.grad(loss, F)[0]

        return mean_over_batches(gradient, LAW, size) - exact

    F = TWO.clone().requires_grad_()
    loss = objective(F, THREE @ TWO, nesting, weights=whole(F), moment="plain")
    exact = torch.autograd.grad(loss, F)[0]
    biases = [bias(size, "plain") for size in (2, 3, 4)]
    assert biases[0].abs().max() > 0.2
    for size, found in zip((3, 4), biases[1:], strict=True):
        torch.testing.assert_close(size * found, 2 * biases[0], rtol=1e-10, atol=1e-10)
        assert bias(size, "u").abs().max() < 1e-12


SCORES = {
    "spin": ({}, lambda table: SpIN(2, table)),
    "spin, decay": ({"decay": 0.3}, lambda table: SpIN(2, table, decay=0.3)),
    "neuralef": ({}, lambda table: NeuralEF(2)),
    "neuralef, decay": ({"decay": 0.9}, lambda table: NeuralEF(2, decay=0.9)),
    "neuralef, original": ({"form": "original"}, lambda table: NeuralEF(2, unbiased=False)),
    "omm": ({}, lambda table: pure(omm, JOINT, moment="u")),
    "omm, inverse": ({"invert": 4.0}, lambda table: pure(omm, JOINT, moment="u", invert=4.0)),
    "omm, p = 2": ({"order": 2}, lambda table: pure(omm, JOINT, p=2)),
    "lora": ({}, lambda table: pure(lora_evd, JOINT, moment="u")),
}


@pytest.mark.parametrize("name", SCORES)
def test_settings_reach_the_objective(name):
    """What a run minimises, from its settings on iid nodes, against the objective itself, call by call."""
    options, make = SCORES[name]
    table = Table(2, 6, generator=torch.Generator().manual_seed(0))
    inverse = Inverse(options["invert"]) if "invert" in options else None
    settings = Settings(steps=1, **options)
    score = make_score(name.split(",")[0], JOINT, settings, "u", table, inverse)
    expected, results = make(table), []
    for call in (score, expected):
        for index in torch.randint(6, (4, 5), generator=torch.Generator().manual_seed(1)):
            f = table(index[:, None])
            loss = call(f, f + f**3, weights=1 + index.to(f64))
            results.append([loss.detach(), *torch.autograd.grad(loss, table.entries)])
    torch.testing.assert_close(results[:4], results[4:], rtol=0, atol=0)


# Arguments of solve, least value of the matrix, learning rate, steps, largest error of values and cosines.
CASES = {
    "SpIN, no memory": ({"objective": "spin", "decay": 1.0}, -2.0, 0.025, 600, 2e-3),
    "SpIN": ({"objective": "spin", "decay": 0.05}, -2.0, 0.003, 1000, 5e-3),
    "NeuralEF": ({"objective": "neuralef"}, -2.0, 0.05, 300, 2e-3),
    "NeuralEF, original": ({"objective": "neuralef", "form": "original"}, -2.0, 0.05, 300, 2e-3),
    "OMM": ({"objective": "omm"}, 0.02, 0.05, 300, 2e-3),
    "OMM, p = 2": ({"objective": "omm", "order": 2}, 0.02, 0.05, 300, 2e-3),
    "OMM, inverse": ({"objective": "omm", "invert": True}, -2.0, 0.05, 300, 5e-3),
    "LoRA, joint": ({"nesting": "joint"}, -2.0, 0.05, 300, 1e-6),
    "LoRA, sequential": ({"nesting": "sequential"}, -2.0, 0.05, 300, 1e-6),
}


@pytest.mark.parametrize("name", CASES)
def test_solve_finds_the_top_of_a_matrix_from_random_heads(name):
    options, least, lr, steps, near = CASES[name]
    A, Q = symmetric([3.0, 2.0, 1.2, 0.5, 0.1, least])
    result = solve(
        Problem(Matrix(A)), 3, **options, warm_start=None, lr=lr, steps=steps, warmup=10, progress=False
    )
    exact = torch.linalg.eigvalsh(A).flip(0)[:3]
    torch.testing.assert_close(result.values, exact, rtol=0, atol=near)
    v = result.right(result.nodes().x)
    cosines = (Q[:, :3].T @ v / v.norm(dim=0)).abs()
    torch.testing.assert_close(cosines, torch.eye(3, dtype=f64), rtol=0, atol=20 * near)
    assert (cosines.diagonal() - 1).abs().max() < near
    assert result.info["objective"] == options.get("objective", "lora")


@pytest.mark.parametrize("name", CASES)
def test_eigsh_of_a_larger_matrix_from_the_ritz_start(name):
    """Thirty rows; the start is a random sketch, a ten-thousandth off, and training improves it."""
    options, least, *_ = CASES[name]
    ratio = 0.7 if least > 0 else -0.7
    A = symmetric([3.0, 2.0, 1.0, *(0.7 * ratio**i for i in range(27))], seed=5)[0]
    options = options | {"lr": 0.01, "warmup": 10, "progress": False}
    start, _ = eigsh(A, 2, **options, steps=0)
    w, v = eigsh(A, 2, **options, steps=300)
    exact = torch.linalg.eigvalsh(A).flip(0)[:2]
    before, after = ((found - exact).abs().max() for found in (start, w))
    residual = (A @ v - v * w).norm(dim=0).max() / v.norm(dim=0).min()
    assert before > 1e-5
    if name == "SpIN":  # its averages lag behind at this rate, and it loses some of the start
        assert after < 0.03
        assert residual < 0.3
    else:
        assert after < 0.1 * before
        assert residual < 3e-3


def test_the_symmetric_part_does_not_have_the_singular_values():
    """A shift is nilpotent: no eigenvalue but zero, singular values 1; its symmetric part has neither.

    So SpIN and NeuralEF are not refused for want of code: fed with the symmetric part they would be wrong.
    """
    A = torch.diag(torch.ones(3, dtype=f64), 1)
    assert torch.linalg.svdvals(A).tolist() == pytest.approx([1, 1, 1, 0])
    for objective in ("spin", "neuralef"):
        w, _ = eigsh((A + A.T) / 2, 2, objective=objective, steps=0, progress=False)
        assert w.tolist() == pytest.approx([0.80902, 0.30902], abs=1e-4)
    _, s, _ = nbsvd.svds(A, 2, progress=False)
    assert s.tolist() == pytest.approx([1, 1], abs=1e-6)


HYDROGEN = {
    "spin": {"objective": "spin", "lr": 3e-4},
    "spin, no memory": {"objective": "spin", "decay": 1.0, "lr": 1e-3},
    "neuralef, original": {"objective": "neuralef", "form": "original"},
    "neuralef, iid": {"objective": "neuralef", "kind": "iid", "decay": 0.2},
    "omm, inverse": {"objective": "omm", "invert": 1.5},
    "omm, p = 2": {"objective": "omm", "invert": True, "order": 2, "nesting": "sequential"},
}


@pytest.mark.parametrize("name", HYDROGEN)
def test_hydrogen(name, tmp_path):
    """A few steps of a small network from the Ritz start: what a result says, and that it keeps in a file."""
    options = HYDROGEN[name]
    result = solve(
        "hydrogen2d", 4, steps=60, network={"widths": (32, 32)}, progress=False, report_every=20, **options
    )
    exact = result.exact.values(4)
    assert all(0 <= error < 1 for error in result.errors().values())
    torch.testing.assert_close(result.values, exact, rtol=0.05, atol=0)

    info, ordered = result.info, result.info["objective"] in ("spin", "neuralef")
    assert info["objective"] == options["objective"]
    assert info["nesting"] == ("sequential" if ordered else options.get("nesting", "joint"))
    assert info["shift"] == 0
    told = {key: options[key] for key in ("decay", "form", "order", "invert") if key in options}
    c = info["objective_settings"].get("invert")
    assert info["objective_settings"] == (told | {"invert": c} if c else told)

    levels = exact if c is None else 1 / (c - exact)
    weights = torch.ones(4, dtype=f64) if info["nesting"] == "sequential" else Nesting.joint(4).vector
    best = -(weights @ levels)
    assert result.history.optimum == pytest.approx(float(best))
    assert result.history.loss[-1] == pytest.approx(float(best), rel=0.1)

    mix = result.mix_right
    assert torch.equal(mix, torch.diag(mix.diagonal())) == (info["objective"] != "spin")
    again, points = nbsvd.load(result.save(tmp_path / "result.safetensors")), randn(50, 2)
    assert torch.equal(again.values, result.values)
    assert torch.equal(again.right(points), result.right(points))
    assert dict(again.info) == dict(info)
    assert again.history == result.history


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({"objective": "spin"}, [1, 1, 1]),
        ({"objective": "neuralef"}, [1, 1, 1]),
        ({"objective": "omm", "invert": 0.5}, [1, 2 / 3, 1 / 3]),
        ({"objective": "omm", "invert": 0.5, "nesting": "none"}, [1, 1, 1]),
    ],
)
def test_the_optimum_of_an_operator_with_negative_values(options, weights):
    """NeuralEF works on the shifted operator, SpIN and the inverse on the operator itself."""
    result = solve("oscillator2d", 3, steps=2, network={"widths": (8, 8)}, progress=False, **options)
    levels = torch.tensor([-2.0, -4.0, -4.0], dtype=f64)
    used = 1 / (0.5 - levels) if "invert" in options else levels + result.info["shift"]
    assert (result.info["shift"] > 0) == (options["objective"] == "neuralef")
    assert result.history.optimum == pytest.approx(-float(used @ torch.tensor(weights, dtype=f64)))
    assert result.history.loss[-1] == pytest.approx(result.history.optimum, rel=0.5)


@pytest.mark.parametrize(
    "nesting", ["joint", "sequential", Nesting.joint(2)], ids=["joint", "sequential", "even weights"]
)
@pytest.mark.parametrize("objective", ["spin", "neuralef"])
def test_whatever_nesting_is_named_theirs_is_their_own_order(objective, nesting):
    problem = Problem(Matrix(torch.diag(torch.tensor([2.0, 1.0, 0.0]))))
    result = solve(problem, 2, steps=0, objective=objective, nesting=nesting, progress=False)
    assert result.info["nesting"] == "sequential"


@pytest.mark.parametrize(("kind", "decay"), [("quadrature", 1.0), ("iid", 0.01)])
def test_spin_remembers_where_sums_are_estimates(kind, decay, monkeypatch):
    """Unless it is told otherwise."""
    made = []
    monkeypatch.setattr(
        "nbsvd.training.objective.SpIN",
        lambda L, model, **given: made.append(given) or SpIN(L, model, **given),
    )
    for given in ({}, {"decay": 0.5}):
        solve(
            "oscillator2d",
            2,
            objective="spin",
            kind=kind,
            steps=1,
            network={"widths": (8,)},
            progress=False,
            **given,
        )
    assert made == [{} if decay == 0.01 else {"decay": decay}, {"decay": 0.5}]


def test_zero_is_a_number_to_invert_at():
    result = solve(
        "oscillator2d", 2, objective="omm", invert=0, steps=1, network={"widths": (8,)}, progress=False
    )
    assert result.info["objective_settings"] == {"invert": 0.0}


def test_c_is_above_the_exact_value_where_that_is_known():
    """The Ritz value of a tiny network is far below it."""
    c = solve(
        "hydrogen2d", 1, objective="omm", invert=True, steps=0, network={"widths": (2,)}, progress=False
    ).info["objective_settings"]["invert"]
    assert c == pytest.approx(1.3)


def test_a_value_above_c_is_warned_of():
    with pytest.warns(RuntimeWarning, match="invert: c = 0.5, but T has a value of at least 0.7"):
        Inverse(0.5).warn(torch.tensor([0.7, 0.1]))
