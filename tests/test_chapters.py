"""The chapters: each theorem has a folded proof and a reason to believe it, and each link has an end."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
# Pages that are no chapters: the front, the ledger, the appendix.
APPARATUS = {
    "intro.md",
    "paper.md",
    "notation.md",
    "glossary.md",
    "runs.md",
    "benchmarks.md",
    "references.md",
    "api.md",
}
PROVED = ("theorem", "proposition", "lemma", "corollary")

PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(BOOK.glob("*.md"))}
CHAPTERS = {name: text for name, text in PAGES.items() if name not in APPARATUS}
LABS = {f"labs/{path.name}": path for path in sorted((BOOK / "labs").glob("*.ipynb"))}

CLAIMS = yaml.safe_load((BOOK / "claims.yml").read_text(encoding="utf-8"))["claims"]

OPENING = re.compile(r"(?P<fence>`{3,}|:{3,})\{(?P<kind>[\w:-]+)\}(?P<title>.*)")


def blocks(text: str, depth: int = 0) -> Iterator[tuple[str, str, dict[str, str], str, int]]:
    """The directives of a page: kind, title, options, body, and the number of the line after them."""
    lines = text.split("\n")
    i = 0
    while i < len(lines):
        opening = OPENING.fullmatch(lines[i].rstrip())
        if opening is None:
            i += 1
            continue
        fence = opening["fence"]
        closing = re.compile(re.escape(fence[0]) + "{" + str(len(fence)) + r",}\s*")
        end = next((j for j in range(i + 1, len(lines)) if closing.fullmatch(lines[j])), len(lines))
        body = lines[i + 1 : end]
        options = {}
        while body and (option := re.fullmatch(r":([\w-]+):\s*(.*)", body[0])):
            options[option[1]] = option[2]
            body = body[1:]
        yield opening["kind"], opening["title"].strip(), options, "\n".join(body), end + 1
        i = end + 1


def paragraph_at(text: str, line: int) -> str:
    """The first paragraph at or after a line, with the formulas that it runs through."""
    parts = "\n".join(text.split("\n")[line:]).lstrip("\n").split("\n\n")
    end = 1
    while end + 1 < len(parts) and parts[end].startswith("$$"):
        end += 2
    return "\n\n".join(parts[:end])


def theorem_faults(text: str, labs: set[str]) -> list[str]:
    """Theorems without a label, without a folded proof, or without a reason to believe them."""
    wrong = []
    found = list(blocks(text))
    for number, (kind, title, options, _, end) in enumerate(found):
        if kind not in [f"prf:{name}" for name in PROVED]:
            continue
        name = options.get("label") or title or f"{kind} without a name"
        if not options.get("label"):
            wrong.append(f"{name}: has no label")
        after = found[number + 1] if number + 1 < len(found) else ("", "", {}, "", 0)
        # A remark may stand between a theorem and its proof, but no heading.
        between = text.split("\n")[end : after[4]]
        opening = next((i for i, line in enumerate(between) if "{prf:proof}" in line), None)
        if (
            after[0] != "prf:proof"
            or opening is None
            or any(line.startswith("#") for line in between[:opening])
        ):
            wrong.append(f"{name}: is not followed by its proof")
            continue
        if "dropdown" not in after[2].get("class", ""):
            wrong.append(f"{name}: its proof can't be folded")
        if len(after[3].split()) < 8:
            wrong.append(f"{name}: its proof is too short to be one")
        reason = paragraph_at(text, after[4])
        if not reason.startswith("**Why believe it.**"):
            wrong.append(f"{name}: does not say why to believe it")
        elif not set(re.findall(r"\]\((labs/\w+\.ipynb)", reason)) & labs:
            wrong.append(f"{name}: its reason leads to no lab that exists")
    return wrong


def exercise_faults(text: str) -> list[str]:
    """Exercises without label or solution, solutions that can't be folded; too few of them."""
    found = list(blocks(text))
    asked = [(title, options.get("label")) for kind, title, options, *_ in found if kind == "exercise"]
    solved = {title: options for kind, title, options, *_ in found if kind == "solution"}
    wrong = [f"{title}: has no label" for title, label in asked if not label]
    wrong += [f"{label}: has no solution" for _, label in asked if label and label not in solved]
    wrong += [
        f"{label}: its solution can't be folded"
        for label, options in solved.items()
        if "dropdown" not in options.get("class", "")
    ]
    labels = {label for _, label in asked}
    wrong += [f"{label}: a solution of nothing" for label in solved if label not in labels]
    if len(asked) < 2:
        wrong.append(f"has {len(asked)} exercises; two to four are wanted")
    return wrong


def labels_of(text: str) -> list[str]:
    """What a page can be linked at: anchors, labels of theorems and exercises, labels of equations."""
    anchors = re.findall(r"^\(([^()\s]+)\)=\s*$", text, flags=re.MULTILINE)
    labelled = [options["label"] for _, _, options, _, _ in all_blocks(text) if "label" in options]
    equations = re.findall(r"^\s*\$\$ \(([^()\s]+)\)\s*$", text, flags=re.MULTILINE)
    terms = [re.sub(r"\s+", " ", term).lower() for term in glossary(text)]
    return [*anchors, *labelled, *equations, *(f"term {term}" for term in terms)]


def all_blocks(text: str) -> Iterator[tuple[str, str, dict[str, str], str, int]]:
    """The directives of a page, and those inside them."""
    for block in blocks(text):
        yield block
        yield from all_blocks(block[3])


def glossary(text: str) -> list[str]:
    """The terms of a page's glossaries."""
    bodies = [body for kind, _, _, body, _ in all_blocks(text) if kind == "glossary"]
    lines = [line for body in bodies for line in body.split("\n")]
    return [line.strip() for line in lines if line.strip() and not line.startswith((" ", ":"))]


def uses(text: str) -> Iterator[tuple[str, str]]:
    """What a page refers to by roles, with the kind of the reference."""
    for role, target in re.findall(r"\{(prf:ref|ref|numref|eq|term)\}`([^`]*)`", text):
        named = re.search(r"<([^<>]*)>$", target)
        yield role, re.sub(r"\s+", " ", named[1] if named else target).strip()


def links(text: str) -> Iterator[str]:
    """The ends of the Markdown links of a page, those to other sites left out."""
    text = re.sub(r"^(`{3,}|~{3,})[^\n{]*\n.*?^\1\s*$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\$\$.*?\$\$|\$[^$\n]*\$", "", text, flags=re.DOTALL)
    for target in re.findall(r"(?<!!)\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(([^()\s]+)\)", text):
        if not re.match(r"\w+://|mailto:", target):
            yield target


def lab_text(path: Path) -> str:
    """The text cells of a lab."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def link_faults(pages: dict[str, str], files: set[str]) -> list[str]:
    """References and links without an end; ``pages`` are the texts by name, ``files`` what is in book/."""
    labels = {name: set(labels_of(text)) for name, text in pages.items()}
    everywhere = set().union(*labels.values())
    wrong = []
    for name, text in pages.items():
        for role, target in uses(text):
            wanted = f"term {target.lower()}" if role == "term" else target
            if wanted not in everywhere:
                wrong.append(f"{name}: {{{role}}}`{target}` has no end")
        for target in links(text):
            place, _, anchor = target.partition("#")
            if not anchor and place in everywhere:  # [text](label)
                continue
            if not place:
                if anchor not in everywhere:
                    wrong.append(f"{name}: no label {anchor!r}, to which ({target}) leads")
                continue
            end = (Path(name).parent / place).as_posix()
            while (shorter := re.sub(r"(^|/)(?!\.\.)[^/]+/\.\./", r"\1", end)) != end:
                end = shorter
            if end not in files:
                wrong.append(f"{name}: no file {end}, to which ({target}) leads")
            elif anchor and anchor not in labels.get(end, set()):
                wrong.append(f"{name}: no label {anchor!r} in {end}, to which ({target}) leads")
    return wrong


def label_faults(pages: dict[str, str]) -> list[str]:
    """Labels that stand twice or are terms as well, and theorems that no page refers to."""
    every = [(label, name) for name, text in pages.items() for label in labels_of(text)]
    seen: dict[str, str] = {}
    wrong = []
    for label, name in every:
        if label in seen:
            wrong.append(f"{label}: stands in {seen[label]} and in {name}")
        if f"term {label}" in {other for other, _ in every}:
            wrong.append(f"{label}: is a label and a term, so [text](#{label}) has two ends")
        seen[label] = name
    used = {claim["theorem"] for claim in CLAIMS if "theorem" in claim}
    used |= {target for text in pages.values() for _, target in uses(text)}
    used |= {link.rpartition("#")[2] for text in pages.values() for link in links(text)}
    for name, text in pages.items():
        for kind, _, options, _, _ in all_blocks(text):
            if kind in [f"prf:{proved}" for proved in PROVED] and options.get("label") not in used:
                wrong.append(f"{name}: nothing refers to {options.get('label')}")
    return wrong


def all_pages() -> dict[str, str]:
    return PAGES | {name: lab_text(path) for name, path in LABS.items()}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_theorem_is_proved_and_believed(chapter):
    assert theorem_faults(CHAPTERS[chapter], set(LABS)) == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapters_have_exercises_and_no_code(chapter):
    assert exercise_faults(CHAPTERS[chapter]) == []
    assert "{code-cell}" not in CHAPTERS[chapter]
    assert not CHAPTERS[chapter].startswith("---")


def test_all_theorems_of_the_plan_are_there():
    labels = {label for text in CHAPTERS.values() for label in labels_of(text)}
    anchors = """hilbert-schmidt singular-system schmidt expansion optimum invariance critical-points evd-form
        joint masks theorem-2 ties sequential head vamp form-domain unbounded-optimum hydrogen-theory
        rivals-spin rivals-neuralef rivals-omm rivals-table"""
    assert set(anchors.split()) - labels == set()
    assert "thm-schmidt" in labels


def test_labels_stand_once_and_theorems_are_used():
    assert label_faults(all_pages()) == []


def test_links_have_an_end():
    files = {path.relative_to(BOOK).as_posix() for path in BOOK.rglob("*") if path.is_file()}
    assert link_faults(all_pages(), files) == []


def test_cited_works_are_in_the_bibliography():
    keys = set(
        re.findall(r"^@\w+\{([^,\s]+),", (BOOK / "references.bib").read_text(encoding="utf-8"), re.MULTILINE)
    )
    cited = {
        key.strip()
        for text in PAGES.values()
        for group in re.findall(r"\{cite(?::\w+)?\}`([^`]*)`", text)
        for key in re.sub(r"\{[^{}]*\}", "", group).split(",")
    }
    assert cited - keys == set()


GOOD = """# A chapter

See {prf:ref}`thm-a`, {eq}`eq-a` and [a lab](labs/a.ipynb); {term}`Gram matrix`.

(here)=
```{prf:theorem} A
:label: thm-a
It is so.
$$
a = b
$$ (eq-a)
```

:::{prf:proof}
:class: dropdown
Because of this, of that, and of nothing else, it is so.
:::

**Why believe it.** [A lab](labs/a.ipynb) computes it.

```{exercise} One
:label: exr-one
Do it.
```

````{solution} exr-one
:class: dropdown
Done.
````

```{exercise} Two
:label: exr-two
Do it again.
```

```{solution} exr-two
:class: dropdown
Done again.
```

```{glossary}
Gram matrix
    A matrix of inner products.
```
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (":label: thm-a\n", ""),
        (":::{prf:proof}\n:class: dropdown", ":::{prf:proof}"),
        ("Because of this, of that, and of nothing else, it is so.", "Clear."),
        (":::{prf:proof}", "## In between, a heading\n\n:::{prf:proof}"),
        ("**Why believe it.**", "It is clear."),
        ("[A lab](labs/a.ipynb) computes", "A lab computes"),
        ("[A lab](labs/a.ipynb) computes", "[A lab](labs/b.ipynb) computes"),
        ("[A lab](labs/a.ipynb) computes it.", "It is so.\n\nSee [a lab](labs/a.ipynb)."),
    ],
)
def test_a_faulty_theorem_is_found(old, new):
    assert theorem_faults(GOOD, {"labs/a.ipynb"}) == []
    assert old in GOOD
    assert theorem_faults(GOOD.replace(old, new), {"labs/a.ipynb"})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (":label: exr-two\n", ""),
        ("{solution} exr-two", "{solution} exr-three"),
        ("````{solution} exr-one\n:class: dropdown", "````{solution} exr-one"),
        ("```{exercise} Two\n:label: exr-two\nDo it again.\n```", ""),
    ],
)
def test_a_faulty_exercise_is_found(old, new):
    assert exercise_faults(GOOD) == []
    assert old in GOOD
    assert exercise_faults(GOOD.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{eq}`eq-a`", "{eq}`eq-b`"),
        ("{prf:ref}`thm-a`", "{prf:ref}`thm-b`"),
        ("{term}`Gram matrix`", "{term}`Gram-Schmidt`"),
        ("(labs/a.ipynb)", "(labs/b.ipynb)"),
        ("[a lab](labs/a.ipynb)", "[here](#there)"),
        ("[a lab](labs/a.ipynb)", "[here](a.md#there)"),
        ("[a lab](labs/a.ipynb)", "[here](../a.md)"),
    ],
)
def test_a_link_without_end_is_found(old, new):
    files = {"a.md", "labs/a.ipynb"}
    pages = {
        "a.md": GOOD,
        "labs/a.ipynb": "[back](../a.md#here), [a theorem](../a.md#thm-a), [us](https://a.org)",
    }
    assert link_faults(pages, files) == []
    assert old in GOOD
    assert link_faults(pages | {"a.md": GOOD.replace(old, new)}, files)
    assert link_faults(pages | {"labs/a.ipynb": "[back](../a.md#there)"}, files)


def test_faulty_labels_are_found():
    assert label_faults({"a.md": GOOD}) == []
    assert label_faults({"a.md": GOOD, "b.md": "(here)="}) == ["here: stands in a.md and in b.md"]
    assert label_faults({"a.md": GOOD.replace("Gram matrix", "Here")})[0].startswith(
        "here: is a label and a term"
    )
    assert label_faults({"a.md": GOOD.replace("{prf:ref}`thm-a`", "it")}) == ["a.md: nothing refers to thm-a"]
