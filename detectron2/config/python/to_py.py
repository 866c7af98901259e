"""Format a config as Python-like text, in the layout of common Python formatters."""

import dataclasses
import functools
import keyword
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .targets import target_name

__all__ = ["to_py"]

WIDTH = 88
TARGET = "_target_"


@dataclasses.dataclass
class _Group:
    """Text in brackets that may be split over lines: ``open`` + items + ``close``."""

    open: str
    items: list["_Item"]
    close: str


_Item = tuple[str, "str | _Group"]  # prefix of the value ("name=", '"key": '), and the value


def to_py(cfg: object, prefix: str) -> str:
    """See :meth:`detectron2.config.LazyConfig.to_py`."""
    from omegaconf import OmegaConf, SCMode

    if OmegaConf.is_config(cfg):
        cfg = OmegaConf.to_container(cfg, resolve=True, structured_config_mode=SCMode.INSTANTIATE)
    if not isinstance(cfg, Mapping):
        raise TypeError(f"to_py prints dictionaries, not a {type(cfg).__name__}")
    if TARGET in cfg:
        return "\n".join(_lay_out(prefix.rstrip("."), " = ", _describe(cfg))) + "\n"
    lines: list[str] = []
    for name, value in _assignments(cfg, prefix):
        lines += _lay_out(name, " = ", _describe(value))
    return "\n".join(lines) + "\n"


def _is_name(key: object) -> bool:
    return isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key)


def _sorted(mapping: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    return sorted(mapping.items(), key=lambda item: (isinstance(item[0], str), str(item[0])))


def _assignments(cfg: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield left and right sides; dictionaries become several assignments, except calls and empty ones."""
    for key, value in _sorted(cfg):
        name = f"{prefix}{key}" if _is_name(key) else f"{prefix.removesuffix('.') or 'cfg'}[{_quote(key)}]"
        if isinstance(value, Mapping) and value and TARGET not in value:
            yield from _assignments(value, name + ".")
        else:
            yield name, value


def _quote(value: object) -> str:
    """Format a scalar as a literal, text in double quotes."""
    if not isinstance(value, str):
        return f'float("{value}")' if isinstance(value, float) and value - value != 0 else repr(value)
    text = repr(value)
    if text.startswith("'") and '"' not in text:
        text = '"' + text[1:-1].replace("\\'", "'") + '"'
    return text


def _describe(value: object) -> "str | _Group":
    """Return the text of a value, not yet split into lines."""
    if isinstance(value, Mapping):
        if TARGET in value:
            return _call(value)
        return _Group("{", [(f"{_quote(k)}: ", _describe(v)) for k, v in _sorted(value)], "}")
    if isinstance(value, (list, tuple)):
        return _Group("[", [("", _describe(v)) for v in value], "]")
    if value is None or isinstance(value, (str, int, float, bool)):
        return _quote(value)
    if isinstance(value, functools.partial):
        named = [(f"{k}=", _describe(v)) for k, v in value.keywords.items()]
        given = [("", _describe(v)) for v in (value.func, *value.args)]
        return _Group("functools.partial(", [*given, *named], ")")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [(f"{f.name}=", _describe(getattr(value, f.name))) for f in dataclasses.fields(value)]
        return _Group(f"{target_name(type(value))}(", fields, ")")
    if callable(value) and hasattr(value, "__qualname__"):
        return _function(value)
    return _object(value)


def _call(cfg: Mapping[Any, Any]) -> _Group:
    target = cfg[TARGET]
    if isinstance(target, Mapping):
        name = _one_line(_describe(target))
    elif isinstance(target, str):
        name = target
    else:
        described = _describe(target)
        name = described if isinstance(described, str) else _one_line(described)
    arguments = [(k, v) for k, v in _sorted(cfg) if k != TARGET]
    plain = [(f"{k}=", _describe(v)) for k, v in arguments if _is_name(k)]
    odd = {k: v for k, v in arguments if not _is_name(k)}  # invalid as argument names
    return _Group(f"{name}(", plain + ([("**", _describe(odd))] if odd else []), ")")


def _function(value: Callable[..., object]) -> str:
    """Return the dotted name of a function or class, or a description if it cannot be found by a name."""
    name = target_name(value)
    if all(part.isidentifier() for part in name.split(".")):
        return name
    import os

    code = getattr(value, "__code__", None)
    place = f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}" if code else "?"
    kind = "lambda" if value.__qualname__.endswith("<lambda>") else value.__qualname__
    return f"unnamed_function({_quote(f'{kind} of {place}')})"


def _object(value: object) -> str:
    """Describe an object in a config by the name of its class, never by an address."""
    text = repr(value)
    kind = target_name(type(value))
    if text.startswith(("torch.", "numpy.")) and all(p.isidentifier() for p in text.split(".")):
        return text  # data types are printed as their dotted path
    short = text if len(text) <= 60 and " at 0x" not in text and "\n" not in text else ""
    return f"an_object({_quote(kind)}{', ' + _quote(short) if short else ''})"


# ------------------------------------------------------------ layout
def _one_line(value: "str | _Group") -> str:
    if isinstance(value, str):
        return value
    return value.open + ", ".join(before + _one_line(v) for before, v in value.items) + value.close


def _lay_out(name: str, between: str, value: "str | _Group", indent: int = 0, after: str = "") -> list[str]:
    """Return the lines of ``name`` + ``between`` + value + ``after``.

    Everything is on one line if it fits, else the items between the brackets if they fit, else each item has a line.
    """
    margin = " " * indent
    line = f"{margin}{name}{between}{_one_line(value)}{after}"
    if len(line) <= WIDTH or isinstance(value, str) or not value.items:
        return [line]
    first = f"{margin}{name}{between}{value.open}"
    last = f"{margin}{value.close}{after}"
    inner = " " * (indent + 4) + ", ".join(before + _one_line(v) for before, v in value.items)
    if len(inner) <= WIDTH:
        return [first, inner, last]
    lines = [first]
    for before, item in value.items:
        lines += _lay_out(before, "", item, indent + 4, after=",")
    return [*lines, last]
