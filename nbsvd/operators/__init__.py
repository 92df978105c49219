"""What we decompose: operators with an algebra, each able to apply itself to functions at nodes."""

from nbsvd.operators.base import Operator as Operator
from nbsvd.operators.base import Scaled as Scaled
from nbsvd.operators.base import Shifted as Shifted
from nbsvd.operators.base import Sum as Sum
from nbsvd.operators.conditional import Conditional as Conditional
from nbsvd.operators.differential import Schrodinger as Schrodinger
from nbsvd.operators.integral import Integral as Integral
from nbsvd.operators.matrix import Matrix as Matrix
