"""Sphinx: Markdown pages, tutorials that the build executes, and a reference that it generates from the code."""

import sys
from pathlib import Path

from detectron2 import __version__

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_ext"))
import pages  # noqa: E402

project = "detectron2"
author = "the authors of this package, independent of Detectron2's"
release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "reference"]
exclude_patterns = ["dev/**", "jupyter_execute/**"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# The build runs the Python blocks of the English pages, and fails if one does.
EXECUTED = [p for p in HERE.rglob("*.md") if p.relative_to(HERE).parts[0] not in ("dev", "ko")]
EXECUTED = [p for p in EXECUTED if pages.runs(p.read_text(encoding="utf-8"))]
nb_custom_formats = {f"{HERE.name}/{p.relative_to(HERE).as_posix()}": "pages.read" for p in EXECUTED}
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_output_stderr = "remove"
nb_merge_streams = True

html_theme = "furo"
html_search_scorer = str(HERE / "_static/scorer.js")
html_static_path = ["_static"]
html_css_files = ["style.css"]
suppress_warnings = ["ref.python"]  # names that several projects have; a link then leads to one of them
smartquotes = False  # they would change --options
html_title = f"detectron2 {release}"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "imported-members": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def set_language(app, page, template, context, doctree):
    """Tell browsers which pages are Korean, for their fonts, line breaks and screen readers."""
    if page.startswith("ko/"):
        context["language"] = "ko"
        context["metatags"] += "<style>:lang(ko) { word-break: keep-all; overflow-wrap: anywhere }</style>"


def setup(app):
    app.connect("html-page-context", set_language)
