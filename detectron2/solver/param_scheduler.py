"""Curves for learning rates and other quantities that change during training.

A curve is a function of ``where``, the completed share of the training: 0 at the first step, close to 1 at the last. It
depends neither on steps nor on optimizers; ``LRMultiplier`` connects it to both.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence

from detectron2.utils.errors import BadValue

__all__ = [
    "CompositeParamScheduler",
    "ConstantParamScheduler",
    "CosineParamScheduler",
    "ExponentialParamScheduler",
    "LinearParamScheduler",
    "MultiStepParamScheduler",
    "ParamScheduler",
    "PolynomialDecayParamScheduler",
    "StepParamScheduler",
    "StepWithFixedGammaParamScheduler",
]


class ParamScheduler:
    """A curve over [0, 1]. Subclasses define ``__call__``."""

    WHERE_EPSILON = 1e-6
    """Added to ``where`` before comparisons, so that 30/100 reaches 0.3 despite rounding."""

    def __call__(self, where: float) -> float:
        """Return the value at ``where`` in [0, 1]."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(where)")


class ConstantParamScheduler(ParamScheduler):
    """A constant value."""

    def __init__(self, value: float) -> None:
        self._value = value

    def __call__(self, where: float) -> float:
        return self._value


class CosineParamScheduler(ParamScheduler):
    """Half a cosine wave between two values (Loshchilov & Hutter, SGDR, https://arxiv.org/abs/1608.03983).

    Args:
        start_value: value at 0.
        end_value: value at 1.
    """

    def __init__(self, start_value: float, end_value: float) -> None:
        self._start, self._end = start_value, end_value

    def __call__(self, where: float) -> float:
        return self._end + (self._start - self._end) * 0.5 * (1.0 + math.cos(math.pi * where))


class ExponentialParamScheduler(ParamScheduler):
    """``start_value * decay ** where``.

    Args:
        start_value: value at 0.
        decay: factor at 1.
    """

    def __init__(self, start_value: float, decay: float) -> None:
        self._start, self._decay = start_value, decay

    def __call__(self, where: float) -> float:
        return self._start * self._decay**where


class LinearParamScheduler(ParamScheduler):
    """A straight line between two values.

    Args:
        start_value: value at 0.
        end_value: value at 1.
    """

    def __init__(self, start_value: float, end_value: float) -> None:
        self._start, self._end = start_value, end_value

    def __call__(self, where: float) -> float:
        return self._end * where + self._start * (1 - where)


class MultiStepParamScheduler(ParamScheduler):
    """A piecewise constant curve.

    Args:
        values: value of each interval, one more than milestones.
        num_updates: length of the training in the unit of the milestones. None: the last milestone is the end of the
            training.
        milestones: increasing positions at which the value changes, in steps or epochs. None: all intervals have the same
            length.

    Raises:
        ValueError: if the numbers are inconsistent.
    """

    def __init__(
        self,
        values: Sequence[float],
        num_updates: int | None = None,
        milestones: Sequence[int] | None = None,
    ) -> None:
        if milestones is None:
            if num_updates is None:
                raise BadValue("MultiStepParamScheduler needs num_updates or milestones (or both)")
            width = math.ceil(num_updates / len(values)) if len(values) else 0
            milestones = [width * i for i in range(1, len(values))]
        elif num_updates is None:
            if not len(milestones):
                raise BadValue("milestones is empty, but its last entry is the length if num_updates is None")
            milestones, num_updates = milestones[:-1], milestones[-1]
        edges = list(milestones)
        if any(later <= earlier for earlier, later in itertools.pairwise(edges)):
            raise BadValue(f"milestones must increase strictly, got {edges}")
        if edges and num_updates < edges[-1]:
            raise BadValue(f"the last milestone {edges[-1]} is after the end at {num_updates}")
        if len(values) != len(edges) + 1:
            raise BadValue(f"{len(edges)} milestones need {len(edges) + 1} values, got {len(values)}")
        self._values, self._edges, self._length = list(values), edges, num_updates

    def __call__(self, where: float) -> float:
        done = int((where + self.WHERE_EPSILON) * self._length)
        return self._values[bisect.bisect_right(self._edges, done)]


class PolynomialDecayParamScheduler(ParamScheduler):
    """``base_value * (1 - where) ** power``.

    Args:
        base_value: value at 0.
        power: exponent; 1 is a straight line to 0.
    """

    def __init__(self, base_value: float, power: float) -> None:
        self._base, self._power = base_value, power

    def __call__(self, where: float) -> float:
        return self._base * max(1 - where, 0.0) ** self._power


class StepParamScheduler(ParamScheduler):
    """A piecewise constant curve with intervals of equal length.

    Args:
        num_updates: length of the training; only checked to be positive.
        values: value of each interval.

    Raises:
        ValueError: if the length is not positive or there are no values.
    """

    def __init__(self, num_updates: int | float, values: Sequence[float]) -> None:
        if num_updates <= 0:
            raise BadValue(f"num_updates must be positive, got {num_updates}")
        if not len(values):
            raise BadValue("values must have at least one number")
        self._values = list(values)

    def __call__(self, where: float) -> float:
        step = int((where + self.WHERE_EPSILON) * len(self._values))
        return self._values[min(step, len(self._values) - 1)]


class StepWithFixedGammaParamScheduler(ParamScheduler):
    """A piecewise constant curve with intervals of equal length, each ``gamma`` times the previous one.

    Args:
        base_value: value of the first interval.
        num_decays: number of changes.
        gamma: factor at each change.
        num_updates: length of the training.

    Raises:
        ValueError: if the number of changes is negative or the length is not positive.
    """

    def __init__(self, base_value: float, num_decays: int, gamma: float, num_updates: int) -> None:
        if num_decays < 0:
            raise BadValue(f"num_decays must not be negative, got {num_decays}")
        self._steps = StepParamScheduler(num_updates, [base_value * gamma**k for k in range(num_decays + 1)])

    def __call__(self, where: float) -> float:
        return self._steps(where)


class CompositeParamScheduler(ParamScheduler):
    """Several curves in sequence.

    Args:
        schedulers: the curves in order.
        lengths: share of the training for each; they sum to 1.
        interval_scaling: for each curve "rescaled" (it is compressed to its share) or "fixed" (it is evaluated at the
            global ``where``).

    Raises:
        ValueError: if the lists differ in length, the shares do not sum to 1, or a scaling is unknown.
    """

    def __init__(
        self,
        schedulers: Sequence[ParamScheduler],
        lengths: Sequence[float],
        interval_scaling: Sequence[str],
    ) -> None:
        if not schedulers:
            raise BadValue("CompositeParamScheduler needs at least one scheduler")
        if not len(schedulers) == len(lengths) == len(interval_scaling):
            raise BadValue(
                "schedulers, lengths and interval_scaling must be equally long, got "
                f"{len(schedulers)}, {len(lengths)} and {len(interval_scaling)}"
            )
        if abs(sum(lengths) - 1.0) >= 1e-3:
            raise BadValue(f"lengths must sum to 1, got {sum(lengths)}")
        unknown = set(interval_scaling) - {"rescaled", "fixed"}
        if unknown:
            raise BadValue(f"interval_scaling must contain 'rescaled' or 'fixed', got {sorted(unknown)}")
        self._schedulers = list(schedulers)
        self._lengths = list(lengths)
        self._scaling = list(interval_scaling)
        # Ends of all curves but the last.
        self._ends = [sum(lengths[: i + 1]) for i in range(len(lengths) - 1)]

    def __call__(self, where: float) -> float:
        # The first curve that has not ended.
        index = bisect.bisect_left(self._ends, where + self.WHERE_EPSILON)
        if self._scaling[index] == "rescaled":
            start = self._ends[index - 1] if index else 0.0
            length = self._lengths[index]
            where = (where - start) / length if length > 0 else 0.0
        return self._schedulers[index](where)
