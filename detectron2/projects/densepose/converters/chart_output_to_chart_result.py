"""Convert predictions over boxes to charts of pixels."""

from typing import Any

import torch
from torch import Tensor

from detectron2.structures import Boxes, BoxMode

from ..structures.chart import DensePoseChartPredictorOutput
from ..structures.chart_result import DensePoseChartResult, DensePoseChartResultWithConfidences
from .base import IntTupleBox, make_int_box
from .segm_to_mask import interpolate_to_box, resample_fine_and_coarse_segm_to_bbox

__all__ = [
    "densepose_chart_predictor_output_to_result",
    "densepose_chart_predictor_output_to_result_with_confidences",
    "resample_confidences_to_bbox",
    "resample_uv_tensors_to_bbox",
    "resample_uv_to_bbox",
]

_OF_CHART = ("sigma_1", "sigma_2", "kappa_u", "kappa_v")
_OF_PIXEL = ("fine_segm_confidence", "coarse_segm_confidence")


def densepose_chart_predictor_output_to_result(
    predictor_output: DensePoseChartPredictorOutput, boxes: Boxes
) -> DensePoseChartResult:
    """Compute charts and coordinates of the pixels of one instance.

    Args:
        predictor_output: output for one instance.
        boxes: its box, in pixels.

    Raises:
        ValueError: there is not exactly one instance.
    """
    box = _only_box(predictor_output, boxes)
    labels = resample_fine_and_coarse_segm_to_bbox(predictor_output, box)[0]
    return DensePoseChartResult(labels=labels, uv=resample_uv_to_bbox(predictor_output, labels, box))


def densepose_chart_predictor_output_to_result_with_confidences(
    predictor_output: DensePoseChartPredictorOutput, boxes: Boxes
) -> DensePoseChartResultWithConfidences:
    """Compute charts, coordinates and confidences of the pixels of one instance.

    Args:
        predictor_output: output for one instance, with or without confidences.
        boxes: its box, in pixels.

    Raises:
        ValueError: there is not exactly one instance.
    """
    box = _only_box(predictor_output, boxes)
    labels = resample_fine_and_coarse_segm_to_bbox(predictor_output, box)[0]
    return DensePoseChartResultWithConfidences(
        labels=labels,
        uv=resample_uv_to_bbox(predictor_output, labels, box),
        **resample_confidences_to_bbox(predictor_output, labels, box),
    )


def resample_uv_to_bbox(predictor_output: Any, labels: Tensor, box_xywh_abs: IntTupleBox) -> Tensor:
    """Compute the coordinates of the pixels of a box; see ``resample_uv_tensors_to_bbox``.

    Args:
        predictor_output: ``u`` and ``v`` of one instance.
        labels: [height, width] charts.
        box_xywh_abs: x, y, width and height in pixels.
    """
    return resample_uv_tensors_to_bbox(predictor_output.u, predictor_output.v, labels, box_xywh_abs)


def resample_uv_tensors_to_bbox(u: Tensor, v: Tensor, labels: Tensor, box_xywh_abs: IntTupleBox) -> Tensor:
    """Compute the coordinates of the pixels of a box, each in its chart.

    Args:
        u: [1, 25, S, S] first coordinate for each chart.
        v: [1, 25, S, S] second coordinate.
        labels: [height, width] charts.
        box_xywh_abs: x, y, width and height in pixels.

    Returns:
        [2, height, width]; 0 for background.
    """
    return torch.stack([_of_label(maps, labels, box_xywh_abs) for maps in (u, v)])


def resample_confidences_to_bbox(
    predictor_output: object, labels: Tensor, box_xywh_abs: IntTupleBox
) -> dict[str, Tensor | None]:
    """Compute the confidences of the pixels of a box.

    Args:
        predictor_output: confidences of one instance; any of them may be missing.
        labels: [height, width] charts.
        box_xywh_abs: x, y, width and height in pixels.

    Returns:
        For each name [height, width], or None if it is missing. Confidences of coordinates are those of the
        chart of each pixel, and 0 for background.
    """
    found: dict[str, Tensor | None] = {}
    for name in _OF_CHART + _OF_PIXEL:
        maps = getattr(predictor_output, name, None)
        if maps is None:
            found[name] = None
        elif name in _OF_PIXEL:
            found[name] = interpolate_to_box(maps, box_xywh_abs)[0, 0]
        else:
            found[name] = _of_label(maps, labels, box_xywh_abs)
    return found


def _of_label(maps: Tensor, labels: Tensor, box: IntTupleBox) -> Tensor:
    """Select [height, width] from [1, 25, S, S]: the channel of each pixel's label, 0 for label 0."""
    picked = interpolate_to_box(maps, box)[0].gather(0, labels[None])[0]
    return torch.where(labels > 0, picked, 0)


def _only_box(predictor_output: DensePoseChartPredictorOutput, boxes: Boxes) -> IntTupleBox:
    if len(predictor_output) != 1 or len(boxes) != 1:
        raise ValueError(
            f"expected one instance and its box, got {len(predictor_output)} instances and {len(boxes)} boxes"
        )
    return make_int_box(BoxMode.convert(boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)[0])
