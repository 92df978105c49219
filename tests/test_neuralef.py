"""NeuralEF against autograd through dense formulas: its field in both forms, what is stable, and its bias."""

import pytest
import torch
from fields import (
    f64,
    field_of,
    mean_over_batches,
    neuralef_term,
    real_parts,
    selections,
    slopes_of_own_terms,
    symmetric,
    whole,
)
from matrices import randn

from nbsvd import ArgumentError
from nbsvd.objectives import NeuralEF

VALUES = [3.0, 2.0, 1.2, 0.5, 0.1]
FORMS = [True, False]
LAW = torch.tensor([0.3, 0.4, 0.3], dtype=f64)
THREE = symmetric([2.0, 1.2, 0.7], seed=1)[0]
TWO = torch.tensor([[1.0, 0.8], [0.7, -1.1], [-0.8, 0.5]], dtype=f64)


def make(L, unbiased, **options):
    return lambda: NeuralEF(L, unbiased=unbiased, moment="plain", **options)


@pytest.mark.parametrize("L", [1, 2, 4])
@pytest.mark.parametrize("unbiased", FORMS)
def test_each_component_follows_the_slope_of_its_own_term(L, unbiased):
    (T, _), F = symmetric(VALUES), randn(5, L, seed=1) * torch.arange(1.0, L + 1)
    field, value = field_of(make(L, unbiased), F, T)
    torch.testing.assert_close(field, slopes_of_own_terms(neuralef_term(T), F), rtol=1e-9, atol=1e-10)
    terms = sum(neuralef_term(T)(F[:, : l + 1]) for l in range(L))
    torch.testing.assert_close(value, -terms, rtol=1e-11, atol=0)


@pytest.mark.parametrize("chosen", selections(4, 2))
@pytest.mark.parametrize("unbiased", FORMS)
def test_only_the_ordered_top_is_stable(chosen, unbiased):
    """The whole spectrum of the Jacobian at any selection of eigenvectors, each of them an equilibrium.

    In f_l: 2 (other value - own) towards what is not selected up to l; -2 times the own value towards those
    before it; zero for the scale.
    """
    values = [2.0, 1.3, 0.6, 0.2]
    T, Q = symmetric(values, seed=2)
    F = Q[:, list(chosen)]
    assert field_of(make(2, unbiased), F, T)[0].abs().max() < 1e-12
    found = real_parts(lambda F: field_of(make(2, unbiased), F, T)[0], F)
    expected = [
        2 * (values[m] - values[own]) if m not in chosen[: l + 1] else 0.0 if m == own else -2 * values[own]
        for l, own in enumerate(chosen)
        for m in range(4)
    ]
    torch.testing.assert_close(found, torch.tensor(sorted(expected), dtype=f64), rtol=0, atol=1e-3)
    assert (found.max() < 1e-3) == (chosen == (0, 1))


def with_state(L, squared, rayleigh, score, **options):
    """An unbiased form that has seen other batches: its averages are these."""
    neuralef = NeuralEF(L, **options)
    state = {"squared": squared, "rayleigh": rayleigh, "score": score, "calls": 7.0, "mixture": torch.eye(L)}
    neuralef.load_state_dict({name: torch.as_tensor(part) for name, part in state.items()})
    return neuralef


def stale_field(F, T, squared, rayleigh, score):
    """Half of it: (T f_l - sum_i <f_i|T f_l> / |divisor_i| T f_i - J f_l) / size, with given numbers."""
    TF, L = T @ F, F.shape[1]
    field = torch.zeros_like(F)
    for l in range(L):
        direction = TF[:, l] - score[l] / squared[l] * F[:, l]
        for i in range(l):
            direction = direction - (F[:, i] @ TF[:, l]) / abs(rayleigh[i]) * TF[:, i]
        field[:, l] = direction / squared[l]
    return field


STATES = [
    ([1.5, 2.0], [1.1, 0.9], [1.4, 0.8]),
    ([0.9, 0.4], [-1.1, 0.3], [0.7, -0.2]),  # a divisor that came out negative counts by its magnitude
]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("moment", "size"), [("u", 2), ("u", 3), ("split", 3)])
def test_the_unbiased_form_has_no_bias_whatever_the_state(state, moment, size):
    """Exactly, over all batches of three states."""
    state = [torch.tensor(part, dtype=f64) for part in state]
    TF = THREE @ TWO

    def gradient(index):
        F = TWO.clone().requires_grad_()
        loss = with_state(2, *state, moment=moment)(F[index], TF[index], weights=1 / LAW[index])
        return torch.autograd.grad(loss, F)[0]

    expected = -2 * stale_field(TWO, THREE, *state)
    found = mean_over_batches(gradient, LAW, size)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    plain = mean_over_batches(lambda index: gradient_plain(index, state), LAW, size)
    assert (plain - expected).abs().max() > 0.02  # where the moment is not what removes it, there is one


def gradient_plain(index, state):
    F = TWO.clone().requires_grad_()
    loss = with_state(2, *state, moment="plain")(F[index], (THREE @ TWO)[index], weights=1 / LAW[index])
    return torch.autograd.grad(loss, F)[0]


def test_the_right_state_gives_the_exact_field():
    """Norms, quotients and scores of the functions themselves: its expectation is the published field."""
    TF = THREE @ TWO
    squared, rayleigh = (TWO**2).sum(0), (TWO * TF).sum(0)
    scores = torch.stack([neuralef_term(THREE)(TWO[:, : l + 1]) for l in range(2)])
    field = 2 * stale_field(TWO, THREE, squared, rayleigh, scores * squared)
    torch.testing.assert_close(field, slopes_of_own_terms(neuralef_term(THREE), TWO))


def test_the_original_form_is_biased_by_one_over_b():
    """Exactly, over all batches of two, three and four of three states."""

    def gradient(index):
        F = TWO.clone().requires_grad_()
        loss = NeuralEF(2, unbiased=False)(F[index], (THREE @ TWO)[index], weights=1 / LAW[index])
        return torch.autograd.grad(loss, F)[0]

    exact = -slopes_of_own_terms(neuralef_term(THREE), TWO)
    first = [(mean_over_batches(gradient, LAW, size) - exact)[:, 0].norm() for size in (2, 3, 4)]
    # The first component has a quotient by its norm alone, and no divisor that may come near zero.
    assert first[0] > 0.05
    assert float(first[1] / first[0]) == pytest.approx(2 / 3, rel=0.25)
    assert float(first[2] / first[1]) == pytest.approx(3 / 4, rel=0.2)


@pytest.mark.parametrize("state", STATES)
def test_the_ordered_eigenfunctions_stand_still_whatever_the_state(state):
    """Up to a multiple of f_l itself, in expectation over all batches of two."""
    T, Q = symmetric([2.0, 1.2, 0.7], seed=1)
    state = [torch.tensor(part, dtype=f64) for part in state]

    def gradient(index):
        F = (Q[:, :2] * torch.tensor([1.3, 0.6], dtype=f64)).requires_grad_()
        loss = with_state(2, *state)(F[index], (T @ F.detach())[index], weights=1 / LAW[index])
        return torch.autograd.grad(loss, F)[0]

    mean = mean_over_batches(gradient, LAW, 2)
    off = mean - Q[:, :2] * (Q[:, :2] * mean).sum(0)
    assert off.abs().max() < 1e-12
    assert mean.abs().max() > 0.05
    moved = torch.tensor([0, 1])
    assert (gradient(moved) - mean).abs().max() > 0.05  # a single batch does not


def test_averages_move_after_the_batch_and_count_as_stated():
    """The first batch serves itself; later ones see those before them, in means of the stated weights."""
    (T, _), p = symmetric(VALUES), torch.tensor([0.1, 0.2, 0.3, 0.25, 0.15], dtype=f64)
    F, draw, decay = randn(5, 2, seed=1), torch.Generator().manual_seed(0), 0.25
    neuralef, TF, kept = NeuralEF(2, decay=decay), T @ F, None
    for n in range(1, 9):
        index = torch.multinomial(p, 6, replacement=True, generator=draw)
        before, f, Tf, w = neuralef.squared.clone(), F[index], TF[index], 1 / p[index]
        neuralef(f, Tf, weights=w)
        batch = torch.stack([(w[:, None] * f * f).mean(0), (w[:, None] * f * Tf).mean(0)])
        rate = max(1 / n, decay)
        kept = batch if kept is None else (1 - rate) * kept + rate * batch
        torch.testing.assert_close(torch.stack([neuralef.squared, neuralef.rayleigh]), kept)
        assert not torch.equal(before, neuralef.squared)
    assert int(neuralef.calls) == 8
    # J <f|f> of the first component is <f|T f>: both averages must agree.
    torch.testing.assert_close(neuralef.score[0], neuralef.rayleigh[0])


def test_a_batch_is_measured_by_those_before_it():
    """The gradient of the second call uses the averages of the first."""
    (T, _), F, G = symmetric(VALUES), randn(5, 2, seed=1), randn(5, 2, seed=2).requires_grad_()
    neuralef = NeuralEF(2, moment="plain")
    neuralef(F, T @ F, weights=whole(F))
    state = [getattr(neuralef, name).clone() for name in ("squared", "rayleigh", "score")]
    (gradient,) = torch.autograd.grad(neuralef(G, T @ G, weights=whole(G)), G)
    torch.testing.assert_close(gradient, -2 * stale_field(G.detach(), T, *state))


def test_a_divisor_of_zero_has_a_floor():
    """A millionth of the largest quotient, which is 2 here: large, and finite."""
    T = torch.diag(torch.tensor([1.0, -1.0, 2.0], dtype=f64))
    F = torch.tensor([[1.0, 0.0], [1.0, 1e-3], [0.0, 1.0]], dtype=f64)
    size = 1 + 1e-6
    own = (2 - 1e-6) / size
    assert F[:, 0] @ T @ F[:, 0] == 0
    for unbiased in FORMS:
        field, value = field_of(make(2, unbiased), F, T)
        assert field.isfinite().all()
        # 1e-6 / (2 size) over the floor: R_01 squared, over its divisor.
        assert float(value) == pytest.approx(-(own - 1e-6 / (2 * size) / (1e-6 * own)), rel=1e-6)


def test_it_scales_and_adds_like_any_loss_and_keeps_the_dtype():
    T = symmetric(VALUES)[0]
    for unbiased in FORMS:
        F = randn(5, 2, seed=1).requires_grad_()
        loss = make(2, unbiased)()(F, T @ F, weights=whole(F))
        (gradient,) = torch.autograd.grad(5 * loss + (F**3).sum(), F)
        once = -field_of(make(2, unbiased), F, T)[0]
        torch.testing.assert_close(gradient, 5 * once + 3 * F.detach() ** 2)
        f = F.detach().float().requires_grad_()
        loss = make(2, unbiased)()(f, T.float() @ f, weights=whole(f))
        assert loss.dtype == torch.float32
        torch.testing.assert_close(torch.autograd.grad(loss, f)[0], once.float(), rtol=1e-4, atol=1e-4)


def test_its_state_goes_into_a_file_and_back():
    T, F, G = symmetric(VALUES)[0], randn(5, 2, seed=1), randn(5, 2, seed=2)
    first, second = make(2, True)(), make(2, True)()
    first(F, T @ F)
    second.load_state_dict({name: part.clone() for name, part in first.state_dict().items()})
    assert set(first.state_dict()) == {"mixture", "calls", "squared", "rayleigh", "score"}

    def gradient(neuralef):
        g = G.clone().requires_grad_()
        return torch.autograd.grad(neuralef(g, T @ g), g)[0]

    expected = gradient(first)
    torch.testing.assert_close(gradient(second), expected, rtol=0, atol=0)
    assert not torch.equal(gradient(make(2, True)()), expected)


@pytest.mark.parametrize("unbiased", FORMS)
def test_compiled_code_agrees_with_eager(unbiased, unchecked):
    T, first, second = symmetric(VALUES)[0], randn(5, 2, seed=1), randn(5, 2, seed=2)
    results = []
    for wrap in (lambda call: call, lambda call: torch.compile(call, backend="aot_eager", fullgraph=True)):
        neuralef = make(2, unbiased)()
        call = wrap(lambda f, neuralef=neuralef: neuralef(f, T @ f))
        for F in (first, second):
            F = F.clone().requires_grad_()
            results.append(torch.autograd.grad(call(F), F)[0])
    torch.testing.assert_close(results[:2], results[2:])


@pytest.mark.parametrize(
    ("call", "argument", "message"),
    [
        (lambda f: NeuralEF(0), "L", "at least 1"),
        (lambda f: NeuralEF(2, decay=0), "decay", "above 0, at most 1"),
        (lambda f: NeuralEF(2, decay=2.0), "decay", "above 0, at most 1"),
        (lambda f: NeuralEF(2, decay=True), "decay", "above 0, at most 1"),
        (lambda f: NeuralEF(2, unbiased="no"), "unbiased", "False for the original form"),
        (lambda f: NeuralEF(2, moment="upstat"), "moment", "one of"),
        (lambda f: NeuralEF(3)(f, f), "f", "as L of this NeuralEF"),
        (lambda f: NeuralEF(2)(f, f[:3]), "Tf", "that of f"),
        (lambda f: NeuralEF(2)(f[:1], f[:1]), "moment", "batch of 1"),
        (lambda f: NeuralEF(2)(f, f, weights=-torch.ones(4)), "weights", "positive finite"),
    ],
)
def test_bad_input_is_refused(call, argument, message, unchecked):
    with pytest.raises(ArgumentError, match=message) as caught:
        call(randn(4, 2))
    assert caught.value.argument == argument
