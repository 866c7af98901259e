"""Evaluators that sum each image up on its own, so that their work can be kept and taken up again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluator import DatasetEvaluator

__all__ = ["PerImageEvaluator"]


class PerImageEvaluator(DatasetEvaluator):
    """An evaluator whose figures follow from one summary of each image, in whatever order these come.

    Subclasses define ``_summarise`` and ``_take``. A summary is made of what ``records.encode`` takes.
    """

    _recorded: list[Any] | None = None

    def _summarise(self, record: Mapping[str, Any], output: Mapping[str, Any]) -> Any:
        """Extract what is kept of an image from a model's input and output."""
        raise NotImplementedError

    def _take(self, summary: Any) -> None:
        """Count a summary in."""
        raise NotImplementedError

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Take in one batch.

        Args:
            inputs: what the model was called with, one dict per image.
            outputs: what it returned, parallel to ``inputs``.
        """
        for record, output in zip(inputs, outputs):
            summary = self._summarise(record, output)
            self._take(summary)
            if self._recorded is not None:
                self._recorded.append(summary)

    def record(self, enabled: bool) -> None:
        """Keep the summaries of the images to come, or stop to do so."""
        self._recorded = [] if enabled else None

    def recorded(self) -> list[Any]:
        """Return the summaries made since the last call."""
        summaries, self._recorded = self._recorded or [], []
        return summaries

    def take(self, summary: Any) -> None:
        """Count in a summary that an earlier run has recorded."""
        self._take(summary)
