"""From plain data back to modules: what a saved result is rebuilt with."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from nbsvd._errors import nearest, require
from nbsvd.functions.ansatz import (
    BoxFactor,
    DecayFactor,
    GaussianFactor,
    ProductFactor,
    SumFactor,
    WithFactor,
)
from nbsvd.functions.constant import ConstantFirst
from nbsvd.functions.envelope import Envelope
from nbsvd.functions.features import Features, Joined
from nbsvd.functions.networks import MLP
from nbsvd.functions.table import Table

MODULES: dict[str, type[nn.Module]] = {
    module.__name__: module
    for module in (
        MLP,
        Table,
        Features,
        Joined,
        WithFactor,
        ConstantFirst,
        BoxFactor,
        DecayFactor,
        GaussianFactor,
        Envelope,
        ProductFactor,
        SumFactor,
    )
}
DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def from_config(config: Mapping[str, Any], *, generator: torch.Generator | None = None) -> nn.Module:
    """Build the module that ``module.config()`` describes.

    The config carries the structure and the dtype; the numbers come with ``load_state_dict``, after which the
    outputs are those of the original, bit for bit.

    Arguments:
        config: plain data with a ``"name"``, as ``config()`` of a network, a factor or features returns it.
        generator: source of the initial weights, which ``load_state_dict`` will replace.

    Raises:
        ArgumentError: no name, or an unknown one; an unknown dtype.

    Example:
        >>> net = MLP(3, 2, widths=(4,), generator=torch.Generator().manual_seed(0))
        >>> net = WithFactor(net, DecayFactor(2.0) * BoxFactor(5.0)).double()
        >>> copy = from_config(net.config())
        >>> copy.load_state_dict(net.state_dict())
        <All keys matched successfully>
        >>> x = torch.ones(1, 2, dtype=torch.float64)
        >>> torch.equal(copy(x), net(x))
        True
    """
    require(
        isinstance(config, Mapping) and "name" in config,
        "config",
        got=config,
        expected='a dictionary with a "name", from config()',
    )
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    name = nearest("name", config["name"], MODULES)
    arguments = {
        key: _built(value, generator) for key, value in config.items() if key not in ("name", "dtype")
    }
    if name in ("MLP", "Table", "Features"):
        arguments["generator"] = generator
    module = MODULES[name](**arguments)
    if "dtype" in config:
        module = module.to(DTYPES[nearest("dtype", config["dtype"], DTYPES)])
    return module


def _built(value: Any, generator: torch.Generator) -> Any:
    """Build what is described inside a config, and leave other data as they are."""
    if isinstance(value, Mapping):
        return from_config(value, generator=generator)
    if isinstance(value, list):
        return [_built(entry, generator) for entry in value]
    return value
