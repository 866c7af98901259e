"""Charts as inline SVG, without scripts, fonts or other files."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Series", "bar_chart", "heat_map", "line_chart", "nice_ticks"]

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), which is safe for color-blind readers.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 34
MAX_POINTS = 400


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: text of the legend.
        points: (x, y) pairs in the order of x; pairs with None or non-finite values are skipped.
        faint: whether to draw it thin and pale, without a legend entry, for raw values behind a smoothed line.
    """

    name: str
    points: Sequence[tuple[float | None, float | None]]
    faint: bool = False


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about ``count`` multiples of 1, 2 or 5 times a power of ten within [low, high].

    >>> nice_ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    x_range: tuple[float, float] | None = None,
    empty: str = "Nothing recorded yet.",
) -> str:
    """Draw an SVG line chart with axes, ticks and a legend.

    Args:
        series: lines, drawn in order; faint ones do not advance the color.
        x_label: label of the x axis.
        y_label: label of the y axis.
        y_range: fixed range of y; by default that of the data, starting at zero if zero is close.
        x_range: fixed range of x; by default that of the data.
        empty: text to show if no series has a finite point.

    Returns:
        SVG text, or a paragraph with the text ``empty``.
    """
    kept = [(s, _thin(_finite(s.points))) for s in series]
    kept = [(s, points) for s, points in kept if points]
    if not kept:
        return f'<p class="empty">{escape(empty)}</p>'
    x0, x1 = x_range or _extent([x for _, points in kept for x, _ in points])
    y0, y1 = y_range or _from_zero(*_extent([y for _, points in kept for _, y in points]))
    sx = (WIDTH - LEFT - RIGHT) / (x1 - x0)
    sy = (HEIGHT - TOP - BOTTOM) / (y1 - y0)
    parts = [_frame(x0, x1, y0, y1, sx, sy, x_label, y_label)]
    colour = 0
    for s, points in kept:
        path = " ".join(
            f"{LEFT + (x - x0) * sx:.1f},{HEIGHT - BOTTOM - (min(max(y, y0), y1) - y0) * sy:.1f}"
            for x, y in points
        )
        look = 'stroke-width="1" stroke-opacity=".3"' if s.faint else 'stroke-width="2"'
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{PALETTE[colour % 8]}" {look}>'
            f"<title>{escape(s.name)}</title></polyline>"
        )
        if len(points) == 1:  # a line of one point would not show
            cx, cy = path.split(",")
            parts.append(f'<circle cx="{cx}" cy="{cy}" r="3.5" fill="{PALETTE[colour % 8]}"/>')
        colour += not s.faint
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)}">{"".join(parts)}</svg>'
    return svg + _legend([s.name for s, _ in kept if not s.faint])


def bar_chart(values: Mapping[str, float], *, label: str, top: float | None = None) -> str:
    """Draw horizontal bars, one row per name; non-finite values are shown as a dash.

    Args:
        values: values by name, drawn in order.
        label: meaning of the values.
        top: value of a full bar; by default the largest value.
    """
    finite = [v for v in values.values() if math.isfinite(v)]
    full = top or max(finite, default=0.0) or 1.0
    rows = []
    for name, value in values.items():
        share = 100 * min(max(value / full, 0.0), 1.0) if math.isfinite(value) else 0.0
        text = f"{value:.3g}" if math.isfinite(value) else "–"
        rows.append(
            f'<tr><th scope="row">{escape(name)}</th><td class="bar">'
            f'<span style="width:{share:.1f}%"></span></td><td class="num">{text}</td></tr>'
        )
    return f'<table class="bars" aria-label="{escape(label)}">{"".join(rows)}</table>'


def heat_map(rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]]) -> str:
    """Draw a table, such as a confusion matrix, whose cells are shaded by their fraction of the row's sum.

    Args:
        rows: R row names.
        columns: C column names.
        values: R rows of C counts.
    """
    head = "".join(f'<th scope="col"><span>{escape(c)}</span></th>' for c in columns)
    body = []
    for name, line in zip(rows, values, strict=True):
        total = sum(line) or 1.0
        cells = "".join(
            f'<td style="--shade:{100 * v / total:.0f}%" title="{escape(name)} → {escape(c)}: {v:g}">'
            f"{v:g}</td>"
            if v
            else "<td></td>"
            for c, v in zip(columns, line, strict=True)
        )
        body.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    return (
        '<div class="scroll"><table class="heat"><thead><tr><td></td>'
        f"{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _finite(points: Sequence[tuple[float | None, float | None]]) -> list[tuple[float, float]]:
    known = [(float(x), float(y)) for x, y in points if x is not None and y is not None]
    return [(x, y) for x, y in known if math.isfinite(x) and math.isfinite(y)]


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Select at most MAX_POINTS points evenly, including the last, so that pages of long runs stay small."""
    if len(points) <= MAX_POINTS:
        return points
    step = (len(points) - 1) / (MAX_POINTS - 1)
    return [points[round(i * step)] for i in range(MAX_POINTS)]


def _extent(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        pad = abs(low) * 0.1 or 1.0
        return low - pad, high + pad
    return low, high


def _from_zero(low: float, high: float) -> tuple[float, float]:
    """Extend the range of non-negative data to zero if zero is close."""
    return (0.0, high * 1.05) if 0 <= low < (high - low) * 2 else (low, high)


def _frame(
    x0: float, x1: float, y0: float, y1: float, sx: float, sy: float, x_label: str, y_label: str
) -> str:
    parts = []
    bottom = HEIGHT - BOTTOM
    for t in nice_ticks(y0, y1):
        y = bottom - (t - y0) * sy
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{t:g}</text>')
    for t in nice_ticks(x0, x1):
        x = LEFT + (t - x0) * sx
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{t:g}</text>')
    middle = (TOP + bottom) / 2
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>'
    )
    parts.append(
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _legend(names: Sequence[str]) -> str:
    if len(names) < 2:
        return ""
    items = "".join(
        f'<li><i style="background:{PALETTE[i % 8]}"></i>{escape(name)}</li>' for i, name in enumerate(names)
    )
    return f'<ul class="legend">{items}</ul>'
