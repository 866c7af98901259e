"""Ground truth in COCO's format: reading, completing, and converting it for an engine."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO

from detectron2.data import DatasetCatalog, Metadata
from detectron2.data.datasets.coco import classes_before_loading, convert_to_coco_dict, convert_to_coco_json
from detectron2.structures.rle import bounded_polygons, decode, mask_box, to_mask
from detectron2.utils.file_io import PathManager
from detectron2.utils.json_values import plain

from .detections import ImageDetections, ImageId
from .quiet import QuietCOCO

logger = logging.getLogger(__name__)

_TASK_FIELDS = {
    "bbox": ("bbox",),
    "segm": ("bbox", "segmentation"),
    "keypoints": ("bbox", "keypoints", "num_keypoints"),
}


class GroundTruth:
    """A COCO dataset dict whose annotations all have id, image, category, box, area and crowd flag.

    Args:
        dataset: ``images``, ``categories`` and, except for test sets, ``annotations``.
        source: name of the dataset, for messages.
    """

    def __init__(self, dataset: Mapping[str, Any], source: str = "the ground truth") -> None:
        for key in ("images", "categories"):
            if not isinstance(dataset.get(key), Sequence):
                raise ValueError(
                    f"{source} is not in COCO's format: it needs a list {key!r}, got the keys {sorted(dataset)}"
                )
        self.source = source
        self.labelled = "annotations" in dataset
        self.images: dict[ImageId, dict[str, Any]] = {
            plain(image["id"]): image for image in dataset["images"]
        }
        self.categories = list(dataset["categories"])
        self.category_ids = {plain(category["id"]) for category in self.categories}
        self.dataset = {
            **dataset,
            "images": list(self.images.values()),
            "annotations": _completed(dataset.get("annotations", []), self.images, self.category_ids, source),
        }
        self._engines: dict[str, Any] = {}

    def of_known_categories(self, found: ImageDetections) -> ImageDetections:
        """Drop detections of categories that the ground truth does not list."""
        categories = found.category_ids.tolist()
        if self.category_ids.issuperset(categories):
            return found
        return found.chosen(np.array([c in self.category_ids for c in categories]))

    @property
    def annotations(self) -> list[dict[str, Any]]:
        """All annotations."""
        return self.dataset["annotations"]

    @cached_property
    def by_image(self) -> dict[Any, list[dict[str, Any]]]:
        """The annotations of each image with annotations."""
        groups: dict[Any, list[dict[str, Any]]] = {}
        for annotation in self.annotations:
            groups.setdefault(annotation["image_id"], []).append(annotation)
        return groups

    def slim(self, annotations: Sequence[Mapping[str, Any]], task: str) -> list[dict[str, Any]]:
        """Copy annotations with only the fields that a task uses."""
        fields = ("id", "image_id", "category_id", "area", "iscrowd", *_TASK_FIELDS[task])
        return [{f: a[f] for f in fields if f in a} for a in annotations]

    def hotcoco(self, task: str) -> Any:
        """Return the dataset as a ``hotcoco.COCO``, built once per task."""
        if task not in self._engines:
            import hotcoco

            images = [
                {"id": i["id"], **{k: i[k] for k in ("height", "width") if k in i}}
                for i in self.images.values()
            ]
            self._engines[task] = hotcoco.COCO(
                {
                    "images": images,
                    "categories": self.categories,
                    "annotations": self.slim(self.annotations, task),
                }
            )
        return self._engines[task]

    @cached_property
    def pycocotools(self) -> COCO:
        """The dataset as a ``pycocotools.coco.COCO``; polygons that extend far beyond their image are clipped."""
        api = QuietCOCO()
        api.dataset = {**self.dataset, "annotations": [self._with_bounds(a) for a in self.annotations]}
        api.createIndex()
        return api

    def _with_bounds(self, annotation: dict[str, Any]) -> dict[str, Any]:
        polygons, image = annotation.get("segmentation"), self.images[annotation["image_id"]]
        if not isinstance(polygons, list) or "height" not in image or "width" not in image:
            return annotation
        bounded = bounded_polygons(polygons, image["height"], image["width"])
        if all(len(old) == len(new) for old, new in zip(polygons, bounded)):
            return annotation
        return {**annotation, "segmentation": [p.tolist() for p in bounded if len(p) >= 6]}


def _completed(
    annotations: Sequence[Mapping[str, Any]],
    images: Mapping[ImageId, Mapping[str, Any]],
    categories: Collection[Any],
    source: str,
) -> list[dict[str, Any]]:
    """Copy the annotations of known images and categories, and add missing ids, crowd flags, boxes and areas."""
    complete = [dict(a) for a in annotations]
    for annotation in complete:
        for key in ("id", "image_id", "category_id"):
            if isinstance(annotation.get(key), np.generic):
                annotation[key] = annotation[key].item()
    known = [a for a in complete if a.get("image_id") in images and a.get("category_id") in categories]
    if len(known) < len(complete):
        logger.warning(
            "%s: %d of %d annotations are ignored, because the file does not list their image or category.",
            source, len(complete) - len(known), len(complete),
        )  # fmt: skip
    _number(known, source)
    for annotation in known:
        annotation["iscrowd"] = int(annotation.get("iscrowd") or 0)
        _fill_geometry(annotation, images[annotation["image_id"]], source)
    return known


def _number(annotations: list[dict[str, Any]], source: str) -> None:
    """Renumber annotations with ids that an engine cannot use: 0 means "no match", and duplicates match only once."""
    ids = [a.get("id") for a in annotations]
    if None not in ids and 0 not in ids and len(set(ids)) == len(ids):
        return
    doubled = [i for i, n in Counter(i for i in ids if i is not None).items() if n > 1]
    if doubled:
        logger.warning(
            "%s: %d annotation ids occur more than once (e.g. %s); each annotation is counted separately.",
            source, len(doubled), doubled[0],
        )  # fmt: skip
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number


def _fill_geometry(annotation: dict[str, Any], image: Mapping[str, Any], source: str) -> None:
    """Add a missing box and area to an annotation, computed from its mask or box."""
    has_box, has_area = "bbox" in annotation, annotation.get("area") is not None
    if has_box and has_area:
        return
    if annotation.get("segmentation"):
        mask = _mask(annotation, image, source)
        if not has_box:
            annotation["bbox"] = mask_box(mask)
        if not has_area:
            annotation["area"] = float(mask.sum())
    elif has_box:
        annotation["area"] = float(annotation["bbox"][2] * annotation["bbox"][3])
    else:
        raise ValueError(f"{source}: annotation {annotation['id']} has neither 'bbox' nor 'segmentation'")


def _mask(annotation: Mapping[str, Any], image: Mapping[str, Any], source: str) -> npt.NDArray[np.bool_]:
    segmentation = annotation["segmentation"]
    if "height" in image and "width" in image:
        return to_mask(segmentation, image["height"], image["width"])
    if isinstance(segmentation, Mapping):
        return decode(segmentation)
    raise ValueError(
        f"{source}: image {image['id']!r} needs 'height' and 'width', because its masks are polygons"
    )


def read_coco_json(path: str) -> GroundTruth:
    """Read ground truth from a COCO file; the ``PathManager`` resolves remote paths and ``catalog://``."""
    local = PathManager.get_local_path(path)
    with open(local, encoding="utf-8") as file:
        return GroundTruth(json.load(file), source=os.path.basename(path))


def ground_truth_of(
    dataset_name: str, metadata: Metadata, output_dir: str | None, allow_cached: bool
) -> GroundTruth:
    """Return the ground truth of a registered dataset.

    It is read from the ``json_file`` in the metadata, or converted from the dataset's records and saved in
    ``output_dir`` as ``{dataset_name}_coco_format.json``.

    Args:
        dataset_name: name of a registered dataset.
        metadata: its metadata.
        output_dir: folder for the converted file.
        allow_cached: whether to reuse an existing converted file that matches the dataset. With False and without
            ``output_dir``, nothing is written.

    Raises:
        ValueError: if ``json_file`` and ``output_dir`` are missing, but ``allow_cached`` is True.
    """
    json_file = metadata.get("json_file")
    if json_file:
        truth = read_coco_json(json_file)
        classes_before_loading(dataset_name, truth.categories)
        return truth
    if output_dir is None:
        if allow_cached:
            raise ValueError(
                f"{dataset_name!r} has no json_file in its metadata, so its ground truth must be converted: "
                "pass output_dir=... to save the converted file, or allow_cached_coco=False to convert it in memory."
            )
        return GroundTruth(convert_to_coco_dict(dataset_name), source=dataset_name)
    return _converted(
        dataset_name, os.path.join(output_dir, f"{dataset_name}_coco_format.json"), allow_cached
    )


def _converted(dataset_name: str, path: str, allow_cached: bool) -> GroundTruth:
    convert_to_coco_json(dataset_name, path, allow_cached=allow_cached)
    truth = read_coco_json(path)
    dicts = DatasetCatalog.get(dataset_name)
    wanted = Counter({d["image_id"]: len(d.get("annotations", ())) for d in dicts})
    found = Counter({image: len(truth.by_image.get(image, ())) for image in truth.images})
    if wanted != found:
        logger.warning("%s does not match the dataset %r any more; it is created again.", path, dataset_name)
        convert_to_coco_json(dataset_name, path, allow_cached=False)
        truth = read_coco_json(path)
    return truth
