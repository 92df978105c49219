"""How we minimise: settings, optimizers, the Ritz start, and the visible loop."""

from nbsvd.training.optimizers import OPTIMIZERS as OPTIMIZERS
from nbsvd.training.settings import PRESETS as PRESETS
from nbsvd.training.settings import Settings as Settings
from nbsvd.training.soap import SOAP as SOAP
from nbsvd.training.start import Start as Start
from nbsvd.training.start import ritz_start as ritz_start
from nbsvd.training.trainer import Trainer as Trainer
from nbsvd.training.trainer import train as train
