"""Objectives that a training loop minimises, and the estimators they stand on.

``lora_evd``, ``lora_svd`` and ``omm`` are pure functions of tensors; ``SpIN`` and ``NeuralEF`` remember.
"""

from nbsvd.objectives.lora import lora_evd as lora_evd
from nbsvd.objectives.lora import lora_svd as lora_svd
from nbsvd.objectives.moments import choose as choose
from nbsvd.objectives.nesting import Masks as Masks
from nbsvd.objectives.nesting import Nesting as Nesting
from nbsvd.objectives.neuralef import NeuralEF as NeuralEF
from nbsvd.objectives.omm import omm as omm
from nbsvd.objectives.running import Remembering as Remembering
from nbsvd.objectives.spin import SpIN as SpIN
