"""SOAP with one pair of Kronecker factors for each network of a batch."""

import math
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any, overload

import torch
from torch import Tensor

from nbsvd._errors import require


class SOAP(torch.optim.Optimizer):
    r"""Adam in the eigenbasis of Shampoo's preconditioner, separately for each network of a batch.

    For the weight :math:`W` (fan_in, fan_out) of one network and its gradient :math:`G`, at step t,

    .. math::
        A &\leftarrow \beta_s A + (1 - \beta_s) G G^T, \quad C \leftarrow \beta_s C + (1 - \beta_s) G^T G, \\
        G' &= Q_A^T G Q_C, \quad m \leftarrow \beta_1 m + (1 - \beta_1) G', \quad
        v \leftarrow \beta_2 v + (1 - \beta_2) G'^2, \\
        W &\leftarrow W - \eta \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t}
        Q_A \frac{m}{\sqrt v + \epsilon} Q_C^T .

    The columns of :math:`Q_A, Q_C` approximate the eigenvectors of :math:`A, C`: those of the first gradient
    exactly, then one power iteration :math:`Q \leftarrow \mathrm{qr}(A Q)` every ``precondition_frequency``
    steps, with m rotated into the new basis and v reordered with it.

    The first call builds the factors from the first gradient and moves nothing, as the authors' code does.
    A 3-D parameter ``(L, fan_in, fan_out)`` is L matrices that never mix; a 2-D one is a single matrix;
    scalars, vectors and biases ``(L, 1, fan_out)`` get plain Adam. A side of size 1, or larger than
    ``max_precondition_dim``, is not rotated. While a factor has deficient rank (after few gradients),
    rounding decides the basis of its null space: runs on different machines then differ slightly.

    Args:
        params: float32 or float64 parameters of at most three dimensions, or groups of them.
        lr: learning rate :math:`\eta \ge 0`; a group option, so torch's schedulers work.
        betas: decay of the first and second moments, each in [0, 1).
        shampoo_beta: decay of the factors, in [0, 1); ``None`` takes the second of ``betas``.
        eps: added to the denominator, at least 0.
        weight_decay: decoupled: after each step W is multiplied by ``1 - lr * weight_decay``.
        precondition_frequency: steps between two refreshes of the eigenbases, at least 1.
        max_precondition_dim: the largest side that gets a factor; work grows with its cube.

    Raises:
        ArgumentError: a hyperparameter out of range; a parameter that is complex, of half precision or of
            more than three dimensions; a sparse gradient; a first gradient that isn't finite.

    Source: Vyas et al. 2024, "SOAP: Improving and Stabilizing Shampoo using Adam" (arXiv:2409.11321),
    Algorithms 3 and 4.

    Example:
        >>> start = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0))
        >>> weights = torch.nn.Parameter(start)  # of two networks
        >>> optimizer = SOAP([weights], lr=0.1)
        >>> for _ in range(100):
        ...     optimizer.zero_grad()
        ...     loss = (weights**2).sum()
        ...     loss.backward()
        ...     optimizer.step()
        >>> loss.item() < 1  # from 19
        True
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        shampoo_beta: float | None = None,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        precondition_frequency: int = 10,
        max_precondition_dim: int = 1024,
    ) -> None:
        defaults: dict[str, Any] = {"lr": lr, "betas": betas, "shampoo_beta": shampoo_beta, "eps": eps}
        defaults |= {"weight_decay": weight_decay, "precondition_frequency": precondition_frequency}
        super().__init__(params, defaults | {"max_precondition_dim": max_precondition_dim})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own, checked like the constructor's."""
        _check_options({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for p in self.param_groups[-1]["params"]:
            remedy = "Flatten a kernel to a matrix, or give this parameter to another optimizer."
            require(p.ndim <= 3, "params", got=tuple(p.shape), expected="at most 3 dimensions", remedy=remedy)
            real = p.dtype in (torch.float32, torch.float64)
            require(real, "params", got=p.dtype, expected="float32 or float64")

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Make one step; ``closure``, if given, recomputes the loss and its gradients first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            self._adam([p for p in params if self.state[p]], group)
            for p in params:
                self._update_bases(p, group)
        return loss

    def _adam(self, params: list[Tensor], group: dict[str, Any]) -> None:
        """Adam's moments and step in the rotated space; elementwise work is one call for all parameters."""
        if not params:
            return
        (beta1, beta2), lr, states = group["betas"], group["lr"], [self.state[p] for p in params]
        grads = [_rotate(_gradient(p), s) for p, s in zip(params, states, strict=True)]
        moments, squares = [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states]
        torch._foreach_lerp_(moments, grads, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        roots = torch._foreach_sqrt(squares)
        torch._foreach_add_(roots, group["eps"])
        ratios = torch._foreach_div(moments, roots)
        updates = [_rotate(r, s, back=True) for r, s in zip(ratios, states, strict=True)]
        for s in states:
            s["step"] += 1
        scales = [-lr * math.sqrt(1 - beta2 ** s["step"]) / (1 - beta1 ** s["step"]) for s in states]
        torch._foreach_mul_(updates, scales)
        torch._foreach_add_([_as_matrices(p) for p in params], updates)
        if group["weight_decay"]:
            torch._foreach_mul_(params, 1 - lr * group["weight_decay"])

    def _update_bases(self, p: Tensor, group: dict[str, Any]) -> None:
        """Average the factors; find the eigenbases at the first gradient and refresh them when due."""
        state, grad = self.state[p], _gradient(p)
        first = not state
        if first:
            got, remedy = "a gradient with NaN or inf", "Look at the loss and its derivatives at the start."
            require(grad.isfinite().all(), "params", got=got, expected="finite gradients", remedy=remedy)
            zeros = torch.zeros_like(grad, memory_format=torch.contiguous_format)
            state |= {"step": 0, "exp_avg": zeros, "exp_avg_sq": zeros.clone()}
        if p.ndim < 2 or (p.ndim == 3 and p.shape[1] == 1):
            return  # a vector or a bias: plain Adam
        beta = group["betas"][1] if group["shampoo_beta"] is None else group["shampoo_beta"]
        for side, name, a, b in ((-2, "left", grad, grad.mT), (-1, "right", grad.mT, grad)):
            if first and 1 < grad.shape[side] <= group["max_precondition_dim"]:
                state["GG_" + name] = (1 - beta) * (a @ b)
                state["Q_" + name] = torch.linalg.eigh(state["GG_" + name]).eigenvectors.flip(-1)
            elif "GG_" + name in state:
                state["GG_" + name].baddbmm_(a, b, beta=beta, alpha=1 - beta)
                if state["step"] % group["precondition_frequency"] == 0:
                    _refresh(state, side, name)


def _refresh(state: dict[str, Any], side: int, name: str) -> None:
    """One power iteration and QR, columns by falling Rayleigh quotient; the moments follow the new basis."""
    old, m, v = state["Q_" + name], state["exp_avg"], state["exp_avg_sq"]
    image = state["GG_" + name] @ old
    order = (old * image).sum(-2).argsort(-1, descending=True)
    # Contiguous: a product's last bits can depend on the layout, which a checkpoint need not keep.
    new = torch.linalg.qr(image.take_along_dim(order[:, None, :], -1)).Q.contiguous()
    turn = old.mT @ new
    state["Q_" + name] = new
    state["exp_avg"] = turn.mT @ m if side == -2 else m @ turn
    state["exp_avg_sq"] = v.take_along_dim(order[:, :, None] if side == -2 else order[:, None, :], side)


def _rotate(x: Tensor, state: dict[str, Any], *, back: bool = False) -> Tensor:
    left, right = state.get("Q_left"), state.get("Q_right")
    if left is not None:
        x = (left if back else left.mT) @ x
    if right is not None:
        x = x @ (right.mT if back else right)
    return x


def _as_matrices(x: Tensor) -> Tensor:
    """The same numbers as ``(L, fan_in, fan_out)``, sharing memory."""
    return x[(None,) * (3 - x.ndim)]


def _gradient(p: Tensor) -> Tensor:
    grad = p.grad
    assert grad is not None  # for the type checker: step() has sorted out the others
    require(grad.layout == torch.strided, "params", got="a sparse gradient", expected="dense gradients")
    return _as_matrices(grad)


def _check_options(options: dict[str, Any]) -> None:
    for name in ("lr", "eps", "weight_decay"):
        good = isinstance(options[name], Real) and 0 <= options[name] < math.inf
        require(good, name, got=options[name], expected="a finite number >= 0")
    betas, shampoo_beta = options["betas"], options["shampoo_beta"]
    good = isinstance(betas, tuple | list) and len(betas) == 2 and all(map(_is_decay, betas))
    require(good, "betas", got=betas, expected="two numbers in [0, 1)")
    good = shampoo_beta is None or _is_decay(shampoo_beta)
    require(good, "shampoo_beta", got=shampoo_beta, expected="None or a number in [0, 1)")
    for name in ("precondition_frequency", "max_precondition_dim"):
        good = isinstance(options[name], Integral) and options[name] >= 1
        require(good, name, got=options[name], expected="a whole number >= 1")


def _is_decay(value: Any) -> bool:
    return isinstance(value, Real) and bool(0 <= value < 1)  # type: ignore[operator]
