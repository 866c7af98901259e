"""Panoptic segmentations: their segments, and the PNG form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectron2.data import Metadata
from detectron2.data.detection_utils import read_image
from detectron2.utils.errors import BadValue


def panoptic_segments(
    ids: npt.NDArray, segments_info: Sequence[Mapping[str, Any]] | None, metadata: Metadata
) -> list[dict[str, Any]]:
    """Return the segments that occur in a map of ids, largest first.

    Args:
        ids: ``[H, W]`` of segment ids.
        segments_info: dicts with ``id``, ``category_id``, ``isthing``; None to read categories from the ids.
        metadata: with ``label_divisor`` and ``thing_dataset_id_to_contiguous_id`` when ``segments_info`` is None;
            with ``thing_classes`` for infos that lack ``isthing``.

    Returns:
        The infos, each with ``id``, ``category_id`` and ``isthing``.
    """
    found, areas = np.unique(ids, return_counts=True)
    order = found[np.argsort(-areas, kind="stable")].tolist()
    if segments_info is None:
        divisor = metadata.get("label_divisor")
        if not divisor:
            raise BadValue(
                "segments_info=None needs metadata.label_divisor, to read categories from segment ids"
            )
        things = set((metadata.get("thing_dataset_id_to_contiguous_id") or {}).values())
        return [
            {"id": i, "category_id": i // divisor, "isthing": i // divisor in things} for i in order if i >= 0
        ]
    infos = {int(s["id"]): dict(s) for s in segments_info}
    segments = [infos[i] for i in order if i in infos]
    for segment in segments:
        segment.setdefault("isthing", True)
    return segments


def read_panoptic_png(path: str) -> npt.NDArray[np.int64]:
    """Segment ids ``[H, W]`` of a panoptic PNG, where ``id = R + 256 G + 256^2 B``."""
    rgb = np.asarray(read_image(path, "RGB")).astype(np.int64)
    return rgb[:, :, 0] + 256 * rgb[:, :, 1] + 256**2 * rgb[:, :, 2]
