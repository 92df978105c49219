"""Set the book in Source Serif and Source Sans, from its own folder: nothing is asked of the network.

The files come from the Python packages ``font-source-serif-pro`` and ``font-source-sans-pro``, which carry
Adobe's own release (SIL Open Font License). Without them the pages use what the reader's system has.
"""

import importlib.util
import shutil
from pathlib import Path
from typing import Any

from sphinx.util import logging

# Family: package, and the files of its weights and styles.
FAMILIES = {
    "Source Serif": (
        "font_source_serif_pro",
        {
            (400, "normal"): "SourceSerifPro-Regular",
            (400, "italic"): "SourceSerifPro-It",
            (600, "normal"): "SourceSerifPro-Semibold",
            (600, "italic"): "SourceSerifPro-SemiboldIt",
        },
    ),
    "Source Sans": (
        "font_source_sans_pro",
        {
            (400, "normal"): "SourceSansPro-Regular",
            (400, "italic"): "SourceSansPro-It",
            (600, "normal"): "SourceSansPro-Semibold",
        },
    ),
}

FACE = """@font-face {{
  font-family: "{family}";
  font-weight: {weight};
  font-style: {style};
  font-display: swap;
  src: url("{file}.otf") format("opentype");
}}
"""


def copy_typefaces(app: Any) -> None:
    """Copy the files into ``_static/typefaces`` of an HTML build, with the style sheet that names them."""
    if app.builder.format != "html":
        return
    sheet = ""
    target = Path(app.outdir) / "_static" / "typefaces"
    for family, (package, files) in FAMILIES.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            logging.getLogger(__name__).info(
                '%s is not installed (pip install -c constraints.txt -e ".[book]"): '
                "the pages use the reader's own typefaces.",
                package,
            )
            continue
        folder = Path(spec.origin).parent / "files"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy2(folder / "LICENSE.txt", target / f"LICENSE-{package}.txt")
        for (weight, style), file in files.items():
            shutil.copy2(folder / f"{file}.otf", target / f"{file}.otf")
            sheet += FACE.format(family=family, weight=weight, style=style, file=file)
    if sheet:
        (target / "typefaces.css").write_text(sheet, encoding="utf-8")
        app.add_css_file("typefaces/typefaces.css", priority=100)


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", copy_typefaces)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
