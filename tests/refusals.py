"""What a refusal must be like: shared by the tables of bad input."""

import re

import pytest
import torch

from nbsvd import ArgumentError, Integral
from nbsvd.functions import MLP
from nbsvd.measures import Gaussian
from nbsvd.spectrum import Result, replicate


def raised(call):
    with pytest.raises(ArgumentError) as caught:
        call()
    return caught.value


def check(call, argument, got="", expected="", remedy=""):
    """Call, and look for parts of what the error must say: what came, what was expected, the remedy."""
    error = raised(call)
    assert isinstance(error, ValueError)
    assert error.argument == argument
    for part, said in ((got, error.got), (expected, error.expected), (remedy, error.remedy)):
        assert part in str(said), f"{part!r} not in {said!r}"
    assert str(error).startswith(f"{argument}: got {error.got}; expected {error.expected}.")
    assert str(error).endswith(error.remedy)
    assert len(str(error)) > len(argument) + 20


def told(call):
    """Whether the error says what to do; in any case it must be a sentence."""
    error = raised(call)
    assert re.fullmatch(r"[^:]+: got .+; expected .+[.?]", str(error), re.DOTALL), str(error)
    return bool(error.remedy)


def flat(rooms):
    """One table of several."""
    return {f"{room}: {name}": row for room, rows in rooms.items() for name, row in rows.items()}


def untrained():
    """A result on a line, for what results refuse."""
    T, law = Integral(lambda x, y: torch.exp(-((x - y.t()) ** 2)), Gaussian(1)), Gaussian(1)
    net = MLP(1, 1, widths=(3,), generator=torch.Generator().manual_seed(0)).double()
    parts = replicate(T, net, net, law, law, generator=torch.Generator(), replicates=1, n=50)
    return Result.from_models(net, net, parts, operator=T, measure_x=law, measure_y=law)
