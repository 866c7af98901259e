"""Panoptic quality on datasets in COCO's panoptic format."""

from __future__ import annotations

import io
import itertools
import json
import logging
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from detectron2.data import MetadataCatalog
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.file_io.atomic import atomic_write
from detectron2.utils.json_values import plain
from detectron2.utils.logger import create_small_table

from ..coco.detections import ImageId
from ..progress.per_image import PerImageEvaluator
from .quality import PanopticCounts, panoptic_results

__all__ = ["COCOPanopticEvaluator"]

_COMPRESSION = 1  # level of PNG files; higher ones would take longer than the evaluation
_UNLABELLED = -1  # id of pixels without a label


class COCOPanopticEvaluator(PerImageEvaluator):
    """Computes PQ, SQ and RQ: ``{"panoptic_seg": {"PQ": ..., "PQ_th": ..., ...}}`` in percent.

    Segments are matched image by image in ``process()``; only counts are stored and, in a distributed run, communicated.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None) -> None:
        """
        Args:
            dataset_name: a dataset whose metadata has ``panoptic_json``, ``panoptic_root``, and
                ``thing_``/``stuff_dataset_id_to_contiguous_id``.
            output_dir: folder for ``predictions.json`` and the PNG files of COCO's format; None writes nothing.
        """
        self._logger = logging.getLogger(__name__)
        self._metadata = MetadataCatalog.get(dataset_name)
        self._thing_contiguous_id_to_dataset_id = _inverse(
            self._metadata.get("thing_dataset_id_to_contiguous_id")
        )
        self._stuff_contiguous_id_to_dataset_id = _inverse(
            self._metadata.get("stuff_dataset_id_to_contiguous_id")
        )
        self._output_dir = output_dir
        with PathManager.open(self._metadata.panoptic_json) as file:
            content = json.load(file)
        self._truth = {a["image_id"]: a for a in content["annotations"]}
        self._is_thing = {c["id"]: bool(c["isthing"]) for c in content["categories"]}
        self.reset()

    def reset(self) -> None:
        self._counts = PanopticCounts()
        self._seen: set[Any] = set()
        self._predictions: list[dict[str, Any]] = []

    def _convert_category_id(self, segment_info: Mapping[str, Any]) -> dict[str, Any]:
        """Return a segment with the dataset's category id, and without ``isthing``."""
        segment = dict(segment_info)
        isthing = segment.pop("isthing", None)
        if isthing is None:  # already has the dataset's category id
            return segment
        table = (
            self._thing_contiguous_id_to_dataset_id if isthing else self._stuff_contiguous_id_to_dataset_id
        )
        category = int(segment["category_id"])
        if category not in table:
            kind = "thing" if isthing else "stuff"
            raise ValueError(
                f"the model predicts {kind} class {category}, but the dataset has {len(table)}: {sorted(table)}"
            )
        segment["category_id"] = table[category]
        return segment

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Match the segments of one batch.

        Args:
            inputs: dicts with ``image_id`` and ``file_name``.
            outputs: dicts with ``panoptic_seg``: a map of segment ids, and the infos of segments (or None, if the ids
                follow ``label_divisor`` of the metadata).
        """
        super().process(inputs, outputs)

    def _summarise(self, record: Mapping[str, Any], output: Mapping[str, Any]) -> dict[str, Any]:
        image_id = plain(record["image_id"])
        if image_id not in self._truth:
            raise ValueError(
                f"image_id {image_id!r} is not in {self._metadata.panoptic_json}, which has ids such as "
                f"{list(itertools.islice(self._truth, 3))}"
            )
        ids, infos = output["panoptic_seg"]
        ids = ids.cpu().numpy()
        if infos is None:
            ids, infos = self._infos_from_ids(ids)
        infos = [self._convert_category_id(s) for s in infos]
        counts = self._match(image_id, ids, infos)
        return {
            "image_id": image_id,
            "ious": [[c, iou] for c, ious in counts.ious.items() for iou in ious],
            "missed": list(counts.missed.items()),
            "wrong": list(counts.wrong.items()),
            "prediction": self._write_png(record, ids, infos) if self._output_dir else None,
        }

    def _take(self, summary: dict[str, Any]) -> None:
        counts = self._counts
        for category, iou in summary["ious"]:
            counts.ious.setdefault(category, []).append(iou)
        for kind, found in ((counts.missed, summary["missed"]), (counts.wrong, summary["wrong"])):
            for category, n in found:
                kind[category] = kind.get(category, 0) + n
        self._seen.add(summary["image_id"])
        if summary["prediction"] is not None:
            self._predictions.append(summary["prediction"])

    def _infos_from_ids(self, ids: npt.NDArray) -> tuple[npt.NDArray, list[dict[str, Any]]]:
        """Create infos for ids ``class * label_divisor + number``; increase ids by one, so that -1 becomes 0."""
        divisor = self._metadata.get("label_divisor")
        if not divisor:
            raise ValueError("panoptic_seg without segments_info needs label_divisor in the metadata")
        things = set((self._metadata.get("thing_dataset_id_to_contiguous_id") or {}).values())
        infos = [
            {"id": label + 1, "category_id": label // divisor, "isthing": label // divisor in things}
            for label in np.unique(ids).tolist()
            if label != _UNLABELLED
        ]
        return ids + 1, infos

    def _match(
        self, image_id: ImageId, ids: npt.NDArray, infos: Sequence[Mapping[str, Any]]
    ) -> PanopticCounts:
        annotation = self._truth[image_id]
        path = os.path.join(self._metadata.panoptic_root, annotation["file_name"])
        truth = read_ids(path)
        if truth.shape != ids.shape:
            raise ValueError(
                f"image {image_id!r}: the prediction has shape {list(ids.shape)}, but {path} {list(truth.shape)}"
            )
        unknown = sorted({s["category_id"] for s in infos} - self._is_thing.keys())
        if unknown:
            raise ValueError(
                f"image {image_id!r}: predicted categories {unknown} are not in the panoptic json"
            )
        counts = PanopticCounts()
        counts.add_image(
            truth, annotation["segments_info"], ids, infos, (path, f"prediction of image {image_id!r}")
        )
        return counts

    def _write_png(
        self, record: Mapping[str, Any], ids: npt.NDArray, infos: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Write the prediction of an image; return its entry for ``predictions.json``."""
        name = os.path.splitext(os.path.basename(record["file_name"]))[0] + ".png"
        buffer = io.BytesIO()
        Image.fromarray(id2rgb(ids)).save(buffer, format="PNG", compress_level=_COMPRESSION)
        assert self._output_dir is not None
        with atomic_write(os.path.join(self._output_dir, name), "wb") as file:
            file.write(buffer.getvalue())
        return {"image_id": plain(record["image_id"]), "file_name": name, "segments_info": infos}

    def evaluate(self) -> OrderedDict[str, Any] | None:
        """Compute the metrics; None on processes other than the main one."""
        parts = comm.gather((self._counts, self._seen, self._predictions), dst=0)
        if not comm.is_main_process():
            return None
        counts = PanopticCounts().merge(part[0] for part in parts)
        absent = len(self._truth) - len(set().union(*(part[1] for part in parts)))
        if absent:
            self._logger.warning(
                "%d of %d images have no prediction and are not evaluated.", absent, len(self._truth)
            )
        if self._output_dir:
            content = {"annotations": list(itertools.chain.from_iterable(part[2] for part in parts))}
            with atomic_write(os.path.join(self._output_dir, "predictions.json"), "w") as file:
                file.write(json.dumps(content))
        figures = panoptic_results(counts, self._is_thing)
        self._logger.info("Panoptic segmentation:\n%s", create_small_table(figures))
        return OrderedDict({"panoptic_seg": figures})


def read_ids(path: str) -> npt.NDArray[np.int32]:
    """Read the segment ids ``[H, W]`` of a panoptic PNG file."""
    with PathManager.open(path, "rb") as file:
        image = _rgba(file.read())
    # View the four bytes of a pixel as one number, and mask the highest byte (alpha).
    return image.view("<i4")[:, :, 0].astype(np.int32, copy=False) & np.int32(0xFFFFFF)


def _rgba(data: bytes) -> npt.NDArray[np.uint8]:
    """Decode an image to ``[H, W, 4]``, with OpenCV if it is installed, which is faster."""
    try:
        import cv2
    except ImportError:
        image = None
    else:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
    if image is None:  # Pillow's error for a broken file is clearer
        return np.array(Image.open(io.BytesIO(data)).convert("RGBA"))
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGBA)


def id2rgb(ids: npt.NDArray) -> npt.NDArray[np.uint8]:
    """Encode segment ids ``R + 256 G + 65536 B`` as an RGB image ``[H, W, 3]``."""
    return np.stack([ids & 255, (ids >> 8) & 255, (ids >> 16) & 255], axis=-1).astype(np.uint8)


def _inverse(mapping: Mapping[int, int] | None) -> dict[int, int]:
    return {v: k for k, v in (mapping or {}).items()}
