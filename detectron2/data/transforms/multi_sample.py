"""Augmentations that combine several images (mosaic, mixup, copy-paste), and the mapper that runs them.

They work on :class:`Sample` objects, images with their labels in memory, before the augmentations of the mapper::

    dataset = get_detection_dataset_dicts("my_train")
    mapper = MultiSampleMapper(
        DatasetMapper(cfg, is_train=True), dataset, [Mosaic((640, 640), prob=0.5), MixUp(prob=0.2)]
    )
    loader = build_detection_train_loader(dataset=dataset, mapper=mapper, ...)

Boxes, polygons, bitmasks, keypoints and semantic maps are cropped with their images; covered parts are removed from
masks, and covered keypoints become invisible.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from detectron2.structures import BoxMode
from detectron2.structures.rle import decode
from detectron2.utils.errors import BadType, BadValue
from detectron2.utils.image_io import read_image, read_label_map

from ..annotations import boxes_as_xyxy
from ..detection_utils import check_image_size
from .samples import IGNORED_LABEL, Sample, fit_sample, mask_of, pad_sample

__all__ = [
    "CopyPaste",
    "MixUp",
    "Mosaic",
    "MultiSampleAugmentation",
    "MultiSampleMapper",
    "Sample",
    "load_sample",
]

logger = logging.getLogger(__name__)

Draw = Callable[[], Sample]


def load_sample(record: dict[str, Any], image_format: str | None = "BGR") -> Sample:
    """Read the image and the semantic map of a record, and convert its annotations to the form of a Sample.

    Args:
        record: of one image, in Detectron2's format; not changed.
        image_format: see :func:`detection_utils.read_image`.
    """
    rest = {k: v for k, v in record.items() if k not in ("annotations", "sem_seg_file_name")}
    image = read_image(record["file_name"], image_format)
    check_image_size(rest, image)
    annotations = [dict(a) for a in record.get("annotations", [])]
    if any(a["bbox_mode"] == BoxMode.XYWHA_ABS for a in annotations):
        raise BadType(f"{record['file_name']}: mosaic, mixup and copy-paste do not support rotated boxes")
    for annotation, box in zip(annotations, boxes_as_xyxy(annotations)):
        annotation["bbox"], annotation["bbox_mode"] = box, BoxMode.XYXY_ABS
        if isinstance(annotation.get("segmentation"), Mapping):
            annotation["segmentation"] = decode(annotation["segmentation"]).view(np.uint8)
        if "keypoints" in annotation:
            annotation["keypoints"] = np.array(annotation["keypoints"], dtype=np.float64).reshape(-1, 3)
    labels = record.get("sem_seg_file_name")
    return Sample(image, annotations, None if labels is None else read_label_map(labels), rest)


class MultiSampleAugmentation:
    """Combines several samples into one.

    A subclass defines ``combine``. Random choices come from ``numpy.random``, as in all augmentations.

    Args:
        prob: probability in [0, 1] of combining.
    """

    def __init__(self, prob: float = 1.0) -> None:
        if not 0 <= prob <= 1:
            raise BadValue(f"prob must be in [0, 1], got {prob}")
        self.prob = prob

    def combine(self, sample: Sample, draw: Draw) -> Sample:
        """Return a new sample that combines ``sample`` with others, which ``draw()`` returns one by one."""
        raise NotImplementedError(f"{type(self).__name__} does not define combine")

    def __call__(self, sample: Sample, draw: Draw) -> Sample:
        return self.combine(sample, draw) if np.random.uniform() < self.prob else sample


def _same_kind(first: Sample, second: Sample) -> None:
    if first.image.ndim != second.image.ndim or first.image.shape[2:] != second.image.shape[2:]:
        raise BadValue(
            f"images to mix must have the same channels, got shapes {first.image.shape} and {second.image.shape}"
        )


class Mosaic(MultiSampleAugmentation):
    """Arrange four images around a random point of one canvas.

    Each image is scaled to fit into the canvas, times a random factor, and cropped to its part of the canvas.

    Args:
        size: (height, width) of the canvas.
        scale: (min, max) factor of each image, relative to fitting into the canvas.
        center: (min, max) position of the common point, relative to the canvas in both directions.
        min_visible: annotations with less than this share of their box left are dropped.
        fill: value of the canvas outside the images.
        prob: probability of combining.

    Reference: Bochkovskiy et al., YOLOv4: Optimal Speed and Accuracy of Object Detection,
    https://arxiv.org/abs/2004.10934
    """

    def __init__(
        self,
        size: tuple[int, int],
        scale: tuple[float, float] = (0.5, 1.5),
        center: tuple[float, float] = (0.25, 0.75),
        min_visible: float = 0.1,
        fill: float = 114,
        prob: float = 1.0,
    ) -> None:
        super().__init__(prob)
        if not 0 < center[0] <= center[1] < 1:
            raise BadValue(f"center must be (min, max) between 0 and 1, got {center}")
        self.size, self.scale, self.center = tuple(size), scale, center
        self.min_visible, self.fill = min_visible, fill

    def combine(self, sample: Sample, draw: Draw) -> Sample:
        height, width = self.size
        mid_y, mid_x = (
            int(np.clip(round(side * np.random.uniform(*self.center)), 1, side - 1)) for side in self.size
        )
        image = np.full((height, width, *sample.image.shape[2:]), self.fill, sample.image.dtype)
        out = Sample(image, [], None, {**sample.record, "height": height, "width": width})
        for corner in range(4):
            part = sample if corner == 0 else draw()
            _same_kind(sample, part)
            room = (mid_y if corner < 2 else height - mid_y, mid_x if corner % 2 == 0 else width - mid_x)
            tile, left, top = self._tile(part, room, right=corner % 2 == 0, bottom=corner < 2)
            left, top = left + (corner % 2) * mid_x, top + (corner // 2) * mid_y
            self._place(out, pad_sample(tile, left, top, (height, width), 0), left, top, tile.size)
        return out

    def _tile(
        self, part: Sample, room: tuple[int, int], right: bool, bottom: bool
    ) -> tuple[Sample, int, int]:
        """Scale an image and crop it to ``room`` at the common point; return it with its position (left, top) there."""
        height, width = part.size
        scale = min(self.size[0] / height, self.size[1] / width) * np.random.uniform(*self.scale)
        new_h, new_w = max(1, round(height * scale)), max(1, round(width * scale))
        crop_h, crop_w = min(new_h, room[0]), min(new_w, room[1])
        x0 = new_w - crop_w if right else 0
        y0 = new_h - crop_h if bottom else 0
        tile = fit_sample(part, scale, (x0, y0, crop_w, crop_h), self.min_visible)
        return tile, room[1] - crop_w if right else 0, room[0] - crop_h if bottom else 0

    @staticmethod
    def _place(canvas: Sample, placed: Sample, left: int, top: int, size: tuple[int, int]) -> None:
        at = np.s_[top : top + size[0], left : left + size[1]]
        canvas.image[at] = placed.image[at]
        canvas.annotations += placed.annotations
        if placed.sem_seg is not None:
            if canvas.sem_seg is None:
                canvas.sem_seg = np.full(canvas.size, IGNORED_LABEL, placed.sem_seg.dtype)
            canvas.sem_seg[at] = placed.sem_seg[at]


class MixUp(MultiSampleAugmentation):
    """Blend two images, and keep the objects of both.

    The second image is scaled to fit into the first. The semantic map is that of the image with the larger weight,
    or that of the first outside the second; if only one image has a semantic map, all labels are ignored.

    Args:
        alpha: parameter of the Beta(alpha, alpha) distribution of the weights; large values give about 0.5.
        fill: value around the second image.
        prob: probability of combining.

    Reference: Zhang et al., mixup: Beyond Empirical Risk Minimization, https://arxiv.org/abs/1710.09412; for
    detection: Zhang et al., Bag of Freebies for Training Object Detection Neural Networks,
    https://arxiv.org/abs/1902.04103
    """

    def __init__(self, alpha: float = 8.0, fill: float = 114, prob: float = 1.0) -> None:
        super().__init__(prob)
        if alpha <= 0:
            raise BadValue(f"alpha must be positive, got {alpha}")
        self.alpha, self.fill = alpha, fill

    def combine(self, sample: Sample, draw: Draw) -> Sample:
        other = draw()
        _same_kind(sample, other)
        weight = float(np.random.beta(self.alpha, self.alpha))
        height, width = sample.size
        scale = min(height / other.size[0], width / other.size[1])
        new_h, new_w = (min(side, max(1, round(s * scale))) for side, s in zip(sample.size, other.size))
        fitted = fit_sample(other, scale, (0, 0, new_w, new_h), 0.0)
        second = pad_sample(fitted, 0, 0, (height, width), self.fill)
        mixed = weight * sample.image.astype(np.float32) + (1 - weight) * second.image.astype(np.float32)
        if np.issubdtype(sample.image.dtype, np.integer):
            mixed = np.rint(mixed)
        labels = _mix_labels(sample.sem_seg, second.sem_seg, weight)
        image = mixed.astype(sample.image.dtype)
        return Sample(image, [*sample.annotations, *second.annotations], labels, sample.record)


def _mix_labels(first: np.ndarray | None, second: np.ndarray | None, weight: float) -> np.ndarray | None:
    if first is None or second is None:
        known = first if first is not None else second
        return None if known is None else np.full_like(known, IGNORED_LABEL)
    stronger = first if weight >= 0.5 else second
    return np.where(second == IGNORED_LABEL, first, stronger).astype(first.dtype)


class CopyPaste(MultiSampleAugmentation):
    """Cut objects out of another image along their masks, and paste them.

    Covered pixels are removed from the masks below; objects that disappear are dropped, covered keypoints become
    "labelled, not visible". Covered masks become bitmaps, so the mapper's mask format must be "bitmask" or "auto".

    Args:
        max_objects: maximum number of objects to paste; None for no limit. The number is drawn uniformly from 1 up.
        scale: (min, max) factor of the other image, relative to fitting into this one.
        min_visible: covered objects with less than this share of their mask left are dropped.
        prob: probability of combining.

    Reference: Ghiasi et al., Simple Copy-Paste Is a Strong Data Augmentation Method for Instance Segmentation,
    https://arxiv.org/abs/2012.07177
    """

    needs_bitmasks = True

    def __init__(
        self,
        max_objects: int | None = None,
        scale: tuple[float, float] = (0.5, 1.0),
        min_visible: float = 0.1,
        prob: float = 1.0,
    ) -> None:
        super().__init__(prob)
        self.max_objects, self.scale, self.min_visible = max_objects, scale, min_visible

    def combine(self, sample: Sample, draw: Draw) -> Sample:
        source = draw()
        _same_kind(sample, source)
        placed = self._place(source, sample.size)
        options = [a for a in placed.annotations if not a.get("iscrowd", 0) and "segmentation" in a]
        if not options:
            return sample
        most = len(options) if self.max_objects is None else min(self.max_objects, len(options))
        chosen = np.random.permutation(len(options))[: np.random.randint(1, most + 1)]
        return paste_objects(sample, placed, [options[i] for i in sorted(chosen)], self.min_visible)

    def _place(self, source: Sample, size: tuple[int, int]) -> Sample:
        """Return the other image at a random position of a canvas of the given size."""
        scale = min(size[0] / source.size[0], size[1] / source.size[1]) * np.random.uniform(*self.scale)
        new_h, new_w = (max(1, round(side * scale)) for side in source.size)
        crop_h, crop_w = min(new_h, size[0]), min(new_w, size[1])
        x0, y0 = np.random.randint(new_w - crop_w + 1), np.random.randint(new_h - crop_h + 1)
        left, top = np.random.randint(size[1] - crop_w + 1), np.random.randint(size[0] - crop_h + 1)
        cut = fit_sample(source, scale, (x0, y0, crop_w, crop_h), self.min_visible)
        return pad_sample(cut, left, top, size, 0)


def paste_objects(
    sample: Sample, source: Sample, objects: list[dict[str, Any]], min_visible: float
) -> Sample:
    """Paste objects of a source of the same size onto a sample.

    Args:
        sample: sample to paste onto; not changed.
        source: the image that the objects are cut from.
        objects: annotations of ``source``.
        min_visible: see :class:`CopyPaste`.
    """
    masks = [mask_of(a, source.size) for a in objects]
    pasted = np.logical_or.reduce(masks)
    image = np.where(pasted[(..., *[None] * (sample.image.ndim - 2))], source.image, sample.image)
    covered = (_cover(a, pasted, min_visible) for a in sample.annotations)
    kept = [a for a in covered if a is not None]
    labels = None
    if sample.sem_seg is not None:
        above = np.full_like(sample.sem_seg, IGNORED_LABEL) if source.sem_seg is None else source.sem_seg
        labels = np.where(pasted, above, sample.sem_seg)
    new = [dict(a, segmentation=m.astype(np.uint8)) for a, m in zip(objects, masks) if m.any()]
    return Sample(image, kept + new, labels, sample.record)


def _cover(annotation: dict[str, Any], covered: np.ndarray, min_visible: float) -> dict[str, Any] | None:
    """Return the visible rest of an annotation; None if that is too little."""
    mask = mask_of(annotation, covered.shape[:2])  # type: ignore[arg-type]
    hidden = int((mask & covered).sum())
    result = dict(annotation)
    if "keypoints" in annotation:
        result["keypoints"] = _hide_keypoints(annotation["keypoints"], covered)
    if hidden == 0:
        return result
    visible = mask & ~covered
    count = int(visible.sum())
    if count == 0 or count < min_visible * int(mask.sum()):
        return None
    if "segmentation" in annotation:
        result["segmentation"] = visible.astype(np.uint8)
        rows, cols = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
        seen = np.asarray([cols[0], rows[0], cols[-1] + 1, rows[-1] + 1], dtype=np.float64)
        box = np.asarray(annotation["bbox"], dtype=np.float64)
        # The box never grows, and keeps its sub-pixel edges where they are still visible.
        result["bbox"] = np.concatenate([np.maximum(box[:2], seen[:2]), np.minimum(box[2:], seen[2:])])
    return result


def _hide_keypoints(keypoints: np.ndarray, covered: np.ndarray) -> np.ndarray:
    points = np.array(keypoints, dtype=np.float64)
    col, row = (np.floor(points[:, k]).astype(int).clip(0, covered.shape[1 - k] - 1) for k in (0, 1))
    points[(points[:, 2] == 2) & covered[row, col], 2] = 1
    return points


class LoadedMapper(Protocol):
    """A mapper that accepts an image in memory, such as ``DatasetMapper``."""

    image_format: str
    use_instance_mask: bool
    instance_mask_format: str

    def map_loaded(
        self, record: dict[str, Any], image: np.ndarray, sem_seg: np.ndarray | None = None
    ) -> dict[str, Any]: ...


class MultiSampleMapper:
    """A mapper for training that runs multi-sample augmentations before another mapper.

    Args:
        mapper: a :class:`DatasetMapper` for training; its own augmentations are applied afterwards.
        others: source of further images: a sequence of records to draw from at random, or a function without arguments
            that returns a record.
        augmentations: in the order of their application.
        tries: number of records to try if some cannot be read, before the error is raised.
    """

    def __init__(
        self,
        mapper: LoadedMapper,
        others: Sequence[dict[str, Any]] | Callable[[], dict[str, Any]],
        augmentations: Sequence[MultiSampleAugmentation],
        tries: int = 3,
    ) -> None:
        needs = [type(a).__name__ for a in augmentations if getattr(a, "needs_bitmasks", False)]
        if needs and mapper.use_instance_mask and mapper.instance_mask_format == "polygon":
            raise BadValue(
                f"{needs[0]} converts covered masks to bitmaps: set the mapper's instance_mask_format (INPUT.MASK_FORMAT) "
                "to 'auto' or 'bitmask'"
            )
        if not callable(others) and len(others) == 0:
            raise BadValue("others must have at least one record")
        self.mapper, self.others, self.augmentations, self.tries = mapper, others, list(augmentations), tries

    def _draw(self) -> Sample:
        for attempt in range(self.tries):
            record = (
                self.others() if callable(self.others) else self.others[np.random.randint(len(self.others))]
            )
            try:
                return load_sample(record, self.mapper.image_format)
            except (OSError, ValueError) as error:
                if attempt + 1 == self.tries:
                    raise
                logger.warning(f"skipped {record.get('file_name')} as a partner for mixing: {error}")
        raise AssertionError("tries is at least 1")

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Load a record, mix it with others, and map the result.

        Args:
            dataset_dict: record of one image, in Detectron2's format; not changed.

        Returns:
            The result of the inner mapper.
        """
        sample = load_sample(dataset_dict, self.mapper.image_format)
        for augmentation in self.augmentations:
            sample = augmentation(sample, self._draw)
        record = {**sample.record, "height": sample.size[0], "width": sample.size[1]}
        if "annotations" in dataset_dict or sample.annotations:
            record["annotations"] = [dict(a) for a in sample.annotations]
        return self.mapper.map_loaded(record, sample.image, sample.sem_seg)
