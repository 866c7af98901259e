"""What the comments in the files that declare config keys say about each key."""

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

LOCAL = {"_C": "", "cfg": "", "solver": "SOLVER"}


def meanings(*files: Path) -> dict[str, str]:
    """Return the meaning of each key that has a comment in these files.

    A comment stands behind a key, or above one or several keys; it holds until a blank line, another comment, or a key
    with a comment of its own.
    """
    found: dict[str, str] = {}
    for file in files:
        found |= _meanings(file.read_text(encoding="utf-8"))
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
        found |= {key: " ".join(behind) or above or found.get(key, "") for key in keys}
        expected = last + 1
    return {key: meaning for key, meaning in found.items() if meaning}


def _declared(tree: ast.Module) -> Iterator[tuple[list[str], int, int]]:
    """Yield keys that one statement declares, and its first and last line."""
    names = dict(LOCAL)  # keys for which variables stand
    statements = [n for n in ast.walk(tree) if isinstance(n, (ast.Assign, ast.Expr))]
    for node in sorted(statements, key=lambda n: n.lineno):
        last = node.end_lineno or node.lineno
        if isinstance(node, ast.Assign):
            chain = [ast.unparse(part) for part in (*node.targets, node.value)]
            path = next((part for part in chain if "." in part and part.partition(".")[0] in names), "")
            if path and isinstance(node.targets[0], ast.Name):  # head = cfg.MODEL.HEAD = CfgNode()
                names[chain[0]] = _path(path, names)
            inner = list(_literal(node.value))
            yield [_path(path, names)] if path else [], node.lineno, node.lineno if inner else last
            for key, line, end in inner:
                yield [f"{_path(path, names)}.{key}"], line, end
        elif isinstance(node.value, ast.Call) and (keys := _added(node.value, names)):
            yield keys, node.lineno, last


def _literal(value: ast.expr) -> Iterator[tuple[str, int, int]]:
    """Yield the keys of ``CfgNode({...})``, and their lines."""
    if isinstance(value, ast.Call) and value.args and isinstance(value.args[0], ast.Dict):
        for key, of in zip(value.args[0].keys, value.args[0].values, strict=True):
            if isinstance(key, ast.Constant):
                yield key.value, key.lineno, of.end_lineno or of.lineno


def _added(call: ast.Call, names: dict[str, str]) -> list[str]:
    """Return the keys that a call of ``add_optional`` or ``_group`` declares."""
    if isinstance(call.func, ast.Attribute) and call.func.attr == "add_optional":
        if isinstance(call.args[0], ast.Constant):
            return [f"{_path(ast.unparse(call.func.value), names)}.{ast.literal_eval(call.args[0])}"]
    elif isinstance(call.func, ast.Name) and call.func.id == "_group":
        group = f"{_path(ast.unparse(call.args[0]), names)}.{ast.literal_eval(call.args[1])}"
        return [f"{group}.{k.arg}" for k in call.keywords]
    return []


def _path(text: str, names: dict[str, str]) -> str:
    """Return a dotted key, with what the variable that it starts with stands for."""
    first, _, rest = text.partition(".")
    return ".".join(part for part in (names.get(first, first), rest) if part)
