"""Ground truth in COCO's form: read, completed, and handed to an engine."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from detectron2.data import DatasetCatalog
from detectron2.data.datasets.coco import convert_to_coco_dict, convert_to_coco_json
from detectron2.structures.rle import decode, mask_box, to_mask
from detectron2.utils.file_io import PathManager

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
        self.images: dict[Any, dict[str, Any]] = {image["id"]: image for image in dataset["images"]}
        self.categories = list(dataset["categories"])
        self.dataset = {
            **dataset,
            "annotations": _completed(dataset.get("annotations", []), self.images, source),
        }
        self._engines: dict[str, Any] = {}

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
    def pycocotools(self) -> Any:
        """The data set as a ``pycocotools.coco.COCO``."""
        from pycocotools.coco import COCO

        api = COCO()
        api.dataset = dict(self.dataset)
        with contextlib.redirect_stdout(io.StringIO()):
            api.createIndex()
        return api


def _completed(
    annotations: Sequence[Mapping[str, Any]], images: Mapping[Any, Any], source: str
) -> list[dict[str, Any]]:
    """Copy the annotations, with missing ids, crowd flags, boxes and areas filled in."""
    complete = [dict(a) for a in annotations]
    ids = [a.get("id") for a in complete]
    # Engines take 0 for "no match" and match a doubled id once: such ids are numbered anew. Nobody reads them later.
    if None in ids or 0 in ids or len(set(ids)) < len(ids):
        doubled = [i for i, n in Counter(i for i in ids if i is not None).items() if n > 1]
        if doubled:
            logging.getLogger(__name__).warning(
                "%s: %d annotation ids occur more than once (e.g. %s); each annotation is counted on its own.",
                source, len(doubled), doubled[0],
            )  # fmt: skip
        for number, annotation in enumerate(complete, start=1):
            annotation["id"] = number
    for annotation in complete:
        if annotation.get("image_id") not in images:
            raise ValueError(
                f"{source}: annotation {annotation['id']} is of image {annotation.get('image_id')!r}, "
                "which is not among its images"
            )
        annotation["iscrowd"] = int(annotation.get("iscrowd") or 0)
        _fill_geometry(annotation, images[annotation["image_id"]], source)
    return complete


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
    dataset_name: str, metadata: Any, output_dir: str | None, allow_cached: bool
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
        return read_coco_json(json_file)
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
        logging.getLogger(__name__).warning(
            "%s does not fit the data set %r any more; it is made anew.", path, dataset_name
        )
        convert_to_coco_json(dataset_name, path, allow_cached=False)
        truth = read_coco_json(path)
    return truth
