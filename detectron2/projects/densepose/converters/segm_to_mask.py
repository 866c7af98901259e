"""Convert segmentation logits over boxes to labels of pixels and masks of images."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from detectron2.structures import BitMasks, Boxes, BoxMode

from .base import IntTupleBox, make_int_box

__all__ = [
    "interpolate_to_box",
    "predictor_output_with_coarse_segm_to_mask",
    "predictor_output_with_fine_and_coarse_segm_to_mask",
    "resample_coarse_segm_tensor_to_bbox",
    "resample_fine_and_coarse_segm_tensors_to_bbox",
    "resample_fine_and_coarse_segm_to_bbox",
]


def interpolate_to_box(maps: Tensor, box_xywh_abs: IntTupleBox) -> Tensor:
    """Resample maps over a box to its pixels, bilinearly.

    Args:
        maps: [N, C, S, S].
        box_xywh_abs: x, y, width and height in pixels; sides are at least 1.

    Returns:
        [N, C, height, width].
    """
    _, _, width, height = box_xywh_abs
    return F.interpolate(maps, (max(height, 1), max(width, 1)), mode="bilinear", align_corners=False)


def resample_coarse_segm_tensor_to_bbox(coarse_segm: Tensor, box_xywh_abs: IntTupleBox) -> Tensor:
    """Compute the coarse label of every pixel of a box.

    Args:
        coarse_segm: [1, D, S, S] logits.
        box_xywh_abs: x, y, width and height in pixels.

    Returns:
        [1, height, width] int64 labels, 0 for background.
    """
    return interpolate_to_box(coarse_segm, box_xywh_abs).argmax(dim=1)


def resample_fine_and_coarse_segm_tensors_to_bbox(
    fine_segm: Tensor, coarse_segm: Tensor, box_xywh_abs: IntTupleBox
) -> Tensor:
    """Compute the chart of every pixel of a box: the best fine label where the coarse label is not background.

    Args:
        fine_segm: [1, 25, S, S] logits.
        coarse_segm: [1, D, S, S] logits.
        box_xywh_abs: x, y, width and height in pixels.

    Returns:
        [1, height, width] int64 labels, 0 for background.
    """
    body = resample_coarse_segm_tensor_to_bbox(coarse_segm, box_xywh_abs) > 0
    return interpolate_to_box(fine_segm, box_xywh_abs).argmax(dim=1) * body


def resample_fine_and_coarse_segm_to_bbox(predictor_output: Any, box_xywh_abs: IntTupleBox) -> Tensor:
    """Compute the chart of every pixel of a box; see ``resample_fine_and_coarse_segm_tensors_to_bbox``.

    Args:
        predictor_output: ``fine_segm`` and ``coarse_segm`` of one instance.
        box_xywh_abs: x, y, width and height in pixels.
    """
    return resample_fine_and_coarse_segm_tensors_to_bbox(
        predictor_output.fine_segm, predictor_output.coarse_segm, box_xywh_abs
    )


def predictor_output_with_coarse_segm_to_mask(
    predictor_output: Any, boxes: Boxes, image_size_hw: tuple[int, int]
) -> BitMasks:
    """Make masks of pixels whose coarse label is not background.

    Args:
        predictor_output: ``coarse_segm`` of N instances.
        boxes: their N boxes, in pixels.
        image_size_hw: height and width of the image.

    Returns:
        N masks of the size of the image.
    """
    segm = predictor_output.coarse_segm
    return _paste(boxes, image_size_hw, lambda i, box: resample_coarse_segm_tensor_to_bbox(segm[i], box))


def predictor_output_with_fine_and_coarse_segm_to_mask(
    predictor_output: Any, boxes: Boxes, image_size_hw: tuple[int, int]
) -> BitMasks:
    """Make masks of pixels that have a chart.

    Args:
        predictor_output: ``fine_segm`` and ``coarse_segm`` of N instances.
        boxes: their N boxes, in pixels.
        image_size_hw: height and width of the image.

    Returns:
        N masks of the size of the image.
    """
    fine, coarse = predictor_output.fine_segm, predictor_output.coarse_segm
    return _paste(
        boxes,
        image_size_hw,
        lambda i, box: resample_fine_and_coarse_segm_tensors_to_bbox(fine[i], coarse[i], box),
    )


def _paste(
    boxes: Boxes, image_size_hw: tuple[int, int], label: Callable[[slice, IntTupleBox], Tensor]
) -> BitMasks:
    """Paste the labels of each box into the image, clipped to it; a box of less than a pixel stays empty."""
    height, width = image_size_hw
    masks = torch.zeros((len(boxes), height, width), dtype=torch.bool, device=boxes.tensor.device)
    for i, row in enumerate(BoxMode.convert(boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)):
        box = x, y, w, h = make_int_box(row)
        inside = label(slice(i, i + 1), box)[0] > 0
        inside = inside[max(-y, 0) : max(min(h, height - y), 0), max(-x, 0) : max(min(w, width - x), 0)]
        top, left = max(y, 0), max(x, 0)
        masks[i, top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return BitMasks(masks)
