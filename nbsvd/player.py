"""A slider over pictures made beforehand: it works in a static page as it does in a live notebook.

What a cell shows is one fragment of HTML: a picture, a range input, and handlers written into the tags
themselves. So it needs no kernel, asks nothing of the network, and works where scripts of a page are re-run
(JupyterLab), shut into a frame (Colab) or read from a disk. Where none may run, and on paper, the first
picture stands there with its label.
"""

import base64
import html
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from nbsvd._errors import require
from nbsvd.plot._words import plain

CSS_DPI = 96  # CSS pixels an inch
MOST_DPI = 150.0  # more would make a page heavy and no screen better
COLOURS = 256
NARROWEST = 480  # CSS pixels: room for the controls in one line above a small picture


@dataclass(frozen=True)
class Frame:
    """One picture: its PNG, and its size in CSS pixels."""

    png: bytes
    width: int
    height: int


# The card is white and its type dark whatever the page around it is: light, dark, or a theme of JupyterLab or
# Colab. Themes that give pictures or outputs a frame in dark mode are told that this one has its own; the
# book's theme dims pictures there, and dims the whole card instead.
STYLE = """
.nbsvd-player{max-width:100%;box-sizing:border-box;background:#fff;color:#222;color-scheme:light;
font:15px/1.4 system-ui,sans-serif}
.nbsvd-player>div{display:flex;flex-wrap:wrap;align-items:center;gap:.4rem .75rem;padding:.4rem .6rem}
.nbsvd-player label{display:flex;flex:1 1 16rem;align-items:center;gap:.75rem;margin:0}
.nbsvd-player input{flex:1 1 6rem;min-width:6rem;height:1.75rem;margin:0;accent-color:#0072b2}
.nbsvd-player output{min-width:3.5em;font-weight:600;font-variant-numeric:tabular-nums}
.nbsvd-player button{min-height:1.75rem;margin:0;padding:0 .6rem;border:1px solid #767676;
border-radius:.25rem;background:#fff;color:#222;font:inherit;font-size:13px;cursor:pointer}
.nbsvd-player button:hover{background:#eee}
.nbsvd-player :focus-visible{outline:2px solid #0072b2;outline-offset:2px}
.nbsvd-player img.dark-light{display:block;max-width:100%;height:auto;margin:0!important;padding:0!important;
border-radius:0!important;background:#fff!important;filter:none}
html[data-theme=dark] .nbsvd-player{filter:brightness(.8) contrast(1.2)}
html[data-theme] .cell_output .text_html:has(>.nbsvd-player){padding:0!important;background:none!important}
@media (prefers-reduced-motion:reduce){.nbsvd-player .nbsvd-play{display:none}}
@media print{.nbsvd-player button,.nbsvd-player input{display:none}}
""".strip()

# On input: show the frame of the slider's place. The first frame's picture is stored once, in the tag.
SHOW = (
    "var p=this.closest('.nbsvd-player'),m=p.querySelector('img'),d=p.frames,c='data:image/png;base64,';"
    "if(!d){d=p.frames=JSON.parse(p.querySelector('script').textContent);"
    "d.png[this.defaultValue]=m.src.slice(c.length)}"
    "m.src=c+d.png[this.value];m.alt=d.alt[this.value];"
    "this.setAttribute('aria-valuetext',d.text[this.value]);"
    "p.querySelector('output').textContent=d.text[this.value]"
)
MOVE = (
    "var i=this.closest('.nbsvd-player').querySelector('input');i.value=+i.value{by};"
    "i.dispatchEvent(new Event('input'))"
)
# A second click, the last frame, or the player's removal from the page ends it.
PLAY = (
    "var b=this,i=b.closest('.nbsvd-player').querySelector('input'),"
    "go=function(n){i.value=n;i.dispatchEvent(new Event('input'))};"
    "if(b.timer){clearInterval(b.timer);b.timer=0;b.textContent='Play';return}"
    "b.textContent='Pause';if(i.value===i.max)go(0);"
    "b.timer=setInterval(function(){if(i.value===i.max||!b.isConnected)b.click();else go(+i.value+1)},700)"
)

FRAGMENT = """<div class="nbsvd-player" role="group" aria-label="{label}" \
data-lm-suppress-shortcuts="true" style="max-width:{card}px">
<style>{style}</style>
<div><label><span>{label}</span>
<input type="range" min="0" max="{last}" step="1" value="{start}" autocomplete="off" aria-label="{label}" \
aria-valuetext="{value}" data-lm-suppress-shortcuts="true" oninput="{show}"></label>
<output aria-live="off">{value}</output>
<button type="button" onclick="{back}">Back</button>
<button type="button" onclick="{on}">Next</button>
<button type="button" class="nbsvd-play" onclick="{play}">Play</button></div>
<img class="dark-light" width="{width}" height="{height}" style="max-width:100%;height:auto" alt="{alt}" \
src="data:image/png;base64,{png}">
<script type="application/json">{stored}</script>
</div>"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>:root{{color-scheme:light dark}}main{{margin:1rem auto;width:fit-content;max-width:100%}}</style>
<main>
{body}
</main>
</html>
"""


class Player:
    """Pictures, one for each of ``values``, and a slider that chooses among them.

    Move the slider by mouse, by touch or by the arrow keys; *Play* runs through the frames (it is not offered
    to those who ask their system for less motion). All frames are stored in the page, with at most 256
    colours each: two dozen small figures are a good measure.

    Arguments:
        frames: figures, one for each value; or a function ``draw(value)`` that returns one.
        label: what the slider changes, as one or two words.
        values: what the frames show: numbers or words, written beside the slider.
        alt: what is seen, in a sentence or two, to which label and value are added; or one text for each
            frame.
        start: index of the frame that is shown first, and where there is no script.

    Raises:
        ArgumentError: no frames; frames or alt texts that differ in number from ``values``; a frame that is
            not a figure; an empty label or alt text; ``start`` outside the frames.

    Example:
        >>> from nbsvd import plot
        >>> def draw(n):
        ...     return plot.gram_matrix(
        ...         [[1.0 if i == j else 0.1 for i in range(n)] for j in range(n)]
        ...     )
        >>> Player(draw, label="size", values=[1, 2, 3], alt="A Gram matrix, its diagonal bright.")
        Player(size, 3 frames)
    """

    def __init__(
        self,
        frames: Iterable[Figure] | Callable[[Any], Figure],
        *,
        label: str,
        values: Iterable[Any],
        alt: str | Sequence[str],
        start: int = 0,
    ) -> None:
        require(
            isinstance(label, str) and label.strip(),
            "label",
            got=repr(label),
            expected="what the slider changes, in a word or two",
            remedy='Such as label="rank".',
        )
        values = _listed("values", values, "one value for each frame, at least one")
        n = len(values)
        require(
            isinstance(start, Integral) and not isinstance(start, bool) and 0 <= start < n,
            "start",
            got=repr(start),
            expected=f"an index from 0 to {n - 1}",
            remedy="It counts frames; it is not one of the values.",
        )
        self.label, self.start = label.strip(), int(start)
        self.values = tuple(written(value) for value in values)
        self.alts = self._described(alt)
        expected = "figures, one for each value, or a function of a value"
        figures = [frames(v) for v in values] if callable(frames) else _listed("frames", frames, expected)
        require(
            len(figures) == n,
            "frames",
            got=f"{len(figures)} frames for {n} values",
            expected="one frame for each value",
        )
        self.frames = pictures(figures)

    def _described(self, alt: str | Sequence[str]) -> tuple[str, ...]:
        remedy = "Say what is seen, and how it changes with the slider."
        expected = "one text, or one for each frame"
        texts = [alt] if isinstance(alt, str) else _listed("alt", alt, expected)
        said = all(isinstance(text, str) and text.strip() for text in texts)
        require(said, "alt", got=repr(alt), expected=expected, remedy=remedy)
        if isinstance(alt, str):
            text = alt.strip() if alt.strip()[-1] in ".!?" else f"{alt.strip()}."
            return tuple(f"{text} Shown: {self.label} {value}." for value in self.values)
        n = len(self.values)
        require(len(texts) == n, "alt", got=f"{len(texts)} texts", expected=f"one text, or {n}")
        return tuple(text.strip() for text in texts)

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        return f"Player({self.label}, {len(self)} frame{'s' * (len(self) != 1)})"

    def _repr_html_(self) -> str:
        first, i = self.frames[self.start], self.start
        coded = [base64.b64encode(frame.png).decode() for frame in self.frames]
        others = [code if j != i else None for j, code in enumerate(coded)]
        stored = json.dumps({"png": others, "alt": self.alts, "text": self.values}, ensure_ascii=False)
        return FRAGMENT.format(
            style=STYLE,
            label=html.escape(self.label),
            value=html.escape(self.values[i]),
            alt=html.escape(self.alts[i]),
            png=coded[i],
            card=max(first.width, NARROWEST),
            width=first.width,
            height=first.height,
            last=len(self) - 1,
            start=i,
            show=SHOW,
            back=MOVE.format(by=-1),
            on=MOVE.format(by="+1"),
            play=PLAY,
            stored=stored.replace("<", "\\u003c"),  # no text of a frame may end the script
        )

    def _repr_png_(self) -> tuple[bytes, dict[str, Any]]:
        frame = self.frames[self.start]
        return frame.png, {"alt": self.alts[self.start], "width": frame.width}

    def save(self, path: str | Path) -> Path:
        """Write the player as a page of its own, one file that needs nothing else, and return its path.

        Example:
            >>> import tempfile
            >>> figure = Figure(figsize=(1, 1))
            >>> player = Player([figure], label="step", values=[0], alt="An empty square.")
            >>> player.save(tempfile.mkdtemp() + "/player.html").name
            'player.html'
        """
        path = Path(path)
        page = PAGE.format(title=html.escape(self.label), body=self._repr_html_())
        path.write_text(page, encoding="utf-8")
        return path


def _listed(argument: str, given: Any, expected: str) -> list[Any]:
    """Return a list of what is given, or refuse what has no elements."""
    items = list(given) if isinstance(given, Iterable) else []
    got = "none" if isinstance(given, Iterable) else type(given).__name__
    require(items, argument, got=got, expected=expected)
    return items


def written(value: object) -> str:
    """Write a value as it stands beside the slider.

    Example:
        >>> written(-0.50), written(3), written("joint")
        ('−0.5', '3', 'joint')
    """
    item = getattr(value, "item", None)  # a number of NumPy or torch
    value = item() if callable(item) else value
    return plain(float(value)) if isinstance(value, Real) and not isinstance(value, Integral) else str(value)


def pictures(figures: Sequence[Figure]) -> tuple[Frame, ...]:
    """Draw figures on white pages of one size, so that the page does not jump when one follows another.

    Example:
        >>> [frame] = pictures([Figure(figsize=(2, 1), dpi=100)])
        >>> frame.width, frame.height
        (192, 96)
    """
    for i, figure in enumerate(figures):
        require(
            isinstance(figure, Figure),
            f"frames[{i}]",
            got=type(figure).__name__,
            expected="a figure",
            remedy="Let each frame be a nbsvd.plot.Figure, as the functions of nbsvd.plot return.",
        )
    dpi = float(min(MOST_DPI, max(figure.dpi for figure in figures)))
    drawn = [draw(figure, dpi) for figure in figures]
    size = max(image.width for image in drawn), max(image.height for image in drawn)
    width, height = (round(side * CSS_DPI / dpi) for side in size)
    return tuple(Frame(png(on_page(image, size)), width, height) for image in drawn)


def draw(figure: Figure, dpi: float) -> Image.Image:
    """Draw a figure on white: RGB, opaque whatever the figure's own background."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    with Image.open(buffer) as stored:
        image = stored.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def on_page(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Lay an image on the top left of a white page."""
    if image.size == size:
        return image
    page = Image.new("RGB", size, "white")
    page.paste(image)
    return page


def png(image: Image.Image) -> bytes:
    """Code an image with a palette of its own: a third of the bytes, the same to the eye.

    Of Pillow's ways to choose colours this one has the smallest worst error on figures: on a diverging map it
    is at most a few of 255 levels.
    """
    palette = image.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
