"""Bad data is refused before any work is lost; the message names argument, input, need and remedy.

A row of the table is: what is called; the argument that the error names; a part of what came, of what was
expected, and of the remedy ("" where the first two say it all). Choices are in ``test_bad_choices.py``.
"""

import numpy as np
import pytest
import scipy.sparse
import torch
from refusals import check, flat, told, untrained
from scipy.sparse.linalg import LinearOperator
from torch import nn

import nbsvd
from nbsvd import ArgumentError, Integral, Matrix, Nesting, Problem, Schrodinger, eigsh, solve, svds
from nbsvd.exact import Hydrogen2D
from nbsvd.functions import MLP
from nbsvd.measures import Counting, Empirical, Gaussian, Lebesgue, Nodes, Radial
from nbsvd.objectives import lora_evd, lora_svd, omm

pytestmark = pytest.mark.usefixtures("unchecked", "no_work")


EYE = torch.eye(4)
NAN = torch.full((3, 3), float("nan"))
COMPLEX = torch.eye(3, dtype=torch.complex64)
F = torch.ones(5, 2)
PLANE = Lebesgue(Radial(2, scale=1.0))
FAILING = LinearOperator((3, 3), matvec=lambda x: 1 / 0, dtype=np.float64)
J2 = Nesting.joint(2)
RESULT = untrained()


class Flat(nn.Module):
    def forward(self, x):
        return x[:, 0]


MATRICES = {
    "k = 0": (lambda: svds(EYE, 0), "k", "0", "an integer, at least 1"),
    "k < 0": (lambda: eigsh(EYE, -2), "k", "-2", "at least 1"),
    "k = 1.5": (lambda: svds(EYE, 1.5), "k", "1.5", "an integer"),
    "k of NumPy": (lambda: svds(EYE, np.int64(5)), "k", "5", "at most 4", "no more singular values"),
    "k = 2.0 of NumPy": (lambda: svds(EYE, np.float64(2)), "k", "2.0", "an integer", "one component or more"),
    "k = True": (lambda: svds(EYE, True), "k", "True", "an integer"),
    "k above a square": (lambda: eigsh(EYE, 5), "k", "5", "at most 4", "no more singular values"),
    "k above the short side": (lambda: svds(torch.ones(3, 7), 4), "k", "4", "at most 3, the smaller side"),
    "k above the other": (lambda: svds(torch.ones(7, 3), 4), "k", "4", "at most 3"),
    "NaN": (lambda: svds(NAN, 1), "A", "NaN", "finite numbers", "Clean the data"),
    "infinite": (lambda: eigsh(EYE / 0, 1), "A", "infinite", "finite numbers"),
    "sparse NaN": (lambda: svds(scipy.sparse.csr_array([[np.nan]]), 1), "A", "NaN", "finite"),
    "complex tensor": (lambda: svds(COMPLEX, 1), "A", "complex64", "real numbers", "Re A, -Im A"),
    "complex array": (lambda: svds(np.eye(3) * 1j, 1), "A", "complex128", "real numbers"),
    "complex sparse": (lambda: svds(scipy.sparse.eye_array(3) * 1j, 1), "A", "complex128", "real"),
    "vector": (lambda: svds(torch.ones(3), 1), "A", "shape (3,)", "(m, n)", "A[:, None]"),
    "cube": (lambda: svds(torch.ones(2, 2, 2), 1), "A", "shape (2, 2, 2)", "(m, n)"),
    "empty": (lambda: svds(torch.ones(0, 3), 1), "A", "shape (0, 3)", "m, n >= 1"),
    "words": (lambda: svds([["a", "b"]], 1), "A", "numpy.str_", "real matrix"),
    "failing operator": (lambda: svds(FAILING, 1), "A", "fails on a vector", "matvec"),
    "not symmetric": (
        lambda: Matrix(torch.ones(3, 3).triu(), self_adjoint=True),
        "A",
        "differs",
        "symmetric",
    ),
    "eigsh of one that isn't": (
        lambda: eigsh(torch.ones(3, 3).triu(), 1),
        "operator",
        "not self-adjoint",
        "self-adjoint",
        "Use svds",
    ),
    "another measure": (
        lambda: Problem(Matrix(EYE), Counting(5)),
        "measure",
        "5",
        "this operator has its own",
    ),
    "network": (lambda: svds(EYE, 1, network={"widths": (3,)}), "network", "for a matrix", "None"),
    "callbacks": (lambda: svds(EYE, 1, callbacks=[print]), "callbacks", "for a matrix", "none", "kind='iid'"),
    "omm, negative": (
        lambda: eigsh(-EYE, 1, objective="omm"),
        "objective",
        "values down to -1",
        "no negative values",
        "objective='lora'",
    ),
    "omm, one-sided": (
        lambda: svds(EYE, 1, objective="omm"),
        "objective",
        "not self-adjoint",
        "self-adjoint",
    ),
    "shift of one that isn't": (
        lambda: Matrix(torch.ones(3, 3).triu()).shift(1.0),
        "shift",
        "not self-adjoint",
        "self-adjoint",
    ),
}

POINTS = {
    "right, flat": (lambda: RESULT.right(torch.zeros(5)), "points", "shape (5,)", "(B, 1)", "x[:, None]"),
    "right, too wide": (lambda: RESULT.right(torch.zeros(5, 2)), "points", "shape (5, 2)", "(B, 1)"),
    "left, one number": (lambda: RESULT.left(torch.tensor(1.0)), "points", "shape ()", "(B, 1)"),
    "right, a list": (lambda: RESULT.right([[0.0]]), "points", "list", "a tensor of shape (B, 1)"),
    "network": (
        lambda: MLP(1, 2, generator=torch.Generator())(torch.zeros(3, 1)),
        "points",
        "(3, 1)",
        "(B, 2)",
    ),
    "nodes": (lambda: Nodes(torch.zeros(3), torch.ones(3), "iid"), "points", "shape (3,)", "(B, d)"),
    "exact": (lambda: Hydrogen2D().functions(torch.zeros(3, 3), 1), "x", "(3, 3)", "(B, 2)"),
    "data": (lambda: Empirical(torch.zeros(3)), "data", "shape (3,)", "(N, d)"),
}

WEIGHTS = {
    "nodes, negative": (
        lambda: Nodes(F, torch.tensor([1.0, 1, 1, 1, -1]), "iid"),
        "weights",
        "negative",
        "positive",
    ),
    "nodes, too few": (
        lambda: Nodes(F, torch.ones(4), "iid"),
        "weights",
        "shape (4,)",
        "one weight for each point",
    ),
    "evd, zero": (lambda: lora_evd(F, F, J2, weights=torch.zeros(5)), "weights", "from 0 to 0", "positive"),
    "evd, NaN": (
        lambda: lora_evd(F, F, J2, weights=torch.full((5,), torch.nan)),
        "weights",
        "nan",
        "positive",
    ),
    "evd, a column": (lambda: lora_evd(F, F, J2, weights=torch.ones(5, 1)), "weights", "(5, 1)", "(5,)"),
    "svd, one side": (
        lambda: lora_svd(F, F, F, J2, weights=(torch.ones(4), None)),
        "weights[0]",
        "(4,)",
        "(5,)",
    ),
    "omm, too many": (lambda: omm(F, F, J2, weights=torch.ones(6)), "weights", "(6,)", "(5,)"),
    "nesting, zero": (lambda: Nesting.joint(2, [1.0, 0.0]), "weights", "0.0", "positive"),
    "nesting, too few": (lambda: Nesting.joint(3, [1.0, 1.0]), "weights", "2 weights", "3 weights"),
}

SHAPES = {
    "evd": (lambda: lora_evd(F, F[:, :1], J2), "Tf", "(5, 1)", "(5, 2)", "nothing is broadcast"),
    "evd, points": (lambda: lora_evd(F, F[:4], J2), "Tf", "(4, 2)", "(5, 2)"),
    "svd": (lambda: lora_svd(F, F, F[:4], J2), "Tf", "(4, 2)", "that of g"),
    "omm": (lambda: omm(F, F[:, 0], J2), "Tf", "(5,)", "(B, L)"),
    "nesting": (lambda: lora_evd(F, F, Nesting.joint(3)), "nesting", "L = 3", "L = 2"),
    "potential": (
        lambda: solve(Problem(Schrodinger(lambda x: x**2), PLANE), 1),
        "potential",
        "2)",
        "for",
        ".sum(1)",
    ),
    "kernel": (
        lambda: Integral(lambda x, y: x @ y.t() @ y, Gaussian(1)),
        "kernel",
        "(16, 1)",
        "(16, 8)",
        "broadcasts",
    ),
    "own network": (
        lambda: solve("brownian", 2, network=lambda g: nn.Linear(1, 3)),
        "network",
        "(4, 3)",
        "(4, 2)",
    ),
    "own network, flat": (
        lambda: solve("brownian", 1, network=lambda g: Flat()),
        "network",
        "shape (4,)",
        "(4, 1)",
    ),
}

TABLE = flat({"matrix": MATRICES, "points": POINTS, "weights": WEIGHTS, "shapes": SHAPES})


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_refused(row):
    check(*row)


def test_a_folder_that_cannot_be_written(tmp_path):
    """We may be root, who can write everywhere, but not below a file."""
    file = tmp_path / "file"
    file.write_text("here")
    check(
        lambda: RESULT.save(file / "below" / "a.safetensors"),
        "path",
        "below",
        "can be written",
        "Choose another",
    )
    check(lambda: RESULT.save(tmp_path), "path", "the folder", "a file name")
    assert file.read_text() == "here"


def test_files_that_cannot_be_read(tmp_path):
    check(
        lambda: nbsvd.load(tmp_path / "none"), "path", "none", "a file written by Result.save", "No such file"
    )


def test_every_message_is_a_sentence_that_tells_what_to_do():
    silent = {name for name, (call, *_) in TABLE.items() if not told(call)}
    assert not silent


def test_errors_keep_their_parts():
    error = ArgumentError("k", got=0, expected="at least 1", remedy="Ask for more.")
    assert (error.argument, error.got, error.expected, error.remedy) == (
        "k",
        0,
        "at least 1",
        "Ask for more.",
    )
    assert str(ArgumentError("k", got=0, expected="at least 1")) == "k: got 0; expected at least 1."
