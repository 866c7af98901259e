"""Region proposal network for rotated boxes.

RRPN (Ma et al. 2018, https://arxiv.org/abs/1703.01086).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, Instances, RotatedBoxes, pairwise_iou_rotated
from detectron2.structures.rotated_boxes import clip_rotated
from detectron2.utils.memory import retry_if_cuda_oom
from detectron2.utils.reexports import passed_on

from ..box_regression import Box2BoxTransformRotated
from ._registry import PROPOSAL_GENERATOR_REGISTRY
from .proposal_utils import gather_candidates, proposals_as_instances
from .rpn import RPN

__all__ = ["RRPN", "find_top_rrpn_proposals"]

__getattr__ = passed_on(__name__)


def find_top_rrpn_proposals(
    proposals: list[Tensor],
    pred_objectness_logits: list[Tensor],
    image_sizes: list[tuple[int, int]],
    nms_thresh: float,
    pre_nms_topk: int,
    post_nms_topk: int,
    min_box_size: float,
    training: bool,
) -> list[Instances]:
    """Select the best proposals as :func:`.find_top_rpn_proposals`, for rotated boxes [N, A_l, 5]."""
    boxes, logits, counts = gather_candidates(proposals, pred_objectness_logits, pre_nms_topk)
    options = (nms_thresh, post_nms_topk, min_box_size)
    return proposals_as_instances(
        boxes, logits, counts, image_sizes, options, training, clip_rotated, RotatedBoxes
    )


def _break_ties(iou: Tensor) -> Tensor:
    """Lower all but the first of the largest entries of each row [M, A] by about the rounding error of float32.

    All anchors of one area inside a ground truth have the same IoU with it, at any angle. If none is a good match, one
    low-quality match suffices.
    """
    largest = iou == iou.amax(dim=1, keepdim=True) if iou.numel() else iou.bool()
    again = largest & (largest.cumsum(dim=1, dtype=torch.int32) > 1)
    return torch.where(again, iou * (1 - 1e-6), iou)


@PROPOSAL_GENERATOR_REGISTRY.register()
class RRPN(RPN):
    """An :class:`.RPN` whose anchors, proposals and overlaps are rotated. Takes the same arguments."""

    _clip = staticmethod(clip_rotated)

    @configurable
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.anchor_boundary_thresh >= 0:
            raise NotImplementedError(
                "rotated anchors cannot be ignored at the image border; set MODEL.RPN.BOUNDARY_THRESH to -1"
            )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Read the arguments of :class:`.RPN`; ``MODEL.RPN.BBOX_REG_WEIGHTS`` needs five numbers."""
        args = super().from_config(cfg, input_shape)
        args["box2box_transform"] = Box2BoxTransformRotated(weights=cfg.MODEL.RPN.BBOX_REG_WEIGHTS)
        return args

    def _pairwise_quality(self, gt: Boxes, anchors: Boxes) -> Tensor:
        return _break_ties(retry_if_cuda_oom(pairwise_iou_rotated)(gt, anchors))

    @torch.no_grad()
    def predict_proposals(  # type: ignore[override]
        self,
        anchors: list[RotatedBoxes],
        pred_objectness_logits: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Decode all anchors and keep the best of each image."""
        return find_top_rrpn_proposals(
            self._decode_proposals(anchors, pred_anchor_deltas),  # type: ignore[arg-type]
            pred_objectness_logits,
            image_sizes,
            self.nms_thresh,
            self.pre_nms_topk[self.training],
            self.post_nms_topk[self.training],
            self.min_box_size,
            self.training,
        )
