"""Pages as notebooks: the Python blocks of a plain Markdown page become cells, which the build executes.

MyST-NB has its own syntax for cells, which code hosts do not highlight. This reader lets pages keep ordinary Markdown:

* each block ``python`` is a cell, unless a comment ``<!-- not run: why -->`` stands above it;
* ``<!-- setup`` … ``-->`` is code that runs and that readers do not see: it makes the files that a page speaks of;
* ``<!-- picture: file.jpg -->`` shows a file that the cells above have written.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PART = re.compile(
    r"(?P<no><!-- (?:not run: |plain ONNX)[^>]+-->\n+)?^```python\n(?P<code>.*?)^```\n?"
    r"|^<!-- setup\n(?P<setup>.*?)^-->\n?"
    r"|^<!-- picture: (?P<picture>\S+) -->\n?",
    re.MULTILINE | re.DOTALL,
)
# Warnings are errors, as in the tests; the exceptions are those of pyproject.toml.
FIRST = f"""
import sys, warnings
sys.path.insert(0, {str(Path(__file__).parent)!r})
warnings.simplefilter("error")
warnings.filterwarnings("ignore", category=PendingDeprecationWarning)  # of the kernel itself
warnings.filterwarnings("ignore", category=ResourceWarning)
warnings.filterwarnings("ignore", "Sparse invariant checks|__array__ implementation|`create_unbacked_symint`")
"""


def runs(text: str) -> bool:
    """Return whether a page has code to run."""
    return any(part["code"] and not part["no"] for part in PART.finditer(text))


def read(text: str) -> NotebookNode:
    """Turn a Markdown page into a notebook."""
    title, *rest = _cells(text)  # a page begins with its heading
    first = new_code_cell(FIRST.strip(), metadata={"tags": ["remove-cell"]})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=[title, first, *rest], metadata={"kernelspec": kernel})


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
        elif part["setup"]:
            yield new_code_cell(part["setup"].rstrip(), metadata={"tags": ["remove-cell"]})
        else:
            yield new_code_cell(part["code"].rstrip())
        end = part.end()
    if text[end:].strip():
        yield new_markdown_cell(text[end:])
