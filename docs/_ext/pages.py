"""Tutorials as notebooks: the Python blocks of a plain Markdown page become cells, which the build executes.

MyST-NB has its own syntax for cells, which code hosts do not highlight. This reader lets pages keep ordinary Markdown:

* each block ``python`` is a cell, unless a comment ``<!-- not run: why -->`` stands above it;
* ``<!-- picture: file.jpg -->`` shows a file that the cells above have written.
"""

import re
from collections.abc import Iterator

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PART = re.compile(
    r"(?P<no><!-- not run: [^>]+-->\n+)?^```python\n(?P<code>.*?)^```\n?|^<!-- picture: (?P<picture>\S+) -->\n?",
    re.MULTILINE | re.DOTALL,
)
# Warnings are errors, as in the tests; the exceptions are those of pyproject.toml.
SETUP = """
import warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "Sparse invariant checks|__array__ implementation|`create_unbacked_symint`")
"""


def read(text: str) -> NotebookNode:
    """Turn a Markdown page into a notebook."""
    cells = list(_cells(text))
    setup = new_code_cell(SETUP.strip(), metadata={"tags": ["remove-cell"]})
    title, rest = cells[:1], cells[1:]  # the page must begin with its heading
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=[*title, setup, *rest], metadata={"kernelspec": kernel})


def _cells(text: str) -> Iterator[NotebookNode]:
    end = 0
    for part in PART.finditer(text):
        if part["no"]:
            continue  # stays Markdown
        if text[end : part.start()].strip():
            yield new_markdown_cell(text[end : part.start()])
        if part["picture"]:
            show = f"from IPython.display import Image\nImage({part['picture']!r})"
            yield new_code_cell(show, metadata={"tags": ["remove-input"]})
        else:
            yield new_code_cell(part["code"].rstrip())
        end = part.end()
    if text[end:].strip():
        yield new_markdown_cell(text[end:])


def validate(text: str) -> None:
    """Raise if a page gives no valid notebook."""
    nbformat.validate(read(text))
