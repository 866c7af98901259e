"""Ground truth in COCO's form: read, completed, and handed to an engine."""

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
    """A COCO data set dict with every annotation complete: id, image, category, box, area, crowd flag.

    Args:
        dataset: ``images``, ``categories`` and (unless the set is a test set without labels) ``annotations``.
        source: where it came from, for messages.
    """

    def __init__(self, dataset: Mapping[str, Any], source: str = "the ground truth") -> None:
        for key in ("images", "categories"):
            if not isinstance(dataset.get(key), Sequence):
                raise ValueError(
                    f"{source} is not in COCO's format: it needs a list {key!r}, has {sorted(dataset)}"
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

    @cached_property
    def _numbers(self) -> npt.NDArray[np.int64]:
        """Ids of the categories, sorted."""
        return np.sort(np.array([c for c in self.category_ids if isinstance(c, int)], dtype=np.int64))

    def of_known_categories(self, found: ImageDetections) -> ImageDetections:
        """Leave out detections of categories that the ground truth does not list: nothing can be said about them."""
        known = np.isin(found.category_ids, self._numbers)
        return found if known.all() else found.chosen(known)

    @property
    def annotations(self) -> list[dict[str, Any]]:
        """All annotations."""
        return self.dataset["annotations"]

    @cached_property
    def by_image(self) -> dict[Any, list[dict[str, Any]]]:
        """Annotations of each image that has any."""
        groups: dict[Any, list[dict[str, Any]]] = {}
        for annotation in self.annotations:
            groups.setdefault(annotation["image_id"], []).append(annotation)
        return groups

    def slim(self, annotations: Sequence[Mapping[str, Any]], task: str) -> list[dict[str, Any]]:
        """Annotations with only the fields that a task looks at."""
        fields = ("id", "image_id", "category_id", "area", "iscrowd", *_TASK_FIELDS[task])
        return [{f: a[f] for f in fields if f in a} for a in annotations]

    def hotcoco(self, task: str) -> Any:
        """Return the data set as a ``hotcoco.COCO`` (built once per task)."""
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
        """The data set as a ``pycocotools.coco.COCO``; polygons that reach far out of their image are clipped."""
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
    """Copy the annotations of known images and categories, with missing ids, crowd flags, boxes and areas filled in."""
    complete = [dict(a) for a in annotations]
    for annotation in complete:
        for key in ("id", "image_id", "category_id"):
            if isinstance(annotation.get(key), np.generic):
                annotation[key] = annotation[key].item()
    known = [a for a in complete if a.get("image_id") in images and a.get("category_id") in categories]
    if len(known) < len(complete):
        logger.warning(
            "%s: %d of %d annotations are left out, whose image or category the file does not list.",
            source, len(complete) - len(known), len(complete),
        )  # fmt: skip
    _number(known, source)
    for annotation in known:
        annotation["iscrowd"] = int(annotation.get("iscrowd") or 0)
        _fill_geometry(annotation, images[annotation["image_id"]], source)
    return known


def _number(annotations: list[dict[str, Any]], source: str) -> None:
    """Number annotations anew whose ids an engine cannot use; nobody reads the ids later.

    Engines take 0 for "no match", and match an id that occurs twice only once.
    """
    ids = [a.get("id") for a in annotations]
    if None not in ids and 0 not in ids and len(set(ids)) == len(ids):
        return
    doubled = [i for i, n in Counter(i for i in ids if i is not None).items() if n > 1]
    if doubled:
        logger.warning(
            "%s: %d annotation ids occur more than once (e.g. %s); each annotation is counted on its own.",
            source, len(doubled), doubled[0],
        )  # fmt: skip
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number


def _fill_geometry(annotation: dict[str, Any], image: Mapping[str, Any], source: str) -> None:
    """Box and area of an annotation that lacks them, from its mask or box."""
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
        f"{source}: image {image['id']!r} needs 'height' and 'width', for its masks are polygons"
    )


def read_coco_json(path: str) -> GroundTruth:
    """Ground truth from a COCO file; remote paths and ``catalog://`` are resolved by the ``PathManager``."""
    local = PathManager.get_local_path(path)
    with open(local, encoding="utf-8") as file:
        return GroundTruth(json.load(file), source=os.path.basename(path))


def ground_truth_of(
    dataset_name: str, metadata: Metadata, output_dir: str | None, allow_cached: bool
) -> GroundTruth:
    """Return the ground truth of a registered data set.

    It is read from the set's ``json_file`` if the metadata name one; else it is made from the data set
    dicts, and kept in ``output_dir`` as ``{dataset_name}_coco_format.json``.

    Args:
        dataset_name: name of a registered data set.
        metadata: its metadata.
        output_dir: folder for the converted file.
        allow_cached: take a converted file that is there already, if it fits the data set. With False
            and no ``output_dir`` nothing is written.

    Raises:
        ValueError: when there is neither a file nor a place for one, and ``allow_cached`` asks for one.
    """
    json_file = metadata.get("json_file")
    if json_file:
        truth = read_coco_json(json_file)
        classes_before_loading(dataset_name, truth.categories)
        return truth
    if output_dir is None:
        if allow_cached:
            raise ValueError(
                f"{dataset_name!r} has no json_file in its metadata, so that its ground truth must be converted: "
                "pass output_dir=..., where the converted file is kept, or allow_cached_coco=False to convert "
                "in memory each time."
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
        logger.warning("%s does not fit the data set %r any more; it is made anew.", path, dataset_name)
        convert_to_coco_json(dataset_name, path, allow_cached=False)
        truth = read_coco_json(path)
    return truth
