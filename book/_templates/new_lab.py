"""Start a new lab, or give every lab the set-up cell of today.

    python book/_templates/new_lab.py NAME "TITLE"    write book/labs/NAME.ipynb
    python book/_templates/new_lab.py --set-up        renew the cell in every lab

The new notebook has the parts that every lab has. CONTRIBUTING.md, "A new lab", says
what they are for, and tests/test_labs.py holds every lab to it.
"""

import sys
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

HERE = Path(__file__).resolve().parent
LABS = HERE.parent / "labs"

OPENING = """# {title}

One or two sentences: the question, and what the reader will see.

**You will be able to**

* ...

**Time.** To read: ... minutes. To run on two CPU cores: ... (measured). On a GPU: not
measured so far.

**Before you start.** What to know, what to read first.
"""

EXERCISE = """### Exercise 1: a name

By hand | code with a check | predict, then run | open-ended. *About ... minutes.*

What is given, what is asked, in which units and shapes. Write `answer` in the next
cell; the cell after it checks it.
"""

STUB = """def answer(n):
    return None  # your turn
"""

CHECK = """# Self-check of exercise 1: run it as often as you like.
def check_1():
    if answer(0) is None:
        return "Not answered yet. Hint: where to begin."
    tests = {"what is right": answer(0) == 0}
    for test, passed in tests.items():
        print(f"{test}: {passed}")
    return "Well done." if all(tests.values()) else "Not yet. Hint: what to look at."


print(check_1())
"""

SOLUTION = """<details>
<summary>Solution of exercise 1</summary>

Why it is so. The block below is what the test puts into the cell of the answer.

```python
def answer(n):
    return 0 * n
```

</details>
"""

CLOSING = """## Summary

* What was shown, and what was not.
"""

RESULTS = """results = {}  # what this lab stands for: {"name, with its unit": float}
print("All finite:", all(abs(value) < float("inf") for value in results.values()))
"""

FINAL = """# The check of this lab: it stops with an error where the lab does not hold.
assert True
print("This lab holds at the budget", nbsvd.budget())
"""

NEXT = """## What next

* ...
"""


def set_up() -> str:
    """Return the source of the set-up cell."""
    return (HERE / "set_up.py").read_text(encoding="utf-8").rstrip("\n")


def set_up_cell() -> Any:
    """Return the set-up cell: folded in the page, never compared."""
    prompts = {
        "code_prompt_show": "Show the set-up cell",
        "code_prompt_hide": "Hide it",
    }
    metadata = {"mystnb": prompts, "tags": ["hide-input", "nbval-ignore-output"]}
    return new_code_cell(set_up(), id="set-up", metadata=metadata)


def lab(title: str) -> Any:
    """Return a new lab as a notebook."""

    def code(name: str, source: str) -> Any:
        return new_code_cell(source.rstrip("\n"), id=name)

    cells = [
        new_markdown_cell(OPENING.format(title=title).rstrip("\n"), id="opening"),
        set_up_cell(),
        new_markdown_cell(EXERCISE.rstrip("\n"), id="exercise-1"),
        code("exercise-1-answer", STUB),
        code("exercise-1-check", CHECK),
        new_markdown_cell(SOLUTION.rstrip("\n"), id="exercise-1-solution"),
        new_markdown_cell(CLOSING.rstrip("\n"), id="summary"),
        code("results", RESULTS),
        code("final-check", FINAL),
        new_markdown_cell(NEXT.rstrip("\n"), id="what-next"),
    ]
    kernel = {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    }
    return new_notebook(
        cells=cells,
        metadata={"kernelspec": kernel, "language_info": {"name": "python"}},
    )


def renew(notebook: Any) -> Any:
    """Put the set-up cell of today into a lab."""
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source = set_up()
    return notebook


def main(arguments: list[str]) -> int:
    """Do what the command line asks."""
    if arguments == ["--set-up"]:
        for path in sorted(LABS.glob("*.ipynb")):
            nbformat.write(renew(nbformat.read(path, as_version=4)), path)
        return 0
    if len(arguments) != 2 or arguments[0].startswith("-"):
        print(__doc__)
        return 2
    path = LABS / f"{arguments[0]}.ipynb"
    if path.exists():
        print(f"{path} is there already.")
        return 1
    nbformat.write(lab(arguments[1]), path)
    print(f"Written: {path}\nName it in _toc.yml, then `make refresh`.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
