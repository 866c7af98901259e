"""Convert COCO annotations to annotations of records."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pycocotools.mask as mask_util

from detectron2.structures import BoxMode
from detectron2.structures.rle import decode, mask_box
from detectron2.structures.types import Segmentation
from detectron2.utils.errors import UnknownNameError
from detectron2.utils.suggest import did_you_mean

__all__ = ["AnnotationReader", "class_table", "contiguous_ids"]

logger = logging.getLogger(__name__)

_KEYS = ("iscrowd", "bbox", "keypoints", "category_id")


def class_table(categories: Sequence[Mapping[str, Any]], source: str) -> tuple[list[int], list[str]]:
    """Return ids and names of the categories, in the order of the ids.

    Raises:
        ValueError: an entry lacks its id or name, or two share an id.
    """
    for entry in categories:
        if "id" not in entry or "name" not in entry:
            raise ValueError(f"{source}: each category needs 'id' and 'name', got {dict(entry)!r}")
    ordered = sorted(categories, key=lambda c: c["id"])
    ids = [c["id"] for c in ordered]
    twice = sorted({a for a, b in itertools.pairwise(ids) if a == b})
    if twice:
        raise ValueError(f"{source}: category ids {twice[:10]} are used by more than one category")
    return ids, [c["name"] for c in ordered]


def contiguous_ids(ids: Sequence[int]) -> dict[int, int]:
    """Return category id -> class number, counted from 0 in the order of the ids."""
    return {category: number for number, category in enumerate(ids)}


@dataclass
class AnnotationReader:
    """Converts the annotations of one file, and counts what it leaves out.

    Attributes:
        source: the file, for errors.
        id_map: category id -> class number; None keeps the ids.
        extra_keys: additional keys to keep.
        dropped_polygons: number of annotations left out because they have no valid polygon.
        dropped_ids: ids of the first five of these.
    """

    source: str
    id_map: Mapping[int, int] | None
    extra_keys: tuple[str, ...] = ()
    dropped_polygons: int = 0
    dropped_ids: list[Any] = field(default_factory=list)

    def __call__(self, anno: Mapping[str, Any]) -> dict[str, Any] | None:
        """Convert one annotation; None if nothing of its segmentation is usable.

        Raises:
            ValueError: the box is empty, or the category is not in the file.
        """
        obj = {key: anno[key] for key in (*_KEYS, *self.extra_keys) if key in anno}
        if "bbox" in obj and not obj["bbox"]:
            raise ValueError(
                f"{self.source}: annotation {anno.get('id')} of image {anno.get('image_id')} has an empty bbox. "
                "Give it [x, y, width, height], or remove the annotation."
            )
        segmentation = anno.get("segmentation")
        if segmentation:
            segmentation = self._segmentation(segmentation, anno)
            if segmentation is None:
                return None
            obj["segmentation"] = segmentation
        if "bbox" not in obj:
            obj["bbox"] = self._box_of(segmentation, anno)
        if obj.get("keypoints"):
            obj["keypoints"] = shift_keypoints(obj["keypoints"], 0.5)
        obj["bbox_mode"] = BoxMode.XYWH_ABS if len(obj["bbox"]) != 5 else BoxMode.XYWHA_ABS
        if self.id_map is not None:
            obj["category_id"] = self._class_of(anno)
        return obj

    def _class_of(self, anno: Mapping[str, Any]) -> int:
        assert self.id_map is not None
        category: Any = anno.get("category_id")
        if category not in self.id_map:
            raise UnknownNameError(
                f"{self.source}: annotation {anno.get('id')} of image {anno.get('image_id')} has category_id "
                f"{category!r}, which is not in 'categories'. {did_you_mean(str(category), self.id_map)} "
                "`detectron2 data check` lists all such annotations."
            )
        return self.id_map[category]

    def _segmentation(self, segmentation: Segmentation, anno: Mapping[str, Any]) -> Segmentation | None:
        if not isinstance(segmentation, list) and isinstance(segmentation, Mapping):
            if isinstance(segmentation["counts"], list):
                return mask_util.frPyObjects(dict(segmentation), *segmentation["size"])
            return segmentation
        valid = [p for p in segmentation if len(p) % 2 == 0 and len(p) >= 6]
        if valid:
            return valid
        self.dropped_polygons += 1
        if len(self.dropped_ids) < 5:
            self.dropped_ids.append(anno.get("id"))
        return None

    def _box_of(self, segmentation: Segmentation | None, anno: Mapping[str, Any]) -> list[float]:
        """Return the box around the segmentation of an annotation that has none of its own."""
        if isinstance(segmentation, Mapping):
            return mask_box(decode(segmentation))
        if segmentation:
            points = np.concatenate([np.asarray(p, dtype=float).reshape(-1, 2) for p in segmentation])
            (x0, y0), (x1, y1) = points.min(0), points.max(0)
            return [float(x0), float(y0), float(x1 - x0), float(y1 - y0)]
        raise ValueError(
            f"{self.source}: annotation {anno.get('id')} of image {anno.get('image_id')} has neither a bbox nor a segmentation"
        )

    def report(self) -> None:
        """Log what was left out."""
        if self.dropped_polygons:
            logger.warning(
                "%s: left out %d annotations whose polygons all have fewer than 3 points or an odd number of "
                "coordinates (annotation ids %s…). `detectron2 data check` lists them.",
                self.source, self.dropped_polygons, ", ".join(map(str, self.dropped_ids)),
            )  # fmt: skip


def shift_keypoints(keypoints: Sequence[float], offset: float) -> list[float]:
    """Add ``offset`` to x and y of flat (x, y, visibility) triples.

    COCO counts keypoints in whole pixels; boxes and polygons are continuous, where the centre of pixel 0 is at 0.5.
    """
    return [v if i % 3 == 2 else v + offset for i, v in enumerate(keypoints)]
