"""Labels of an image cut to one of its tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detectron2.structures import BoxMode
from detectron2.structures.placed_masks import decode_window
from detectron2.structures.rle import Segmentation, encode, mask_box, run_lengths

from .. import transforms as T
from ..annotations import boxes_as_xyxy, transform_keypoint_annotations
from ..formats.base import rotated_corners
from ..transforms.operations.polygons import clip_polygon
from .grid import Tile

__all__ = ["LEAST_VISIBLE", "labels_in"]

LEAST_VISIBLE = 0.25
_LEAST_ROTATED = 0.5  # more than for other boxes, since a rotated box is not cut


def labels_in(annotations: Sequence[Mapping[str, Any]], tile: Tile) -> list[dict[str, Any]]:
    """Return the annotations of the objects in a tile, cut to the tile and in its coordinates.

    An object is kept if the tile shows at least a quarter of it, or if the part in the tile fills at least a quarter of
    the tile (such an object may be too large for any tile). A rotated box is kept, uncut, if the tile shows at least
    half of it. Crowd regions are always kept. Keypoints outside the tile become unlabelled.

    Args:
        annotations: annotations in Detectron2's format, in coordinates of the image.
        tile: the tile.
    """
    if not annotations:
        return []
    extents = np.concatenate([_extent(a) for a in annotations])
    meets = (extents[:, :2] < (tile.x1, tile.y1)).all(axis=1) & (extents[:, 2:] > (tile.x0, tile.y0)).all(
        axis=1
    )
    found = (_cut(annotations[i], tile) for i in np.flatnonzero(meets).tolist())
    return [label for label in found if label is not None]


def _extent(annotation: Mapping[str, Any]) -> np.ndarray:
    """Return the upright box ``[1, 4]`` around an annotation."""
    if len(annotation["bbox"]) == 5:
        outline = rotated_corners(annotation["bbox"])
        return np.concatenate([outline.min(axis=0), outline.max(axis=0)])[None]
    return boxes_as_xyxy([dict(annotation)])


def _cut(annotation: Mapping[str, Any], tile: Tile) -> dict[str, Any] | None:
    """Return an annotation in coordinates of a tile; None if the tile shows too little of the object."""
    # "area" and "id" belong to the whole object.
    label = {k: v for k, v in annotation.items() if k not in ("area", "id")}
    if len(annotation["bbox"]) == 5:
        whole = _area(rotated_corners(annotation["bbox"]))
        shown, least = _cut_rotated(label, tile), _LEAST_ROTATED
    else:
        shown, whole = _cut_upright(label, tile)
        least = LEAST_VISIBLE
    if label.get("keypoints") is not None:
        shift = T.CropTransform(tile.x0, tile.y0, tile.width, tile.height)
        points = transform_keypoint_annotations(label["keypoints"], shift, (tile.height, tile.width))
        label["keypoints"] = points.reshape(-1).tolist()
    fills = len(annotation["bbox"]) == 4 and shown >= LEAST_VISIBLE * tile.width * tile.height
    keep = shown > 0 and (annotation.get("iscrowd", 0) or shown >= least * whole or fills)
    return label if keep else None


def _cut_rotated(label: dict[str, Any], tile: Tile) -> float:
    """Shift a rotated box in place; return its visible area."""
    box = [float(v) for v in label["bbox"]]
    shown = sum(_area(p) for p in clip_polygon(rotated_corners(box), *tile))
    label["bbox"] = [box[0] - tile.x0, box[1] - tile.y0, *box[2:]]
    label.pop("segmentation", None)
    return shown


def _cut_upright(label: dict[str, Any], tile: Tile) -> tuple[float, float]:
    """Cut the box and the mask of a label in place; return the visible area and the area of the whole object."""
    box = boxes_as_xyxy([label])[0]
    shown_box = np.clip(box, [tile.x0, tile.y0] * 2, [tile.x1, tile.y1] * 2)
    segmentation = label.get("segmentation")
    if segmentation is not None and len(segmentation):
        cut, shown, whole, around = _cut_mask(segmentation, tile)
        label["segmentation"] = cut
        shown_box = shown_box if around is None else around
    else:
        shown, whole = _box_area(shown_box), _box_area(box)
    label["bbox"] = (shown_box - [tile.x0, tile.y0] * 2).tolist()
    label["bbox_mode"] = BoxMode.XYXY_ABS
    return shown, whole


def _cut_mask(segmentation: Segmentation, tile: Tile) -> tuple[Segmentation, float, float, np.ndarray | None]:
    """Cut a mask to a tile.

    Returns:
        The mask in coordinates of the tile, its area in the tile, the area of the whole mask, and the box around the
        part in the tile.
    """
    if isinstance(segmentation, (list, tuple)):
        outlines = [np.asarray(p, dtype=np.float64).reshape(-1, 2) for p in segmentation]
        pieces = [piece for outline in outlines for piece in clip_polygon(outline, *tile)]
        shown, whole = sum(map(_area, pieces)), sum(map(_area, outlines))
        if not pieces:
            return [], 0.0, whole, None
        points = np.concatenate(pieces)
        around = np.concatenate([points.min(axis=0), points.max(axis=0)])
        return [(p - (tile.x0, tile.y0)).reshape(-1).tolist() for p in pieces], shown, whole, around
    if isinstance(segmentation, Mapping):
        bits, whole = decode_window(segmentation, *tile), float(run_lengths(segmentation)[1::2].sum())
    else:
        bits = np.asarray(segmentation)[tile.y0 : tile.y1, tile.x0 : tile.x1] != 0
        whole = float(np.count_nonzero(segmentation))
    x, y, w, h = mask_box(bits)
    around = np.array([x, y, x + w, y + h]) + [tile.x0, tile.y0] * 2
    return encode(bits), float(np.count_nonzero(bits)), whole, around


def _area(outline: np.ndarray) -> float:
    x, y = outline.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _box_area(box: np.ndarray) -> float:
    return float(max(box[2] - box[0], 0) * max(box[3] - box[1], 0))
