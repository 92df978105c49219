"""The explorers: what they draw against NumPy, controls that change the picture, what a notebook gets."""

import base64
import inspect
import subprocess
import sys
import uuid
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import ipywidgets
import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

import nbsvd
from nbsvd import explore, plot
from nbsvd._errors import ArgumentError
from nbsvd.explore.matrices import RATE, STEPS, descend, matrix
from nbsvd.spectrum import History

VIEW = "application/vnd.jupyter.widget-view+json"
PROBLEM = nbsvd.problems.hydrogen2d()
MAKERS: dict[str, Callable[[], explore.Explorer]] = {
    "matrix playground": lambda: explore.matrix_playground(step=30),
    "nesting weights": lambda: explore.nesting_weights(4),
    "sampler and box": lambda: explore.sampler_and_box(points=32, law="Gaussian in the box"),
}
# Another value for each control; the rest of the picture stays.
MOVES: dict[str, dict[str, Any]] = {
    "matrix playground": {
        "rows": 5,
        "columns": 9,
        "spectrum": "tie",
        "nesting": "none",
        "components": 4,
        "step": 31,
    },
    "nesting weights": {"w1": 0.5, "w4": 0.0},
    "sampler and box": {
        "law": "radial",
        "scale": 2.5,
        "points": 64,
        "kind": "sobol",
        "box": 5.0,
        "mode": 2,
    },
}
FIGURES: dict[str, Callable[[], plot.Figure]] = {
    "descent": explore.draw_descent,
    "descent of six": lambda: explore.draw_descent(12, 12, "rank-deficient", "joint", 6, STEPS),
    "descent at rest": lambda: explore.draw_descent(8, 6, "tie", "sequential", 3, STEPS),
    "one component": lambda: explore.draw_descent(3, 2, "gap", "none", 1, 0),
    "weights": lambda: explore.draw_weights(np.ones(6), 1 / np.arange(1, 7)),
    "eight weights": lambda: explore.draw_weights([1, 0, 0.5, 0, 2, 1, 1, 1], 0.9 ** np.arange(8)),
    "no weight": lambda: explore.draw_weights([0.0, 0.0], [1.0, 0.5]),
    "sampler": lambda: explore.draw_sampler(PROBLEM, "Gaussian", 16.0, 64),
    "box": lambda: explore.draw_sampler(PROBLEM, "uniform in the box", 5.0, 64, "sobol", 10.0, 3),
    "watcher": lambda: explore.watcher.draw_history(
        History([10, 20], [0.1, 0.2], [9.0, -1.0], [[1.0, 0.1], [0.9, 0.2]], optimum=-1.5), [1.0, 0.25]
    ),
    "watcher, one report": lambda: explore.watcher.draw_history(History([10], [0.1], [9.0], [[1.0]])),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_describe_themselves_and_write_legibly(name, monkeypatch):
    before = dict(matplotlib.rcParams)
    figure = FIGURES[name]()
    assert dict(matplotlib.rcParams) == before
    text = plot.alt_text(figure)
    assert text[0].isupper()
    assert text.endswith(".")
    assert "nan" not in text
    assert figure.get_figwidth() == 7.2
    seen: list[Text] = []
    draw = Text.draw

    def note(self: Text, renderer: Any) -> None:
        if self.get_visible() and self.get_text().strip():
            seen.append(self)
        draw(self, renderer)

    monkeypatch.setattr(Text, "draw", note)
    canvas = FigureCanvasAgg(figure)
    with plot.sheet():
        canvas.draw()
    for item in seen:
        box = item.get_window_extent(canvas.get_renderer())
        assert item.get_fontsize() >= 8, item
        assert box.x0 > -1, item
        assert box.x1 < figure.bbox.width + 1, item
        assert box.y0 > -1, item
        assert box.y1 < figure.bbox.height + 1, item


def by_hand(A: np.ndarray, f: np.ndarray, g: np.ndarray, nesting: str, steps: int) -> list[float]:
    """Descend on the sum of squared distances as the theorem writes it, and return the losses."""
    L = f.shape[1]
    terms = {"joint": [(l, 1 / L) for l in range(1, L + 1)], "none": [(L, 1.0)]}.get(nesting, [(L, 1.0)])
    losses = []
    for _ in range(steps + 1):
        rest = {l: A - g[:, :l] @ f[:, :l].T for l in range(1, L + 1)}
        losses.append(sum(w * ((rest[l] ** 2).sum() - (A**2).sum()) for l, w in terms))
        df, dg = np.zeros_like(f), np.zeros_like(g)
        if nesting == "sequential":
            for l in range(1, L + 1):
                df[:, l - 1], dg[:, l - 1] = -2 * rest[l].T @ g[:, l - 1], -2 * rest[l] @ f[:, l - 1]
        else:
            for l, w in terms:
                df[:, :l] -= 2 * w * rest[l].T @ g[:, :l]
                dg[:, :l] -= 2 * w * rest[l] @ f[:, :l]
        f, g = f - RATE * df, g - RATE * dg
    return losses


@pytest.mark.parametrize("nesting", ["joint", "sequential", "none"])
def test_the_descent_is_that_of_the_theorem(nesting):
    rows, columns, L, steps = 5, 4, 3, 40
    generator = torch.Generator().manual_seed(0)
    f, g = (
        (0.3 * torch.randn(n, L, generator=generator, dtype=torch.float64) / n**0.5).numpy()
        for n in (columns, rows)
    )
    run = descend(rows, columns, "gap", nesting, L)
    assert np.allclose(run.right[0], f, atol=1e-15)
    assert np.allclose(run.sizes[0], np.linalg.norm(f, axis=0) * np.linalg.norm(g, axis=0))
    losses = by_hand(matrix(rows, columns, "gap"), f, g, nesting, steps)
    assert np.allclose(run.loss[: steps + 1], losses, rtol=1e-10)


@pytest.mark.parametrize("spectrum", ["gap", "tie", "rank-deficient"])
@pytest.mark.parametrize("nesting", ["joint", "sequential", "none"])
def test_what_is_drawn_is_numpys_and_is_reached(spectrum, nesting):
    L = 3
    sigma = np.linalg.svd(matrix(8, 6, spectrum), compute_uv=False)[:L]
    m = np.array([3, 2, 1]) / 3 if nesting == "joint" else np.ones(L)
    least = -(m * sigma**2).sum()
    figure = explore.draw_descent(8, 6, spectrum, nesting, L, STEPS)
    left, middle, right = figure.axes
    whole, walked, place, optimum = (np.asarray(line.get_ydata()) for line in left.get_lines())
    assert np.allclose(optimum, least)
    assert len(whole) == len(walked) == STEPS + 1
    assert place == whole[-1]
    assert (whole > least - 1e-12).all()
    assert whole[-1] - least < 1e-4
    rungs = np.array(middle.collections[0].get_segments())
    assert np.allclose(rungs[:, :, 1], sigma[:, None], atol=1e-12)
    sizes = np.asarray(middle.get_lines()[0].get_ydata())
    reached = bool(np.abs(sizes - sigma).max() < 0.02)
    assert reached == (nesting != "none")
    gram = np.asarray(right.images[0].get_array())
    off = np.abs(gram - np.diag(np.diag(gram))).max()
    if nesting != "none":  # where the third value is zero, the third function shrinks, but slowly
        assert off < (0.15 if spectrum == "rank-deficient" else 0.02)
    assert f"off by {plot._words.short(float(np.abs(sizes - sigma).max()))}" in plot.alt_text(figure)


def test_more_components_than_the_matrix_has_values():
    run = descend(3, 2, "gap", "joint", 5)
    assert run.exact[2:].tolist() == [0, 0, 0]
    assert run.sizes[-1, 2:].max() < 0.2


@pytest.mark.parametrize(
    ("w", "sigma"), [([0.2, 0.3, 0.5], [2.0, 1.0, 0.5]), ([1.0, 2.0, 1.0, 0.5], [3.0, 3.0, 1.0, 0.0])]
)
def test_masks_and_the_least_value_are_those_of_the_package(w, sigma):
    nesting = nbsvd.Nesting.joint(len(w), w)
    figure = explore.draw_weights(w, sigma)
    left, middle, right = figure.axes
    heights = [bar.get_height() for bar in left.patches]
    assert np.allclose(heights, [*w, *nesting.vector.tolist()])
    assert np.allclose(np.asarray(middle.images[0].get_array()), nesting.matrix.numpy())
    parts = np.array([bar.get_height() for bar in right.patches]).reshape(len(w), len(w))
    assert np.allclose(parts.sum(1), nesting.vector.numpy() * np.square(sigma))  # a component
    assert np.allclose(parts.sum(0), np.array(w) * np.cumsum(np.square(sigma)))  # a term
    least = float(nbsvd.exact.lora_optimum(torch.tensor(sigma, dtype=torch.float64), nesting.vector))
    assert np.isclose(parts.sum(), -least)
    assert plot._words.number(least) in right.get_title(loc="left")


def test_a_weight_of_zero_is_pointed_out():
    assert "components 1 and 2 are not told apart" in plot.alt_text(explore.draw_weights([0, 1], [2, 1]))
    assert "component 2 is asked for nothing" in plot.alt_text(explore.draw_weights([1, 0], [2, 1]))
    assert "told apart" not in plot.alt_text(explore.draw_weights([1, 1], [2, 1]))


def drawn_estimates(figure: plot.Figure) -> list[np.ndarray]:
    """The dots of each column, in the order in which they stand."""
    lines = [line for line in figure.axes[1].get_lines() if line.get_marker() in "v^o"]
    x, y = (np.concatenate([np.asarray(d(line)) for line in lines]) for d in (XDATA, YDATA))
    order = np.argsort(x)
    return [y[order][x[order] < 0.5], y[order][x[order] > 0.5]]


XDATA, YDATA = (lambda line: line.get_xdata()), (lambda line: line.get_ydata())


def test_estimates_are_those_of_a_mean_over_the_points():
    """The ground state is sqrt(2/pi) exp(-r), and -|grad f|^2 + f^2 / r = f^2 (1/r - 1)."""
    scale, n = 3.0, 200
    figure = explore.draw_sampler(PROBLEM, "Gaussian", scale, n, "iid", 50.0, 1)
    found = drawn_estimates(figure)
    for seed in (0, 1, 23):
        generator = torch.Generator().manual_seed(seed)
        u = torch.rand(n, 2, generator=generator, dtype=torch.float64)
        x = (scale * torch.special.ndtri(u)).numpy()
        r = np.linalg.norm(x, axis=1)
        density = np.exp(-(r**2) / (2 * scale**2)) / (2 * np.pi * scale**2)
        share = 2 / np.pi * np.exp(-2 * r) / density
        assert np.isclose(found[0][seed], np.clip(share.mean(), 0, 2))
        assert np.isclose(found[1][seed], np.clip((share * (1 / r - 1)).mean(), 0, 2))
        if seed == 0:
            effective = share.sum() ** 2 / (share**2).sum()
            assert figure.axes[0].get_title(loc="left") == f"effective size {effective:.0f} of {n} points"
            assert np.allclose(np.asarray(figure.axes[0].collections[0].get_offsets()), x)


def test_quadrature_is_exact_and_a_small_box_loses_mass():
    good = drawn_estimates(explore.draw_sampler(PROBLEM, "radial", 5.0, 500, "quadrature"))
    assert np.abs(np.array(good) - 1).max() < 1e-4
    small = drawn_estimates(explore.draw_sampler(PROBLEM, "Gaussian in the box", 1.0, 900, "quadrature", 1.0))
    # Inside [-1, 1]^2, by an integral of another kind.
    t = (np.arange(2000) + 0.5) / 1000 - 1
    x, y = np.meshgrid(t, t)
    inside = (2 / np.pi * np.exp(-2 * np.hypot(x, y))).mean() * 4
    assert np.abs(small[0] - inside).max() < 1e-3


@pytest.fixture
def _two_draws(monkeypatch):
    """Two sets of points instead of twenty-four, where their spread is of no interest."""
    monkeypatch.setattr(explore.sampling, "DRAWS", 2)


@pytest.mark.usefixtures("_two_draws")
@pytest.mark.parametrize("kind", ["iid", "sobol", "quadrature"])
@pytest.mark.parametrize("law", explore.sampling.LAWS)
def test_every_law_places_every_kind(law, kind):
    figure = explore.draw_sampler(nbsvd.problems.infinite_well2d(), law, 1.0, 16, kind, 1.0)
    assert f"a {law} law" in plot.alt_text(figure)
    assert f"{kind} points" in plot.alt_text(figure)


@pytest.mark.usefixtures("_two_draws")
@pytest.mark.parametrize(("name", "control"), [(name, control) for name in MOVES for control in MOVES[name]])
def test_each_control_changes_the_picture(name, control):
    explorer = MAKERS[name]()
    before, shown = explorer._repr_mimebundle_()[0]["image/png"], explorer.picture.value
    assert before in shown
    explorer.controls[control].value = MOVES[name][control]
    assert explorer.settings[control] == MOVES[name][control]
    after = explorer._repr_mimebundle_()[0]["image/png"]
    assert after != before
    assert after in explorer.picture.value


@pytest.mark.usefixtures("_two_draws")
@pytest.mark.parametrize("name", MAKERS)
def test_an_explorer_is_a_box_of_described_controls_with_its_picture(name):
    explorer = MAKERS[name]()
    assert isinstance(explorer, ipywidgets.VBox)
    assert list(explorer.children[0].children) == list(explorer.controls.values())
    assert all(control.description for control in explorer.controls.values())
    data, metadata = explorer._repr_mimebundle_(include=None, exclude=None)
    assert data["text/plain"] == repr(explorer) == f"Explorer({name})"
    assert data[VIEW] == {"version_major": 2, "version_minor": 0, "model_id": explorer.model_id}
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert metadata["image/png"] == {"alt": plot.alt_text(explorer.figure), "width": 691}
    assert 'alt="' in explorer.picture.value
    again = MAKERS[name]()
    assert again.model_id != explorer.model_id
    assert again._repr_mimebundle_()[0]["image/png"] == data["image/png"]
    # ipywidgets 7 would show itself otherwise, and IPython passes its arguments by name.
    assert explorer._ipython_display_ is None
    assert "kwargs" in str(inspect.signature(ipywidgets.VBox._repr_mimebundle_))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: explore.matrix_playground(rows=1), "rows: got 1; expected a whole number from 2 to 12"),
        (lambda: explore.matrix_playground(columns=2.5), "columns: got 2.5"),
        (lambda: explore.matrix_playground(spectrum="gaps"), "spectrum: .*Did you mean 'gap'"),
        (lambda: explore.matrix_playground(nesting="joints"), "nesting: .*Did you mean 'joint'"),
        (lambda: explore.matrix_playground(components=7), "components: got 7"),
        (lambda: explore.matrix_playground(step=401), "step: got 401"),
        (lambda: explore.nesting_weights(1), "components: got 1"),
        (lambda: explore.nesting_weights(3, values=[1.0]), "values: got length 1; expected 3"),
        (lambda: explore.draw_weights([1, -1], [1, 0.5]), "weights: got"),
        (lambda: explore.draw_weights([1, 1], [0.5, 1]), "values: got"),
        (lambda: explore.sampler_and_box("volterra"), "problem: got 'volterra'.*differential operator"),
        (lambda: explore.sampler_and_box("hydrogen3d"), "problem: got 'hydrogen3d': 3 dim"),
        (lambda: explore.sampler_and_box(law="radiant"), "law: .*Did you mean 'radial'"),
        (lambda: explore.sampler_and_box(kind="sobel"), "kind: .*Did you mean 'sobol'"),
        (lambda: explore.sampler_and_box(points=100), "points: got 100; expected one of"),
        (lambda: explore.sampler_and_box(mode=10), "mode: got 10"),
        (lambda: explore.draw_sampler(PROBLEM, points=0), "points: got 0"),
        (lambda: explore.draw_sampler(PROBLEM, scale=0.0), "scale: got 0.0"),
        (lambda: explore.Watcher(every=-1), "every: got -1"),
        (lambda: explore.Watcher(exact=["a"]), "exact: got"),
    ],
)
def test_what_is_refused_and_how(call, message, unchecked):
    with pytest.raises(ArgumentError, match=message):
        call()


def test_a_watcher_draws_what_is_reported():
    exact = nbsvd.problems.volterra().exact.values(2)
    watcher = explore.Watcher(every=0, exact=exact)
    assert watcher._repr_mimebundle_() == ({"text/plain": "Watcher()"}, {})
    seen: list[plot.Figure] = []
    result = nbsvd.solve(
        "volterra",
        2,
        steps=30,
        report_every=10,
        progress=False,
        callbacks=[watcher, lambda run: seen.append(watcher.figure)],
    )
    assert len({id(figure) for figure in seen}) == 3
    left, right = watcher.figure.axes
    loss, optimum = left.get_lines()
    assert np.allclose(loss.get_xdata(), result.history.step)
    assert np.allclose(loss.get_ydata(), result.history.loss)
    assert np.allclose(optimum.get_ydata(), result.history.optimum)
    wanted = -(np.array([1.0, 0.5]) * np.array([2 / np.pi, 2 / (3 * np.pi)]) ** 2).sum()
    assert np.allclose(optimum.get_ydata(), wanted)
    *lines, first, second = right.get_lines()
    assert np.allclose([line.get_ydata()[0] for line in lines], [2 / np.pi, 2 / (3 * np.pi)])
    values = np.array(result.history.values)
    assert np.allclose([first.get_ydata(), second.get_ydata()], values.T)
    data, metadata = watcher._repr_mimebundle_()
    assert data["text/plain"] == "Watcher()"
    assert metadata["image/png"]["alt"] == plot.alt_text(watcher.figure)


def test_a_watcher_draws_seldom_but_always_the_last():
    pictures: list[Any] = []
    watcher = explore.Watcher(every=1000.0)
    nbsvd.solve(
        "volterra",
        1,
        steps=40,
        report_every=10,
        progress=False,
        callbacks=[watcher, lambda run: pictures.append(watcher.figure)],
    )
    assert [a is b for a, b in pairwise(pictures)] == [True, True, False]
    assert "40 steps" in plot.alt_text(watcher.figure)


def test_a_watcher_with_another_number_of_exact_values_says_so():
    with pytest.raises(ArgumentError, match="exact: got length 3; expected 2, one for each component"):
        nbsvd.solve(
            "volterra", 2, steps=10, progress=False, callbacks=[explore.Watcher(exact=[1.0, 0.5, 0.2])]
        )


def test_widgets_are_imported_by_the_explorers_alone():
    code = (
        "import sys, nbsvd, nbsvd.player, nbsvd.plot, nbsvd.__main__; "
        "assert 'ipywidgets' not in sys.modules; import nbsvd.explore; assert 'ipywidgets' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_what_a_kernel_sends():
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    cells = [
        "from nbsvd import explore, solve\nexplorer = explore.matrix_playground(step=5)\nexplorer",
        "explorer.controls['step'].value = 6",
        "explorer",
        "watcher = explore.Watcher(every=0)\n"
        "_ = solve('volterra', 1, steps=30, report_every=10, progress=False, callbacks=[watcher])",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=300, store_widget_state=True).execute()
    first, moved, second, watched = (cell.outputs for cell in notebook.cells)
    assert moved == []
    for outputs, step in ((first, 5), (second, 6)):
        [output] = outputs
        assert sorted(output.data) == [VIEW, "image/png", "text/plain"]
        assert output.data["text/plain"] == "Explorer(matrix playground)"
        # The same in every run, so that a notebook that is run again has no diff.
        identity = uuid.uuid5(uuid.NAMESPACE_OID, "nbsvd matrix playground 1").hex
        assert output.data[VIEW]["model_id"] == identity
        assert f"after {step} steps" in output.metadata["image/png"]["alt"]
        states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
        assert states[identity]["model_name"] == "VBoxModel"
    assert first[0].data["image/png"] != second[0].data["image/png"]
    [output] = watched  # one picture, renewed
    assert output.data["text/plain"] == "Watcher()"
    assert "training of 30 steps" in output.metadata["image/png"]["alt"]
