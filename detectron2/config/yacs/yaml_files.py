"""Read YAML config files safely, as data, with the ``_BASE_`` files that they extend."""

import os
from typing import IO, Any

import yaml

from detectron2.utils.errors import NoSuchFile
from detectron2.utils.file_io import PathManager
from detectron2.utils.file_io.text import decode_text

__all__ = ["BASE_KEY", "load_with_base", "merge_into", "parse", "path_beside"]

BASE_KEY = "_BASE_"
MAX_DEPTH = 100
MAX_NODES = 1_000_000


class _Loader(yaml.SafeLoader):
    """Plain YAML, plus the harmless tag that Python's own dumper writes for tuples."""


def _tuple(loader: yaml.SafeLoader, node: yaml.Node) -> tuple[Any, ...]:
    assert isinstance(node, yaml.SequenceNode)
    return tuple(loader.construct_sequence(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)


def _text(stream: str | bytes | IO[str] | IO[bytes], source: str) -> str:
    content = stream if isinstance(stream, (str, bytes)) else stream.read()
    try:
        return content if isinstance(content, str) else decode_text(content)
    except ValueError as e:
        raise ValueError(f"{source} is not valid YAML: {e}") from e


def parse(stream: str | bytes | IO[str] | IO[bytes], source: str = "text") -> Any:
    """Read YAML as dictionaries, lists and scalars, without running code.

    Args:
        stream: text, bytes (UTF-8 or UTF-16, with or without a byte order mark, or an East Asian code page), or an open
            file.
        source: name for errors.

    Raises:
        ValueError: if it is not valid YAML, contains a Python object, is nested more than :data:`MAX_DEPTH` deep, or
            its aliases expand to more than :data:`MAX_NODES` values.
    """
    loader: _Loader | None = None
    try:
        loader = _Loader(_text(stream, source))
        root = loader.get_single_node()
        if root is None:
            return None
        _measure(root, source)
        return loader.construct_document(root)
    except yaml.constructor.ConstructorError as e:
        mark = e.problem_mark
        where = f", line {mark.line + 1}" if mark else ""
        raise ValueError(f"{source}{where}: {e.problem}. A config is data; no code is run from it.") from e
    except yaml.YAMLError as e:
        raise ValueError(f"{source} is not valid YAML: {e}") from e
    except RecursionError:
        raise ValueError(f"{source} is nested more than {MAX_DEPTH} deep") from None
    except UnicodeError as e:
        raise ValueError(f"{source} is not UTF-8 or UTF-16 text: {e}") from e
    except (ValueError, OverflowError) as e:  # a number or a date that Python cannot hold
        text = str(e)
        raise ValueError(text if text.startswith(source) else f"{source}: {text}") from e
    finally:
        if loader is not None:
            loader.dispose()


def _measure(root: yaml.Node, source: str) -> None:
    """Refuse documents whose depth, or size after expanding aliases, would stall a program."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def visit(node: yaml.Node, depth: int) -> int:
        if depth > MAX_DEPTH:
            raise ValueError(f"{source} is nested more than {MAX_DEPTH} deep")
        if id(node) in open_nodes:
            raise ValueError(f"{source} has an alias that contains itself")
        if id(node) not in sizes:
            open_nodes.add(id(node))
            children: list[yaml.Node] = []
            if isinstance(node, yaml.SequenceNode):
                children = node.value
            elif isinstance(node, yaml.MappingNode):
                children = [child for pair in node.value for child in pair]
            sizes[id(node)] = 1 + sum(visit(child, depth + 1) for child in children)
            open_nodes.discard(id(node))
        if sizes[id(node)] > MAX_NODES:
            raise ValueError(f"{source} expands to more than {MAX_NODES:,} values through its aliases")
        return sizes[id(node)]

    visit(root, 0)


def merge_into(new: dict[str, Any], into: dict[str, Any]) -> None:
    """Merge ``new`` into ``into``, recursively where both values are dictionaries."""
    for key, value in new.items():
        old = into.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            merge_into(value, old)
        else:
            into[key] = value


def load_with_base(path: str, chain: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a YAML file, and merge it over the files in its ``_BASE_``.

    ``_BASE_`` is a path or a list of paths (later ones have priority), relative to the file itself; ``~`` and URLs are
    accepted.

    Args:
        path: a file, or any URL that ``PathManager`` opens.
        chain: files that have this one as a base, to detect circles.

    Returns:
        The merged dictionary, without the key ``_BASE_``.

    Raises:
        FileNotFoundError: if a file is missing; the message names the file that needs it.
        ValueError: if the YAML is invalid, a file is not a mapping, or the bases form a circle.
    """
    asked = f", the {BASE_KEY} of {chain[-1]}" if chain else ""
    if path in chain:
        raise ValueError(f"the {BASE_KEY} files form a circle: {' -> '.join([*chain, path])}")
    try:
        with PathManager.open(path, "rb") as f:
            content = parse(f, path)
    except FileNotFoundError as e:
        raise NoSuchFile(f"no config file {path}{asked}") from e
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: a config file must be a mapping of keys to values, this one is a {type(content).__name__}"
        )
    bases = content.pop(BASE_KEY, [])
    merged: dict[str, Any] = {}
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, (list, tuple)) or not all(isinstance(base, str) for base in bases):
        raise ValueError(f"{path}: {BASE_KEY} must be a path or a list of paths, got {bases!r}")
    for base in bases:
        merge_into(load_with_base(_beside(path, base), (*chain, path)), merged)
    merge_into(content, merged)
    return merged


def _beside(path: str, base: str) -> str:
    base = os.path.expanduser(base)
    return base if "://" in base or os.path.isabs(base) else path_beside(path, base)


def path_beside(filename: str, other: str) -> str:
    """Resolve the path ``other`` relative to the folder of a file, which may be a URL."""
    scheme, separator, path = filename.rpartition("://")
    return f"{scheme}{separator}{os.path.normpath(os.path.join(os.path.dirname(path), other))}"
