"""The player: what its page holds, read by parsers that share no code with it; what it refuses."""

import base64
import io
import json
from html.parser import HTMLParser
from typing import Any

import matplotlib.figure
import numpy as np
import pytest
import torch
from browser import NO_CHROMIUM, find_chromium
from PIL import Image

from nbsvd import plot
from nbsvd._errors import ArgumentError
from nbsvd.player import Player

ALT = 'Waves that get <shorter> & "steeper".'


def wave(n: float, height: float = 1.2, dpi: float | None = None) -> plot.Figure:
    x, y = np.meshgrid(np.linspace(-1, 1, 61), np.linspace(-1, 1, 61))
    with plot.sheet():
        figure = plot.Figure(figsize=(3, height), dpi=dpi)
        axes = figure.subplots(1, 2)
        axes[0].imshow(np.sin(3 * float(n) * x) * np.cos(y), cmap=plot.DIVERGING)
        axes[1].plot(x[0], np.sin(float(n) * x[0]))
    return figure


@pytest.fixture(scope="module")
def player() -> Player:
    return Player(wave, label="frequency", values=[1, 2, 3.5], alt=ALT, start=1)


class Page(HTMLParser):
    """The tags of a page with their attributes, and what stands inside outputs, buttons and scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip() and self.tags:
            self.texts.append((self.tags[-1][0], data.strip()))

    def all(self, tag: str) -> list[dict[str, Any]]:
        return [attrs for name, attrs in self.tags if name == tag]

    def text(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=int)


def plain_picture(figure: plot.Figure, **options: Any) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", **options)
    return pixels(buffer.getvalue())


def test_there_is_one_slider_with_a_name_and_one_picture(player):
    page = Page(player._repr_html_())
    [slider] = page.all("input")
    assert slider["type"] == "range"
    assert (slider["min"], slider["max"], slider["step"], slider["value"]) == ("0", "2", "1", "1")
    assert slider["aria-label"] == "frequency"
    assert slider["aria-valuetext"] == "2"
    assert slider["data-lm-suppress-shortcuts"] == "true"
    assert page.text("output") == ["2"]
    assert "frequency" in page.text("span")
    assert page.text("button") == ["Back", "Next", "Play"]
    [image] = page.all("img")
    assert image["alt"] == ALT + " Shown: frequency 2."
    assert (image["width"], image["height"]) == ("288", "115")
    assert not any("id" in attrs for _, attrs in page.tags)  # so that two of them never share one
    assert not any("href" in attrs or "http" in str(attrs.get("src")) for _, attrs in page.tags)


def stored(html: str) -> dict[str, list[Any]]:
    """What the script of a page finds, the first picture put into its place as the script does."""
    page = Page(html)
    [script] = page.text("script")
    found = json.loads(script)
    start = int(page.all("input")[0]["value"])
    assert found["png"][start] is None
    prefix = "data:image/png;base64,"
    assert page.all("img")[0]["src"].startswith(prefix)
    found["png"][start] = page.all("img")[0]["src"][len(prefix) :]
    return found


def test_each_frame_is_its_figure_up_to_the_palette(player):
    frames = stored(player._repr_html_())
    assert frames["text"] == ["1", "2", "3.5"]
    assert frames["alt"] == [f"{ALT} Shown: frequency {value}." for value in frames["text"]]
    for code, n in zip(frames["png"], [1, 2, 3.5], strict=True):
        png = base64.b64decode(code, validate=True)
        image = Image.open(io.BytesIO(png))
        assert image.mode == "P"
        assert "transparency" not in image.info
        wanted = plain_picture(wave(n))
        difference = np.abs(pixels(png) - wanted)
        assert difference.max() <= 8
        assert difference.mean() < 1.5
        assert (pixels(png)[0] == 255).all()
        assert len(png) < 0.6 * len(plain_bytes(wave(n)))


def plain_bytes(figure: plot.Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def test_the_same_player_is_the_same_bytes(player):
    again = Player([wave(n) for n in (1, 2, 3.5)], label="frequency", values=[1, 2, 3.5], alt=ALT, start=1)
    assert again._repr_html_() == player._repr_html_()
    assert again._repr_png_() == player._repr_png_()
    other = Player(wave, label="frequency", values=[1, 2, 4], alt=ALT, start=1)
    assert other._repr_html_() != player._repr_html_()


def test_where_no_script_runs_the_first_picture_stands_there(player):
    png, metadata = player._repr_png_()
    assert metadata == {"alt": ALT + " Shown: frequency 2.", "width": 288}
    assert base64.b64encode(png).decode() in Page(player._repr_html_()).all("img")[0]["src"]
    assert repr(player) == "Player(frequency, 3 frames)"
    assert len(player) == 3


def test_a_notebook_gets_text_picture_and_page(player):
    formatters = pytest.importorskip("IPython.core.formatters")
    data, metadata = formatters.DisplayFormatter().format(player)
    assert sorted(data) == ["image/png", "text/html", "text/plain"]
    assert data["text/plain"] == "Player(frequency, 3 frames)"
    assert metadata["image/png"]["alt"].startswith(ALT)


def test_the_page_of_its_own_is_whole(player, tmp_path):
    path = player.save(tmp_path / "player.html")
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert '<html lang="en">' in text
    assert Page(text).text("title") == ["frequency"]
    assert player._repr_html_() in text


def test_words_that_look_like_markup_stay_words():
    trap = "</script><script>alert(1)</script>"
    player = Player([wave(1), wave(2)], label=trap, values=[trap, "a"], alt=[trap, "b"])
    page = Page(player._repr_html_())
    assert len(page.all("script")) == 1
    assert page.all("input")[0]["aria-label"] == page.all("input")[0]["aria-valuetext"] == trap
    assert stored(player._repr_html_())["alt"] == [trap, "b"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (np.int32(3), "3"),
        (0.1 + 0.2, "0.3"),
        (np.float64(-2.50), "−2.5"),
        (torch.tensor(4), "4"),
        ("joint", "joint"),
    ],
)
def test_values_are_written_as_one_says_them(value, text):
    assert Player([wave(1)], label="n", values=[value], alt="x").values == (text,)


def test_arrays_and_tensors_are_values():
    for values in (np.linspace(0, 1, 2), torch.tensor([0.0, 1.0])):
        assert Player(wave, label="n", values=values, alt="x").values == ("0", "1")


def test_frames_of_unequal_size_share_one_page_so_that_nothing_jumps():
    player = Player([wave(1, 1.0), wave(1, 1.5)], label="n", values=[1, 2], alt="x")
    small, large = (pixels(frame.png) for frame in player.frames)
    assert small.shape == large.shape
    assert (small[150:] == 255).all()
    assert {(frame.width, frame.height) for frame in player.frames} == {(288, 144)}


def test_any_figure_will_do_and_is_opaque_on_white():
    figure = matplotlib.figure.Figure(figsize=(2, 1), facecolor="none", dpi=80)
    figure.add_subplot().plot([0, 1])
    [frame] = Player([figure], label="n", values=[1], alt="x").frames
    assert (pixels(frame.png)[0] == 255).all()
    assert (frame.width, frame.height) == (192, 96)
    assert pixels(frame.png).shape[:2] == (80, 160)


def test_pixels_are_capped_for_the_page_stays_small():
    [frame] = Player([wave(1, dpi=400)], label="n", values=[1], alt="x").frames
    assert pixels(frame.png).shape[:2] == (180, 450)
    assert (frame.width, frame.height) == (288, 115)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": []}, "frames: got none"),
        ({"frames": [wave(1)]}, "frames: got 1 frames for 2 values; expected one frame for each value"),
        ({"frames": wave(1)}, "frames: got Figure; expected figures"),
        ({"frames": [wave(1), "b"]}, r"frames\[1\]: got str; expected a figure"),
        ({"frames": lambda value: None}, r"frames\[0\]: got NoneType; expected a figure"),
        ({"values": []}, "values: got none; expected one value for each frame"),
        ({"values": 3}, "values: got int"),
        ({"label": ""}, "label: got ''"),
        ({"label": 3}, "label: got 3"),
        ({"alt": "  "}, "alt: got '  '; expected one text, or one for each frame. Say what is seen"),
        ({"alt": ["a"]}, "alt: got 1 texts; expected one text, or 2"),
        ({"alt": ["a", ""]}, "alt: got"),
        ({"alt": None}, "alt: got NoneType"),
        ({"start": 2}, "start: got 2; expected an index from 0 to 1"),
        ({"start": -1}, "start: got -1"),
        ({"start": True}, "start: got True"),
        ({"start": 0.0}, "start: got 0.0"),
    ],
)
def test_what_is_refused_and_how(changes, message, unchecked):
    good = {"frames": [wave(1), wave(2)], "label": "n", "values": [1, 2], "alt": "x"}
    with pytest.raises(ArgumentError, match=message):
        Player(**{**good, **changes})


def test_nothing_is_drawn_when_words_are_missing(unchecked):
    with pytest.raises(ArgumentError, match="alt"):
        Player(lambda value: pytest.fail("drew"), label="n", values=[1], alt="")


@pytest.mark.browser
def test_keys_and_buttons_move_the_picture(player, tmp_path):
    """In a browser, if there is one; the built book has its own tests."""
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = find_chromium()
    if chromium is None:
        pytest.skip(NO_CHROMIUM)
    path = player.save(tmp_path / "player.html")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(reduced_motion="no-preference")
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(path.as_uri())
        picture, slider = page.locator("img"), page.locator("input")

        def state() -> tuple[str | None, str | None, str | None, bytes]:
            src = picture.get_attribute("src") or ""
            shown = base64.b64decode(src.partition(",")[2])
            return (
                slider.get_attribute("aria-valuetext"),
                page.locator("output").text_content(),
                picture.get_attribute("alt"),
                shown,
            )

        def wanted(i: int) -> tuple[str, str, str, bytes]:
            return player.values[i], player.values[i], player.alts[i], player.frames[i].png

        assert state() == wanted(1)
        slider.focus()
        for key, i in (("ArrowRight", 2), ("ArrowRight", 2), ("Home", 0), ("ArrowUp", 1), ("ArrowLeft", 0)):
            page.keyboard.press(key)
            assert state() == wanted(i)
        for name, i in (("Next", 1), ("Next", 2), ("Next", 2), ("Back", 1)):
            page.get_by_role("button", name=name).click()
            assert state() == wanted(i)
        page.get_by_role("button", name="Play").click()
        page.get_by_role("button", name="Pause").wait_for()
        page.get_by_role("button", name="Play").wait_for()  # it stops at the end by itself
        assert state() == wanted(2)
        page.emulate_media(reduced_motion="reduce")
        assert not page.get_by_role("button", name="Play").is_visible()
        assert faults == []
        browser.close()
