"""What derivatives are judged by: reverse mode, once for each entry of the Hessian's diagonal."""

import torch


def jet_by_autograd(function, x):
    """Value (B, L), gradient (d, B, L) and Laplacian (B, L) of a function at x (B, d), with their graphs."""
    x = x.detach().requires_grad_()
    value = function(x)
    gradients, laplacians = [], []

    def slope(y):
        return torch.autograd.grad(y.sum(), x, create_graph=True, materialize_grads=True)[0]

    for component in value.unbind(1):
        gradient = slope(component)
        gradients.append(gradient.t())
        zero = torch.zeros_like(component)
        second = [slope(g)[:, i] if g.requires_grad else zero for i, g in enumerate(gradient.unbind(1))]
        laplacians.append(torch.stack(second).sum(0))
    return value, torch.stack(gradients, -1), torch.stack(laplacians, -1)


def relative(a, b):
    """Largest difference over the largest entry of the reference b."""
    assert a.shape == b.shape
    scale = float(b.detach().abs().max())
    return float((a - b).detach().abs().max()) / (scale or 1.0)


def assert_jet(jet, function, x, bound=1e-10):
    """Compare a jet with automatic differentiation of ``function``, entry by entry."""
    value, gradient, laplacian = jet_by_autograd(function, x)
    assert relative(jet.value, value) <= 1e-13
    assert relative(jet.gradient, gradient) <= bound
    assert relative(jet.laplacian, laplacian) <= bound


def assert_live(module, x, bound=1e-9):
    """Compare the parameter gradient of a random combination of all derivatives with autograd's."""
    parameters = list(module.parameters())
    jet = module.jet(x, live=True)
    expected = jet_by_autograd(module, x)
    mix = [torch.randn(part.shape, generator=torch.Generator().manual_seed(7)).to(part) for part in expected]

    def gradients(parts):
        total = sum((part * m).sum() for part, m in zip(parts, mix, strict=True))
        return torch.autograd.grad(total, parameters, materialize_grads=True, allow_unused=True)

    ours = gradients((jet.value, jet.gradient, jet.laplacian))
    for mine, theirs in zip(ours, gradients(expected), strict=True):
        assert relative(mine, theirs) <= bound


def assert_value_only(module, x):
    """With live=False nothing of the derivatives is in the graph: backward is that of the plain values."""
    jet = module.jet(x)
    assert not jet.derivatives.requires_grad
    parameters = list(module.parameters())
    if not parameters:
        return
    plain = module(x)
    weight = torch.randn(plain.shape, generator=torch.Generator().manual_seed(5)).to(plain)
    ours = torch.autograd.grad((jet.value * weight).sum(), parameters, allow_unused=True)
    theirs = torch.autograd.grad((plain * weight).sum(), parameters, allow_unused=True)
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine is None) == (other is None)
        assert mine is None or relative(mine, other) <= 1e-12


def points(n, dim, seed=0, scale=1.0, dtype=torch.float64):
    return scale * torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)
