"""Figures as functions of arrays: give numbers, get a matplotlib figure that carries its own description.

Every function returns a :class:`Figure` drawn with the style sheet ``STYLE``; none of them shows it, changes
``matplotlib.rcParams`` or leaves a figure open. ``alt_text(fig)`` describes it for those who can't see it.
"""

from nbsvd.plot._gram import gram_matrix
from nbsvd.plot._lines import mode_lines
from nbsvd.plot._modes import figure1, mode_gallery
from nbsvd.plot._numbers import energy_ladder, training_curve
from nbsvd.plot._style import DIVERGING, OKABE_ITO, SEQUENTIAL, STYLE, Figure, alt_text, sheet

__all__ = [
    "DIVERGING",
    "OKABE_ITO",
    "SEQUENTIAL",
    "STYLE",
    "Figure",
    "alt_text",
    "energy_ladder",
    "figure1",
    "gram_matrix",
    "mode_gallery",
    "mode_lines",
    "sheet",
    "training_curve",
]
