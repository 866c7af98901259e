"""Rescaling of results to the requested output size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from detectron2.structures import Instances, ROIMasks
from detectron2.utils.errors import BadValue

__all__ = ["detector_postprocess", "sem_seg_postprocess"]


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
    height, width = output_height, output_width
    if not torch.jit.is_tracing():
        height, width = int(height), int(width)
    name = next((f for f in ("pred_boxes", "proposal_boxes") if results.has(f)), None)
    if name is None:
        raise BadValue(
            f"results must have pred_boxes or proposal_boxes, got the fields {sorted(results.get_fields())}"
        )
    scale_y, scale_x = height / results.image_size[0], width / results.image_size[1]
    boxes = results.get(name).clone()
    boxes.scale(scale_x, scale_y)
    boxes.clip((height, width))

    scaled = Instances((height, width), **results.get_fields())
    scaled.set(name, boxes)
    scaled = scaled[boxes.nonempty()]
    if scaled.has("pred_masks"):
        masks = scaled.pred_masks
        soft = masks if isinstance(masks, ROIMasks) else ROIMasks(masks[:, 0])
        scaled.pred_masks = soft.to_bitmasks(scaled.get(name), height, width, mask_threshold).tensor
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
