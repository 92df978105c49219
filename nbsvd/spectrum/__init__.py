"""What we get: values with error bars, functions that evaluate anywhere, figures, and files."""

from nbsvd.spectrum.history import History as History
from nbsvd.spectrum.moments import Moments as Moments
from nbsvd.spectrum.moments import replicate as replicate
from nbsvd.spectrum.pencils import pencil as pencil
from nbsvd.spectrum.pencils import singular_pencil as singular_pencil
from nbsvd.spectrum.result import Result as Result
from nbsvd.spectrum.spectrum import Spectrum as Spectrum
