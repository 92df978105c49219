"""What we integrate: networks, features and ansatz factors, with derivatives carried forward."""

from nbsvd.functions.activations import ACTIVATIONS as ACTIVATIONS
from nbsvd.functions.ansatz import BoxFactor as BoxFactor
from nbsvd.functions.ansatz import DecayFactor as DecayFactor
from nbsvd.functions.ansatz import Factor as Factor
from nbsvd.functions.ansatz import GaussianFactor as GaussianFactor
from nbsvd.functions.ansatz import ProductFactor as ProductFactor
from nbsvd.functions.ansatz import SqrtDensity as SqrtDensity
from nbsvd.functions.ansatz import SumFactor as SumFactor
from nbsvd.functions.ansatz import WithFactor as WithFactor
from nbsvd.functions.build import from_config as from_config
from nbsvd.functions.constant import ConstantFirst as ConstantFirst
from nbsvd.functions.envelope import Envelope as Envelope
from nbsvd.functions.features import Features as Features
from nbsvd.functions.features import Joined as Joined
from nbsvd.functions.jet import Jet as Jet
from nbsvd.functions.jet import Pointwise as Pointwise
from nbsvd.functions.jet import functional_jet as functional_jet
from nbsvd.functions.jet import jet_of as jet_of
from nbsvd.functions.networks import MLP as MLP
from nbsvd.functions.networks import BatchedLinear as BatchedLinear
from nbsvd.functions.table import Table as Table
