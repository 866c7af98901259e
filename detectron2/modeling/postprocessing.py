"""Rescaling of results to the requested output size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from detectron2.structures import Boxes, Instances, ROIMasks
from detectron2.utils.errors import BadValue

from ._selection import clip_boxes, rows_of

__all__ = ["detector_postprocess", "postprocess_batch", "sem_seg_postprocess"]


def detector_postprocess(
    results: Instances, output_height: int, output_width: int, mask_threshold: float = 0.5
) -> Instances:
    """Rescale detections or proposals to an output size, drop empty boxes, and paste masks into the image.

    Args:
        results: results at the model's input size, with ``pred_boxes`` or ``proposal_boxes`` and, optionally, soft
            ``pred_masks`` [R, 1, M, M] in [0, 1] within the boxes, and ``pred_keypoints``. Not modified.
        output_height, output_width: requested output size, in pixels.
        mask_threshold: soft masks at or above it are foreground.

    Returns:
        Instances of the output size, with boxes clipped to the image, ``pred_masks`` bool [R, height, width] and
        ``pred_keypoints`` [R, K, 3].

    Raises:
        ValueError: if ``results`` have neither field of boxes.
    """
    return postprocess_batch([results], [(output_height, output_width)], mask_threshold=mask_threshold)[0]


def postprocess_batch(
    results: Sequence[Instances],
    output_sizes: Sequence[tuple[int, int]],
    real: Sequence[Tensor] | None = None,
    mask_threshold: float = 0.5,
) -> list[Instances]:
    """Postprocess N images as :func:`detector_postprocess` does; the host waits for the device once for all of them.

    Args:
        results: of each image.
        output_sizes: requested height and width of each image.
        real: bool [R] for each image, which rows to keep; None = all.
        mask_threshold: see there.
    """
    scaled, kept = [], []
    for found, (height, width) in zip(results, output_sizes):
        scaled.append(_rescaled(found, height, width))
        kept.append(scaled[-1].get(_name_of_boxes(found)).nonempty())
    if real is not None:
        kept = [keep & mask for keep, mask in zip(kept, real)]
    chosen = [found[rows] for found, rows in zip(scaled, rows_of(kept))]
    for found in chosen:
        if found.has("pred_masks"):
            masks = found.pred_masks
            soft = masks if isinstance(masks, ROIMasks) else ROIMasks(masks[:, 0])
            boxes = found.get(_name_of_boxes(found))
            found.pred_masks = soft.to_bitmasks(boxes, *found.image_size, mask_threshold).tensor
    return chosen


def _name_of_boxes(results: Instances) -> str:
    name = next((f for f in ("pred_boxes", "proposal_boxes") if results.has(f)), None)
    if name is None:
        raise BadValue(
            f"results must have pred_boxes or proposal_boxes, got the fields {sorted(results.get_fields())}"
        )
    return name


def _rescaled(results: Instances, height: int, width: int) -> Instances:
    """Return the results with boxes and keypoints of another image size."""
    if not torch.jit.is_tracing():
        height, width = int(height), int(width)
    name = _name_of_boxes(results)
    scale_y, scale_x = height / results.image_size[0], width / results.image_size[1]
    boxes = results.get(name).clone()
    boxes.scale(scale_x, scale_y)
    if (
        type(boxes) is Boxes
    ):  # Boxes.clip() makes the host wait, to check for NaN, which makes a box empty here
        boxes.tensor = clip_boxes(boxes.tensor, height, width)
    else:
        boxes.clip((height, width))
    scaled = Instances((height, width), **results.get_fields())
    scaled.set(name, boxes)
    if scaled.has("pred_keypoints"):
        x, y, score = scaled.pred_keypoints.unbind(-1)
        scaled.pred_keypoints = torch.stack((x * scale_x, y * scale_y, score), dim=-1)
    return scaled


def sem_seg_postprocess(
    result: Tensor, img_size: tuple[int, int], output_height: int, output_width: int
) -> Tensor:
    """Crop the padding from class scores and resize them bilinearly to the output size.

    Args:
        result: [C, H, W] scores of a padded image.
        img_size: height and width of the image without padding.
        output_height, output_width: requested output size, in pixels.

    Returns:
        [C, output_height, output_width].
    """
    inside = result[None, :, : img_size[0], : img_size[1]]
    return F.interpolate(inside, size=(output_height, output_width), mode="bilinear", align_corners=False)[0]
