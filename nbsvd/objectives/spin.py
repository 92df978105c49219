"""Spectral inference networks: an ordered trace of Rayleigh quotients, made unbiased by two time scales."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from nbsvd._errors import ArgumentError, require
from nbsvd.objectives.moments import check_functions, check_weights
from nbsvd.objectives.nesting import with_gradient
from nbsvd.objectives.running import Real, Remembering, precise

# Shares of the diagonal: what is added, so that rounding can't make the Gram matrix indefinite; and below
# which functions count as linearly dependent on those before them.
RIDGE, DEPENDENT = 1e-13, 1e-12


class SpIN(Remembering):
    r"""The objective of spectral inference networks for a self-adjoint operator.

    With :math:`S = \langle f|f\rangle = CC^{\mathsf T}` (Cholesky), :math:`P = \langle f|Tf\rangle` and
    :math:`\psi = C^{-1} f`, the orthonormalised functions, it maximises

    .. math:: \operatorname{tr} \Lambda = \sum_k \Lambda_{kk}, \qquad \Lambda = C^{-1} P C^{-\mathsf T},

    where component k follows the slope of its own term alone, with those before it held fixed:

    .. math:: \tfrac12 \delta_k = \frac{1}{C_{kk}} \Big( T\psi_k - \sum_{j \le k} \Lambda_{jk}\, \psi_j \Big)
              = \sum_i A_{ik}\, T f_i - \sum_i D_{ik}\, f_i, \quad
              A = C^{-\mathsf T} \operatorname{diag}(C)^{-1},\;
              D = C^{-\mathsf T} \operatorname{triu}\!\big(\Lambda \operatorname{diag}(C)^{-1}\big).

    That field is zero iff every span of :math:`f_{1:k}` is invariant under T, so iff the :math:`\psi_k` are
    eigenfunctions, in whatever order; only the descending order is stable. It belongs to no single loss, does
    not change under ``T + c``, and is orthogonal to :math:`f_k`. The scale of the functions, and what
    :math:`f_k` has of :math:`f_{<k}`, are left to chance: **the answer is** :math:`\psi`, that is
    ``f @ mixture``, and not f.

    **Bias.** On a batch C is a nonlinear function of means, and the second sum a product of two. So S and its
    derivatives by the parameters, :math:`\langle f_i|\partial f_k\rangle`, are averages over past batches,
    and only P is of the present one (bi-level optimisation). At fixed parameters the expected gradient then
    tends to the exact field as ``decay`` tends to 0; what is left is of the order of ``decay / B``. While the
    parameters move the averages lag behind, by about ``1/decay`` steps. With ``decay=1`` it is the plain
    biased estimate from one batch.

    **Cost.** For components with parameters of their own, all :math:`L^2` derivatives come from L backward
    passes (f_i as the cotangent of all components at once), one more is the caller's; L copies of the
    parameters are kept. For components that share parameters it takes L (L + 1) / 2 passes and as many
    copies.

    **Value**: minus the trace, with the averaged S; not a number if that has no inverse, so that a training
    stops. **Gradient**: minus the field above, by ordinary differentiation of the returned scalar, so that it
    scales and adds like any other loss. Derivatives are taken inside the call: f must have its graph.

    Arguments:
        L: number of components.
        model: the module whose parameters f depends on. Its attribute ``component_axis`` says along which
            axis of every parameter the components lie, if each has parameters of its own; ``None`` or no such
            attribute means that they share.
        decay: weight of the present batch in the averages, in (0, 1].

    Raises:
        ArgumentError: ``L < 1``, a decay outside (0, 1], a module without parameters; in a call, shapes that
            differ, a first batch of fewer than L points, or an f without a graph.

    Source: Pfau et al. 2019, section 4 and algorithm 1; theirs starts from S = I and zero derivatives, here
    the first ``1/decay`` batches count alike.

    Example:
        >>> from nbsvd.functions import Table
        >>> table = Table(1, 2, generator=torch.Generator().manual_seed(0))
        >>> T = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64))
        >>> spin = SpIN(1, table, decay=1.0)  # exact sums need no memory
        >>> two = torch.full((2,), 2.0)
        >>> optimizer = torch.optim.SGD(table.parameters(), lr=0.1)
        >>> for _ in range(400):
        ...     f = table(torch.tensor([[0], [1]]))
        ...     loss = spin(f, T @ f, weights=two)
        ...     optimizer.zero_grad()
        ...     loss.backward()
        ...     optimizer.step()
        >>> round(loss.item(), 6)
        -3.0
    """

    gram: Tensor

    def __init__(self, L: int, model: nn.Module, *, decay: Real = 0.01) -> None:
        super().__init__(L, decay)
        require(
            isinstance(model, nn.Module),
            "model",
            got=type(model).__name__,
            expected="an nn.Module, the functions that are trained",
            remedy="SpIN averages derivatives by its parameters.",
        )
        self._parameters_of_f = [p for p in model.parameters() if p.requires_grad]
        require(
            len(self._parameters_of_f) > 0,
            "model",
            got=f"{type(model).__name__} without trainable parameters",
            expected="functions with parameters",
        )
        self.axis: int | None = getattr(model, "component_axis", None)
        first, second = torch.triu_indices(L, L).tolist()
        self._pairs = list(zip(first, second, strict=True))
        if self.axis is not None:
            self._check_axis(self.axis)
        copies = len(self._pairs) if self.axis is None else L
        for n, p in enumerate(self._parameters_of_f):
            self.register_buffer(f"slope_{n}", p.new_zeros(copies, *p.shape))
        self.register_buffer("gram", torch.zeros(L, L, dtype=torch.float64))

    def _check_axis(self, axis: int) -> None:
        require(
            isinstance(axis, int) and not isinstance(axis, bool) and axis >= 0,
            "model",
            got=f"component_axis = {axis!r}",
            expected="an axis of every parameter, counted from 0, or None",
        )
        for p in self._parameters_of_f:
            require(
                p.ndim > axis and p.shape[axis] == self.L,
                "model",
                got=f"a parameter of shape {tuple(p.shape)} with component_axis = {axis}",
                expected=f"{self.L} components along that axis of every parameter",
                remedy="Leave component_axis out where components share parameters.",
            )

    @property
    def slopes(self) -> list[Tensor]:
        r"""Averages of :math:`\langle f_i|\partial f_k\rangle`, by parameter, ``(copies, *shape)``.

        With a component axis, entry i holds them for all k in the blocks of the components; without,
        an entry belongs to one pair ``i <= k``, in the order of ``torch.triu_indices``.
        """
        return [getattr(self, f"slope_{n}") for n in range(len(self._parameters_of_f))]

    def forward(self, f: Tensor, Tf: Tensor, *, weights: Tensor | None = None) -> Tensor:
        """Return minus the trace, with the gradient of the masked field, and move the averages.

        Arguments:
            f: (B, L) values of the components at B points, with their graph.
            Tf: (B, L) values of the operator applied to each; detached inside.
            weights: (B,) importance or quadrature weights, mean convention; ``None`` means the plain mean.
        """
        check_functions("f", f)
        check_functions("Tf", Tf, f)
        weights = check_weights("weights", weights, f)
        self._check_batch(f)
        fixed, Tf = f.detach(), Tf.detach()
        weighted = (fixed if weights is None else weights[:, None] * fixed) / len(f)

        rate = self.rate()
        self.average(self.gram, precise(weighted).mT @ precise(fixed), rate)
        weight = float(rate)  # read once: a GPU waits for it
        for kept, found in zip(zip(*self.slopes, strict=True), self._batch_slopes(f, weighted), strict=True):
            torch._foreach_lerp_(
                list(kept), [new.to(old) for new, old in zip(found, kept, strict=True)], weight
            )

        P = precise(weighted).mT @ precise(Tf)
        A, D, trace = self._coefficients((P + P.mT) / 2)
        images = (Tf if weights is None else weights[:, None] * Tf) @ A.to(Tf) / len(f)
        # Twice each: a change of f_k moves both factors of <f_k|T f_k> and of <f_k|f_k>.
        surrogate = 2 * self._along_slopes(D) - 2 * (images * f).sum()
        return with_gradient(-trace.to(f), surrogate)

    def _check_batch(self, f: Tensor) -> None:
        if f.shape[1] != self.L:
            raise ArgumentError(
                "f", got=f"shape {tuple(f.shape)}", expected=f"shape (B, {self.L}), as L of this SpIN"
            )
        if not f.requires_grad:
            raise ArgumentError(
                "f",
                got="values without a graph",
                expected="values that depend on the parameters of the model",
                remedy="Call the model outside torch.no_grad(), and don't detach.",
            )
        if len(f) < self.L and (self.decay == 1 or int(self.calls) == 0):
            raise ArgumentError(
                "f",
                got=f"a batch of {len(f)} points for {self.L} components",
                expected=f"at least {self.L} points, for a Gram matrix that has an inverse",
                remedy="Use a larger batch.",
            )

    def _batch_slopes(self, f: Tensor, weighted: Tensor) -> Iterator[list[Tensor]]:
        r"""Yield :math:`\langle f_i|\partial f_k\rangle` on this batch, copy by copy."""
        shared = self.axis is None
        for i, k in self._pairs if shared else ((i, None) for i in range(self.L)):
            cotangent = weighted[:, i, None].expand_as(f)
            if k is not None:
                cotangent = torch.zeros_like(f).index_copy_(
                    1, f.new_tensor([k], dtype=torch.int64), cotangent[:, :1]
                )
            found = torch.autograd.grad(
                f, self._parameters_of_f, cotangent, retain_graph=True, allow_unused=True
            )
            require(
                any(slope is not None for slope in found),
                "model",
                got="parameters that f does not depend on",
                expected="the module that f was computed with",
                remedy="Make SpIN with that very module, not with a copy.",
            )
            yield [
                torch.zeros_like(p) if slope is None else slope
                for p, slope in zip(self._parameters_of_f, found, strict=True)
            ]

    def _coefficients(self, P: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return A, D and the trace for the averaged Gram matrix, and keep its mixture."""
        S = self.gram + RIDGE * torch.diag(self.gram.diagonal())
        C, _ = torch.linalg.cholesky_ex(S)
        # What is left of a function without its share of those before it; rounding alone where they depend.
        independent = (C.diagonal() ** 2 > DEPENDENT * S.diagonal()).all()
        inverse = torch.linalg.solve_triangular(C, torch.eye(self.L).to(C), upper=False)
        trace_matrix = inverse @ P.to(inverse) @ inverse.mT
        size = C.diagonal()
        A = inverse.mT / size
        D = inverse.mT @ torch.triu(trace_matrix / size)
        self.mixture.copy_(inverse.mT)
        return A, D, torch.where(independent, trace_matrix.trace(), torch.nan)

    def _along_slopes(self, D: Tensor) -> Tensor:
        """Return a number whose derivatives are ``sum_ik D_ik <f_i|d f_k>``, with averaged derivatives."""
        total = D.new_zeros((), dtype=self._parameters_of_f[0].dtype)
        for parameter, slope in zip(self._parameters_of_f, self.slopes, strict=True):
            if self.axis is None:
                direction = torch.tensordot(D[tuple(torch.triu_indices(self.L, self.L))].to(slope), slope, 1)
            else:
                rows = slope.movedim(self.axis + 1, 1)
                direction = torch.einsum("ik,ik...->k...", D.to(slope), rows).movedim(0, self.axis)
            total = total + (direction * parameter).sum()
        return total
