"""What figures say: numbers, names and sentences, and how much room they take."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

from nbsvd._errors import require

SMALL = 8.0  # points: the smallest type in any figure


def short(value: float) -> str:
    """Write an error or a cosine with two digits, as one says it.

    Example:
        >>> short(0.00214), short(0.0)
        ('2.1e-3', '0')
    """
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}" if int(exponent) else mantissa


def number(value: float) -> str:
    """Write a singular value or an energy: four decimals where they say something.

    Example:
        >>> number(1 / 9), number(-1.5e-5), number(-2.0)
        ('0.1111', '−1.50e-5', '−2.0000')
    """
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        text = f"{value:.4f}"
    else:
        mantissa, exponent = f"{value:.2e}".split("e")
        text = f"{mantissa}e{int(exponent)}"
    return text.replace("-", "−", 1) if text.startswith("-") else text


def decade(value: float, _: object = None) -> str:
    """Write a power of ten on an axis; without mathtext, whose exponents would be smaller than 8 points.

    Example:
        >>> decade(0.01), decade(1e-7), decade(1e4)
        ('0.01', '1e-7', '1e4')
    """
    return f"{value:g}" if 1e-3 < value < 1e3 else short(value).replace(".0e", "e")


def plain(value: float, _: object = None) -> str:
    """Write a coordinate as short as it goes; also a tick formatter.

    Example:
        >>> plain(-50.0)
        '−50'
    """
    return f"{value:g}".replace("-", "−")


def count(n: int, noun: str) -> str:
    """Write a number of things: words up to nine, as alt texts are read aloud.

    Example:
        >>> count(1, "mode"), count(25, "row")
        ('one mode', '25 rows')
    """
    words = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    return f"{words[n] if n < len(words) else n} {noun}{'s' * (n != 1)}"


def sentence(*parts: str) -> str:
    """Join clauses into sentences, each with a capital and a full stop.

    Example:
        >>> sentence("nine modes", "", "done")
        'Nine modes. Done.'
    """
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts if part)


def difference(rows: Mapping[str, NDArray[np.float64]]) -> str:
    """Say how far each row is from the row named "exact", if there is one."""
    if "exact" not in rows or len(rows) == 1:
        return ""
    exact = rows["exact"].reshape(len(rows["exact"]), -1)
    scale = np.abs(exact).max(axis=1)
    if not (scale > 0).all():
        return ""
    worst = {
        name: float((np.abs(row.reshape(exact.shape) - exact).max(axis=1) / scale).max())
        for name, row in rows.items()
        if name != "exact"
    }
    said = ", ".join(f"{name} {short(value)}" for name, value in worst.items())
    return f"largest difference from the exact functions, relative to a function's maximum: {said}"


def mode_names(labels: Sequence[str] | None, k: int, symbol: str = "φ") -> list[str]:
    """Return ``labels``, checked, or the default names φ₁, φ₂, ...

    Example:
        >>> mode_names(None, 2)
        ['φ₁', 'φ₂']
    """
    if labels is None:
        return [symbol + str(i + 1).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")) for i in range(k)]
    require(len(labels) == k, "labels", got=f"length {len(labels)}", expected=f"{k}, one for each mode")
    return [str(label) for label in labels]


def mode_ticks(k: int, room: float) -> list[int]:
    """Return the modes to label along an axis of ``room`` inches: all of them, or evenly spaced ones.

    Example:
        >>> mode_ticks(4, 2.0), mode_ticks(9, 1.0), mode_ticks(25, 1.0)
        ([1, 2, 3, 4], [1, 3, 5, 7, 9], [5, 10, 15, 20, 25])
    """
    need = 0.13 if k < 10 else 0.2  # a label of one or two digits at 8 points, with air
    step = next((step for step in (1, 2, 5, 10, 20) if step * room / k >= need), 50)
    return list(range(step if step >= 5 else 1, k + 1, step))


def text_width(text: str, size: float = SMALL) -> float:
    """Return the width of the widest line of ``text`` in inches.

    Example:
        >>> 0.05 < text_width("a") < 0.1
        True
    """
    font = FontProperties(family="DejaVu Sans", size=size)
    widths = [
        text_to_path.get_text_width_height_descent(line, font, ismath=line.count("$") > 1)[0]
        for line in text.splitlines()
    ]
    return float(max(widths, default=0.0)) / 72


def wrap(text: str, width: float) -> str:
    """Break ``text`` at spaces so that no line is wider than ``width`` inches, as far as its words allow.

    Example:
        >>> wrap("one two", 0.3).splitlines()
        ['one', 'two']
    """
    lines: list[str] = []
    for word in text.split():
        if lines and text_width(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)
