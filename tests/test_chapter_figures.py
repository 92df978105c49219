"""The pictures of the chapters: drawn again they are what the book shows, exact, and put into words."""

import importlib.util
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BOOK = Path(__file__).resolve().parent.parent / "book"
SCRIPT = BOOK / "figures" / "chapters.py"
FIGURE = re.compile(r"^```\{figure\} (\S+)\n((?::[a-z]+: .*\n)+)([^`]*)^```$", re.MULTILINE)


@pytest.fixture(scope="module")
def chapters():
    spec = importlib.util.spec_from_file_location("chapter_figures", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_draws_what_the_book_shows(chapters, tmp_path):
    chapters.main(tmp_path)
    for name in chapters.FIGURES:
        kept, drawn = (Image.open(folder / f"{name}.png") for folder in (SCRIPT.parent, tmp_path))
        assert kept.size == drawn.size
        assert kept.width == 1080
        assert (SCRIPT.parent / f"{name}.png").stat().st_size < 120_000
        pixels = [np.asarray(image.convert("RGB"), dtype=float) for image in (kept, drawn)]
        # A little room for other versions of matplotlib; a line that moved needs more.
        assert np.abs(pixels[0] - pixels[1]).mean() < 1, f"{name}: run book/figures/chapters.py"


def test_ritz_values_rise_and_stay_below(chapters):
    found = [chapters.ritz_of_steps(n)[1] for n in range(1, 13)]
    for smaller, larger in pairwise(found):
        exact = 1 / ((np.arange(1, len(larger) + 1) - 0.5) * np.pi) ** 2
        assert (larger[:-1] >= smaller - 1e-10).all()
        assert (larger <= exact + 1e-10).all()


def test_the_best_gaussian_is_the_one_found_by_hand(chapters):
    # <f|Tf> / |f|^2 = -2a + sqrt(2 pi a) for f = exp(-a r^2): largest at a = pi / 8, where it is pi / 4.
    value, exponents, _ = chapters.best_gaussians(1)
    assert value == pytest.approx(np.pi / 4, abs=1e-6)
    assert exponents[0] == pytest.approx(np.pi / 8, rel=1e-3)
    assert value < chapters.best_gaussians(3)[0] < 1


def test_each_figure_is_in_its_chapter_and_in_words(chapters):
    for name in chapters.FIGURES:
        assert f"figures/{name}.png" in (BOOK / f"{name}.md").read_text(encoding="utf-8")
    for page in BOOK.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        found = FIGURE.findall(text)
        assert len(found) == text.count("{figure}"), f"{page.name}: a figure without options or end"
        for file, options, caption in found:
            assert (BOOK / file).is_file()
            alt = re.search(r"^:alt: (.*)$", options, re.MULTILINE)
            assert alt is not None, f"{page.name}: {file} has no alt text"
            assert len(alt[1].split()) >= 15
            assert ":name: " in options
            assert caption.strip()
