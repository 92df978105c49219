"""Matrices through ``svds`` and ``eigsh``: what torch.linalg says, to 1e-8 in float64."""

import numpy as np
import pytest
import scipy.sparse
import torch
from matrices import f64, randn, with_values
from scipy.sparse.linalg import LinearOperator

import nbsvd
from nbsvd import Matrix, Problem, eigsh, solve, svds
from nbsvd.measures import Uniform

# Thousands of small steps: the run-time check of shapes would cost more than they do.
pytestmark = pytest.mark.usefixtures("unchecked")


def symmetric(values, seed=0):
    V = torch.linalg.qr(randn(len(values), len(values), seed=seed)).Q
    return V * torch.tensor(values, dtype=f64) @ V.T


def check(A, k, tolerance=1e-8, **options):
    """Values and, of each value that is apart from the others, both vectors with their signs."""
    u, s, v = svds(A, k, **options)
    A = torch.as_tensor(A, dtype=f64)
    U, S, Vh = torch.linalg.svd(A, full_matrices=False)
    torch.testing.assert_close(s, S[:k], rtol=0, atol=tolerance * float(S[0]))
    assert (u.shape, v.shape) == ((A.shape[0], k), (A.shape[1], k))
    for i in range(k):
        gap = min((abs(float(S[i] - S[j])) for j in range(len(S)) if j != i), default=1.0)
        if S[i] > 1e-12 * S[0] and gap > 1e-6 * S[i]:
            torch.testing.assert_close(
                torch.outer(u[:, i], v[:, i]), torch.outer(U[:, i], Vh[i]), rtol=0, atol=1e-6
            )
            assert u[:, i].norm().item() == pytest.approx(1, abs=1e-9)
    return u, s, v


GAPS = [9.0, 6.0, 4.0, 2.5, 1.5, 1.0]


@pytest.mark.parametrize(("m", "n"), [(12, 8), (8, 12), (9, 9), (40, 6), (6, 1), (1, 6)])
def test_rectangular(m, n):
    check(with_values(GAPS[: min(m, n)], m, n), min(4, m, n))


def test_all_values_of_a_matrix():
    check(with_values(GAPS, 7, 6), 6)


def test_ill_conditioned():
    values = [10.0**-i for i in range(9)]
    _, s, _ = check(with_values(values, 12, 10), 9)
    assert s.tolist() == pytest.approx(values, rel=1e-4)  # each of them, down to 1e-8


@pytest.mark.parametrize("nesting", ["joint", "sequential", "none"])
@pytest.mark.parametrize("warm_start", ["ritz", None])
def test_values_beyond_the_rank_are_zero(nesting, warm_start):
    A = with_values([3.0, 2.0, 1.0], 12, 9)
    u, s, v = svds(A, 5, nesting=nesting, warm_start=warm_start, progress=False)
    if nesting != "none":
        torch.testing.assert_close(s, torch.tensor([3, 2, 1, 0, 0], dtype=f64), rtol=0, atol=1e-8)
        torch.testing.assert_close(v.T @ v, torch.eye(5, dtype=f64), rtol=0, atol=1e-8)
        torch.testing.assert_close(A @ v, u * s, rtol=0, atol=1e-8)
    assert bool(torch.isfinite(s).all())


def test_weights_of_ones_own():
    A = with_values(GAPS, 12, 8)
    s = svds(A, 3, nesting=nbsvd.Nesting.joint(3, [0.2, 3.0, 1.0]), warm_start=None, progress=False)[1]
    torch.testing.assert_close(s, torch.tensor(GAPS[:3], dtype=f64), rtol=0, atol=1e-8)


def test_tied_values_leave_the_subspace_and_the_others_alone():
    A = with_values([3.0, 2.0, 2.0, 1.0, 0.5], 9, 7)
    u, _, v = check(A, 4)
    U, _, Vh = torch.linalg.svd(A)
    # Inside the tie any pair will do, as long as both sides turn together.
    tied = u[:, 1:3] @ v[:, 1:3].t()
    torch.testing.assert_close(tied, U[:, 1:3] @ Vh[1:3], rtol=0, atol=1e-8)


def test_a_tie_that_k_cuts():
    A = with_values([3.0, 2.0, 2.0, 1.0], 9, 7)
    u, s, v = check(A, 2)
    V = torch.linalg.svd(A).Vh[1:3]
    assert (V @ v[:, 1]).norm().item() == pytest.approx(1, abs=1e-8)  # some vector of the tied plane
    torch.testing.assert_close(A @ v, u * s, rtol=0, atol=1e-7)


def test_rank_below_k():
    """Where sigma is zero, value and approximation are right, and there is no vector to be unique."""
    A = with_values([3.0, 1.0], 8, 6)
    u, s, v = svds(A, 4)
    assert s[:2].tolist() == pytest.approx([3.0, 1.0], abs=1e-8)
    assert s[2:].abs().max() < 1e-8
    torch.testing.assert_close(u * s @ v.t(), A, rtol=0, atol=1e-8)


def test_a_zero_matrix():
    u, s, v = svds(torch.zeros(4, 3), 2)
    assert s.tolist() == [0.0, 0.0]
    assert u.isfinite().all()
    assert v.isfinite().all()


def test_a_symmetric_matrix_has_positive_singular_values():
    _, s, _ = check(symmetric([5.0, -4.0, 2.0, -1.0]), 3)
    assert s.tolist() == pytest.approx([5, 4, 2], abs=1e-8)


@pytest.mark.parametrize(
    "values",
    [
        [5.0, 3.0, 2.0, 1.0, 0.5],
        [5.0, 3.0, 1.0, -1.0, -4.0],
        [3.0, 2.0, 1.0, -50.0, -1000.0],  # large negative eigenvalues
        [-1.0, -2.0, -4.0, -5.0, -90.0],
        [4.0, 1.0, 0.0, 0.0, -1.0],
        [2.0, 0.0, 0.0, 0.0, 0.0],
    ],
)
def test_eigenvalues(values):
    A = symmetric(values)
    w, v = eigsh(A, 3)
    assert w.tolist() == pytest.approx(values[:3], abs=1e-8 * max(map(abs, values)))
    torch.testing.assert_close(A @ v, v * w, rtol=0, atol=1e-6 * max(map(abs, values)))
    torch.testing.assert_close(v.t() @ v, torch.eye(3, dtype=f64), rtol=0, atol=1e-6)


def test_the_sign_rule():
    _, v = eigsh(symmetric([5.0, 3.0, 2.0, 1.0]), 3)
    for column in v.unbind(1):
        first = int((column.abs() >= 0.9 * column.abs().max()).nonzero()[0])
        assert column[first] > 0


def wrapped(A):
    A = A.numpy()
    return LinearOperator(A.shape, matvec=lambda x: A @ x, rmatvec=lambda y: A.T @ y, dtype=np.float64)


KINDS = {
    "float32": lambda A: A.float(),
    "numpy": lambda A: A.numpy(),
    "list": lambda A: A.tolist(),
    "scipy sparse": lambda A: scipy.sparse.csc_array(A.numpy()),
    "torch sparse": lambda A: A.to_sparse(),
    "LinearOperator": wrapped,
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_matrices(kind):
    A = with_values(GAPS, 9, 7)
    _, s, v = svds(KINDS[kind](A), 3)
    tolerance = 1e-5 if kind == "float32" else 1e-8
    assert s.tolist() == pytest.approx(GAPS[:3], abs=tolerance * 9)
    assert v.shape == (7, 3)
    assert v.dtype == f64


def test_a_symmetric_linear_operator():
    A = symmetric([5.0, 3.0, 2.0, -1.0])
    w, _ = eigsh(Matrix(wrapped(A), self_adjoint=True), 2)
    assert w.tolist() == pytest.approx([5, 3], abs=1e-8)


@pytest.mark.parametrize(
    ("operator", "values"),
    [
        (2 * Matrix(symmetric([3.0, 1.0, -2.0])), [6.0, 2.0]),
        (-Matrix(symmetric([3.0, 1.0, -2.0])), [2.0, -1.0]),
        (Matrix(symmetric([3.0, 1.0, -2.0])).shift(1.5), [4.5, 2.5]),
        (Matrix(symmetric([3.0, 1.0, -2.0])) + Matrix(symmetric([1.0, 1.0, 1.0])), [4.0, 2.0]),
    ],
    ids=["scaled", "negative", "shifted", "sum"],
)
def test_algebra(operator, values):
    w, _ = eigsh(operator, 2)
    assert w.tolist() == pytest.approx(values, abs=1e-8)
    _, s, _ = svds(operator, 3)
    matrix = torch.stack([operator.apply(lambda x, e=e: e[x[:, 0].long()], *grid()) for e in vectors()], 1)[
        ..., 0
    ]
    torch.testing.assert_close(s, torch.linalg.svdvals(matrix), rtol=0, atol=1e-8)


def vectors():
    return torch.eye(3, dtype=f64)[:, :, None]


def grid():
    nodes = Matrix(torch.eye(3)).measure_x.nodes(3)
    return nodes.x, nodes


@pytest.mark.parametrize("nesting", ["joint", "sequential"])
def test_nestings_find_the_same_vectors(nesting):
    check(with_values(GAPS, 8, 6), 3, nesting=nesting)
    w, _ = eigsh(symmetric([5.0, 3.0, 2.0, 1.0]), 3, nesting=nesting)
    assert w.tolist() == pytest.approx([5, 3, 2], abs=1e-8)


def test_without_nesting_only_the_subspace_is_found():
    A = with_values(GAPS, 8, 6)
    result = solve(Problem(Matrix(A)), 3, nesting="none", warm_start=None)
    assert (result.values - torch.tensor(GAPS[:3])).abs().max() > 1e-3
    torch.testing.assert_close(result.ritz().values, torch.tensor(GAPS[:3], dtype=f64), rtol=0, atol=1e-8)


@pytest.mark.parametrize("warm_start", ["ritz", None])
def test_the_start_is_no_crutch(warm_start):
    """From random vectors the objective finds the same."""
    result = solve(Problem(Matrix(with_values(GAPS, 30, 20))), 3, warm_start=warm_start)
    assert result.values.tolist() == pytest.approx(GAPS[:3], abs=1e-8)
    assert result.history.stopped == "converged"
    assert result.info["steps"] == result.history.step[-1] > 0
    assert result.history.values[-1] == pytest.approx(GAPS[:3], abs=1e-6)


def test_the_loss_ends_at_its_optimum():
    A = symmetric([4.0, 2.0, 1.0, 0.5])
    history = solve(Problem(Matrix(A)), 3).history
    m = torch.tensor([1.0, 2 / 3, 1 / 3])
    assert history.loss[-1] == pytest.approx(-(m * torch.tensor([16.0, 4.0, 1.0])).sum().item(), rel=1e-9)


def test_limits():
    problem = Problem(Matrix(randn(40, 30)))
    for options, stopped in (
        ({"steps": 3}, "steps"),
        ({"steps": 0}, "steps"),
        ({"seconds": 1e-9}, "seconds"),
    ):
        result = solve(problem, 4, **options)
        assert result.history.stopped == stopped
        assert result.info["steps"] == options.get("steps", 0)
        assert result.values.isfinite().all()


def test_ctrl_c_returns_what_there_is(monkeypatch):
    from nbsvd.training import tables

    step = tables._descend
    calls = []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 25:
            raise KeyboardInterrupt
        return step(*arguments, **options)

    monkeypatch.setattr(tables, "_descend", interrupted)
    result = solve(Problem(Matrix(randn(40, 30))), 4)
    assert result.history.stopped == "interrupted"
    assert result.history.step == [10, 12]  # two halves a step
    assert result.values.isfinite().all()


def test_omm_on_a_positive_matrix():
    A = symmetric([3.0, 2.0, 1.0, 0.5, 0.1])
    result = solve(
        Problem(Matrix(A)), 3, objective="omm", steps=400, warm_start=None, lr=0.02, progress=False
    )
    assert result.values.tolist() == pytest.approx([3, 2, 1], rel=5e-3)
    norms = result.right_model.entries.norm(dim=0)
    assert norms.tolist() == pytest.approx([1, 1, 1], abs=0.02)  # orthonormal, not scaled by the value
    assert result.info["objective"] == "omm"


def test_stochastic_gradients_on_a_matrix():
    """Rows drawn at random, with the U-statistic, and callbacks, which see the Trainer."""
    A = symmetric([3.0, 2.0, 1.0, 0.5, 0.1])
    steps = []
    result = solve(
        Problem(Matrix(A)),
        2,
        kind="iid",
        batch_size=64,
        steps=300,
        callbacks=[lambda run: steps.append(run.step)],
        progress=False,
    )
    assert steps == [100, 200, 300]
    assert result.values.tolist() == pytest.approx([3, 2], rel=0.05)


def test_a_kernel_of_two_measures():
    """exp(-(x - y)) separates: one singular value, |exp(-x)| |exp(y)|."""
    kernel = nbsvd.Integral(lambda x, y: torch.exp(y.t() - x), Uniform(0.0, 1.0), Uniform(-1.0, 0.0))
    _, s, _ = svds(kernel, 1, steps=0, progress=False)
    norm = ((1 - np.exp(-2)) / 2) ** 0.5
    assert s.item() == pytest.approx(norm * norm, rel=1e-3)
