"""Put MathJax 3 beside the page, so that the book asks nothing of the network.

The files come from the Python package ``django-static-mathjax``, which carries MathJax's own release
(Apache licence) and needs no Django. Of its 43 MB the pages use about two: the one script, the fonts, and
the TeX extensions that the script fetches when a formula needs them.
"""

import importlib.util
import shutil
from pathlib import Path
from typing import Any

NEEDED = ("tex-mml-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions")


def copy_mathjax(app: Any) -> None:
    """Copy what the pages need into ``_static/mathjax`` of an HTML build."""
    if app.builder.format != "html":
        return
    spec = importlib.util.find_spec("mathjax")
    if spec is None or spec.origin is None:
        raise RuntimeError('MathJax is not installed: pip install -c constraints.txt -e ".[book]"')
    release = Path(spec.origin).parent / "static" / "mathjax"
    target = Path(app.outdir) / "_static" / "mathjax"
    for name in NEEDED:
        source = release / "es5" / name
        if source.is_dir():
            shutil.copytree(source, target / name, dirs_exist_ok=True)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    shutil.copy2(release / "LICENSE", target / "LICENSE")


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
