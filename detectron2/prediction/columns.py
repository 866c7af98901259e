"""Batches as dictionaries of arrays, as Ray Data, Spark and Dask hand them on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectron2.data import Metadata
from detectron2.structures import Instances
from detectron2.structures.exchange import as_arrays, class_texts, mask_rles
from detectron2.structures.types import ModelOutput
from detectron2.utils.errors import BadKey

from .inputs import Picture

__all__ = ["Columns", "pictures_of", "result_columns"]

Columns = dict[str, npt.NDArray[Any]]

_PICTURE_COLUMNS = ("image", "bytes", "path")


def pictures_of(batch: Mapping[str, Any]) -> list[Picture]:
    """Return the pictures of a batch.

    Args:
        batch: has a column "image" of arrays ``(H, W, C)``, "bytes" of encoded image files, or "path".

    Raises:
        KeyError: if it has none of these.
    """
    for name in _PICTURE_COLUMNS:
        if name in batch:
            return list(batch[name])
    raise BadKey(
        f"a batch needs a column {' or '.join(map(repr, _PICTURE_COLUMNS))}, got {', '.join(map(repr, batch))}"
    )


def result_columns(batch: Mapping[str, Any], outputs: Sequence[ModelOutput], metadata: Metadata) -> Columns:
    """Make columns of predictions, one entry for each picture; entries are arrays of any length.

    Args:
        batch: the batch of the pictures; its columns come back, but for those of pixels ("image" and "bytes").
        outputs: one for each picture, on the CPU.
        metadata: names the classes.

    Returns:
        Object arrays: "boxes" ``[N, 4]`` XYXY in pixels (``[N, 5]`` for rotated ones), "scores" ``[N]``, "classes"
        ``[N]``, "class_names" (lists), and where predicted "masks" (lists of run-length encodings as JSON text),
        "keypoints" ``[N, K, 3]``, "sem_seg" ``[H, W]`` of classes, "panoptic_seg" ``[H, W]`` of segment ids and
        "segments_info" (JSON text).
    """
    columns = {name: np.asarray(values) for name, values in batch.items() if name not in _PICTURE_COLUMNS[:2]}
    entries = [_entries(output, metadata) for output in outputs]
    for name in dict.fromkeys(name for entry in entries for name in entry):
        columns[name] = _ragged([entry[name] for entry in entries])
    return columns


def _ragged(values: Sequence[Any]) -> npt.NDArray[Any]:
    column = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        column[i] = value
    return column


def _entries(output: ModelOutput, metadata: Metadata) -> dict[str, Any]:
    found: dict[str, Any] = {}
    instances = output.get("instances", output.get("proposals"))
    if instances is not None:
        found.update(_of_instances(instances, metadata))
    if "sem_seg" in output:
        found["sem_seg"] = output["sem_seg"].argmax(dim=0).numpy()
    if "panoptic_seg" in output:
        segments, info = output["panoptic_seg"]
        found["panoptic_seg"], found["segments_info"] = segments.numpy(), json.dumps(info)
    return found


def _of_instances(instances: Instances, metadata: Metadata) -> dict[str, Any]:
    arrays = as_arrays(instances)
    found: dict[str, Any] = {
        name: arrays[name] for name in ("boxes", "scores", "classes", "keypoints") if name in arrays
    }
    if "classes" in arrays:
        found["class_names"] = class_texts(arrays["classes"], metadata.get("thing_classes"))
    if "masks" in arrays:
        found["masks"] = [json.dumps(rle) for rle in mask_rles(arrays)]
    return found
