"""Load and register data sets in COCO's instance format."""

import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from detectron2.utils.file_io import PathManager
from detectron2.utils.file_io.text import read_json
from detectron2.utils.reexports import passed_on, publish

from ..catalog import DatasetCatalog, MetadataCatalog
from .coco_json.columns import NotIndexable
from .coco_json.records import AnnotationReader, class_table, contiguous_ids
from .coco_json.source import lazy_records
from .coco_json.write import convert_to_coco_dict, convert_to_coco_json
from .sem_seg import load_sem_seg

__all__ = [
    "convert_to_coco_dict",
    "convert_to_coco_json",
    "load_coco_json",
    "load_sem_seg",
    "register_coco_instances",
]

__getattr__ = passed_on(__name__)

logger = logging.getLogger(__name__)

LAZY_FROM_BYTES = 32 << 20
"""Files of at least this size are indexed instead of parsed as a whole."""


publish(__name__, convert_to_coco_dict, convert_to_coco_json, load_sem_seg)


def load_coco_json(
    json_file: str,
    image_root: str,
    dataset_name: str | None = None,
    extra_annotation_keys: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Load a file in COCO's instance format (boxes, polygons or RLE, keypoints).

    Args:
        json_file: path or URL of the JSON file.
        image_root: folder that ``file_name`` of the images is relative to.
        dataset_name: if given, ``thing_classes`` and ``thing_dataset_id_to_contiguous_id`` are written to its
            metadata, and ``category_id`` becomes the class number 0..K-1; otherwise it stays as in the file.
        extra_annotation_keys: additional keys of the annotations to keep.

    Returns:
        One record per image, in the order of the image ids; records of a large file are made, and their annotations
        parsed, on first use. Keypoints are shifted by half a pixel to continuous coordinates; polygons with fewer than 3 points are
        dropped, and annotations that have only such polygons are left out, with a count in the log.

    Raises:
        ValueError: an annotation has an empty ``bbox``, or an id is used twice.
        KeyError: an annotation has a category that the file does not define.
    """
    return _load(
        str(json_file),
        image_root,
        tuple(extra_annotation_keys or ()),
        lambda categories: _note_classes(categories, str(json_file), dataset_name),
    )


def load_with_ids(json_file: str, image_root: str, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Load a file in COCO's instance format as :func:`load_coco_json` does, with given classes.

    Args:
        json_file: path or URL of the JSON file.
        image_root: folder that ``file_name`` of the images is relative to.
        ids: category ids, in the order of the class numbers.
    """
    return _load(json_file, image_root, (), lambda _: ids)


_Ids = Callable[[Sequence[Mapping[str, Any]]], Sequence[int] | None]


def _load(json_file: str, image_root: str, extra: tuple[str, ...], ids: _Ids) -> list[dict[str, Any]]:
    """Load a file.

    Args:
        json_file: path or URL.
        image_root: folder of the images.
        extra: additional keys of annotations to keep.
        ids: returns the category ids in the order of the class numbers, given the categories of the file; or None.
    """
    started = time.perf_counter()
    path = PathManager.get_local_path(json_file)
    records: list[dict[str, Any]] | None = None
    if hasattr(os, "pread") and os.path.getsize(path) >= LAZY_FROM_BYTES:
        try:
            records = lazy_records(path, json_file, image_root, extra, ids)
        except NotIndexable as reason:
            logger.info("%s is read as a whole: %s", json_file, reason)
    if records is None:
        records = _load_whole(json_file, image_root, extra, ids)
    logger.info("Loaded %d images from %s in %.1f s", len(records), json_file, time.perf_counter() - started)
    return records


def _load_whole(json_file: str, image_root: str, extra: tuple[str, ...], ids: _Ids) -> list[dict[str, Any]]:
    content = read_json(json_file)
    known = ids(content.get("categories", []))
    reader = AnnotationReader(json_file, None if known is None else contiguous_ids(known), extra)
    by_image = _group(content.get("annotations", []), content["images"], json_file)
    records = []
    images = {image["id"]: image for image in content["images"]}
    for _, image in sorted(images.items()):
        converted = map(reader, by_image.get(image["id"], ()))
        records.append(
            {
                "file_name": os.path.join(image_root, image["file_name"]),
                "height": image["height"],
                "width": image["width"],
                "image_id": image["id"],
                "annotations": [a for a in converted if a is not None],
            }
        )
    reader.report()
    return records


def _note_classes(
    categories: Sequence[Mapping[str, Any]], source: str, dataset_name: str | None
) -> list[int] | None:
    """Write the classes to the metadata, and return the category ids in their order; None without a data set name."""
    if dataset_name is None:
        return None
    ids, names = class_table(categories, source)
    meta = MetadataCatalog.get(dataset_name)
    meta.thing_classes = names
    if ids and not (min(ids) == 1 and max(ids) == len(ids)) and "coco" not in dataset_name:
        logger.info("%s: category ids %d..%d are mapped to 0..%d", source, min(ids), max(ids), len(ids) - 1)
    meta.thing_dataset_id_to_contiguous_id = contiguous_ids(ids)
    return ids


def _group(
    annotations: Sequence[Mapping[str, Any]], images: Sequence[Mapping[str, Any]], source: str
) -> dict[Any, list[Mapping[str, Any]]]:
    """Return the annotations by image id.

    Raises:
        ValueError: an annotation id is used twice.
    """
    image_ids = {image["id"] for image in images}
    if len(image_ids) < len(images):
        logger.warning(
            "%s: %d image ids are listed more than once; the last entry of each is used",
            source, len(images) - len(image_ids),
        )  # fmt: skip
    ids = [a["id"] for a in annotations if "id" in a]
    # COCO's old "minival" file repeats ids, which is harmless: its annotations are complete.
    if len(set(ids)) < len(ids) and "minival" not in os.path.basename(source):
        seen: set[Any] = set()
        twice = next(i for i in ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
        raise ValueError(
            f"{source}: {len(ids) - len(set(ids))} annotation ids are used more than once, {twice} is the first. "
            "Renumber the annotations (`detectron2 data import` writes such a copy); `detectron2 data check` lists "
            "those that share an id."
        )
    grouped: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    strays = 0
    for a in annotations:
        if a["image_id"] in image_ids:
            grouped[a["image_id"]].append(a)
        else:
            strays += 1
    if strays:
        logger.warning("%s: left out %d annotations of images that the file does not list", source, strays)
    return grouped


def register_coco_instances(
    name: str, metadata: Mapping[str, Any] | Callable[[], Mapping[str, Any]], json_file: str, image_root: str
) -> None:
    """Register a data set in COCO's instance format; its file is read on first use.

    Args:
        name: for example ``"parts_train"``.
        metadata: additional metadata, for example ``{"thing_colors": […]}`` or ``{}``; or a function that returns
            them, called on first use.
        json_file: path or URL of the JSON file.
        image_root: folder of the images.
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, got {type(name).__name__}")
    for what, path in (("json_file", json_file), ("image_root", image_root)):
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"{what} must be a path, got {type(path).__name__}")
    DatasetCatalog.register(name, partial(load_coco_json, json_file, image_root, name))
    set_metadata(name, metadata, json_file=json_file, image_root=image_root, evaluator_type="coco")


def classes_before_loading(name: str, categories: Sequence[Mapping[str, Any]]) -> None:
    """Set the class metadata of a data set that is registered but not loaded yet, as loading it would.

    Ids 1..K are left alone: predictions may use them already, as in Detectron2.

    Args:
        name: a data set; ignored unless :func:`register_coco_instances` registered it.
        categories: ``categories`` of its file.
    """
    loader, meta = DatasetCatalog.data.get(name), MetadataCatalog.get(name)
    if (
        getattr(loader, "func", None) is not load_coco_json
        or "thing_dataset_id_to_contiguous_id" in meta.as_dict()
    ):
        return
    ids, names = class_table(categories, name)
    if list(ids) == list(range(1, len(ids) + 1)):
        return
    meta.thing_dataset_id_to_contiguous_id = contiguous_ids(ids)
    if not meta.get("thing_classes"):
        meta.thing_classes = names


def set_metadata(
    name: str, metadata: Mapping[str, Any] | Callable[[], Mapping[str, Any]], **more: object
) -> None:
    """Set metadata now, or on first use if they come from a function."""
    if callable(metadata):
        MetadataCatalog.defer(name, lambda: {**metadata(), **more})
    else:
        MetadataCatalog.get(name).set(**more, **metadata)
