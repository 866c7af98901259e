"""What the modules of a model cost, as a table for the terminal and as a picture."""

from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

from detectron2.utils.profiling import ModuleCost
from detectron2.utils.tables import format_table

__all__ = ["cost_picture", "cost_table"]

INDENT = 2
ROW, HEAD, MARGIN = 20, 56, 12
NAME_WIDTH, COLUMN, BAR = 260, 150, 62
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
STYLE = "font-family:system-ui,'Segoe UI','Helvetica Neue',Arial,sans-serif;font-size:12px"


class _Quantity(NamedTuple):
    title: str
    value: Callable[[ModuleCost], float]
    text: Callable[[float], str]


def _scaled(factor: float, digits: int) -> Callable[[float], str]:
    return lambda value: f"{value / factor:,.{digits}f}"


QUANTITIES = (
    _Quantity("parameters, M", lambda c: c.parameters, _scaled(1e6, 3)),
    _Quantity("GFlops", lambda c: c.flops, _scaled(1e9, 2)),
    _Quantity("activations, M", lambda c: c.activations, _scaled(1e6, 2)),
    _Quantity("memory, MiB", lambda c: c.memory, _scaled(2**20, 1)),
    _Quantity("time, ms", lambda c: c.seconds, _scaled(1e-3, 1)),
)


def cost_table(costs: Sequence[ModuleCost]) -> str:
    """Format the costs of modules as a text table; children are indented.

    Args:
        costs: the whole model first.
    """
    whole = costs[0].seconds or 1.0
    rows = [
        [
            " " * INDENT * c.depth + _short_name(c),
            c.kind,
            c.calls,
            *(q.text(q.value(c)) for q in QUANTITIES),
            f"{c.seconds / whole:.1%}",
        ]
        for c in costs
    ]
    headers = ["module", "class", "calls", *(q.title for q in QUANTITIES), "of time"]
    return format_table(rows, headers, align=["left", "left", *["right"] * (len(headers) - 2)])


def cost_picture(costs: Sequence[ModuleCost], title: str) -> str:
    """Draw the costs of modules as an SVG file: a row each, with a bar for each quantity.

    A full bar is the whole model's figure, except that a module may need more memory at its worst moment than is left
    of it at the model's.

    Args:
        costs: the whole model first.
        title: what was measured, and on what.
    """
    width = 2 * MARGIN + NAME_WIDTH + COLUMN * len(QUANTITIES)
    height = HEAD + ROW * len(costs) + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'style="{STYLE}" role="img"><title>{escape(title)}</title>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{MARGIN}" y="20" font-weight="600">{escape(title)}</text>',
    ]
    for column, quantity in enumerate(QUANTITIES):
        x = MARGIN + NAME_WIDTH + COLUMN * column
        parts.append(f'<text x="{x}" y="{HEAD - 10}" fill="#555">{escape(quantity.title)}</text>')
    for number, cost in enumerate(costs):
        parts.append(_row(cost, costs[0], HEAD + ROW * number, width, shaded=number % 2 == 0))
    return "".join(parts) + "</svg>\n"


def _row(cost: ModuleCost, whole: ModuleCost, y: int, width: int, shaded: bool) -> str:
    baseline = y + ROW - 6
    parts = [f'<rect y="{y}" width="{width}" height="{ROW}" fill="#f4f5f7"/>'] if shaded else []
    x = MARGIN + 14 * cost.depth
    parts.append(
        f'<text x="{x}" y="{baseline}"><title>{escape(cost.name or "the whole model")}: {escape(cost.kind)}</title>'
        f"{escape(_cut(_short_name(cost), (NAME_WIDTH - 14 * cost.depth) // 8))}</text>"
    )
    for column, (quantity, colour) in enumerate(zip(QUANTITIES, COLOURS)):
        value, full = quantity.value(cost), quantity.value(whole)
        x = MARGIN + NAME_WIDTH + COLUMN * column
        bar = BAR * min(value / full, 1.0) if full else 0.0
        parts.append(
            f'<rect x="{x}" y="{y + 4}" width="{bar:.1f}" height="{ROW - 8}" fill="{colour}" rx="1"/>'
        )
        parts.append(f'<text x="{x + BAR + 6}" y="{baseline}" fill="#333">{quantity.text(value)}</text>')
    return "".join(parts)


def _short_name(cost: ModuleCost) -> str:
    return cost.name.rsplit(".", 1)[-1] or "(whole model)"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
