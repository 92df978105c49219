"""Where both points of a kernel come from samples, they must come from independent ones (fact 8)."""

import pytest
import torch

import nbsvd
from nbsvd.exact import GaussianKernel
from nbsvd.measures import Empirical, Gaussian
from nbsvd.spectrum import replicate
from nbsvd.training import session

NARROW = 0.05  # length of the kernel: the diagonal of a sampled matrix then outweighs its expectation


class Exact(torch.nn.Module):
    def forward(self, x):
        return GaussianKernel(NARROW).functions(x, 3)


@pytest.mark.statistical
def test_sampled_values_of_a_kernel_are_not_raised_by_its_diagonal():
    """64 replicates of 100 points; a z-test at 5 sigma on three values, false alarm rate 2e-6.

    With the same points on both sides the diagonal adds 1/100 to each value, ten times the tolerance.
    """
    law, f = Gaussian(1), Exact()
    T = nbsvd.Integral(lambda x, y: torch.exp(-((x - y.t()) ** 2) / (2 * NARROW**2)), law)
    generator = torch.Generator().manual_seed(0)
    parts = replicate(T, f, f, law, law, generator=generator, replicates=64, n=100, kind="iid")
    forms = torch.stack([p.form.diagonal() for p in parts])
    error = (forms.mean(0) - GaussianKernel(NARROW).values(3)).abs()
    assert (error < 5 * forms.std(0) / 8).all()
    assert (5 * forms.std(0) / 8 < 0.012).all()


def test_the_two_sides_of_a_report_have_different_nodes(monkeypatch):
    seen = []
    original = session.measure_moments

    def spy(operator, right, left, nodes_x, nodes_y):
        seen.append((nodes_x.x, nodes_y.x))
        return original(operator, right, left, nodes_x, nodes_y)

    monkeypatch.setattr(session, "measure_moments", spy)
    nbsvd.solve("volterra", k=1, steps=1, progress=False)
    assert seen
    assert all(x.shape != y.shape or not torch.equal(x, y) for x, y in seen)


def test_the_memory_of_a_kernel_on_data_is_bounded(monkeypatch):
    """No block of a kernel's matrix has more columns than a chunk, however many rows the data have."""
    monkeypatch.setattr("nbsvd.spectrum.moments.CHUNK", 16)
    widths = []

    def kernel(x, y):
        widths.append(len(y))
        return torch.exp(-((x - y.t()) ** 2))

    data = Empirical(torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None])
    T = nbsvd.Integral(kernel, data)
    widths.clear()
    f = torch.nn.Linear(1, 2).double()
    [part] = replicate(T, f, f, data, data, generator=torch.Generator().manual_seed(0))
    K, values = kernel(data.data, data.data), f(data.data)
    torch.testing.assert_close(part.form, values.T @ K @ values / 50**2)
    assert max(widths[:-1]) <= 16
