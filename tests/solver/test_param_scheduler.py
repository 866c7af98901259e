"""Curves: ends, edges, and composites against their parts."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectron2.solver.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    CosineParamScheduler,
    ExponentialParamScheduler,
    LinearParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
    PolynomialDecayParamScheduler,
    StepParamScheduler,
    StepWithFixedGammaParamScheduler,
)


@pytest.mark.parametrize(
    ("curve", "first", "last"),
    [
        (ConstantParamScheduler(3.0), 3.0, 3.0),
        (LinearParamScheduler(3.0, 1.0), 3.0, 1.0),
        (CosineParamScheduler(3.0, 1.0), 3.0, 1.0),
        (ExponentialParamScheduler(3.0, 0.1), 3.0, 0.3),
        (PolynomialDecayParamScheduler(3.0, 0.9), 3.0, 0.0),
        (StepParamScheduler(10, [3.0, 2.0, 1.0]), 3.0, 1.0),
        (StepWithFixedGammaParamScheduler(3.0, 2, 0.5, 10), 3.0, 0.75),  # the original fails at the end
        (MultiStepParamScheduler([3.0, 1.0], num_updates=10, milestones=[5]), 3.0, 1.0),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, ParamScheduler) else "",
)
def test_ends(curve, first, last):
    assert curve(0.0) == pytest.approx(first)
    assert curve(1.0) == pytest.approx(last)


@given(st.lists(st.integers(1, 99), min_size=1, max_size=5, unique=True), st.integers(0, 99))
def test_multi_step_counts_milestones_passed(milestones, step):
    milestones = sorted(milestones)
    values = [0.5**k for k in range(len(milestones) + 1)]
    curve = MultiStepParamScheduler(values, num_updates=100, milestones=milestones)
    assert curve(step / 100) == 0.5 ** sum(m <= step for m in milestones)


def test_multi_step_ways_to_say_the_length():
    a = MultiStepParamScheduler([1, 0.1, 0.01], milestones=[6, 8, 9])
    b = MultiStepParamScheduler([1, 0.1, 0.01], num_updates=9, milestones=[6, 8])
    even = MultiStepParamScheduler([1, 0.1, 0.01], num_updates=9)
    for i in range(9):
        assert a(i / 9) == b(i / 9)
        assert even(i / 9) == [1, 0.1, 0.01][i // 3]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (([1, 2],), "num_updates or milestones"),
        (([1, 2, 3], 10, [5, 5]), "increase"),
        (([1, 2, 3], 10, [5, 11]), "after the end"),
        (([1, 2], 10, [5, 6]), "need 3 values"),
    ],
)
def test_multi_step_refuses(args, message):
    with pytest.raises(ValueError, match=message):
        MultiStepParamScheduler(*args)


def test_composite_rescaled_and_fixed():
    line = LinearParamScheduler(0.0, 1.0)
    parts = CompositeParamScheduler([line, line], [0.25, 0.75], ["rescaled", "fixed"])
    assert parts(0.125) == pytest.approx(0.5)
    assert parts(0.25) == pytest.approx(0.25)  # the second takes over at the edge, at its global place
    assert parts(0.5) == pytest.approx(0.5)
    both = CompositeParamScheduler([line, line], [0.25, 0.75], ["rescaled", "rescaled"])
    assert both(0.625) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (([], [], []), "at least one"),
        (([ConstantParamScheduler(1)], [0.5], ["fixed"]), "sum to 1"),
        (([ConstantParamScheduler(1)], [1.0], ["nope"]), "nope"),
        (([ConstantParamScheduler(1)], [0.5, 0.5], ["fixed"]), "equally long"),
    ],
)
def test_composite_refuses(args, message):
    with pytest.raises(ValueError, match=message):
        CompositeParamScheduler(*args)


def test_cosine_is_half_a_wave():
    curve = CosineParamScheduler(2.0, 0.0)
    assert curve(0.5) == pytest.approx(1.0)
    assert curve(1 / 3) == pytest.approx(1 + math.cos(math.pi / 3))
