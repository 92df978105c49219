"""What all figures share: the style sheet, a figure with its alt text, layout in inches, input checks."""

import base64
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import matplotlib.figure
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from numpy.typing import ArrayLike, NDArray

from nbsvd._errors import ArgumentError, require
from nbsvd.plot._words import SMALL

STYLE = str(files("nbsvd").joinpath("data/nbsvd.mplstyle"))
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# ColorBrewer's RdBu is safe for the common colour deficiencies and white at zero; cividis was designed to
# look the same with and without them.
DIVERGING = "RdBu_r"
SEQUENTIAL = "cividis"
WIDTH = 7.2
INK = "#222222"

Array = NDArray[np.float64]
if TYPE_CHECKING:
    Values = ArrayLike
else:
    # At run time our own checks speak: one that takes ArrayLike at its word refuses a list of integers.
    Values = Any


@contextmanager
def sheet() -> Iterator[None]:
    """Draw with matplotlib's defaults plus our sheet, and give the caller's settings back afterwards.

    The reset comes first so that a figure looks the same whatever style the session around it has chosen.

    Example:
        >>> import matplotlib
        >>> before = matplotlib.rcParams["font.size"]
        >>> with sheet():
        ...     matplotlib.rcParams["font.size"]
        9.0
        >>> matplotlib.rcParams["font.size"] == before
        True
    """
    with matplotlib.style.context(STYLE, after_reset=True):
        yield


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure that pyplot does not know about, with a sentence for those who can't see it.

    pyplot keeps every figure it makes until it is closed, and shows each at the end of a notebook cell even
    where it was already the cell's value. A figure made directly is freed with its last reference, and shown
    exactly once: as a cell's value or by ``display(fig)``. Its alt text travels with it as the ``alt`` entry
    of the picture's metadata, which nbconvert reads.

    Example:
        >>> fig = Figure(figsize=(1, 1))
        >>> fig.set_label("An empty square.")
        >>> alt_text(fig)
        'An empty square.'
    """

    def savefig(self, fname: Any, *, transparent: bool | None = None, **kwargs: Any) -> None:
        """Save as matplotlib does (``fname`` is a path or a binary file), with our settings."""
        # Some settings (the saved background, the minus sign) are read while drawing, not while composing.
        with sheet():
            super().savefig(fname, transparent=transparent, **kwargs)

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, str], dict[str, dict[str, object]]]:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        # 96 CSS pixels an inch: the picture keeps its printed size, and its extra pixels serve dense screens.
        metadata: dict[str, object] = {"alt": alt_text(self), "width": round(96 * self.get_figwidth())}
        bundle = {"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/plain": str(self)}
        return bundle, {"image/png": metadata}

    def _ipython_display_(self) -> None:
        # The inline backend registers its own printer for figures, which would win over a mime bundle: it
        # crops the page and drops the alt text.
        from IPython.display import display

        data, metadata = self._repr_mimebundle_()
        display(data, raw=True, metadata=metadata)  # type: ignore[no-untyped-call,unused-ignore]


def alt_text(figure: matplotlib.figure.Figure) -> str:
    """Return the plain sentences that describe ``figure`` (empty for a figure that is not ours).

    They are kept as the figure's label, a property every matplotlib artist has, so they survive pickling.

    Example:
        >>> alt_text(matplotlib.figure.Figure())
        ''
    """
    return str(figure.get_label())


class Page:
    """A figure laid out in inches from its top left corner: type keeps its size beside any number of panels.

    Example:
        >>> Page(2.0, 1.0).axes("box", 0.5, 0.25, 1.0, 0.5).get_position()
        Bbox([[0.25, 0.25], [0.75, 0.75]])
    """

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height))

    def axes(self, label: str, left: float, top: float, width: float, height: float) -> Axes:
        below = self.height - top - height
        box = (left / self.width, below / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box, label=label)

    def text(self, left: float, top: float, text: str, **kwargs: Any) -> None:
        self.figure.text(left / self.width, 1 - top / self.height, text, **{"fontsize": SMALL, **kwargs})

    def colour_bar(
        self, left: float, top: float, width: float, norm: Normalize, cmap: str, **kwargs: Any
    ) -> None:
        """Add a horizontal bar, 0.1 inches high, its tick labels below it."""
        cax = self.axes("colour bar", left, top, width, 0.1)
        bar = self.figure.colorbar(ScalarMappable(norm, cmap), cax=cax, orientation="horizontal", **kwargs)
        bar.ax.tick_params(length=2, pad=1.5)
        bar.ax.minorticks_off()


def array(name: str, values: object, ndim: int, *, finite: bool = True) -> Array:
    """Return ``values`` (NumPy, a list, or a tensor on any device) as a float64 array of ``ndim`` dimensions.

    Example:
        >>> array("values", [1, 2], 1)
        array([1., 2.])
        >>> array("values", [[1, 2]], 1)
        Traceback (most recent call last):
        ...
        nbsvd._errors.ArgumentError: values: got shape (1, 2); expected an array of 1 dimension, not empty.
    """
    for method in ("detach", "cpu"):  # duck typing: a figure needs no torch
        if callable(call := getattr(values, method, None)):
            values = call()
    remedy = "Pass an array, a nested list of equal lengths, or a tensor of a type NumPy has (.double())."
    try:
        raw = np.asarray(values)
        require(
            raw.dtype.kind in "biuf", name, got=f"dtype {raw.dtype}", expected="real numbers", remedy=remedy
        )
    except ArgumentError:
        raise
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            name, got=type(values).__name__, expected="real numbers", remedy=remedy
        ) from error
    expected = f"an array of {ndim} dimension{'s' * (ndim != 1)}, not empty"
    require(raw.ndim == ndim and raw.size, name, got=f"shape {raw.shape}", expected=expected)
    out = raw.astype(np.float64)
    bad = int(np.count_nonzero(~np.isfinite(out)))
    remedy = "Mask or interpolate the points where the function is singular."
    require(
        not finite or bad == 0, name, got=f"{bad} entries NaN or infinite", expected="finite", remedy=remedy
    )
    return out


def named(name: str, rows: object, ndim: int) -> dict[str, Array]:
    """Check a mapping from names to arrays of ``ndim`` dimensions and one shape.

    Example:
        >>> named("rows", {"learned": [1.0], "exact": [2.0]}, 1)
        {'learned': array([1.]), 'exact': array([2.])}
    """
    expected = 'a mapping from names to arrays, such as {"learned": ..., "exact": ...}'
    require(isinstance(rows, Mapping) and rows, name, got=f"{type(rows).__name__}", expected=expected)
    assert isinstance(rows, Mapping)
    out = {str(key): array(f"{name}[{key!r}]", value, ndim) for key, value in rows.items()}
    shape = next(iter(out.values())).shape
    for key, value in out.items():
        require(
            value.shape == shape,
            f"{name}[{key!r}]",
            got=f"shape {value.shape}",
            expected=f"{shape} as the first",
        )
    return out


def per_mode(name: str, values: Values | None, k: int) -> Array | None:
    """Check an optional array of one number for each of ``k`` modes.

    Example:
        >>> per_mode("exact_values", [1.0, 0.5], 2)
        array([1. , 0.5])
    """
    if values is None:
        return None
    out = array(name, values, 1)
    require(len(out) == k, name, got=f"length {len(out)}", expected=f"{k}, one for each mode")
    return out
