"""Docstrings are written in one style: imperative first lines, lower-case descriptions, double backticks."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "detectron2"
_Function = ast.FunctionDef | ast.AsyncFunctionDef

# `x`, but neither ``x`` nor a role such as :class:`x` nor a link `x <https://...>`_
SINGLE_BACKTICKS = re.compile(r"(?<![`:\w])`(?!`)[^`\n]+(?<!`)`(?![`_])")
ARGUMENT = re.compile(
    r"^ {4}\*{0,2}\w[\w.]*(?:, \*{0,2}\w+)*(?: \([^)]*\))?:\s+([A-Z][a-z]+)\b(?!')", re.MULTILINE
)
# Names that keep their capital letter at the start of a description.
NAMES = {"False", "True", "None", "Gaussian", "Euclidean", "Boolean", "Instances", "Boxes"}
NOT_IMPERATIVE = {"The", "A", "An", "Whether", "How", "What"}
THIRD_PERSON = set(
    "Adds Appends Applies Asks Assigns Builds Calculates Calls Changes Checks Clamps Collects Combines Computes"
    " Converts Copies Counts Creates Crops Decides Decodes Defines Deletes Describes Does Downloads Draws Encodes"
    " Evaluates Expects Fetches Fills Filters Finds Finishes Flips Forgets Frees Gathers Generates Gets Gives Goes"
    " Groups Handles Holds Initialises Initializes Joins Keeps Lets Loads Logs Makes Maps Marks Matches Merges Moves"
    " Opens Pads Parses Predicts Prints Processes Produces Puts Reads Records Registers Removes Replaces Reports"
    " Resizes Returns Runs Samples Saves Says Seeds Sends Sets Shows Sorts Splits Starts Stores Sums Takes Tells Tests"
    " Transforms Tries Turns Updates Uses Waits Wraps Writes Yields".split()
)


def _files() -> list[Path]:
    return [p for p in sorted(ROOT.rglob("*.py")) if "configs" not in p.relative_to(ROOT).parts]


def _documented(path: Path) -> Iterator[tuple[str, ast.AST, str]]:
    """Yield place, node and docstring of the module and of each class and function in it."""
    for node in _statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | _Function) and (text := ast.get_docstring(node)):
            yield f"{path.relative_to(ROOT.parent)}:{getattr(node, 'lineno', 1)}", node, text


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield a module and all statements in it, without the expressions, which have no docstrings."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield from _statements(child)


def _is_like_a_noun(node: _Function) -> bool:
    """Return whether a function reads as an attribute, or stands for another: a property or an overload."""
    return any(re.search("property|overload|setter", ast.unparse(d)) for d in node.decorator_list)


def _arguments(text: str) -> str:
    found = re.search(r"^Args:\n((?:[ \t]+.*(?:\n|$)|\n)*)", text, re.MULTILINE)
    return found.group(1) if found else ""


def faults(path: Path) -> list[str]:
    """Return one line for each docstring of a file that leaves the style."""
    found = []
    for place, node, text in _documented(path):
        found += [f"{place}: single backticks, {m.group()}" for m in SINGLE_BACKTICKS.finditer(text)]
        found += [
            f"{place}: description of an argument begins with {m.group(1)!r}; begin in lower case"
            for m in ARGUMENT.finditer(_arguments(text))
            if m.group(1) not in NAMES
        ]
        first = text.split()[0].strip(".,:;")
        if (
            isinstance(node, _Function)
            and not _is_like_a_noun(node)
            and first in NOT_IMPERATIVE | THIRD_PERSON
        ):
            found.append(f"{place}: begins with {first!r}; begin with an imperative such as 'Return'")
    return found


def test_docstrings_of_the_package_follow_the_style():
    found = [line for path in _files() for line in faults(path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ('def f():\n    """Returns one."""', "'Returns'"),
        ('def f():\n    """The one."""', "'The'"),
        ('def f():\n    """Return `one`."""', "`one`"),
        ('class C:\n    """One.\n\n    Args:\n        x: Some number.\n    """', "'Some'"),
        ('class C:\n    """One.\n\n    Args:\n        x, y (int): Some number.\n    """', "'Some'"),
        ('def f():\n    """Return ``one``, see :func:`f` and `a page <https://example.org>`_."""', None),
        ('def f():\n    """Return it.\n\n    Args:\n        x: None or IoU.\n        y: IoU.\n    """', None),
        ('class C:\n    @property\n    def f(self):\n        """The one."""', None),
        ('class C:\n    """A class."""', None),
    ],
)
def test_faults_are_found(tmp_path, monkeypatch, source, fault):
    monkeypatch.setitem(globals(), "ROOT", tmp_path / "package")
    path = tmp_path / "package" / "module.py"
    path.parent.mkdir()
    path.write_text(source, encoding="utf-8")
    found = faults(path)
    assert len(found) == (fault is not None)
    assert fault is None or fault in found[0]
