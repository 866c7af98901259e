"""Extract the input of visualizers from detections."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import nms

from detectron2.structures import BoxMode, Instances
from detectron2.utils.reexports import passed_on

from ..converters import ToChartResultConverterWithConfidences
from .base import CompoundVisualizer
from .bounding_box import BoundingBoxVisualizer, ScoredBoundingBoxVisualizer
from .densepose_outputs_vertex import DensePoseOutputsVertexVisualizer
from .densepose_results import DensePoseResultsVisualizer

__all__ = [
    "BoundingBoxExtractor",
    "CompoundExtractor",
    "DensePoseOutputsExtractor",
    "DensePoseResultExtractor",
    "NmsFilteredExtractor",
    "ScoreThresholdedExtractor",
    "ScoredBoundingBoxExtractor",
    "create_extractor",
    "extract_boxes_xywh_from_instances",
    "extract_scores_from_instances",
]

__getattr__ = passed_on(
    __name__,
    (
        "projects.densepose.structures.chart_result.DensePoseChartResultWithConfidences",
        "projects.densepose.structures.cse.DensePoseEmbeddingPredictorOutput",
    ),
)

logger = logging.getLogger(__name__)

Extractor = Callable[..., Any]


def extract_scores_from_instances(instances: Instances, select: object = None) -> Tensor | None:
    """Return the scores of detections, (N,); None if they have none.

    Args:
        instances: detections.
        select: mask or indices of the detections to extract; None = all.
    """
    if not instances.has("scores"):
        return None
    return instances.scores if select is None else instances.scores[select]


def extract_boxes_xywh_from_instances(instances: Instances, select: object = None) -> Tensor | None:
    """Return the boxes of detections, (N, 4) as x, y, width and height; None if they have none.

    Args:
        instances: detections.
        select: mask or indices of the detections to extract; None = all.
    """
    if not instances.has("pred_boxes"):
        return None
    boxes = BoxMode.convert(instances.pred_boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    return boxes if select is None else boxes[select]


def create_extractor(visualizer: object) -> Extractor | None:
    """Create the extractor for a visualizer.

    Args:
        visualizer: a visualizer of this package.

    Returns:
        A callable of detections and, optionally, a selection; None for an unknown type, which is logged.
    """
    if isinstance(visualizer, CompoundVisualizer):
        parts = [create_extractor(v) for v in visualizer.visualizers]
        return CompoundExtractor([p for p in parts if p is not None]) if all(parts) else None
    if isinstance(visualizer, DensePoseResultsVisualizer):
        return DensePoseResultExtractor()
    if isinstance(visualizer, ScoredBoundingBoxVisualizer):
        return ScoredBoundingBoxExtractor()
    if isinstance(visualizer, BoundingBoxVisualizer):
        return extract_boxes_xywh_from_instances
    if isinstance(visualizer, DensePoseOutputsVertexVisualizer):
        return DensePoseOutputsExtractor()
    logger.error("There is no extractor for a visualizer of type %s", type(visualizer).__name__)
    return None


class BoundingBoxExtractor:
    """Extracts boxes, (N, 4) as x, y, width and height."""

    def __call__(self, instances: Instances, select: object = None) -> Tensor | None:
        """Extract boxes, see :func:`extract_boxes_xywh_from_instances`."""
        return extract_boxes_xywh_from_instances(instances, select)


class ScoredBoundingBoxExtractor:
    """Extracts boxes and scores."""

    def __call__(self, instances: Instances, select: object = None) -> tuple[Tensor | None, Tensor | None]:
        """Extract boxes (N, 4) and scores (N,), each None if the detections have none.

        Args:
            instances: detections.
            select: mask or indices of the detections to extract; None = all.
        """
        return (
            extract_boxes_xywh_from_instances(instances, select),
            extract_scores_from_instances(instances, select),
        )


class DensePoseResultExtractor:
    """Extracts charts of the pixels of boxes."""

    def __call__(self, instances: Instances, select: object = None) -> tuple[list[Any] | None, Tensor | None]:
        """Extract chart results, with confidences if the model predicts them, and boxes (N, 4).

        Args:
            instances: detections.
            select: mask or indices of the detections to extract; None = all.

        Returns:
            Both; both None if the detections have no predictions or no boxes.
        """
        if not (instances.has("pred_densepose") and instances.has("pred_boxes")):
            return None, None
        output, boxes = instances.pred_densepose, instances.pred_boxes
        if select is not None:
            output, boxes = output[select], boxes[select]
        convert = ToChartResultConverterWithConfidences.convert
        results = [convert(output[i], boxes[i]) for i in range(len(boxes))]
        return results, extract_boxes_xywh_from_instances(instances, select)


class DensePoseOutputsExtractor:
    """Extracts raw model outputs."""

    def __call__(
        self, instances: Instances, select: object = None
    ) -> tuple[Any, Tensor | None, list[int] | None]:
        """Extract outputs, boxes (N, 4) and classes.

        Args:
            instances: detections.
            select: mask or indices of the detections to extract; None = all.

        Returns:
            All three; the classes None if the detections have none, everything None without predictions or boxes.
        """
        if not (instances.has("pred_densepose") and instances.has("pred_boxes")):
            return None, None, None
        output = instances.pred_densepose
        classes = instances.pred_classes if instances.has("pred_classes") else None
        if select is not None:
            output = output[select]
            classes = None if classes is None else classes[select]
        boxes = extract_boxes_xywh_from_instances(instances, select)
        return output, boxes, None if classes is None else classes.tolist()


class CompoundExtractor:
    """Extracts with several extractors.

    Args:
        extractors: extractors, in order.
    """

    def __init__(self, extractors: Sequence[Extractor]) -> None:
        self.extractors = extractors

    def __call__(self, instances: Instances, select: object = None) -> list[Any]:
        """Return the results of all extractors.

        Args:
            instances: detections.
            select: mask or indices of the detections to extract; None = all.
        """
        return [extractor(instances, select) for extractor in self.extractors]


def _both(first: Tensor | None, second: Tensor) -> Tensor:
    return second if first is None else first & second


class NmsFilteredExtractor:
    """Extracts from the detections that remain after non-maximum suppression.

    Args:
        extractor: called with the selection.
        iou_threshold: IoU above which the box with the lower score is suppressed.
    """

    def __init__(self, extractor: Extractor, iou_threshold: float) -> None:
        self.extractor = extractor
        self.iou_threshold = iou_threshold

    def __call__(self, instances: Instances, select: Tensor | None = None) -> Any:
        """Extract from the remaining detections.

        Args:
            instances: detections; without scores or boxes the result is None.
            select: mask of the detections to extract; None = all.
        """
        scores = extract_scores_from_instances(instances)
        if scores is None or not instances.has("pred_boxes"):
            return None
        kept = torch.zeros(len(instances), dtype=torch.bool, device=scores.device)
        kept[nms(instances.pred_boxes.tensor, scores, self.iou_threshold)] = True
        return self.extractor(instances, select=_both(select, kept))


class ScoreThresholdedExtractor:
    """Extracts from the detections with high scores.

    Args:
        extractor: called with the selection.
        min_score: threshold that scores must exceed.
    """

    def __init__(self, extractor: Extractor, min_score: float) -> None:
        self.extractor = extractor
        self.min_score = min_score

    def __call__(self, instances: Instances, select: Tensor | None = None) -> Any:
        """Extract from the remaining detections.

        Args:
            instances: detections; without scores the result is None.
            select: mask of the detections to extract; None = all.
        """
        scores = extract_scores_from_instances(instances)
        if scores is None:
            return None
        return self.extractor(instances, select=_both(select, scores > self.min_score))
