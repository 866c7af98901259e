"""Values of a config: their types, decoding from text, and type checks."""

import ast
import re

from detectron2.utils.errors import BadValue

from ..training_options import LENGTH_KEYS

__all__ = ["LEAF_TYPES", "check_type", "decode", "parse_epochs"]

LEAF_TYPES = (tuple, list, str, int, float, bool, type(None))


_EPOCHS = re.compile(r"\s*(\d+(?:\.\d+)?)\s*ep(?:ochs?)?\s*")


def parse_epochs(value: object) -> float | None:
    """Read a length in epochs: ``"12ep"``, ``"0.5 epochs"``; None for anything else."""
    found = _EPOCHS.fullmatch(value) if isinstance(value, str) else None
    return float(found[1]) if found else None


def _is_length(value: object) -> bool:
    return type(value) is int or parse_epochs(value) is not None


def decode(value: object) -> object:
    """Convert text that is a Python literal to its value; return other text and other values unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def check_type(old: object, new: object, key: str) -> object:
    """Convert ``new`` to the type of ``old``, or refuse.

    Lists and tuples are converted to each other, integers to floats. ``None`` may replace any value and be replaced by
    any, except a section: ``INPUT:`` without a body is a mistake. Lengths (``LENGTH_KEYS``) may change between
    iterations and epochs.

    Raises:
        ValueError: for any other change of type.
    """
    if type(old) is type(new):
        return new
    if (old is None or new is None) and not isinstance(old, dict) and not isinstance(new, dict):
        return new
    if key in LENGTH_KEYS and _is_length(old) and _is_length(new):
        return new
    if isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
        return type(old)(new)
    if isinstance(old, float) and type(new) is int:
        return float(new)
    if isinstance(old, dict) and isinstance(new, dict):
        return new
    hint = ""
    if isinstance(old, (list, tuple)):
        hint = f"; one entry is written as {[new]!r}"
    elif isinstance(old, dict):
        hint = "; a section is followed by indented keys, or left out"
    elif isinstance(old, bool):
        hint = "; write True or False"
    raise BadValue(
        f"{key} is a {type(old).__name__} ({old!r}) and cannot become {new!r}, a {type(new).__name__}{hint}"
    )
