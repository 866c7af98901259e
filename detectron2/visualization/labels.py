"""Label texts, and the forms in which callers give boxes, masks and keypoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectron2.structures import BoxMode
from detectron2.utils.errors import BadValue

from .masks import GenericMask


def create_text_labels(
    classes: Sequence[int] | None,
    scores: Any,
    class_names: Sequence[str] | None,
    is_crowd: Sequence[Any] | None = None,
) -> list[str] | None:
    """Make texts such as ``person 98%``.

    Args:
        classes: class of each instance, or None.
        scores: score of each instance in [0, 1], or None.
        class_names: names of the classes; None writes numbers.
        is_crowd: flag of each instance, or None; crowds are marked.

    Returns:
        One text per instance; None when there is neither class nor score.
    """
    if classes is None and scores is None:
        return None
    count = len(classes if classes is not None else scores)
    parts: list[list[str]] = [[] for _ in range(count)]
    if classes is not None:
        for part, c in zip(parts, classes):
            known = class_names is not None and 0 <= int(c) < len(class_names)
            part.append(class_names[int(c)] if known and class_names is not None else str(int(c)))
    if scores is not None:
        for part, score in zip(parts, scores):
            part.append(f"{float(score) * 100:.0f}%")
    texts = [" ".join(part) for part in parts]
    if is_crowd is not None:
        texts = [text + ("|crowd" if crowd else "") for text, crowd in zip(texts, is_crowd)]
    return texts


def with_track_numbers(labels: Sequence[str] | None, tracks: Sequence[int] | None) -> list[str] | None:
    """Add the numbers of tracks to labels, as in ``person 98% #3``."""
    if tracks is None:
        return None if labels is None else list(labels)
    return [f"{label} #{track}".strip() for label, track in zip(labels or [""] * len(tracks), tracks)]


def to_array(value: Any) -> npt.NDArray:
    """Convert a tensor, array or list to an array on the CPU."""
    value = getattr(value, "tensor", value)
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
        return value.numpy()
    return np.asarray(value)


def as_boxes(boxes: object) -> npt.NDArray:
    """Read boxes as ``[N, 4]``, or ``[N, 5]`` for rotated boxes."""
    array = to_array(boxes).astype(np.float64)
    if array.size == 0:
        return array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] not in (4, 5):
        raise BadValue(f"boxes must be [N, 4] (XYXY) or [N, 5] (rotated), got {list(array.shape)}")
    return array


def as_masks(masks: Any, height: int, width: int) -> list[GenericMask]:
    """Read masks from ``PolygonMasks``, ``BitMasks``, a tensor ``[N, H, W]`` or a list of single masks."""
    if hasattr(masks, "polygons"):
        masks = masks.polygons
    elif hasattr(masks, "tensor") or hasattr(masks, "detach"):
        masks = list(to_array(masks))
    return [m if isinstance(m, GenericMask) else GenericMask(_plain(m), height, width) for m in masks]


def _plain(mask: object) -> object:
    return to_array(mask) if hasattr(mask, "detach") else mask


def as_keypoints(keypoints: object) -> npt.NDArray:
    """Read keypoints as ``[N, K, 3]``."""
    array = to_array(keypoints).astype(np.float64)
    if array.size and (array.ndim != 3 or array.shape[2] != 3):
        raise BadValue(f"keypoints must be [N, K, 3], got {list(array.shape)}")
    return array


def annotation_box(annotation: Mapping[str, Any]) -> list[float]:
    """Return the box of an annotation: XYXY, or five numbers if it is rotated."""
    box, mode = annotation["bbox"], annotation.get("bbox_mode", BoxMode.XYWH_ABS)
    if len(box) == 5:
        return list(box)
    return list(BoxMode.convert(list(box), BoxMode(mode), BoxMode.XYXY_ABS))


def frames_around(
    masks: list[GenericMask] | None, keypoints: npt.NDArray | None, count: int
) -> npt.NDArray[np.float64]:
    """Compute the boxes ``[N, 4]`` around masks, or around keypoints."""
    if masks is not None:
        return np.stack([m.bbox() for m in masks])
    if keypoints is not None and keypoints.size:
        return np.concatenate([keypoints[:, :, :2].min(axis=1), keypoints[:, :, :2].max(axis=1)], axis=1)
    return np.zeros((count, 4))
