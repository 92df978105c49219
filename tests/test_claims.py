"""The ledger: each claim of the paper has an entry, each entry its check; no verdict is typed by hand."""

import copy
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
SENTENCES = Path(__file__).resolve().parent / "paper_sentences.txt"
WHY_NOT = {"aim", "background", "definition", "heading", "history", "setting"}

spec = importlib.util.spec_from_file_location("claims", BOOK / "_ext" / "claims.py")
assert spec is not None
assert spec.loader is not None
ledger: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ledger)

CLAIMS = ledger.load(BOOK / "claims.yml")
LABS = {path.stem: nbformat.read(path, as_version=4) for path in sorted((BOOK / "labs").glob("*.ipynb"))}
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(BOOK.glob("*.md"))}


# The paper's sentences and the entries


def paper() -> str | None:
    """The paper's text: where NBSVD_PAPER points, or in the folder that some checkouts have beside them."""
    if place := os.environ.get("NBSVD_PAPER"):
        return Path(place).read_text(encoding="utf-8")
    for path in sorted((ROOT.parent / "shared" / "seed").glob("*.txt")):
        return path.read_text(encoding="utf-8")
    return None


def sentences(text: str) -> list[str]:
    """The paper from its abstract to its references, cut into sentences, headings and formulas."""
    body = text[text.index("Abstract") : text.rindex("References")]
    blocks = [" ".join(block.split()) for block in re.split(r"\n\s*\n", body)]
    cut = [one for block in blocks for one in re.split(r"(?<=[.!?])\s+(?=[A-Z*$])", block)]
    return [one for one in cut if len(one.split()) > 3]


def digest(sentence: str) -> str:
    return hashlib.sha256(sentence.encode()).hexdigest()[:12]


def frozen() -> list[tuple[str, list[str]]]:
    """Each sentence of the paper as its digest, with the ids of its claims."""
    lines = [
        line
        for line in SENTENCES.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    rows = []
    for line in lines:
        key, _, rest = line.partition("  ")
        if match := re.fullmatch(r"\((\w+)\)", rest):
            assert match[1] in WHY_NOT, line
            rows.append((key, []))
        else:
            rows.append((key, rest.split(", ")))
    return rows


def without_entry(rows: list[tuple[str, list[str]]], claims: list[dict[str, Any]]) -> list[str]:
    """Claims that the paper makes and the ledger lacks, and entries that no sentence makes."""
    made, entered = {name for _, names in rows for name in names}, {claim["id"] for claim in claims}
    return sorted(made ^ entered)


def test_every_claim_of_the_paper_has_an_entry():
    rows = frozen()
    assert len({key for key, _ in rows}) == len(rows) > 90
    assert without_entry(rows, CLAIMS) == []


def test_a_claim_without_entry_is_found():
    assert without_entry(frozen(), CLAIMS[1:]) == [CLAIMS[0]["id"]]
    assert without_entry(frozen(), [*CLAIMS, {"id": "new"}]) == ["new"]


def misquoted(text: str, claims: list[dict[str, Any]]) -> list[str]:
    """Claims whose quotes do not stand in the paper, or not in the sentences that are said to make them."""
    rows = list(zip(sentences(text), frozen(), strict=True))
    wrong = []
    for claim in claims:
        for quote in map(str.split, [claim["quote"], *claim.get("also", [])]):
            if not any(" ".join(quote) in said and claim["id"] in names for said, (_, names) in rows):
                wrong.append(f"{claim['id']}: {' '.join(quote)}")
    return wrong


def test_the_list_is_that_of_the_paper():
    text = paper()
    if text is None:
        pytest.skip("the paper's text is not here: NBSVD_PAPER=paper.txt gives it to this test")
    assert [digest(said) for said in sentences(text)] == [key for key, _ in frozen()]
    assert misquoted(text, CLAIMS) == []
    changed = copy.deepcopy(CLAIMS)
    changed[0]["quote"] = "The implementation does require sophisticated optimization tricks"
    assert len(misquoted(text, changed)) == 1


def test_entries_are_valid():
    assert ledger.faults(CLAIMS) == []


RIGHT = {
    "id": "a",
    "where": "3, Nesting",
    "quote": "It works.",
    "says": "It works.",
    "status": "reproduced",
    "lab": "trial",
    "shows": "it works: True",
}
NOT_RUN = {key: RIGHT[key] for key in ("id", "where", "quote", "says")} | {
    "status": "not run",
    "later": "Later.",
}


@pytest.mark.parametrize(
    "entries",
    [
        [RIGHT, RIGHT],
        [RIGHT | {"status": "plausible"}],
        [RIGHT | {"quote": ""}],
        [RIGHT | {"shown": "a"}],
        [RIGHT | {"also": "one quote"}],
        [RIGHT | {"note": 3}],
        [RIGHT | {"code": ["one", "two"]}],
        [RIGHT | {"command": "rm -r everything"}],
        [RIGHT | {"later": "Some day."}],
        [RIGHT | {"status": "contradicted"}],
        [{key: RIGHT[key] for key in RIGHT if key != "shows"}],
        [{key: RIGHT[key] for key in RIGHT if key != "id"}],
        [NOT_RUN | {"lab": "trial"}],
        [{key: NOT_RUN[key] for key in NOT_RUN if key != "later"}],
    ],
)
def test_a_faulty_entry_is_found(entries):
    assert ledger.faults([RIGHT, NOT_RUN | {"id": "b"}]) == []
    assert ledger.faults(entries)


def lost_commands(claims: list[dict[str, Any]]) -> list[str]:
    """Claims whose command runs a script that is not there."""
    wrong = []
    for claim in claims:
        program, _, rest = claim.get("command", "").partition(" ")
        if program == "python" and not (ROOT / rest.split(" ")[0]).is_file():
            wrong.append(f"{claim['id']}: there is no {rest.split(' ')[0]}")
    return wrong


def test_commands_run_scripts_that_exist():
    assert any("command" in claim for claim in CLAIMS)
    assert lost_commands(CLAIMS) == []
    assert lost_commands([RIGHT | {"command": "python benchmarks/none.py"}])


# The cells


def printed(cell: Any) -> str:
    """What a cell printed when its outputs were stored, and the text of its value."""
    texts = [o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in cell.get("outputs", [])]
    return "".join(texts)


def check_faults(claims: list[dict[str, Any]], labs: dict[str, Any]) -> list[str]:
    """Claims whose check is missing, not compared, or says something else; cells that check no claim."""
    wrong = []
    entered = {(claim["lab"], ledger.cell_of(claim)) for claim in claims if "lab" in claim}
    there = {(lab, cell.id) for lab, notebook in labs.items() for cell in notebook.cells}
    for lab, name in sorted(there):
        if name.startswith("claim-") and (lab, name) not in entered:
            wrong.append(f"{lab}: no entry in claims.yml for the cell {name}")
    for claim in claims:
        if "lab" not in claim:
            continue
        lab, name = claim["lab"], ledger.cell_of(claim)
        if (lab, name) not in there:
            wrong.append(f"{lab}: has no cell {name}")
            continue
        [cell] = [cell for cell in labs[lab].cells if cell.id == name]
        if cell.cell_type != "code":
            wrong.append(f"{lab}: {name} is not a code cell")
            continue
        tags = set(cell.metadata.get("tags", []))
        if tags & {"nbval-ignore-output", "nbval-skip"} or "NBVAL_IGNORE_OUTPUT" in cell.source:
            wrong.append(f"{lab}: what {name} prints is not compared")
        if tags & {"remove-cell", "remove-output", "hide-output", "hide-cell"}:
            wrong.append(f"{lab}: a reader does not see what {name} prints")
        said = printed(cell)
        if claim["shows"] not in said:
            wrong.append(f"{lab}: {name} does not print {claim['shows']!r}")
        if not re.search(r": True\b", said) or re.search(r"\bFalse\b", said):
            wrong.append(f"{lab}: {name} prints no verdict, or a False: {said!r}")
    return wrong


def test_every_checked_claim_has_its_cell():
    assert check_faults(CLAIMS, LABS) == []


def trial(
    name: str = "claim-a", text: str = "it works: True\n", tags: tuple[str, ...] = ()
) -> dict[str, Any]:
    cell = nbformat.v4.new_code_cell("print()", id=name, metadata={"tags": list(tags)}, execution_count=1)
    cell.outputs = [nbformat.v4.new_output("stream", text=text)]
    language = {"name": "python", "pygments_lexer": "ipython3"}
    return {"trial": nbformat.v4.new_notebook(cells=[cell], metadata={"language_info": language})}


@pytest.mark.parametrize(
    "labs",
    [
        {},
        trial("claim-b"),
        trial(text="it runs: True\n"),
        trial(text="it works: True\nit works well: False\n"),
        trial(text="it works: True"[:-6]),
        trial(tags=("nbval-ignore-output",)),
        trial(tags=("remove-output",)),
        {"another": trial()["trial"]},
    ],
)
def test_a_missing_check_is_found(labs):
    assert check_faults([RIGHT], trial()) == []
    assert check_faults([RIGHT], labs)


# The prose

VERDICT = re.compile(r"\b(reproduced|contradicted|not run)\b", flags=re.IGNORECASE)
ROLE = re.compile(r"\{claim(?:-count)?\}`[^`]*`")


def paragraphs(text: str) -> list[str]:
    """Paragraphs, list items and table rows of a page, without code, comments and front matter."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    text = re.sub(r"^(`{3,})\{code-cell\}.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^%.*$", "", text, flags=re.MULTILINE)
    return re.split(r"\n\s*\n|\n(?=\s*[-*|])", text)


def typed_verdicts(text: str, everywhere: bool) -> list[str]:
    """Paragraphs with a verdict that was typed and not looked up.

    ``everywhere``, or only where the paragraph speaks of a claim. A status may be *named*, as code.
    """
    wrong = []
    for paragraph in paragraphs(text):
        rest = re.sub(r"`[^`]*`", "", ROLE.sub("", paragraph))
        if VERDICT.search(rest) and (everywhere or ROLE.search(paragraph)):
            wrong.append(paragraph)
    return wrong


@pytest.mark.parametrize("page", PAGES)
def test_no_verdict_is_typed_by_hand(page):
    assert typed_verdicts(PAGES[page], everywhere=page in ("paper.md", "intro.md")) == []
    named = re.findall(r"\{claim\}`([^`]*)`", PAGES[page])
    assert set(named) <= {claim["id"] for claim in CLAIMS}


def test_a_typed_verdict_is_found():
    assert typed_verdicts("Theorem 2 is {claim}`theorem-2`.\n\nThree are `not run`.", everywhere=True) == []
    assert typed_verdicts("Theorem 2 is reproduced.", everywhere=True)
    assert typed_verdicts("{claim}`theorem-2`, that is, contradicted", everywhere=False)
    assert typed_verdicts("This cell is not run.", everywhere=False) == []


def contrary_prose(claims: list[dict[str, Any]], labs: dict[str, Any]) -> list[str]:
    """Text cells beside a claim's cell that give it another status."""
    status = {(claim.get("lab"), ledger.cell_of(claim)): claim["status"] for claim in claims}
    wrong = []
    for lab, notebook in labs.items():
        for i, cell in enumerate(notebook.cells):
            expected = status.get((lab, cell.id))
            if expected is None:
                continue
            for near in notebook.cells[max(i - 1, 0) : i + 2]:
                said = {word.lower() for word in VERDICT.findall(near.source)}
                if near.cell_type == "markdown" and said - {expected}:
                    wrong.append(f"{lab}, {near.id}: says {sorted(said)}, the ledger says {expected}")
    return wrong


def test_labs_say_what_the_ledger_says():
    assert contrary_prose(CLAIMS, LABS) == []


def test_contrary_prose_is_found():
    labs = trial()
    labs["trial"].cells.append(nbformat.v4.new_markdown_cell("So the claim is reproduced."))
    assert contrary_prose([RIGHT], labs) == []
    labs["trial"].cells.append(nbformat.v4.new_markdown_cell("Elsewhere, one is contradicted."))
    assert contrary_prose([RIGHT], labs) == []
    labs["trial"].cells[1].source = "So the claim is contradicted."
    assert contrary_prose([RIGHT], labs)


# Labels of the theory


def test_links_to_the_theory_have_an_end():
    text = "\n".join(PAGES.values())
    labels = {*re.findall(r"^\(([^)]+)\)=$", text, re.MULTILINE)}
    labels |= {*re.findall(r"^:label: (\S+)$", text, re.MULTILINE)}
    asked = {claim[key] for claim in CLAIMS for key in ("proof", "theorem") if key in claim}
    assert asked - labels == set()


# The extension

PAGE = """# A page

{claim-count}`all` claims, {claim-count}`not run` not yet. The first is {claim}`a`, the second {claim}`b`.

(here)=
## Theory

```{claims}
```
"""

CONF = """import sys
sys.path.insert(0, {ext!r})
extensions = ["myst_nb", "claims"]
claims_file = "claims.yml"
myst_enable_extensions = ["dollarmath"]
nb_execution_mode = "off"
html_theme = "basic"
"""


def build(
    folder: Path, page: str = PAGE, claims: list[dict[str, Any]] | None = None, cell: str = "claim-a"
) -> Any:
    """Build a book of one page and one lab, strictly."""
    source = folder / "source"
    (source / "labs").mkdir(parents=True)
    source.joinpath("conf.py").write_text(CONF.format(ext=str(BOOK / "_ext")), encoding="utf-8")
    more = {"code": "Says $y$.", "command": "python benchmarks/step.py --record"}
    entries = [RIGHT | {"proof": "here", "says": "That $x$ is small."} | more, NOT_RUN | {"id": "b"}]
    source.joinpath("claims.yml").write_text(yaml.safe_dump({"claims": claims or entries}), encoding="utf-8")
    source.joinpath("index.md").write_text(page + "\n```{toctree}\nlabs/trial\n```\n", encoding="utf-8")
    lab = trial(cell)["trial"]
    lab.cells.insert(0, nbformat.v4.new_markdown_cell("# A lab"))
    nbformat.write(lab, source / "labs" / "trial.ipynb")
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *"-q -W -n --keep-going -b html".split(), source, folder / "html"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_ledger_is_a_table_with_links_both_ways(tmp_path):
    done = build(tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "html" / "index.html").read_text(encoding="utf-8")
    lab = (tmp_path / "html" / "labs" / "trial.html").read_text(encoding="utf-8")
    assert "<caption>Claims of the paper’s section 3</caption>" in page
    assert page.count('<th scope="col"') == 3
    assert page.count('<th scope="row"') == 2
    assert '<tr id="ledger-a"' in page
    assert 'id="claim-a"' in lab
    assert page.count('href="labs/trial.html#claim-a"') == 2, "the role and the row"
    assert 'href="#ledger-b"' in page
    assert 'href="#here"' in page
    assert 'href="../index.html#ledger-a"' in lab
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page))
    assert "2 claims, 1 not yet. The first is reproduced, the second not run." in text
    assert "“It works.”" in text
    assert "Shown: it works." in text
    assert "Public code: Says" in text
    assert "Again: python benchmarks/step.py --record" in text
    assert "The paper’s claim a: reproduced." in re.sub(r"<[^>]*>", "", lab)


FAULTY = PAGE.replace("`b`", "`c`").replace("`all`", "`most`").replace("{claims}", "{claims} 9")


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (
            {"page": FAULTY},
            ["no claim has the id 'c'", "no claim can be 'most'", "no claim stands in section 9"],
        ),
        ({"cell": "other"}, ["undefined label: 'claim-a'"]),
        ({"claims": [RIGHT | {"status": "likely"}]}, ["the status 'likely' is none of"]),
    ],
)
def test_a_fault_stops_the_strict_build(tmp_path, change, messages):
    done = build(tmp_path, **change)
    assert done.returncode != 0
    assert [message for message in messages if message not in done.stderr] == []
