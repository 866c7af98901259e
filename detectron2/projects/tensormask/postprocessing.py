"""Paste the masks of windows into an image."""

from __future__ import annotations

import torch
from torch import Tensor

from detectron2.layers import paste_masks_in_image
from detectron2.modeling import detector_postprocess
from detectron2.structures import Boxes, Instances

__all__ = ["paste_windows"]


def paste_windows(
    results: Instances, output_height: int, output_width: int, mask_threshold: float = 0.5
) -> Instances:
    """Rescale detections to an output size, drop empty boxes, and paste the masks of windows into the image.

    :func:`.detector_postprocess` for masks that cover ``pred_windows`` instead of ``pred_boxes`` and differ in size.

    Args:
        results: from :meth:`.TensorMask.inference`; ``image_size`` is the input size. Not changed.
        output_height, output_width: output size, in pixels.
        mask_threshold: threshold of soft masks.
    """
    if not results.has("pred_masks"):
        return detector_postprocess(results, output_height, output_width)
    size = (output_height, output_width)
    fields = {
        name: v for name, v in results.get_fields().items() if name not in ("pred_windows", "pred_masks")
    }
    rows = torch.arange(len(results), device=results.scores.device)
    found = detector_postprocess(Instances(results.image_size, rows=rows, **fields), *size)
    windows = results.pred_windows.clone()
    windows.scale(output_width / results.image_size[1], output_height / results.image_size[0])
    masks = [results.pred_masks[i] for i in found.rows.tolist()]
    found.pred_masks = _paste(masks, windows[found.rows], size, mask_threshold)
    found.remove("rows")
    return found


def _paste(masks: list[Tensor], windows: Boxes, size: tuple[int, int], threshold: float) -> Tensor:
    """Return bool [D, H, W] of D soft masks [V, V] of different sizes; masks of the same size are pasted together."""
    pasted = torch.zeros((len(masks), *size), dtype=torch.bool, device=windows.device)
    for side in {len(mask) for mask in masks}:
        rows = [i for i, mask in enumerate(masks) if len(mask) == side]
        pasted[rows] = paste_masks_in_image(
            torch.stack([masks[i] for i in rows]), windows[rows], size, threshold=threshold
        )
    return pasted
