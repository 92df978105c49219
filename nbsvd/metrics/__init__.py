"""How far a learned spectrum is from the exact one: pure functions of tensors, computed in float64.

Integrals over the reference measure follow the mean convention, ``(1/B) sum_b w_b h(x_b)``: for samples of a
law p under Lebesgue measure w = 1/p; for a quadrature rule with weights q, w = B q; ``None`` is w = 1. A
weight may be zero (those of a large Gauss rule underflow), not negative. Measure on quadrature nodes, or on
many independent ones: on few random nodes even exact functions are not quite orthogonal.

Levels that ``k`` cuts. Let L functions be learned, and let the last level, of m exact functions, hold only
p < m of them. No p functions of that level are distinguished from the others, so the learned ones may be any
p orthonormal functions in it, and it would be wrong to ask for the first p. Hence the exact side is given in
*whole* levels: ``exact_f`` has K >= L columns and ``levels`` groups all K of them (``Exact.completed``)::

    K = exact.completed(L)
    angle(f, exact.functions(x, K), exact.levels(K), weights)

The learned functions of a cut level are compared with the p orthonormal functions inside the whole level that
are nearest to them: their own projections on the level, made orthonormal by the polar factor.
"""

from nbsvd.metrics.correlation import vamp2
from nbsvd.metrics.gram import cosine_gram, gram, orthogonality
from nbsvd.metrics.levels import Alignment, align, alignment, angle, subspace_distance
from nbsvd.metrics.report import relative_error, summary

__all__ = [
    "Alignment",
    "align",
    "alignment",
    "angle",
    "cosine_gram",
    "gram",
    "orthogonality",
    "relative_error",
    "subspace_distance",
    "summary",
    "vamp2",
]
