"""The ordered singular functions of an operator, as the minimiser of one unconstrained objective."""

from importlib.metadata import version as _version

from nbsvd import problems as problems
from nbsvd._budget import budget as budget
from nbsvd._errors import ArgumentError as ArgumentError
from nbsvd._errors import TrainingDiverged as TrainingDiverged
from nbsvd.koopman import Koopman as Koopman
from nbsvd.measures import Pairs as Pairs
from nbsvd.objectives import Nesting as Nesting
from nbsvd.objectives import NeuralEF as NeuralEF
from nbsvd.objectives import SpIN as SpIN
from nbsvd.objectives import lora_evd as lora_evd
from nbsvd.objectives import lora_svd as lora_svd
from nbsvd.objectives import omm as omm
from nbsvd.operators import Conditional as Conditional
from nbsvd.operators import Integral as Integral
from nbsvd.operators import Matrix as Matrix
from nbsvd.operators import Schrodinger as Schrodinger
from nbsvd.problems import Problem as Problem
from nbsvd.solve import eigsh as eigsh
from nbsvd.solve import load as load
from nbsvd.solve import solve as solve
from nbsvd.solve import svds as svds
from nbsvd.spectrum import Result as Result

__version__ = _version("nbsvd")
