"""The book: every page is in it, labs can be compared with what they store, nothing is fetched from afar."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
LABS = sorted((ROOT / "book" / "labs").glob("*.ipynb"))


def pages(toc: Any) -> Iterator[str]:
    """The pages that a table of contents names."""
    if isinstance(toc, dict):
        for key, value in toc.items():
            if key in ("file", "root"):
                yield value
            else:
                yield from pages(value)
    elif isinstance(toc, list):
        for value in toc:
            yield from pages(value)


def faults(notebook: dict[str, Any]) -> list[str]:
    """What is wrong with a lab; nothing, if all is well."""
    wrong = []
    compared = False
    for number, cell in enumerate(notebook["cells"]):
        source, tags = "".join(cell["source"]), set(cell["metadata"].get("tags", []))
        if cell["cell_type"] == "markdown" and re.search(
            r"^(:::+|```+)\{|\{[a-z:]+\}`", source, flags=re.MULTILINE
        ):
            wrong.append(f"cell {number}: a MyST directive or role is raw text in JupyterLab and Colab")
        if cell["cell_type"] != "code":
            continue
        if ("skip-execution" in tags) != ("nbval-skip" in tags):
            wrong.append(f"cell {number}: a skipped cell needs both tags, skip-execution and nbval-skip")
        if "execution" in cell["metadata"]:
            wrong.append(f"cell {number}: times of execution are stored; use make refresh")
        if source.strip() and cell.get("execution_count") is None and "nbval-skip" not in tags:
            wrong.append(f"cell {number}: was not run when the outputs were stored; use make refresh")
        if any(output.get("name") == "stderr" for output in cell["outputs"]):
            wrong.append(f"cell {number}: something was written to stderr")
        checked = not tags & {"nbval-ignore-output", "nbval-skip"} and "NBVAL_IGNORE_OUTPUT" not in source
        printed = any(
            o["output_type"] == "stream" or "text/plain" in o.get("data", {}) for o in cell["outputs"]
        )
        compared |= checked and printed
    if not compared:
        wrong.append("no cell's text is compared with what is stored")
    return wrong


@pytest.mark.skipif(not LABS, reason="there are no labs yet")
def test_labs_can_be_compared():
    assert {lab.name: faults(json.loads(lab.read_text(encoding="utf-8"))) for lab in LABS} == {
        lab.name: [] for lab in LABS
    }


def code(source: str, tags: tuple[str, ...] = (), count: int | None = 1, text: str = "1\n") -> dict[str, Any]:
    outputs = [{"output_type": "stream", "name": "stdout", "text": text}] if text else []
    metadata_ = {"tags": list(tags)}
    return {
        "cell_type": "code",
        "source": source,
        "metadata": metadata_,
        "outputs": outputs,
        "execution_count": count,
    }


@pytest.mark.parametrize(
    "cells",
    [
        [],
        [code("print(1)", text="")],
        [code("print(1)", tags=("nbval-ignore-output",))],
        [code("print(1)"), code("print(1)", count=None)],
        [code("print(1)"), code("print(1)", tags=("nbval-skip",))],
        [code("print(1)"), code("print(1)", tags=("skip-execution",))],
        [code("print(1)"), {"cell_type": "markdown", "metadata": {}, "source": "```{note}\nA\n```"}],
        [
            code("print(1)"),
            {"cell_type": "markdown", "metadata": {}, "source": "see {cite:t}`ryu2024operator`"},
        ],
    ],
)
def test_a_faulty_lab_is_found(cells):
    assert faults({"cells": [code("print(1)")]}) == []
    assert faults({"cells": cells})


def test_every_page_is_in_the_book():
    named = list(pages(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))))
    assert len(named) == len(set(named))
    assert yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["only_build_toc_files"] is True
    suffixes = (".md", ".ipynb")
    there = [
        p.relative_to(ROOT).with_suffix("").as_posix()
        for p in (ROOT / "book").rglob("*")
        if p.suffix in suffixes
    ]
    there = [name for name in there if ".ipynb_checkpoints" not in name]
    assert sorted(there) == sorted(named), "a page is missing from _toc.yml, or two pages share a name"


def test_the_front_page_leads_to_every_page():
    front, *others = pages(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
    text = (ROOT / f"{front}.md").read_text(encoding="utf-8")
    led = {target.rpartition(".")[0] for target in re.findall(r"\]\(([\w/]+\.(?:md|ipynb))\)", text)}
    assert {name.removeprefix("book/") for name in others} - led == set()


def strict_build(folder: Path, link: str) -> subprocess.CompletedProcess[str]:
    """A book of two pages, the first with a link to the second."""
    source = folder / "source"
    source.mkdir()
    extensions = f"import sys\nsys.path.insert(0, {str(ROOT / 'book' / '_ext')!r})\n"
    extensions += "extensions = ['myst_parser', 'labels']\nhtml_theme = 'basic'\n"
    source.joinpath("conf.py").write_text(extensions, encoding="utf-8")
    text = f"# One\n\nSee [there]({link}).\n\n```{{toctree}}\ntwo\n```\n"
    source.joinpath("index.md").write_text(text, encoding="utf-8")
    source.joinpath("two.md").write_text("# Two\n\n(there)=\n## A part\n\nText.\n", encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "-n", "-b", "html", str(source), str(folder / "html")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_link_into_a_page_reaches_its_label(tmp_path):
    done = strict_build(tmp_path, "two.md#there")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "html" / "index.html").read_text(encoding="utf-8")
    assert 'href="two.html#there"' in page
    assert 'id="there"' in (tmp_path / "html" / "two.html").read_text(encoding="utf-8")


def test_a_link_to_no_label_stops_the_strict_build(tmp_path):
    done = strict_build(tmp_path, "two.md#here")
    assert done.returncode != 0
    assert "'here'" in done.stderr


class Requests(HTMLParser):
    """The addresses that a browser fetches when it opens a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        fetched = {
            "link": "href",
            "script": "src",
            "img": "src",
            "iframe": "src",
            "source": "src",
            "video": "src",
        }
        if tag == "link" and given.get("rel") in (
            "canonical",
            "next",
            "prev",
            "search",
            "index",
            "author",
            "license",
        ):
            return
        if address := given.get(fetched.get(tag, ""), None):
            self.addresses.append(address)


def outside_requests(page: str) -> list[str]:
    parser = Requests()
    parser.feed(page)
    return [address for address in parser.addresses if re.match(r"(https?:)?//", address)]


def test_built_pages_ask_nothing_of_the_network():
    html = ROOT / "_build" / "html"
    if not (html / "index.html").exists():
        pytest.skip("the book is not built: make book")
    found = {p.name: outside_requests(p.read_text(encoding="utf-8")) for p in sorted(html.rglob("*.html"))}
    assert {name: addresses for name, addresses in found.items() if addresses} == {}
    assert (html / "_static" / "mathjax" / "tex-mml-chtml.js").stat().st_size > 1_000_000
    assert "mathjax/tex-mml-chtml.js" in (html / "book" / "intro.html").read_text(encoding="utf-8")


def test_an_outside_request_is_found():
    assert outside_requests('<script src="https://example.org/a.js"></script>') == [
        "https://example.org/a.js"
    ]
    assert outside_requests('<a href="https://example.org">a</a><img src="a.png">') == []
