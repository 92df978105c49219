r"""Value, gradient and Laplacian of disjoint networks by one pass forward and one back.

A network with a single output, ``f = c . h_K + b`` with ``h_k = s(a_k)``, ``a_k = W_k^T h_{k-1} + b_k``, has

.. math:: \nabla f = \sum_i (u_0)_i \nabla (h_0)_i, \qquad
          \Delta f = \sum_i (u_0)_i \Delta (h_0)_i
                     + \sum_{k=1}^K \sum_i (u_k)_i \, s''((a_k)_i) \, |\nabla (a_k)_i|^2,

where :math:`u_k = \partial f / \partial h_k`: the Laplacian of a composition is a sum over the places where
it bends, and :math:`u_k` says what a bend in layer k is worth at the output. The derivatives of the weights
need the same :math:`u_k`, each point times the slope of the loss there. So only values and gradients go
forward, the Laplacian costs no product of matrices, and backward is left with one product a layer instead of
two: ``d + 3`` in all, where carrying the Laplacian forward, as :mod:`nbsvd.functions.jet` does for every
other composition, takes ``d + 4``.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nbsvd.functions.activations import ACTIVATIONS


class DisjointJet(torch.autograd.Function):
    """The jet of L perceptrons with one output each; only its value is differentiated, once.

    Arguments:
        x: inputs of the first layer at B points, ``(B, n)``, the same for all networks.
        streams: their d partial derivatives and Laplacians, ``(d + 1, B, n)``; ``None`` if the inputs are the
            coordinates themselves.
        activation: a name in ``ACTIVATIONS``.
        layers: weight ``(L, n, m)`` and bias ``(L, 1, m)`` of each layer in turn, the head last, with m = 1.

    Returns:
        the values, ``(L, B)``, and the derivatives, ``(L, B, d + 1)``.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, streams: Tensor | None, activation: str, *layers: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return values and derivatives."""
        value, derivatives = ACTIVATIONS[activation]
        weights, biases = layers[:-2:2], layers[1:-2:2]
        h = x.expand(len(weights[0]), *x.shape)
        inputs: list[Tensor] = []
        firsts: list[Tensor] = []
        bends: list[Tensor] = []
        slopes = weights[0][:, :, None] if streams is None else _through(streams[:-1], weights[0])
        for k, (W, b) in enumerate(zip(weights, biases, strict=True)):
            if k > 0:
                slopes = slopes.mul_(firsts[-1][:, None]) if k > 1 else slopes * firsts[-1][:, None]
                slopes = torch.bmm(slopes.flatten(1, 2), W).unflatten(1, slopes.shape[1:3])
            a = torch.baddbmm(b, h, W)
            inputs.append(h)
            h = value(a)
            first, second = derivatives(a, h, 2)
            assert second is not None
            firsts.append(first)
            bends.append(second.mul_(_squared(slopes)))
        c = layers[-2].mT
        out = (h * c).sum(-1).add_(layers[-1][:, 0])

        u, laplacian = c, torch.zeros_like(out)
        for W, first, bend in zip(weights[::-1], firsts[::-1], bends[::-1], strict=True):
            laplacian.add_(bend.mul_(u).sum(-1))
            u = torch.bmm(first.mul_(u), W.mT)  # from here on what was s'(a) is the derivative of f by a
        if streams is None:
            found = torch.cat([u, laplacian[..., None]], -1)
        else:
            found = torch.einsum("lbn,sbn->lbs", u, streams)
            found[..., -1].add_(laplacian)
        ctx.mark_non_differentiable(found)
        ctx.save_for_backward(*inputs, h, *firsts, u)
        return out, found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        """Return the derivatives by inputs and layers."""
        *saved, u = ctx.saved_tensors
        count = len(saved) // 2
        inputs, h, firsts = saved[:count], saved[count], saved[count + 1 :]
        g = grad[:, None]
        found: list[Tensor | None] = []
        for before, by_a in zip(inputs, firsts, strict=True):
            scaled = by_a * g.mT
            found += [torch.bmm(before.mT, scaled), scaled.sum(1, keepdim=True)]
        found += [torch.bmm(g, h).mT, g.sum(2, keepdim=True)]
        by_x = torch.einsum("lbn,lb->bn", u, grad) if ctx.needs_input_grad[0] else None
        return by_x, None, None, *found


def _through(streams: Tensor, W: Tensor) -> Tensor:
    """Return the streams ``(s, B, n)``, which all networks share, times each weight: ``(L, s, B, m)``."""
    rows = streams.flatten(0, 1)
    products: Tensor = torch.bmm(rows.expand(len(W), *rows.shape), W)
    return products.view(len(W), *streams.shape[:2], -1)


def _squared(slopes: Tensor) -> Tensor:
    """Return the squared length of the gradients, ``(L, B, m)``, from the slopes ``(L, d, B, m)``."""
    axes = slopes.unbind(1)
    total = axes[0] * axes[0]
    for slope in axes[1:]:
        total.addcmul_(slope, slope)
    return total
