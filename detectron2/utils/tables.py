"""Plain text tables for logs, without any dependency."""

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
        floatfmt: how to print floats.
        align: for each column one of "left", "right", "center"; numbers go right, text left by default.

    Returns:
        The lines joined by newlines; header and rule alone when there are no rows.
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
    """Format a table of one row, its keys as the header: for a handful of figures.

    Args:
        small_dict: names and values; floats are printed with three decimals.
    """
    return format_table([list(small_dict.values())], list(small_dict), align=["center"] * len(small_dict))


def create_grid_table(
    pairs: Iterable[tuple[str, Any]], columns: int = 3, headers: Sequence[str] = ("name", "value")
) -> str:
    """Many name-value pairs folded into several pairs a row, such as AP per class.

    Args:
        pairs: names and values in order of reading.
        columns: pairs beside each other.
        headers: titles of one pair, repeated for each.
    """
    flat = [cell for pair in pairs for cell in pair]
    width = min(2 * columns, max(2, len(flat)))
    rows = [flat[i : i + width] for i in range(0, len(flat), width)]
    return format_table(rows, list(headers) * (width // 2), align=["left"] * width)
