r"""A scikit-learn estimator: the truncated SVD of a kernel's features, learned as functions of a point.

A kernel is an inner product of features, ``k(x, x') = <Phi(x), Phi(x')>``. The features of N rows of data are
a matrix with N rows and as many columns as there are features, often infinitely many. Its singular value
decomposition ``U diag(s) V^T`` is what this module learns; see :class:`NeuralSVD`.
"""

import copy
import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nbsvd._errors import ArgumentError, TrainingDiverged, nearest, require
from nbsvd.functions.features import is_length
from nbsvd.measures import Empirical
from nbsvd.operators import Integral
from nbsvd.operators.feature_kernel import KERNELS, FeatureKernel
from nbsvd.problems import Problem
from nbsvd.solve import solve
from nbsvd.spectrum import Result
from nbsvd.training.rows import on_all_rows, width
from nbsvd.training.settings import whole_number

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        "nbsvd.sklearn needs scikit-learn, 1.6 or newer: pip install 'scikit-learn>=1.6'."
    ) from error

METHODS = ("varpro", "sgd")
ITERATIONS = {"varpro": 100, "sgd": 1000}
# Rows whose kernel matrix variable projection trains on where there are more of them than the second number,
# and rows of a step of stochastic gradients.
SUBSET, WHOLE, BATCH = 1024, 2048, 512
SOME = 4096  # rows that show enough of all of them
PIECE = 8192  # points evaluated at once


class NeuralSVD(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    r"""Truncated SVD of the features of a kernel, by networks that are functions of a point.

    With features :math:`\Phi`, :math:`k(x, x') = \langle\Phi(x), \Phi(x')\rangle`, and rows
    :math:`x_1, \dots, x_N`, the matrix with rows :math:`\Phi(x_n)` has the SVD
    :math:`\Phi(X) = U \,\mathrm{diag}(s)\, V^T`. Its left singular vectors are values of functions:

    .. math:: s_l = \sqrt{N \lambda_l}, \qquad U_{nl} = \varphi_l(x_n) / \sqrt N, \qquad
        \frac1N \sum_n k(x, x_n) \, \varphi_l(x_n) = \lambda_l \, \varphi_l(x),

    the eigenfunctions of the kernel's integral operator under the empirical law of the data. ``transform``
    returns

    .. math:: \sqrt{\lambda_l} \, \varphi_l(x) = \langle\Phi(x), V_l\rangle,

    which at the rows is :math:`U \,\mathrm{diag}(s)`: the same as scikit-learn's ``TruncatedSVD`` for
    ``kernel="linear"``, and as ``KernelPCA`` for ``center=True``, up to signs. These evaluate new points by a
    sum over all N rows, here it is one pass through a network, whose size does not depend on N. It is learned
    by :func:`nbsvd.solve`; nothing but the rows of the data is ever asked of it, so that between rows it is
    as good as a smooth function through many points can be: with few rows in many dimensions a sum over the
    rows is more accurate.

    Up to 2048 rows all are trained on at once. Of more, or of more than ``batch_size``, the network's hidden
    layers are trained on some, 1024 unless given; the combinations of them come from all rows: up to 4096
    rows from all their pairs, more rows from some thirty million pairs, in which each row is as often as any
    other.

    ``inverse_transform`` is not offered: a feature has no preimage in general.

    Arguments:
        n_components: number of components, at most the number of different rows.
        kernel: ``"rbf"``, ``exp(-gamma |x - y|^2)``; ``"laplacian"``, ``exp(-gamma |x - y|_1)``;
            ``"polynomial"``, ``(gamma <x, y> + coef0)^degree``; ``"linear"``; or a symmetric and positive
            function of two torch tensors ``(B, d)`` and ``(B', d)`` that returns ``(B, B')``. It sees the
            data as they are; the network standardises its inputs itself.
        gamma: a positive number; ``"scale"``, ``1 / (d Var X)`` as scikit-learn's SVC has it, for
            ``"laplacian"`` ``1 / (d sqrt(Var X))``; ``None``, ``1 / d``.
        degree, coef0: of the polynomial.
        center: whether the mean feature of the rows is subtracted. Not unless asked, as in every truncated
            SVD; for kernel principal components, whose variances are about the mean, say ``True``. Without
            it the first function of a positive kernel has one sign, and says little.
        method: ``"varpro"``, by far the more accurate; or ``"sgd"``, NestedLoRA by stochastic gradients.
        max_iter: iterations at most; 100, or 1000 for ``"sgd"``, unless given. If only these limit a fit,
            equal ``random_state`` give equal results on a machine.
        seconds: limit in seconds.
        batch_size: rows trained on at once, see above, at most all; of a step of ``"sgd"``, 512 unless given.
        network: arguments of :class:`~nbsvd.functions.MLP`, such as ``{"widths": (64, 64)}``.
        random_state: seed, ``RandomState`` or ``None``.
        verbose: whether a progress bar is shown.

    Attributes:
        singular_values_: s, descending, ``(n_components,)``; zero past the rank.
        eigenvalues_: their squares: eigenvalues of the (centred) kernel matrix, as in ``KernelPCA``.
        explained_variance_: variances of the columns of ``transform(X)``, X the data of the fit.
        explained_variance_ratio_: these as shares of the features' whole variance.
        gamma_: the number that gamma stands for.
        n_iter_: iterations done.
        n_features_in_, feature_names_in_: of the data of the fit.
        result_: the :class:`~nbsvd.Result`, with standard errors and history. It holds the rows, and is left
            out of a pickle.

    Raises:
        ArgumentError: a parameter that can't be used, a kernel that is not symmetric or not finite, fewer
            different rows than components (a ``ValueError``); sparse data are refused, by a ``TypeError``.

    Source: Ryu et al.; Schölkopf, Smola and Müller, "Nonlinear component analysis as a kernel eigenvalue
    problem", Neural Comput. 10 (1998) 1299.

    Example:
        >>> X = np.random.default_rng(0).normal(size=(100, 3))
        >>> svd = NeuralSVD(n_components=2, kernel="linear", max_iter=40, random_state=0)
        >>> svd.fit(X)
        NeuralSVD(kernel='linear', max_iter=40, random_state=0)
        >>> bool(np.allclose(svd.singular_values_, np.linalg.svd(X)[1][:2], rtol=1e-3))
        True
        >>> svd.transform(X[:5]).shape
        (5, 2)
    """

    def __init__(
        self,
        n_components: Any = 2,
        *,
        kernel: Any = "rbf",
        gamma: Any = "scale",
        degree: Any = 3,
        coef0: Any = 1.0,
        center: Any = False,
        method: Any = "varpro",
        max_iter: Any = None,
        seconds: Any = None,
        batch_size: Any = None,
        network: Any = None,
        random_state: Any = None,
        verbose: Any = False,
    ) -> None:
        self.n_components = n_components
        self.kernel = kernel
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0
        self.center = center
        self.method = method
        self.max_iter = max_iter
        self.seconds = seconds
        self.batch_size = batch_size
        self.network = network
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> "NeuralSVD":
        """Learn the singular functions of the data.

        Ctrl-C ends the fit in good order: what was learned is kept, with a warning.

        Arguments:
            X: the data, ``(N, d)``.
            y: not used.
        """
        X = validate_data(self, X, dtype=(np.float64, np.float32))
        k, different = self._checked(X)
        rows = torch.tensor(X, dtype=torch.float64)  # a copy: the result keeps it
        random = check_random_state(self.random_state)
        seed = int(random.randint(2**31 - 1))
        gamma = self._gamma(X)
        kernel = FeatureKernel(self.kernel, gamma, float(self.degree), float(self.coef0), None, rows.mean(0))
        rank = kernel.rank(different, center=bool(self.center))
        result = self._learned(kernel, rows, min(k, rank), seed)
        if result.history.stopped == "interrupted":
            warnings.warn(
                f"Interrupted after {result.info['steps']} iterations; what was learned is kept.",
                ConvergenceWarning,
                stacklevel=2,
            )
        values = np.zeros(k)
        values[: result.k] = result.values.clamp_min(0).numpy()
        self.gamma_, self.result_, self.n_iter_ = gamma, result, int(result.info["steps"])
        self.eigenvalues_ = len(rows) * values
        self.singular_values_ = np.sqrt(self.eigenvalues_)
        self._network = copy.deepcopy(result.right_model)
        mix = result.mix_right
        self._combinations = torch.cat([mix, mix.new_zeros(len(mix), k - result.k)], 1) * torch.from_numpy(
            np.sqrt(values)
        )
        self._n_features_out = k
        self.explained_variance_ = self._evaluate(rows).var(0)
        whole = kernel.variance(rows, rows[_some(len(rows), SOME, seed)])
        self.explained_variance_ratio_ = self.explained_variance_ / whole if whole > 0 else 0 * values
        return self

    def transform(self, X: Any) -> Any:
        """Evaluate the functions, times the roots of their eigenvalues, ``(N, n_components)``.

        Arguments:
            X: points, ``(N, d)``.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return self._evaluate(torch.tensor(X)).astype(X.dtype, copy=False)

    @torch.no_grad()
    def _evaluate(self, x: Tensor) -> Any:
        pieces = [self._network(piece.double()) @ self._combinations for piece in x.split(PIECE)]
        return torch.cat(pieces).numpy()

    def _checked(self, X: Any) -> tuple[int, Tensor]:
        """Check the parameters against the data; return the number of components, and different rows."""
        k = whole_number(self.n_components)
        require(k is not None and k >= 1, "n_components", got=repr(self.n_components), expected="1 or more")
        assert k is not None
        if not callable(self.kernel):
            nearest("kernel", self.kernel, KERNELS)
        nearest("method", self.method, METHODS)
        require(isinstance(self.center, (bool, np.bool_)), "center", got=repr(self.center), expected="a bool")
        for name, least in (("max_iter", 0), ("batch_size", 1)):
            value = getattr(self, name)
            count = whole_number(value)
            fine = value is None or (count is not None and count >= least)
            require(fine, name, got=repr(value), expected=f"an integer, at least {least}, or None")
        for name in ("degree", "coef0"):
            value = getattr(self, name)
            fine = is_length(value) or (not isinstance(value, bool) and value == 0)
            require(fine, name, got=repr(value), expected="a number, 0 or more")
        head = X[:SOME]
        for rows in (head, X):  # most data sets show enough different rows in the first few
            distinct = np.unique(rows, axis=0)
            if len(distinct) >= k + bool(self.center):
                shown = np.linspace(0, len(distinct) - 1, min(len(distinct), 4 * k + 16)).astype(int)
                return k, torch.tensor(distinct[shown], dtype=torch.float64)
        raise ArgumentError(
            "n_components",
            got=f"{k} for n_samples={len(X)}, of which {len(distinct)} are different",
            expected=f"at most {len(distinct) - bool(self.center)}"
            + (", for center=True" * bool(self.center)),
            remedy="The features of equal rows are equal. Ask for fewer components, or give more data.",
        )

    def _gamma(self, X: Any) -> float:
        """Return gamma as a number."""
        if isinstance(self.gamma, str) and self.gamma == "scale":
            variance = float(np.var(X, dtype=np.float64)) or 1.0
            size = math.sqrt(variance) if self.kernel == "laplacian" else variance
            return float(1 / (X.shape[1] * size))
        gamma = 1.0 / X.shape[1] if self.gamma is None else self.gamma
        require(is_length(gamma), "gamma", got=repr(gamma), expected="a positive number, 'scale' or None")
        return float(gamma)

    def _learned(self, kernel: FeatureKernel, rows: Tensor, k: int, seed: int) -> Result:
        """Train, and where not all rows were trained on, find the best combinations for all of them."""
        varpro = self.method == "varpro"
        used = rows
        if varpro:
            size = self.batch_size or (SUBSET if len(rows) > WHOLE else len(rows))
            if size < len(rows):
                used = rows[_some(len(rows), size, seed)]
        else:
            size = self.batch_size or min(BATCH, len(rows))
        trained = kernel
        if self.center:  # of all rows in the end, whatever rows are trained on
            trained = kernel.centred(used if varpro else rows[_some(len(rows), SUBSET, seed)])
        usual = ITERATIONS[self.method]
        options: dict[str, Any] = {} if self.network is None else {"network": self.network}
        if varpro:
            options["spectral"] = "sum"  # which values that are zero do not trouble
            if self.network is None:
                options["network"] = {"widths": (32, width(len(used), k))}
        try:
            result = solve(
                Problem(Integral(trained, Empirical(used), self_adjoint=True), name="NeuralSVD"),
                k,
                method=self.method,
                steps=usual if self.max_iter is None and self.seconds is None else self.max_iter,
                seconds=self.seconds,
                batch_size=size,
                seed=seed,
                device="cpu",
                progress=bool(self.verbose),
                **options,
            )
        except TrainingDiverged as error:
            if not isinstance(error.result, Result):
                raise
            warnings.warn(f"{error} What was good before is kept.", ConvergenceWarning, stacklevel=3)
            result = error.result
        trained.forget()
        if used is rows and varpro:
            return result
        return on_all_rows(result, kernel, rows, k, seed, center=bool(self.center))

    def __getstate__(self) -> Any:
        """Leave the result out, which holds the data."""
        state = dict(super().__getstate__())
        state.pop("result_", None)
        return state

    def __sklearn_tags__(self) -> Any:
        """Say that float32 data give float32 components."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _some(N: int, count: int, seed: int) -> Tensor:
    """Return the indices of so many of N rows, in their order."""
    return torch.randperm(N, generator=torch.Generator().manual_seed(seed))[:count].sort().values
