"""Config changes given on a command line as ``KEY VALUE`` or ``KEY=VALUE``, for either kind of config."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from detectron2.config.training_options import OPTIONS
from detectron2.utils.errors import UnknownNameError

__all__ = ["as_assignments", "as_pairs"]

_ASSIGNMENT = re.compile(r"(?:\+\+|\+)?[A-Za-z_][\w.\[\]-]*=")
_YACS_KEY = re.compile(r"[A-Z][A-Z0-9_]*(?:\.[A-Z0-9_]+)*\Z")


def as_pairs(words: Sequence[str]) -> list[str]:
    """Convert changes to alternating keys and values, for a yacs-style config.

    Raises:
        ValueError: if a key has no value.
        UnknownNameError: for a key of Python configs.
    """
    found: list[str] = []
    for key, value in _changes(words):
        if value is None:
            raise ValueError(f"the config key {key!r} has no value: write {key} VALUE or {key}=VALUE")
        other = next((option.key for option in OPTIONS.values() if option.lazy == key), None)
        if other is not None:
            raise UnknownNameError(f"{key} is a key of Python configs; this YAML config calls it {other}")
        found += [key, value]
    return found


def as_assignments(words: Sequence[str]) -> list[str]:
    """Convert changes to ``key=value``, for a Python config.

    Raises:
        ValueError: if a key has no value.
        UnknownNameError: for a key of yacs-style configs.
    """
    found = []
    for key, value in _changes(words):
        if _YACS_KEY.match(key.lstrip("+~")):
            other = next((option.lazy for option in OPTIONS.values() if option.key == key.lstrip("+")), None)
            hint = f"calls it {other}" if other else "has other keys (`detectron2 config show` prints them)"
            raise UnknownNameError(
                f"{key} is a key of YAML configs; this model has a Python config, which {hint}"
            )
        if value is None and not key.startswith("~"):
            raise ValueError(f"the config key {key!r} has no value: write {key} VALUE or {key}=VALUE")
        found.append(key if value is None else f"{key}={value}")
    return found


def _changes(words: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yield keys and their values; None for a key without a value."""
    left = [str(word) for word in words]
    while left:
        word = left.pop(0)
        if _ASSIGNMENT.match(word):
            key, _, value = word.partition("=")
            yield key, value
        elif word.startswith("~") or not left:
            yield word, None
        else:
            yield word, left.pop(0)
