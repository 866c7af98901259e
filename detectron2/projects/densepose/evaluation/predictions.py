"""Read predictions of detections at given pixels of their boxes, from any storage form.

A detection is a COCO result dict. It holds its prediction as ``densepose`` (quantised charts), as raw maps
(``coarse_segm`` with ``fine_segm``, ``u`` and ``v``, or with ``embedding``), or as ``rank`` and ``record_id`` of such
maps in a tensor storage.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ..converters.segm_to_mask import (
    resample_coarse_segm_tensor_to_bbox,
    resample_fine_and_coarse_segm_tensors_to_bbox,
)
from .tensor_storage import MultiProcessTensorStorage

__all__ = ["int_box", "maps_of", "mask_of", "points_of_quantized", "points_of_raw", "sample_at_pixels"]

Points = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]


def int_box(box_xywh: Iterable[float]) -> tuple[int, int, int, int]:
    """Truncate a box to integers."""
    x, y, w, h = (int(value) for value in box_xywh)
    return x, y, w, h


def maps_of(dt: dict[str, Any], storage: MultiProcessTensorStorage | None) -> dict[str, Any]:
    """Return the detection with its prediction, read from the storage if necessary."""
    if "record_id" not in dt:
        return dt
    if storage is None:
        raise ValueError("detections with a record_id need multi_storage")
    return {**dt, **storage.get(dt["rank"], dt["record_id"])}


def mask_of(dt: dict[str, Any]) -> npt.NDArray[np.bool_]:
    """Return the pixels of the box that the detection covers.

    Args:
        dt: a detection with its prediction.

    Returns:
        bool array (height, width), in whole pixels.
    """
    if "densepose" in dt:
        return dt["densepose"].labels_uv_uint8[0].cpu().numpy() > 0
    box, coarse = int_box(dt["bbox"]), dt["coarse_segm"][None]
    if "fine_segm" in dt:
        labels = resample_fine_and_coarse_segm_tensors_to_bbox(dt["fine_segm"][None], coarse, box)
    else:
        labels = resample_coarse_segm_tensor_to_bbox(coarse, box)
    return labels[0].numpy() > 0


def sample_at_pixels(maps: Tensor, rows: object, columns: object, box_xywh: Iterable[float]) -> Tensor:
    """Read maps over a box at some of its pixels, as after bilinear resampling to all pixels.

    Args:
        maps: (C, S, S).
        rows: (K,) rows of the pixels from the upper side of the box.
        columns: (K,) their columns.
        box_xywh: the box.

    Returns:
        (C, K).
    """
    _, _, width, height = int_box(box_xywh)
    x = (torch.as_tensor(columns) + 0.5) / max(width, 1) * 2 - 1
    y = (torch.as_tensor(rows) + 0.5) / max(height, 1) * 2 - 1
    grid = torch.stack([x, y], dim=-1).to(maps)[None, None]
    return F.grid_sample(maps[None], grid, mode="bilinear", padding_mode="border", align_corners=False)[
        0, :, 0
    ]


def points_of_quantized(dt: dict[str, Any], rows: object, columns: object) -> Points:
    """Read charts and coordinates of quantised charts at some pixels.

    Returns:
        Charts, U and V, (K,) each.
    """
    charts, u, v = dt["densepose"].labels_uv_uint8.cpu().numpy()[:, rows, columns]
    return charts, u / 255.0, v / 255.0


def points_of_raw(dt: dict[str, Any], rows: object, columns: object) -> Points:
    """Read charts and coordinates of raw maps at some pixels, rounded as quantised ones.

    Returns:
        Charts, U and V, (K,) each.
    """
    at = {
        key: sample_at_pixels(dt[key], rows, columns, dt["bbox"])
        for key in ("coarse_segm", "fine_segm", "u", "v")
    }
    charts = at["fine_segm"].argmax(dim=0) * (at["coarse_segm"].argmax(dim=0) > 0)
    own = [at[key].gather(0, charts[None])[0] for key in ("u", "v")]
    u, v = ((values * 255).clamp(0, 255).byte().numpy() / 255.0 for values in own)
    return charts.numpy(), u, v
