"""Base class of evaluators that summarise each image separately, so that evaluations can be resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluator import DatasetEvaluator

__all__ = ["PerImageEvaluator"]


class PerImageEvaluator(DatasetEvaluator):
    """An evaluator whose results depend only on a summary of each image, in any order.

    Subclasses define ``_summarise`` and ``_take``. A summary may contain all that ``records.encode`` supports.
    """

    _recorded: list[Any] | None = None

    def _summarise(self, record: Mapping[str, Any], output: Mapping[str, Any]) -> Any:
        """Compute the summary of an image from the model's input and output."""
        raise NotImplementedError

    def _take(self, summary: Any) -> None:
        """Add a summary to the results."""
        raise NotImplementedError

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Process one batch.

        Args:
            inputs: the inputs of the model, one dict per image.
            outputs: the outputs of the model, parallel to ``inputs``.
        """
        for record, output in zip(inputs, outputs):
            summary = self._summarise(record, output)
            self._take(summary)
            if self._recorded is not None:
                self._recorded.append(summary)

    def record(self, enabled: bool) -> None:
        """Start or stop recording the summaries of images."""
        self._recorded = [] if enabled else None

    def recorded(self) -> list[Any]:
        """Return the summaries recorded since the last call."""
        summaries, self._recorded = self._recorded or [], []
        return summaries

    def take(self, summary: Any) -> None:
        """Add a summary that an earlier run has recorded."""
        self._take(summary)
