"""torchvision's operators, imported on first use, since the import takes as long as that of torch itself."""

from typing import Any

from torch import Tensor

__all__ = ["deform_conv2d", "nms", "roi_align"]


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Call ``torchvision.ops.nms``.

    Args:
        boxes: [N, 4] XYXY.
        scores: [N].
        iou_threshold: boxes whose IoU with a kept one exceeds this are dropped.

    Returns:
        int64 indices of the boxes kept, highest score first.
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
