"""Tasks on label maps in reports: tables of figures, and predicted maps beside the labels."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from detectron2.data import Metadata
from detectron2.data import detection_utils as utils
from detectron2.structures.rle import decode

from .page import short
from .pictures import ByClass

__all__ = ["PredictedMaps", "pixel_tables"]

_SEMANTIC = ("mIoU", "fwIoU", "mACC", "pACC")
_CLASSES = ("IoU", "ACC")


def pixel_tables(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return tables, with ``head`` and ``rows``, of panoptic quality and of the IoU of classes.

    Args:
        results: of the evaluators, in percent.
    """
    tables = []
    panoptic, semantic = results.get("panoptic_seg"), results.get("sem_seg")
    if panoptic:
        kinds = {"all classes": "", "things": "_th", "stuff": "_st"}
        figures = ("PQ", "SQ", "RQ")
        rows = [[kind, *(short(panoptic.get(f + end)) for f in figures)] for kind, end in kinds.items()]
        tables.append({"head": ["Panoptic segmentation", *figures], "rows": rows})
    if semantic:
        rows = [["all classes", *(short(semantic.get(name)) for name in _SEMANTIC)]]
        tables.append({"head": ["Classes of pixels", *_SEMANTIC], "rows": rows})
        names = [key.removeprefix("IoU-") for key in semantic if key.startswith("IoU-")]
        rows = [[n, *(short(semantic.get(f"{figure}-{n}")) for figure in _CLASSES)] for n in names]
        tables.append({"head": ["Class", *_CLASSES], "rows": rows})
    return tables


class PredictedMaps:
    """The label maps that an evaluation predicted, panoptic ones or else classes of pixels.

    Args:
        folder: where the evaluators wrote their files.
        metadata: of the data.
    """

    def __init__(self, folder: Path, metadata: Metadata) -> None:
        self._folder, self._metadata = folder / "panoptic_seg", metadata
        self._segments: dict[Any, dict[str, Any]] = {}
        self._regions: dict[str, list[dict[str, Any]]] = {}
        panoptic, semantic = self._folder / "predictions.json", folder / "sem_seg_predictions.json"
        if panoptic.is_file():
            self._segments = {a["image_id"]: a for a in json.loads(panoptic.read_bytes())["annotations"]}
        for region in json.loads(semantic.read_bytes()) if semantic.is_file() else ():
            self._regions.setdefault(region["file_name"], []).append(region)

    def draw(self, record: Mapping[str, Any]) -> npt.NDArray[np.uint8] | None:
        """Return the picture of a record with the predicted map on it; None if there is no map."""
        segments = self._segments.get(record["image_id"])
        regions = self._regions.get(record["file_name"])
        if segments is None and regions is None:
            return None
        image = utils.read_image(record["file_name"], "RGB")
        canvas = ByClass(image, self._metadata)
        if segments is None:
            return canvas.draw_sem_seg(self._classes(regions or (), image.shape[:2])).get_image()
        colors = utils.read_image(str(self._folder / segments["file_name"]), "RGB").astype(np.int64)
        info = [self._numbered(s) for s in segments["segments_info"]]
        return canvas.draw_panoptic_seg(colors @ np.array([1, 256, 65536]), info).get_image()

    def _numbered(self, segment: Mapping[str, Any]) -> dict[str, Any]:
        """Return a segment with the number of its class in place of the category id."""
        things = self._metadata.get("thing_dataset_id_to_contiguous_id") or {}
        stuff = self._metadata.get("stuff_dataset_id_to_contiguous_id") or {}
        category = segment["category_id"]
        isthing = category in things
        return {**segment, "category_id": (things if isthing else stuff)[category], "isthing": isthing}

    def _classes(self, regions: Sequence[Mapping[str, Any]], size: Sequence[int]) -> npt.NDArray[np.int64]:
        numbers = self._metadata.get("stuff_dataset_id_to_contiguous_id") or {}
        classes = np.full(tuple(size), -1, np.int64)
        for region in regions:
            classes[decode(region["segmentation"])] = numbers.get(
                region["category_id"], region["category_id"]
            )
        return classes
