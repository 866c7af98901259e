"""Operations on stacks of bitmaps that never convert a whole stack to floats."""

import torch
from torch import Tensor

from detectron2.layers.roi_align import roi_align

__all__ = ["bitmask_boxes", "crop_bitmasks", "crop_shared_bitmasks"]

_CELLS_AT_ONCE = 1 << 26  # 256 MiB of float32


def _first_and_end(present: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first true position of each row of [N, L], and one past the last; 0 and 0 for a row without any."""
    length = present.shape[1]
    at = torch.arange(length, device=present.device)
    end = torch.where(present, at + 1, 0).amax(1)
    first = torch.where(present, at, length).amin(1)
    return torch.minimum(first, end), end


def bitmask_boxes(masks: Tensor) -> Tensor:
    """Compute tight XYXY boxes around [N, H, W] bool masks; [N, 4] float32, zeros for empty masks."""
    if 0 in masks.shape[1:]:
        return torch.zeros(masks.shape[0], 4, device=masks.device)
    x0, x1 = _first_and_end(masks.any(1))
    y0, y1 = _first_and_end(masks.any(2))
    return torch.stack([x0, y0, x1, y1], 1).float()


def _crop_one(mask: Tensor, box: Tensor, mask_size: int) -> Tensor:
    """Map [H, W] bool and [4] to [mask_size, mask_size]; only the pixels around the box become floats."""
    height, width = mask.shape
    left, top, right, bottom = box.tolist()
    left, top = max(int(left) - 2, 0), max(int(top) - 2, 0)
    right, bottom = min(int(right) + 3, width), min(int(bottom) + 3, height)
    if left >= right or top >= bottom:
        return mask.new_zeros(mask_size, mask_size)
    window = mask[None, None, top:bottom, left:right].float()
    # Integers are subtracted, so that no coordinate loses precision.
    moved = box - box.new_tensor([left, top, left, top])
    roi = torch.cat([moved.new_zeros(1), moved])[None]
    return roi_align(window, roi, (mask_size, mask_size), 1.0, 0, True)[0, 0] >= 0.5


def _crop_all(masks: Tensor, boxes: Tensor, rows: Tensor, mask_size: int) -> Tensor:
    """Map [N, H, W] bool, [R, 4] and the mask of each box [R] to [R, mask_size, mask_size], in one call."""
    rois = torch.cat([rows.to(boxes.dtype)[:, None], boxes], 1)
    return roi_align(masks[:, None].float(), rois, (mask_size, mask_size), 1.0, 0, True)[:, 0] >= 0.5


def crop_shared_bitmasks(masks: Tensor, boxes: Tensor, rows: Tensor, mask_size: int) -> Tensor:
    """Crop as :func:`crop_bitmasks`, where several boxes may share a mask, by shapes that depend on no value.

    Args:
        masks: [N, H, W] bool.
        boxes: [R, 4] XYXY on the same device.
        rows: int64 [R], the mask of each box.
        mask_size: side of the grid.

    Returns:
        [R, mask_size, mask_size] bool.
    """
    boxes = boxes.detach().float()
    found = masks.new_zeros(boxes.shape[0], mask_size, mask_size)
    step = max(1, _CELLS_AT_ONCE // max(masks.shape[1] * masks.shape[2], 1))
    for start, part in zip(range(0, masks.shape[0], step), masks.split(step)):
        here = (rows >= start) & (rows < start + step)
        # Elsewhere boxes are empty, so that they cost nothing and cover nothing.
        found = found | _crop_all(part, boxes * here[:, None], (rows - start) * here, mask_size)
    return found


def crop_bitmasks(masks: Tensor, boxes: Tensor, mask_size: int) -> Tensor:
    """Compute the mean coverage of each cell, and threshold it at one half.

    Args:
        masks: [N, H, W] bool.
        boxes: [N, 4] XYXY on the same device.
        mask_size: side of the grid.

    Returns:
        [N, mask_size, mask_size] bool.
    """
    boxes = boxes.detach().float()
    rows = torch.arange(masks.shape[0], device=masks.device)
    if torch.compiler.is_compiling():
        return _crop_all(masks, boxes, rows, mask_size)
    if len(masks) == 0:
        return masks.new_zeros(0, mask_size, mask_size)
    if masks.device.type == "cpu":
        return torch.stack([_crop_one(m, b, mask_size) for m, b in zip(masks, boxes)])
    step = max(1, _CELLS_AT_ONCE // max(masks[0].numel(), 1))
    parts = zip(masks.split(step), boxes.split(step))
    return torch.cat([_crop_all(m, b, rows[: len(m)], mask_size) for m, b in parts])
