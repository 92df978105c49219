"""The gradients of the rivals written down a second time, slowly: ``rivals_step`` checks before it times.

Each function takes values f and T f at B points and weights in the mean convention, and returns the field
``delta`` (B, L): the derivative of the objective by the values of f, so that the derivative by a parameter is
``sum_bl delta_bl * (derivative of f_l(x_b))``. Products of two means go over all pairs of different points.
"""

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from nbsvd.objectives.nesting import Nesting, with_gradient
from nbsvd.objectives.running import Remembering


def pairs(w: Tensor, a: Tensor, c: Tensor, out: Tensor, share: Tensor) -> Tensor:
    """``sum_i share_il mean over c != b of w_b w_c a_i(c) c_l(c) out_i(b)``, over B: (B, L)."""
    size = len(w)
    others = (1 - torch.eye(size, dtype=w.dtype)) * w[:, None] * w / (size * (size - 1))
    terms = torch.einsum("ci,cl->cil", a, c)
    means = torch.einsum("bc,cil->bil", others, terms)  # for each b the mean over the others
    return torch.einsum("il,bil,bi->bl", share, means, out)


def lora(f: Tensor, Tf: Tensor, w: Tensor, nesting: Nesting) -> Tensor:
    linear = nesting.vector.to(f) * w[:, None] * Tf / len(f)
    return -4 * linear + 4 * pairs(w, f, f, f, nesting.matrix.to(f))


def omm(f: Tensor, Tf: Tensor, w: Tensor, nesting: Nesting, c: float) -> Tensor:
    """Order 1, of ``(c - T)^-1``: the Gram matrix is that of ``(c - T) f``, the form that of f."""
    image, matrix = c * f - Tf, nesting.matrix.to(f)
    linear = nesting.vector.to(f) * w[:, None] * f / len(f)
    return -4 * linear + 2 * (pairs(w, image, f, f, matrix) + pairs(w, f, f, image, matrix))


def omm_powers(f: Tensor, Tf: Tensor, w: Tensor, c: float, p: int) -> Tensor:
    """Any order, joint nesting with equal weights, plain means: level by level, power by power."""
    total = torch.zeros_like(f)
    image, wf = c * f - Tf, w[:, None] * f / len(f)
    for level in range(1, f.shape[1] + 1):
        S, P = (torch.linalg.multi_dot([a[:, :level].T, wf[:, :level]]) for a in (image, f))
        by_S, by_P = torch.zeros_like(S), torch.zeros_like(P)
        for k in range(1, 2 * p + 1):
            sign = math.comb(2 * p, k) * (-1) ** k
            power = torch.linalg.matrix_power
            by_P += sign * power(S, k - 1).T  # of tr S^(k-1) P
            for j in range(k - 1):
                by_S += sign * (power(S, j) @ P @ power(S, k - 2 - j)).T
        for by, a in (by_S, image), (by_P, f):
            total[:, :level] += w[:, None] * a[:, :level] @ (by + by.T) / len(f) / f.shape[1]
    return total


def neuralef(f: Tensor, Tf: Tensor, w: Tensor) -> Tensor:
    """The unbiased form on its first batch, which is its own average."""
    own, quotient = ((w[:, None] * f * g).mean(0) for g in (f, Tf))
    past = torch.triu((1 / floored(quotient, own))[:, None].expand(len(own), len(own)), 1)
    size = len(f)
    repeated = past * (size * mean(f, Tf, w) * mean(Tf, f, w) - mean(w[:, None] * f * Tf, Tf * f, w))
    J = (quotient - repeated.sum(0) / (size - 1)) / own
    along = w[:, None] * (Tf - J * f) / size - pairs(w, f, Tf, Tf, past)
    return -2 * along / own


def neuralef_original(f: Tensor, Tf: Tensor, w: Tensor) -> Tensor:
    """The original form: quotients of this batch's means, and the slope through its norms."""
    norm = (w[:, None] * f**2).mean(0).sqrt()
    psi, image = f / norm, Tf / norm
    R = mean(psi, image, w)
    past = torch.triu(R / floored(R.diagonal(), torch.ones_like(norm))[:, None], 1)
    slope = image - image @ past
    slope = slope - psi * (w[:, None] * psi * slope).mean(0)  # what a change of length would give
    return -2 * w[:, None] * slope / norm / len(f)


def spin(f: Tensor, Tf: Tensor, w: Tensor) -> Tensor:
    """On its first batch, which is its own average: from the orthonormalised functions."""
    C = torch.linalg.cholesky(mean(f, f, w))
    psi, image = (torch.linalg.solve_triangular(C, a.T, upper=False).T for a in (f, Tf))
    P = mean(f, Tf, w)
    between = torch.linalg.solve_triangular(C, (P + P.T) / 2, upper=False)
    between = torch.linalg.solve_triangular(C, between.T, upper=False)
    slope: Tensor = (image - psi @ torch.triu(between)) / C.diagonal()
    return -2 * w[:, None] * slope / len(f)


def mean(a: Tensor, b: Tensor, w: Tensor) -> Tensor:
    """``<a_i|b_l>``."""
    return (w[:, None] * a).T @ b / len(w)


def floored(quotient: Tensor, own: Tensor) -> Tensor:
    """The magnitude of a divisor, at least a millionth of the largest."""
    size = (quotient / own).abs()
    floor: Tensor = own * size.clamp_min(1e-6 * float(size.max()))
    return floor


class Together(nn.Module):
    """Functions that don't say which parameters belong to which component."""

    component_axis = None

    def __init__(self, functions: nn.Module) -> None:
        super().__init__()
        self.functions = functions


class NaiveSpIN(Remembering):
    """SpIN as one writes it down first: derivatives of each function at each point by all parameters.

    From those, ``(B, L, all parameters)``, the derivatives of the Gram matrix are put together, and their
    average is kept: ``(L, L, all parameters)``. Value and gradient are those of ``nbsvd.SpIN``.
    """

    gram: Tensor

    def __init__(self, L: int, functions: nn.Module, *, decay: float = 0.01) -> None:
        super().__init__(L, decay)
        self.functions = [functions]  # in a list: they are no part of the objective
        self.register_buffer("gram", torch.zeros(L, L, dtype=torch.float64))
        for n, p in enumerate(functions.parameters()):
            self.register_buffer(f"slope_{n}", p.new_zeros(L, L, *p.shape))

    def derivatives(self, x: Tensor) -> dict[str, Tensor]:
        """``(B, L, *shape)`` for each parameter."""
        [functions] = self.functions

        def at(parameters: dict[str, Tensor], point: Tensor) -> Tensor:
            found: Tensor = functional_call(functions, parameters, (point[None],))[0]
            return found

        fixed = {name: p.detach() for name, p in functions.named_parameters()}
        found: dict[str, Tensor] = vmap(jacrev(at), (None, 0))(fixed, x)
        return found

    def slopes(self) -> list[Tensor]:
        """The averages of ``<f_i|derivative of f_k>``, ``(L, L, *shape)`` for each parameter."""
        return [b for name, b in self.named_buffers() if name.startswith("slope_")]

    def forward(self, f: Tensor, Tf: Tensor, *, weights: Tensor, x: Tensor) -> Tensor:
        """Minus the trace, for values at the points x."""
        rate = self.rate()
        weighted, Tf = weights[:, None] * f.detach() / len(f), Tf.detach()
        for kept, found in zip(self.slopes(), self.derivatives(x).values(), strict=True):
            self.average(kept, torch.einsum("bi,bk...->ik...", weighted, found), rate)
        self.average(self.gram, weighted.T @ f, rate)
        C = torch.linalg.cholesky(self.gram)
        inverse = torch.linalg.inv(C)
        P = (weighted.T @ Tf).double()
        between = inverse @ (P + P.T) / 2 @ inverse.T
        A = (inverse.T / C.diagonal()).to(f)
        D = (inverse.T @ torch.triu(between / C.diagonal())).to(f)
        along = f.new_zeros(())
        for slope, p in zip(self.slopes(), self.functions[0].parameters(), strict=True):
            along = along + (torch.einsum("ik,ik...->...", D, slope) * p).sum()
        images = weights[:, None] * (Tf @ A) / len(f)
        return with_gradient(-between.trace().to(f), 2 * along - 2 * (images * f).sum())
