"""Categories of LVIS 0.5: ``LVIS_CATEGORIES``, a list of dicts, read when first asked for."""

from typing import Any

from .builtin_meta import category_rows

__all__ = ["LVIS_CATEGORIES"]

# Filled by __getattr__.
LVIS_CATEGORIES: list[dict[str, Any]]


def __getattr__(name: str) -> list[dict[str, Any]]:
    if name != "LVIS_CATEGORIES":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, category_rows("lvis_v0.5"))
