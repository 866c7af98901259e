"""Charts draw what they are given, and say so when there is nothing."""

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectron2.reports.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MAX_POINTS,
    RIGHT,
    TOP,
    WIDTH,
    Series,
    bar_chart,
    heat_map,
    line_chart,
    nice_ticks,
)  # fmt: skip


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_round_rising_and_inside(low: float, width: float) -> None:
    high = low + width
    ticks = nice_ticks(low, high)
    assert 1 <= len(ticks) <= 12
    assert ticks == sorted(ticks)
    slack = width * 1e-6 + 1e-9
    assert low - slack <= ticks[0]
    assert ticks[-1] <= high + slack


def points_of(svg: str) -> list[list[tuple[float, float]]]:
    """The points of the lines, which are the data."""
    root = ElementTree.fromstring(svg[: svg.index("</svg>") + 6])
    lines = [e.attrib["points"] for e in root.iter() if e.tag.endswith("polyline")]
    return [[tuple(map(float, p.split(","))) for p in line.split()] for line in lines]  # type: ignore[misc]


def drawn_of(svg: str) -> list[list[tuple[float, float]]]:
    """The points as they are drawn."""
    root = ElementTree.fromstring(svg[: svg.index("</svg>") + 6])
    move = next(e.attrib["transform"] for e in root.iter() if "transform" in e.attrib and e.tag.endswith("g"))
    tx, ty, sx, sy = map(float, re.findall(r"-?[\d.]+(?:e[+-]?\d+)?", move))
    return [[(tx + sx * x, ty + sy * y) for x, y in line] for line in points_of(svg)]


def test_higher_values_are_higher_up() -> None:
    points = [(0.0, 1.0), (1.0, 3.0), (2.0, 2.0)]
    svg = line_chart([Series("a", points)], x_label="x", y_label="y")
    assert points_of(svg) == [points]
    (line,) = drawn_of(svg)
    assert [x for x, _ in line] == sorted(x for x, _ in line)
    assert line[1][1] < line[2][1] < line[0][1]  # SVG counts y downwards


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_lines_fill_the_frame_and_stay_inside(x: float, width: float, y: float, height: float) -> None:
    ends = [(x, y), (x + width, y + height)]
    (line,) = drawn_of(line_chart([Series("a", ends)], x_label="x", y_label="y"))
    scale = max(abs(x) / width, abs(y) / height, 1.0) * 1e-3  # points have a limited number of digits
    for px, py in line:
        assert LEFT - scale * WIDTH <= px <= WIDTH - RIGHT + scale * WIDTH
        assert TOP - scale * HEIGHT <= py <= HEIGHT - BOTTOM + scale * HEIGHT


def test_long_series_are_thinned_and_keep_their_ends() -> None:
    values = [(i, math.sin(i)) for i in range(5000)]
    (line,) = points_of(line_chart([Series("a", values)], x_label="x", y_label="y", x_range=(0, 4999)))
    assert len(line) == MAX_POINTS
    assert line[0][0] < line[-1][0]


@pytest.mark.parametrize("points", [[], [(0.0, float("nan"))], [(1.0, float("inf"))]])
def test_nothing_to_draw_is_said(points: list[tuple[float, float]]) -> None:
    assert "Nothing recorded" in line_chart([Series("a", points)], x_label="x", y_label="y")


def test_texts_are_escaped() -> None:
    name = '<script>"&'
    for html in (
        line_chart([Series(name, [(0, 1)]), Series("b", [(0, 1)])], x_label=name, y_label=name),
        bar_chart({name: 1.0}, label=name),
        heat_map([name], [name], [[1]]),
    ):
        assert "<script>" not in html


def test_cells_are_percentages_of_their_row() -> None:
    html = heat_map(["cat", "dog"], ["cat", "dog", "not found"], [[3, 1, 0], [0, 0, 0]])
    assert re.findall(r"cat → (\w+): (\d) of (\d)\">(\d+)<", html) == [
        ("cat", "3", "4", "75"),
        ("dog", "1", "4", "25"),
    ]
    assert html.count("<td></td>") == 5  # the corner too


def test_bars_are_in_proportion() -> None:
    widths = [
        float(w)
        for w in re.findall(r"width:([\d.]+)%", bar_chart({"a": 1.0, "b": 4.0, "c": float("nan")}, label=""))
    ]
    assert widths == [25.0, 100.0, 0.0]
