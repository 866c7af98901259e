"""Fast R-CNN with rotated boxes.

R proposals, K classes. Boxes are (cx, cy, w, h, angle in degrees counter-clockwise).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import Instances, RotatedBoxes, pairwise_iou_rotated
from detectron2.structures.rotated_boxes import clip_rotated
from detectron2.utils.errors import BadValue
from detectron2.utils.reexports import passed_on

from ..box_regression import Box2BoxTransformRotated
from ._base import ROI_HEADS_REGISTRY, build_pooler, pooled_shape
from .box_head import build_box_head
from .detections import detections_as_instances
from .fast_rcnn import FastRCNNOutputLayers
from .roi_heads import StandardROIHeads

__all__ = [
    "RROIHeads",
    "RotatedFastRCNNOutputLayers",
    "fast_rcnn_inference_rotated",
    "fast_rcnn_inference_single_image_rotated",
]

__getattr__ = passed_on(__name__)


def fast_rcnn_inference_rotated(
    boxes: list[Tensor],
    scores: list[Tensor],
    image_shapes: list[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[list[Instances], list[Tensor]]:
    """Select detections as :func:`.fast_rcnn_inference`, for rotated boxes [R_i, K * 5] or [R_i, 5]."""
    options = (score_thresh, nms_thresh, topk_per_image)
    return detections_as_instances(
        boxes, scores, image_shapes, options, clip_rotated, RotatedBoxes, box_dim=5
    )


def fast_rcnn_inference_single_image_rotated(
    boxes: Tensor,
    scores: Tensor,
    image_shape: tuple[int, int],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[Instances, Tensor]:
    """Select the rotated detections of one image; see :func:`fast_rcnn_inference_rotated`."""
    results, kept = fast_rcnn_inference_rotated(
        [boxes], [scores], [image_shape], score_thresh, nms_thresh, topk_per_image
    )
    return results[0], kept[0]


class RotatedFastRCNNOutputLayers(FastRCNNOutputLayers):
    """Predicts class scores and five deltas per class. Takes the arguments of :class:`.FastRCNNOutputLayers`."""

    _clip = staticmethod(clip_rotated)
    _box_dim = 5

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        """Read the arguments of :class:`.FastRCNNOutputLayers`; ``BBOX_REG_WEIGHTS`` needs five numbers."""
        args = super().from_config(cfg, input_shape)
        weights = cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS
        if len(weights) != 5:
            raise BadValue(f"rotated boxes need five BBOX_REG_WEIGHTS, got {tuple(weights)}")
        args["box2box_transform"] = Box2BoxTransformRotated(weights=weights)
        return args

    def inference(
        self, predictions: tuple[Tensor, Tensor], proposals: list[Instances]
    ) -> tuple[list[Instances], list[Tensor]]:
        """Return detections with ``RotatedBoxes``, and the indices of their proposals."""
        return fast_rcnn_inference_rotated(
            list(self.predict_boxes(predictions, proposals)),
            list(self.predict_probs(predictions, proposals)),
            [p.image_size for p in proposals],
            self.test_score_thresh,
            self.test_nms_thresh,
            self.test_topk_per_image,
        )


@ROI_HEADS_REGISTRY.register()
class RROIHeads(StandardROIHeads):
    """Box heads for rotated proposals, pooled by ``ROIAlignRotated``, without masks or keypoints.

    Args:
        kwargs: arguments of :class:`.StandardROIHeads`.
    """

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.mask_on or self.keypoint_on:
            raise NotImplementedError(
                "rotated heads predict boxes only; unset MODEL.MASK_ON and MODEL.KEYPOINT_ON"
            )
        if self.train_on_pred_boxes:
            raise NotImplementedError(
                "train_on_pred_boxes is for masks and keypoints, which rotated heads lack"
            )

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        names, node = cfg.MODEL.ROI_HEADS.IN_FEATURES, cfg.MODEL.ROI_BOX_HEAD
        if node.POOLER_TYPE != "ROIAlignRotated":
            raise BadValue(
                f"rotated heads need MODEL.ROI_BOX_HEAD.POOLER_TYPE 'ROIAlignRotated', got {node.POOLER_TYPE!r}"
            )
        pooler = build_pooler(node, names, input_shape)
        head = build_box_head(cfg, pooled_shape(pooler, names, input_shape))
        return {
            "box_in_features": names,
            "box_pooler": pooler,
            "box_head": head,
            "box_predictor": RotatedFastRCNNOutputLayers(cfg, head.output_shape),
        }

    def _pairwise_quality(  # type: ignore[override]
        self, gt: RotatedBoxes, proposals: RotatedBoxes
    ) -> Tensor:
        return pairwise_iou_rotated(gt, proposals)

    @torch.no_grad()
    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """See :meth:`.ROIHeads.label_and_sample_proposals`; uses the IoU of rotated boxes."""
        return super().label_and_sample_proposals(proposals, targets)
