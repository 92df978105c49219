"""Keep the state of widgets out of the pages.

A page has no kernel and loads no widget library: it shows an explorer's picture (``_config.yml`` says so).
The state, which the notebook runner always stores, would carry every picture a second time.
"""

from typing import Any

STATE = "application/vnd.jupyter.widget-state+json"


def drop(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Leave the state out of the scripts of a page."""
    scripts = context.get("script_files", [])
    context["script_files"] = [s for s in scripts if getattr(s, "attributes", {}).get("type") != STATE]


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("html-page-context", drop)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
