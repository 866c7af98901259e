"""Average precision as PASCAL VOC defines it."""

from __future__ import annotations

import itertools
import logging
import os
import xml.etree.ElementTree as ET
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from detectron2.data import MetadataCatalog
from detectron2.utils import comm
from detectron2.utils.errors import BadValue
from detectron2.utils.file_io import PathManager

from .evaluator import DatasetEvaluator
from .progress.per_image import PerImageEvaluator

__all__ = [
    "DatasetEvaluator",
    "MetadataCatalog",
    "PascalVOCDetectionEvaluator",
    "parse_rec",
    "voc_ap",
    "voc_eval",
]

_THRESHOLDS = tuple(t / 100 for t in range(50, 100, 5))

FloatArray = npt.NDArray[np.float64]


class _Objects(NamedTuple):
    """Objects of one class in one image."""

    boxes: FloatArray  # [G, 4], inclusive 1-based pixels
    difficult: npt.NDArray[np.bool_]  # [G]


class _Matches(NamedTuple):
    """Detections of one class in all images, best first."""

    overlap: FloatArray  # [D] best IoU with an object of the image
    target: npt.NDArray[np.int64]  # [D] index of that object, -1 for none
    difficult: npt.NDArray[np.bool_]  # [D] whether that object is difficult
    positives: int  # objects that are not difficult


def parse_rec(filename: str) -> list[dict[str, Any]]:
    """Parse the objects of a VOC annotation file.

    Args:
        filename: path of an XML file.

    Returns:
        Dicts with ``name``, ``pose``, ``truncated``, ``difficult`` and ``bbox`` (xmin, ymin, xmax, ymax as in the
        file: 1-based, both ends included).
    """
    with PathManager.open(filename) as file:
        root = ET.parse(file).getroot()
    objects = []
    for node in root.iter("object"):
        corners = [node.findtext(f"bndbox/{tag}") for tag in ("xmin", "ymin", "xmax", "ymax")]
        if None in corners or node.findtext("name") is None:
            raise ValueError(f"{filename}: an object lacks its name or a coordinate of its bndbox")
        objects.append(
            {
                "name": node.findtext("name"),
                "pose": node.findtext("pose", ""),
                "truncated": int(node.findtext("truncated", "0")),
                "difficult": int(node.findtext("difficult", "0")),
                "bbox": [int(float(c)) for c in corners if c is not None],
            }
        )
    return objects


def voc_ap(rec: FloatArray, prec: FloatArray, use_07_metric: bool = False) -> float:
    """Compute the area under a precision-recall curve.

    Args:
        rec: recall after each detection, ascending.
        prec: precision after each detection.
        use_07_metric: average the best precision at recall >= 0, 0.1, ..., 1, as in VOC 2007; else compute the exact
            area under the curve's upper envelope, as since VOC 2010.

    Reference: Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2010, section 4.2.
    """
    # Best precision at this recall or a higher one.
    envelope = np.maximum.accumulate(np.append(prec, 0.0)[::-1])[::-1]
    if use_07_metric:
        first = np.searchsorted(rec, np.arange(0.0, 1.1, 0.1), side="left")
        return float(envelope[first].sum() / 11.0)
    return float(np.dot(np.diff(rec, prepend=0.0), envelope[:-1]))


def voc_eval(
    detpath: str,
    annopath: str,
    imagesetfile: str,
    classname: str,
    ovthresh: float = 0.5,
    use_07_metric: bool = False,
) -> tuple[FloatArray, FloatArray, float]:
    """Compute recall, precision and AP of one class from VOC's files.

    Args:
        detpath: path of detections; ``detpath.format(classname)`` has lines ``image score xmin ymin xmax ymax``.
        annopath: path of annotations; ``annopath.format(image)`` is an XML file.
        imagesetfile: path of the names of the images, one per line.
        classname: name of the class.
        ovthresh: IoU that a detection must exceed.
        use_07_metric: see :func:`voc_ap`.

    Returns:
        Recall and precision after each detection, and AP.
    """
    images = _read_image_set(imagesetfile)
    with PathManager.open(detpath.format(classname)) as file:
        lines = [line.split() for line in file if line.strip()]
    objects = _objects_of(classname, {i: parse_rec(annopath.format(i)) for i in images})
    return _curve(_match(lines, objects, images), ovthresh, use_07_metric)


def _read_image_set(path: str) -> list[str]:
    with PathManager.open(path) as file:
        return [line.split()[0] for line in file if line.strip()]


def _objects_of(classname: str, records: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, _Objects]:
    objects = {}
    for image, record in records.items():
        own = [r for r in record if r["name"] == classname]
        boxes = np.array([r["bbox"] for r in own], dtype=np.float64).reshape(-1, 4)
        objects[image] = _Objects(boxes, np.array([bool(r["difficult"]) for r in own], dtype=bool))
    return objects


def _overlaps(found: FloatArray, truth: FloatArray) -> FloatArray:
    """Compute the IoU ``[D, G]`` of boxes that include both end pixels."""
    low = np.maximum(found[:, None, :2], truth[None, :, :2])
    high = np.minimum(found[:, None, 2:], truth[None, :, 2:])
    inter = np.clip(high - low + 1.0, 0.0, None).prod(-1)
    size = lambda b: (b[:, 2:] - b[:, :2] + 1.0).prod(-1)  # noqa: E731
    return inter / (size(found)[:, None] + size(truth)[None] - inter)


def _match(
    lines: Sequence[Sequence[str]], objects: Mapping[str, _Objects], images: Sequence[str]
) -> _Matches:
    """Match detections, given as text fields of a result file, with the objects of their images."""
    place = {image: k for k, image in enumerate(images)}
    known = [line for line in lines if line[0] in place]
    image = np.array([place[line[0]] for line in known], dtype=np.int64)
    numbers = np.array([line[1:6] for line in known], dtype=np.float64).reshape(-1, 5)
    order = np.lexsort(
        (np.arange(len(known)), image, -numbers[:, 0])
    )  # equal scores: in the order of the images
    image, boxes = image[order], numbers[order, 1:]

    overlap = np.full(len(known), -np.inf)
    target = np.full(len(known), -1, dtype=np.int64)
    difficult = np.zeros(len(known), dtype=bool)
    first = 0
    for k, name in enumerate(images):
        truth = objects[name]
        rows = np.flatnonzero(image == k) if len(truth.boxes) else np.zeros(0, dtype=np.int64)
        if len(rows):
            iou = _overlaps(boxes[rows], truth.boxes)
            best = iou.argmax(axis=1)
            overlap[rows], target[rows] = iou.max(axis=1), first + best
            difficult[rows] = truth.difficult[best]
        first += len(truth.boxes)
    return _Matches(overlap, target, difficult, sum(int((~o.difficult).sum()) for o in objects.values()))


def _curve(matches: _Matches, threshold: float, use_07_metric: bool) -> tuple[FloatArray, FloatArray, float]:
    """Compute recall, precision and AP at one IoU threshold; only the first detection of an object is correct."""
    hit = matches.overlap > threshold
    right = np.zeros(len(hit), dtype=bool)
    candidates = np.flatnonzero(hit & ~matches.difficult)
    right[candidates[np.unique(matches.target[candidates], return_index=True)[1]]] = True
    wrong = ~right & ~(hit & matches.difficult)
    tp, fp = np.cumsum(right, dtype=np.float64), np.cumsum(wrong, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = tp / float(matches.positives)
    precision = tp / np.maximum(tp + fp, np.finfo(np.float64).eps)
    return recall, precision, voc_ap(recall, precision, use_07_metric) if matches.positives else float("nan")


class PascalVOCDetectionEvaluator(PerImageEvaluator):
    """Computes AP of boxes on a VOC dataset: ``{"bbox": {"AP", "AP50", "AP75"}}`` in percent.

    Scores are rounded to three decimals and coordinates to one, as in VOC's result files. As in COCO, ``AP`` is the
    mean over IoU thresholds of 0.5 to 0.95.
    """

    def __init__(self, dataset_name: str) -> None:
        """
        Args:
            dataset_name: a dataset registered by ``register_pascal_voc``, whose metadata has ``dirname``, ``split``,
                ``year`` and ``thing_classes``.
        """
        self._dataset_name = dataset_name
        meta = MetadataCatalog.get(dataset_name)
        self._anno_file_template = os.path.join(meta.dirname, "Annotations", "{}.xml")
        self._image_set_path = os.path.join(meta.dirname, "ImageSets", "Main", meta.split + ".txt")
        self._class_names = list(meta.thing_classes)
        if meta.year not in (2007, 2012):
            raise BadValue(
                f"year of {dataset_name!r} must be 2007 or 2012, which defines AP, got {meta.year!r}"
            )
        self._is_2007 = meta.year == 2007
        self._cpu_device = torch.device("cpu")
        self._logger = logging.getLogger(__name__)
        self.reset()

    def reset(self) -> None:
        self._predictions: dict[int, list[list[str]]] = {k: [] for k in range(len(self._class_names))}

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Process one batch.

        Args:
            inputs: dicts with ``image_id``.
            outputs: dicts with ``instances``.
        """
        super().process(inputs, outputs)

    def _summarise(self, record: Mapping[str, Any], output: Mapping[str, Any]) -> list[tuple[int, list[str]]]:
        instances = output["instances"].to(self._cpu_device)
        boxes = instances.pred_boxes.tensor.numpy() + np.array([1, 1, 0, 0], dtype=np.float32)  # 1-based
        rows = zip(boxes.tolist(), instances.scores.tolist(), instances.pred_classes.tolist())
        lines = []
        for box, score, label in rows:
            if label not in self._predictions:
                raise ValueError(
                    f"class {label} was predicted, but {self._dataset_name!r} has {len(self._class_names)} classes"
                )
            lines.append((label, [str(record["image_id"]), f"{score:.3f}", *(f"{v:.1f}" for v in box)]))
        return lines

    def _take(self, summary: Sequence[Sequence[Any]]) -> None:
        for label, line in summary:
            self._predictions[label].append(line)

    def evaluate(self) -> OrderedDict[str, Any] | None:
        """Compute the metrics; None on processes other than the main one."""
        parts = comm.gather(self._predictions, dst=0)
        if not comm.is_main_process():
            return None
        images = _read_image_set(self._image_set_path)
        records = {image: parse_rec(self._anno_file_template.format(image)) for image in images}
        table = np.full((len(self._class_names), len(_THRESHOLDS)), np.nan)
        for k, name in enumerate(self._class_names):
            lines = list(itertools.chain.from_iterable(part[k] for part in parts))
            matches = _match(lines, _objects_of(name, records), images)
            table[k] = [_curve(matches, t, self._is_2007)[2] for t in _THRESHOLDS]
        absent = [n for n, row in zip(self._class_names, table) if np.isnan(row).any()]
        if absent:
            self._logger.warning(
                "%d classes have no objects and are excluded from the means: %s", len(absent), absent
            )
        means = (
            table[~np.isnan(table).any(axis=1)].mean(axis=0) * 100 if len(absent) < len(table) else table[0]
        )
        result = {
            "AP": float(means.mean()),
            "AP50": float(means[_THRESHOLDS.index(0.5)]),
            "AP75": float(means[_THRESHOLDS.index(0.75)]),
        }
        return OrderedDict({"bbox": result})
