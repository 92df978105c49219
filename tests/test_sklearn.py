"""The scikit-learn estimator, against eigenvectors of the kernel matrix and scikit-learn's own estimators."""

import importlib
import pickle
import re
import sys
import warnings

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, make_moons
from sklearn.decomposition import PCA, KernelPCA, TruncatedSVD
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import laplacian_kernel, linear_kernel, polynomial_kernel, rbf_kernel
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import nbsvd
from nbsvd.measures import Empirical
from nbsvd.operators.feature_kernel import FeatureKernel
from nbsvd.sklearn import NeuralSVD
from nbsvd.spectrum import replicate
from nbsvd.training import varpro

# None is skipped but what scikit-learn itself skips where its array API is not switched on.
EXPECTED_TO_FAIL: dict[str, str] = {}


@parametrize_with_checks(
    [NeuralSVD(max_iter=20, random_state=0)], expected_failed_checks=lambda _: EXPECTED_TO_FAIL
)
def test_scikit_learn_checks_it(estimator, check):
    check(estimator)


def moons(n, seed=0):
    return make_moons(n, noise=0.1, random_state=seed)[0] * [3.0, 0.5] + [100.0, -7.0]


def exact(K, K_new, k, center=False):
    """Squared singular values of the features, and the scores of the rows and of new points."""
    if center:
        K_new = K_new - K_new.mean(1, keepdims=True) - K.mean(0) + K.mean()
        K = K - K.mean(0) - K.mean(1)[:, None] + K.mean()
    values, vectors = np.linalg.eigh(K)
    values, vectors = values[::-1][:k], vectors[:, ::-1][:, :k]
    return values, vectors * np.sqrt(values), K_new @ vectors / np.sqrt(values)


def apart(found, expected):
    """The largest relative distance between columns, whatever their signs."""
    signs = np.sign((found * expected).sum(0))
    return float((np.linalg.norm(found * signs - expected, axis=0) / np.linalg.norm(expected, axis=0)).max())


KERNELS = {
    "rbf": (rbf_kernel, {"gamma": 0.1}, 1e-3),
    "laplacian": (laplacian_kernel, {"gamma": 0.1}, 5e-2),  # its functions have kinks at the points
    "polynomial": (polynomial_kernel, {"gamma": 0.1, "degree": 2, "coef0": 2.0}, 1e-3),
    "linear": (linear_kernel, {}, 1e-3),
}


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
def test_values_and_functions_against_the_kernel_matrix(kernel, center):
    matrix, options, bound = KERNELS[kernel]
    X, Z = moons(150), moons(60, seed=1)
    if kernel in ("linear", "polynomial"):
        X, Z = X - [100.0, -7.0], Z - [100.0, -7.0]
    values, at_rows, at_new = exact(matrix(X, X, **options), matrix(Z, X, **options), 2, center)
    svd = NeuralSVD(2, kernel=kernel, center=center, random_state=0, **options).fit(X)
    np.testing.assert_allclose(svd.eigenvalues_, values, rtol=bound**2 + 1e-6)
    np.testing.assert_allclose(svd.singular_values_, np.sqrt(values), rtol=bound**2 + 1e-6)
    assert apart(svd.transform(X), at_rows) < bound
    assert apart(svd.transform(Z), at_new) < 10 * bound
    # U diag(s): orthogonal columns of length s
    gram = svd.transform(X).T @ svd.transform(X)
    np.testing.assert_allclose(gram, np.diag(svd.eigenvalues_), atol=1e-6 * svd.eigenvalues_[0])


def test_the_linear_kernel_is_truncated_svd():
    X = np.random.default_rng(0).normal(size=(200, 6)) * [5.0, 4.0, 3.0, 2.0, 1.0, 0.5] + 1.0
    svd, other = NeuralSVD(3, kernel="linear", random_state=0).fit(X), TruncatedSVD(3, algorithm="arpack")
    scores = other.fit_transform(X)
    np.testing.assert_allclose(svd.singular_values_, other.singular_values_, rtol=1e-4)
    np.testing.assert_allclose(svd.explained_variance_, other.explained_variance_, rtol=1e-3)
    np.testing.assert_allclose(svd.explained_variance_ratio_, other.explained_variance_ratio_, rtol=1e-3)
    assert apart(svd.transform(X), scores) < 1e-2


def test_centred_it_is_pca_and_kernel_pca():
    X, Z = moons(150), moons(50, seed=1)
    svd = NeuralSVD(2, gamma=0.1, center=True, random_state=0).fit(X)
    other = KernelPCA(2, kernel="rbf", gamma=0.1).fit(X)
    np.testing.assert_allclose(svd.eigenvalues_, other.eigenvalues_, rtol=1e-6)
    assert apart(svd.transform(Z), other.transform(Z)) < 3e-2
    np.testing.assert_allclose(svd.explained_variance_, svd.eigenvalues_ / len(X), rtol=1e-6)
    linear, pca = NeuralSVD(1, kernel="linear", center=True, random_state=0).fit(X), PCA(1).fit(X)
    np.testing.assert_allclose(linear.explained_variance_ratio_, pca.explained_variance_ratio_, rtol=1e-4)


def test_gamma_is_that_of_scikit_learn():
    X = moons(40)
    for kernel, expected in (("rbf", 1 / (2 * X.var())), ("laplacian", 1 / (2 * X.std()))):
        found = NeuralSVD(1, kernel=kernel, max_iter=1).fit(X).gamma_
        assert found == pytest.approx(expected)
    assert NeuralSVD(1, gamma=None, max_iter=1).fit(X).gamma_ == 0.5
    assert NeuralSVD(1, max_iter=1).fit(0 * X[:, :1] + 3.0).gamma_ == 1.0  # rows that are all the same


def test_a_kernel_of_ones_own():
    X, Z = moons(100), moons(40, seed=1)
    svd = NeuralSVD(2, kernel=lambda x, y: 1 / (1 + torch.cdist(x, y) ** 2), random_state=0).fit(X)
    K, K_new = (1 / (1 + ((A[:, None] - X) ** 2).sum(2)) for A in (X, Z))
    values, at_rows, at_new = exact(K, K_new, 2)
    np.testing.assert_allclose(svd.eigenvalues_, values, rtol=1e-4)
    assert apart(svd.transform(X), at_rows) < 1e-2
    assert apart(svd.transform(Z), at_new) < 5e-2


@pytest.mark.parametrize("center", [False, True])
def test_more_rows_than_are_trained_on(center):
    """The layers see some rows, the combinations all; N is small enough here for the exact answer."""
    X, Z = moons(600), moons(60, seed=1)
    values, at_rows, at_new = exact(rbf_kernel(X, X, 0.1), rbf_kernel(Z, X, 0.1), 3, center)
    svd = NeuralSVD(3, gamma=0.1, center=center, batch_size=200, max_iter=40, random_state=0).fit(X)
    np.testing.assert_allclose(svd.eigenvalues_, values, rtol=1e-4)
    assert apart(svd.transform(X), at_rows) < 2e-2
    assert apart(svd.transform(Z), at_new) < 2e-2
    assert (svd.result_.stderr == 0).all()


@pytest.mark.parametrize("center", [False, True])
def test_more_rows_than_pairs_are_looked_at(center, monkeypatch):
    monkeypatch.setattr(nbsvd.sklearn, "WHOLE", 300)
    monkeypatch.setattr(nbsvd.sklearn, "SUBSET", 200)
    monkeypatch.setattr("nbsvd.measures.empirical.MANY", 500)
    X = moons(900)
    values, at_rows, _ = exact(rbf_kernel(X, X, 0.1), np.zeros((1, 900)), 2, center)
    svd = NeuralSVD(2, gamma=0.1, center=center, max_iter=30, random_state=0).fit(X)
    assert (svd.result_.stderr > 0).all()
    np.testing.assert_allclose(svd.eigenvalues_, values, rtol=1e-2)
    assert apart(svd.transform(X), at_rows) < 5e-2


@pytest.mark.parametrize("center", [False, True])
def test_stochastic_gradients(center):
    X = moons(300)
    values, at_rows, _ = exact(rbf_kernel(X, X, 0.1), np.zeros((1, 300)), 2, center)
    svd = NeuralSVD(
        2, gamma=0.1, center=center, method="sgd", max_iter=100, batch_size=128, random_state=0
    ).fit(X)
    np.testing.assert_allclose(svd.eigenvalues_, values, rtol=5e-2)
    assert apart(svd.transform(X), at_rows) < 0.3
    assert svd.result_.info["method"] == "sgd"


def test_digits_are_told_apart_out_of_sample():
    X = load_digits().data[:900]
    svd = NeuralSVD(4, center=True, max_iter=40, random_state=0).fit(X[:600])
    _, _, at_new = exact(
        rbf_kernel(X[:600], gamma=svd.gamma_), rbf_kernel(X[600:], X[:600], svd.gamma_), 4, True
    )
    assert apart(svd.transform(X[600:]), at_new) < 0.1


# How scikit-learn uses it --------------------------------------------------------------------------------


def test_pipeline_search_and_clone():
    X, y = make_moons(120, noise=0.1, random_state=0)
    model = make_pipeline(NeuralSVD(4, gamma=2.0, max_iter=10, random_state=0), LogisticRegression(C=100.0))
    search = GridSearchCV(model, {"neuralsvd__gamma": [1e-6, 2.0]}, cv=2).fit(X, y)
    assert search.best_params_ == {"neuralsvd__gamma": 2.0}
    assert search.best_score_ > 0.8
    assert list(model[:-1].fit(X).get_feature_names_out()) == [f"neuralsvd{i}" for i in range(4)]
    copy = clone(model[0])
    assert copy.get_params() == model[0].get_params()
    with pytest.raises(NotFittedError):
        copy.transform(X)


def test_equal_seeds_give_equal_results():
    X = moons(80)

    def fitted(seed):
        return NeuralSVD(2, max_iter=10, random_state=seed).fit(X).transform(X)

    assert (fitted(3) == fitted(3)).all()
    assert (fitted(np.random.RandomState(3)) == fitted(np.random.RandomState(3))).all()
    assert (fitted(3) != fitted(4)).any()
    assert np.isfinite(fitted(None)).all()


def test_the_pickle_does_not_hold_the_data():
    sizes = []
    for n in (400, 1000):
        X = moons(n)
        svd = NeuralSVD(2, max_iter=2, random_state=0).fit(X)
        text = pickle.dumps(svd)
        sizes.append(len(text))
        copy = pickle.loads(text)
        assert (copy.transform(X) == svd.transform(X)).all()
        assert hasattr(svd, "result_")
        assert not hasattr(copy, "result_")
    assert sizes[1] < sizes[0] + 200


def test_float32_stays():
    X = moons(60).astype(np.float32)
    svd = NeuralSVD(2, max_iter=5, random_state=0).fit(X)
    assert svd.transform(X).dtype == np.float32
    assert svd.transform(X.astype(np.float64)).dtype == np.float64


def test_an_interrupted_fit_keeps_what_it_learned(monkeypatch):
    X = moons(80)
    original, calls = varpro._look, []

    def interrupting(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(varpro, "_look", interrupting)
    svd = NeuralSVD(2, random_state=0)
    with pytest.warns(ConvergenceWarning, match="Interrupted"):
        svd.fit(X)
    assert svd.result_.history.stopped == "interrupted"
    values = exact(rbf_kernel(X, X, svd.gamma_), np.zeros((1, 80)), 2)[0]
    np.testing.assert_allclose(svd.eigenvalues_, values, rtol=1e-2)
    assert svd.transform(X).shape == (80, 2)


def test_a_diverged_fit_keeps_what_was_good(monkeypatch):
    original = nbsvd.sklearn.solve

    def diverging(*arguments, **options):
        raise nbsvd.TrainingDiverged("loss: got nan.", step=3, result=original(*arguments, **options))

    monkeypatch.setattr(nbsvd.sklearn, "solve", diverging)
    with pytest.warns(ConvergenceWarning, match="loss: got nan"):
        svd = NeuralSVD(2, max_iter=3, random_state=0).fit(moons(50))
    assert svd.transform(moons(5)).shape == (5, 2)


# Data of all kinds ---------------------------------------------------------------------------------------


def test_degenerate_data():
    X = moons(40)
    for data in (
        np.c_[X, np.ones(40)],  # a constant feature
        np.c_[X, X],  # the same features twice
        np.r_[X, X],  # the same rows twice
        X[:, :1],
        X[:3],  # fewer rows than the network has functions
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            svd = NeuralSVD(2, gamma=0.1, random_state=0, max_iter=20).fit(data)
        values, at_rows, _ = exact(rbf_kernel(data, data, 0.1), np.zeros((1, len(data))), 2)
        np.testing.assert_allclose(svd.eigenvalues_, values, rtol=1e-3)
        assert apart(svd.transform(data), at_rows) < 5e-2


def test_one_row():
    svd = NeuralSVD(1, random_state=0).fit([[1.0, 2.0]])
    assert svd.singular_values_ == pytest.approx([1.0])
    assert abs(svd.transform([[1.0, 2.0]])) == pytest.approx(1.0)


def test_past_the_rank_there_is_nothing():
    X = moons(50)[:, :1]
    svd = NeuralSVD(3, kernel="linear", random_state=0).fit(X)
    assert svd.singular_values_[0] == pytest.approx(np.linalg.norm(X))
    assert (svd.singular_values_[1:] == 0).all()
    assert (svd.transform(X)[:, 1:] == 0).all()
    assert apart(svd.transform(X)[:, :1], X) < 1e-3


@pytest.mark.parametrize(
    ("options", "rows", "said"),
    [
        ({"n_components": 0}, 9, "n_components: got 0; expected 1 or more"),
        ({"n_components": 2.0}, 9, "n_components: got 2.0"),
        ({"n_components": 10}, 9, "n_samples=9, of which 9 are different; expected at most 9"),
        ({"n_components": 9, "center": True}, 9, "expected at most 8, for center=True"),
        ({"kernel": "rfb"}, 9, "Did you mean 'rbf'?"),
        ({"gamma": -1.0}, 9, "gamma: got -1.0"),
        ({"gamma": "auto"}, 9, "gamma: got 'auto'"),
        ({"degree": -1}, 9, "degree: got -1"),
        ({"coef0": "no"}, 9, "coef0: got 'no'"),
        ({"method": "adam"}, 9, "method: got 'adam'"),
        ({"center": None}, 9, "center: got None"),
        ({"max_iter": -1}, 9, "max_iter: got -1"),
        ({"batch_size": "all"}, 9, "batch_size: got 'all'"),
        ({"seconds": 0.0}, 9, "seconds: got 0.0"),
        ({"kernel": lambda x, y: x[:, :1] - 2 * y[:, :1].t()}, 9, "symmetric"),
        ({"kernel": lambda x, y: (x @ y.t()) * torch.nan}, 9, "NaN"),
        ({"kernel": lambda x, y: x}, 9, "kernel: got shape"),
        ({"network": {"width": 3}}, 9, "Did you mean 'widths'?"),
    ],
)
def test_what_cannot_be_used_is_refused(options, rows, said, unchecked):
    with pytest.raises(ValueError, match=re.escape(said)):
        NeuralSVD(**options).fit(np.random.default_rng(0).normal(size=(rows, 2)))


def test_bad_data_is_refused():
    X = moons(20)
    with pytest.raises(TypeError, match="dense"):
        NeuralSVD().fit(scipy.sparse.csr_array(X))
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            NeuralSVD().fit(np.r_[X, [[bad, 0.0]]])
    with pytest.raises(ValueError, match="0 sample"):
        NeuralSVD().fit(X[:0])


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "nbsvd.sklearn")
    with pytest.raises(ImportError, match="pip install"):
        importlib.import_module("nbsvd.sklearn")


# Many rows -----------------------------------------------------------------------------------------------


def test_blocks_meet_each_row_once():
    law = Empirical(torch.arange(103.0)[:, None])
    for seed in range(5):
        met = [*law.blocks(10, torch.Generator().manual_seed(seed))]
        for side in (0, 1):
            assert sorted(torch.cat([pair[side] for pair in met]).tolist()) == list(range(103))
        assert all(not set(rows.tolist()) & set(others.tolist()) for rows, others in met)


@pytest.mark.statistical
def test_the_form_on_many_rows_is_unbiased(monkeypatch):
    """Within four standard errors of the exact one; fails by chance in 1 of 500 runs (t, 39 degrees)."""
    monkeypatch.setattr("nbsvd.measures.empirical.MANY", 100)
    x = torch.randn(160, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kernel = FeatureKernel("rbf", 20.0, 3.0, 1.0, None, x.mean(0))  # much of its form is the diagonal
    law = Empirical(x)
    T = nbsvd.Integral(kernel, law)
    f = torch.nn.Linear(2, 2).double().requires_grad_(False)
    parts = replicate(T, f, f, law, law, generator=torch.Generator().manual_seed(1), replicates=40, n=40)
    forms = torch.stack([part.form for part in parts])
    expected = f(x).t() @ kernel(x, x) @ f(x) / 160**2
    apart = (forms.mean(0) - expected).abs() / (forms.std(0) / 40**0.5)
    assert float(apart.max()) < 4
    torch.testing.assert_close(parts[0].gram_f, f(x).t() @ f(x) / 160)


def test_no_large_piece_of_a_kernel_is_formed(monkeypatch):
    monkeypatch.setattr("nbsvd.measures.empirical.MANY", 100)
    monkeypatch.setattr("nbsvd.spectrum.moments.ENTRIES", 2**13)
    shapes = []

    def kernel(x, y):
        shapes.append(len(x) * len(y))
        return torch.exp(-(x - y.t()).abs())

    law = Empirical(torch.linspace(0, 1, 400, dtype=torch.float64)[:, None])
    T = nbsvd.Integral(kernel, law, self_adjoint=True)
    shapes.clear()
    f = torch.nn.Linear(1, 2).double()
    replicate(T, f, f, law, law, generator=torch.Generator().manual_seed(0), replicates=2)
    assert max(shapes) <= 40**2
    assert sum(shapes) <= 2 * 400 * (40 + 70)
