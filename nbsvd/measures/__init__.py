"""Where we integrate: reference measures, the laws that sample them, and quadrature rules."""

from nbsvd.measures.base import Kind as Kind
from nbsvd.measures.base import Measure as Measure
from nbsvd.measures.base import Nodes as Nodes
from nbsvd.measures.empirical import Empirical as Empirical
from nbsvd.measures.laws import Gaussian as Gaussian
from nbsvd.measures.laws import Law as Law
from nbsvd.measures.laws import Radial as Radial
from nbsvd.measures.laws import TruncatedGaussian as TruncatedGaussian
from nbsvd.measures.laws import Uniform as Uniform
from nbsvd.measures.mixture import Mixture as Mixture
from nbsvd.measures.reference import Counting as Counting
from nbsvd.measures.reference import Lebesgue as Lebesgue
from nbsvd.measures.rules import BoxRule as BoxRule
from nbsvd.measures.rules import HermiteRule as HermiteRule
from nbsvd.measures.rules import LineRule as LineRule
from nbsvd.measures.rules import PolarRule as PolarRule
from nbsvd.measures.rules import Rule as Rule
from nbsvd.measures.rules import SparseRule as SparseRule
from nbsvd.measures.rules import SphericalRule as SphericalRule
from nbsvd.measures.rules import SquareRule as SquareRule
from nbsvd.measures.stretched import CellsRule as CellsRule
from nbsvd.measures.stretched import Stretched as Stretched
from nbsvd.measures.stretched import StretchedRule as StretchedRule
