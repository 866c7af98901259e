"""torchvision's operators, imported when one is called first: that takes as long as importing torch itself."""

from typing import Any

from torch import Tensor

__all__ = ["deform_conv2d", "nms", "roi_align"]


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Call ``torchvision.ops.nms``: indices of the boxes [N, 4] that no kept box of a higher score overlaps, best
    first.

    Args:
        boxes: [N, 4] XYXY.
        scores: [N].
        iou_threshold: A box goes when its IoU with a kept one is greater than this.
    """
    from torchvision import ops

    return ops.nms(boxes, scores, iou_threshold)


def roi_align(*args: Any) -> Tensor:
    """Call ``torchvision.ops.roi_align``."""
    from torchvision import ops

    return ops.roi_align(*args)


def deform_conv2d(*args: Any) -> Tensor:
    """Call ``torchvision.ops.deform_conv2d``."""
    from torchvision import ops

    return ops.deform_conv2d(*args)
