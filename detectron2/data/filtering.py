"""Load the records of data sets by name: join, filter, count classes, add precomputed proposals."""

import itertools
import logging
import pickle
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch.utils.data as torchdata

from detectron2.structures import BoxMode
from detectron2.utils.errors import BadType, BadValue, UnknownNameError
from detectron2.utils.file_io import PathManager
from detectron2.utils.file_io.safe_pickle import restricted_load
from detectron2.utils.tables import create_grid_table

from .catalog import DatasetCatalog, MetadataCatalog
from .common import Indexed
from .datasets.coco_json.lazy_list import LazyRecords, RecordList, of_images
from .datasets.coco_json.lazy_record import AnnotationSource, AnnotationSummary
from .detection_utils import check_metadata_consistency
from .records import WrongRecordError, is_whole

__all__ = [
    "RecordList",
    "filter_images_with_few_keypoints",
    "filter_images_with_only_crowd_annotations",
    "get_detection_dataset_dicts",
    "load_proposals_into_dataset",
    "print_instances_class_histogram",
]

logger = logging.getLogger(__name__)

Record = dict[str, Any]


def summary_of(record: Record) -> AnnotationSummary:
    """Return category ids, crowd flags and visible keypoints of a record, without parsing it if possible."""
    packed = getattr(record, "annotation_summary", None)
    found = packed() if packed is not None else None
    if found is not None:
        return found
    annotations = record.get("annotations", ())
    return AnnotationSummary(
        [a.get("category_id", -1) for a in annotations],
        [a.get("iscrowd", 0) for a in annotations],
        [_visible(a.get("keypoints")) for a in annotations],
    )


def _visible(keypoints: npt.ArrayLike | None) -> int:
    return 0 if keypoints is None else int((np.asarray(keypoints, dtype=float).reshape(-1)[2::3] > 0).sum())


def filter_images_with_only_crowd_annotations(dataset_dicts: list[Record]) -> list[Record]:
    """Keep the images with at least one annotation that is not a crowd region.

    Args:
        dataset_dicts: records with ``annotations``.

    Returns:
        The records kept, in their order; the number removed is logged.
    """
    kept = _keep(dataset_dicts, lambda source: source.num_objects(), 1)
    if kept is None:
        kept = [r for r in dataset_dicts if not all(summary_of(r).crowd)]
    _log_removed(
        dataset_dicts, kept, "without any annotation to learn from (DATALOADER.FILTER_EMPTY_ANNOTATIONS)"
    )
    return kept


def filter_images_with_few_keypoints(
    dataset_dicts: list[Record], min_keypoints_per_image: int
) -> list[Record]:
    """Keep the images that show enough keypoints.

    Args:
        dataset_dicts: records with ``annotations``.
        min_keypoints_per_image: minimum number of keypoints with a visibility above 0, over all annotations of an
            image.

    Returns:
        The records kept, in their order; the number removed is logged.
    """
    kept = _keep(dataset_dicts, lambda source: source.num_keypoints(), min_keypoints_per_image)
    if kept is None:
        kept = [r for r in dataset_dicts if sum(summary_of(r).visible_keypoints) >= min_keypoints_per_image]
    _log_removed(dataset_dicts, kept, f"with fewer than {min_keypoints_per_image} visible keypoints")
    return kept


def _keep(
    records: list[Record], values: Callable[[AnnotationSource], npt.NDArray[np.int64]], least: int
) -> list[Record] | None:
    """Return those records of large files whose images have a value that is large enough, without making them.

    None if that takes the records themselves.
    """
    found = of_images(records, values) if isinstance(records, LazyRecords) else None
    if found is None:
        return None
    assert isinstance(records, LazyRecords)
    return records.select(np.flatnonzero(found >= least))


def _log_removed(before: Sequence[Any], after: Sequence[Any], why: str) -> None:
    if len(after) < len(before):
        logger.info("Removed %d of %d images: %s.", len(before) - len(after), len(before), why)


# ------------------------------------------------------------------ proposals
_OLD_KEYS = {"indexes": "ids", "scores": "objectness_logits"}


def _proposals_by_image(proposal_file: str, wanted: set[str]) -> tuple[dict[str, tuple[Any, Any]], BoxMode]:
    try:
        with PathManager.open(proposal_file, "rb") as f:
            stored = restricted_load(f, proposal_file, names={"detectron2.structures.boxes.BoxMode": BoxMode})
    except pickle.UnpicklingError as error:
        raise BadValue(str(error)) from error
    if not isinstance(stored, dict):
        raise BadValue(f"{proposal_file} must hold a dict of lists, got {type(stored).__name__}")
    stored = {_OLD_KEYS.get(key, key): value for key, value in stored.items()}
    missing = {"ids", "boxes", "objectness_logits"} - set(stored)
    if missing:
        raise BadValue(f"{proposal_file}: no {sorted(missing)} among its keys {sorted(stored)}")
    rows = zip(map(str, stored["ids"]), stored["boxes"], stored["objectness_logits"])
    found = {image_id: (boxes, logits) for image_id, boxes, logits in rows if image_id in wanted}
    return found, BoxMode(stored.get("bbox_mode", BoxMode.XYXY_ABS))


def load_proposals_into_dataset(dataset_dicts: list[Record], proposal_file: str) -> list[Record]:
    """Add precomputed proposals to the records.

    The file is a pickled dict with the parallel lists ``ids`` (image ids), ``boxes`` ([N, 4] arrays),
    ``objectness_logits`` ([N] arrays), and optionally ``bbox_mode``; the older keys ``indexes`` and ``scores`` are
    accepted. Only arrays and plain values are unpickled.

    Args:
        dataset_dicts: records with ``image_id``; changed in place.
        proposal_file: path or URL.

    Returns:
        ``dataset_dicts``, each with ``proposal_boxes``, ``proposal_objectness_logits`` (best first) and
        ``proposal_bbox_mode``.

    Raises:
        KeyError: an image has no proposals in the file.
        ValueError: the file is damaged, lacks a list, or contains more than arrays and plain values.
    """
    logger.info("Loading proposals from %s", proposal_file)
    wanted = {str(record["image_id"]) for record in dataset_dicts}
    found, mode = _proposals_by_image(proposal_file, wanted)
    absent = wanted - set(found)
    if absent:
        few = ", ".join(sorted(absent)[:5])
        raise UnknownNameError(
            f"{proposal_file} has no proposals for {len(absent)} of {len(wanted)} images (image_id {few}…): "
            "it was computed for another data set, or for a part of this one"
        )
    for record in dataset_dicts:
        boxes, logits = found[str(record["image_id"])]
        order = np.argsort(np.asarray(logits))[::-1]
        record["proposal_boxes"] = np.asarray(boxes)[order]
        record["proposal_objectness_logits"] = np.asarray(logits)[order]
        record["proposal_bbox_mode"] = mode
    return dataset_dicts


# ------------------------------------------------------------------ class counts
def count_classes(dataset_dicts: Iterable[Record], num_classes: int) -> npt.NDArray[np.int64]:
    """Count the annotations of each class that are not crowd regions, [num_classes].

    Raises:
        ValueError: a category id is outside ``0 .. num_classes - 1``.
    """
    found = dataset_dicts.count_categories() if isinstance(dataset_dicts, LazyRecords) else None
    if found is not None and all(0 <= category < num_classes for category in found):
        return np.array([found.get(number, 0) for number in range(num_classes)], dtype=np.int64)
    counts = np.zeros(num_classes, dtype=np.int64)
    for record in dataset_dicts:
        s = summary_of(record)
        for category, crowd in zip(s.category_ids, s.crowd):
            if crowd:
                continue
            if not is_whole(category):
                raise WrongRecordError(
                    f"{record.get('file_name', record.get('image_id', '?'))}: category_id {category!r} of an annotation "
                    "is not an integer"
                )
            if not 0 <= category < num_classes:
                raise BadValue(
                    f"{record.get('file_name', record.get('image_id', '?'))}: category_id {category} of an annotation "
                    f"is outside 0..{num_classes - 1}, the range for {num_classes} classes. `detectron2 data check` "
                    "lists all of them."
                )
            counts[category] += 1
    return counts


def print_instances_class_histogram(dataset_dicts: list[Record], class_names: Sequence[str]) -> None:
    """Log a table with the number of instances of each class, crowd regions not counted.

    Args:
        dataset_dicts: records with ``annotations``.
        class_names: one per class.

    Raises:
        ValueError: a category id is outside ``0 .. len(class_names) - 1``.
    """
    counts = count_classes(dataset_dicts, len(class_names))
    table = create_grid_table(zip(class_names, counts.tolist()), headers=("class", "instances"))
    logger.info("%d instances of %d classes:\n%s", int(counts.sum()), len(class_names), table)
    unused = [name for name, n in zip(class_names, counts) if n == 0]
    if unused and len(unused) < len(class_names):
        shown = ", ".join(unused[:8]) + ("…" if len(unused) > 8 else "")
        logger.info("%d classes have no instance: %s", len(unused), shown)


# ------------------------------------------------------------------ by name
def get_detection_dataset_dicts(
    names: str | Sequence[str],
    filter_empty: bool = True,
    min_keypoints: int = 0,
    proposal_files: Sequence[str] | None = None,
    check_consistency: bool = True,
) -> Indexed | torchdata.IterableDataset:
    """Load registered data sets and join them into one list of records.

    Args:
        names: one name or several.
        filter_empty: leave out images whose annotations, if any, are all crowd regions.
        min_keypoints: leave out images with fewer visible keypoints; 0 keeps all.
        proposal_files: one file of precomputed proposals per data set.
        check_consistency: require the same ``thing_classes`` in all data sets, and log their class counts.

    Returns:
        The records; ``torch.utils.data.Dataset`` objects instead of lists are joined without filtering.

    Raises:
        KeyError: a name is not registered.
        ValueError: there is no name, no record is left, or the classes differ.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise BadValue("no data set named: DATASETS.TRAIN (or TEST) is empty")
    if len(set(names)) < len(names):
        logger.info("Data sets named more than once are used more than once: %s", ", ".join(names))
    loaded = [DatasetCatalog.get(name) for name in names]
    if isinstance(loaded[0], torchdata.Dataset):
        return _join_datasets(names, loaded)
    for name, records in zip(names, loaded):
        if len(records) == 0:
            raise BadValue(f"data set {name!r} has no records")
    if proposal_files is not None:
        if len(proposal_files) != len(names):
            raise BadValue(f"{len(names)} data sets need as many proposal files, got {len(proposal_files)}")
        loaded = [load_proposals_into_dataset(records, f) for records, f in zip(loaded, proposal_files)]
    has_instances = "annotations" in loaded[0][0]
    if has_instances:
        loaded = [_filter(records, filter_empty, min_keypoints) for records in loaded]
    joined = _join_records(names, loaded)
    if has_instances and check_consistency:
        _check_classes(joined, names)
    if not joined:
        raise BadValue(
            f"no image of {', '.join(names)} is left: none has an annotation to learn from. Check the annotations, "
            "or train on background images with DATALOADER.FILTER_EMPTY_ANNOTATIONS False."
        )
    return joined


def _join_records(names: Sequence[str], loaded: list[list[Record]]) -> RecordList:
    lazy = [r for r in loaded if isinstance(r, LazyRecords) and r.places() is not None]
    joined = LazyRecords.joined(lazy) if len(lazy) == len(loaded) else RecordList(itertools.chain(*loaded))
    joined.lengths = {}
    for name, records in zip(names, loaded):
        joined.lengths[name] = joined.lengths.get(name, 0) + len(records)
    return joined


def _join_datasets(names: Sequence[str], loaded: list[Any]) -> Indexed | torchdata.IterableDataset:
    if len(loaded) == 1:
        return loaded[0]
    if any(isinstance(d, torchdata.IterableDataset) for d in loaded):
        return torchdata.ChainDataset(loaded)
    if not all(isinstance(d, torchdata.Dataset) for d in loaded):
        raise BadType(f"of {', '.join(names)} some are lists of records and some are Dataset objects")
    return torchdata.ConcatDataset(loaded)


def _filter(records: list[Record], filter_empty: bool, min_keypoints: int) -> list[Record]:
    if filter_empty:
        records = filter_images_with_only_crowd_annotations(records)
    if min_keypoints > 0:
        records = filter_images_with_few_keypoints(records, min_keypoints)
    return records


def _check_classes(records: list[Record], names: Sequence[str]) -> None:
    class_names = MetadataCatalog.get(names[0]).get("thing_classes")
    if class_names is None:
        return
    check_metadata_consistency("thing_classes", names)
    print_instances_class_histogram(records, class_names)
