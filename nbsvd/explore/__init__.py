"""Explorers to touch where a kernel runs, with a picture in their place where none does.

Each is a few controls above a figure that a pure function draws from their values, so what they show can be
tested, and made without them. They stand on the top floor, and nothing else imports them or ipywidgets.
"""

from nbsvd.explore._explorer import Explorer as Explorer
from nbsvd.explore.matrices import draw_descent as draw_descent
from nbsvd.explore.matrices import matrix_playground as matrix_playground
from nbsvd.explore.nesting import draw_weights as draw_weights
from nbsvd.explore.nesting import nesting_weights as nesting_weights
from nbsvd.explore.sampling import draw_sampler as draw_sampler
from nbsvd.explore.sampling import sampler_and_box as sampler_and_box
from nbsvd.explore.watcher import Watcher as Watcher
