"""Proofs, exercises and solutions that fold, by the browser's own ``<details>``.

A block of class ``dropdown`` becomes ``<details>`` with its title as ``<summary>``: it opens by mouse, touch
and keyboard, without a script, is read out as what it is, and a browser's search opens it where the word
stands. It concerns ``{prf:...}``, ``{exercise}``, ``{solution}``, and ``{note}`` and its kin.

``{prf:proof}`` is defined anew: "Proof" is its title instead of the first word of its first line (which
breaks a proof that begins with a formula or a list), and it may be said of what it is a proof:
``{prf:proof} of the second part``. Every numbered block gets a link to itself.
"""

import re
from collections.abc import Callable
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator
from sphinx_exercise import nodes as exercises
from sphinx_proof import nodes as proofs

# Identifiers that sphinx-proof and sphinx-exercise give to every block alike, where they must be unique.
REPEATED = re.compile(r' id="(?:proof|exercise|solution)-content"')
OPENING = re.compile(r'\s*<div class="([^"]*)"([^>]*)>')
TITLE = re.compile(r'<p class="(admonition-title)"[^>]*>(.*?)</p>', flags=re.DOTALL)
LINK = re.compile(r"</?a\b[^>]*>")


class Proof(SphinxDirective):
    """A proof, its title a title."""

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Callable[[str], Any]]] = {"class": directives.class_option}

    def run(self) -> list[nodes.Node]:
        """Return the block, with what it holds parsed."""
        self.assert_has_content()
        block = nodes.admonition(classes=["proof", "of-theorem", *self.options.get("class", [])])
        words, messages = self.state.inline_text(" ".join(["Proof", *self.arguments]), self.lineno)
        block += nodes.title("", "", *words)
        self.state.nested_parse(self.content, self.content_offset, block)
        whole = proofs.proof_node()
        whole += block
        return [whole, *messages]


def fold(html: str) -> str:
    """Make a block with a title into one that folds. A link in the title would be a control in a control."""
    opening, title = OPENING.match(html), TITLE.search(html)
    if opening is None or title is None or not html.rstrip().endswith("</div>"):
        raise ValueError(f"a block of class dropdown without a title can't fold: {html[:200]}")
    classes = " ".join(c for c in opening[1].split() if c not in ("admonition", "dropdown"))
    return (
        f'<details class="fold {classes}"{opening[2]}>\n<summary>{LINK.sub("", title[2]).strip()}</summary>\n'
        f'<div class="fold-content">{html[title.end() :].rstrip().removesuffix("</div>")}</div>\n</details>\n'
    )


def with_link(html: str, name: str) -> str:
    """Put a link to the block at the end of its title."""
    link = f'<a class="headerlink" href="#{name}" title="Link to this place">#</a>'
    return TITLE.sub(lambda m: m[0].removesuffix("</p>") + link + "</p>", html, count=1)


def visitors(visit: Any, depart: Any) -> tuple[Any, Any]:
    """Let a block be written as before, then fold or link what was written."""

    def enter(self: Any, node: Any, *name: str) -> None:
        self.blocks = [*getattr(self, "blocks", []), len(self.body)]
        visit(self, node, *name)

    def leave(self: Any, node: Any) -> None:
        depart(self, node)
        start = self.blocks.pop()
        html = REPEATED.sub("", "".join(self.body[start:]))
        if "dropdown" in node["classes"]:
            html = fold(html)
        elif node["ids"]:
            html = with_link(html, node["ids"][0])
        self.body[start:] = [html]

    return enter, leave


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.setup_extension("sphinx_proof")
    app.setup_extension("sphinx_exercise")
    app.add_directive_to_domain("prf", "proof", Proof, override=True)
    numbered = (proofs.visit_enumerable_node, proofs.depart_enumerable_node)
    kinds = {kind: numbered for kind in proofs.NODE_TYPES.values()}
    kinds |= {
        proofs.unenumerable_node: (proofs.visit_unenumerable_node, proofs.depart_unenumerable_node),
        exercises.exercise_node: (exercises.visit_exercise_node, exercises.depart_exercise_node),
        exercises.exercise_enumerable_node: (
            exercises.visit_exercise_enumerable_node,
            exercises.depart_exercise_enumerable_node,
        ),
        exercises.solution_node: (exercises.visit_solution_node, exercises.depart_solution_node),
    }
    # Sphinx writes a note and its kin by way of this one.
    kinds[nodes.admonition] = (HTML5Translator.visit_admonition, HTML5Translator.depart_admonition)
    for kind, (visit, depart) in kinds.items():
        app.add_node(kind, override=True, html=visitors(visit, depart))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
