"""Numbers and their nouns, durations, and figures as a page writes them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectron2.reports.page import counted, duration, percent, short


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(0, "image", "0 images"), (1, "image", "1 image"), (2, "image", "2 images"), (1, "class", "1 class"),
     (3, "class", "3 classes"), (2, "more class", "2 more classes"), (118_287, "label", "118,287 labels")],
)  # fmt: skip
def test_a_noun_agrees_with_its_number(number, noun, text):
    assert counted(number, noun) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.4, "0 s"), (5, "5 s"), (59.6, "1 min"), (60, "1 min"), (200, "3 min 20 s"), (3600, "1 h"),
     (3661, "1 h 1 min"), (7199.6, "2 h"), (90_000, "1 d 1 h"), (86_400, "1 d")],
)  # fmt: skip
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


@given(st.floats(0, 1e7))
def test_a_duration_is_right_to_its_last_unit(seconds):
    sizes = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    words = duration(seconds).split()
    told = sum(int(n) * sizes[unit] for n, unit in zip(words[::2], words[1::2]))
    largest = list(sizes.values()).index(sizes[words[1]])
    assert -0.51 <= seconds - told <= [*sizes.values(), 1][largest + 1]


def test_undefined_figures_are_dashes():
    assert [short(v) for v in (None, math.nan, math.inf, -100, 0, 0.12345, 99.96)] == [
        "–", "–", "–", "–", "0", "0.123", "100.0",
    ]  # fmt: skip
    assert [percent(v) for v in (None, -1, 0.4567)] == ["–", "–", "45.7"]
