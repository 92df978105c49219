"""The runs behind the book's Figure 1: kept once, recorded with what is shown."""

import base64
import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
_machine, figure_1 = (importlib.import_module(name) for name in ("_machine", "figure_1"))
del sys.path[0]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A run of three steps of small networks, in folders of its own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("runs")
        patch.setattr(figure_1, "RUNS", folder)
        patch.setattr(_machine, "RESULTS", folder / "results")
        options = {"compile": False, "network": {"widths": (8,)}}
        patch.setattr(figure_1, "METHODS", {m: o | options for m, o in figure_1.METHODS.items()})
        patch.setattr(sys, "argv", ["figure_1.py", "spin", "--steps", "3", "--record"])
        threads = torch.get_num_threads()
        figure_1.main()
        torch.set_num_threads(threads)
        (record,) = (folder / "results").glob("figure_1-spin-*.json")
        yield folder, json.loads(record.read_text())


def test_a_record_says_what_ran(small):
    _, record = small
    assert record["method"] == "spin"
    assert (record["steps"], record["lr"], record["seed"], record["threads"]) == (3, 1e-4, 0, 1)
    assert record["history"]["step"] == [3]
    assert len(record["values"]) == len(record["exact"]) == 9
    assert set(record["errors"]) == set(record["ritz_errors"])


def test_a_finished_run_is_not_run_again(small, monkeypatch):
    folder, _ = small
    monkeypatch.setattr(figure_1, "RUNS", folder)
    monkeypatch.setattr(figure_1.nbsvd, "solve", None)
    assert figure_1.run("spin", 3, 0, {}).exists()


def test_cosines_are_before_alignment_and_of_the_networks_too(small):
    _, record = small
    cosines, raw = (np.array(record[key]) for key in ("cosines", "raw_cosines"))
    assert np.allclose(np.diag(cosines), 1)
    assert np.allclose(np.diag(raw), 1)
    largest = np.abs(cosines - np.eye(9)).max()
    assert largest == pytest.approx(record["errors"]["orthogonality_max"], rel=0.05)
    assert np.abs(raw - np.eye(9)).max() > largest  # SpIN's functions are not its networks


def test_pictures_are_the_functions_to_one_part_in_a_hundred(small):
    _, record = small
    code = record["exact_functions"]
    pictures = np.frombuffer(base64.b64decode(code["int8"]), np.int8).reshape(code["shape"]) / 127
    ground = pictures[0] * code["largest"][0]
    t = np.linspace(-5, 5, figure_1.PIXELS)
    r = np.hypot(*np.meshgrid(t, t))
    exact = np.exp(-r) * np.sqrt(2 / np.pi)  # of norm one in the plane
    assert np.abs(np.abs(ground) - exact).max() < 0.01 * exact.max()
    assert record["extents"][0] == [-5, 5, -5, 5]


def test_coded_pictures_keep_zero_and_sign():
    code = figure_1.coded(torch.tensor([[[0.0, -2.0], [1.0, 0.5]]]))
    values = np.frombuffer(base64.b64decode(code["int8"]), np.int8)
    assert values.tolist() == [0, -127, 64, 32]
    assert code["largest"] == [2.0]
