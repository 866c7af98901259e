"""Assign predictions to detections."""

from typing import Any

from detectron2.structures import Instances

__all__ = ["densepose_inference"]


def densepose_inference(densepose_predictor_output: Any, detections: list[Instances]) -> None:
    """Set ``pred_densepose`` of the detections of several images, in place.

    Args:
        densepose_predictor_output: output for all instances of all images, in their order; None = set nothing.
        detections: instances of each image.
    """
    if densepose_predictor_output is None:
        return
    start = 0
    for instances in detections:
        end = start + len(instances)
        instances.pred_densepose = densepose_predictor_output[start:end]
        start = end
