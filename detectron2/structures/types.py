"""Types of the dictionaries passed between data sets, models and evaluators.

All keys are optional for type checkers, since each task uses only some of them. Programs may add keys.
"""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .boxes import BoxMode
from .instances import Instances
from .rle import Segmentation

__all__ = ["Annotation", "DatasetRecord", "ModelInput", "ModelOutput", "SegmentInfo", "Segmentation"]


class Annotation(TypedDict, total=False):
    """One object of a :class:`DatasetRecord`.

    Attributes:
        bbox: 4 numbers in ``bbox_mode``, or 5 for a rotated box.
        bbox_mode: how to read ``bbox``.
        category_id: class in ``[0, number of classes)``.
        segmentation: polygons ``[[x0, y0, x1, y1, ...], ...]`` or an RLE dictionary.
        keypoints: ``[x, y, visibility] * K``.
        iscrowd: 1 if the object is a crowd region.
    """

    bbox: list[float] | npt.NDArray[np.float64]
    bbox_mode: BoxMode
    category_id: int
    segmentation: list[list[float]] | dict[str, Any]
    keypoints: list[float] | npt.NDArray[np.float64]
    iscrowd: int


class SegmentInfo(TypedDict, total=False):
    """One segment of a panoptic label map.

    Attributes:
        id: value of the segment's pixels.
        category_id: thing or stuff class.
        isthing: whether the class is countable.
        score: confidence, for predicted things.
        instance_id: index of the detection that the segment came from.
        area: pixels.
        iscrowd: 1 if the segment is a crowd region.
    """

    id: int
    category_id: int
    isthing: bool
    score: float
    instance_id: int
    area: int
    iscrowd: int


class DatasetRecord(TypedDict, total=False):
    """One image of a data set, as returned by its loading function.

    Attributes:
        file_name: path of the image.
        height: rows of the image.
        width: columns of the image.
        image_id: unique number or text.
        annotations: objects.
        sem_seg_file_name: path of the semantic label map.
        pan_seg_file_name: path of the panoptic PNG.
        segments_info: segments of that PNG.
        proposal_boxes: precomputed proposals ``[P, 4]``.
        proposal_objectness_logits: their scores ``[P]``.
        proposal_bbox_mode: how to read them.
    """

    file_name: str
    height: int
    width: int
    image_id: int | str
    annotations: list[Annotation]
    sem_seg_file_name: str
    pan_seg_file_name: str
    segments_info: list[SegmentInfo]
    proposal_boxes: npt.NDArray[np.float32]
    proposal_objectness_logits: npt.NDArray[np.float32]
    proposal_bbox_mode: BoxMode


class ModelInput(TypedDict, total=False):
    """One image of a batch, returned by a mapper and passed to a model.

    Attributes:
        image: ``[C, H, W]`` in the model's channel order, values in [0, 255].
        height: rows of the output; those of ``image`` by default.
        width: columns of the output.
        instances: ground truth, in training.
        sem_seg: semantic labels ``[H, W]``, in training.
        proposals: precomputed proposals.
        file_name: path of the image.
        image_id: unique number or text.
    """

    image: Tensor
    height: int
    width: int
    instances: Instances
    sem_seg: Tensor
    proposals: Instances
    file_name: str
    image_id: int | str


class ModelOutput(TypedDict, total=False):
    """Predictions for one image.

    Attributes:
        instances: detections.
        proposals: proposals of a model without heads.
        sem_seg: scores of semantic classes ``[K, H, W]``.
        panoptic_seg: segment ids ``[H, W]`` and one entry per segment.
    """

    instances: Instances
    proposals: Instances
    sem_seg: Tensor
    panoptic_seg: tuple[Tensor, list[SegmentInfo]]
