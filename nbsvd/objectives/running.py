"""Running averages of inner products, for the objectives that remember."""

import torch
from torch import Tensor, nn

from nbsvd._errors import require

Real = float | int


class Remembering(nn.Module):
    """Base of the objectives that carry averages from step to step.

    All of them are called as ``objective(f, Tf, weights=...)`` on one batch after another and return a scalar
    to be minimised. Each call moves the averages once. As a module, one has a ``state_dict``, its averages in
    full, and goes to a device by ``.to(...)``.

    Attributes:
        mixture: (L, L); the functions that the objective is about are ``f @ mixture``, up to their sizes.

    Arguments:
        L: number of components.
        decay: weight of the present batch in an average, in (0, 1]; during the first ``1/decay`` calls it is
            the plain mean of all so far. With 1 there is no memory.
    """

    mixture: Tensor
    calls: Tensor

    def __init__(self, L: int, decay: Real) -> None:
        super().__init__()
        require(
            isinstance(L, int) and not isinstance(L, bool) and L >= 1,
            "L",
            got=repr(L),
            expected="an integer, at least 1",
            remedy="It is the number of components.",
        )
        require(
            isinstance(decay, Real) and not isinstance(decay, bool) and 0 < decay <= 1,
            "decay",
            got=repr(decay),
            expected="a number above 0, at most 1",
            remedy="It is the weight of the present batch in the running averages; 1 forgets all others.",
        )
        self.L, self.decay = L, float(decay)
        self.register_buffer("mixture", torch.eye(L, dtype=torch.float64))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def rate(self) -> Tensor:
        """Count a call and return the weight that its batch gets, a scalar tensor in float64."""
        self.calls += 1
        return (1.0 / self.calls.to(self.mixture.dtype)).clamp_min(self.decay)

    def average(self, kept: Tensor, batch: Tensor, rate: Tensor) -> None:
        """Move an average towards what the present batch says, in place."""
        with torch.no_grad():
            kept.lerp_(batch.detach().to(kept), rate.to(kept))


def precise(x: Tensor) -> Tensor:
    """Return a small tensor, detached, in float64 where the device has it."""
    return x.detach() if x.device.type == "mps" else x.detach().double()
