"""Offer the notebook itself at the top of each lab's page."""

from typing import Any

LINK = (
    '<p class="lab-file"><a href="{address}" download>'
    '<i class="fa-solid fa-download" aria-hidden="true"></i>Download this lab (.ipynb)</a></p>'
)


def offer(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Put the link under the title."""
    source = context.get("sourcename") or ""
    if pagename.startswith("book/labs/") and source.endswith(".ipynb"):
        link = LINK.format(address=context["pathto"](f"_sources/{source}", 1))
        context["body"] = context["body"].replace("</h1>", f"</h1>\n{link}", 1)


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("html-page-context", offer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
