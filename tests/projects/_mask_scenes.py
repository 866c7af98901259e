"""Images with rectangles as ground truth, for models that predict masks."""

from __future__ import annotations

from typing import Any

import torch

from detectron2.structures import BitMasks, Boxes, Instances


def ground_truth(height: int, width: int, count: int, classes: int = 80) -> Instances:
    """Rectangles at random."""
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    for mask in masks:
        y, x = (int(torch.randint(0, side // 2, ())) for side in (height, width))
        mask[y : y + height // 2, x : x + width // 2] = True
    return Instances(
        (height, width),
        gt_classes=torch.randint(0, classes, (count,)),
        gt_masks=masks,
        gt_boxes=BitMasks(masks).get_bounding_boxes() if count else Boxes(torch.zeros(0, 4)),
    )


def image(height: int = 64, width: int = 96, seed: int = 0) -> dict[str, Any]:
    torch.manual_seed(seed)
    return {"image": torch.rand(3, height, width) * 255}


def labelled(height: int, width: int, count: int, seed: int = 0) -> dict[str, Any]:
    return {**image(height, width, seed), "instances": ground_truth(height, width, count)}
