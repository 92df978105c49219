"""A problem and the functions it is to be solved with: where they live, what they are made of."""

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nbsvd._errors import require
from nbsvd.functions import ConstantFirst, Table, WithFactor
from nbsvd.measures import Counting, Measure
from nbsvd.problems import Problem
from nbsvd.training.choices import Choices
from nbsvd.training.compiled import Compiled
from nbsvd.training.frame import Frame, find_frame, unframed
from nbsvd.training.models import Pair, default_network
from nbsvd.training.objective import Inverse
from nbsvd.training.settings import Settings


class Prepared:
    """A problem, its functions and its settings, before any step."""

    def __init__(self, problem: Problem, k: int, choices: Choices, settings: Settings, began: float) -> None:
        self.problem, self.k, self.choices, self.settings, self.began = problem, k, choices, settings, began
        self.generator = torch.Generator().manual_seed(choices.seed)
        self.frame = self._frame()
        if self.frame is not None:
            problem = self.problem = self.frame.applied(problem)
        pairs = problem.operator.pairs
        self.parts = None if pairs is None else pairs.parts()
        self.symmetric = problem.operator.self_adjoint
        right = self._functions(self.laws[0])
        left = right if self.symmetric else self._functions(self.laws[1])
        self.pair = Pair(right, left)
        self.operator, self.shift = problem.operator, 0.0
        self.inverse: Inverse | None = None
        self.compiled: Compiled | None = None

    def _frame(self) -> Frame | None:
        """Find where the functions live, for a problem that leaves that to us and with a network of ours.

        Variable projection finds it also where a round decay is declared: nothing is then set by hand.
        """
        c = self.choices
        leaves = unframed(self.problem, plain=c.method == "varpro")
        if not isinstance(c.network, Mapping) or c.preset is not None or not leaves:
            return None
        return find_frame(self.problem, self.k, self.generator)

    @property
    def laws(self) -> tuple[Measure, Measure]:
        """What networks are scaled to: both measures, of pairs as they are in the part trained on."""
        if self.parts is None:
            return self.problem.measure, self.problem.left_measure
        return self.parts.train.first, self.parts.train.second

    @property
    def threshold(self) -> float:
        """The top of the continuous spectrum, as far as it is known."""
        return -math.inf if self.frame is None else self.frame.threshold

    def _functions(self, measure: Measure) -> nn.Module:
        """Make the functions of one side: a table, our network, or one of the user's times the ansatz."""
        if isinstance(measure, Counting):
            return Table(self.k, measure.n, generator=self.generator)
        c = self.choices
        if isinstance(c.network, Mapping):
            return self._placed(default_network(self.problem, measure, self.k, self.generator, c.network))
        module = c.network(self.generator)
        require(
            isinstance(module, nn.Module),
            "network",
            got=type(module).__name__,
            expected="an nn.Module",
            remedy="Let the function return the module itself.",
        )
        if self.problem.ansatz is not None and measure.same_as(self.problem.measure):
            module = WithFactor(module, copy.deepcopy(self.problem.ansatz))
        module = self._placed(module)
        probe = measure.nodes(4, kind="iid", generator=torch.Generator().manual_seed(0))
        f = module(probe.to(dtype=c.dtype, device=c.device).x)
        require(
            isinstance(f, Tensor) and f.shape == (len(probe), self.k),
            "network",
            got=f"values of shape {tuple(f.shape)} at {len(probe)} points"
            if isinstance(f, Tensor)
            else type(f).__name__,
            expected=f"shape ({len(probe)}, {self.k}): one column for each of the k components",
            remedy=f"Let its last layer have {self.k} outputs.",
        )
        return module

    def _placed(self, module: nn.Module) -> nn.Module:
        module = module if self.parts is None else ConstantFirst(module, self.k)
        return module.to(device=self.choices.device, dtype=self.choices.dtype)

    def _stand_in(self) -> tuple[nn.Module, nn.Module]:
        """Make networks of ours, for what has to be known of the spectrum where the user's have no basis."""
        p, options = self.problem, {"widths": (32, max(32, 2 * self.k))}
        right = self._placed(default_network(p, self.laws[0], self.k, self.generator, options))
        if self.symmetric:
            return right, right
        return right, self._placed(default_network(p, self.laws[1], self.k, self.generator, options))

    def _sketch(self, right: Table, left: Table) -> None:
        """Let the untrained bases be images of a random table: the range finder of a randomized SVD."""
        T = self.problem.operator
        x = self.problem.measure.nodes(1, kind="quadrature")
        y = self.problem.left_measure.nodes(1, kind="quadrature")
        left.trial = torch.linalg.qr(T.apply(right.first_basis, y.x, x).to(left.trial)).Q
        if not self.symmetric:
            right.trial = torch.linalg.qr(T.adjoint.apply(left.first_basis, x.x, y).to(right.trial)).Q
