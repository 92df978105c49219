"""The command line: what it prints and writes, and how it refuses."""

import json
import re
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

import nbsvd
from nbsvd import __main__ as cli
from nbsvd.problems import PROBLEMS

runner = CliRunner()
REPORT = (
    "problem method objective nesting warm_start k values stderr exact reference errors control "
    "steps seconds seconds_total threads seed device versions"
).split()
QUICK = ["solve", "gaussian_kernel", "--k", "2", "--steps", "3", "--no-progress"]


def nbsvd_with(*arguments):
    return runner.invoke(cli.app, list(map(str, arguments)))


def refused(*arguments):
    """What is said on stderr when a command is refused."""
    done = nbsvd_with(*arguments)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("nbsvd: ")
    return done.stderr


def test_problems_are_listed_in_plain_words():
    done = nbsvd_with("problems")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(PROBLEMS)
    for line in lines:
        assert len(line.split()) > 3
        for markup in (":math:", "`", "\\", "$"):
            assert markup not in line
        assert len(line) <= 110


def test_a_first_line_is_made_plain():
    def made_up():
        """The ``T f`` of it.

        More.
        """

    assert cli.summary(made_up) == "The T f of it."
    assert cli.summary(lambda: None) == ""


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "new" / "folder"
    options = [
        "--method",
        "sgd",
        "--objective",
        "lora",
        "--nesting",
        "joint",
        "--warm-start",
        "ritz",
        "--seed",
        3,
    ]
    return nbsvd_with(
        *QUICK, *options, "--batch-size", 64, "--device", "cpu", "--dtype", "float64", "--out", out
    ), out


def test_solve_writes_three_files(solved):
    done, out = solved
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in out.iterdir()) == ["figure.png", "report.json", "result.safetensors"]
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert str(out) in done.stdout


def test_the_report_has_the_keys_of_the_contract(solved):
    report = json.loads((solved[1] / "report.json").read_text())
    assert set(REPORT) <= set(report)
    given = {
        "problem": "gaussian_kernel",
        "k": 2,
        "steps": 3,
        "seed": 3,
        "dtype": "float64",
        "warm_start": "ritz",
    }
    assert {name: report[name] for name in given} == given
    errors = {"relative_max", "relative_mean", "angle_max", "subspace_max", "orthogonality_max"}
    assert set(report["errors"]) == set(report["control"]) == errors


def test_the_files_and_the_table_agree(solved):
    done, out = solved
    result = nbsvd.load(out / "result.safetensors")
    report = json.loads((out / "report.json").read_text())
    assert result.values.tolist() == report["values"]
    for value in report["values"]:
        assert f"{value:.8f}" in done.stdout
    assert "trained" in done.stdout
    assert "untrained" in done.stdout
    for name in report["errors"]:
        assert name in done.stdout
    assert done.stdout == cli.table(result) + f"\n\nWritten to {out}: " + ", ".join(cli.FILES) + "\n"


def test_it_is_the_same_engine(solved):
    result = nbsvd.solve(
        "gaussian_kernel", 2, steps=3, seed=3, batch_size=64, dtype=torch.float64, progress=False
    )
    assert nbsvd.load(solved[1] / "result.safetensors").values.tolist() == result.values.tolist()


def test_without_out_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert nbsvd_with(*QUICK, "--warm-start", "none").exit_code == 0
    assert list(tmp_path.iterdir()) == []


def test_options_reach_the_engine(monkeypatch):
    seen = {}

    def solve(problem, k, **options):
        seen.update(options, problem=problem, k=k)
        raise nbsvd.ArgumentError("here", got="enough", expected="no more")

    monkeypatch.setattr(nbsvd, "solve", solve)
    options = "--k 9 --steps 7 --seconds 2.5 --preset paper --domain box --warm-start none --progress"
    assert "here: got enough" in refused("solve", "hydrogen2d", *options.split())
    assert seen["problem"].options == {"domain": "box"}
    given = {"k": 9, "steps": 7, "seconds": 2.5, "preset": "paper", "warm_start": None, "progress": True}
    assert {name: seen[name] for name in given} == given


def test_settings_of_a_rival_reach_the_engine(tmp_path):
    """By name and value, after the objective; the report says what was used."""
    options = "--steps 3 --no-progress --objective spin --setting decay=0.5 --setting lr=1e-4"
    done = nbsvd_with("solve", "gaussian_kernel", "-k", "2", *options.split(), "--out", str(tmp_path))
    assert done.exit_code == 0, done.output
    result = nbsvd.load(tmp_path / "result.safetensors")
    assert result.info["objective"] == "spin"
    assert result.info["objective_settings"] == {"decay": 0.5}
    options = {"objective": "spin", "decay": 0.5, "lr": 1e-4, "progress": False}
    assert torch.equal(result.values, nbsvd.solve("gaussian_kernel", 2, steps=3, **options).values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("solve hydrogen", "problem: got 'hydrogen'; expected one of .*Did you mean 'hydrogen"),
        ("solve volterra --k 0", "k: got 0; expected an integer, at least 1"),
        ("solve volterra --method sdg", "method: got 'sdg'.*Did you mean 'sgd'"),
        ("solve volterra --objective lara", "objective: got 'lara'.*Did you mean 'lora'"),
        ("solve volterra --nesting join", "nesting: got 'join'.*Did you mean 'joint'"),
        ("solve volterra --warm-start ritzz", "warm_start: got 'ritzz'.*Did you mean 'ritz'"),
        ("solve volterra --preset papers", "preset: got 'papers'.*Did you mean 'paper'"),
        ("solve volterra --dtype float16", "dtype: got 'float16'.*expected one of 'float32', 'float64'"),
        ("solve volterra --seconds 0", "seconds: got 0.0; expected a positive number"),
        ("solve volterra --steps -1", "steps: got -1; expected an integer, at least 0"),
        ("solve volterra --batch-size 0", "batch_size: got 0; expected an integer, at least 1"),
        ("solve volterra --device gpu", "device: got 'gpu'; expected one of"),
        ("solve volterra --domain box", "options: got domain; expected none"),
        ("solve hydrogen2d --domain boxes", "domain: got 'boxes'.*Did you mean 'box'"),
        (
            "solve hydrogen2d --objective omm",
            "objective: got 'omm' for Schrodinger, which is unbounded below.*invert=True",
        ),
        ("solve volterra --objective spin", "objective: got 'spin' for Integral.*not self-adjoint.*'lora'"),
        ("solve brownian --objective neuralef --nesting none", "nesting: got 'none' with objective='neur"),
        ("solve brownian --objective omm --setting decay=0.1", "decay: got 0.1 with objective='omm'"),
        ("solve brownian --objective spin --setting decay=2", "decay: got 2; expected a number above 0"),
        ("solve brownian --setting deca=0.1", "setting: got 'deca'.*Did you mean 'decay'"),
        ("solve brownian --setting decay", "setting: got decay; expected NAME=VALUE"),
        ("solve brownian --setting steps=3", "setting: got steps; expected a setting without.*Use --steps"),
    ],
)
def test_bad_options_are_refused_with_the_reason(unchecked, arguments, message):
    said = refused(*arguments.split())
    assert re.search(message, said), said


def test_cuda_without_one_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "device: got 'cuda'; expected a device of this machine. It has no cuda device" in refused(
        *QUICK, "--device", "cuda"
    )


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(nbsvd, "solve", lambda *a, **o: pytest.fail("work was done"))
    file = tmp_path / "file"
    file.write_text("here")
    assert "out: got" in refused(*QUICK, "--out", file / "below")
    folder = tmp_path / "out"
    (folder / "report.json").mkdir(parents=True)
    assert "report.json" in refused(*QUICK, "--out", folder)


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    from nbsvd.spectrum import storage

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "save_file", full)
    done = nbsvd_with(*QUICK, "--out", tmp_path)
    assert done.exit_code == 2
    assert "No space left on device" in done.stderr
    monkeypatch.undo()
    monkeypatch.setattr(nbsvd.Result, "plot", full)
    done = nbsvd_with(*QUICK, "--out", tmp_path)
    assert done.exit_code == 2
    assert "No space left on device" in done.stderr
    assert (tmp_path / "result.safetensors").exists()  # the result goes first


def test_a_loss_that_is_no_number_keeps_the_last_result(tmp_path, monkeypatch):
    good = nbsvd.solve("gaussian_kernel", 2, steps=1, progress=False)

    def diverging(*arguments, **options):
        raise nbsvd.TrainingDiverged("loss: got nan at step 5", step=5, result=good)

    monkeypatch.setattr(nbsvd, "solve", diverging)
    done = nbsvd_with(*QUICK, "--out", tmp_path)
    assert done.exit_code == 1
    assert "loss: got nan at step 5" in done.stderr
    assert "Kept in" in done.stderr
    assert torch.equal(nbsvd.load(tmp_path / "result.safetensors").values, good.values)
    assert "Kept" not in nbsvd_with(*QUICK).stderr


def test_the_table_of_a_problem_without_an_answer():
    result = nbsvd.solve(nbsvd.Problem(nbsvd.Matrix(torch.diag(torch.tensor([2.0, 1.0])))), 1)
    table = cli.table(result)
    assert "2.00000000" in table
    assert "exact" not in table


def test_no_arguments_show_help():
    assert "problems" in nbsvd_with().output
    assert "--warm-start" in nbsvd_with("solve", "--help").output


@pytest.mark.slow
def test_python_m_nbsvd():
    done = subprocess.run(
        [sys.executable, "-m", "nbsvd", "problems"], capture_output=True, text=True, timeout=120, check=True
    )
    assert "hydrogen2d" in done.stdout
    assert done.stderr == ""
