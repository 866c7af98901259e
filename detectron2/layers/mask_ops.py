"""Paste small mask predictions into their image."""

from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from detectron2.utils.errors import BadValue

from ._paste import paste, paste_soft

__all__ = ["pad_masks", "paste_mask_in_image_old", "paste_masks_in_image", "scale_boxes"]


class _Boxes(Protocol):
    """``Boxes``, which belong to a higher layer."""

    tensor: Tensor


def paste_masks_in_image(
    masks: Tensor, boxes: "Tensor | _Boxes", image_shape: tuple[int, int], threshold: float = 0.5
) -> Tensor:
    """Resize each mask to its box and paste it into an otherwise empty image.

    Masks are sampled bilinearly at pixel centres, with zeros around them, up to one pixel outside the box rounded
    outwards. Apart from the result, memory does not depend on the number of masks.

    Args:
        masks: [N, M, M'] or [N, 1, M, M'], usually probabilities.
        boxes: ``Boxes`` or an [N, 4] XYXY tensor, in pixels of the image; may extend beyond it.
        image_shape: (height, width).
        threshold: pixels of this value or more belong to the mask. Negative: return soft masks.

    Returns:
        [N, height, width] bool; for a negative threshold, uint8 of 255 times the value, rounded down. Without masks
        uint8, as in Detectron2.
    """
    corners = boxes if isinstance(boxes, Tensor) else boxes.tensor
    if masks.dim() == 4 and masks.shape[1] == 1:
        masks = masks[:, 0]
    if masks.dim() != 3:
        raise BadValue(f"masks must be [N, M, M] or [N, 1, M, M], got {tuple(masks.shape)}")
    # len() would fix the number of masks in an exported graph.
    if corners.dim() != 2 or corners.shape[1] != 4 or corners.shape[0] != masks.shape[0]:
        raise BadValue(
            f"boxes must be [N, 4], one for each mask; got {len(masks)} masks and {tuple(corners.shape)}"
        )
    height, width = image_shape
    return paste(masks, corners, height, width, threshold)


def _do_paste_mask(
    masks: Tensor, boxes: Tensor, img_h: int, img_w: int, skip_empty: bool = True
) -> tuple[Tensor, tuple[slice, ...]]:
    """Resize masks to their boxes, as soft values.

    Args:
        masks: [N, 1, M, M'].
        boxes: [N, 4] XYXY.
        img_h: height of the image.
        img_w: width of the image.
        skip_empty: return only the window that holds all boxes.

    Returns:
        [N, h, w] values, and their window in the image as two slices; an empty tuple for the whole image.
    """
    soft = paste_soft(masks[:, 0], boxes, img_h, img_w)
    if not skip_empty or len(boxes) == 0:
        return soft, ()
    x0, y0 = (boxes[:, :2].amin(0).floor() - 1).clamp(min=0).int().tolist()
    x1, y1 = (boxes[:, 2:].amax(0).ceil() + 1).int().tolist()
    window = (slice(y0, min(y1, img_h)), slice(x0, min(x1, img_w)))
    return soft[:, window[0], window[1]], window


def paste_mask_in_image_old(mask: Tensor, box: Tensor, img_h: int, img_w: int, threshold: float) -> Tensor:
    """Paste one mask as the first implementations did: to integer coordinates, inclusive, resized by Pillow.

    Args:
        mask: [M, M'], in [0, 1].
        box: [4] XYXY; truncated to integers.
        img_h: height of the image.
        img_w: width of the image.
        threshold: pixels above it belong to the mask; negative: return soft masks.

    Returns:
        [img_h, img_w] uint8: 0 and 1, or 255 times the value.
    """
    x0, y0, x1, y1 = box.to(torch.int32).tolist()
    small = Image.fromarray(mask.detach().cpu().float().numpy())
    values = np.array(small.resize((x1 - x0 + 1, y1 - y0 + 1), Image.Resampling.BILINEAR))
    pixels = (values > threshold) if threshold >= 0 else values * 255
    image = torch.zeros(img_h, img_w, dtype=torch.uint8)
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1 + 1, img_w), min(y1 + 1, img_h)
    if left < right and top < bottom:
        inside = pixels[top - y0 : bottom - y0, left - x0 : right - x0]
        image[top:bottom, left:right] = torch.from_numpy(inside.astype(np.uint8))
    return image


def pad_masks(masks: Tensor, padding: int) -> tuple[Tensor, float]:
    """Pad masks [N, M, M] with zeros; also return the factor by which the side grew."""
    padded = torch.nn.functional.pad(masks, (padding,) * 4)
    return padded, padded.shape[-1] / masks.shape[-1]


def scale_boxes(boxes: Tensor, scale: float) -> Tensor:
    """Scale boxes [N, 4] XYXY around their centres."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * scale
    return torch.cat([centre - half, centre + half], 1)
