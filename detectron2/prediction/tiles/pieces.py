"""What a model found in tiles, in the frame of the whole image, with masks as large as their objects."""

# Legend: N pieces, K keypoints.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from detectron2.data.tiles import Tile
from detectron2.structures import Instances
from detectron2.structures.placed_masks import decode_window
from detectron2.structures.rle import decode, encode
from detectron2.utils.errors import BadValue

__all__ = ["Crop", "Pieces", "crop_of", "joined", "pieces_of"]

Array = npt.NDArray[Any]
Bits = npt.NDArray[np.bool_]
_SMALL = 1 << 24  # pixels of a window that is decoded whole, which is faster


@dataclass(frozen=True)
class Crop:
    """A mask in a window of an image.

    Attributes:
        window: all outside of it is background.
        counts: run lengths of the window in COCO's text form.
    """

    window: Tile
    counts: str

    @property
    def rle(self) -> dict[str, Any]:
        """The run-length encoding of the window."""
        return {"size": [self.window.height, self.window.width], "counts": self.counts}

    def bits(self) -> Bits:
        """Return the pixels of the window, bool ``[h, w]``."""
        return decode(self.rle)

    def within(self, region: Tile) -> Bits:
        """Return the pixels of a region, bool ``[h, w]``."""
        pixels = np.zeros((max(region.height, 0), max(region.width, 0)), dtype=bool)
        common = self.window.shared(region)
        if common.width > 0 and common.height > 0:
            inside = self._part(common)
            pixels[
                common.y0 - region.y0 : common.y1 - region.y0, common.x0 - region.x0 : common.x1 - region.x0
            ] = inside
        return pixels

    def _part(self, common: Tile) -> Bits:
        """Return the pixels of a part of the window."""
        x, y = self.window.x0, self.window.y0
        left, top, right, bottom = common.x0 - x, common.y0 - y, common.x1 - x, common.y1 - y
        if self.window.width * self.window.height <= _SMALL:
            return self.bits()[top:bottom, left:right]
        return decode_window(self.rle, left, top, right, bottom)


@dataclass(frozen=True)
class Pieces:
    """Detections of one or several tiles of an image.

    Attributes:
        tiles: int64 ``[N]``, number of the tile that each was found in.
        boxes: float32 ``[N, 4]`` XYXY, or ``[N, 5]`` rotated (centre, size, degrees), in the frame of the image.
        scores: float32 ``[N]``.
        classes: int64 ``[N]``.
        masks: N masks; None for models without.
        keypoints: float32 ``[N, K, 3]`` (x, y, score); None for models without.
    """

    tiles: Array
    boxes: Array
    scores: Array
    classes: Array
    masks: tuple[Crop, ...] | None = None
    keypoints: Array | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def rotated(self) -> bool:
        """Whether the boxes are rotated."""
        return bool(self.boxes.shape[1] == 5)

    def chosen(self, rows: Sequence[int] | Array) -> Pieces:
        """Return the pieces of some numbers, in this order."""
        numbers = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            tiles=self.tiles[numbers],
            boxes=self.boxes[numbers],
            scores=self.scores[numbers],
            classes=self.classes[numbers],
            masks=None if self.masks is None else tuple(self.masks[i] for i in numbers.tolist()),
            keypoints=None if self.keypoints is None else self.keypoints[numbers],
        )


def pieces_of(found: Instances, number: int, tile: Tile) -> Pieces:
    """Move what was found in a tile into the frame of the image.

    Args:
        found: on the CPU; with ``pred_boxes``, ``scores`` and ``pred_classes``, optionally ``pred_masks`` ``[N, h, w]`` and
            ``pred_keypoints`` ``[N, K, 3]``.
        number: of the tile.
        tile: where it lies.

    Raises:
        ValueError: if the instances are of another size than the tile.
    """
    if tuple(found.image_size) != (tile.height, tile.width):
        raise BadValue(
            f"instances of a tile of {(tile.height, tile.width)} pixels have the size {found.image_size}"
        )
    boxes = found.pred_boxes.tensor.float().numpy().copy()
    boxes[:, :2] += (tile.x0, tile.y0)
    if boxes.shape[1] == 4:
        boxes[:, 2:] += (tile.x0, tile.y0)
    keypoints = None
    if found.has("pred_keypoints"):
        keypoints = found.pred_keypoints.float().numpy().copy()
        keypoints[:, :, :2] += (tile.x0, tile.y0)
    masks = None
    if found.has("pred_masks"):
        stack = getattr(found.pred_masks, "tensor", found.pred_masks).numpy()
        masks = tuple(crop_of(mask.astype(bool, copy=False), tile) for mask in stack)
    return Pieces(
        tiles=np.full(len(found), number, dtype=np.int64),
        boxes=boxes,
        scores=found.scores.float().numpy().copy(),
        classes=found.pred_classes.numpy().astype(np.int64),
        masks=masks,
        keypoints=keypoints,
    )


def crop_of(mask: Bits, tile: Tile) -> Crop:
    """Cut a mask of a tile to the window that holds all its pixels; an empty one gets a window of no pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Crop(Tile(tile.x0, tile.y0, tile.x0, tile.y0), "0")
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    window = Tile(tile.x0 + left, tile.y0 + top, tile.x0 + right, tile.y0 + bottom)
    return Crop(window, encode(mask[top:bottom, left:right])["counts"])


def joined(parts: Sequence[Pieces]) -> Pieces:
    """Put the pieces of several tiles behind one another.

    Args:
        parts: at least one, all of one model.
    """
    first = parts[0]
    return Pieces(
        tiles=np.concatenate([p.tiles for p in parts]),
        boxes=np.concatenate([p.boxes for p in parts]),
        scores=np.concatenate([p.scores for p in parts]),
        classes=np.concatenate([p.classes for p in parts]),
        masks=None if first.masks is None else tuple(m for p in parts for m in p.masks or ()),
        keypoints=None
        if first.keypoints is None
        else np.concatenate([p.keypoints for p in parts if p.keypoints is not None]),
    )
