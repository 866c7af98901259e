"""Mask heads that learn from annotated points."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from detectron2.layers import point_sample
from detectron2.modeling.roi_heads.mask_head import (
    ROI_MASK_HEAD_REGISTRY,
    MaskRCNNConvUpsampleHead,
    mask_rcnn_inference,
)
from detectron2.projects.point_rend import ImplicitPointRendMaskHead
from detectron2.projects.point_rend.point_head import roi_mask_point_loss
from detectron2.structures import Instances

from .point_utils import get_point_coords_from_point_annotation

__all__ = ["ImplicitPointRendPointSupHead", "MaskRCNNConvUpsamplePointSupHead"]


@ROI_MASK_HEAD_REGISTRY.register()
class MaskRCNNConvUpsamplePointSupHead(MaskRCNNConvUpsampleHead):
    """The mask head of Mask R-CNN, with a loss at labelled points only.

    Arguments are those of :class:`MaskRCNNConvUpsampleHead`.
    """

    def forward(self, x: Tensor, instances: list[Instances]) -> Any:  # type: ignore[override]
        """Compute the loss in training; in evaluation add ``pred_masks`` to the instances.

        Args:
            x: pooled features [R, C, H, W].
            instances: in training with the fields of :func:`get_point_coords_from_point_annotation` and
                ``gt_classes``, in evaluation with ``pred_classes``; R in total.
        """
        logits = self.layers(x)
        if not self.training:
            mask_rcnn_inference(logits, instances)
            return instances
        coords, labels = get_point_coords_from_point_annotation(instances)
        at_points = point_sample(logits, coords, align_corners=False)
        return {"loss_mask": roi_mask_point_loss(at_points, instances, labels) * self.loss_weight}


@ROI_MASK_HEAD_REGISTRY.register()
class ImplicitPointRendPointSupHead(ImplicitPointRendMaskHead):
    """Implicit PointRend that trains on annotated points instead of points drawn from masks.

    Arguments are those of :class:`ImplicitPointRendMaskHead`.
    """

    def _training_points(
        self, boxes: Sequence[Tensor], instances: list[Instances], description: Tensor
    ) -> tuple[Tensor, Tensor]:
        return get_point_coords_from_point_annotation(instances)
