"""Mend what the theme and the extensions write and a browser or a reader's helper can't use.

Each function says what was wrong; tests/test_browser.py finds it again if it comes back.
"""

import re
from typing import Any

# Until the theme's own script has run, an unset mode leaves the page without colours.
MODE = (
    "if(!['light','dark'].includes(document.documentElement.dataset.theme))"
    "document.documentElement.dataset.theme="
    "matchMedia('(prefers-color-scheme: dark)').matches?'dark':'light'"
)
SIGNATURE = re.compile(r'(<span class="sig-paren">[(\[]</span>\s*)<dl>(.*?)</dl>', flags=re.DOTALL)


def signatures(html: str) -> str:
    """Write the parameters of a long signature as a list; Sphinx has definitions without terms."""

    def mended(match: re.Match[str]) -> str:
        items = match[2].replace("<dd>", "<li>").replace("</dd>", "</li>")
        return f'{match[1]}<ul class="sig-parameters">{items}</ul>'

    return SIGNATURE.sub(mended, html)


def citations(html: str) -> str:
    """Let the entries of a bibliography be items of their list; the role docutils gives is withdrawn."""
    return html.replace(' role="doc-biblioentry"', ' role="listitem"')


def hidden_cells(html: str) -> str:
    """Let the button over a hidden cell be named by its words; the label MyST-NB gives hides them."""
    return html.replace('<summary aria-label="Toggle hidden content">', "<summary>")


def scripts(files: list[Any]) -> list[Any]:
    """Leave each script once: extensions that Jupyter Book sets up twice declare their constants twice."""
    kept, bodies = [], set()
    for file in files:
        body = getattr(file, "attributes", {}).get("body")
        if body is None or body not in bodies:
            kept.append(file)
        bodies.add(body)
    return kept


def mend(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Mend one page before its template is filled."""
    context["default_mode"] = "auto"
    context["script_files"] = scripts(context.get("script_files", []))
    if context.get("body"):
        context["body"] = hidden_cells(citations(signatures(context["body"])))


def defaults(app: Any, what: str, name: str, obj: Any, options: Any, signature: Any, result: Any) -> Any:
    """Write the default of a field that is made anew as ``...``: Sphinx gives up on ``<factory>``."""
    return (signature or "").replace("<factory>", "...") or None, result


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_js_file(None, body=MODE, priority=1)
    app.add_js_file("nbsvd.js", defer="defer")
    app.connect("autodoc-process-signature", defaults)
    app.connect("html-page-context", mend, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
