"""R-CNN heads for features in branches.

N images, B branches.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from detectron2.layers import ShapeSpec, batched_nms
from detectron2.modeling import ROI_HEADS_REGISTRY, ROIHeads, StandardROIHeads
from detectron2.modeling.roi_heads import Res5ROIHeads
from detectron2.structures import ImageList, Instances

from .trident_conv import running_branches

__all__ = ["TridentRes5ROIHeads", "TridentStandardROIHeads", "merge_branch_instances"]


def merge_branch_instances(
    instances: list[Instances], num_branch: int, nms_thresh: float, topk_per_image: int
) -> list[Instances]:
    """Merge the detections of the branches in each image.

    Args:
        instances: B * N Instances with ``pred_boxes``, ``scores`` and ``pred_classes``, branch after branch.
        num_branch: B; 1 = return the instances unchanged.
        nms_thresh: IoU above which the detection with the lower score of a class is dropped.
        topk_per_image: number of detections to keep per image; negative = all.

    Returns:
        N Instances in descending order of score.
    """
    if num_branch == 1:
        return instances
    count = len(instances) // num_branch
    merged = []
    for i in range(count):
        found = Instances.cat(instances[i::count])
        keep = batched_nms(found.pred_boxes.tensor, found.scores, found.pred_classes, nms_thresh)
        merged.append(found[keep[:topk_per_image] if topk_per_image >= 0 else keep])
    return merged


class _BranchedHeads(ROIHeads):
    """Base of both heads below: every branch learns all ground truth, and detections of the branches are merged."""

    def __init__(self, cfg: Any, input_shape: dict[str, ShapeSpec]) -> None:
        super().__init__(cfg, input_shape)  # type: ignore[call-arg,arg-type,misc]
        self.num_branch = cfg.MODEL.TRIDENT.NUM_BRANCH
        self.test_branch_idx = cfg.MODEL.TRIDENT.TEST_BRANCH_IDX
        self.nms_thresh = cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST
        self.topk_per_image = cfg.TEST.DETECTIONS_PER_IMAGE

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """See :meth:`.ROIHeads.forward`; features have B * N rows, and there are proposals for each of them."""
        count = len(running_branches(self, self.num_branch, self.test_branch_idx))
        repeated = None if targets is None else targets * count
        found, losses = super().forward(images, features, proposals, repeated)
        if not self.training:
            found = merge_branch_instances(found, count, self.nms_thresh, self.topk_per_image)
        return found, losses


@ROI_HEADS_REGISTRY.register()
class TridentRes5ROIHeads(_BranchedHeads, Res5ROIHeads):
    """:class:`.Res5ROIHeads` for features in branches.

    Args:
        cfg: config; ``MODEL.TRIDENT`` sets the number of branches, the rest is as for the base class.
        input_shape: shapes of the feature maps by name.
    """


@ROI_HEADS_REGISTRY.register()
class TridentStandardROIHeads(_BranchedHeads, StandardROIHeads):
    """:class:`.StandardROIHeads` for features in branches.

    Args:
        cfg: config; ``MODEL.TRIDENT`` sets the number of branches, the rest is as for the base class.
        input_shape: shapes of the feature maps by name.
    """
