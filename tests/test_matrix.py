"""Matrices of every make as operators: products, gradients, samples, symmetry, bad input."""

import numpy as np
import pytest
import scipy.sparse
import torch
from by_autograd import relative
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from nbsvd._errors import ArgumentError
from nbsvd.functions import Table
from nbsvd.operators import Matrix

f64 = torch.float64
RNG = np.random.default_rng(0)
A = RNG.standard_normal((6, 8))
A[RNG.random(A.shape) < 0.4] = 0  # so that sparse formats have something to leave out
MAKES = {
    "torch": torch.from_numpy,
    "numpy": lambda A: A,
    "list": lambda A: A.tolist(),
    "fortran order": np.asfortranarray,
    "reversed view": lambda A: A[::-1].copy()[::-1],
    "read only": lambda A: (B := A.copy(), B.setflags(write=False))[0],
    "csr": scipy.sparse.csr_array,
    "coo_array": scipy.sparse.coo_array,
    "old csc": scipy.sparse.csc_matrix,
    "torch sparse": lambda A: torch.from_numpy(A).to_sparse_coo(),
    "LinearOperator": aslinearoperator,
    "LinearOperator by functions": lambda A: LinearOperator(
        A.shape, matvec=lambda v: A @ v, rmatvec=lambda v: A.T @ v, dtype=np.float64
    ),
}
makes = pytest.mark.parametrize("make", MAKES.values(), ids=MAKES.keys())
samplers = pytest.mark.parametrize(
    "make",
    [MAKES[name] for name in ("torch", "csr", "LinearOperator")],
    ids=["torch", "csr", "LinearOperator"],
)


def table(n, L=3, seed=0):
    return Table(L, n, generator=torch.Generator().manual_seed(seed))


def everything(T):
    return T.measure_x.nodes(1, kind="quadrature"), T.measure_y.nodes(1, kind="quadrature")


@makes
class TestEveryMake:
    def test_product(self, make):
        T, f = Matrix(make(A)), table(8)
        x, y = everything(T)
        assert T.shape == (6, 8)
        assert (len(x), len(y)) == (8, 6)
        assert not T.self_adjoint
        assert T.dtype == f64
        expected = torch.from_numpy(A) @ f.entries
        assert relative(T.apply(f, y.x, x), expected) <= 1e-14
        assert relative(T.product(f.entries), expected) <= 1e-14
        assert relative(T.dense(), torch.from_numpy(A)) <= 1e-15

    def test_adjoint(self, make):
        T, g = Matrix(make(A)), table(6)
        x, y = everything(T)
        assert T.adjoint.shape == (8, 6)
        assert relative(T.adjoint.apply(g, x.x, y), torch.from_numpy(A.T) @ g.entries) <= 1e-14
        assert relative(T.adjoint.adjoint.dense(), torch.from_numpy(A)) <= 1e-15

    def test_gradients(self, make):
        T = Matrix(make(A))
        x, y = everything(T)
        f = table(8).entries.detach().requires_grad_()
        assert torch.autograd.gradcheck(lambda f: T.transform(y.x, x, f), f)
        assert torch.autograd.gradgradcheck(lambda f: T.transform(y.x, x, f) ** 2, f)

    def test_float32_functions(self, make):
        T = Matrix(make(A))
        f = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
        product = T.product(f)
        assert product.dtype == torch.float32
        assert relative(product, (torch.from_numpy(A) @ f.double()).float()) <= 1e-6

    def test_nodes_in_another_order(self, make):
        """Every index once, in whatever order: weights and points belong together."""
        T, f = Matrix(make(A)), table(8)
        x, y = everything(T)
        order = torch.randperm(8, generator=torch.Generator().manual_seed(2))
        shuffled = type(x)(x.x[order], x.weights[order], "quadrature")
        assert relative(T.apply(f, y.x[[4, 1]], shuffled), T.apply(f, y.x, x)[[4, 1]]) <= 1e-14


@samplers
class TestSampledIndices:
    def test_unbiased(self, make):
        """5 standard errors for each of 18 numbers: a false alarm in 1e-5 of all seeds."""
        T, f, generator = Matrix(make(A)), table(8), torch.Generator().manual_seed(3)
        x, y = everything(T)
        exact = T.apply(f, y.x, x).detach()
        with torch.no_grad():
            runs = torch.stack(
                [T.apply(f, y.x, T.measure_x.nodes(16, kind="iid", generator=generator)) for _ in range(500)]
            )
        assert bool(((runs.mean(0) - exact).abs() < 5 * runs.std(0) / 500**0.5).all())

    def test_same_sample_same_numbers(self, make):
        """All makes agree on one sample, in which indices repeat."""
        T, f = Matrix(make(A)), table(8)
        x = T.measure_x.nodes(20, kind="iid", generator=torch.Generator().manual_seed(4))
        y = T.measure_y.nodes(5, kind="iid", generator=torch.Generator().manual_seed(5))
        by_hand = sum(
            w * torch.from_numpy(A)[y.x[:, 0], i][:, None] * f.entries[i]
            for i, w in zip(x.x[:, 0], x.weights / 20, strict=True)
        )
        assert relative(T.apply(f, y.x, x), by_hand) <= 1e-13

    def test_gradients(self, make):
        T = Matrix(make(A))
        x = T.measure_x.nodes(5, kind="iid", generator=torch.Generator().manual_seed(4))
        y = T.measure_y.nodes(4, kind="iid", generator=torch.Generator().manual_seed(5))
        f = table(8).entries.detach().requires_grad_()
        assert torch.autograd.gradcheck(lambda f: T.transform(y.x, x, f[x.x[:, 0]]), f)


class TestSymmetry:
    S = A.T @ A

    @pytest.mark.parametrize("make", [MAKES[n] for n in MAKES if "Linear" not in n], ids=lambda _: "")
    def test_found(self, make):
        T = Matrix(make(self.S))
        assert T.self_adjoint
        assert T.adjoint is T
        assert T.measure_x is T.measure_y
        skewed = self.S.copy()
        skewed[0, 1] += 1e-6
        assert not Matrix(make(skewed)).self_adjoint

    @pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
    @pytest.mark.parametrize("dtype", [torch.float32, f64])
    def test_the_scale_of_the_entries_does_not_matter(self, scale, dtype):
        """A product computed with rounding is symmetric; tiny entries that differ are not."""
        B = torch.from_numpy(A).to(dtype)
        gram = (B.t() @ B) * scale
        draw = torch.rand(8, 8, generator=torch.Generator().manual_seed(0), dtype=dtype)
        noise = 1 + 2 * torch.finfo(dtype).eps * draw
        assert not torch.equal(noise * gram, (noise * gram).t())
        assert Matrix(noise * gram).self_adjoint
        assert not Matrix(torch.from_numpy(A[:6, :6]).to(dtype) * scale).self_adjoint

    def test_a_linear_operator_must_be_said_to_be_symmetric(self):
        assert not Matrix(aslinearoperator(self.S)).self_adjoint
        assert Matrix(aslinearoperator(self.S), self_adjoint=True).self_adjoint

    def test_a_symmetric_matrix_can_be_asked_for_singular_values(self):
        T = Matrix(self.S, self_adjoint=False)
        assert not T.self_adjoint
        assert relative(T.adjoint.dense(), torch.from_numpy(self.S)) == 0

    @pytest.mark.parametrize(
        "wrong", [A, A[:6, :6], aslinearoperator(A)], ids=["shape", "entries", "operator"]
    )
    def test_a_claim_that_is_not_true(self, wrong, unchecked):
        with pytest.raises(ArgumentError, match=r"A: got .*differs from its transpose; expected a symmetric"):
            Matrix(wrong, self_adjoint=True)

    def test_zero_and_one_by_one(self):
        assert Matrix(torch.zeros(3, 3)).self_adjoint
        assert Matrix(scipy.sparse.csr_array((3, 3))).self_adjoint
        assert Matrix([[2.0]]).self_adjoint


def test_integers_become_floats():
    T = Matrix(torch.arange(6).reshape(2, 3))
    assert T.dtype == f64
    assert Matrix([[True, False]]).dtype == f64
    assert Matrix(scipy.sparse.csr_array(np.eye(3, dtype=int))).dense().dtype == f64


def test_entries_that_carry_a_gradient():
    B = torch.from_numpy(A).clone().requires_grad_()
    T = Matrix(B)
    T.product(torch.ones(8, 1, dtype=f64)).sum().backward()
    assert bool((B.grad == 1).all())


def test_the_caller_s_array_is_not_written_to():
    B = A.copy()
    T = Matrix(B)
    T.product(torch.ones(8, 1, dtype=f64))
    assert np.array_equal(A, B)


BAD = {
    "one axis": (A[0], r"shape \(8,\)", "A vector is a matrix of one column"),
    "three axes": (A[None], r"shape \(1, 6, 8\)", ""),
    "no axis": (3.0, r"shape \(\)", ""),
    "no columns": (A[:, :0], r"shape \(6, 0\)", ""),
    "no rows": (torch.zeros(0, 4), r"shape \(0, 4\)", ""),
    "empty sparse": (scipy.sparse.csr_array((0, 4)), r"shape \(0, 4\)", ""),
    "complex": (A * 1j, "dtype torch.complex128", r"\[\[Re A, -Im A\], \[Im A, Re A\]\]"),
    "complex sparse": (scipy.sparse.csr_array(A * 1j), "dtype complex128", "Re A"),
    "complex operator": (aslinearoperator(A * 1j), "dtype complex128", "Re A"),
    "nan": (np.where(A > 1, np.nan, A), "NaN or infinite entries", "Clean the data first"),
    "inf": (torch.from_numpy(np.where(A > 1, np.inf, A)), "NaN or infinite entries", ""),
    "nan sparse": (scipy.sparse.csr_array(np.where(A > 1, np.nan, A)), "NaN or infinite entries", ""),
    "nan operator": (aslinearoperator(np.where(A > 1, np.nan, A)), "NaN or infinite entries", ""),
    "words": ([["a", "b"]], "ndarray: ", ""),
    "ragged": ([[1.0, 2.0], [3.0]], "list: ", ""),
    "nothing": (None, "ndarray: ", ""),
    "failing operator": (
        LinearOperator((3, 3), matvec=lambda v: v[:2], dtype=np.float64),
        "a LinearOperator that fails on a vector of ones: ",
        "",
    ),
}


@pytest.mark.parametrize(("wrong", "got", "remedy"), BAD.values(), ids=BAD.keys())
def test_bad_input(wrong, got, remedy, unchecked):
    with pytest.raises(ArgumentError, match=rf"^A: got {got}.*; expected .*{remedy}"):
        Matrix(wrong)


def test_an_operator_without_a_transpose(unchecked):
    T = Matrix(LinearOperator((3, 4), matvec=lambda v: v[:3], dtype=np.float64))
    with pytest.raises(ArgumentError, match=r"A: got a LinearOperator that fails.*rmatvec for its adjoint"):
        _ = T.adjoint


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_functions_on_a_gpu():
    for make in MAKES.values():
        T = Matrix(make(A))
        f = torch.randn(8, 3, dtype=f64, device="cuda")
        x, y = (nodes.to(device="cuda") for nodes in everything(T))
        assert relative(T.transform(y.x, x, f).cpu(), torch.from_numpy(A) @ f.cpu()) <= 1e-14
