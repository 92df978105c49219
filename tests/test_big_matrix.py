"""Matrices that do not fit: read in blocks, sampled, never copied; what is said of those that are broken."""

import importlib
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from matrices import f64, randn, with_values
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from nbsvd import ArgumentError, Matrix, Problem, TrainingDiverged, eigsh, solve, svds
from nbsvd.measures import Nodes
from nbsvd.objectives import Nesting, lora_svd
from nbsvd.operators import blocks, matrix
from nbsvd.training import tables

pytestmark = pytest.mark.usefixtures("unchecked")
FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
A = randn(70, 50, seed=3).numpy()
A[np.random.default_rng(0).random(A.shape) < 0.6] = 0
SPARSE = [getattr(scipy.sparse, f"{form}_array") for form in ("csr", "csc", "bsr", "lil", "dok", "dia")]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of a few rows, tiles of a few entries, pages given back at once; all arrays are large."""
    for name, value in {"BLOCK": 8 * 50 * 7, "TILE": 16, "HELD": 1}.items():
        monkeypatch.setattr(blocks, name, value)
    monkeypatch.setattr(matrix, "COLUMNS", 13)


def mapped(folder, B, mode="r", order="C"):
    path = folder / f"{abs(hash((B.tobytes(), order, str(B.dtype))))}.npy"
    np.save(path, np.asarray(B, order=order))
    return np.load(path, mmap_mode=mode)


# Memory maps ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", "<f4", ">f4", "<i2", "?"])
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_memory_map_is_a_matrix(tmp_path, order, dtype, mode):
    B = (3 * A).astype(dtype)
    T = Matrix(mapped(tmp_path, B, mode, order))
    assert isinstance(T.entries, blocks.Blocks)
    exact, f, g = torch.from_numpy(B.astype(np.float64)), randn(50, 3), randn(70, 3)
    for _ in range(2):  # pages come back after they have been given back
        torch.testing.assert_close(T.product(f), exact @ f, rtol=1e-14, atol=1e-13)
        torch.testing.assert_close(T.adjoint.product(g), exact.T @ g, rtol=1e-14, atol=1e-13)
    assert torch.equal(T.dense(), exact)
    assert torch.equal(T.adjoint.dense(), exact.T)
    assert T.adjoint.entries.array.base is not None, "the adjoint is a copy"


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_what_was_written_to_a_map_is_not_lost(tmp_path, mode):
    """Pages of a private map hold its changes: they must not be given back."""
    M = mapped(tmp_path, A, mode)
    if mode != "r":
        M[1, 2] = 17.0
    T = Matrix(M)
    T.product(randn(50, 1))
    assert T.dense()[1, 2] == (A[1, 2] if mode == "r" else 17.0)
    assert M[1, 2] == T.dense()[1, 2]


def test_a_slice_and_a_turned_map(tmp_path):
    M = mapped(tmp_path, A)
    for view in (M[3:40:2, ::3], M.T, M[::-1]):
        T, f = Matrix(view), randn(view.shape[1], 2)
        torch.testing.assert_close(T.product(f), torch.from_numpy(np.array(view)) @ f, rtol=1e-13, atol=1e-13)


def test_singular_values_of_a_map(tmp_path):
    B = with_values([9.0, 6.0, 4.0, 2.5, 1.5], 40, 30)
    u, s, v = svds(mapped(tmp_path, B.numpy()), 3, progress=False)
    assert s.tolist() == pytest.approx([9, 6, 4], abs=1e-10)
    torch.testing.assert_close(B @ v, u * s, rtol=0, atol=1e-8)
    half = mapped(tmp_path, B.numpy().astype(np.float32))
    exact = torch.linalg.svdvals(torch.from_numpy(np.array(half, dtype=np.float64)))
    assert svds(half, 3, progress=False)[1].tolist() == pytest.approx(exact[:3].tolist(), rel=1e-13)


def test_symmetry_is_found_tile_by_tile(tmp_path):
    S = A.T @ A
    assert Matrix(mapped(tmp_path, S)).self_adjoint
    T = Matrix(mapped(tmp_path, S.astype(np.float32)))
    assert T.self_adjoint
    assert T.dtype == torch.float32
    for place in ((0, 49), (49, 48)):
        skewed = S.copy()
        skewed[place] += 1e-6 * abs(S).max()
        assert not Matrix(mapped(tmp_path, skewed)).self_adjoint
    w = eigsh(mapped(tmp_path, S), 2, progress=False)[0]
    assert w.tolist() == pytest.approx(np.linalg.eigvalsh(S)[:-3:-1].tolist(), rel=1e-10)


def test_large_arrays_are_not_copied(monkeypatch):
    """Read-only, of float32, of integers: torch would copy them, or each product would."""
    monkeypatch.setattr(matrix, "LARGE", 100)
    locked = A.copy()
    locked.setflags(write=False)
    for B in (locked, A.astype(np.float32), np.asfortranarray(A), (9 * A).astype(np.int32)):
        T = Matrix(B)
        assert np.shares_memory(T.entries.array, B)
        torch.testing.assert_close(T.dense(), torch.from_numpy(B.astype(np.float64)), rtol=0, atol=0)
    T = Matrix(torch.from_numpy(A).float())
    assert T.dtype == torch.float32
    assert isinstance(T.entries, blocks.Blocks)
    assert np.shares_memory(Matrix(A.copy()).entries.numpy(), A) is False
    S = torch.from_numpy(A.T @ A)
    assert Matrix(S).self_adjoint
    S[0, 3] += 1e-3
    assert not Matrix(S).self_adjoint


PROOF = """
import json, sys
import numpy as np, torch
from nbsvd.operators import Matrix, blocks
blocks.BLOCK, blocks.HELD = 2**22, 2**24

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024

def work(A):
    T = Matrix(A, self_adjoint=False)
    f = torch.ones(T.shape[1], 3, dtype=torch.float64)
    for _ in range(2):
        T.adjoint.product(T.product(f))

work(np.load(sys.argv[1], mmap_mode="r")[:5].copy())
before = peak()
work(np.load(sys.argv[1], mmap_mode="r"))
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no VmHWM")
def test_the_memory_of_a_map_is_that_of_its_blocks(tmp_path):
    """A file of 120 MB, read five times: the process never holds half of it."""
    path = tmp_path / "big.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(6000, 5000)).flush()
    command = [sys.executable, "-c", PROOF, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0 <= float(done.stdout) < 60


# Sparse matrices and operators ---------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Constructing a DIA matrix")
@pytest.mark.parametrize("form", [*SPARSE, scipy.sparse.coo_array])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
def test_sparse_formats(form, dtype):
    B = (9 * A).astype(dtype)
    T, f = Matrix(form(B)), randn(50, 2)
    exact = torch.from_numpy(B.astype(np.float64))
    torch.testing.assert_close(T.product(f), exact @ f, rtol=1e-13, atol=1e-12)
    torch.testing.assert_close(T.adjoint.dense(), exact.T, rtol=0, atol=0)


@pytest.mark.parametrize("form", ["csr", "csc"])
def test_a_sparse_matrix_is_used_where_it_is(form):
    B = scipy.sparse.coo_array(A).asformat(form)
    T = Matrix(B)
    for M in (T, T.adjoint, T.adjoint.adjoint):
        assert np.shares_memory(M.entries.data, B.data)
        assert np.shares_memory(M.entries.indices, B.indices)


def test_entries_given_twice_are_summed_and_zeros_are_fine():
    rows, columns, entries = [0, 0, 2, 1], [1, 1, 0, 1], [1.0, 2.0, 5.0, 0.0]
    exact = [[0.0, 3.0], [0.0, 0.0], [5.0, 0.0]]
    listed = scipy.sparse.coo_array((entries, (rows, columns)), shape=(3, 2))
    raw = scipy.sparse.csr_array(([1.0, 2.0, 0.0, 5.0], [1, 1, 1, 0], [0, 2, 3, 4]), shape=(3, 2))
    assert not raw.has_canonical_format
    sample = Nodes(torch.tensor([[1], [0], [1]]), torch.tensor([2.0, 2.0, 2.0], dtype=f64), "iid")
    for B in (listed, raw):
        assert Matrix(B).dense().tolist() == exact
        assert svds(B, 2, progress=False)[1].tolist() == pytest.approx([5, 3], abs=1e-10)
        found = Matrix(B).transform(torch.tensor([[0], [2], [0]]), sample, torch.ones(3, 1, dtype=f64))
        assert found[:, 0].tolist() == pytest.approx([4.0, 10 / 3, 4.0])


@pytest.mark.parametrize("form", ["csr", "csc"])
def test_blocks_of_a_sparse_matrix(form):
    B = scipy.sparse.coo_array(A).asformat(form)
    rng = np.random.default_rng(1)
    for rows, columns in itertools.product((0, 1, 9, 70), (1, 7, 50)):
        i, j = np.sort(rng.choice(70, rows, replace=False)), np.sort(rng.choice(50, columns, replace=False))
        assert np.array_equal(blocks.sample_sparse(B, i, j).toarray(), A[np.ix_(i, j)])
    empty = scipy.sparse.csr_array((5, 4))
    assert blocks.sample_sparse(empty, np.array([0, 4]), np.array([1, 3])).nnz == 0


def test_a_step_on_a_sparse_block_costs_what_its_rows_hold(monkeypatch):
    """No array as long as the matrix is wide, high or full: those would show as memory."""
    import tracemalloc

    n = 2_000_000
    B = scipy.sparse.csr_array((np.ones(n), np.arange(n), np.arange(n + 1)), shape=(n, n))
    i = np.array([3, 77, 1_999_999])
    for M in (B, B.T):
        tracemalloc.start()
        found = blocks.sample_sparse(M, i, i)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found.toarray().tolist() == np.eye(3).tolist()
        assert peak < 100_000


def test_a_linear_operator_without_its_adjoint(unchecked):
    one_way = LinearOperator((9, 7), matvec=lambda v: A[:9, :7] @ v, dtype=np.float64)
    assert Matrix(one_way).product(randn(7, 2)).shape == (9, 2)
    assert torch.equal(Matrix(one_way).dense(), torch.from_numpy(A[:9, :7]))
    with pytest.raises(ArgumentError, match=r"A: got a LinearOperator that fails.*rmatvec.*Give both"):
        svds(one_way, 2, progress=False)


def test_a_linear_operator_with_the_wrong_adjoint():
    B = A[:30, :30]
    wrong = LinearOperator(B.shape, matvec=lambda v: B @ v, rmatvec=lambda v: B @ v, dtype=np.float64)
    with pytest.raises(ArgumentError, match=r"rmatvec does not multiply by the transpose.*rmatvec\(g\) is"):
        svds(wrong, 2, progress=False)
    with pytest.raises(ArgumentError, match="differs from its transpose"):
        Matrix(aslinearoperator(B), self_adjoint=True)


# Samples -------------------------------------------------------------------------------------------------


def makes(B, folder):
    return {
        "tensor": torch.from_numpy(B),
        "csr": scipy.sparse.csr_array(B),
        "csc": scipy.sparse.csc_array(B),
        "map": mapped(folder, B),
        "turned map": mapped(folder, B, order="F"),
        "operator": aslinearoperator(B),
    }


@pytest.mark.parametrize("kind", ["joint", "none"])
def test_objective_and_gradient_are_unbiased(tmp_path, kind):
    """The mean over all pairs of columns and all rows is the exact sum, and so is its gradient."""
    m, n = 3, 4
    B = A[:m, :n] + np.eye(m, n)
    nesting = Nesting(kind, 2)
    f0, g0 = randn(n, 2, seed=1), randn(m, 2, seed=2)

    def of(T, x, y):
        f, g = f0.clone().requires_grad_(), g0.clone().requires_grad_()
        Tf = T.transform(y.x, x, f[x.x[:, 0]])
        loss = lora_svd(f[x.x[:, 0]], g[y.x[:, 0]], Tf, nesting, weights=(x.weights, y.weights))
        return [loss.detach(), *torch.autograd.grad(loss, (f, g))]

    def drawn(index, size):
        return Nodes(torch.tensor(index)[:, None], torch.full((len(index),), float(size), dtype=f64), "iid")

    for name, made in makes(B, tmp_path).items():
        T = Matrix(made, self_adjoint=False)
        exact = of(T, *(mu.nodes(1, kind="quadrature") for mu in (T.measure_x, T.measure_y)))
        found = [
            of(T, drawn(columns, n), drawn(rows, m))
            for columns in itertools.product(range(n), repeat=2)
            for rows in itertools.product(range(m), repeat=2)
        ]
        for part, whole in zip(zip(*found, strict=True), exact, strict=True):
            torch.testing.assert_close(torch.stack(part).mean(0), whole, rtol=1e-12, atol=1e-12, msg=name)


def test_only_the_block_is_read(tmp_path, monkeypatch):
    T = Matrix(mapped(tmp_path, A))
    monkeypatch.setattr(
        blocks.Blocks, "__matmul__", lambda *a: pytest.fail("the whole matrix was multiplied")
    )
    monkeypatch.setattr(blocks.Blocks, "pieces", lambda *a: pytest.fail("the whole matrix was read"))
    x = T.measure_x.nodes(20, kind="iid", generator=torch.Generator().manual_seed(0))
    y = T.measure_y.nodes(30, kind="iid", generator=torch.Generator().manual_seed(1))
    f = randn(50, 2)
    found = T.transform(y.x, x, f[x.x[:, 0]])
    monkeypatch.undo()
    exact = Matrix(A.copy()).transform(y.x, x, f[x.x[:, 0]])
    torch.testing.assert_close(found, exact, rtol=1e-13, atol=1e-13)


def test_training_on_samples(tmp_path):
    """From random vectors; the same for a map and for a sparse matrix."""
    B = with_values([9.0, 5.0, 3.0] + 40 * [0.5], 120, 80).numpy()
    options = {"kind": "iid", "batch_size": 64, "steps": 400, "optimizer": "adam", "progress": False}
    found = []
    for made in (mapped(tmp_path, B), scipy.sparse.csr_array(B)):
        result = solve(Problem(Matrix(made)), 2, warm_start=None, **options)
        assert result.values.tolist() == pytest.approx([9, 5], rel=0.03)
        found.append(result.values)
    torch.testing.assert_close(*found, rtol=1e-6, atol=0)


def test_the_rate_knows_the_unit_of_the_entries():
    """Adam's steps do not: with a fixed rate one of the two would stand still, and one blow up."""
    B = with_values([9.0, 5.0, 3.0] + 40 * [0.5], 120, 80)
    options = {"kind": "iid", "batch_size": 64, "steps": 150, "optimizer": "adam", "progress": False}
    small, large = (
        solve(Problem(Matrix(B * scale)), 2, **options).values / scale for scale in (2.0**-14, 2.0**14)
    )
    torch.testing.assert_close(small, large, rtol=1e-3, atol=0)
    assert small.tolist() == pytest.approx([9, 5], rel=0.03)


# Runs that end early -------------------------------------------------------------------------------------


class Failing:
    """A matrix whose products, after some, are what the test says."""

    def __init__(self, B, then, good):
        self.B, self.then, self.left = B, then, good

    def product(self, M, v):
        self.left -= 1
        return M @ v if self.left > 0 else self.then(M @ v)

    def operator(self):
        one, other = (lambda v, M=M: self.product(M, v) for M in (self.B, self.B.T))
        forms = {"matvec": one, "matmat": one, "rmatvec": other, "rmatmat": other}
        return LinearOperator(self.B.shape, **forms, dtype=np.float64)


def stop(_):
    raise KeyboardInterrupt


def test_ctrl_c_within_a_product_keeps_the_last_good_state():
    source = Failing(A, lambda v: stop(v) if source.left == 0 else v, 60)
    result = solve(Problem(Matrix(source.operator())), 3, progress=False)
    assert result.history.stopped == "interrupted"
    assert result.info["steps"] >= 10
    exact = np.linalg.svd(A, compute_uv=False)[:3]
    assert result.values.tolist() == pytest.approx(exact.tolist(), rel=0.05)


@pytest.mark.parametrize("forever", [False, True])
@pytest.mark.parametrize("good", range(57, 63))
def test_a_product_that_becomes_nan_leaves_the_last_good_state(good, forever):
    """In either half of a step, or in a report."""
    source = Failing(A, lambda v: v * np.nan if forever or source.left == 0 else v, good)
    said = r"A: got a product with NaN.*last good state, with values"
    with pytest.raises(TrainingDiverged, match=said) as error:
        solve(Problem(Matrix(source.operator())), 3, progress=False)
    result = error.value.result
    assert error.value.step >= 10
    if forever:  # then nothing can be measured
        kept = result
    else:
        kept = result.right_model, result.left_model
        assert result.history.stopped == "diverged"
        assert result.values.isfinite().all()
    assert all(bool(table.entries.isfinite().all()) for table in kept)


@pytest.mark.parametrize("progress", [True, False])
def test_the_bar(monkeypatch, capsys, progress):
    """Shown for a run of some time only: step, move, time left. It is erased in the end."""
    monkeypatch.setattr(tables, "DELAY", 0.0)
    monkeypatch.setattr(tables, "PATIENCE", 10**6)
    svds(A, 3, steps=2000, seconds=2.0, progress=progress)
    said = capsys.readouterr().err
    assert ("step " in said and " move " in said and "<" in said) == progress
    monkeypatch.setattr(tables, "DELAY", 100.0)
    svds(A, 3, steps=5, progress=progress)
    assert capsys.readouterr().err == ""


def test_close_values_take_few_steps():
    """Plain alternating steps shrink an error by 0.97 each: they would take more than a thousand."""
    B = with_values([3.0, 2.0, 1.0] + 5 * [0.985], 60, 40)
    for made in (B, B.T.contiguous()):
        result = solve(Problem(Matrix(made)), 3, progress=False)
        assert result.values.tolist() == pytest.approx([3, 2, 1], rel=1e-12)
        assert result.history.stopped == "converged"
        assert result.info["steps"] < 500


def test_a_report_takes_one_product(monkeypatch):
    """However many rows there are: the product is not made anew for each piece of them."""
    count = []
    B = scipy.sparse.random_array((20_000, 300), density=0.01, rng=np.random.default_rng(0), format="csr")
    product = Matrix.product
    monkeypatch.setattr(Matrix, "product", lambda self, f: (count.append(f.shape), product(self, f))[1])
    solve(Problem(Matrix(B)), 3, steps=10, progress=False)
    start, steps, report, result = 2 + 1, 2 * 10, 1, 1  # of the start, one for fit and control
    assert len(count) == start + steps + report + result


# Bad and odd input ---------------------------------------------------------------------------------------

NAN = A.copy()
NAN[68, 41] = np.nan


def test_where_the_nan_is(tmp_path, unchecked, monkeypatch):
    for made in makes(NAN, tmp_path).values():
        place = r"\(68, 41\)" if not isinstance(made, LinearOperator) else "68"
        with pytest.raises(ArgumentError, match=rf"A: got NaN or infinite entries.*{place}; expected finite"):
            Matrix(made)
    monkeypatch.setattr(matrix, "LARGE", 100)
    with pytest.raises(ArgumentError, match=r"\(68, 41\)"):
        Matrix(NAN.astype(np.float32))
    for bad in (np.inf, -np.inf):
        with pytest.raises(ArgumentError, match=r"\(68, 41\)"):
            Matrix(mapped(tmp_path, np.where(np.isnan(NAN), bad, NAN)))


BAD = {
    "no rows": (scipy.sparse.csr_array((0, 4)), r"shape \(0, 4\)"),
    "one axis": (np.ones(4), r"shape \(4,\).*A\[:, None\]"),
    "objects": (np.array([[1, "a"]], dtype=object), "expected a real matrix"),
    "complex": (scipy.sparse.csr_array(1j * A), "dtype complex128.*Re A"),
    "raises": (LinearOperator((3, 4), matvec=lambda v: 1 / 0, dtype=float), "fails on a vector of ones"),
    "wrong shape": (LinearOperator((3, 4), matvec=lambda v: v, dtype=float), "fails on a vector of ones"),
    "infinite": (LinearOperator((3, 4), matvec=lambda v: v[:3] / 0, dtype=float), "matvec makes them"),
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize(("wrong", "said"), BAD.values(), ids=BAD.keys())
def test_bad_input(wrong, said, unchecked):
    with pytest.raises(ArgumentError, match=f"^A: got .*{said}"):
        svds(wrong, 1)


@pytest.mark.parametrize("kind", ["c16", "M8[s]", "U3"])
def test_a_map_of_no_numbers(tmp_path, kind, unchecked):
    with pytest.raises(ArgumentError, match=r"^A: got .*; expected (a real matrix|real numbers)"):
        Matrix(np.memmap(tmp_path / "x", dtype=kind, mode="w+", shape=(3, 2)))


def test_a_map_of_one_axis(tmp_path, unchecked):
    with pytest.raises(ArgumentError, match=r"A: got shape \(4,\).*A\[:, None\]"):
        Matrix(np.memmap(tmp_path / "x", dtype="f4", mode="w+", shape=(4,)))


def test_more_values_than_there_are(tmp_path, unchecked):
    for made in makes(A[:3, :7], tmp_path).values():
        with pytest.raises(
            ArgumentError, match="k: got 4; expected at most 3, the smaller side of the matrix"
        ):
            svds(made, 4)


def test_a_matrix_too_large_to_be_one_tensor(unchecked):
    T = Matrix(scipy.sparse.csr_array((10**6, 10**5)))
    with pytest.raises(ArgumentError, match=r"A: got a matrix.*: 745 GB as one tensor.*Use product"):
        T.dense()
    assert T.product(torch.ones(10**5, 1, dtype=f64)).abs().max() == 0


ODD = {
    "equal columns": (np.repeat(A[:, :5], 2, axis=1), 5),
    "all equal": (np.full((8, 6), 2.5), 1),
    "zero": (np.zeros((8, 6)), 0),
    "one row": (A[:1, :9], 1),
    "a row of zeros": (np.vstack([A[:4, :9], np.zeros((2, 9))]), 4),
}


@pytest.mark.parametrize(("B", "rank"), ODD.values(), ids=ODD.keys())
def test_odd_matrices(tmp_path, B, rank):
    k = min(3, *B.shape)
    exact = np.linalg.svd(B, compute_uv=False)[:k]
    for made in makes(B, tmp_path).values():
        u, s, v = svds(made, k, progress=False)
        assert s.tolist() == pytest.approx(exact.tolist(), abs=1e-9 * max(1.0, exact[0]))
        assert u.isfinite().all()
        live = min(k, rank)
        residual = torch.from_numpy(B) @ v[:, :live] - u[:, :live] * s[:live]
        assert residual.abs().max() <= 1e-8 * exact[0] if live else True


# The benchmark -------------------------------------------------------------------------------------------


@pytest.fixture
def big_matrix(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(importlib.import_module("_machine"), "RESULTS", tmp_path / "results")
    return importlib.import_module("big_matrix")


def test_benchmark(big_matrix, script, monkeypatch):
    monkeypatch.setattr(big_matrix, "in_child", big_matrix.run)
    monkeypatch.setattr(
        big_matrix, "QUICK", {"users": 2000, "items": 200, "rows": 90, "columns": 70, "batch": 32}
    )
    said = script("big_matrix", "--quick", "--limit", "3")
    assert said.count(" wins on time to 1e-08") == 2
    assert said.count("ours, sampled") == 2
    assert "nothing to compare" in said


def test_a_contender_has_a_process_of_its_own(big_matrix, tmp_path):
    big_matrix.write_map(tmp_path / "map.npy", 60, 40)
    job = {"group": "memory map", "name": "ours", "folder": str(tmp_path), "threads": 1, "limit": 5.0}
    row = big_matrix.in_child(job)
    assert 0 < row["seconds"] < 60
    assert 0 <= row["added_mb"] < row["peak_mb"]
    with np.load(tmp_path / "found.npz") as found:
        exact = np.linalg.svd(np.load(tmp_path / "map.npy").astype(np.float64), compute_uv=False)
        assert found["s"].tolist() == pytest.approx(exact[:10].tolist(), rel=1e-9)
    assert "KeyError" in big_matrix.in_child(job | {"name": "nobody"})["refused"]


def row(seconds, error, added=1.0):
    return {"seconds": seconds, "relative_max": error, "added_mb": added}


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (row(2.0, 1e-12), "Ours wins on time to 1e-08: 5 times as fast."),
        (row(20.0, 1e-12), "SciPy svds wins on time to 1e-08: ours takes 2 times as long."),
        (row(1.0, 1e-3), "SciPy svds wins on time to 1e-08: ours is at 1.0e-03 after 1 s."),
    ],
)
def test_who_wins_is_computed(big_matrix, own, said):
    rows = {"SciPy svds": row(10.0, 0.0), "ours": own, "scikit-learn": row(0.1, 1e-2)}
    sentences = big_matrix.verdict({"rows": rows, "megabytes": 10.0})
    assert sentences[0] == said
    assert "scikit-learn stops at 1.0e-02, after 0.1 s." in sentences
    assert "failed" in big_matrix.verdict({"rows": {"SciPy svds": {"refused": "x"}}, "megabytes": 1.0})[0]
