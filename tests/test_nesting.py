"""Masks of the three nestings, and what may not be a nesting."""

import copy
import pickle

import pytest
import torch

from nbsvd._errors import ArgumentError
from nbsvd.objectives import Nesting
from nbsvd.objectives.nesting import check_nesting, with_gradient


def test_joint_masks_are_the_sums_of_the_definition():
    w = (0.5, 1.5, 0.25, 2.0)
    nesting = Nesting.joint(4, weights=w)
    # Sum over levels i of w_i times the indicator that a component (a pair) belongs to the first i.
    level = torch.ones(4, 4, dtype=torch.float64).tril()
    vector = sum(w[i] * level[i] for i in range(4))
    matrix = sum(w[i] * torch.outer(level[i], level[i]) for i in range(4))
    torch.testing.assert_close(nesting.vector, vector, rtol=1e-15, atol=0)
    torch.testing.assert_close(nesting.matrix, matrix, rtol=1e-15, atol=0)


def test_joint_is_uniform_by_default():
    expected = torch.tensor([1.0, 0.75, 0.5, 0.25], dtype=torch.float64)
    torch.testing.assert_close(Nesting.joint(4).vector, expected)
    assert Nesting.joint(4) == Nesting.joint(4, [0.25] * 4) == Nesting("joint", 4)
    assert hash(Nesting.joint(4)) == hash(Nesting("joint", 4))


def test_none_and_sequential_masks():
    assert torch.equal(Nesting.none(3).vector, torch.ones(3, dtype=torch.float64))
    assert torch.equal(Nesting.none(3).matrix, torch.ones(3, 3, dtype=torch.float64))
    sequential = Nesting.sequential(3)
    assert torch.equal(sequential.vector, torch.ones(3, dtype=torch.float64))
    assert torch.equal(sequential.matrix, torch.ones(3, 3, dtype=torch.float64).triu())
    assert torch.equal(sequential.masks(torch.zeros(1)).loss, torch.ones(3, 3))


@pytest.mark.parametrize("kind", ["joint", "sequential", "none"])
def test_one_component_needs_no_nesting(kind):
    nesting = Nesting(kind, 1)
    assert nesting.vector.tolist() == [1.0]
    assert nesting.matrix.tolist() == [[1.0]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_masks_follow_the_dtype_and_are_kept(dtype):
    nesting = Nesting.joint(3)
    masks = nesting.masks(torch.zeros(2, 3, dtype=dtype))
    assert {mask.dtype for mask in masks} == {dtype}
    assert nesting.masks(torch.ones(5, dtype=dtype)) is masks
    assert nesting == Nesting.joint(3)  # what is kept is no part of what it is


def test_masks_first_made_in_inference_mode_still_serve_in_training():
    nesting = Nesting.joint(2)
    with torch.inference_mode():
        nesting.masks(torch.zeros(1))
    x = torch.ones(2, requires_grad=True)
    (x * nesting.masks(x).vector).sum().backward()
    assert x.grad is not None


def test_a_nesting_can_be_copied_and_pickled():
    nesting = Nesting.joint(2, [1.0, 3.0])
    nesting.masks(torch.zeros(1))
    assert copy.deepcopy(nesting) == nesting
    assert pickle.loads(pickle.dumps(nesting)) == nesting


def test_a_nesting_can_not_be_changed():
    with pytest.raises(AttributeError):
        Nesting.joint(2).L = 3


@pytest.mark.parametrize(
    ("make", "argument", "message"),
    [
        (lambda: Nesting.joint(0), "L", "at least 1"),
        (lambda: Nesting.none(-1), "L", "at least 1"),
        (lambda: Nesting.joint(2, [1.0]), "weights", "1 weights; expected 2"),
        (lambda: Nesting.joint(2, [1.0, 0.0]), "weights", "positive finite"),
        (lambda: Nesting.joint(2, [1.0, -1.0]), "weights", "positive finite"),
        (lambda: Nesting.joint(2, [1.0, float("nan")]), "weights", "positive finite"),
        (lambda: Nesting.joint(2, [1.0, float("inf")]), "weights", "positive finite"),
        (lambda: Nesting("sequential", 2, (1.0, 1.0)), "weights", "Only joint"),
        (lambda: Nesting.joint(2.5), "L", "an integer"),
        (lambda: Nesting.joint(True), "L", "an integer"),
        (lambda: Nesting.joint(2, ["a", "b"]), "weights", "a sequence of L"),
        (lambda: Nesting("jiont", 2), "nesting", "Did you mean 'joint'"),
        (lambda: check_nesting(Nesting.joint(2), torch.zeros(5, 3)), "nesting", r"Nesting\('joint', 3\)"),
    ],
)
def test_bad_input_is_refused_with_its_remedy(make, argument, message, unchecked):
    with pytest.raises(ArgumentError, match=message) as caught:
        make()
    assert caught.value.argument == argument


def test_with_gradient_can_be_scaled():
    x = torch.tensor(3.0, requires_grad=True)
    y = 5 * with_gradient(x, x**2)
    y.backward()
    assert (y.item(), x.grad.item()) == (15.0, 30.0)
