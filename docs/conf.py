"""Sphinx: Markdown pages, and the API from the docstrings."""

from detectron2 import __version__

project = "detectron2"
author = "the authors of this package, independent of Detectron2's"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["dev/**"]
html_theme = "furo"
html_title = f"detectron2 {release}"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "imported-members": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False


def set_language(app, page, template, context, doctree):
    """Tell browsers which pages are Korean, for their fonts, line breaks and screen readers."""
    if page.startswith("ko/"):
        context["language"] = "ko"
        context["metatags"] += "<style>:lang(ko) { word-break: keep-all; overflow-wrap: anywhere }</style>"


def setup(app):
    app.connect("html-page-context", set_language)
