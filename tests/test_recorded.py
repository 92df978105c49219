"""The page of benchmarks: the newest results as tables, and empty rows where there are none."""

import copy
import importlib
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytest.importorskip("sphinx", reason='the book\'s tools are not installed: pip install -e ".[book]"')
sys.path.insert(0, str(ROOT / "book" / "_ext"))
recorded, tell, rivals, data, matrices = map(
    importlib.import_module,
    ("recorded", "recorded_tables", "recorded_rivals", "recorded_data", "recorded_matrices"),
)
sys.path.pop(0)

ABOUT: dict[str, Any] = {
    "date": "2026-01-02T03:04:05+00:00",
    "revision": "0123456789ab",
    "command": "python benchmarks/trial.py --record",
    "machine": {"processor": "A processor", "cores": 2, "gpu": None, "load_average": 0.25},
    "threads": 2,
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "load_average_after": 2.0,
}
SPREAD = {"low": 1.0, "median": 2.0, "high": 3.0}
RUN = {
    "seed": 0,
    "errors": {"relative_max": 2e-8, "angle_max": 1e-4},
    "control": {"relative_max": 2e-3},
    "seconds": 15.0,
    "history": {"seconds": [1.0, 2.0], "relative_max": [1e-3, 1e-5]},
}
FAILED = {"seed": 1, "stopped": "failed", "said": "nodes: too coarse"}
FEM = {"unknowns": 4225, "seconds": SPREAD, "relative_max": 1e-3}
OURS = {"seconds": SPREAD, "relative_max": SPREAD, "its_time_over_ours": SPREAD}


def tried(seed: int, error: float, lr: float = 1e-3) -> dict[str, Any]:
    """A run of the study of the rivals."""
    metrics = ("relative", "angle", "subspace", "orthogonality")
    errors = {f"{metric}_{how}": error for metric in metrics for how in ("mean", "max")}
    return {"seed": seed, "lr": lr, "steps": 500, "errors": errors, "control": {"relative_mean": 0.25}}


MEASURES = ("precision_at_10", "mean_average_precision", "median_rank", "recall_at_10")
TRAJECTORY = {
    "gap": 0.01,
    "held_out": 2.25,
    "values_error": 0.002,
    "prediction": {"x": [0.1, 0.2, 0.3, 0.4]},
    "seconds": 9.0,
}
BESIDE = {
    "gap_ours": 0.02,
    "gap_theirs": 0.04,
    "seeds_ahead": 2,
    "held_out_difference": -0.001,
    "held_out_error": 0.002,
    "prediction_ratios": {"x, 1 steps": 0.9, "x, 2 steps": 1.2},
    "predictions_as_good": 1,
}
HALF = {
    "digit": {"precision_at_10": SPREAD, "mean_average_precision": SPREAD},
    "half": {"median_rank": SPREAD, "recall_at_10": SPREAD},
}
COSTS = dict.fromkeys(("fit_seconds", "memory_mb", "transform_seconds", "model_mb"), SPREAD)
REDUCED = dict.fromkeys(
    (
        "fit_seconds",
        "fit_memory_mb",
        "transform_seconds",
        "model_mb",
        "score_error",
        "angle_max",
        "held_out_share",
    ),
    SPREAD,
)
BIG = {"seconds": 10.0, "peak_mb": 900.0, "added_mb": 100.0, "relative_max": 1e-12, "angle_max": 1e-9}
BROKEN = FAILED | {"lr": 1e-3}
STUDY = {"joint": [tried(0, 2e-3), tried(1, 3e-3)], "omm": [tried(0, 2e-3), BROKEN], "new": [BROKEN]}
REPORTS: dict[str, dict[str, Any]] = {
    "accuracy": {
        "cases": {
            "hydrogen9": {
                "k": 9,
                "method": "varpro",
                "limit_seconds": 15,
                "bounds": {"relative_max": 1e-7},
                "runs": [RUN, FAILED],
            },
            "new": {"k": 2, "method": "sgd", "limit_seconds": 5, "bounds": {}, "runs": [RUN]},
        }
    },
    "held_out": {
        "seed": 7,
        "arguments": {"seconds": 60.0},
        "results": {
            "wells": {"runs": [{"error": 1e-5, "control": 1e-2}, {"error": math.inf, "failed": "x"}]}
        },
    },
    "side_by_side": {
        "plane": {
            "hydrogen2d": {
                "k": 9,
                "varpro": {"seconds": SPREAD, "relative_max": SPREAD, "control": SPREAD, "runs": [RUN]},
                "finite_elements": {
                    "finite elements 32^2, order 2": FEM
                    | {"its_error_over_ours": SPREAD, "its_time_over_ours": SPREAD},
                    "radial, symmetry known": FEM
                    | {
                        "its_error_over_ours": SPREAD,
                        "its_time_over_ours": dict.fromkeys(SPREAD, 0.0),
                    },
                },
            }
        },
        "matrices": {"svds, dense, n = 200": {"ours": OURS, "SciPy svds": OURS}},
    },
    "dimensions": {"rows": {"2": {"ours": [RUN, FAILED], "finite_elements": [FEM | {"seconds": 0.1}]}}},
    "scaling": {
        "rows": [{"method": "sgd", "sizes": [9, 320, 2], "ms": SPREAD, "peak_mb": 12.0}],
        "exponents": {"sgd, L": {"ms": {"fit": 1.0, "last": 1.2}, "memory": {"fit": 1.0, "last": 1.1}}},
    },
    "step": {"steps": {"(c) ours": {"ms": SPREAD, "faster_than_a": SPREAD}}},
    "optimizers": {"arguments": {"seconds": 10.0}, "results": {"soap": {"runs": [{"relative_max": 1e-4}]}}},
    "rivals_step": {
        "methods": {"joint": "LoRA", "spin-naive": "SpIN, slowly"},
        "steps": {
            "joint": {"ms": SPREAD, "times_joint": SPREAD, "mflop": 380.0, "peak_mb": 8.0},
            "joint, compiled": {
                "ms": SPREAD,
                "times_joint": SPREAD,
                "times_joint_compiled": 1.0,
                "mflop": 380.0,
                "peak_mb": 8.0,
            },
            "spin-naive": {
                "ms": SPREAD,
                "times_joint": SPREAD,
                "mflop": 8e3,
                "peak_mb": 1e3,
                "kept_mb": 98.0,
            },
        },
        "compile_seconds": {"joint, compiled": 7.5},
    },
    "rivals": {
        "budget_seconds": 15.0,
        "methods": {"new": "Newest"},
        "settings": {
            "hydrogen": {
                "said": "hydrogen",
                "k": 9,
                "time": STUDY,
                "steps": {"joint": [tried(0, 2e-3, 3e-4)]},
            }
        },
        "batch": {"said": "equal steps", "runs": {"32": {"joint": [tried(0, 2e-3)]}, "64": {}}},
    },
    "figure_1": {
        "method": "spin",
        "steps": 100_000,
        "minutes": 61.0,
        "lr": 1e-4,
        "errors": {
            "relative_max": 0.5,
            "angle_max": 0.25,
            "subspace_max": 0.125,
            "orthogonality_max": 0.0625,
        },
        "ritz_errors": {"relative_max": 0.03},
    },
    "gpu": {
        "machine": ABOUT["machine"] | {"gpu": "A GPU"},
        "runs": {"captured": {"steps": 500_000, "seconds": 45.0, "ms_per_step": 0.09}},
    },
    "correlated": {
        "rho": 0.8,
        "k": 3,
        "pairs": 4000,
        "methods": {
            "varpro": {
                "seconds": 15.0,
                "runs": [{"polynomials": [1.0, 0.8, 0.6]}, {"polynomials": [1.0, 0.8, 0.5]}],
                "summary": {
                    "exact": [0.8, 0.64],
                    "mean": [0.79, 0.63],
                    "stderr": [0.01, 0.02],
                    "shortfall": [0.001, 0.002],
                    "covers_population": 0.95,
                    "covers_exact": 0.925,
                    "score": 1.0,
                    "optimum": 1.05,
                },
            }
        },
    },
    "dynamics": {
        "seeds": [0, 1],
        "steps": [1, 2, 5, 10],
        "budget_seconds": 10.0,
        "settings": {
            "logistic_map, 10000 pairs": {
                "said": "noisy map",
                "k": 9,
                "pairs": 10_000,
                "optimum": 2.5,
                "runs": {
                    "varpro": [TRAJECTORY, TRAJECTORY | {"gap": 0.03}],
                    "VAMP": [TRAJECTORY | {"gap": 0.04}] * 2,
                },
                "chosen": ["VAMP", "EDMD"],
                "best": "VAMP",
                "verdict": {
                    "chosen": BESIDE,
                    "best": BESIDE | {"gap_theirs": 0.0201, "seeds_ahead": 1},
                    "covered": 0.95,
                    "covered_exact": 0.8,
                },
            }
        },
    },
    "retrieval": {
        "sizes": [1097, 300, 400],
        "rows": {
            "chance": HALF,
            "linear CCA": HALF | COSTS,
            "kernel CCA": HALF | COSTS | {"model_mb": dict.fromkeys(SPREAD, 0.5)},
            "ours": HALF | COSTS,
        },
        "wins": {
            "ours / linear CCA": {what: {"better": 5, "worse": 0, "of": 5} for what in MEASURES},
            "ours / kernel CCA": {what: {"better": 0, "worse": 5, "of": 5} for what in MEASURES}
            | {"median_rank": {"better": 1, "worse": 3, "of": 5}},
        },
    },
    "graph": {
        "seeds": [0, 1],
        "graphs": {
            "islands": {
                "said": "two rings, 2000 nodes",
                "runs": [{"out": {"ours": {"mean": mean}, "nystroem": {"mean": 0.5}}} for mean in (0.4, 0.6)],
                "rows": {
                    "in, ours, relative_max": SPREAD,
                    "in, ours, sine": SPREAD,
                    "in, untrained, relative_max": SPREAD,
                    "in, untrained, sine": SPREAD,
                    "out, ours, mean": dict.fromkeys(SPREAD, 0.98),
                    "out, ours, least": dict.fromkeys(SPREAD, 0.9),
                    "out, ours, transform_seconds": SPREAD,
                    "out, nystroem, mean": dict.fromkeys(SPREAD, 0.99),
                    "out, nystroem, least": dict.fromkeys(SPREAD, 0.9),
                    "out, nystroem, transform_seconds": dict.fromkeys(SPREAD, 4.0),
                    "seconds": SPREAD,
                    "eigsh_seconds": dict.fromkeys(SPREAD, 0.5),
                },
            }
        },
    },
    "reduction": {
        "seeds": [0, 1, 2, 3, 4],
        "sets": {
            "digits": {
                "rows": 1200,
                "features": 64,
                "k": 10,
                "exact_share": 0.7,
                "contenders": {
                    "NeuralSVD": REDUCED,
                    "KernelPCA, ARPACK": dict.fromkeys(REDUCED, dict.fromkeys(SPREAD, 8.0))
                    | {"score_error": dict.fromkeys(SPREAD, 1e-9)},
                    "Nystroem 200 + PCA": dict.fromkeys(REDUCED, dict.fromkeys(SPREAD, 0.5)),
                },
            }
        },
        "extrapolation": {
            "gaussian": {
                "points": {
                    "100": {
                        "network, varpro": SPREAD
                        | {"over_matrix": dict.fromkeys(SPREAD, 0.5), "better_on": 4},
                        "matrix": SPREAD,
                    }
                }
            },
            "said": "a sentence",
        },
        "costs": {
            "NeuralSVD": {
                "rows": [1000, 3000],
                "transform_seconds": [0.25, 0.5],
                "model_mb": [0.125, 0.125],
                "transform_exponent": 0.25,
                "model_exponent": 0.0,
            },
            "said": "a sentence",
        },
    },
    "big_matrix": {
        "groups": {
            "sparse": {
                "said": "4000 x 400",
                "values": [3.0, 2.0],
                "rows": {
                    "SciPy svds": BIG | {"relative_max": 0.0},
                    "ours": BIG | {"seconds": 40.0},
                    "ours, untrained": BIG | {"relative_max": 0.25},
                    "ours, sampled": BIG | {"relative_max": 0.125},
                    "scikit-learn": {"refused": "MemoryError: <too big>"},
                },
            }
        },
    },
}


def keep(folder: Path, name: str, report: dict[str, Any], date: str = "2026-01-02") -> None:
    text = json.dumps(ABOUT | report | {"date": date + "T00:00:00+00:00"})
    folder.joinpath(f"{name}-{date}.json").write_text(text, encoding="utf-8")


def cells(html: str) -> list[list[str]]:
    """The rows of all tables."""
    rows = re.findall(r"<tr>(.*?)</tr>", html)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]


def test_every_benchmark_is_on_the_page():
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py")}
    assert scripts - {"soap"} == set(recorded.KINDS)
    page = (ROOT / "book" / "benchmarks.md").read_text(encoding="utf-8")
    assert re.findall(r"^```\{benchmark\} (\w+)$", page, flags=re.MULTILINE) != []
    assert set(re.findall(r"^```\{benchmark\} (\w+)$", page, flags=re.MULTILINE)) == set(recorded.KINDS)


def test_no_number_of_a_result_is_typed_on_the_page():
    page = (ROOT / "book" / "benchmarks.md").read_text(encoding="utf-8")
    assert re.findall(r"\d+(?:\.\d+)?(?:e-?\d+| seconds| ms|x\b| times| GB| MB)|\d\s*%|10\^", page) == []


@pytest.mark.parametrize("name", recorded.KINDS)
def test_what_is_recorded_can_be_shown(name):
    assert "<table" in recorded.html(recorded.RESULTS, name)


@pytest.mark.parametrize("name", recorded.KINDS)
def test_without_a_result_rows_are_empty(name, tmp_path):
    html = recorded.html(tmp_path, name)
    assert "Nothing is recorded yet" in html
    _, *rows = cells(html)
    assert rows
    assert all(row[1:] == [tell.MISSING] for row in rows)


@pytest.mark.parametrize("name", REPORTS)
def test_a_result_is_shown_and_says_how_it_was_made(name, tmp_path):
    keep(tmp_path, f"{name}-2threads", REPORTS[name])
    html = recorded.html(tmp_path, name)
    for part in ("2026-01-02", "A processor, 2 cores", "2 threads", "0.25 before, 2 after", "torch 2.13.0"):
        assert part in html, part
    assert "0123456789ab. python benchmarks/trial.py --record" in html
    assert "nan" not in html
    widths = [[len(row) for row in cells(table)] for table in re.findall(r"<table.*?</table>", html)]
    assert all(len(set(table)) == 1 for table in widths), widths


def test_rows_that_a_result_lacks_are_empty(tmp_path):
    keep(tmp_path, "accuracy-2threads", REPORTS["accuracy"])
    rows = {row[0]: row[1:] for row in cells(recorded.html(tmp_path, "accuracy"))}
    assert set(rows) - {"problem"} == {*tell.CASES.values(), "new"}
    assert rows["infinite well"] == [""] * 6 + [tell.MISSING]
    assert rows["hydrogen, nine values"][2] == "2, 1 without result"
    assert rows["hydrogen, nine values"][4] == "none", "a failed run is the worst"
    assert rows["hydrogen, nine values"][-1].startswith("1 of 2 (relative ")
    assert rows["new"][-1] == "none asked"
    keep(tmp_path, "dimensions-2threads", REPORTS["dimensions"])
    rows_of = cells(recorded.html(tmp_path, "dimensions"))
    assert ["7", tell.MISSING, "", "", "", "", "", ""] in rows_of
    keep(tmp_path, "side_by_side-2threads", REPORTS["side_by_side"])
    html = recorded.html(tmp_path, "side_by_side")
    assert "ours never got there" in html
    assert f"sampled: {tell.MISSING}" in html


def test_a_refusal_is_shown(tmp_path):
    refused = {"sampled": {"Volterra": {"ours": OURS, "SciPy svds": {"refused": "TypeError: <no matrix>"}}}}
    keep(tmp_path, "side_by_side-1threads", REPORTS["side_by_side"] | refused)
    html = recorded.html(tmp_path, "side_by_side")
    assert ["SciPy svds", "can&#x27;t run", "", "TypeError: &lt;no matrix&gt;"] in cells(html)


def test_the_rivals_are_shown(tmp_path):
    """Means and deviations by hand: of 0.002 and 0.003 they are 0.0025 and 0.0007."""
    keep(tmp_path, "rivals-1threads-two-at-once", REPORTS["rivals"])
    html = recorded.html(tmp_path, "rivals")
    rows = cells(html)
    deviation = "0.0025\u00a0±\u00a00.0007"
    assert ["NestedLoRA, joint", "0.001", "500", *[deviation] * 4] in rows
    assert ["NestedLoRA, joint", "0.0003", "500", *["0.0020"] * 4] in rows, "in equal steps"
    assert ["OMM of the inverse (1 of 2 failed)", "0.001", "500", *["[0.0020]"] * 4] in rows
    assert ["Newest (1 of 1 failed)", "0.001", "", *["none"] * 4] in rows
    assert ["SpIN", tell.MISSING, "", "", "", "", ""] in rows
    assert ["untrained (control)", "", "0", "0.25\u00a0±\u00a00.00", "", "", ""] in rows
    assert ["NestedLoRA, joint: 32 points", "0.001", "500", *["0.0020"] * 4] in rows
    assert ["NeuralEF, original: 512 points", tell.MISSING, "", "", "", "", ""] in rows
    assert f"oscillator, default recipe: {tell.MISSING}" in html
    assert (
        "hydrogen, k = 9, equal time (15 seconds): mean ± standard deviation of 1 or 2 seeds; 2 of 5 runs"
        in html
    )
    assert "(one thread, two runs at once)" in html


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.0021, 0.0025, 0.0017], "0.0021 ± 0.0004"),
        ([2.1e-5, 2.5e-5, 1.7e-5], "(2.1 ± 0.4) × 10⁻⁵"),
        ([9.99e-6, 9.98e-6, 1.02e-5], "(1.01 ± 0.01) × 10⁻⁵"),
        ([9.98e-5, 9.99e-5], "(9.985 ± 0.007) × 10⁻⁵"),
        ([9.98e-5, 5e-5, 15e-5], "(1.0 ± 0.5) × 10⁻⁴"),
        ([2.1e-6], "2.1 × 10⁻⁶"),
        ([14.0, 10.0, 20.0], "15 ± 5"),
        ([120.0, 90.0, 300.0], "170 ± 110"),
        ([0.3, 0.302], "0.301 ± 0.001"),
        ([0.01, 0.5, 0.02], "0.18 ± 0.28"),
        ([0.5, 0.5, 0.5], "0.50 ± 0.00"),
        ([0.0], "0.0"),
    ],
)
def test_mean_and_deviation(values, text):
    assert rivals.plus_minus(values).replace("\u00a0", " ") == text


def test_one_step_of_the_rivals_is_shown(tmp_path):
    keep(tmp_path, "rivals_step-paper-1threads", REPORTS["rivals_step"])
    rows = cells(recorded.html(tmp_path, "rivals_step"))
    spread = "2 (1 to 3)"
    assert rows[0][3:5] == ["times that, compiled", "s to compile"]
    assert ["LoRA", spread, spread, "", "", "380", "8", ""] in rows
    assert ["LoRA, compiled", spread, spread, "1", "7.5", "380", "8", ""] in rows
    assert ["SpIN, slowly", spread, spread, "", "", "8000", "1000", "98"] in rows
    assert ["SpIN", tell.MISSING, "", "", "", "", "", ""] in rows


def test_the_methods_of_figure_1_share_a_table(tmp_path):
    """And a line below it says how each was made."""
    keep(tmp_path, "figure_1-spin", REPORTS["figure_1"])
    keep(
        tmp_path, "figure_1-joint", REPORTS["figure_1"] | {"method": "joint", "ritz_errors": {}}, "2026-01-03"
    )
    html = recorded.html(tmp_path, "figure_1")
    assert html.count("<table") == 1
    rows = {row[0]: row[1:] for row in cells(html)}
    where = "A processor, 2 cores"
    errors = ["0.25", "0.125", "0.0625"]
    assert rows["SpIN"] == [
        "100000",
        "61",
        "0.0001",
        "0.5",
        "0.03",
        *errors,
        "2026-01-02",
        where,
    ]
    assert rows["NestedLoRA, joint"][4:] == ["", *errors, "2026-01-03", where]
    assert rows["NeuralEF, unbiased"] == [tell.MISSING, *[""] * 9]
    assert re.findall(r"<small>(\w+): (2026-01-\d\d)", html) == [
        ("joint", "2026-01-03"),
        ("spin", "2026-01-02"),
    ]


@pytest.mark.parametrize(
    ("ours", "best", "said"),
    [
        (2.0, 1.0, "SciPy: a factor of 2"),
        (1.0, 3.0, "ours: a factor of 3"),
        (1.0, 1.04, "neither, within 5%"),
        (1.04, 1.0, "neither, within 5%"),
        (0.0, 0.0, "neither, within 5%"),
        (1.0, 0.0, "SciPy"),
        (1.0, 1e-15, "SciPy"),
        (math.inf, 1.0, "SciPy"),
    ],
)
def test_who_is_ahead(ours, best, said):
    assert data.lead(ours, best, "SciPy") == said


def test_who_is_ahead_among_several():
    assert data.contest("time", 4.0, {"A": 3.0, "B": 2.0}) == ["time", "4", "2", "B", "B: a factor of 2"]
    assert data.contest("time", None, {"A": 3.0}) == ["time", "not reached", "3", "A", "A"]
    assert data.contest("time", 4.0, {}) == ["time", "4", "not reached", "", "ours"]
    assert data.contest("time", None, {})[-1] == "nobody"


def test_operators_known_through_data_are_shown(tmp_path):
    """What is ahead in what, by hand from the samples."""
    keep(tmp_path, "correlated", REPORTS["correlated"])
    rows = cells(recorded.html(tmp_path, "correlated"))
    assert ["exact", "0.8000", "0.6400"] in rows
    assert ["variable projection", "2", "15", "95.0%", "92.5%"] in rows
    assert ["stochastic gradients", tell.MISSING, "", "", ""] in rows
    # Polynomials reach the mean of 1.00 and 0.89; 1.05 is the optimum.
    what = "variable projection: short of the sum of squares"
    assert [what, "0.05", "0.105", "polynomials", "ours: a factor of 2.1"] in rows

    keep(tmp_path, "dynamics-1threads", REPORTS["dynamics"])
    html = recorded.html(tmp_path, "dynamics")
    rows = cells(html)
    assert "k = 9, 10 seconds each: medians of 2 seeds. The optimum of VAMP-2 is 2.5000" in html
    assert ["method", *rows[0][1:4], "x, 1 ahead", "x, 5 ahead", "seconds"] == rows[0]
    assert ["ours, variable projection", "2.2500", "0.02", "0.002", "0.1", "0.3", "9"] in rows
    where, held_out = "noisy map, 10000 pairs", "-0.0010 ± 0.0020"
    both = [
        ["0.02", gap, f"{ahead} of 2 seeds", held_out, "1 of 2"]
        for gap, ahead in (("0.04", 2), ("0.0201", 1))
    ]
    assert [where, "chosen (EDMD, VAMP)", *both[0], "ours: a factor of 2"] in rows
    assert [where, "best (VAMP)", *both[1], "neither, within 5%"] in rows
    assert [where, "95.0%", "80.0%"] in rows
    assert ["noisy logistic map, the longer trajectory", tell.MISSING, ""] in rows

    keep(tmp_path, "retrieval-1threads", REPORTS["retrieval"])
    rows, spread = cells(recorded.html(tmp_path, "retrieval")), "2 (1 to 3)"
    assert ["chance", *[spread] * 4] in rows
    assert ["ours, mean of 3", tell.MISSING, "", "", ""] in rows
    assert ["ours beside linear CCA", *["5 of 5"] * 4, "ours"] in rows
    mixed = ["0 of 5", "0 of 5", "1 of 5, 1 equal", "0 of 5", "as the columns say"]
    assert ["ours beside kernel CCA", *mixed] in rows
    assert ["ours: MB kept", "2", "0.5", "kernel CCA", "kernel CCA: a factor of 4"] in rows

    keep(tmp_path, "graph-1threads", REPORTS["graph"])
    rows = cells(recorded.html(tmp_path, "graph"))
    assert ["two rings, 2000 nodes", "SciPy eigsh", "exact", "exact", "0.5"] in rows
    assert ["two rings, 2000 nodes", "untrained", spread, spread, ""] in rows
    ahead = {row[0]: row[-1] for row in rows}
    lack = "islands: lack of correlation where nodes were away (ours smaller in 1 of 2 rounds)"
    assert ahead[lack] == "Nystroem: a factor of 2"
    assert ahead["islands: seconds, the graph as it is"] == "SciPy eigsh: a factor of 4"
    assert ahead["islands: seconds, 10,000 new points"] == "ours: a factor of 2"
    assert ["images of digits", tell.MISSING, "", "", ""] in rows


def test_kernels_and_matrices_are_shown(tmp_path):
    keep(tmp_path, "reduction-1threads", REPORTS["reduction"])
    html = recorded.html(tmp_path, "reduction")
    rows = cells(html)
    ahead = {row[0]: row[1:] for row in rows}
    fit, scores = ahead["digits: seconds of a fit"], ahead["digits: error of the scores"]
    assert fit == ["2", "0.5", "Nystroem 200 + PCA", "Nystroem 200 + PCA: a factor of 4"]
    assert scores[2] == "KernelPCA, ARPACK"
    assert ahead["digits: error of the scores, beside Nystroem alone"] == fit
    assert f"points near a surface: {tell.MISSING}" in html
    law = "Gaussian kernel under the normal law"
    assert [
        law,
        "100",
        "network, varpro",
        "2 (1 to 3)",
        "0.5",
        "4 of 5 draws",
        "network: a factor of 2",
    ] in rows
    assert ["points near a surface", tell.MISSING, *[""] * 5] in rows
    assert ["NeuralSVD", "3000", "0.5", "0.125"] in rows
    assert ["NeuralSVD", "grows like a power of the rows:", "power 0.25", "power 0.00"] in rows

    keep(tmp_path, "big_matrix-1threads", REPORTS["big_matrix"])
    html = recorded.html(tmp_path, "big_matrix")
    rows = cells(html)
    assert "a sparse matrix, 4000 x 400, k = 2" in html
    assert ["SciPy svds", "10", "900", "100", "reference", "reference"] in rows
    assert ["scikit-learn", "can&#x27;t run", "", "", "MemoryError: &lt;too big&gt;", ""] in rows
    ahead = {row[0].split(",")[0]: row[1:] for row in rows}
    assert ahead["seconds"] == ["40", "10", "SciPy svds", "SciPy svds: a factor of 4"]
    assert ahead["MB added"][-1] == "neither, within 5%"
    sampled = {row[0].split()[-2]: row[3:] for row in rows if "sampled blocks" in row[0]}
    assert sampled == {
        "their": ["their start", "sampled blocks: a factor of 2"],
        "exact": ["exact sums", "exact sums"],
    }
    assert f"a matrix in a file: {tell.MISSING}" in html


def test_who_is_not_accurate_does_not_win():
    """Though it is faster, and adds less."""
    rough = BIG | {"seconds": 1.0, "added_mb": 1.0, "relative_max": 1e-3}
    told = matrices.winners({"SciPy svds": BIG, "ours": rough, "scikit-learn": rough})
    assert [row[1:3] for row in told] == [["not reached", "10"], ["not reached", "100"]]
    assert {row[-1] for row in told} == {"SciPy svds"}


def test_the_tables_repeat_what_the_scripts_say(monkeypatch):
    """Numbers and names that stand in no report."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    scripts = ("retrieval", "_retrieval", "graph", "reduction", "_reduction", "big_matrix")
    retrieval, halves, graph, reduction, points, big = map(importlib.import_module, scripts)
    assert importlib.import_module("_machine").ROUNDING == data.ROUNDING
    assert data.NEW == halves.NEW == graph.NEW == points.NEW
    assert matrices.PRECISE == big.PRECISE
    assert tuple(halves.names(quick=False)) == data.HALVES
    assert retrieval.SAID == data.MEASURES
    assert [what for _, what in retrieval.TOLD] == list(data.MEASURES)
    assert set(data.COSTS) <= set(retrieval.COSTS)
    assert {name: graph.GRAPHS[name].said for name in graph.GRAPHS} == data.GRAPHS
    assert set(reduction.ROWS) == set(matrices.SETS)
    assert set(reduction.MEASURED) >= set(matrices.REDUCED)
    assert set(big.CONTENDERS) == set(matrices.MATRICES)


def test_the_dynamics_are_those_of_the_script(monkeypatch):
    pytest.importorskip("deeptime", reason="deeptime is not installed")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    dynamics = importlib.import_module("dynamics")
    assert dynamics.LEVEL == data.LEVEL
    keys = {f"{name}, {size} pairs" for name in dynamics.PROCESSES for size in (10_000, 100_000)}
    assert keys == set(data.PROCESSES)


def test_the_newest_of_each_variant_is_taken(tmp_path):
    for date, revision in (("2026-01-02", "new"), ("2025-12-31", "old")):
        keep(tmp_path, "gpu-paper", REPORTS["gpu"] | {"revision": revision}, date)
    keep(tmp_path, "step-paper-1threads", REPORTS["step"])
    keep(tmp_path, "step-paper-2threads", REPORTS["step"])
    keep(tmp_path, "stepping", REPORTS["step"])
    [(variant, report)] = recorded.newest(tmp_path, "gpu")
    assert (variant, report["revision"]) == ("paper", "new")
    assert [name for name, _ in recorded.newest(tmp_path, "step")] == ["paper-1threads", "paper-2threads"]
    assert "(paper, one thread)" in recorded.html(tmp_path, "step")


@pytest.mark.parametrize("name", REPORTS)
def test_a_result_that_lacks_its_numbers_is_refused(name, tmp_path):
    broken = copy.deepcopy(ABOUT | REPORTS[name])
    del broken["machine"]
    tmp_path.joinpath(f"{name}-2026-01-02.json").write_text(json.dumps(broken), encoding="utf-8")
    with pytest.raises(ValueError, match=f"the newest result of {name} can't be read"):
        recorded.html(tmp_path, name)


def build(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    """A book of one page, with a table from the folder ``results``."""
    source = folder / "source"
    source.mkdir(exist_ok=True)
    extensions = f"import sys\nsys.path.insert(0, {str(ROOT / 'book' / '_ext')!r})\n"
    extensions += f"extensions = ['myst_parser', 'recorded']\nbenchmark_results = {str(folder)!r}\n"
    source.joinpath("conf.py").write_text(extensions + "html_theme = 'basic'\n", encoding="utf-8")
    source.joinpath("index.md").write_text(f"# One\n\n```{{benchmark}} {name}\n```\n", encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", str(source), str(folder / "html")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_page_shows_the_tables(tmp_path):
    keep(tmp_path, "gpu-paper", REPORTS["gpu"])
    done = build(tmp_path, "gpu")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "html" / "index.html").read_text(encoding="utf-8")
    assert ["A GPU, captured", "500000", "45", "0.09", "", ""] in cells(page)


def test_an_unknown_benchmark_stops_the_build(tmp_path):
    done = build(tmp_path, "speed")
    assert done.returncode != 0
    assert "no benchmark is named 'speed'" in done.stderr
