"""What the comments in the files that declare the config keys say about each key."""

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

from detectron2 import config

FILES = ("defaults.py", "yacs/new_keys.py")
LOCAL = {"_C": "", "cfg": "", "solver": "SOLVER"}


def meanings() -> dict[str, str]:
    """Return the meaning of each key that has a comment.

    A comment stands behind a key, or above one or several keys; it holds until a blank line, another comment, or a key
    with a comment of its own.
    """
    found: dict[str, str] = {}
    for file in FILES:
        text = (Path(config.__file__).parent / file).read_text(encoding="utf-8")
        found |= _meanings(text)
    return found


def _meanings(text: str) -> dict[str, str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = text.splitlines()
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    whole = {n for n in comments if lines[n - 1].lstrip().startswith("#") and "-----" not in comments[n]}
    found, above, expected = {}, "", -1
    for keys, first, last in sorted(_declared(ast.parse(text)), key=lambda k: k[1]):
        behind = [comments[n] for n in range(first, last + 1) if n in comments and n not in whole]
        if first - 1 in whole:
            start = first - 1
            while start - 1 in whole:
                start -= 1
            above = " ".join(comments[n] for n in range(start, first))
        elif first != expected:
            above = ""
        if behind:
            above = ""
        found |= dict.fromkeys(keys, " ".join(behind) or above)
        expected = last + 1
    return {key: meaning for key, meaning in found.items() if meaning}


def _declared(tree: ast.Module) -> Iterator[tuple[list[str], int, int]]:
    """Yield keys that one statement declares, and its first and last line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            yield [_path(ast.unparse(node.targets[0]))], node.lineno, node.end_lineno or node.lineno
        elif isinstance(node, ast.Assign):  # a value for the statement below it
            yield [], node.lineno, node.end_lineno or node.lineno
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            call = node.value
            keys = []
            if (
                isinstance(call.func, ast.Attribute)
                and call.func.attr == "add_optional"
                and isinstance(call.args[0], ast.Constant)
            ):
                keys = [f"{_path(ast.unparse(call.func.value))}.{ast.literal_eval(call.args[0])}"]
            elif isinstance(call.func, ast.Name) and call.func.id == "_group":
                group = f"{_path(ast.unparse(call.args[0]))}.{ast.literal_eval(call.args[1])}"
                keys = [f"{group}.{k.arg}" for k in call.keywords]
            if keys:
                yield keys, node.lineno, node.end_lineno or node.lineno


def _path(text: str) -> str:
    """Return a dotted key, without the variable that it starts with."""
    first, _, rest = text.partition(".")
    return ".".join(part for part in (LOCAL.get(first, first), rest) if part)
