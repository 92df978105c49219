"""The files of the repository agree with each other, and none tells of the machine it was written on."""

import copy
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def constraint_lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def disagreements(project: dict[str, Any], constraints: list[str], environment: dict[str, Any]) -> list[str]:
    """What is wrong between pyproject.toml, constraints.txt and environment.yml; nothing, if all is well."""
    wrong = []
    pins: dict[str, Version] = {}
    for line in constraints:
        match = re.fullmatch(r"([a-z0-9-]+)==([0-9][0-9a-z.]*)", line)
        if match is None:
            wrong.append(
                f"constraints.txt: {line!r} is not name==version, without a local label or an address"
            )
        elif match[1] in pins:
            wrong.append(f"constraints.txt: {match[1]} stands twice")
        else:
            pins[match[1]] = Version(match[2])
    if list(pins) != sorted(pins):
        wrong.append("constraints.txt is not sorted")

    table = project["project"]
    extras: dict[str, list[str]] = table["optional-dependencies"]
    for where, requirements in [("dependencies", table["dependencies"]), *extras.items()]:
        for requirement in map(Requirement, requirements):
            name = canonicalize_name(requirement.name)
            if not any(one.operator == ">=" for one in requirement.specifier):
                wrong.append(f"pyproject.toml, {where}: {requirement} has no floor")
            if name not in pins:
                wrong.append(f"{where}: {name} has no line in constraints.txt")
            elif pins[name] not in requirement.specifier:
                wrong.append(f"{where}: constraints.txt has {name} {pins[name]}, which {requirement} refuses")
    for requirement in map(Requirement, table["dependencies"]):
        if any(one.operator != ">=" for one in requirement.specifier):
            wrong.append(
                f"dependencies: {requirement} is more than a floor, and would replace what Colab has"
            )
    if "torch==2.13.0" not in constraints:
        wrong.append("constraints.txt must name torch==2.13.0: pip then finds the tested build")

    [pip] = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    editable = [re.fullmatch(r"-e \.\[([a-z,]+)\]", entry) for entry in pip]
    installed = [match[1].split(",") for match in editable if match]
    if [sorted(one) for one in installed] != [sorted(extras)]:
        wrong.append(f"environment.yml installs the extras {installed}, pyproject.toml has {sorted(extras)}")
    if "-c constraints.txt" not in pip:
        wrong.append("environment.yml installs without constraints.txt")
    if len(pip) != 2:
        wrong.append(f"environment.yml installs more than the project: {pip}")
    [python] = [entry for entry in environment["dependencies"] if str(entry).startswith("python")]
    if SpecifierSet(python.removeprefix("python")) != SpecifierSet(table["requires-python"]):
        wrong.append(f"environment.yml has {python}, pyproject.toml {table['requires-python']}")
    return wrong


@pytest.fixture
def versions() -> tuple[dict[str, Any], list[str], dict[str, Any]]:
    constraints = constraint_lines(read("constraints.txt"))
    return tomllib.loads(read("pyproject.toml")), constraints, yaml.safe_load(read("environment.yml"))


def test_versions_agree(versions):
    assert disagreements(*versions) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda p, c, e: c.remove("torch==2.13.0"),
        lambda p, c, e: c.__setitem__(c.index("torch==2.13.0"), "torch==2.13.0+cpu"),
        lambda p, c, e: c.append("zzz @ file:///a/wheel.whl"),
        lambda p, c, e: c.append(c[0]),
        lambda p, c, e: c.sort(reverse=True),
        lambda p, c, e: c.remove(next(line for line in c if line.startswith("nbval=="))),
        lambda p, c, e: p["project"]["dependencies"].append("numpy>=99"),
        lambda p, c, e: p["project"]["dependencies"].append("torch>=2.4,<3"),
        lambda p, c, e: p["project"]["optional-dependencies"]["dev"].append("mypy"),
        lambda p, c, e: p["project"]["optional-dependencies"].update(more=["mypy>=1"]),
        lambda p, c, e: p["project"].update({"requires-python": ">=3.12"}),
        lambda p, c, e: e["dependencies"][-1]["pip"].remove("-c constraints.txt"),
        lambda p, c, e: e["dependencies"][-1]["pip"].append("numpy"),
        lambda p, c, e: e["dependencies"][-1]["pip"].__setitem__(1, "-e .[book]"),
    ],
)
def test_a_disagreement_is_found(versions, change):
    changed = copy.deepcopy(versions)
    change(*changed)
    assert disagreements(*changed)


def test_make_installs_what_conda_installs(versions):
    [extras] = re.findall(r'pip install .*-c constraints\.txt -e "\.\[([a-z,]+)\]"', read("Makefile"))
    assert f"-e .[{extras}]" in versions[2]["dependencies"][-1]["pip"]


def test_one_python_floor(versions):
    project = versions[0]
    floor = project["project"]["requires-python"].removeprefix(">=")
    assert project["tool"]["mypy"]["python_version"] == floor
    assert project["tool"]["ruff"]["target-version"] == "py" + floor.replace(".", "")
    assert f"sys.version_info < ({floor.replace('.', ', ')})" in read("Makefile")


def test_this_environment_is_the_tested_one(versions):
    """A package that was upgraded by hand makes results that no one else gets."""
    pins = dict(line.split("==") for line in versions[1])
    here = {
        canonicalize_name(d.metadata["Name"]): Version(d.version).public for d in metadata.distributions()
    }
    assert {name: here[name] for name in pins if name in here} == {n: v for n, v in pins.items() if n in here}


MACHINE = re.compile(
    r"(?<![\w.])/(?:work|tmp|root|home|Users|opt|mnt)/"
    r"|\.\./(?:shared)/"
    r"|(?:pypi|pythonhosted|anaconda|debian|npmjs)\.(?:org|com)"
    r"|download\.pytorch\.org"
)


def names_of_machines(text: str) -> list[str]:
    return MACHINE.findall(text)


def repository_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout: which files belong to the repository is not known")
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_names_a_machine():
    found = {}
    for path in repository_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # an image or an array
        if names := names_of_machines(text):
            found[str(path.relative_to(ROOT))] = names
    assert found == {}


@pytest.mark.parametrize(
    "parts", [("/wo", "rk/main"), (" /tm", "p/x"), ("https://py", "pi.org/simple"), ("'/ho", "me/a'")]
)
def test_a_machine_is_found(parts):
    assert names_of_machines("".join(parts))


def test_a_relative_path_is_no_machine():
    assert not names_of_machines("book/work/a ../work/b https://example.org/home/ /usr/bin/env")


def test_licences():
    code, text = read("LICENSE"), read("LICENSE-TEXT")
    assert code.startswith("MIT License\n")
    assert "the nbsvd authors" in code
    assert "WITHOUT WARRANTY OF ANY KIND" in code
    assert "SPDX-License-Identifier: CC-BY-4.0" in text
    assert "https://creativecommons.org/licenses/by/4.0/legalcode" in text
    assert tomllib.loads(read("pyproject.toml"))["project"]["license"] == "MIT"


def test_citation():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors", "type", "version", "license"} <= set(citation)
    assert citation["version"] == tomllib.loads(read("pyproject.toml"))["project"]["version"]
    assert citation["license"] == "MIT"
    title = "Operator SVD with Neural Networks via Nested Low-Rank Approximation"
    assert [(r["title"], r["year"]) for r in citation["references"]] == [(title, 2024), (title, 2023)]
    for reference in citation["references"]:
        names = [author["family-names"] for author in reference["authors"]]
        assert names == ["Ryu", "Xu", "Erol", "Bu", "Zheng", "Wornell"]


def test_changelog_has_the_version():
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    headings = re.findall(r"^## \[?([^\]\n]+?)\]?(?: - .*)?$", read("CHANGELOG.md"), flags=re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert version in headings


RUN_BLOCKS = """
import json, sys
namespace = {"__name__": "__main__"}
for line, source in json.load(sys.stdin):
    exec(compile("\\n" * line + source, "README.md", "exec"), namespace)
"""


def python_blocks(text: str) -> list[tuple[int, str]]:
    """The blocks marked python, each with the number of lines above it."""
    found = re.finditer(r"^```python[^\n]*\n(.*?)^```\s*$", text, flags=re.MULTILINE | re.DOTALL)
    return [(text[: match.start(1)].count("\n"), match[1]) for match in found]


def run_blocks(blocks: list[tuple[int, str]], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run blocks as a reader would: one after the other, in one session, in a folder of their own."""
    return subprocess.run(
        [sys.executable, "-c", RUN_BLOCKS],
        input=json.dumps(blocks),
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "Agg", "NBSVD_BUDGET": "ci"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="there is no README.md")
def test_readme_examples_run(tmp_path):
    blocks = python_blocks(read("README.md"))
    assert blocks, "README.md shows no Python"
    done = run_blocks(blocks, tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_broken_example_is_found(tmp_path):
    blocks = python_blocks(
        "# A\n\n```python\nx = 1\n```\n\n```\nnot Python\n```\n\n```python\nassert x == 2\n```\n"
    )
    done = run_blocks(blocks, tmp_path)
    assert done.returncode != 0
    assert 'File "README.md", line 12' in done.stderr


def test_calls_are_checked():
    from jaxtyping import TypeCheckError

    from nbsvd._errors import require

    with pytest.raises(TypeCheckError):
        require(True, 3, got=1, expected="a")


def test_calls_can_be_left_unchecked(unchecked):
    from nbsvd._errors import require

    require(True, 3, got=1, expected="a")
