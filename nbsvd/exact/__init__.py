"""Exact answers: closed-form spectra with their eigen or singular functions, in float64.

They are what learned spectra are judged by (:mod:`nbsvd.metrics`). Every class is an :class:`Exact`.
"""

from nbsvd.exact.base import Exact, lora_optimum
from nbsvd.exact.box import Hydrogen2DBox
from nbsvd.exact.grid import GridSVD
from nbsvd.exact.kernels import (
    Brownian,
    GaussianKernel,
    GaussianPair,
    MatrixExact,
    OrnsteinUhlenbeck,
    Volterra,
)
from nbsvd.exact.markov import LogisticMap
from nbsvd.exact.schrodinger import Hydrogen2D, Hydrogen3D, InfiniteWell, Oscillator

__all__ = [
    "Brownian",
    "Exact",
    "GaussianKernel",
    "GaussianPair",
    "GridSVD",
    "Hydrogen2D",
    "Hydrogen2DBox",
    "Hydrogen3D",
    "InfiniteWell",
    "LogisticMap",
    "MatrixExact",
    "OrnsteinUhlenbeck",
    "Oscillator",
    "Volterra",
    "lora_optimum",
]
