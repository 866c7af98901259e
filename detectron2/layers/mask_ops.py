"""Placing small mask predictions in their image."""

from typing import Protocol

from torch import Tensor

from ._paste import paste

__all__ = ["paste_masks_in_image"]


class _Boxes(Protocol):
    """``Boxes``, which stand above this package."""

    tensor: Tensor


def paste_masks_in_image(
    masks: Tensor, boxes: "Tensor | _Boxes", image_shape: tuple[int, int], threshold: float = 0.5
) -> Tensor:
    """Resize each mask to its box and put it into an otherwise empty image.

    Masks are sampled bilinearly at pixel centres, with zero beyond their border, and cut off one pixel outside of the
    box rounded outwards. Memory beyond the result does not depend on the number of masks.

    Args:
        masks: [N, M, M'] or [N, 1, M, M'], usually probabilities.
        boxes: ``Boxes`` or an [N, 4] XYXY tensor, in pixels of the image; may reach beyond it.
        image_shape: (height, width).
        threshold: pixels of this value or more belong to the mask. Negative: return soft masks.

    Returns:
        [N, height, width]; bool, or, for a negative threshold, uint8 of 255 times the value, rounded down.
    """
    corners = boxes if isinstance(boxes, Tensor) else boxes.tensor
    if masks.dim() == 4 and masks.shape[1] == 1:
        masks = masks[:, 0]
    if masks.dim() != 3:
        raise ValueError(f"masks must be [N, M, M] or [N, 1, M, M], got {tuple(masks.shape)}")
    # Sizes are compared as shapes: len() would fix the count of masks in an exported graph.
    if corners.dim() != 2 or corners.shape[1] != 4 or corners.shape[0] != masks.shape[0]:
        raise ValueError(
            f"boxes must be [N, 4], one for each mask; got {len(masks)} masks and {tuple(corners.shape)}"
        )
    height, width = image_shape
    return paste(masks, corners, height, width, threshold)
