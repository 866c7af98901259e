"""The predictions of a process, stored in a temporary file if there are many, and views of them."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from detectron2.utils.errors import BadValue
from detectron2.utils.file_io.atomic import atomic_write

from ..progress.records import RecordList
from .detections import ImageDetections, from_json_dicts

__all__ = ["Detections", "PredictionList", "ResultDicts", "dataset_ids", "save_list", "tasks_in"]

_RESULT_KEYS = {"keypoints": "keypoints", "segm": "segmentation"}


class PredictionList(RecordList):
    """A list of records ``{"image_id": ..., "instances": ..., "proposals": ...}`` with their totals.

    Attributes:
        image_ids: id of each record.
        parts: keys of records other than ``image_id``.
        tasks: tasks that some detections allow.
        has_boxes: whether the box of some detection has an area.
        detections: number of detections.
    """

    def __init__(self, records: Iterable[Mapping[str, Any]] = ()) -> None:
        super().__init__()
        self.image_ids: list[Any] = []
        self.parts: set[str] = set()
        self.tasks: set[str] = set()
        self.has_boxes = False
        self.detections = 0
        self.extend(records)

    def _size_of(self, record: Mapping[str, Any]) -> int | None:
        return record["instances"].nbytes if record.keys() == {"image_id", "instances"} else None

    def append(self, record: Mapping[str, Any]) -> None:
        """Append the record of one image; its detections may be COCO result dicts."""
        if "instances" in record:
            found = from_json_dicts(record["instances"], record["image_id"])
            record = {**record, "instances": found}
            self.tasks |= found.tasks
            self.detections += len(found)
            self.has_boxes = self.has_boxes or bool((found.boxes[:, 2:4] > 0).all(axis=1).any())
        super().append(record)
        self.image_ids.append(record["image_id"])
        self.parts |= record.keys() - {"image_id"}

    def in_order_of_ids(self) -> list[int]:
        """Return the indices of the records, sorted by image id."""
        return sorted(range(len(self)), key=lambda i: (str(type(self.image_ids[i])), self.image_ids[i]))


class Detections(Sequence[ImageDetections]):
    """The detections in a list of predictions, read on demand.

    Args:
        predictions: the predictions.
        convert: applied to the detections of each image, to set the dataset's category ids.
        numbers: indices of records; None = all, sorted by image id. Records without detections are skipped.
    """

    def __init__(
        self,
        predictions: PredictionList,
        convert: Callable[[ImageDetections], ImageDetections],
        numbers: Sequence[int] | None = None,
    ) -> None:
        self._predictions, self._convert = predictions, convert
        self._numbers = predictions.in_order_of_ids() if numbers is None else list(numbers)
        if predictions.parts - {"instances"}:  # some records may have only proposals
            self._numbers = [i for i in self._numbers if "instances" in predictions[i]]

    @property
    def image_ids(self) -> list[Any]:
        """The id of each image."""
        return [self._predictions.image_ids[i] for i in self._numbers]

    def of_images(self, image_ids: Iterable[Any]) -> Detections:
        """Return the detections of some images."""
        wanted = set(image_ids)
        known = self._predictions.image_ids
        return Detections(self._predictions, self._convert, [i for i in self._numbers if known[i] in wanted])

    def as_processed(self) -> Detections:
        """Return the same records in the order in which they were added."""
        return Detections(self._predictions, self._convert, sorted(self._numbers))

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        chosen = self._numbers[index]
        if isinstance(index, slice):
            return [self._read(i) for i in chosen]
        return self._read(chosen)

    def __iter__(self) -> Iterator[ImageDetections]:
        return map(self._read, self._numbers)

    def _read(self, number: int) -> ImageDetections:
        return self._convert(self._predictions[number]["instances"])


class ResultDicts(Sequence[dict[str, Any]]):
    """All detections of some predictions as COCO result dicts, created on demand.

    Args:
        predictions: the predictions.
        convert: see :class:`Detections`.

    Attributes:
        tasks: tasks that some detections allow.
    """

    def __init__(
        self, predictions: PredictionList, convert: Callable[[ImageDetections], ImageDetections]
    ) -> None:
        self._detections = Detections(predictions, convert)
        # Models that predict only masks return empty boxes, which must not be evaluated.
        only_masks = (
            "segm" in predictions.tasks and bool(predictions.detections) and not predictions.has_boxes
        )
        self.tasks = predictions.tasks - {"bbox"} if only_masks else predictions.tasks | {"bbox"}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for found in self._detections:
            yield from found

    def __len__(self) -> int:
        return sum(len(found) for found in self._detections)

    def __getitem__(self, index: Any) -> Any:
        return list(self)[index]


def tasks_in(predictions: Sequence[Any]) -> list[str]:
    """Return the tasks that COCO result dicts, or packed detections, allow."""
    if isinstance(predictions, ResultDicts):
        return sorted(predictions.tasks)
    found = {"bbox"}
    for entry in predictions:
        if isinstance(entry, ImageDetections):
            found |= entry.tasks
        else:
            found |= {task for task, key in _RESULT_KEYS.items() if key in entry}
    return sorted(found)


def dataset_ids(mapping: Mapping[int, int] | None, name: str) -> Callable[[ImageDetections], ImageDetections]:
    """Return a function that replaces contiguous classes by a dataset's category ids.

    Args:
        mapping: class of each category id; None keeps the classes.
        name: name of the dataset, for errors.
    """
    if not mapping:
        return lambda found: found
    ids = np.full(max(mapping.values()) + 1, -1, dtype=np.int64)
    ids[list(mapping.values())] = list(mapping)

    def convert(found: ImageDetections) -> ImageDetections:
        classes = found.category_ids
        outside = (classes < 0) | (classes >= len(ids))
        if outside.any():
            raise BadValue(
                f"image {found.image_id!r}: predicted class {int(classes[outside][0])}, but the dataset {name!r} has "
                f"{len(mapping)} classes (0 to {len(ids) - 1}); check the model's NUM_CLASSES"
            )
        return replace(found, category_ids=ids[classes])

    return convert


def save_list(path: str, items: Iterable[Any]) -> None:
    """Write a list of plain values for ``torch.load``, with only one item in memory at a time.

    Like ``torch.save(list(items), path)``, this writes a zip file whose ``data.pkl`` is a pickled list, but as an empty
    list to which the separate pickles of the items are appended.
    """
    name = os.path.splitext(os.path.basename(path))[0]
    with atomic_write(path, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with archive.open(f"{name}/data.pkl", "w", force_zip64=True) as stream:
            stream.write(pickle.PROTO + bytes([2]) + pickle.EMPTY_LIST)
            for item in items:
                text = pickle.dumps(item, protocol=2)
                stream.write(
                    text[2:-1] + pickle.APPEND
                )  # without the protocol at the start and the stop at the end
            stream.write(pickle.STOP)
        archive.writestr(f"{name}/byteorder", "little")
        archive.writestr(f"{name}/version", "3\n")
