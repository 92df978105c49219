"""The book's own extensions of Sphinx: what folds, what is mended, what is executed."""

import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytest.importorskip("sphinx_proof", reason='the book\'s tools are not installed: pip install -e ".[book]"')
sys.path.insert(0, str(ROOT / "book" / "_ext"))

folding, lab_files, mended_pages, stored_outputs, typefaces = (
    importlib.import_module(name)
    for name in ("folding", "lab_files", "mended_pages", "stored_outputs", "typefaces")
)
sys.path.pop(0)

PAGE = r"""
# A page

:::{prf:theorem} Named
:label: thm-a
A theorem.
:::

:::{prf:proof}
:class: dropdown
$$ 1 + 1 = 2 $$

Then the claim.
:::

:::{prf:proof} of {prf:ref}`thm-a`
* A list to begin with.
:::

:::{exercise} The case $L = 1$
:label: exr-a
Show it.
:::

:::{solution} exr-a
:label: sol-a
:class: dropdown
It is so.
:::

:::{prf:remark}
:label: rem-a
:class: dropdown
A remark that folds.
:::

:::{tip}
:class: dropdown
A tip.
:::

:::{note}
Not folded.
:::
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The HTML of a small page, built without a warning."""
    folder = tmp_path_factory.mktemp("book")
    (folder / "index.md").write_text(PAGE, encoding="utf-8")
    (folder / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT / 'book' / '_ext')!r})\n"
        "extensions = ['myst_parser', 'folding']\nproject = 'a'\nhtml_theme = 'basic'\n"
        "myst_enable_extensions = ['colon_fence', 'dollarmath']\nsuppress_warnings = ['myst.mathjax']\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(folder), str(folder / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return (folder / "out" / "index.html").read_text(encoding="utf-8")


def test_what_has_the_class_folds(page):
    assert page.count('<details class="fold ') == page.count("</details>") == 4
    assert page.count("<details") == page.count("<summary>") == page.count('<div class="fold-content">')
    assert "dropdown" not in page
    for title in ("Proof", "Tip"):
        assert f"<summary>{title}</summary>" in page
    assert "Remark 1" in page.split("of-theorem")[-1].split("<summary>", 2)[2].split("</summary>")[0]


def test_a_proof_may_begin_with_anything(page):
    proof = page.split('<details class="fold proof of-theorem', 1)[1].split("</details>", 1)[0]
    assert "Proof." not in proof
    assert "1 + 1 = 2" in proof.split("Then the claim", 1)[0]
    assert 'Proof of <a class="reference internal" href="#thm-a"' in page


def test_a_title_that_folds_is_no_link(page):
    solution = page.split("<summary>Solution to", 1)[1].split("</summary>", 1)[0]
    assert "Exercise 1" in solution
    assert "<a" not in solution
    assert r"\(L = 1\)" in solution


def test_identifiers_are_unique_and_lead_somewhere(page):
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert {"thm-a", "exr-a", "sol-a", "rem-a"} <= set(ids)
    assert '<a class="headerlink" href="#thm-a"' in page


def test_a_block_without_a_title_is_refused():
    with pytest.raises(ValueError, match="without a title"):
        folding.fold('<div class="admonition dropdown"><p>Text</p></div>')


def test_signatures_are_lists():
    written = (
        '<span class="sig-paren">(</span>\n<dl>\n<dd><em>a</em>,</dd>\n</dl>\n'
        "<span>)</span><dl><dd>x</dd></dl>"
    )
    assert mended_pages.signatures(written) == (
        '<span class="sig-paren">(</span>\n<ul class="sig-parameters">\n<li><em>a</em>,</li>\n</ul>\n'
        "<span>)</span><dl><dd>x</dd></dl>"
    )


def test_scripts_stand_once():
    def script(body: str | None) -> SimpleNamespace:
        return SimpleNamespace(attributes={"body": body} if body else {})

    one, two, again, file, another = (script(s) for s in ("const A = 1", "let b", "const A = 1", None, None))
    assert mended_pages.scripts([one, two, again, file, another]) == [one, two, file, another]


def test_a_default_that_is_made_anew():
    signature = "(a: int = 1, b: dict = <factory>)"
    assert mended_pages.defaults(None, "", "", None, None, signature, "int") == (
        "(a: int = 1, b: dict = ...)",
        "int",
    )
    assert mended_pages.defaults(None, "", "", None, None, None, None) == (None, None)


@pytest.mark.parametrize(
    ("budget", "execute", "stored"),
    [
        ("ci", None, True),
        ("ci", "0", True),
        ("ci", "1", False),
        ("laptop", None, False),
        ("full", "1", False),
    ],
)
def test_labs_are_executed_or_not(monkeypatch, budget, execute, stored):
    monkeypatch.setenv("NBSVD_BUDGET", budget)
    monkeypatch.delenv("NBSVD_EXECUTE", raising=False)
    if execute is not None:
        monkeypatch.setenv("NBSVD_EXECUTE", execute)
    config = SimpleNamespace(nb_execution_excludepatterns=["mine"])
    stored_outputs.choose(None, config)
    assert config.nb_execution_excludepatterns == ["mine"] + [stored_outputs.LABS] * stored
    assert all(lab.match(stored_outputs.LABS) for lab in (ROOT / "book" / "labs").glob("*.ipynb"))
    assert not (ROOT / "book" / "intro.md").match(stored_outputs.LABS)


def test_a_lab_is_offered():
    def body(page: str, source: str) -> str:
        context = {
            "sourcename": source,
            "body": "<h1>A</h1><p>b</p>",
            "pathto": lambda name, _: f"../../{name}",
        }
        lab_files.offer(None, page, "page.html", context, None)
        return context["body"]

    offered = body("book/labs/a", "book/labs/a.ipynb")
    assert 'href="../../_sources/book/labs/a.ipynb" download' in offered
    assert offered.startswith("<h1>A</h1>\n<p")
    assert body("book/a", "book/a.md") == "<h1>A</h1><p>b</p>"


def test_typefaces_are_copied_or_done_without(monkeypatch, tmp_path):
    sheets: list[str] = []
    app = SimpleNamespace(
        builder=SimpleNamespace(format="html"),
        outdir=tmp_path,
        add_css_file=lambda name, priority: sheets.append(name),
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    typefaces.copy_typefaces(app)
    assert sheets == []
    package = tmp_path / "package"
    (package / "files").mkdir(parents=True)
    for name in (
        "LICENSE.txt",
        *(f"{f}.otf" for _, files in typefaces.FAMILIES.values() for f in files.values()),
    ):
        (package / "files" / name).touch()
    found = SimpleNamespace(origin=str(package / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    typefaces.copy_typefaces(app)
    assert sheets == ["typefaces/typefaces.css"]
    css = (tmp_path / "_static" / sheets[0]).read_text(encoding="utf-8")
    for _, files in typefaces.FAMILIES.values():
        for file in files.values():
            assert f'url("{file}.otf")' in css
            assert (tmp_path / "_static" / "typefaces" / f"{file}.otf").exists()
