"""Let ``[text](page.md#label)`` lead to a label of the page, as it does to a heading.

MyST resolves a link to a place in another file among that file's headings only. The labels that chapters put
before a theorem or a section, ``(schmidt)=``, and the cells that check a claim are known to Sphinx but not to
MyST. Links in labs have to be written in this form, for they must work in JupyterLab as well, where roles and
``[text](#label)`` do not. A label that does not exist stays a warning, and fails the strict build.
"""

from typing import Any


def add_labels(app: Any, env: Any) -> None:
    """Enter each label of a page among the anchors that MyST looks up."""
    domain = env.get_domain("std")
    for label, (docname, target) in domain.anonlabels.items():
        title = domain.labels.get(label, ("", "", ""))[2]
        if docname in env.all_docs:
            env.metadata[docname].setdefault("myst_slugs", {}).setdefault(label, (0, target, title))


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("env-updated", add_labels)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
