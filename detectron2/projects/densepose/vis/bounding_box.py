"""Visualizers of boxes and their scores."""

from collections.abc import Iterable, Mapping
from typing import Any

from .base import RectangleVisualizer, TextVisualizer
from .drawing import Image

__all__ = ["BoundingBoxVisualizer", "ScoredBoundingBoxVisualizer"]


class BoundingBoxVisualizer:
    """Draws the outlines of boxes."""

    def __init__(self) -> None:
        self.rectangle_visualizer = RectangleVisualizer()

    def visualize(self, image_bgr: Image, boxes_xywh: Iterable[Iterable[float]] | None) -> Image:
        """Draw boxes.

        Args:
            image_bgr: image.
            boxes_xywh: (N, 4); None = draw nothing.
        """
        for box in () if boxes_xywh is None else boxes_xywh:
            image_bgr = self.rectangle_visualizer.visualize(image_bgr, box)
        return image_bgr


class ScoredBoundingBoxVisualizer:
    """Draws the outlines of boxes and their scores.

    Args:
        bbox_visualizer_params: arguments of :class:`RectangleVisualizer`.
        score_visualizer_params: arguments of :class:`TextVisualizer`.
        **kwargs: unused; programs pass the same options to every visualizer.
    """

    def __init__(
        self,
        bbox_visualizer_params: Mapping[str, Any] | None = None,
        score_visualizer_params: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.visualizer_bbox = RectangleVisualizer(**(bbox_visualizer_params or {}))
        self.visualizer_score = TextVisualizer(**(score_visualizer_params or {}))

    def visualize(self, image_bgr: Image, scored_bboxes: tuple[Any, Any]) -> Image:
        """Draw boxes with scores.

        Args:
            image_bgr: image.
            scored_bboxes: boxes (N, 4) as x, y, width and height, and scores (N,); None = draw nothing.
        """
        boxes, scores = scored_bboxes
        if boxes is None or scores is None:
            return image_bgr
        if len(boxes) != len(scores):
            raise ValueError(f"there must be one score per box, got {len(scores)} for {len(boxes)} boxes")
        for box, score in zip(boxes, scores):
            image_bgr = self.visualizer_bbox.visualize(image_bgr, box)
            image_bgr = self.visualizer_score.visualize(image_bgr, f"{float(score):6.4f}", (box[0], box[1]))
        return image_bgr
