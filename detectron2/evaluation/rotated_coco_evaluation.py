"""COCO metrics of rotated boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from detectron2.structures import BoxMode, Instances, RotatedBoxes, pairwise_iou_rotated
from detectron2.utils.errors import BadValue

from .coco.detections import ImageDetections, ImageId, pack_instances
from .coco.figures import CocoFigures
from .coco.predictions import Detections
from .coco.quiet import QuietCOCOeval
from .coco_evaluation import COCOEvaluator

__all__ = [
    "BoxMode",
    "COCOEvaluator",
    "RotatedBoxes",
    "RotatedCOCOEvaluator",
    "RotatedCOCOeval",
    "pairwise_iou_rotated",
]


class RotatedCOCOeval(QuietCOCOeval):
    """``COCOeval`` whose boxes may be rotated: ``[cx, cy, w, h, angle]``, degrees counter-clockwise.

    Lists of four numbers are ordinary COCO boxes, with an angle of 0 degrees.
    """

    @staticmethod
    def is_rotated(box_list: object) -> bool:
        """Return whether an array or list of boxes has five numbers per box."""
        if isinstance(box_list, np.ndarray):
            return box_list.ndim == 2 and box_list.shape[1] == 5
        if isinstance(box_list, (list, tuple)):
            return len(box_list) > 0 and all(len(box) == 5 for box in box_list)
        return False

    @staticmethod
    def boxlist_to_tensor(boxlist: npt.ArrayLike, output_box_dim: int) -> torch.Tensor:
        """Convert boxes to a tensor.

        Args:
            boxlist: array or list of boxes of 4 (XYWH) or 5 numbers.
            output_box_dim: 4 or 5.

        Returns:
            ``[N, output_box_dim]``; four numbers are converted to five by adding an angle of 0.

        Raises:
            ValueError: if boxes have neither 4 nor 5 numbers, or rotated boxes are requested as four numbers.
        """
        if output_box_dim not in (4, 5):
            raise ValueError(f"output_box_dim must be 4 or 5, got {output_box_dim}")
        boxes = torch.as_tensor(np.asarray(boxlist, dtype=np.float32))
        if boxes.numel() == 0:
            return torch.zeros(0, output_box_dim)
        if boxes.ndim != 2 or boxes.shape[1] not in (4, 5):
            raise ValueError(f"boxes must be [N, 4] or [N, 5], got {list(boxes.shape)}")
        if boxes.shape[1] == output_box_dim:
            return boxes
        if output_box_dim == 4:
            raise ValueError(
                "rotated boxes cannot be converted to output_box_dim 4, got boxes of five numbers"
            )
        centres = boxes[:, :2] + boxes[:, 2:] / 2
        return torch.cat([centres, boxes[:, 2:], boxes.new_zeros(len(boxes), 1)], dim=1)

    def compute_iou_dt_gt(
        self, dt: npt.ArrayLike, gt: npt.ArrayLike, is_crowd: Sequence[int]
    ) -> npt.NDArray[np.float64]:
        """Compute the IoU ``[D, G]`` of detections and ground truths; for crowds, the covered fraction of the detection.

        Args:
            dt: D boxes.
            gt: G boxes.
            is_crowd: G flags.
        """
        found, truth = self.boxlist_to_tensor(dt, 5), self.boxlist_to_tensor(gt, 5)
        iou = pairwise_iou_rotated(RotatedBoxes(found), RotatedBoxes(truth)).double()
        crowd = torch.as_tensor(np.asarray(is_crowd), dtype=torch.bool)
        if crowd.any():
            sizes = (found[:, 2] * found[:, 3]).double()[:, None]  # [D, 1]
            others = (truth[:, 2] * truth[:, 3]).double()[None]  # [1, G]
            shared = iou * (sizes + others) / (1 + iou)
            iou = torch.where(crowd[None], shared / sizes.clamp(min=1e-12), iou)
        return iou.numpy()

    def computeIoU(self, imgId: ImageId, catId: int) -> npt.ArrayLike:
        """Compute the IoU of the best detections, in descending order, and the ground truths of an image and category."""
        categories = [catId] if self.params.useCats else self.params.catIds
        truth = [g for c in categories for g in self._gts[imgId, c]]
        found = [d for c in categories for d in self._dts[imgId, c]]
        if not truth and not found:
            return []
        order = np.argsort([-d["score"] for d in found], kind="stable")[: self.params.maxDets[-1]]
        boxes = [found[i]["bbox"] for i in order]
        return self.compute_iou_dt_gt(boxes, [g["bbox"] for g in truth], [int(g["iscrowd"]) for g in truth])


class RotatedCOCOEvaluator(COCOEvaluator):
    """Computes AP of rotated and ordinary boxes (task ``bbox``).

    ``bbox`` of the ground truth has five numbers ``[cx, cy, w, h, angle]``, like ``RotatedBoxes`` of predictions.
    """

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Process one batch; see :meth:`COCOEvaluator.process`."""
        super().process(inputs, outputs)

    def instances_to_json(self, instances: Instances, img_id: ImageId) -> list[dict[str, Any]]:
        """Convert the predictions of one image to COCO result dicts with boxes of five (or four) numbers."""
        return list(self._pack(instances, img_id))

    def _pack(self, instances: Instances, image_id: ImageId) -> ImageDetections:
        packed = pack_instances(instances, image_id)
        packed.rles = packed.areas = packed.keypoints = None
        return packed

    def _tasks_from_predictions(self, predictions: Sequence[Any]) -> list[str]:
        return ["bbox"]

    def _figures(self, own: Detections, task: str, img_ids: Sequence[ImageId] | None) -> CocoFigures | None:
        if task != "bbox":
            raise BadValue(f"RotatedCOCOEvaluator supports only the task 'bbox', got {task!r}")
        return self._figures_of_class(own, task, img_ids, self._max_dets_per_image, None, RotatedCOCOeval)
