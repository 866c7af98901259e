"""Evaluations that nobody asked for: their failure costs the figures, not the training."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from detectron2.utils import comm
from detectron2.utils.errors import UnknownNameError

from .evaluator import DatasetEvaluator, DatasetEvaluators

__all__ = ["NoEvaluatorError", "TolerantEvaluators"]

logger = logging.getLogger(__name__)

_UNSUITABLE = (ValueError, TypeError, LookupError, AttributeError, AssertionError)


class NoEvaluatorError(UnknownNameError, NotImplementedError):
    """Nothing says how a data set is evaluated, or its labels do not allow it."""


class TolerantEvaluators(DatasetEvaluators):
    """An evaluator whose errors are logged, and leave the results empty.

    A default that a trainer chooses must not end a training that would go on without it. Errors that tell of the data
    (wrong ids, missing keys) are passed over, not those of the machine.

    Args:
        evaluator: the evaluator to run.
        name: of the data set, for the log.
    """

    def __init__(self, evaluator: DatasetEvaluator, name: str) -> None:
        super().__init__([evaluator])
        self._name = name
        self._failed = False

    def reset(self) -> None:
        self._failed = False
        self._try(super().reset)

    def process(self, inputs: Any, outputs: Any) -> None:
        self._try(lambda: super(TolerantEvaluators, self).process(inputs, outputs))

    def evaluate(self) -> OrderedDict[str, Any]:
        """Compute the figures; an empty dict if any process could not take in its images."""
        results: OrderedDict[str, Any] = OrderedDict()
        self._failed = any(comm.all_gather(self._failed))
        self._try(lambda: results.update(super(TolerantEvaluators, self).evaluate()))
        return results

    def _try(self, action: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            action()
        except _UNSUITABLE:
            self._failed = True
            logger.exception(
                "%s cannot be evaluated; training goes on. Set MetadataCatalog.get(%r).evaluator_type, or override "
                "build_evaluator, to choose how.",
                self._name, self._name,
            )  # fmt: skip
