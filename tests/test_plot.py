"""Figures: what is drawn, what is said, what is refused, and that nothing is left behind."""

import base64
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.text import Text

from nbsvd import plot
from nbsvd._errors import ArgumentError

KS = (1, 4, 9, 16, 25)
RNG = np.random.default_rng(0)
X, Y = np.meshgrid(np.linspace(-1, 1, 12), np.linspace(-1, 1, 10))


def fields(k: int) -> np.ndarray:
    return np.array([np.sin((i + 1) * X) * np.cos(i * Y) + 0.1 for i in range(k)])


def values(k: int) -> np.ndarray:
    """The hydrogen levels: 1, 1/9 three times, 1/25 five times, ..."""
    return np.concatenate([[1 / (2 * n + 1) ** 2] * (2 * n + 1) for n in range(5)])[:k]


def gram(k: int, cosine: float = 2.1e-3) -> np.ndarray:
    out = np.eye(k)
    if k > 1:
        out[0, 1] = out[1, 0] = -cosine
    return out


def rows(k: int) -> dict[str, np.ndarray]:
    return {"learned": -fields(k), "aligned": 1.01 * fields(k), "exact": fields(k)}


def lines(k: int) -> plot.Figure:
    x = np.linspace(-50, 50, 30)
    waves = np.array([np.cos(i * x / 9) for i in range(k)])
    return plot.mode_lines(
        x, {"learned": 0.9 * waves, "exact": waves}, exact_values=values(k), unit="half Bohr radii"
    )


MAKERS: dict[str, Callable[[int], plot.Figure]] = {
    "gallery": lambda k: plot.mode_gallery(
        rows(k), extent=50, exact_values=values(k), unit="half Bohr radii"
    ),
    "zoomed gallery": lambda k: plot.mode_gallery(
        {"a rather long name": fields(k)},
        extent=[(-i - 1, i + 1, -i - 1, i + 1) for i in range(k)],
        exact_values=-1e5 * values(k),
    ),
    "lines": lines,
    "ladder": lambda k: plot.energy_ladder(values(k) * 1.001, values(k) * 1e-3, values(k)),
    "ladder of large bars": lambda k: plot.energy_ladder(values(k), 0.2 * values(k), values(k)),
    "gram": lambda k: plot.gram_matrix({"NeuralSVD": gram(k), "SpIN": gram(k, 0.3)}),
    "log gram": lambda k: plot.gram_matrix(gram(k), log=True),
    "figure 1": lambda k: plot.figure1(
        rows(k), {"NeuralSVD": gram(k), "SpIN": gram(k, 0.3)}, extent=50, exact_values=values(k)
    ),
    "figure 1, one matrix": lambda k: plot.figure1(rows(k), gram(k), extent=50, log=True),
    "curve": lambda k: plot.training_curve(
        np.arange(10 * k), np.exp(-np.arange(10 * k) / 9) - 1, optimum=-1.02, window=3
    ),
    "noisy curves": lambda k: plot.training_curve(
        np.arange(40 * k),
        {name: RNG.standard_normal(40 * k) for name in ("joint", "sequential")},
        optimum=0.0,
    ),
}


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    before = dict(matplotlib.rcParams)
    yield
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


def drawn_texts(figure: plot.Figure, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, Any]]:
    """Draw, and return text, size and box of all that is written (findobj has ticks out of view, too)."""
    seen: dict[int, Text] = {}
    original = Text.draw

    def draw(self: Text, renderer: Any) -> None:
        if self.get_visible() and self.get_text().strip():
            seen[id(self)] = self
        original(self, renderer)

    with monkeypatch.context() as patch, plot.sheet():
        patch.setattr(Text, "draw", draw)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        return [(t.get_text(), t.get_fontsize(), t.get_window_extent(renderer)) for t in seen.values()]


# The variants differ from the plain figures at their ends, if at all.
CASES = [(name, k) for name in MAKERS for k in (KS if " " not in name or name == "figure 1" else (1, 9, 25))]


@pytest.mark.parametrize(("name", "k"), CASES)
def test_type_is_legible_inside_the_page_and_never_overlaps(
    name: str, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = MAKERS[name](k)
    assert figure.get_figwidth() <= 7.2 + 1e-9
    texts = drawn_texts(figure, monkeypatch)
    assert min(size for _, size, _ in texts) >= 8
    width, height = figure.bbox.width, figure.bbox.height
    for i, (text, _, box) in enumerate(texts):
        assert box.x0 > -1, text
        assert box.x1 < width + 1, text
        assert box.y0 > -1, text
        assert box.y1 < height + 1, text
        for other, _, over in texts[:i]:
            apart = (
                box.x1 <= over.x0 + 1
                or over.x1 <= box.x0 + 1
                or box.y1 <= over.y0 + 1
                or over.y1 <= box.y0 + 1
            )
            assert apart, (text, other)
    assert "$" not in "".join(text for text, _, _ in texts)


@pytest.mark.parametrize("name", MAKERS)
def test_every_figure_is_opaque_white_and_describes_itself(name: str) -> None:
    with matplotlib.style.context("dark_background"):
        figure = MAKERS[name](4)
        buffer = io.BytesIO()
        figure.savefig(buffer)
    pixels = plt.imread(io.BytesIO(buffer.getvalue()))
    assert np.allclose(pixels[0, 0, :3], 1)
    assert np.allclose(pixels[..., 3] if pixels.shape[-1] == 4 else 1, 1)
    text = plot.alt_text(figure)
    assert text[0].isupper()
    assert text.endswith(".")
    assert plot.alt_text(pickle.loads(pickle.dumps(figure))) == text


def test_a_style_outside_changes_nothing_inside() -> None:
    def png(figure: plot.Figure) -> bytes:
        buffer = io.BytesIO()
        figure.savefig(buffer)
        return buffer.getvalue()

    plain = png(MAKERS["ladder"](4))
    with matplotlib.style.context(["dark_background", {"font.size": 20}]):
        assert png(MAKERS["ladder"](4)) == plain


def test_notebooks_get_one_picture_with_its_alt_text(capsys: pytest.CaptureFixture[str]) -> None:
    figure = plot.gram_matrix(gram(4))
    data, metadata = figure._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == plot.alt_text(figure)
    assert metadata["image/png"]["width"] == round(96 * figure.get_figwidth())
    pytest.importorskip("IPython")
    figure._ipython_display_()
    assert capsys.readouterr().out.count("Figure") == 1


def test_gallery_has_a_panel_for_each_mode_and_row_with_limits_centred_at_zero() -> None:
    given = rows(9)
    figure = plot.mode_gallery(given, extent=(-3, 3, -2, 4), exact_values=values(9), unit="nm")
    panels = {axes.get_label(): axes for axes in figure.axes}
    assert len(figure.axes) == 27 + 1
    for i in range(9):
        limit = max(np.abs(field[i]).max() for field in given.values())
        for name, field in given.items():
            (image,) = panels[f"{name} {i + 1}"].images
            assert image.get_clim() == pytest.approx((-limit, limit))
            assert image.get_extent() == [-3, 3, -2, 4]
            assert image.origin == "lower"
            np.testing.assert_array_equal(image.get_array(), field[i])
    said = " ".join(text.get_text() for text in figure.texts)
    assert "x from −3 to 3, y from −2 to 4 nm" in said
    assert "φ₁" in said
    assert "φ₉" in said
    assert "0.1111" in said
    assert set(given) <= set(said.split())
    boxes = {tuple(np.round(axes.bbox.size, 6)) for name, axes in panels.items() if name != "colour bar"}
    assert len(boxes) == 1
    assert np.ptp(boxes.pop()) < 1e-6  # square


def test_gallery_says_the_numbers() -> None:
    text = plot.alt_text(plot.mode_gallery(rows(9), extent=50, exact_values=values(9), unit="a.u."))
    assert text.startswith("Nine modes in three rows (learned, aligned, exact), x, y from −50 to 50 a.u.")
    assert "Exact values from 1.0000 to 0.0400." in text
    assert "learned 2.0, aligned 1.0e-2." in text


def test_a_component_that_died_is_drawn_as_zero() -> None:
    figure = plot.mode_gallery({"learned": np.zeros((1, 4, 4))}, extent=1)
    assert figure.axes[0].images[0].get_clim() == (-1, 1)


def test_columns_are_at_most_what_was_asked() -> None:
    figure = plot.mode_gallery({"exact": fields(4)}, extent=1, columns=2)
    places = {axes.get_label(): axes.get_position() for axes in figure.axes}
    assert places["exact 1"].x0 == pytest.approx(places["exact 3"].x0)
    assert places["exact 1"].y0 > places["exact 3"].y1


def test_figure1_has_gallery_left_and_matrices_right() -> None:
    figure = plot.figure1(rows(9), {"NeuralSVD": gram(9), "SpIN": gram(9, 0.3)}, extent=50)
    labels = [axes.get_label() for axes in figure.axes]
    assert labels.count("gram") == 2
    assert labels.count("colour bar") == 2
    assert len(labels) == 27 + 4
    right = min(axes.get_position().x0 for axes in figure.axes if axes.get_label() == "gram")
    assert right > max(axes.get_position().x1 for axes in figure.axes if axes.get_label().startswith("exact"))
    text = plot.alt_text(figure)
    assert "Nine modes in three rows" in text
    assert text.endswith("Largest off-diagonal cosine NeuralSVD 2.1e-3, SpIN 3.0e-1.")


def test_gram_matrix_shows_absolute_cosines_whatever_the_norms() -> None:
    norms = np.array([1.0, 10.0, 0.1])
    figure = plot.gram_matrix(norms[:, None] * gram(3, 0.25) * norms)
    axes = figure.axes[0]
    (image,) = axes.images
    np.testing.assert_allclose(image.get_array(), np.abs(gram(3, 0.25)))
    assert image.get_clim() == (0, 1)
    assert "max off-diag 2.5e-1" in axes.get_title("left")
    assert "Largest off-diagonal cosine 2.5e-1." in plot.alt_text(figure)


def test_log_gram_matrix_leaves_the_diagonal_out() -> None:
    (image,) = plot.gram_matrix(gram(3), log=True).axes[0].images
    assert isinstance(image.norm, LogNorm)
    assert image.get_clim() == pytest.approx((1e-3, 1))
    assert np.ma.getmaskarray(image.get_array()).tolist() == np.eye(3, dtype=bool).tolist()
    (image,) = plot.gram_matrix(np.eye(3), log=True).axes[0].images
    assert image.get_clim() == pytest.approx((1e-1, 1))


def test_ladder_draws_levels_and_says_which_errors_are_only_noise() -> None:
    exact = values(4)
    found = exact * [1.0, 1.01, 1.0005, 1.0]
    figure = plot.energy_ladder(found, exact * 1e-3, exact)
    ladder, errors = figure.axes
    assert [text.get_text() for text in ladder.texts] == ["×3"]
    assert sum(line.get_label() == "exact" for line in ladder.lines) == 1
    assert errors.get_yscale() == "log"
    text = plot.alt_text(figure)
    assert "Largest relative error 1.0e-2 at mode 2." in text
    assert "3 of 4 within two standard errors of the exact value." in text
    solid, hollow, zero = (
        line for line in errors.lines if line.get_marker() in "ov" and len(line.get_xdata())
    )
    assert solid.get_xdata().tolist() == [2]
    assert hollow.get_xdata().tolist() == [3]
    assert hollow.get_markerfacecolor() == "white"
    assert zero.get_xdata().tolist() == [1, 4]
    assert zero.get_marker() == "v"
    # The bar of a value that is its own error wide has no lower end: it reaches the foot of the axis.
    foot = errors.get_ylim()[0]
    low = [segment[:, 1].min() for segment in errors.collections[0].get_segments()]
    assert low[0] == low[2] == low[3] == foot
    assert low[1] == pytest.approx(0.009)


def test_ladder_says_when_its_bars_are_too_small_to_see() -> None:
    def legend(stderr: float) -> str:
        figure = plot.energy_ladder([1.0, 0.5], [stderr] * 2, [1.0, 0.5])
        return " ".join(text.get_text() for text in figure.legends[0].get_texts())

    assert "smaller than the points" in legend(1e-4)
    assert "smaller than the points" not in legend(0.1)


def test_ladder_takes_zero_and_negative_values_and_levels() -> None:
    assert "absolute error 1.0e-1" in plot.alt_text(plot.energy_ladder([1.0, 0.1], exact=[1.0, 0.0]))
    negative = plot.energy_ladder([-2.0, -4.1, -4.0], exact=[-2.0, -4.0, -4.1], levels=[0, 1, 1])
    assert [text.get_text() for text in negative.axes[0].texts] == ["×2"]
    assert negative.axes[0].get_yscale() == "linear"
    assert len(plot.energy_ladder([1.0, 0.5]).axes) == 1
    assert plot.energy_ladder(values(9), exact=values(9), scale="log").axes[0].get_yscale() == "log"


def test_lines_put_the_exact_band_below_and_share_limits() -> None:
    figure = lines(9)
    assert len(figure.axes) == 9
    for axes in figure.axes:
        band, _ = axes.lines[:2]
        assert band.get_label() == "exact"
        assert band.get_linewidth() > 3
        assert axes.get_ylim()[0] == -axes.get_ylim()[1]
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert "learned 1.0e-1." in plot.alt_text(figure)


def test_curve_shows_the_gap_and_marks_what_a_log_axis_cannot() -> None:
    loss = np.array([3.0, 0.0, -0.9, -1.01, -0.99, np.nan, -0.999])
    figure = plot.training_curve(np.arange(7), loss, optimum=-1.0)
    curve, gap = figure.axes
    assert gap.get_yscale() == "log"
    assert [line.get_ydata()[0] for line in curve.lines if line.get_linestyle() == "--"] == [-1.0]
    drawn, alone, foot = gap.lines
    np.testing.assert_allclose(drawn.get_ydata(), [4, 1, 0.1, np.nan, 0.01, np.nan, 0.001], rtol=1e-9)
    assert alone.get_xdata().tolist() == [4, 6]  # a line needs two
    assert foot.get_xdata().tolist() == [3]
    text = plot.alt_text(figure)
    assert "last −0.9990. Exact optimum −1.0000. Last gap 1.0e-3. One entry below the optimum." in text


def test_curve_cuts_a_wild_start_and_says_so() -> None:
    loss = np.r_[500.0, -np.ones(99)]
    curve, gap = plot.training_curve(np.arange(100), loss, optimum=-1.1).axes
    assert curve.get_ylim()[1] < 1
    assert "500" in curve.get_title("left")
    assert gap.get_ylim()[1] > 500
    assert len(plot.training_curve(np.arange(100), loss).axes) == 1


def test_curve_averages_over_a_window() -> None:
    curve = plot.training_curve(np.arange(4), [1.0, 2.0, 3.0, 6.0], window=2).axes[0]
    np.testing.assert_allclose(curve.lines[1].get_ydata(), [np.nan, 1.5, 2.5, 4.5])


def test_tensors_are_taken_as_they_are() -> None:
    field = torch.linspace(0, 1, 8, requires_grad=True).reshape(2, 2, 2)
    (image,) = plot.mode_gallery({"learned": field}, extent=1).axes[0].images
    np.testing.assert_allclose(image.get_array(), field[0].detach())


def test_the_sheet_is_for_readers_too() -> None:
    with matplotlib.style.context(plot.STYLE):
        colours = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
    assert tuple(colours) == plot.OKABE_ITO


GALLERY: dict[str, Any] = {"extent": 1.0}
REFUSED: list[tuple[str, Callable[[], object], str]] = [
    ("rows of two dimensions", lambda: plot.mode_gallery({"a": X}, **GALLERY), r"rows\['a'\].*3 dim"),
    ("no rows", lambda: plot.mode_gallery({}, **GALLERY), "rows: got"),
    ("rows without names", lambda: plot.mode_gallery([fields(2)], **GALLERY), "rows: got list"),  # type: ignore[arg-type]
    (
        "rows of two shapes",
        lambda: plot.mode_gallery({"a": fields(2), "b": fields(3)}, **GALLERY),
        r"rows\['b'\].*\(2, 10, 12\)",
    ),
    ("NaN", lambda: plot.mode_gallery({"a": fields(2) * np.nan}, **GALLERY), "240 entries NaN"),
    ("complex", lambda: plot.mode_gallery({"a": fields(2) * 1j}, **GALLERY), "complex128.*real"),
    ("ragged", lambda: plot.energy_ladder([[1.0], [1.0, 2.0]]), "values: got list"),  # type: ignore[list-item]
    ("names", lambda: plot.mode_gallery({"a": fields(2)}, labels=["1"], **GALLERY), "labels.*length 1"),
    ("exact", lambda: plot.mode_gallery({"a": fields(2)}, exact_values=[1], **GALLERY), "exact_values"),
    ("extent", lambda: plot.mode_gallery({"a": fields(2)}, extent=[1, 2, 3]), "extent.*half-width"),
    ("backwards", lambda: plot.mode_gallery({"a": fields(2)}, extent=-1), "extent.*x0 < x1"),
    ("columns", lambda: plot.mode_gallery({"a": fields(2)}, columns=0, **GALLERY), "columns"),
    ("points", lambda: plot.mode_lines([0.0, 0.0], {"a": np.ones((1, 2))}), "x: got.*ascending"),
    ("lengths", lambda: plot.mode_lines([0.0, 1.0], {"a": np.ones((1, 3))}), "rows.*3 values"),
    ("not square", lambda: plot.gram_matrix(np.ones((2, 3))), r"grams.*\(2, 3\).*square"),
    ("not symmetric", lambda: plot.gram_matrix([[1.0, 0.5], [0.0, 1.0]]), "asymmetry 5.0e-1"),
    ("dead component", lambda: plot.gram_matrix({"a": np.zeros((2, 2))}), r"grams\['a'\].*norms"),
    ("no matrix", lambda: plot.gram_matrix({}), "grams.*empty"),
    ("stderr", lambda: plot.energy_ladder([1.0], [-1.0]), "stderr.*negative"),
    ("stderr length", lambda: plot.energy_ladder([1.0], [1.0, 2.0]), "stderr.*length 2"),
    ("levels", lambda: plot.energy_ladder([1.0], levels=[0, 1]), "levels.*length 2"),
    ("scale", lambda: plot.energy_ladder([1.0], scale="lgo"), "Did you mean 'log'"),
    ("log of negatives", lambda: plot.energy_ladder([-1.0], scale="log"), "scale.*values > 0"),
    ("curve", lambda: plot.training_curve([1, 2], [1.0]), "loss.*length 1"),
    ("no curve", lambda: plot.training_curve([1, 2], {}), "loss.*empty"),
    ("no finite loss", lambda: plot.training_curve([1], [np.nan]), "loss.*finite"),
    ("window", lambda: plot.training_curve([1], [1.0], window=2), "window.*1 to 1"),
    ("optimum", lambda: plot.training_curve([1], [1.0], optimum=np.inf), "optimum.*finite"),
]


@pytest.mark.parametrize(
    ("call", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_bad_input_is_named(call: Callable[[], object], message: str, unchecked: None) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()
