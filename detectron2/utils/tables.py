"""Plain text tables for logs, without dependencies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["create_grid_table", "create_small_table", "format_table"]


def _text(value: object, floatfmt: str) -> str:
    if isinstance(value, float):
        return format(value, floatfmt)
    return str(value)


def format_table(
    rows: Iterable[Sequence[Any]],
    headers: Sequence[str],
    *,
    floatfmt: str = ".3f",
    align: Sequence[str] | None = None,
) -> str:
    """Format a table with bars that is also valid Markdown.

    Args:
        rows: cells of each row; short rows are filled with empty cells.
        headers: titles of the columns.
        floatfmt: format of floats.
        align: for each column one of "left", "right", "center"; default: numbers right, text left.

    Returns:
        The lines joined by newlines; only header and rule if there are no rows.
    """
    rows = [list(row) + [""] * (len(headers) - len(row)) for row in rows]
    if align is None:
        numeric = [
            bool(rows) and all(isinstance(row[i], (int, float)) or row[i] == "" for row in rows)
            for i in range(len(headers))
        ]
        align = ["right" if flag else "left" for flag in numeric]
    cells = [[_text(value, floatfmt) for value in row] for row in rows]
    widths = [max([3, len(title), *(len(row[i]) for row in cells)]) for i, title in enumerate(headers)]
    place = {"left": str.ljust, "right": str.rjust, "center": str.center}
    rule = {"left": ":{}-", "right": "-{}:", "center": ":{}:"}

    def line(values: Sequence[str]) -> str:
        return "| " + " | ".join(place[a](v, w) for v, w, a in zip(values, widths, align)) + " |"

    dashes = "|" + "|".join(rule[a].format("-" * w) for w, a in zip(widths, align)) + "|"
    return "\n".join([line(headers), dashes, *(line(row) for row in cells)])


def create_small_table(small_dict: Mapping[str, Any]) -> str:
    """Format a small dict as a table of one row, with the keys as the header and three decimals for floats."""
    return format_table([list(small_dict.values())], list(small_dict), align=["center"] * len(small_dict))


def create_grid_table(
    pairs: Iterable[tuple[str, Any]], columns: int = 3, headers: Sequence[str] = ("name", "value")
) -> str:
    """Format many name-value pairs as a table with several pairs per row, such as AP per class.

    Args:
        pairs: names and values, row by row.
        columns: pairs per row.
        headers: titles of one pair, repeated for each.
    """
    flat = [cell for pair in pairs for cell in pair]
    width = min(2 * columns, max(2, len(flat)))
    rows = [flat[i : i + width] for i in range(0, len(flat), width)]
    return format_table(rows, list(headers) * (width // 2), align=["left"] * width)
