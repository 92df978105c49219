"""Two correlated normal variables from a data set: are values within their sampling error?

    python benchmarks/correlated.py --record      twenty data sets, ten minutes on one thread
    python benchmarks/correlated.py --quick       small data, few of them: to see that it runs

Correlation 0.8, 100,000 pairs, k = 5 with the constant, each data set another seed. The exact values are
0.8^l. A value is the correlation of the learned functions on the fifth of the pairs that was held out; its
error bar, value +- 2.36 standard errors, promises to cover in 95 of 100 cases the correlation that these
functions have under the law itself (which is computed here by quadrature); that of the exact functions, a
little larger, differs from it by the square of the functions' error.

Beside it stands what a good statistician would do who knows that the functions are polynomials: canonical
correlations of all polynomials up to a degree, with the degree chosen on the same check pairs.
"""

import argparse
from typing import Any

import torch
from _machine import RUNS, Number, compare, describe, kept, provenance, record, sources
from torch import Tensor

import nbsvd
from nbsvd.exact import GaussianPair
from nbsvd.measures import GaussianPair as Law
from nbsvd.measures import Pairs

RHO, K, PAIRS = 0.8, 5, 100_000
T7 = 2.3646  # Student's t with 7 degrees of freedom: 95 % for eight blocks
SECONDS = {"varpro": 15.0, "sgd": 15.0}
SEEDS = {"varpro": 20, "sgd": 5}
DEGREES = range(4, 11)
NODES = 10_000


def population(right: Any, left: Any) -> Tensor:
    """The correlations of pairs of functions under the law, by a rule exact for polynomials of degree 199."""
    x, y = Law(RHO).nodes(NODES, kind="quadrature")
    f, g = right(x.x), left(y.x)
    f, g = f - x.integrate(f), g - y.integrate(g)
    return x.integrate(f * g) / torch.sqrt(x.integrate(f**2) * y.integrate(g**2))


def polynomials(pairs: Pairs) -> list[float]:
    """Correlations under the law of canonical functions among polynomials, the degree by the check pairs."""
    exact, parts = GaussianPair(RHO), pairs.parts()

    def fit(degree: int) -> tuple[Tensor, Tensor]:
        F, G = (exact.functions(z, degree + 1)[:, 1:] for z in (parts.train.x, parts.train.y))
        F, G = F - F.mean(0), G - G.mean(0)
        (Qf, Rf), (Qg, Rg) = torch.linalg.qr(F), torch.linalg.qr(G)
        U, _, Vt = torch.linalg.svd(Qg.t() @ Qf)
        return torch.linalg.solve(Rf, Vt.t())[:, : K - 1], torch.linalg.solve(Rg, U)[:, : K - 1]

    def correlations(C: Tensor, D: Tensor, x: Tensor, y: Tensor) -> Tensor:
        f, g = (exact.functions(z, len(M) + 1)[:, 1:] @ M for z, M in ((x, C), (y, D)))
        f, g = f - f.mean(0), g - g.mean(0)
        return (f * g).mean(0) / torch.sqrt((f**2).mean(0) * (g**2).mean(0))

    fits = [fit(degree) for degree in DEGREES]
    C, D = max(fits, key=lambda M: float((correlations(*M, parts.check.x, parts.check.y) ** 2).sum()))
    return population(
        lambda x: exact.functions(x, len(C) + 1)[:, 1:] @ C,
        lambda y: exact.functions(y, len(D) + 1)[:, 1:] @ D,
    ).tolist()


def one(method: str, seed: int, pairs: int, seconds: float) -> dict[str, Any]:
    """Solve one data set."""
    problem = nbsvd.problems.gaussian_pair(RHO, samples=pairs, seed=seed)
    result = nbsvd.solve(problem, K, method=method, seconds=seconds, seed=seed, progress=False)
    if result.history.stopped == "interrupted":
        raise KeyboardInterrupt
    truth = population(result.right, result.left)
    truth[0] = 1.0  # the constant has no variance
    return {
        "seed": seed,
        "values": result.values.tolist(),
        "stderr": result.stderr.tolist(),
        "population": truth.tolist(),
        "polynomials": [1.0, *polynomials(problem.operator.pairs)] if method == "varpro" else None,
        "angle_max": result.errors()["angle_max"],
        "control": result.control["relative_max"],
        "steps": result.info["steps"],
        "seconds": round(result.info["seconds"], 2),
        "stopped": result.history.stopped,
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Coverage and mean errors, over all data sets and all values after the constant."""
    values, stderr, truth = (
        torch.tensor([run[name] for run in runs], dtype=torch.float64)[:, 1:]
        for name in ("values", "stderr", "population")
    )
    exact = GaussianPair(RHO).values(K)[1:]
    return {
        "exact": exact.tolist(),
        "mean": values.mean(0).tolist(),
        "stderr": stderr.mean(0).tolist(),
        "covers_population": ((values - truth).abs() <= T7 * stderr).double().mean().item(),
        "covers_exact": ((values - exact).abs() <= T7 * stderr).double().mean().item(),
        "score": (truth**2).sum(1).mean().item(),
        "optimum": float((exact**2).sum()),
        "shortfall": (exact - truth).mean(0).tolist(),
    }


def tell(method: str, runs: list[dict[str, Any]], found: dict[str, Any]) -> str:
    """The lines of one method."""

    def listed(numbers: list[float]) -> str:
        return "".join(f"{number:>10.4f}" for number in numbers)

    lines = [
        f"\n{method}: {len(runs)} data sets, {max(run['seconds'] for run in runs):.0f} s each at most",
        f"  {'exact':<34}{listed(found['exact'])}",
        f"  {'measured, mean':<34}{listed(found['mean'])}",
        f"  {'standard error, mean':<34}{listed(found['stderr'])}",
        f"  {'exact less population, mean':<34}{listed(found['shortfall'])}",
        f"  error bars that cover the functions' own correlation: {found['covers_population']:.1%}, "
        f"the exact value: {found['covers_exact']:.1%}",
        f"  sum of squares under the law {found['score']:.5f} of {found['optimum']:.5f}",
    ]
    if runs[0]["polynomials"]:
        theirs = torch.tensor([run["polynomials"] for run in runs])[:, 1:]
        lines.append(
            f"  the same of polynomials, degree by the check pairs: {float((theirs**2).sum(1).mean()):.5f}"
        )
    return "\n".join(lines)


def numbers(report: dict[str, Any]) -> dict[str, Number]:
    """What the learned functions leave of the sum of squares."""
    return {
        f"{method}: share of the sum of squares left": Number(
            1 - found["summary"]["score"] / found["summary"]["optimum"], "error"
        )
        for method, found in report["methods"].items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="small data sets, a second each, no record")
    parser.add_argument("--record", action="store_true", help="keep the table in benchmarks/results")
    args = parser.parse_args()
    if args.quick and args.record:
        parser.error("--quick: such runs are not for the record")
    torch.set_num_threads(args.threads)
    pairs = 4000 if args.quick else PAIRS
    report = provenance() | {"rho": RHO, "k": K, "pairs": pairs, "methods": {}}
    print(describe(report))
    folder = RUNS / "correlated" / sources()
    for method, seeds in SEEDS.items():
        seconds = 1.0 if args.quick else SECONDS[method]
        runs = [
            kept(
                folder / f"{method}-{pairs}-{seed}.json",
                {"method": method, "seed": seed, "pairs": pairs, "seconds": seconds, "threads": args.threads},
                lambda m=method, s=seed, t=seconds: one(m, s, pairs, t),
            )
            for seed in range(2 if args.quick else seeds)
        ]
        found = summary(runs)
        report["methods"][method] = {"seconds": seconds, "runs": runs, "summary": found}
        print(tell(method, runs, found), flush=True)
    if not args.quick:
        compare("correlated", report, numbers)
    if args.record:
        print(f"\nRecorded in {record('correlated', report)}")


if __name__ == "__main__":
    main()
