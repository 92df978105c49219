"""The ledger: what the paper claims, and whether the book's labs bear it out.

``book/claims.yml`` holds the claims, one entry each, with a status that is one of :data:`STATUSES`. A claim
that was checked names a lab, and in that lab the cell with the id ``claim-ID`` checks it. It may also say
what the public code of the paper does (``code``) and which ``command`` repeats what no lab runs. Pages get

* ``{claims}``: the ledger as tables, one for each section of the paper; its argument may name one section;
* ``{claim}`ID```: the status of one claim, as a link to the cell that checks it, or to its row in the ledger;
* ``{claim-count}`reproduced```: how many claims have a status (``all``: how many there are),

and under each cell ``claim-ID`` of a lab stands a line that leads back to the ledger. Where a cell is
missing, the link to it does not resolve, and the strict build fails. ``tests/test_claims.py`` checks the
rest: the entries, the cells and what they print.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import nbformat
import yaml
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective, SphinxRole

STATUSES = ("reproduced", "contradicted", "not run")
NEEDED = ("id", "where", "quote", "says", "status")
CHECKED = ("lab", "shows")
OPTIONAL = ("also", "note", "proof", "theorem", "later", "code", "command")
PROGRAMS = ("python", "nbsvd", "make")  # what a command may begin with

Claim = dict[str, Any]


def load(path: Path) -> list[Claim]:
    """Return the claims of a file, in the order of the paper."""
    told = yaml.safe_load(path.read_text(encoding="utf-8"))
    return cast(list[Claim], told["claims"])


def faults(claims: Iterable[Claim]) -> list[str]:
    """Say what is wrong with the entries themselves; nothing, if all is well."""
    wrong: list[str] = []
    seen: set[str] = set()
    for number, claim in enumerate(claims):
        name = str(claim.get("id", f"entry {number}"))
        if name in seen:
            wrong.append(f"{name}: stands twice")
        seen.add(name)
        wrong += [f"{name}: has no {key}" for key in NEEDED if not claim.get(key)]
        known = {*NEEDED, *CHECKED, *OPTIONAL}
        wrong += [f"{name}: {key} is no field of a claim" for key in claim if key not in known]
        if not isinstance(claim.get("also", []), list):
            wrong.append(f"{name}: also is a list of quotes")
        for key in (*NEEDED, *CHECKED, *OPTIONAL):
            if key in claim and key != "also" and not isinstance(claim[key], str):
                wrong.append(f"{name}: {key} is not a text")
        status = claim.get("status")
        if status not in STATUSES:
            wrong.append(f"{name}: the status {status!r} is none of {', '.join(STATUSES)}")
        elif status == "not run":
            wrong += [f"{name}: was not run, and has a {key}" for key in CHECKED if key in claim]
            if not claim.get("later"):
                wrong.append(f"{name}: was not run, and does not say what will (later)")
        else:
            wrong += [f"{name}: is {status}, and has no {key}" for key in CHECKED if not claim.get(key)]
            if "later" in claim:
                wrong.append(f"{name}: is {status}, and still says what will run it (later)")
            if status == "contradicted" and not claim.get("note"):
                wrong.append(f"{name}: is contradicted, and does not say what is true instead (note)")
        if "command" in claim and str(claim["command"]).split(" ")[0] not in PROGRAMS:
            wrong.append(f"{name}: a command begins with {', '.join(PROGRAMS)}")
    return wrong


def section(claim: Claim) -> str:
    """Return the section of the paper, without the paragraph: ``3, Nesting`` stands in section ``3``."""
    return str(claim["where"]).split(",")[0]


def cell_of(claim: Claim) -> str:
    """Return the id of the cell that checks a claim."""
    return f"claim-{claim['id']}"


def row_of(claim: Claim) -> str:
    """Return the id of a claim's row in the ledger."""
    return f"ledger-{claim['id']}"


def look(claim: Claim) -> list[str]:
    """Return the classes that style a claim's status."""
    return ["claim", "claim-" + str(claim["status"]).replace(" ", "-")]


class ledger(nodes.General, nodes.Element):
    """A table of claims."""


class ledger_row(nodes.General, nodes.Element):
    """One claim; its id is the target of links."""


class ledger_cell(nodes.General, nodes.Element):
    """One cell of a row; ``label`` names its column where the table becomes a list, on a telephone."""


COLUMNS = ("The paper says", "In our words", "Status")


def visit_ledger(self: Any, node: nodes.Element) -> None:
    """Open a table, with its caption and the heads of its columns."""
    # The roles say again what the tags say: on a telephone the style sheet makes blocks of rows and cells,
    # and browsers then forget that they were a table.
    heads = "".join(f'<th scope="col" role="columnheader">{name}</th>' for name in COLUMNS)
    self.body.append(
        f'<table class="claims table" role="table"><caption>{self.encode(node["caption"])}</caption>'
    )
    self.body.append(f'<thead role="rowgroup"><tr role="row">{heads}</tr></thead><tbody role="rowgroup">\n')


def depart_ledger(self: Any, node: nodes.Element) -> None:
    """Close the table."""
    self.body.append("</tbody></table>\n")


def visit_row(self: Any, node: nodes.Element) -> None:
    """Open a row."""
    self.body.append(f'<tr id="{node["ids"][0]}" role="row">\n')


def depart_row(self: Any, node: nodes.Element) -> None:
    """Close a row."""
    self.body.append("</tr>\n")


def visit_cell(self: Any, node: nodes.Element) -> None:
    """Open a cell; the first is the head of its row."""
    first = node["label"] == COLUMNS[0]
    tag = '<th scope="row" role="rowheader"' if first else '<td role="cell"'
    self.body.append(f'{tag} data-label="{node["label"]}">')


def depart_cell(self: Any, node: nodes.Element) -> None:
    """Close a cell."""
    self.body.append("</th>\n" if node["label"] == COLUMNS[0] else "</td>\n")


def claims_of(env: Any) -> dict[str, Claim]:
    """Return the book's claims by id, and let the page that asks be read again when they change."""
    path = Path(env.srcdir) / env.config.claims_file
    env.note_dependency(str(path))
    claims = load(path)
    wrong = faults(claims)
    if wrong:
        raise ExtensionError(f"{path.name}: " + "; ".join(wrong))
    return {claim["id"]: claim for claim in claims}


def link(text: str, target: str, docname: str, *classes: str) -> addnodes.pending_xref:
    """Return a link to a label, resolved when all pages are known."""
    inner = nodes.inline("", text, classes=["std", "std-ref", *classes])
    return addnodes.pending_xref(
        "",
        inner,
        refdomain="std",
        reftype="ref",
        reftarget=target,
        refexplicit=True,
        refwarn=True,
        refdoc=docname,
    )


def verdict(claim: Claim, docname: str) -> nodes.Node:
    """Return a claim's status, as a link: to the cell that checks it, or to its row where none does."""
    target = row_of(claim) if claim["status"] == "not run" else cell_of(claim)
    return link(claim["status"], target, docname, *look(claim))


class ClaimsDirective(SphinxDirective):
    """``{claims}``: the ledger, whole or of one section of the paper."""

    optional_arguments = 1
    option_spec = {"caption": directives.unchanged}  # noqa: RUF012

    def words(self, text: str) -> list[nodes.Node]:
        """Read text as the page itself is read, formulas included."""
        parsed = self.parse_text_to_nodes(text)
        return list(parsed)

    def row(self, claim: Claim) -> nodes.Node:
        """Return the row of one claim."""
        docname = self.env.docname
        said = ledger_cell(label=COLUMNS[0])
        for quote in (claim["quote"], *claim.get("also", [])):
            said += nodes.paragraph("", "", *self.quoted(quote), classes=["quoted"])
        said += nodes.paragraph("", claim["where"], classes=["where"])

        reads = ledger_cell(label=COLUMNS[1])
        reads += self.words(claim["says"])
        for key in ("note", "later"):
            if key in claim:
                reads += self.words(claim[key])
        if "shows" in claim:
            shown = claim["shows"].removesuffix(": True")
            reads += nodes.paragraph("", "", nodes.emphasis("", "Shown:"), nodes.Text(f" {shown}."))
        if "code" in claim:
            reads += self.words(f"*Public code:* {claim['code']}")
        if "command" in claim:
            again = nodes.paragraph(
                "", "", nodes.emphasis("", "Again:"), nodes.Text(" "), classes=["command"]
            )
            again += nodes.literal("", claim["command"])
            reads += again

        status = ledger_cell(label=COLUMNS[2])
        shown = nodes.inline("", claim["status"], classes=look(claim))
        status += nodes.paragraph("", "", nodes.strong("", "", shown))
        if "lab" in claim:
            status += nodes.paragraph("", "", link(f"checked in {claim['lab']}", cell_of(claim), docname))
        if "theorem" in claim:
            status += self.words(f"{{prf:ref}}`{claim['theorem']}`")
        elif "proof" in claim:
            status += nodes.paragraph("", "", link("the theory", claim["proof"], docname))
        status += nodes.paragraph("", "", nodes.literal("", claim["id"]), classes=["where"])

        row = ledger_row("", said, reads, status, ids=[row_of(claim)], names=[])
        row.source, row.line = self.get_source_info()
        return row

    def quoted(self, quote: str) -> list[nodes.Node]:
        """Return a quote between quotation marks, its formulas set."""
        # A piece of one of the paper's displayed formulas comes without dollars.
        formula = "\\" in quote and "$" not in quote
        [paragraph] = self.words(f"${quote}$" if formula else quote)
        return [nodes.Text("“"), *paragraph.children, nodes.Text("”")]

    def run(self) -> list[nodes.Node]:
        """Make the tables."""
        claims = claims_of(self.env)
        wanted = self.arguments[0] if self.arguments else None
        names = list(dict.fromkeys(section(claim) for claim in claims.values()))
        if wanted is not None and wanted not in names:
            raise self.error(f"no claim stands in section {wanted}: there are {', '.join(names)}")
        made: list[nodes.Node] = []
        for name in names if wanted is None else [wanted]:
            title = f"section {name}" if name[0].isdigit() else name.lower()
            caption = self.options.get("caption", f"Claims of the paper’s {title}")
            rows = [self.row(claim) for claim in claims.values() if section(claim) == name]
            made.append(ledger("", *rows, caption=caption))
            for claim in claims.values():
                if section(claim) == name:
                    note_label(self.env, row_of(claim), self.env.docname)
        return made


class ClaimRole(SphinxRole):
    """``{claim}`ID```: the status of a claim, typed by nobody."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Look the status up."""
        claims = claims_of(self.env)
        if self.text not in claims:
            said = self.inliner.reporter.error(f"no claim has the id {self.text!r}", line=self.lineno)
            return [nodes.problematic(self.rawtext, self.rawtext)], [said]
        return [verdict(claims[self.text], self.env.docname)], []


class CountRole(SphinxRole):
    """``{claim-count}`STATUS```: how many claims have it."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Count."""
        claims = claims_of(self.env).values()
        if self.text not in (*STATUSES, "all"):
            said = self.inliner.reporter.error(f"no claim can be {self.text!r}", line=self.lineno)
            return [nodes.problematic(self.rawtext, self.rawtext)], [said]
        number = sum(self.text in ("all", claim["status"]) for claim in claims)
        return [nodes.Text(str(number))], []


def note_label(env: Any, name: str, docname: str) -> None:
    """Let pages link to an id of a page."""
    env.get_domain("std").note_hyperlink_target(name, docname, name)


def mark_cells(app: Any, doctree: nodes.document) -> None:
    """Give each cell ``claim-ID`` of a lab an address, and a line below it that leads to the ledger."""
    env = app.env
    source = Path(env.doc2path(env.docname))
    if source.suffix != ".ipynb":
        return
    cells = nbformat.read(source, as_version=4).cells
    claims: dict[str, Claim] | None = None
    for cell in list(doctree.findall(nodes.container)):
        if cell.get("nb_element") != "cell_code":
            continue
        name = str(cells[cell["cell_index"]].get("id", ""))
        if not name.startswith("claim-"):
            continue
        claims = claims_of(env) if claims is None else claims
        cell["ids"] = [*cell["ids"], name]
        note_label(env, name, env.docname)
        claim = claims.get(name.removeprefix("claim-"))
        if claim is None:
            raise ExtensionError(f"{source.name}: {env.config.claims_file} has no claim for the cell {name}")
        line = nodes.paragraph("", classes=["claim-line"])
        line += nodes.Text("The paper’s claim ")
        line += link(claim["id"], row_of(claim), env.docname)
        line += nodes.Text(": ")
        line += nodes.inline("", claim["status"], classes=look(claim))
        line += nodes.Text(".")
        cell.parent.insert(cell.parent.index(cell) + 1, line)


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_config_value("claims_file", "book/claims.yml", "env", types=(str,))
    app.add_node(ledger, html=(visit_ledger, depart_ledger))
    app.add_node(ledger_row, html=(visit_row, depart_row))
    app.add_node(ledger_cell, html=(visit_cell, depart_cell))
    app.add_directive("claims", ClaimsDirective)
    app.add_role("claim", ClaimRole())
    app.add_role("claim-count", CountRole())
    app.connect("doctree-read", mark_cells)
    app.add_css_file("claims.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
