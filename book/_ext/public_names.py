"""Let a signature link to a name where it is documented, not where its code happens to stand.

Sphinx writes the type ``Problem`` of a signature as ``nbsvd.problems.base.Problem``, the module of its code;
the API page documents it as ``nbsvd.Problem``. A reference into ``nbsvd`` that is not found is looked up by
its last part, and resolved if exactly one documented object has that name. Anything else stays an error of
the strict build.
"""

from typing import Any

from sphinx.util.nodes import make_refnode


def resolve(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Return a link to the public name, or ``None``."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target:
        return None
    module = node.get("py:module") or ""
    if not (target.startswith("nbsvd.") or module.startswith("nbsvd")):
        return None
    domain, last = env.get_domain("py"), "." + target.rpartition(".")[2]
    places = {(o.docname, o.node_id): (name, o) for name, o in domain.objects.items() if name.endswith(last)}
    objects = {name: o for name, o in places.values() if o.objtype not in ("module", "attribute")}
    if len(objects) != 1:
        return None
    [(_, found)] = objects.items()
    here = node.get("refdoc", env.docname)
    return make_refnode(app.builder, here, found.docname, found.node_id, contnode)


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
