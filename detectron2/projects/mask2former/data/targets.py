"""Common parts of the mappers: padding, and Instances with masks as tensors."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.errors import BadValue

__all__ = ["IMAGE_PADDING", "instances_of_masks", "pad_to", "segment_ids", "segment_masks"]

IMAGE_PADDING = 128.0


def pad_to(map: Tensor, side: int, value: float) -> Tensor:
    """Pad a map [..., H, W] at the bottom and right to at least ``side`` in both directions."""
    height, width = map.shape[-2:]
    return F.pad(map, (0, max(side - width, 0), 0, max(side - height, 0)), value=value)


def segment_ids(picture: np.ndarray) -> np.ndarray:
    """Convert a panoptic RGB image [H, W, 3] to segment ids [H, W]: red + 256 green + 65536 blue."""
    return picture.astype(np.int64) @ np.array([1, 256, 65536])


def segment_masks(ids: Tensor, segments: Iterable[dict[str, Any]]) -> tuple[list[int], Tensor]:
    """Split a map of segment ids into masks, without crowds.

    Args:
        ids: [H, W].
        segments: dicts with ``id``, ``category_id`` and ``iscrowd``.

    Returns:
        Classes, and bool masks [T, H, W].
    """
    single = [s for s in segments if not s.get("iscrowd", 0)]
    wanted = torch.tensor([s["id"] for s in single], dtype=ids.dtype)
    return [s["category_id"] for s in single], ids == wanted[:, None, None]


def instances_of_masks(classes: Sequence[int], masks: Tensor, with_boxes: bool = False) -> Instances:
    """Build the ground truth of one image.

    Args:
        classes: classes of the T objects.
        masks: bool [T, H, W]. Without objects they become float, as in Mask2Former.
        with_boxes: add ``gt_boxes`` around the masks.
    """
    if len(classes) != len(masks):
        raise BadValue(f"there are {len(classes)} classes but {len(masks)} masks")
    instances = Instances(
        (masks.shape[1], masks.shape[2]),
        gt_classes=torch.tensor(list(classes), dtype=torch.int64),
        gt_masks=masks if len(masks) else masks.float(),
    )
    if with_boxes:
        boxes = BitMasks(masks).get_bounding_boxes() if len(masks) else Boxes(torch.zeros(0, 4))
        instances.gt_boxes = boxes
    return instances
