"""The figures of a result: which one, of what, and over which region."""

import pytest
import torch
from matplotlib.figure import Figure

import nbsvd
from nbsvd import problems
from nbsvd.measures import Empirical
from nbsvd.plot import alt_text
from nbsvd.spectrum import figures


@pytest.fixture(scope="module")
def plane():
    return nbsvd.solve("hydrogen2d", 4, steps=3, progress=False)


@pytest.fixture(scope="module")
def line():
    return nbsvd.solve("volterra", 2, steps=3, progress=False)


def said(figure):
    assert isinstance(figure, Figure)
    return alt_text(figure)


def test_the_plane_is_the_papers_figure_1(plane):
    text = said(plane.plot())
    for word in ("learned", "aligned", "exact", "cosine"):
        assert word in text


def test_rows_depend_on_what_is_shown(plane):
    assert list(figures.functions_2d(plane)[0]) == ["learned", "aligned", "exact"]
    assert list(figures.functions_2d(plane.align())[0]) == ["aligned", "exact"]
    assert list(figures.functions_2d(plane.ritz())[0]) == ["ritz", "aligned", "exact"]
    unknown = nbsvd.Problem(problems.hydrogen2d().operator, problems.hydrogen2d().measure)
    result = nbsvd.solve(unknown, 1, steps=1, progress=False)
    assert list(figures.functions_2d(result)[0]) == ["learned"]
    said(result.plot())


def test_a_level_shares_one_size_that_holds_its_functions(plane):
    halves = figures.panel_halves(plane)
    assert halves[1] == halves[2] == halves[3]
    assert len({f"{half:.2g}" for half in halves}) == len(set(halves))  # two digits
    nodes = plane.measure_x.nodes(5000, kind="quadrature")
    f = plane.right(nodes.x) ** 2 * nodes.weights[:, None]
    for l, (half, r) in enumerate(zip(halves, figures.reach(plane).tolist(), strict=True)):
        assert half >= r
        inside = nodes.x.abs().amax(1) <= r
        assert (f[inside, l].sum() / f[:, l].sum()).item() == pytest.approx(figures.SHARE, abs=3e-4)


def test_pictures_are_the_functions(plane):
    rows, extents = figures.functions_2d(plane)
    x, extent = figures.grid(plane, figures.panel_halves(plane)[1])
    assert extents[1].tolist() == list(extent)
    expected = plane.align().right(x)[:, 1].reshape(figures.PIXELS, figures.PIXELS)
    torch.testing.assert_close(torch.from_numpy(rows["aligned"][1]), expected)
    first_row_is_low = x[: figures.PIXELS, 1].max() == -extents[1][1]
    assert first_row_is_low


def test_a_line_shows_both_sides_of_an_svd(line):
    text = said(line.plot())
    for word in ("right, learned", "left, learned", "right, exact", "left, exact", "x from 0"):
        assert word in text


def test_a_line_of_an_eigenproblem_without_an_answer():
    data = torch.linspace(-1, 1, 30, dtype=torch.float64)[:, None]
    kernel = nbsvd.Integral(lambda x, y: torch.exp(-((x - y.t()) ** 2)), Empirical(data))
    result = nbsvd.solve(nbsvd.Problem(kernel), 2, steps=1, progress=False)
    text = said(result.plot())
    assert "learned" in text
    assert "exact" not in text


@pytest.mark.parametrize("name", ["matrix", "hydrogen3d"])
def test_the_values_alone(name):
    problem = nbsvd.Problem(nbsvd.Matrix(torch.diag(torch.tensor([2.0, 1.0])))) if name == "matrix" else name
    result = nbsvd.solve(problem, 2, steps=1, progress=False)
    assert said(result.plot()) == said(result.plot("ladder"))


def test_the_ladder_knows_the_levels(plane):
    assert "learned values" in said(plane.plot("ladder"))


def test_the_training_curve_has_its_optimum(plane):
    assert "optimum" in said(plane.plot("training"))
