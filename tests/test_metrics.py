"""The metrics on cases made by hand: what must not count as an error, and what must."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.polynomial.legendre import leggauss, legvander
from torch import Tensor

from nbsvd._errors import ArgumentError
from nbsvd.exact import Hydrogen2D, InfiniteWell
from nbsvd.metrics import (
    align,
    alignment,
    angle,
    cosine_gram,
    gram,
    orthogonality,
    relative_error,
    subspace_distance,
    summary,
)

LEVELS = [[0], [1, 2, 3], [4, 5]]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(n: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(random(n, n, seed=seed)).Q


def inside_levels(seed: int, levels: list[list[int]] = LEVELS) -> Tensor:
    return torch.block_diag(*[rotation(len(level), seed + i) for i, level in enumerate(levels)])


def problem(points: int = 40, functions: int = 9, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Functions that are orthonormal under uneven weights of mean convention, and the weights."""
    generator = torch.Generator().manual_seed(seed)
    weights = 0.2 + torch.rand(points, generator=generator, dtype=torch.float64)
    table = torch.linalg.qr(random(points, functions, seed=seed)).Q
    return table * (points / weights).sqrt()[:, None], weights


def test_relative_error() -> None:
    error = relative_error(torch.tensor([1.0, -1.8, 0.1]), torch.tensor([1.0, -2.0, 0.2]))
    assert torch.allclose(error, torch.tensor([0, 0.1, 0.5]).double(), atol=1e-7)
    assert relative_error(torch.tensor([0.0, 1.0]), torch.zeros(2)).tolist() == [0.0, math.inf]


def test_gram_is_the_weighted_mean() -> None:
    f, g, w = random(7, 3), random(7, 2, seed=1), random(7, seed=2).abs()
    expected = [[sum(w[b] * f[b, i] * g[b, j] for b in range(7)) / 7 for j in range(2)] for i in range(3)]
    assert torch.allclose(gram(f, w, g), torch.tensor(expected).double())
    assert torch.allclose(gram(f, None, g), f.T @ g / 7)
    assert torch.allclose(gram(f, w), gram(f, w, f))
    assert gram(f.float(), w).dtype == torch.float64


def test_quadrature_weights_make_legendre_polynomials_orthogonal() -> None:
    nodes, weights = leggauss(12)
    f, w = torch.tensor(legvander(nodes, 5)), torch.tensor(12 * weights)
    assert torch.allclose(gram(f, w), torch.diag(2 / (2 * torch.arange(6) + 1)).double(), atol=1e-7)
    assert torch.allclose(cosine_gram(f, w), torch.eye(6).double(), atol=1e-13)
    assert orthogonality(f, w) < 1e-13
    assert orthogonality(f) > 0.1  # a plain mean over Gauss nodes is another measure


def test_cosines_do_not_depend_on_scale_or_total_weight() -> None:
    f, w = random(30, 4), random(30, seed=1).abs()
    scaled = f * torch.tensor([1e-200, 3.0, -7.0, 1e200], dtype=torch.float64)
    assert torch.allclose(cosine_gram(scaled, 5 * w).abs(), cosine_gram(f, w).abs(), atol=1e-14)
    cosines = cosine_gram(f, w)
    assert torch.allclose(cosines.diagonal(), torch.ones(4).double())
    largest = max(abs(float(cosines[i, j])) for i in range(4) for j in range(4) if i != j)
    assert float(orthogonality(f, w)) == pytest.approx(largest)
    assert orthogonality(f[:, :1], w) == 0
    angles = angle(f, f + 0.1, [[0], [1], [2], [3]], w)
    assert torch.allclose(angle(scaled, f + 0.1, [[0], [1], [2], [3]], 5 * w), angles)


def test_rotation_inside_a_level_is_no_error() -> None:
    e, w = problem(functions=6)
    R = inside_levels(3)
    scales = torch.tensor([2.0, -1.0, 0.5, 3.0, 1.0, -4.0]).double()
    f = e @ R
    aligned, Q = align(f, e, LEVELS, w)
    assert torch.allclose(aligned, e, atol=1e-13)
    assert torch.allclose(Q, R.T, atol=1e-13)
    assert angle(f, e, LEVELS, w).max() < 1e-13
    assert subspace_distance(f, e, LEVELS, w).max() < 1e-25
    assert torch.allclose(align(e * scales, e, LEVELS, w)[0], e, atol=1e-13)
    assert angle(f, e, [[i] for i in range(6)], w).max() > 0.1  # were the levels simple


def test_rotation_or_swap_across_levels_is_an_error() -> None:
    e, w = problem(functions=6)
    swapped = e[:, [1, 0, 2, 3, 4, 5]]
    assert torch.allclose(
        angle(swapped, e, LEVELS, w).sort().values, torch.tensor([0, 0, 0, 0, 1, 1]).double()
    )
    assert torch.allclose(subspace_distance(swapped, e, LEVELS, w), torch.tensor([1, 1 / 3, 0]).double())
    c, s = math.cos(0.1), math.sin(0.1)
    mixed = torch.cat(
        [c * e[:, :1] + s * e[:, 4:5], e[:, 1:4], c * e[:, 4:5] - s * e[:, :1], e[:, 5:]], dim=1
    )
    angles = angle(mixed, e, LEVELS, w)
    assert float(angles[0]) == pytest.approx(s, rel=1e-10)
    assert float(angles[4:].max()) == pytest.approx(s, rel=1e-10)
    assert angles[1:4].max() < 1e-13
    assert orthogonality(mixed, w) < 1e-13  # orthogonality alone would not tell


@pytest.mark.parametrize("tilt", [1e-9, 1e-4, 0.3])
def test_small_angles_keep_their_digits(tilt: float) -> None:
    e, w = problem(functions=9)
    f = e[:, :6] @ inside_levels(1)
    f[:, 0] = math.cos(tilt) * f[:, 0] - math.sin(tilt) * e[:, 8]
    assert float(angle(f, e[:, :6], LEVELS, w)[0]) == pytest.approx(math.sin(tilt), rel=1e-5)
    assert float(subspace_distance(f, e[:, :6], LEVELS, w)[0]) == pytest.approx(math.sin(tilt) ** 2, rel=1e-5)


def test_alignment_is_the_best_of_all_rotations() -> None:
    cross = random(6, 6, seed=4)
    Q = alignment(cross, LEVELS).learned
    assert torch.allclose(Q.T @ Q, torch.eye(6).double(), atol=1e-13)
    assert (Q[0, 1:] == 0).all()
    assert (Q[1:4, 4:] == 0).all()
    best = (Q.T @ cross).trace()
    for seed in range(50):
        assert (inside_levels(seed).T @ cross).trace() <= best


def test_two_equal_functions_in_a_level_are_found() -> None:
    e, w = problem(functions=3)
    collapsed = e[:, [0, 1, 1]]
    levels = [[0], [1, 2]]
    assert torch.allclose(subspace_distance(collapsed, e, levels, w), torch.tensor([0.0, 0.5]).double())
    assert angle(collapsed, e, levels, w)[1:].max() > 0.5
    assert float(orthogonality(collapsed, w)) == pytest.approx(1)


def test_a_zero_function_is_wholly_wrong() -> None:
    e, w = problem(functions=3)
    f = e * torch.tensor([1.0, 0.0, 1.0])
    levels = [[0], [1], [2]]
    assert torch.allclose(angle(f, e, levels, w), torch.tensor([0.0, 1.0, 0.0]).double(), atol=1e-13)
    assert torch.allclose(subspace_distance(f, e, levels, w), torch.tensor([0.0, 1.0, 0.0]).double())
    assert (cosine_gram(f, w)[1] == 0).all()
    assert angle(f, e, [[0], [1, 2]], w).max() > 0.99


def test_subspace_distance_is_the_projector_formula() -> None:
    f, e, w = random(25, 6), random(25, 6, seed=1), random(25, seed=2).abs()
    root = w.sqrt()[:, None].numpy()

    def projector(columns: Tensor) -> np.ndarray:
        basis, _ = np.linalg.qr(root * columns.numpy())
        return basis @ basis.T

    expected = [1 - np.trace(projector(f[:, i]) @ projector(e[:, i])) / len(i) for i in LEVELS]
    assert np.allclose(subspace_distance(f, e, LEVELS, w).numpy(), expected)


# Levels that k cuts: two learned functions, of a level of three.

CUT = [[0], [1, 2, 3]]


@pytest.mark.parametrize("seed", range(5))
def test_any_piece_of_a_cut_level_is_right(seed: int) -> None:
    e, w = problem(functions=4)
    f = torch.cat([e[:, :1], e[:, 1:] @ rotation(3, seed)[:, :2]], dim=1)
    assert angle(f, e, CUT, w).max() < 1e-13
    assert subspace_distance(f, e, CUT, w).max() < 1e-25
    # Compared with the first two functions alone, it would be called wrong.
    assert angle(f, e[:, :3], [[0], [1, 2]], w).max() > 1e-2


def test_a_cut_level_is_turned_towards_its_first_functions() -> None:
    e, w = problem(functions=4)
    aligned, _ = align(e[:, :3] @ torch.block_diag(torch.ones(1, 1), rotation(2)).double(), e, CUT, w)
    assert torch.allclose(aligned, e[:, :3], atol=1e-13)
    # It may be orthogonal to some of them.
    f = e[:, [0, 3, 2]]
    rotations = alignment(cosine_gram(f, w, e), CUT)
    assert torch.allclose(rotations.learned.T @ rotations.learned, torch.eye(3).double(), atol=1e-13)
    assert torch.allclose(f @ rotations.learned, e @ rotations.exact, atol=1e-13)
    assert angle(f, e, CUT, w).max() < 1e-13


def test_the_angle_in_a_cut_level_is_that_to_the_whole_level() -> None:
    e, w = problem(functions=5)
    f = torch.stack([e[:, 0], math.cos(0.2) * e[:, 3] + math.sin(0.2) * e[:, 4], e[:, 2]], dim=1)
    angles = angle(f, e[:, :4], CUT, w)
    assert float(angles.square().sum()) == pytest.approx(math.sin(0.2) ** 2)
    assert torch.allclose(
        subspace_distance(f, e[:, :4], CUT, w), torch.tensor([0, math.sin(0.2) ** 2 / 2]).double()
    )
    # Twice the same function of the level lies inside it, and is wrong all the same.
    assert angle(e[:, [0, 2, 2]], e[:, :4], CUT, w)[1:].max() > 0.5


def test_levels_without_learned_functions_do_not_matter() -> None:
    e, w = problem(functions=6)
    assert subspace_distance(
        e[:, :2] @ rotation(2), e, [[0, 1], [2, 3], [4, 5]], w
    ).tolist() == pytest.approx([0.0])
    assert angle(e[:, :2] @ rotation(2), e, [[0, 1], [2, 3], [4, 5]], w).max() < 1e-13


def pairs(f: Tensor, g: Tensor, seed: int = 0) -> dict[str, float]:
    e, w = problem(functions=6)
    d, v = problem(points=50, functions=6, seed=9)
    ones = torch.ones(6)
    return summary(ones, ones, e @ f, e, LEVELS, w, g=d @ g, exact_g=d, weights_g=v)


def test_one_rotation_must_serve_both_sides_of_an_svd() -> None:
    R, S = inside_levels(0), inside_levels(10)
    assert pairs(R, R)["angle_max"] < 1e-13
    wrong = pairs(R, S)
    assert wrong["angle_max"] > 0.3
    assert wrong["subspace_max"] < 1e-25
    assert wrong["orthogonality_max"] < 1e-13


def test_the_common_rotation_weighs_both_sides() -> None:
    """Two sides turned by +0.2 and -0.2 inside a level: the fair rotation is none, and leaves 0.2 on each."""
    c, s = math.cos(0.2), math.sin(0.2)
    turned = torch.block_diag(torch.eye(4), torch.tensor([[c, -s], [s, c]], dtype=torch.float64)).double()
    assert pairs(turned, turned.T)["angle_max"] == pytest.approx(s)
    assert pairs(turned, turned)["angle_max"] < 1e-13


def test_a_left_function_of_the_wrong_sign_is_found() -> None:
    flip = torch.diag(torch.tensor([1.0, 1, 1, 1, 1, 1])).double()
    flip[0, 0] = -1
    assert pairs(flip, flip)["angle_max"] < 1e-13
    assert pairs(flip, torch.eye(6).double())["angle_max"] == pytest.approx(1)
    assert pairs(torch.eye(6).double(), flip)["angle_max"] == pytest.approx(1)


def test_errors_of_the_left_side_count() -> None:
    eye = torch.eye(6).double()
    skew = eye.clone()
    skew[0, 4] = 0.5  # function 4 has a part of function 0
    for errors in (pairs(skew, eye), pairs(eye, skew)):
        assert errors["orthogonality_max"] == pytest.approx(0.5 / math.sqrt(1.25))
        assert errors["subspace_max"] == pytest.approx(0.2 / 2)
        assert errors["angle_max"] > 0.3


def test_summary_has_the_keys_of_the_reports() -> None:
    e, w = problem(functions=6)
    values, exact = torch.tensor([3.0, 2, 2, 2, 1, 1]), torch.tensor([4.0, 2, 2, 2, 1, 0.5])
    errors = summary(values, exact, e, e, LEVELS, w)
    keys = ["relative_max", "relative_mean", "angle_max", "subspace_max", "orthogonality_max"]
    assert list(errors) == keys
    assert all(type(error) is float for error in errors.values())
    assert errors["relative_max"] == 1
    assert errors["relative_mean"] == pytest.approx(1.25 / 6)
    assert max(errors[key] for key in keys[2:]) < 1e-13


def test_hydrogen_modes_rotated_inside_their_levels() -> None:
    """With the atom's own functions on polar nodes, and a level cut by k = 6."""
    atom, k = Hydrogen2D(), 6
    K = atom.completed(k)
    s, q = leggauss(120)
    radius = torch.tensor(150 * ((s + 1) / 2) ** 2)
    weight = torch.tensor(q / 2 * 300 * (s + 1) / 2) * radius
    turn = 2 * math.pi * torch.arange(16) / 16
    x = (radius[:, None, None] * torch.stack([turn.cos(), turn.sin()], dim=1)).reshape(-1, 2)
    w = (weight[:, None] * torch.full((16,), 2 * math.pi / 16)).reshape(-1) * len(x)
    exact = atom.functions(x, K)
    assert torch.allclose(gram(exact, w), torch.eye(K).double(), atol=1e-6)
    f = (exact @ torch.block_diag(rotation(1), rotation(3), rotation(5)))[:, :k]
    errors = summary(atom.values(k), atom.values(k), f, exact, atom.levels(K), w)
    assert errors["angle_max"] < 1e-6
    assert errors["relative_max"] == 0
    assert InfiniteWell(1).completed(9) == 10  # the level that the well's nine modes cut


E_, W_ = problem(functions=3)
SIMPLE = [[0], [1], [2]]


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: relative_error(torch.ones(2), torch.ones(3)), "values"),
        (lambda: relative_error(torch.ones(2, 2), torch.ones(2, 2)), "values"),
        (lambda: relative_error(torch.ones(2), torch.tensor([1.0, math.nan])), "exact"),
        (lambda: gram(torch.ones(5)), "f"),
        (lambda: gram(E_ * math.nan), "f"),
        (lambda: gram(E_ * 1j), "f"),
        (lambda: gram(E_, None, E_[1:]), "g"),
        (lambda: gram(E_, W_[1:]), "weights"),
        (lambda: gram(E_, W_[:, None]), "weights"),
        (lambda: gram(E_, -W_), "weights"),
        (lambda: gram(E_, 0 * W_), "weights"),
        (lambda: gram(E_, W_ - W_.min() - 0.01), "weights"),
        (lambda: cosine_gram(E_, -W_), "weights"),
        (lambda: orthogonality(torch.ones(5)), "f"),
        (lambda: alignment(torch.ones(3, 2), [[0, 1]]), "exact_f"),
        (lambda: align(E_, E_[:, :2], [[0, 1]]), "exact_f"),
        (lambda: align(E_, E_[1:], SIMPLE), "exact_f"),
        (lambda: angle(E_, E_, [[0], [1]]), "levels"),
        (lambda: angle(E_, E_, [[0], [1], [1, 2]]), "levels"),
        (lambda: angle(E_[:, :2], E_, [[0], [1]]), "levels"),
        (lambda: subspace_distance(E_, E_, [[0], [1], [3]]), "levels"),
        (lambda: summary(torch.ones(2), torch.ones(2), E_, E_, SIMPLE), "values"),
        (lambda: summary(torch.ones(3), torch.ones(3), E_, E_, SIMPLE, g=E_), "exact_g"),
        (lambda: summary(torch.ones(3), torch.ones(3), E_, E_, SIMPLE, exact_g=E_), "g"),
        (lambda: summary(torch.ones(3), torch.ones(3), E_, E_, SIMPLE, g=E_[:, :2], exact_g=E_), "g"),
        (
            lambda: summary(torch.ones(3), torch.ones(3), E_, E_, SIMPLE, g=E_, exact_g=E_, weights_g=-W_),
            "weights_g",
        ),
    ],
)
def test_bad_arguments_are_named(unchecked: None, call: Callable[[], object], argument: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{argument}: got ") as caught:
        call()
    assert caught.value.argument == argument
