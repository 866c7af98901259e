"""Evaluators whose failure does not end training."""

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
    """Raised if a dataset has no known evaluator, or its records cannot be evaluated."""


class TolerantEvaluators(DatasetEvaluators):
    """An evaluator that logs errors and then returns empty results.

    An evaluator that the user has not chosen must not end training. Only errors caused by data (wrong ids, missing
    keys) are tolerated, not those of the machine.

    Args:
        evaluator: the evaluator to run.
        name: name of the dataset, for the log.
    """

    def __init__(self, evaluator: DatasetEvaluator, name: str) -> None:
        super().__init__([evaluator])
        self._name = name
        self._failed = False

    def reset(self) -> None:
        self._failed = False
        self._try(super().reset)

    def process(self, inputs: object, outputs: object) -> None:
        self._try(lambda: super(TolerantEvaluators, self).process(inputs, outputs))

    def evaluate(self) -> OrderedDict[str, Any]:
        """Compute the metrics; an empty dict if any process failed."""
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
                "%s cannot be evaluated; training continues. Set MetadataCatalog.get(%r).evaluator_type, or override "
                "build_evaluator.",
                self._name, self._name,
            )  # fmt: skip
