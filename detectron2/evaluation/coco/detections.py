"""Detections of one image, stored as arrays and read as COCO result dicts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch

from detectron2.structures import BitMasks, Boxes, BoxMode, Instances
from detectron2.structures.rle import encode_masks, run_lengths, to_rle
from detectron2.utils.errors import BadValue
from detectron2.utils.file_io.atomic import atomic_write

ImageId = int | str

# Keypoint heads predict continuous coordinates, where the center of a pixel is at +0.5; COCO's files use pixel indices.
_KEYPOINT_SHIFT = 0.5


@dataclass
class ImageDetections(Sequence[dict[str, Any]]):
    """The detections of one image, a sequence of COCO result dicts.

    Attributes:
        image_id: id of the image.
        category_ids: int64 ``[N]``, ids of the ground truth's categories.
        boxes: float ``[N, 4]`` as x, y, width, height; ``[N, 5]`` if rotated.
        scores: float ``[N]``.
        size: ``(height, width)`` of the masks.
        rles: compressed RLE counts of N masks, or None.
        areas: int64 ``[N]``, pixels of each mask, or None.
        keypoints: float ``[N, 3 * K]`` as x, y, score, or None.
    """

    image_id: ImageId
    category_ids: npt.NDArray[np.int64]
    boxes: npt.NDArray
    scores: npt.NDArray
    size: tuple[int, int] = (0, 0)
    rles: list[bytes] | None = None
    areas: npt.NDArray[np.int64] | None = None
    keypoints: npt.NDArray | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return list(self)[index]
        if not -len(self) <= index < len(self):
            raise IndexError(f"detection {index} of {len(self)}")
        entry = {
            "image_id": self.image_id,
            "category_id": int(self.category_ids[index]),
            "bbox": self.boxes[index].tolist(),
            "score": float(self.scores[index]),
        }
        if self.rles is not None:
            entry["segmentation"] = {"size": list(self.size), "counts": self.rles[index].decode("ascii")}
        if self.keypoints is not None:
            entry["keypoints"] = self.keypoints[index].tolist()
        return entry

    def __iter__(self) -> Iterator[dict[str, Any]]:
        rows = zip(self.category_ids.tolist(), self.boxes.tolist(), self.scores.tolist())
        keypoints = None if self.keypoints is None else self.keypoints.tolist()
        for i, (category, box, score) in enumerate(rows):
            entry = {"image_id": self.image_id, "category_id": category, "bbox": box, "score": score}
            if self.rles is not None:
                entry["segmentation"] = {"size": list(self.size), "counts": self.rles[i].decode("ascii")}
            if keypoints is not None:
                entry["keypoints"] = keypoints[i]
            yield entry

    def chosen(self, rows: npt.NDArray) -> ImageDetections:
        """Select detections by their indices or by a boolean mask."""
        numbers = np.arange(len(self))[rows]
        pick = lambda values: None if values is None else values[numbers]  # noqa: E731
        return replace(
            self,
            category_ids=self.category_ids[numbers],
            boxes=self.boxes[numbers],
            scores=self.scores[numbers],
            rles=None if self.rles is None else [self.rles[i] for i in numbers.tolist()],
            areas=pick(self.areas),
            keypoints=pick(self.keypoints),
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays and masks, roughly, with the objects around them."""
        arrays = (self.category_ids, self.boxes, self.scores, self.areas, self.keypoints)
        masks = self.rles or ()
        return 1000 + sum(a.nbytes for a in arrays if a is not None) + sum(map(len, masks)) + 40 * len(masks)

    @property
    def tasks(self) -> set[str]:
        """The tasks for which these detections can be evaluated."""
        found = {"bbox"}
        if self.rles is not None:
            found.add("segm")
        if self.keypoints is not None:
            found.add("keypoints")
        return found


def pack_instances(
    instances: Instances, image_id: ImageId, category_ids: npt.NDArray | None = None
) -> ImageDetections:
    """Convert the predictions of one image to arrays on the CPU.

    Args:
        instances: with ``pred_boxes``, ``scores`` and ``pred_classes``; optionally ``pred_masks``
            (``[N, H, W]``, bool) or ``pred_rle`` (N compressed run-length encodings, for images whose bitmaps fit no
            memory), and ``pred_keypoints`` (``[N, K, 3]``).
        image_id: id of the image.
        category_ids: the dataset's id of each class; None keeps the classes.

    Raises:
        ValueError: if a class has no id in ``category_ids``.
    """
    count = len(instances)
    predicted = _boxes(instances, count)
    xyxy = predicted if predicted.shape[1] == 4 else None
    boxes = predicted.copy()  # as the scores below, since the caller may change or keep the tensors
    if xyxy is not None:
        boxes[:, 2:] -= xyxy[:, :2]
    packed = ImageDetections(
        image_id=image_id,
        category_ids=_categories(_array(instances.pred_classes).astype(np.int64), category_ids),
        boxes=boxes,
        scores=_array(instances.scores).copy(),
    )
    if instances.has("pred_masks"):
        masks = _masks(instances.pred_masks)
        encoded = encode_masks(masks, xyxy)
        packed.rles, packed.areas, packed.size = encoded.counts, encoded.areas, encoded.size
    elif instances.has("pred_rle"):
        encodings = [to_rle(rle, *instances.image_size) for rle in instances.pred_rle]
        packed.rles = [rle["counts"].encode("ascii") for rle in encodings]
        packed.areas = np.array([run_lengths(rle)[1::2].sum() for rle in encodings], dtype=np.int64)
        packed.size = instances.image_size
    if instances.has("pred_keypoints"):
        keypoints = _array(instances.pred_keypoints).copy()
        keypoints[:, :, :2] -= _KEYPOINT_SHIFT
        packed.keypoints = keypoints.reshape(count, 3 * keypoints.shape[1])
    return packed


def _boxes(instances: Instances, count: int) -> npt.NDArray:
    if not instances.has("pred_boxes"):
        raise ValueError(
            "predictions must have pred_boxes, scores and pred_classes, got the fields "
            f"{sorted(instances.get_fields())}"
        )
    boxes = instances.pred_boxes
    return _array(boxes if isinstance(boxes, torch.Tensor) else boxes.tensor).reshape(
        count, -1 if count else 4
    )


def _array(tensor: torch.Tensor | npt.NDArray) -> npt.NDArray:
    """Convert a tensor to an array on the CPU, with half precision as float32, since NumPy lacks bfloat16."""
    if isinstance(tensor, np.ndarray):
        return tensor
    if not isinstance(tensor, torch.Tensor):
        tensor = torch.as_tensor(tensor)
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    return tensor.numpy(force=True)


def _masks(masks: torch.Tensor | npt.NDArray | BitMasks) -> npt.NDArray[np.bool_]:
    tensor = masks if isinstance(masks, (torch.Tensor, np.ndarray)) else masks.tensor
    array = _array(tensor)
    if array.ndim != 3:
        raise ValueError(
            f"pred_masks must be [N, height, width] of the whole image, got {list(array.shape)}; "
            "paste the masks first, as detector_postprocess does"
        )
    if array.dtype != np.bool_:
        array = array > 0.5 if array.dtype.kind == "f" else array != 0
    return np.ascontiguousarray(array)


def _categories(classes: npt.NDArray[np.int64], ids: npt.NDArray | None) -> npt.NDArray[np.int64]:
    if ids is None:
        return classes
    bad = (classes < 0) | (classes >= len(ids))
    if bad.any():
        raise BadValue(
            f"the model predicts class {int(classes[bad][0])}, but the dataset has {len(ids)} classes "
            f"(0 to {len(ids) - 1}); check the model's NUM_CLASSES"
        )
    return np.asarray(ids, dtype=np.int64)[classes]


def from_json_dicts(dicts: Sequence[Mapping[str, Any]], image_id: ImageId) -> ImageDetections:
    """Convert COCO result dicts, which a subclass of an evaluator may create, to detections."""
    if isinstance(dicts, ImageDetections):
        return dicts
    packed = ImageDetections(
        image_id=image_id,
        category_ids=np.array([d["category_id"] for d in dicts], dtype=np.int64),
        boxes=_json_boxes(dicts),
        scores=np.array([d["score"] for d in dicts], dtype=np.float64),
    )
    if len(dicts) and "segmentation" in dicts[0]:
        import hotcoco

        counts = [d["segmentation"]["counts"] for d in dicts]
        packed.rles = [c.encode("ascii") if isinstance(c, str) else bytes(c) for c in counts]
        packed.size = tuple(dicts[0]["segmentation"]["size"])
        rles = [{"size": list(packed.size), "counts": c} for c in packed.rles]
        packed.areas = np.asarray(hotcoco.mask.area(rles), dtype=np.int64)
    if len(dicts) and "keypoints" in dicts[0]:
        packed.keypoints = np.array([d["keypoints"] for d in dicts], dtype=np.float64)
    return packed


def _json_boxes(dicts: Sequence[Mapping[str, Any]]) -> npt.NDArray:
    """Return the boxes [N, 4] of result dicts; those of the masks if a dict has no ``bbox``."""
    if not len(dicts):
        return np.zeros((0, 4))
    if all("bbox" in d for d in dicts):
        return np.array([d["bbox"] for d in dicts], dtype=np.float64)
    import hotcoco

    boxes = [hotcoco.mask.toBbox(d["segmentation"]) for d in dicts]
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4)


def instances_to_coco_json(instances: Instances, img_id: ImageId) -> list[dict[str, Any]]:
    """Convert the predictions of one image to COCO result dicts.

    Args:
        instances: predictions, see :func:`pack_instances`.
        img_id: the image's id.

    Returns:
        One dict per instance with ``image_id``, ``category_id`` (the contiguous class), ``bbox`` as x, y,
        width, height, ``score`` and, if predicted, ``segmentation`` and ``keypoints``.
    """
    if len(instances) == 0:
        return []
    return list(pack_instances(instances, img_id))


def write_results(path: str, detections: Sequence[Sequence[Mapping[str, Any]]]) -> int:
    """Write a COCO result file, image by image to save memory; return the number of detections."""
    written = 0
    with atomic_write(path, "w") as file:
        file.write("[")
        for image in detections:
            text = json.dumps(list(image))[1:-1]
            if text:
                file.write(("," if written else "") + text)
                written += len(image)
        file.write("]")
    return written


__all__ = [
    "BoxMode",
    "Boxes",
    "ImageDetections",
    "ImageId",
    "from_json_dicts",
    "instances_to_coco_json",
    "pack_instances",
    "write_results",
]
