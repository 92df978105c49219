"""The thin part of every explorer: controls, a picture, and what stands in for both where no kernel runs."""

import html
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

import ipywidgets

from nbsvd._errors import require
from nbsvd.plot import Figure

VIEW = "application/vnd.jupyter.widget-view+json"
_made: Counter[str] = Counter()


class Explorer(ipywidgets.VBox):  # type: ignore[misc, unused-ignore]
    """Controls above a picture that a pure function draws from their values.

    As the value of a cell it is live. Beside the live view the output holds the picture as it is now, as a
    PNG with its alt text, for pages and readers without a kernel.

    Arguments:
        name: what it is called in text.
        draw: makes the figure from the values of the controls, given by name.
        controls: the controls, by the names of the arguments of ``draw``.

    Example:
        >>> from nbsvd.plot import training_curve
        >>> def draw(n):
        ...     return training_curve(range(n), [1 / (i + 1) for i in range(n)])
        >>> explorer = Explorer("hyperbola", draw, {"n": slider("points", 10, 2, 20)})
        >>> before = explorer.figure
        >>> explorer.controls["n"].value = 5
        >>> explorer, explorer.figure is before
        (Explorer(hyperbola), False)
    """

    # ipywidgets 7 shows itself in this way, which would win over the bundle below; 8 has no such method.
    _ipython_display_ = None

    def __init__(
        self, name: str, draw: Callable[..., Figure], controls: Mapping[str, ipywidgets.Widget]
    ) -> None:
        self.name, self.draw, self.controls = name, draw, dict(controls)
        self.picture = ipywidgets.HTML()
        row = ipywidgets.Layout(display="flex", flex_flow="row wrap")
        panel = ipywidgets.Box(list(self.controls.values()), layout=row)
        _made[name] += 1  # an id that is the same in every run: a notebook that is run again has no diff
        identity = uuid.uuid5(uuid.NAMESPACE_OID, f"nbsvd {name} {_made[name]}").hex
        super().__init__([panel, self.picture], model_id=identity)
        for control in self.controls.values():
            control.observe(self._redraw, names="value")
        self._redraw()

    @property
    def settings(self) -> dict[str, Any]:
        """The values of the controls by name."""
        return {name: control.value for name, control in self.controls.items()}

    def _redraw(self, _: object = None) -> None:
        self.figure = self.draw(**self.settings)
        self._data, self._metadata = self.figure._repr_mimebundle_()
        shown = self._metadata["image/png"]
        self.picture.value = (
            f'<img src="data:image/png;base64,{self._data["image/png"]}" width="{shown["width"]}" '
            f'alt="{html.escape(str(shown["alt"]))}" style="max-width:100%;height:auto;background:#fff">'
        )

    def __repr__(self) -> str:
        return f"Explorer({self.name})"

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, Any], dict[str, Any]]:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {VIEW: view, **self._data, "text/plain": repr(self)}, self._metadata


def whole(argument: str, value: object, low: int, high: int) -> int:
    """Return a whole number from ``low`` to ``high``, or refuse what is none.

    Example:
        >>> whole("rows", 3, 2, 12)
        3
    """
    fits = isinstance(value, Integral) and not isinstance(value, bool) and low <= int(value) <= high
    require(fits, argument, got=repr(value), expected=f"a whole number from {low} to {high}")
    assert isinstance(value, Integral)
    return int(value)


STYLE = {"description_width": "7em"}


def slider(description: str, value: int, low: int, high: int) -> ipywidgets.IntSlider:
    """Return a slider over whole numbers."""
    # A picture for every place that the mouse passes would keep the kernel busy long after it has stopped.
    return ipywidgets.IntSlider(
        value, low, high, description=description, style=STYLE, continuous_update=False
    )


def weight(description: str, value: float) -> ipywidgets.FloatSlider:
    """Return a slider from 0 to 2."""
    return ipywidgets.FloatSlider(
        value, min=0, max=2, step=0.1, description=description, style=STYLE, continuous_update=False
    )


def choice(description: str, value: Any, options: Sequence[Any]) -> ipywidgets.Dropdown:
    """Return a list to choose from."""
    return ipywidgets.Dropdown(options=list(options), value=value, description=description, style=STYLE)


def steps(description: str, value: Any, options: Sequence[Any]) -> ipywidgets.SelectionSlider:
    """Return a slider over given values, or over pairs of a text and a value."""
    return ipywidgets.SelectionSlider(
        options=list(options), value=value, description=description, style=STYLE, continuous_update=False
    )
