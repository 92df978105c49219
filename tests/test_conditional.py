"""Conditional expectations from pairs: the loss by enumeration of all batches, and its minimiser."""

from itertools import product

import numpy as np
import pytest
import torch
from few_pairs import normal, seeded
from refusals import check
from torch import nn

from nbsvd import Conditional, Nesting
from nbsvd.functions import MLP, ConstantFirst, from_config
from nbsvd.measures import Empirical, GaussianPair, Nodes, Pairs
from nbsvd.spectrum.moments import paired_moments
from nbsvd.training.choices import Choices
from nbsvd.training.losses import of_pairs
from nbsvd.training.models import Pair

f64 = torch.float64
WEIGHTS = {
    "joint": Nesting.joint(3, [0.5, 0.3, 0.2]),
    "sequential": Nesting.sequential(3),
    "none": Nesting.none(3),
}


def estimate_of(nesting, moment="u", shift=0.0):
    choices = Choices("sgd", "lora", nesting, None, None, 0, torch.device("cpu"), f64, {})
    return of_pairs(choices, moment, shift)


def linear(states, L, seed):
    """Functions on one-hot points, the first of them the constant."""
    net = nn.Linear(states, L, bias=False).double()
    net.weight.data = normal(L, states, seed=seed)
    return ConstantFirst(net, L)


def random_table(rows, columns, seed):
    table = np.random.default_rng(seed).random((rows, columns)) ** 2
    table[0, 0] = 0  # a pair that does not occur
    return table / table.sum()


def normalised(table):
    """D_y^(-1/2) P D_x^(-1/2) by NumPy."""
    return table / np.sqrt(np.outer(table.sum(1), table.sum(0)))


def functions_on(model, states):
    return model(torch.eye(states, dtype=f64))


# The estimator ---------------------------------------------------------------------------------------------


def nested_loss(A, f, g, nesting, kind):
    """By the definition: squared Frobenius distances of the matrix A to the first 1, 2, ... components."""

    def low_rank(parts_f, parts_g):
        return ((A - parts_g @ parts_f.T) ** 2).sum() - (A**2).sum()

    if kind != "joint":
        return low_rank(f, g)
    w = nesting.vector - torch.cat([nesting.vector[1:], torch.zeros(1)])
    return sum(w[i] * low_rank(f[:, : i + 1], g[:, : i + 1]) for i in range(nesting.L))


def sequential_field(A, f, g):
    """Component l moves on the distance of the first l, with those below it fixed."""
    total = 0.0
    for i in range(f.shape[1]):
        F = torch.cat([f[:, :i].detach(), f[:, i : i + 1]], 1)
        G = torch.cat([g[:, :i].detach(), g[:, i : i + 1]], 1)
        total = total + ((A - G @ F.T) ** 2).sum()
    return total


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("reversible", [False, True])
def test_the_mean_over_all_batches_is_the_loss_of_the_law(kind, reversible):
    """Every batch of three pairs, with its probability: no tolerance beyond rounding."""
    nesting, shift = WEIGHTS[kind], 0.7 if reversible else 0.0
    table = random_table(3, 3, 1)
    table[0, 1] = table[2, 1] = table[1, 0] = 0
    table = table + table.T if reversible else table
    pairs = Pairs.from_table(table)
    T = Conditional(pairs, reversible=reversible)
    right = linear(3, 3, 2)
    pair = Pair(right, right if reversible else linear(3, 3, 3))
    pairs, p = T.pairs, T.pairs.weights / T.pairs.weights.sum()
    estimate = estimate_of(nesting, shift=shift)
    value = 0.0
    for rows in product(range(len(pairs)), repeat=3):
        index, ones = torch.tensor(rows), torch.ones(3, dtype=f64)
        nodes = Nodes(pairs.x[index], ones, "iid"), Nodes(pairs.y[index], ones, "iid")
        value = value + p[index].prod() * estimate(pair, *nodes)
    gradient = torch.autograd.grad(value, list(pair.parameters()))

    table = torch.from_numpy(table / table.sum())
    p_x, p_y = table.sum(0), table.sum(1)
    A = table / p_y.sqrt()[:, None] / p_x.sqrt() + shift * torch.eye(3, dtype=f64)
    f, g = functions_on(pair.right, 3), functions_on(pair.left, 3)
    size = torch.tensor([(1 + shift) ** 0.5, 1.0, 1.0], dtype=f64)
    f, g = p_x.sqrt()[:, None] * f * size, p_y.sqrt()[:, None] * g * size
    expected = nested_loss(A, f, g, nesting, kind)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    field = sequential_field(A, f, g) if kind == "sequential" else expected
    for found, exact in zip(gradient, torch.autograd.grad(field, list(pair.parameters())), strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-11, atol=1e-12)


def minimised(pair, estimate, nodes, steps=400):
    optimizer = torch.optim.LBFGS(
        pair.parameters(),
        max_iter=steps,
        tolerance_grad=1e-12,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        loss = estimate(pair, *nodes)
        loss.backward()
        return loss

    optimizer.step(closure)
    return estimate(pair, *nodes).item()


@pytest.mark.parametrize("seed", [0, 1])
def test_minimiser_over_tables_is_the_exact_decomposition(seed):
    table = random_table(5, 4, seed)
    pairs, nesting = Pairs.from_table(table), WEIGHTS["joint"]
    pair = Pair(linear(4, 3, 10 + seed), linear(5, 3, 20 + seed))
    least = minimised(pair, estimate_of(nesting, "plain"), pairs.nodes(1, kind="quadrature"))
    U, s, Vt = np.linalg.svd(normalised(table))
    assert s[0] == pytest.approx(1)
    assert least == pytest.approx(-float((nesting.vector.numpy() * s[:3] ** 2).sum()), abs=1e-9)
    f, g = (functions_on(m, n).detach().numpy() for m, n in ((pair.right, 4), (pair.left, 5)))
    for i in range(3):
        found = np.outer(np.sqrt(table.sum(1)) * g[:, i], np.sqrt(table.sum(0)) * f[:, i])
        np.testing.assert_allclose(found, s[i] * np.outer(U[:, i], Vt[i]), atol=2e-5)


def test_minimiser_of_a_shifted_reversible_law_has_the_negative_values_in_their_place():
    """Eigenvalues 1, 0.36, ..., and wanted negative ones: none of it may go into the constant."""
    table = random_table(4, 4, 3) + 2 * np.eye(4)[::-1]
    table += table.T
    values, vectors = np.linalg.eigh(normalised(table))
    values, vectors = values[::-1], vectors[:, ::-1]
    assert values[2] < -0.2
    shift, nesting = 1.1, Nesting.joint(4)
    right = linear(4, 4, 5)
    pair, T = Pair(right, right), Conditional(Pairs.from_table(table), reversible=True)
    nodes = T.pairs.nodes(1, kind="quadrature")
    least = minimised(pair, estimate_of(nesting, "plain", shift), nodes)
    expected = nesting.vector.numpy() * (values + shift) ** 2
    assert least == pytest.approx(-float(expected.sum()), abs=1e-8)
    root = np.sqrt(table.sum(0) / table.sum())
    f = root[:, None] * functions_on(right, 4).detach().numpy()
    for i in range(1, 4):
        exact = (values[i] + shift) * np.outer(vectors[:, i], vectors[:, i])
        np.testing.assert_allclose(np.outer(f[:, i], f[:, i]), exact, atol=2e-5)


# The operator ----------------------------------------------------------------------------------------------


def test_the_form_is_a_mean_over_pairs():
    """Gauss and Hermite: E[He_i(X) He_j(Y)] is rho^i i! where i = j, else zero."""
    T = Conditional(GaussianPair(-0.6, s=2.0))
    x, y = T.pairs.nodes(900, kind="quadrature")

    def hermite(z):
        z = z / 2.0
        return torch.cat([torch.ones_like(z), z, z**2 - 1, z**3 - 3 * z], 1)

    form = (y.weights[:, None] * hermite(y.x)).t() @ T.transform(y.x, x, hermite(x.x)) / len(y)
    exact = torch.diag(torch.tensor([1.0, -0.6, 2 * 0.36, -6 * 0.216], dtype=f64))
    torch.testing.assert_close(form, exact, rtol=0, atol=1e-10)
    moments = paired_moments(hermite, hermite, x, y)
    torch.testing.assert_close(
        moments.gram_f, torch.diag(torch.tensor([1.0, 1, 2, 6], dtype=f64)), atol=1e-9, rtol=0
    )


def test_sides_and_adjoint():
    pairs = Pairs(normal(30, 2), normal(30, 1, seed=1))
    T = Conditional(pairs)
    assert not T.self_adjoint
    assert (T.measure_x.dim, T.measure_y.dim) == (2, 1)
    assert torch.equal(T.adjoint.pairs.x, pairs.y)
    assert torch.equal(T.adjoint.pairs.y, pairs.x)
    assert T.bounded
    R = Conditional(Pairs(normal(30, 2), normal(30, 2, seed=1)), reversible=True)
    assert R.self_adjoint
    assert R.adjoint is R
    assert len(R.pairs) == 60
    assert R.measure_x is R.measure_y


def test_a_conditional_expectation_is_not_applied_at_other_points():
    T = Conditional(GaussianPair(0.5))
    x, y = T.pairs.nodes(8, generator=seeded())
    assert T.transform(y.x, x, x.x) is x.x
    for foreign in (y.x + 1, y.x.clone()):
        check(
            lambda foreign=foreign: T.transform(foreign, x, x.x), "y", "not the partners", remedy="solve it"
        )
    plain = Nodes(x.x, x.weights, "iid")
    check(lambda: T.transform(y.x, plain, x.x), "y", "not the partners")


def test_what_conditional_refuses(unchecked):
    check(lambda: Conditional(torch.zeros(4, 2)), "pairs", "Tensor", remedy="Pairs(x, y)")
    check(lambda: Conditional(Empirical(torch.zeros(4, 2))), "pairs", "Empirical")
    uneven = Pairs(normal(30, 2), normal(30, 1))
    check(lambda: Conditional(uneven, reversible=True), "reversible", "x in 2 and y in 1")


# The constant ----------------------------------------------------------------------------------------------


def test_the_constant_comes_first_and_the_rest_is_the_network():
    net = MLP(3, 2, generator=seeded()).double()
    model, x = ConstantFirst(net, 3), normal(7, 2)
    assert torch.equal(model(x)[:, 0], torch.ones(7, dtype=f64))
    assert torch.equal(model(x)[:, 1:], net(x)[:, 1:])
    means = model(x).mean(0)[1:]
    model.centre(means.detach() / 2)
    model.centre(means.detach() / 2)
    assert model(x)[:, 1:].mean(0).abs().max() < 1e-15
    again = from_config(model.config()).double()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x), model(x))
    assert model.dim == 2
    assert [n for n, _ in model.named_parameters()] == [f"network.{n}" for n, _ in net.named_parameters()]


def test_heads_start_from_combinations_with_the_constant():
    model, x = ConstantFirst(MLP(3, 2, generator=seeded()), 3).double(), normal(9, 2)
    basis = model.first_basis(x)
    assert torch.equal(basis[:, 0], torch.ones(9, dtype=f64))
    C = normal(basis.shape[1], 3, seed=4)
    C[:, 0] = 0
    C[0, 0] = 1
    model.start_from(C)
    torch.testing.assert_close(model(x), basis @ C)
