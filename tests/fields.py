"""What each component is driven by, on matrices: exact fields, their stability, means over batches."""

import itertools

import torch

f64 = torch.float64


def symmetric(values, seed=0):
    """A symmetric matrix with these eigenvalues, and its eigenvectors as columns in their order."""
    n = len(values)
    draw = torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=f64)
    Q = torch.linalg.qr(draw).Q
    return Q * torch.tensor(values, dtype=f64) @ Q.T, Q


def whole(F):
    """Weights of a sum over all indices, each of which weighs 1: n in the mean convention."""
    return torch.full((len(F),), float(len(F)), dtype=F.dtype)


def slopes_of_own_terms(term, F):
    """Slope of ``term(F[:, :k+1])`` by its last column alone, for each k; all by autograd."""

    def slope(k):
        A = F[:, : k + 1].detach().clone().requires_grad_()
        return torch.autograd.grad(term(A), A)[0][:, -1]

    return torch.stack([slope(k) for k in range(F.shape[1])], 1)


def spin_term(T):
    """The last entry of the diagonal of Lambda, by an orthogonal factorisation instead of Cholesky."""

    def term(A):
        before = A[:, :-1]
        rest = A[:, -1]
        if before.shape[1]:
            rest = rest - before @ torch.linalg.solve(before.T @ before, before.T @ rest)
        return rest @ T @ rest / (rest @ rest)

    return term


def neuralef_term(T):
    """J of the last column."""

    def term(A):
        psi = A / A.norm(dim=0)
        R = psi.T @ T @ psi
        return R[-1, -1] - sum(R[i, -1] ** 2 / R[i, i] for i in range(A.shape[1] - 1))

    return term


def field_of(make, F, T):
    """Minus the gradient of a new objective on all indices, and its value."""
    F = F.detach().clone().requires_grad_()
    loss = make()(F, T @ F, weights=whole(F))
    return -torch.autograd.grad(loss, F)[0], loss.detach()


def jacobian(field, F, step=1e-6):
    """Central differences of a field (n, L) by its entries, as an (nL, nL) matrix."""
    columns = []
    for i in range(F.numel()):
        move = torch.zeros(F.numel(), dtype=f64)
        move[i] = step
        ahead, behind = (field(F + sign * move.view_as(F)) for sign in (1, -1))
        columns.append((ahead - behind).flatten() / (2 * step))
    return torch.stack(columns, 1)


def real_parts(field, F):
    """The real parts of the eigenvalues of the Jacobian, ascending."""
    return torch.linalg.eigvals(jacobian(field, F)).real.sort().values


def selections(n, L):
    """All ordered choices of L of n."""
    return list(itertools.permutations(range(n), L))


def mean_over_batches(estimate, p, size):
    """Exact mean over all batches of independent indices of the law p (n,): no statistics."""
    total = 0.0
    for batch in itertools.product(range(len(p)), repeat=size):
        index = torch.tensor(batch)
        total = total + p[index].prod() * estimate(index)
    return total
