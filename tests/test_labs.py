"""The labs: one set-up cell, exercises that solutions solve and stubs don't; and the recorded run."""

import hashlib
import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch

import nbsvd

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
LABS = {path.stem: nbformat.read(path, as_version=4) for path in sorted((BOOK / "labs").glob("*.ipynb"))}

spec = importlib.util.spec_from_file_location("new_lab", BOOK / "_templates" / "new_lab.py")
assert spec is not None
assert spec.loader is not None
new_lab: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(new_lab)

EXERCISES = [
    (lab, cell.id.removesuffix("-answer"))
    for lab, notebook in LABS.items()
    for cell in notebook.cells
    if re.fullmatch(r"exercise-\d+-answer", cell.id)
]


def cell_of(lab: Any, name: str) -> Any:
    [cell] = [cell for cell in lab.cells if cell.id == name]
    return cell


def verdict(lab: Any, exercise: str, answer: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What an exercise's self-check says of an answer, in a session that has run the set-up cell only."""
    capsys.readouterr()
    session: dict[str, Any] = {"nbsvd": nbsvd, "torch": torch, "device": "cpu"}
    exec(answer, session)
    exec(cell_of(lab, f"{exercise}-check").source, session)
    return capsys.readouterr().out


def solution(lab: Any, exercise: str) -> str:
    text = cell_of(lab, f"{exercise}-solution").source
    assert re.fullmatch(r"<details>\n<summary>[^\n]+</summary>\n\n.*\n\n</details>", text, flags=re.DOTALL)
    [block] = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return str(block)


@pytest.mark.parametrize("lab", LABS)
def test_the_first_code_cell_is_the_set_up_cell(lab):
    first = next(cell for cell in LABS[lab].cells if cell.cell_type == "code")
    assert first.source == new_lab.set_up(), "python book/_templates/new_lab.py --set-up; make refresh"
    assert first.metadata == new_lab.set_up_cell().metadata


@pytest.mark.parametrize("lab", LABS)
def test_every_figure_has_alt_text(lab):
    without = [
        cell.id
        for cell in LABS[lab].cells
        if any(
            "image/png" in output.get("data", {})
            and "text/html" not in output["data"]  # a player has its own
            for output in cell.get("outputs", [])
        )
        and not cell.metadata.get("mystnb", {}).get("image", {}).get("alt")
    ]
    assert without == []


@pytest.mark.parametrize("lab", LABS)
def test_a_lab_opens_and_closes_as_all_do(lab):
    opening, closing = LABS[lab].cells[0].source, [cell.source for cell in LABS[lab].cells[-4:]]
    for part in ("# ", "**You will be able to**", "**Time.**", "**Before you start.**"):
        assert re.search("^" + re.escape(part), opening, flags=re.MULTILINE), part
    assert any(source.startswith("## Summary") for source in closing)
    assert "assert " in cell_of(LABS[lab], "final-check").source
    assert closing[-1].startswith("## What next")


@pytest.mark.parametrize(("lab", "exercise"), EXERCISES)
def test_the_solution_passes_and_the_stub_does_not(lab, exercise, capsys):
    stub = cell_of(LABS[lab], f"{exercise}-answer").source
    asked = verdict(LABS[lab], exercise, stub, capsys)
    assert asked.startswith("Not answered yet. Hint: ")
    answered = verdict(LABS[lab], exercise, solution(LABS[lab], exercise), capsys)
    assert answered.endswith("\n")
    assert "False" not in answered
    assert answered.splitlines()[-1].startswith("Well done.")


WRONG = {
    ("hydrogen", "exercise-1"): [
        "def value(n, Z):\n    return Z / (2 * n + 1) ** 2",
        "def value(n, Z):\n    return Z**2 / (n + 1) ** 2",
        "def value(n, Z):\n    return 0",
    ],
    ("hydrogen", "exercise-2"): [
        "ion = nbsvd.problems.hydrogen2d()",
        "from nbsvd.measures import Lebesgue, Radial\n"
        "T = nbsvd.Schrodinger(lambda x: -2 / x.norm(dim=1))\n"
        "ion = nbsvd.Problem(T, Lebesgue(Radial(2, scale=2.5)))",
    ],
    ("approximation", "exercise-1"): [
        "def rank_needed(s, tolerance):\n    return int((s > tolerance * s[0]).sum())",
        "def rank_needed(s, tolerance):\n"
        "    missing = [float((s[L:] ** 2).sum() / (s**2).sum()) for L in range(len(s) + 1)]\n"
        "    return next(L for L, part in enumerate(missing) if part <= tolerance)",
        "def rank_needed(s, tolerance):\n"
        "    missing = [float(s[L:].sum() / s.sum()) for L in range(len(s) + 1)]\n"
        "    return next(L for L, part in enumerate(missing) if part <= tolerance)",
    ],
    ("approximation", "exercise-2"): [
        "nearest = torch.tensor([[0.0, 0.0], [4.0, 5.0]])",
        "nearest = torch.tensor([[3.0, 0.0], [4.0, 5.0]])",
        "nearest = torch.tensor([1.5, 4.5])",
    ],
    ("approximation", "exercise-3"): [
        "prediction = {'rows shuffled': 'same', 'upside down': 'same', 'turned by 90 degrees': 'other',\n"
        "    'every entry doubled': 'doubled', 'black and white exchanged, 1 - A': 'same',\n"
        "    'pixels shuffled': 'same'}",
        "prediction = dict.fromkeys(['rows shuffled', 'pixels shuffled'], 'same')",
    ],
    ("landscape", "exercise-1"): [
        "def transformed(f, g, Q):\n    return f @ Q, g @ Q",
        "def transformed(f, g, Q):\n    return f @ Q, g @ torch.linalg.inv(Q)",
        "def transformed(f, g, Q):\n    return f, g",
    ],
    ("landscape", "exercise-2"): [
        "def way_down(values, vectors, i):\n    return vectors[:, 0], 2 * (values[i] - values[0])",
        "def way_down(values, vectors, i):\n    return vectors[:, i - 1], 4 * (values[i] - values[i - 1])",
        "def way_down(values, vectors, i):\n    return vectors[:, i], 8 * values[i]",
    ],
    ("landscape", "exercise-3"): [
        "def least(eigenvalues, L, form):\n    return -sum(e**2 for e in sorted(eigenvalues)[-L:])",
        "def least(eigenvalues, L, form):\n"
        "    return -sum(e**2 for e in sorted(eigenvalues, key=abs, reverse=True)[:L])",
        "def least(eigenvalues, L, form):\n    return sum(max(e, 0) for e in eigenvalues)",
    ],
    ("matrices", "exercise-1"): [
        "def blocks(f1, f2):\n    second = 4 * torch.outer(f1, f2)\n    return 0 * second, second",
        "def blocks(f1, f2):\n"
        "    second = 4 * torch.outer(f2, f1) + 4 * (f1 @ f2) * torch.eye(len(f1))\n"
        "    return torch.zeros_like(second), second",
        "def blocks(f1, f2):\n"
        "    block = 4 * torch.outer(f1, f2) + 4 * (f1 @ f2) * torch.eye(len(f1))\n"
        "    return block.T, block",
        "def blocks(f1, f2):\n    return 0, 0",
    ],
    ("matrices", "exercise-2"): [
        "def masks(subsets, w, L):\n"
        "    joint = nbsvd.Nesting.joint(L, w[:L] + [1.0] * (L - len(w)))\n"
        "    return joint.vector, joint.matrix",
        "def masks(subsets, w, L):\n"
        "    m = torch.tensor([sum(a for S, a in zip(subsets, w) if l in S) for l in range(L)]).double()\n"
        "    return m, torch.minimum(m[:, None], m)",
        "def masks(subsets, w, L):\n    return torch.ones(L).double(), torch.ones(L, L).double()",
    ],
    ("matrices", "exercise-3"): [
        "mixed, pair_1_is_determined = {1, 2}, True\n"
        "def least_value(sigma):\n    return -2 * sigma[0] ** 2 - sigma[1] ** 2 - sigma[2] ** 2",
        "mixed, pair_1_is_determined = {2, 3}, True\ndef least_value(sigma):\n    return -(sigma**2).sum()",
        "mixed, pair_1_is_determined = {1, 2, 3}, False\ndef least_value(sigma):\n    return 0",
    ],
    ("minibatches", "exercise-1"): [
        "def estimate(s):\n    return s.mean() ** 2",
        "def estimate(s):\n    half = len(s) // 2\n    return s[:half].mean() * s[half:].mean()",
        "def estimate(s):\n    return s.mean() ** 2 - s.var() / (len(s) - 1)",
    ],
    ("minibatches", "exercise-2"): [
        "def squared_norm(f, w):\n"
        "    s, B = w * f**2, len(f)\n"
        "    return (s.sum() ** 2 - (w * f**4).sum()) / (B * (B - 1))",
        "def squared_norm(f, w):\n"
        "    s, B = f**2, len(f)\n"
        "    return (s.sum() ** 2 - (s**2).sum()) / (B * (B - 1))",
        "def squared_norm(f, w):\n    return (w * f**2).mean() ** 2",
    ],
    ("minibatches", "exercise-3"): [
        "def learned(lam, fourth, B):\n    return lam / (1 + fourth / B)\nharmless = [1, -1, 1, -1]",
        "def learned(lam, fourth, B):\n    return lam * (1 - (fourth - 1) / B)\nharmless = [1, -1, 1, -1]",
        "def learned(lam, fourth, B):\n    return lam / (1 + (fourth - 1) / B)\nharmless = [2, -2, 0, 0]",
        "def learned(lam, fourth, B):\n    return lam\nharmless = 1",
    ],
    ("kernels", "exercise-1"): [
        "import math\ndef value(k, a):\n    return 2 / ((2 * k - 1) * math.pi)\n"
        "def frequency(k, a):\n    return (2 * k - 1) * math.pi / (2 * a)",
        "import math\ndef value(k, a):\n    return a / (k * math.pi)\n"
        "def frequency(k, a):\n    return k * math.pi / a",
        "import math\ndef value(k, a):\n    return (2 * k - 1) * math.pi / (2 * a)\n"
        "def frequency(k, a):\n    return 2 * a / ((2 * k - 1) * math.pi)",
    ],
    ("kernels", "exercise-2"): [
        "twice = nbsvd.problems.volterra()",
        "twice = nbsvd.problems.brownian()",
        "from nbsvd.measures import Uniform\n"
        "twice = nbsvd.Problem(nbsvd.Integral(lambda x, y: (x - y.t()).clamp(min=0), Uniform(0.0, 1.0)))",
    ],
    ("kernels", "exercise-3"): ["needed = (2, 20)", "needed = (3, 21)", "needed = (10, 100)"],
    ("differential", "exercise-1"): [
        "def best_step(eps):\n    return eps**0.5",
        "def best_step(eps):\n    return 0.01",
        "def best_step(eps):\n    return (24 * eps) ** 0.25",
    ],
    ("differential", "exercise-2"): [
        "quartic = nbsvd.problems.oscillator2d()",
        "from nbsvd.measures import Lebesgue, Radial\n"
        "T = nbsvd.Schrodinger(lambda x: x[:, 0] ** 4)\n"
        "quartic = nbsvd.Problem(T, Lebesgue(Radial(1, scale=1.0)))",
        "from nbsvd.functions import GaussianFactor\nfrom nbsvd.measures import Lebesgue, Radial\n"
        "T = nbsvd.Schrodinger(lambda x: x[:, 0] ** 4)\n"
        "quartic = nbsvd.Problem(T, Lebesgue(Radial(1, scale=20.0)), GaussianFactor(20.0))",
    ],
    ("differential", "exercise-3"): [
        "def finite(d, alpha):\n    return True",
        "def finite(d, alpha):\n    return alpha > 1",
        "def finite(d, alpha):\n    return d >= 3 and alpha > 0",
    ],
    ("rivals", "exercise-1"): [
        "def smallest_decay(rate, value):\n    return 2 * rate * value",
        "def smallest_decay(rate, value):\n    return 2 * rate * value / (1 + 2 * rate * value)",
        "def smallest_decay(rate, value):\n    return rate * max(value, 0.0)",
    ],
    ("rivals", "exercise-2"): [
        "def masked(F, T):\n"
        "    C = torch.linalg.cholesky(F.T @ F)\n"
        "    psi = torch.linalg.solve_triangular(C, F.T, upper=False).T\n"
        "    return 2 * (T @ psi - psi * (psi * (T @ psi)).sum(0)) / C.diagonal()",
        "def masked(F, T):\n"
        "    C = torch.linalg.cholesky(F.T @ F)\n"
        "    psi = torch.linalg.solve_triangular(C, F.T, upper=False).T\n"
        "    return T @ psi - psi @ torch.triu(psi.T @ T @ psi)",
        "def masked(F, T):\n"
        "    psi = F / F.norm(dim=0)\n"
        "    return 2 * (T @ psi - psi * (psi * (T @ psi)).sum(0)) / F.norm(dim=0)",
        "def masked(F, T):\n    return 0",
    ],
    ("rivals", "exercise-3"): [
        "prediction = {'LoRA': 3, 'SpIN': 3, 'NeuralEF': 3, 'OMM': 3}",
        "prediction = {'LoRA': 2, 'SpIN': 3, 'NeuralEF': 3, 'OMM': 0}",
        "prediction = {'LoRA': 2, 'SpIN': 2, 'NeuralEF': 2, 'OMM': 2}",
        "prediction = {}",
    ],
    ("faster", "exercise-1"): [
        "def slowest(values):\n    return max(values) ** 0.5\ndef power(q):\n    return 1 + q / 2",
        "def slowest(values):\n    return min(values)\ndef power(q):\n    return 1 + q / 2",
        "def slowest(values):\n    return min(values) ** 0.5\ndef power(q):\n    return q",
    ],
    ("faster", "exercise-2"): [
        "def slope(c, mu, dS, dA):\n    return c @ dA @ c",
        "def slope(c, mu, dS, dA):\n    return c @ (dA - dS) @ c",
        "def slope(c, mu, dS, dA):\n    return c @ (dA + mu * dS) @ c",
    ],
    ("faster", "exercise-3"): [
        "mine = {'center': [0.0, 0.0], 'axes': [[3.0, 0.0], [0.0, 3.0]]}",
        "mine = {'center': [4.0, -3.0], 'axes': [[1.0, 0.0], [0.0, 3.0]]}",
        "mine = {'center': [-4.0, 3.0], 'axes': [[1.0, 0.0], [0.0, 3**-0.5]]}",
    ],
    ("pairs", "exercise-1"): [
        "def triplet(k, rho, x, y):\n"
        "    h = [0, lambda t: t, lambda t: (t**2 - 1) / 2**0.5, lambda t: (t**3 - 3 * t) / 6**0.5][k]\n"
        "    return rho**k, h(x), h(y)",
        "def triplet(k, rho, x, y):\n"
        "    h = [0, lambda t: t, lambda t: (t**2 - 1) / 2**0.5, lambda t: (t**3 - 3 * t) / 6**0.5][k]\n"
        "    return abs(rho) ** k, h(x), (1 if rho > 0 else -1) * h(y)",
        "def triplet(k, rho, x, y):\n    return abs(rho) ** k, x**k, y**k",
    ],
    ("pairs", "exercise-2"): [
        "import math\ndef later(values, n):\n    return [value**n for value in values]\n"
        "def timescale(value, tau):\n    return -tau / math.log(value)\n"
        "squares = {'Ornstein-Uhlenbeck': True, 'the noisy map': True}",
        "import math\ndef later(values, n):\n    return [value / n for value in values]\n"
        "def timescale(value, tau):\n    return -tau / math.log(value)\n"
        "squares = {'Ornstein-Uhlenbeck': True, 'the noisy map': False}",
        "import math\ndef later(values, n):\n    return [value**n for value in values]\n"
        "def timescale(value, tau):\n    return -math.log(value) / tau\n"
        "squares = {'Ornstein-Uhlenbeck': True, 'the noisy map': False}",
    ],
    ("pairs", "exercise-3"): [
        "table = torch.eye(3)",
        "table = torch.ones(2, 3)",
        "table = torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])",
        "table = torch.tensor([[1.0, 0.0, 1.0], [0.0, -1.0, 0.0]])",
    ],
}


@pytest.mark.parametrize(("lab", "exercise"), EXERCISES)
def test_wrong_answers_get_a_hint(lab, exercise, capsys):
    assert WRONG[lab, exercise], "list a wrong answer or two"
    for answer in WRONG[lab, exercise]:
        said = verdict(LABS[lab], exercise, answer, capsys)
        assert ": False\n" in said
        assert said.splitlines()[-1].startswith("Not yet. Hint: ")


def test_a_new_lab_has_all_parts(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(new_lab, "LABS", tmp_path)
    assert new_lab.main(["trial", "A trial"]) == 0
    made = nbformat.read(tmp_path / "trial.ipynb", as_version=4)
    nbformat.validate(made)
    assert made.cells[0].source.startswith("# A trial\n")
    assert "Not answered yet" in verdict(
        made, "exercise-1", cell_of(made, "exercise-1-answer").source, capsys
    )
    assert "Well done." in verdict(made, "exercise-1", solution(made, "exercise-1"), capsys)
    assert new_lab.main(["trial", "A trial"]) == 1
    assert new_lab.main([]) == 2
    made.cells[1].source = "print('an old set-up cell')"
    nbformat.write(made, tmp_path / "trial.ipynb")
    assert new_lab.main(["--set-up"]) == 0
    assert nbformat.read(tmp_path / "trial.ipynb", as_version=4).cells[1].source == new_lab.set_up()


class FakePip:
    """Stands in for pip: records what it was asked, and what it was told to keep."""

    def __init__(self, returncode: int) -> None:
        self.returncode, self.command, self.kept = returncode, [""], ""

    def __call__(self, command: list[str], **_: Any) -> Any:
        self.command = command
        self.kept = Path(command[command.index("--constraint") + 1]).read_text()
        return subprocess.CompletedProcess(command, self.returncode, "", "noise\nERROR: no such wheel\n")


@pytest.fixture
def without_nbsvd(monkeypatch):
    """Let the set-up cell believe that nbsvd is missing, and catch its pip."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "nbsvd" else real(name))
    monkeypatch.delenv("NBSVD_SOURCE", raising=False)

    def use(returncode: int) -> FakePip:
        pip = FakePip(returncode)
        monkeypatch.setattr(subprocess, "run", pip)
        return pip

    return use


def test_set_up_does_nothing_where_nbsvd_is(monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("the set-up cell called pip"))
    exec(new_lab.set_up(), {})
    assert capsys.readouterr().out.startswith(f"nbsvd {nbsvd.__version__} on ")


def test_set_up_installs_from_one_source_and_upgrades_nothing(without_nbsvd, monkeypatch):
    pip = without_nbsvd(0)
    monkeypatch.setenv("NBSVD_SOURCE", "somewhere/nbsvd-0.1.0-py3-none-any.whl")
    exec(new_lab.set_up(), {})
    assert pip.command[:4] == [sys.executable, "-m", "pip", "install"]
    assert pip.command[-1] == "somewhere/nbsvd-0.1.0-py3-none-any.whl"
    assert not {"--upgrade", "-U", "--force-reinstall"} & set(pip.command)
    assert f"torch=={importlib.metadata.version('torch')}\n" in pip.kept
    assert {line.split("==")[0] for line in pip.kept.splitlines()} == {"torch", "numpy", "ipywidgets"}


def test_set_up_says_what_to_do_when_it_cannot_install(without_nbsvd, monkeypatch):
    remedy = "Run `pip install .` in a copy of the book's repository, then restart."
    without_nbsvd(1)
    with pytest.raises(ModuleNotFoundError) as error:
        exec(new_lab.set_up(), {})
    assert str(error.value) == f"nbsvd is not installed here. {remedy}"
    monkeypatch.setenv("NBSVD_SOURCE", "nowhere")
    with pytest.raises(ModuleNotFoundError) as error:
        exec(new_lab.set_up(), {})
    assert str(error.value) == f"nowhere can't be installed (ERROR: no such wheel). {remedy}"


def test_while_the_repository_has_no_address_nothing_points_to_it():
    assert 'REPOSITORY = ""' in new_lab.set_up(), "set-repo must then also test that the addresses agree"
    for lab, notebook in LABS.items():
        text = "".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
        assert not re.search(r"colab\.research\.google|mybinder\.org|github\.com", text), lab


def test_the_recorded_run_is_what_its_report_says():
    record, report = BOOK / "figures" / "hydrogen.safetensors", BOOK / "figures" / "hydrogen.json"
    told = json.loads(report.read_text(encoding="utf-8"))
    assert told["sha256"] == hashlib.sha256(record.read_bytes()).hexdigest()
    result = nbsvd.load(record)
    assert result.values.tolist() == pytest.approx(told["values"], rel=1e-9)
    assert result.errors() == pytest.approx(told["errors"], rel=1e-3, abs=1e-10)
    assert dict(result.control) == pytest.approx(told["control"], rel=1e-9)
    for key in ("command", "seed", "steps", "minutes", "threads", "machine", "device", "date", "versions"):
        assert told[key] is not None, key
    assert told["command"] in (BOOK / "intro.md").read_text(encoding="utf-8")


def test_numbers_of_the_front_page_come_from_the_record():
    page = (BOOK / "intro.md").read_text(encoding="utf-8")
    told = json.loads((BOOK / "figures" / "hydrogen.json").read_text(encoding="utf-8"))
    front = page[page.index("**Nine states") : page.index("> **The promise.**")]
    assert not re.search(r"\d", re.sub(r"\{glue:text\}`\w+`", "", front)), "a number that no cell wrote"
    assert str(told["steps"]) in told["command"]
