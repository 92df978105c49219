"""Neural eigenfunctions: Rayleigh quotients, less what each function repeats of those before it."""

import torch
from torch import Tensor

from nbsvd._errors import ArgumentError, nearest, require
from nbsvd.objectives.moments import (
    MOMENTS,
    check_functions,
    check_size,
    check_weights,
    inner,
    inner_diagonal,
    product,
)
from nbsvd.objectives.nesting import with_gradient
from nbsvd.objectives.running import Real, Remembering, precise

FLOOR = 1e-6  # share of the largest |R_ii| that a divisor has at least


class NeuralEF(Remembering):
    r"""The objective of neural eigenfunctions for a self-adjoint operator.

    With :math:`\psi_l = f_l/|f_l|` and :math:`R_{il} = \langle\psi_i|T\psi_l\rangle` it maximises

    .. math:: \sum_l J_l, \qquad J_l = R_{ll} - \sum_{i < l} \frac{R_{il}^2}{R_{ii}},

    where :math:`f_l` follows the slope of :math:`J_l` alone, with those before it held fixed:

    .. math:: \delta_l = \frac{2}{|f_l|} \Big( T\psi_l - \sum_{i<l} \frac{R_{il}}{R_{ii}}\, T\psi_i
              - J_l\, \psi_l \Big).

    If T has L positive eigenvalues, the ordered eigenfunctions are the only stable equilibrium of that field;
    other eigenfunctions, and other orders, are unstable ones. The field belongs to no single loss. The
    quotient needs :math:`R_{ii} > 0`: shift an operator whose L largest eigenvalues are not all positive. Of
    a divisor the magnitude is taken, and at least a millionth of the largest: early in a training, or on a
    batch, it may come out negative, and would then reward what it should punish.

    **Unbiased form** (``unbiased=True``). The norms, the divisors :math:`R_{ii}` and the factor :math:`J_l`
    are running averages over *earlier* batches, so numbers as far as this batch is concerned; the product of
    :math:`R_{il}` and its slope is estimated as ``moment`` says. Then the expected gradient is exactly the
    field above, with these numbers in their places. They decide the size of the terms, not where the field is
    zero: at the ordered eigenfunctions its expectation is zero up to a multiple of :math:`f_l`, whatever they
    are. The first batch has no earlier one, and is its own average.

    **Original form** (``unbiased=False``). Norms, divisors and products from the present batch, the slope
    passing through the norms, as published. A quotient of means is biased, of order 1/B.

    In both, T is applied to f, and ``T f`` divided by the norm: the norm is one number while the operator is
    at work. An operator that evaluates f at further points (a difference quotient, say) must not see it
    normalised by each batch of points anew.

    **Value**: minus the sum of the :math:`J_l`, with the norms of the present batch. **Gradient**: minus the
    field, by ordinary differentiation.

    Arguments:
        L: number of components.
        unbiased: which form.
        decay: weight of the present batch in the running averages, in (0, 1]; the original form has none.
            They must follow the norms of f as training changes them, or divisors are too small.
        moment: how products are estimated in the unbiased form: ``"u"`` or ``"split"`` on iid points,
            ``"plain"`` on quadrature; see ``moments.choose``.

    Raises:
        ArgumentError: ``L < 1``, a decay outside (0, 1], an unknown moment; in a call, shapes that differ, or
            fewer than two points for ``"u"`` and ``"split"``.

    Source: Deng, Shi and Zhu 2022, section 3, for kernels; the unbiased form is ours.

    Example:
        >>> f = torch.tensor(
        ...     [[2.0], [0.0]], requires_grad=True
        ... )  # T = diag(3, 1), two points of weight 1
        >>> neuralef = NeuralEF(1, moment="plain")
        >>> loss = neuralef(f, torch.tensor([[6.0], [0.0]]), weights=torch.full((2,), 2.0))
        >>> loss.backward()
        >>> loss.item(), f.grad.abs().max().item()
        (-3.0, 0.0)
    """

    squared: Tensor
    rayleigh: Tensor
    score: Tensor

    def __init__(self, L: int, *, unbiased: bool = True, decay: Real = 0.1, moment: str = "u") -> None:
        super().__init__(L, decay)
        require(
            isinstance(unbiased, bool),
            "unbiased",
            got=repr(unbiased),
            expected="True, or False for the original form",
        )
        self.unbiased, self.moment = unbiased, nearest("moment", moment, MOMENTS)
        for name in ("squared", "rayleigh", "score"):  # of f: <f|f>, <f|T f>, J <f|f>
            self.register_buffer(name, torch.zeros(L, dtype=torch.float64))

    def forward(self, f: Tensor, Tf: Tensor, *, weights: Tensor | None = None) -> Tensor:
        """Return minus the sum of the scores, with the gradient of the field, and move the averages.

        Arguments:
            f: (B, L) values of the components at B points.
            Tf: (B, L) values of the operator applied to each; detached inside.
            weights: (B,) importance or quadrature weights, mean convention; ``None`` means the plain mean.
        """
        check_functions("f", f)
        check_functions("Tf", Tf, f)
        if f.shape[1] != self.L:
            raise ArgumentError(
                "f", got=f"shape {tuple(f.shape)}", expected=f"shape (B, {self.L}), as L of this NeuralEF"
            )
        weights, Tf = check_weights("weights", weights, f), Tf.detach()
        if not self.unbiased:
            return self._original(f, Tf, weights)
        check_size(len(f), self.moment)
        return self._unbiased(f, Tf, weights)

    def _unbiased(self, f: Tensor, Tf: Tensor, weights: Tensor | None) -> Tensor:
        fixed = f.detach()
        linear = inner_diagonal(f, Tf, weights)
        repeated = product(fixed, Tf, Tf, f, weights=(weights, weights), moment=self.moment)
        own = inner_diagonal(fixed, f, weights)

        batch = torch.stack([precise(own), precise(linear)])
        kept = torch.stack([self.squared, self.rayleigh])
        first = self.calls == 0
        squared, rayleigh = torch.where(first, batch, kept)
        divisor = _positive(rayleigh, squared)
        past = torch.triu((1 / divisor)[:, None].expand(self.L, self.L), 1).to(f)
        scores = linear - (past * repeated).sum(0)
        score = torch.where(first, precise(scores), self.score)

        rate = self.rate()
        for name, found in (("squared", batch[0]), ("rayleigh", batch[1]), ("score", precise(scores))):
            self.average(getattr(self, name), found, rate)

        size, J = squared.to(f), (score / squared).to(f)
        surrogate = (linear - (past * repeated).sum(0) - J * own) / size
        return with_gradient(-(scores / own).sum(), -2 * surrogate.sum())

    def _original(self, f: Tensor, Tf: Tensor, weights: Tensor | None) -> Tensor:
        size = inner_diagonal(f, f, weights).sqrt()
        psi, image = f / size, Tf / size.detach()
        R = inner(psi.detach(), image, weights)
        divisor = _positive(R.diagonal(), torch.ones_like(R.diagonal()))
        past = torch.triu((1 / divisor)[:, None].expand(self.L, self.L), 1)
        linear = inner_diagonal(psi, image, weights)
        repeated = past * R * inner(image, psi, weights)
        return with_gradient((repeated.sum() - linear.sum()), 2 * (repeated.sum() - linear.sum()))


def _positive(rayleigh: Tensor, squared: Tensor) -> Tensor:
    """Return the magnitudes of ``<f|T f>``, none below a small share of the largest, norm by norm."""
    quotients = (rayleigh / squared).abs()
    least = (FLOOR * quotients.max()).clamp_min(torch.finfo(quotients.dtype).tiny)
    return squared * torch.maximum(quotients, least)
