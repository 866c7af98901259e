"""Charts as inline SVG, without fonts or other files; the page's script shows the values under the pointer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["COLORS", "Series", "bar_chart", "heat_map", "line_chart", "nice_ticks", "thinned"]

COLORS = 7  # classes s0 to s6 of base.html: colours that colour-blind readers can tell apart, and dashes
WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 68, 12, 10, 36
MAX_POINTS = 400


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: text of the legend.
        points: (x, y) pairs in the order of x; pairs with None or non-finite values are skipped.
    """

    name: str
    points: Sequence[tuple[float | None, float | None]]


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

    The points of a line are the data themselves, scaled by a transform, so that the script of the page can read them.

    Args:
        series: lines, drawn in order.
        x_label: label of the x axis.
        y_label: label of the y axis.
        y_range: fixed range of y; by default that of the data, starting at zero if zero is close.
        x_range: fixed range of x; by default that of the data.
        empty: text to show if no series has a finite point.

    Returns:
        SVG text, or a paragraph with the text ``empty``.
    """
    kept = [(s.name, thinned(_finite(s.points))) for s in series]
    kept = [(name, points) for name, points in kept if points]
    if not kept:
        return f'<p class="empty">{escape(empty)}</p>'
    x0, x1 = x_range or _extent([x for _, points in kept for x, _ in points])
    y0, y1 = y_range or _from_zero(*_extent([y for _, points in kept for _, y in points]))
    sx, sy = (WIDTH - LEFT - RIGHT) / (x1 - x0), (HEIGHT - TOP - BOTTOM) / (y1 - y0)
    lines, dots = [], []
    for k, (name, points) in enumerate(kept):
        inside = [(x, min(max(y, y0), y1)) for x, y in points]
        path = " ".join(f"{x:.7g},{y:.4g}" for x, y in inside)
        lines.append(
            f'<polyline class="s{k % COLORS}" points="{path}"><title>{escape(name)}</title></polyline>'
        )
        if len(points) == 1:  # a line of one point would not show
            x, y = LEFT + (inside[0][0] - x0) * sx, HEIGHT - BOTTOM - (inside[0][1] - y0) * sy
            dots.append(f'<circle class="s{k % COLORS}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')
    move = f"translate({LEFT - x0 * sx:.6g} {HEIGHT - BOTTOM + y0 * sy:.6g}) scale({sx:.6g} {-sy:.6g})"
    last = "; ".join(f"{name} {points[-1][1]:.3g} at {points[-1][0]:.6g}" for name, points in kept)
    return (
        f'<svg class="lines" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" data-x="{escape(x_label)}" '
        f'aria-label="{escape(y_label)} by {escape(x_label)}. Last values: {escape(last)}.">'
        f"{_frame(x0, x1, y0, y1, sx, sy, x_label, y_label)}"
        f'<g transform="{move}">{"".join(lines)}</g>{"".join(dots)}</svg>'
        + _legend([name for name, _ in kept])
    )


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
        text = (f"{value:,.0f}" if value == round(value) else f"{value:.3g}") if math.isfinite(value) else "–"
        rows.append(
            f'<tr title="{escape(name)}: {text}"><th scope="row">{escape(name)}</th><td class="bar">'
            f'<span style="width:{share:.1f}%"></span></td><td class="num">{text}</td></tr>'
        )
    return f'<table class="bars" aria-label="{escape(label)}">{"".join(rows)}</table>'


def heat_map(rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]]) -> str:
    """Draw counts, such as a confusion matrix, as a table of percentages of the row's sum.

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
            f'<td style="--shade:{v / total:.2f}" title="{escape(name)} → {escape(c)}: {v:g} of {total:g}">'
            f"{100 * v / total:.0f}</td>"
            if v
            else "<td></td>"
            for c, v in zip(columns, line, strict=True)
        )
        body.append(f'<tr><th scope="row">{escape(name)}</th>{cells}<td class="sum">{sum(line):g}</td></tr>')
    return (
        '<div class="scroll" tabindex="0"><table class="heat"><thead><tr><td></td>'
        f'{head}<th scope="col" class="sum"><span>count</span></th></tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Select at most MAX_POINTS points evenly, including the last, so that pages of long runs stay small."""
    if len(points) <= MAX_POINTS:
        return list(points)
    step = (len(points) - 1) / (MAX_POINTS - 1)
    return [points[round(i * step)] for i in range(MAX_POINTS)]


def _finite(points: Sequence[tuple[float | None, float | None]]) -> list[tuple[float, float]]:
    known = [(float(x), float(y)) for x, y in points if x is not None and y is not None]
    return [(x, y) for x, y in known if math.isfinite(x) and math.isfinite(y)]


def _extent(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        pad = 1.0 if low == round(low) else abs(low) * 0.1
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
        parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{t:g}</text>')
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
        f'<li><svg class="key" viewBox="0 0 26 8" aria-hidden="true"><path class="s{i % COLORS}" d="M0 4H26"/></svg>'
        f"{escape(name)}</li>"
        for i, name in enumerate(names)
    )
    return f'<ul class="legend">{items}</ul>'
