"""Objectives: pure functions of tensors that a training loop minimises, and the estimators they stand on."""

from nbsvd.objectives.lora import lora_evd as lora_evd
from nbsvd.objectives.lora import lora_svd as lora_svd
from nbsvd.objectives.moments import choose as choose
from nbsvd.objectives.nesting import Masks as Masks
from nbsvd.objectives.nesting import Nesting as Nesting
from nbsvd.objectives.omm import omm as omm
