"""Laws of pairs: trajectories, tables, graphs, how data sets are divided, and what they refuse."""

import math

import numpy as np
import pytest
import scipy.sparse
import torch
from few_pairs import seeded
from refusals import check

from nbsvd.measures import Empirical, Gaussian, GaussianPair, Pairs
from nbsvd.problems import gaussian_pair

f64 = torch.float64


def numbered(n, d=1):
    """Rows that say which they are: x_b = b, y_b = b + 1000."""
    x = torch.arange(float(n), dtype=f64)[:, None].expand(n, d)
    return x, x + 1000


def of(part):
    return part.x[:, 0].long().tolist()


# Trajectories ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lag", [1, 2, 7])
def test_pairs_of_a_trajectory_are_future_and_present(lag):
    s = torch.randn(20, 2, generator=seeded(), dtype=f64)
    pairs = Pairs.from_trajectory(s, lag)
    assert (len(pairs), pairs.ordered, pairs.gap) == (20 - lag, True, lag)
    for b in range(len(pairs)):
        assert torch.equal(pairs.y[b], s[b])
        assert torch.equal(pairs.x[b], s[b + lag])


@pytest.mark.parametrize("container", [list, tuple])
def test_no_pair_goes_across_two_trajectories(container):
    several = container(
        [np.arange(5.0)[:, None], 100 + np.arange(4.0)[:, None], torch.arange(200.0, 206)[:, None]]
    )
    pairs = Pairs.from_trajectory(several, lag=2)
    assert len(pairs) == 3 + 2 + 4
    assert (pairs.x - pairs.y == 2).all()
    assert pairs.y[:, 0].tolist() == [0, 1, 2, 100, 101, 200, 201, 202, 203]
    known = Pairs.from_trajectory(several, lag=2, law_x=Gaussian(1))
    assert isinstance(known.first, Gaussian)
    assert isinstance(known.second, Empirical)


def test_a_trajectory_of_plain_lists():
    assert Pairs.from_trajectory([[0.0], [1.0], [2.0]]).x.tolist() == [[1.0], [2.0]]


# Tables and graphs -----------------------------------------------------------------------------------------


def test_a_table_is_its_law():
    table = np.random.default_rng(0).random((4, 3))
    table[1, 2] = 0
    pairs = Pairs.from_table(table)
    assert (len(pairs), pairs.complete) == (11, True)
    x, y = pairs.nodes(1, kind="quadrature")
    P = (y.weights[:, None] * y.x).t() @ x.x / len(y)
    np.testing.assert_allclose(P, table / table.sum(), atol=1e-15)
    x, y = pairs.nodes(200_000, kind="iid", generator=seeded())
    drawn = y.x.double().t() @ x.x.double() / len(y)
    np.testing.assert_allclose(drawn, table / table.sum(), atol=5e-3)
    assert pairs.parts().test is pairs
    assert pairs.blocks(8) == [pairs]


@pytest.mark.parametrize("kind", ["dense", "sparse", "lists"])
def test_a_graph_is_its_edges_in_both_directions(kind):
    A = np.array([[0, 2, 0], [2, 1, 3], [0, 3, 0.0]])
    adjacency = {"dense": A, "sparse": scipy.sparse.csr_array(A), "lists": A.tolist()}[kind]
    pairs = Pairs.from_graph(adjacency, [[0.0], [1.0], [2.0]])
    i, j = pairs.y[:, 0].long(), pairs.x[:, 0].long()
    found = np.zeros((3, 3))
    found[i, j] = pairs.weights
    np.testing.assert_array_equal(found, A)
    assert len(pairs) == 5
    assert pairs.complete


def test_explicit_zeros_are_no_edges():
    A = scipy.sparse.csr_array(([1.0, 1.0, 0.0, 0.0], ([0, 1, 0, 2], [1, 0, 2, 0])), shape=(3, 3))
    check(lambda: Pairs.from_graph(A, torch.eye(3)), "adjacency", "1 nodes without an edge, such as node 2")


# The law itself --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sobol", "iid", "quadrature"])
@pytest.mark.parametrize("rho", [-0.9, 0.0, 0.5])
def test_gaussian_pair_has_its_moments(rho, kind):
    law = GaussianPair(rho, s=2.0)
    x, y = law.nodes(2**14, kind=kind, generator=seeded())
    assert x.partner is y.x
    assert y.partner is x.x
    assert x.kind == y.kind == kind
    room = {"sobol": 5e-3, "iid": 0.03, "quadrature": 1e-9}[kind]  # of the unit 2^2, or 2^4: 5 deviations
    for h, exact in (
        (x.x * y.x, 4 * rho),
        (x.x**2, 4),
        (y.x**2, 4),
        (x.x, 0),
        (y.x, 0),
        (x.x**2 * y.x**2, 16 * (1 + 2 * rho**2)),
    ):
        assert x.integrate(h).item() == pytest.approx(exact, abs=room * 4 * (8 if exact > 4 else 1))
    assert law.swapped() is law
    assert law.symmetrised() is law
    parts = law.parts()
    assert parts.train is parts.check is parts.test is law
    assert law.blocks(8) is None


def test_problems_hold_a_law_or_a_data_set():
    assert isinstance(gaussian_pair(0.5).operator.pairs, GaussianPair)
    problem = gaussian_pair(-0.5, samples=50, seed=3)
    pairs = problem.operator.pairs
    assert len(pairs) == 50
    assert isinstance(problem.measure, Gaussian)
    torch.testing.assert_close(pairs.x, gaussian_pair(-0.5, samples=50, seed=3).operator.pairs.x)
    assert not torch.equal(pairs.x, gaussian_pair(-0.5, samples=50, seed=4).operator.pairs.x)
    torch.testing.assert_close(problem.exact.values(3), torch.tensor([1, 0.5, 0.25], dtype=f64))


# Parts and blocks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [20, 21, 99, 1000])
@pytest.mark.parametrize("ordered", [False, True])
def test_parts_are_disjoint_and_everything(n, ordered):
    pairs = Pairs(*numbered(n), ordered=ordered)
    parts = pairs.parts()
    train, look, test = map(of, (parts.train, parts.check, parts.test))
    assert sorted(train + look + test) == list(range(n))
    assert [len(train), len(look)] == pytest.approx([0.7 * n, 0.1 * n], abs=1)
    for part in (parts.train, parts.check, parts.test):
        assert torch.equal(part.y, part.x + 1000)
    assert (sorted(train) == train) == ordered
    again = Pairs(*numbered(n), ordered=ordered).parts()
    assert of(again.test) == test


def test_parts_of_a_random_order_are_scattered():
    test = of(Pairs(*numbered(1000)).parts().test)
    assert min(test) < 50
    assert max(test) > 950


@pytest.mark.parametrize("lag", [1, 3, 10])
def test_no_state_of_a_trajectory_is_in_two_parts(lag):
    pairs = Pairs.from_trajectory(torch.arange(500.0, dtype=f64)[:, None], lag)
    parts = pairs.parts()
    states = [set(of(p)) | set(p.y[:, 0].long().tolist()) for p in (parts.train, parts.check, parts.test)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not states[a] & states[b]
    for part in (parts.train, parts.check, parts.test):
        assert of(part) == list(range(of(part)[0], of(part)[0] + len(part)))
    assert max(states[0]) < min(states[1])
    assert max(states[1]) < min(states[2])


def test_a_gap_too_long_for_the_data_is_shortened():
    parts = Pairs.from_trajectory(torch.arange(60.0)[:, None], 20).parts()
    assert [len(parts.train), len(parts.check), len(parts.test)] == [26, 2, 8]


@pytest.mark.parametrize("n", [80, 83])
def test_blocks_are_stretches_of_equal_length(n):
    blocks = Pairs(*numbered(n)).blocks(8)
    assert [b for block in blocks for b in of(block)] == list(range(n))
    assert {len(block) for block in blocks} <= {n // 8, n // 8 + 1}
    assert len(Pairs(*numbered(5)).blocks(8)) == 2


def test_swapped_symmetrised_rows_joined():
    x, y = numbered(30)
    pairs = Pairs(x, y, weights=torch.arange(1.0, 31), law_x=Gaussian(1), ordered=True, gap=3)
    back = pairs.swapped()
    assert torch.equal(back.x, y)
    assert torch.equal(back.y, x)
    assert torch.equal(back.weights, pairs.weights)
    assert isinstance(back.second, Gaussian)
    assert isinstance(back.first, Empirical)
    assert (back.ordered, back.gap) == (True, 3)
    both = pairs.symmetrised()
    assert both.x[:4, 0].tolist() == [0, 1000, 1, 1001]
    assert both.y[:4, 0].tolist() == [1000, 0, 1001, 1]
    assert both.weights[:4].tolist() == [1, 1, 2, 2]
    some = pairs.rows(torch.tensor([3, 1]))
    assert some.x[:, 0].tolist() == [3, 1]
    assert some.weights.tolist() == [4, 2]
    joined = some.joined(pairs.rows(slice(0, 1)))
    assert joined.y[:, 0].tolist() == [1003, 1001, 1000]
    assert joined.weights.tolist() == [4, 2, 1]
    assert Pairs(x, y).joined(Pairs(x, y)).weights is None


@pytest.mark.parametrize("ordered", [False, True])
def test_both_orders_of_a_pair_are_in_one_part_and_one_block(ordered):
    """Else the test would be on pairs that were trained on, and its blocks would depend on each other."""
    both = Pairs(*numbered(101), ordered=ordered, gap=2).symmetrised()
    parts = both.parts()
    members = [{min(b, b + 0) % 1000 for b in of(part)} for part in (parts.train, parts.check, parts.test)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not members[a] & members[b]
    blocks = parts.test.blocks(8)
    assert len(blocks) == 8
    for block in blocks:
        rows = of(block)
        assert [b % 1000 for b in rows[::2]] == [b % 1000 for b in rows[1::2]]
    check(lambda: Pairs(*numbered(15)).symmetrised().parts(), "pairs", "15 pairs")


def test_weights_draw_rows_in_proportion():
    w = torch.tensor([1.0, 3.0, 6.0])
    pairs = Pairs(*numbered(3), weights=w)
    x, y = pairs.nodes(100_000, kind="iid", generator=seeded())
    share = torch.bincount(x.x[:, 0].long(), minlength=3) / 100_000
    torch.testing.assert_close(share, w / 10, atol=8e-3, rtol=0)  # 5 deviations
    assert (x.weights == 1).all()
    assert torch.equal(y.x, x.x + 1000)
    x, _ = pairs.nodes(1, kind="quadrature")
    torch.testing.assert_close(x.weights, (0.3 * w).double())


def test_marginals_have_the_weights():
    pairs = Pairs(*numbered(3), weights=[1, 3, 6])
    for law, mean in ((pairs.first, 1.5), (pairs.second, 1001.5)):
        rule = law.nodes(1, kind="quadrature")
        assert rule.integrate(rule.x).item() == pytest.approx(mean)
        drawn = law.nodes(100_000, kind="iid", generator=seeded())
        assert drawn.integrate(drawn.x).item() == pytest.approx(mean, abs=0.011)
    same = Pairs(*numbered(3), weights=[1, 3, 6]).first
    assert pairs.first.same_as(same)
    for other in (Pairs(*numbered(3)).first, Pairs(*numbered(3), weights=[1, 3, 5]).first):
        assert not pairs.first.same_as(other)
        assert not other.same_as(pairs.first)


def test_float32_stays_and_integers_become_numbers():
    assert Pairs(torch.zeros(3, 1), np.zeros((3, 2), dtype=np.float32)).y.dtype == torch.float32
    assert Pairs([[1], [2]], [[0], [1]]).x.dtype == f64
    x = torch.zeros(3, 1, requires_grad=True)
    assert not Pairs(x, x).x.requires_grad


# Refusals --------------------------------------------------------------------------------------------------

N, NAN, INF = np.zeros((30, 2)), math.nan, math.inf
SPOILT = np.zeros((30, 2))
SPOILT[[7, 9], 1] = NAN, INF

BAD = {
    "unequal": (lambda: Pairs(N, N[:29]), "x, y", "30 points x and 29 points y", "partner"),
    "one axis": (lambda: Pairs(N[:, 0], N), "x", "shape (30,)", "x[:, None]"),
    "one axis y": (lambda: Pairs(N, torch.zeros(30)), "y", "shape (30,)", "x[:, None]"),
    "three axes": (lambda: Pairs(N[None], N), "x", "shape (1, 30, 2)", ""),
    "no rows": (lambda: Pairs(N[:0], N[:0]), "x", "shape (0, 2)", ""),
    "no columns": (lambda: Pairs(N[:, :0], N), "x", "shape (30, 0)", ""),
    "nothing": (lambda: Pairs([], []), "x", "shape (0,)", ""),
    "None": (lambda: Pairs(None, N), "x", "", ""),
    "NaN": (lambda: Pairs(SPOILT, N), "x", "2 rows, the first of them row 7", "on both sides"),
    "NaN in y": (lambda: Pairs(N, torch.from_numpy(SPOILT)), "y", "the first of them row 7", ""),
    "complex": (lambda: Pairs(N * 1j, N), "x", "complex128", ""),
    "strings": (lambda: Pairs([["a"], ["b"]], N[:2]), "x", "list", ""),
    "ragged": (lambda: Pairs([[1.0], [1.0, 2.0]], N[:2]), "x", "list", ""),
    "few weights": (lambda: Pairs(N, N, weights=np.ones(29)), "weights", "shape (29,)", ""),
    "zero weight": (lambda: Pairs(N, N, weights=np.arange(30.0)), "weights", "not positive", "Leave out"),
    "negative weight": (lambda: Pairs(N, N, weights=-np.ones(30)), "weights", "not positive", ""),
    "NaN weight": (lambda: Pairs(N, N, weights=np.full(30, NAN)), "weights", "not positive", ""),
    "infinite weight": (lambda: Pairs(N, N, weights=np.full(30, INF)), "weights", "not positive", ""),
    "law of another dimension": (lambda: Pairs(N, N, law_x=Gaussian(1)), "law_x", "1 dimensions", ""),
    "law that is none": (lambda: Pairs(N, N, law_y="normal"), "law_y", "str", ""),
    "lag 0": (lambda: Pairs.from_trajectory(N, 0), "lag", "0", "present and future"),
    "lag negative": (lambda: Pairs.from_trajectory(N, -1), "lag", "-1", ""),
    "lag True": (lambda: Pairs.from_trajectory(N, True), "lag", "True", ""),
    "lag 1.0": (lambda: Pairs.from_trajectory(N, 1.0), "lag", "1.0", ""),
    "lag too long": (
        lambda: Pairs.from_trajectory(N, 30),
        "lag",
        "30 with a trajectory of 30",
        "shorter lag",
    ),
    "one too short": (lambda: Pairs.from_trajectory([N, N[:2]], 2), "lag", "2 with a trajectory of 2", ""),
    "other coordinates": (lambda: Pairs.from_trajectory([N, N[:, :1]]), "states", "[1, 2]", ""),
    "no trajectory": (lambda: Pairs.from_trajectory([]), "states", "shape (0,)", ""),
    "flat trajectory": (lambda: Pairs.from_trajectory(N[:, 0]), "states", "shape (30,)", "x[:, None]"),
    "NaN state": (lambda: Pairs.from_trajectory([N, SPOILT]), "states", "row 7", ""),
    "negative table": (lambda: Pairs.from_table([[1.0, -1.0], [1.0, 1.0]]), "table", "negative", ""),
    "zero row": (lambda: Pairs.from_table([[0.0, 0.0], [1.0, 1.0]]), "table", "row or column", "never occur"),
    "zero column": (lambda: Pairs.from_table([[0.0, 1.0], [0.0, 1.0]]), "table", "row or column", ""),
    "NaN table": (lambda: Pairs.from_table([[NAN, 1.0], [1.0, 1.0]]), "table", "row 0", ""),
    "flat table": (lambda: Pairs.from_table([1.0, 1.0]), "table", "shape (2,)", ""),
    "oblong": (lambda: Pairs.from_graph(np.ones((2, 3)), N[:2]), "adjacency", "shape (2, 3)", ""),
    "asymmetric": (lambda: Pairs.from_graph([[0, 1], [2, 0]], N[:2]), "adjacency", "transpose", "A + A.T"),
    "negative edge": (lambda: Pairs.from_graph([[0, -1], [-1, 0]], N[:2]), "adjacency", "negative", ""),
    "NaN edge": (lambda: Pairs.from_graph([[0, NAN], [NAN, 0]], N[:2]), "adjacency", "NaN", ""),
    "sparse NaN": (
        lambda: Pairs.from_graph(scipy.sparse.coo_array([[0, NAN], [NAN, 0]]), N[:2]),
        "adjacency",
        "NaN",
        "",
    ),
    "lonely node": (
        lambda: Pairs.from_graph([[0, 1, 0], [1, 0, 0], [0, 0, 0]], N[:3]),
        "adjacency",
        "1 nodes without an edge, such as node 2",
        "Leave these nodes out",
    ),
    "other features": (lambda: Pairs.from_graph(np.ones((2, 2)), N[:3]), "adjacency", "features of 3", ""),
    "graph without edges": (lambda: Pairs.from_graph(np.zeros((2, 2)), N[:2]), "adjacency", "2 nodes", ""),
    "too few": (lambda: Pairs(N[:19], N[:19]).parts(), "pairs", "19 pairs", "from_table"),
    "rho 1": (lambda: GaussianPair(1.0), "rho", "1.0", ""),
    "rho -1.5": (lambda: GaussianPair(-1.5), "rho", "-1.5", ""),
    "rho NaN": (lambda: GaussianPair(NAN), "rho", "nan", ""),
    "no pairs of a law": (lambda: GaussianPair(0.5).nodes(0), "n", "0", ""),
    "no generator": (lambda: GaussianPair(0.5).nodes(4), "generator", "None", "manual_seed"),
    "sobol rows": (lambda: Pairs(N, N).nodes(4, kind="sobol", generator=seeded()), "kind", "sobol", ""),
    "no samples": (lambda: gaussian_pair(0.5, samples=0), "samples", "0", "without point"),
}


@pytest.mark.parametrize("name", BAD)
def test_refusals(name, unchecked):
    call, argument, got, remedy = BAD[name]
    check(call, argument, got, remedy=remedy)
