"""Training targets of Panoptic-DeepLab: classes, centres of objects, and offsets to them."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from detectron2.structures.types import SegmentInfo

__all__ = ["PanopticDeepLabTargetGenerator"]

_NO_SEGMENT = -1


class PanopticDeepLabTargetGenerator:
    """Convert the segments of an image to maps of targets and weights.

    Args:
        ignore_label: class of pixels without a segment.
        thing_ids: classes that are things; all others are stuff.
        sigma: standard deviation in pixels of the Gaussian around the centre of a thing.
        ignore_stuff_in_offset: train offsets on things only.
        small_instance_area: things with fewer pixels are small.
        small_instance_weight: weight of their pixels in the class loss; other pixels have 1.
        ignore_crowd_in_semantic: give the pixels of crowds the class ``ignore_label``.

    Reference: https://arxiv.org/abs/1911.10194, section 3
    """

    def __init__(
        self,
        ignore_label: int,
        thing_ids: Iterable[int],
        sigma: int = 8,
        ignore_stuff_in_offset: bool = False,
        small_instance_area: int = 0,
        small_instance_weight: int = 1,
        ignore_crowd_in_semantic: bool = False,
    ) -> None:
        self.ignore_label = ignore_label
        self.thing_ids = set(thing_ids)
        self.sigma = sigma
        self.ignore_stuff_in_offset = ignore_stuff_in_offset
        self.small_instance_area = small_instance_area
        self.small_instance_weight = small_instance_weight
        self.ignore_crowd_in_semantic = ignore_crowd_in_semantic
        self._radius = 3 * sigma + 1
        bell = np.exp(-(np.arange(-self._radius, self._radius + 1) ** 2) / (2 * sigma**2))
        self._gaussian = np.outer(bell, bell).astype(np.float32)

    def __call__(self, panoptic: npt.NDArray[Any], segments_info: Sequence[SegmentInfo]) -> dict[str, Any]:
        """Make the targets of one image.

        Args:
            panoptic: segment ids, non-negative integers [H, W].
            segments_info: for each segment a dict with ``id``, ``category_id`` and optionally ``iscrowd``. Segments
                without pixels have no targets; pixels without a segment have weight 0, except for the class.

        Returns:
            Tensors: ``sem_seg`` int64 [H, W], the class; ``sem_seg_weights`` [H, W]; ``center`` [H, W] in [0, 1],
            Gaussians around centres; ``center_weights`` [1, H, W]; ``offset`` [2, H, W], from a pixel of a thing to
            its centre in (y, x); ``offset_weights`` [1, H, W]. Also ``center_points``, a list of centres [y, x].
        """
        # One row for each segment, and a last one for pixels without a segment.
        ids = np.array([s["id"] for s in segments_info] + [_NO_SEGMENT])
        category = np.array([s["category_id"] for s in segments_info] + [self.ignore_label])
        crowd = np.array([bool(s.get("iscrowd", 0)) for s in segments_info] + [True])
        thing = np.isin(category, list(self.thing_ids))
        thing[-1] = False
        segment = _row_of(panoptic, ids)
        area = np.bincount(segment.ravel(), minlength=len(ids))

        small = thing & (area < self.small_instance_area)
        learned = ~crowd & thing if self.ignore_stuff_in_offset else ~crowd
        if self.ignore_crowd_in_semantic:
            category = np.where(crowd, self.ignore_label, category)

        y, x = _coordinates(panoptic.shape)
        centers = _centers(segment, area)
        places = centers[thing & (area > 0)]
        offset = np.stack([centers[segment, 0] - y, centers[segment, 1] - x]) * thing[segment]
        maps = {
            "sem_seg": category[segment].astype(np.int64),
            "center": self._heat_map(places, panoptic.shape),
            "offset": offset.astype(np.float32),
            "sem_seg_weights": np.where(small, self.small_instance_weight, 1).astype(np.float32)[segment],
            "center_weights": (~crowd).astype(np.float32)[segment][None],
            "offset_weights": learned.astype(np.float32)[segment][None],
        }
        targets: dict[str, Any] = {name: torch.from_numpy(values) for name, values in maps.items()}
        targets["center_points"] = places.tolist()
        return targets

    def _heat_map(self, places: npt.NDArray[np.float64], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Draw a Gaussian at each place (y, x), and take the maximum where they overlap."""
        heat = np.zeros(shape, dtype=np.float32)
        for place in places:
            first = np.rint(place).astype(int) - self._radius
            low = np.maximum(first, 0)
            high = np.minimum(first + len(self._gaussian), shape)
            inside = tuple(slice(a, b) for a, b in zip(low, high))
            part = tuple(slice(a, b) for a, b in zip(low - first, high - first))
            heat[inside] = np.maximum(heat[inside], self._gaussian[part])
        return heat


def _coordinates(shape: tuple[int, ...]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the y of each row [H, 1] and the x of each column [W]."""
    return np.arange(shape[0])[:, None], np.arange(shape[1])


def _row_of(panoptic: npt.NDArray[Any], ids: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Return the index in ``ids`` of each pixel's id; unknown ids get the last index."""
    order = np.argsort(ids)
    nearest = order[np.minimum(np.searchsorted(ids, panoptic, sorter=order), len(ids) - 1)]
    return np.where(ids[nearest] == panoptic, nearest, len(ids) - 1)


def _centers(segment: npt.NDArray[np.intp], area: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Return the mean (y, x) of the pixels of each segment, [segments, 2]; 0 for segments without pixels."""
    sums = [
        np.bincount(
            segment.ravel(), weights=np.broadcast_to(along, segment.shape).ravel(), minlength=len(area)
        )
        for along in _coordinates(segment.shape)
    ]
    return np.stack(sums, axis=1) / np.maximum(area, 1)[:, None]
