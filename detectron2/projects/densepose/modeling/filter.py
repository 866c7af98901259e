"""Select the proposals that train a DensePose head."""

from torch import Tensor

from detectron2.config import CfgNode
from detectron2.structures import Instances
from detectron2.structures.boxes import matched_pairwise_iou

__all__ = ["DensePoseDataFilter"]


class DensePoseDataFilter:
    """Keeps proposals that overlap their ground truth well and have an annotation to learn from.

    Args:
        cfg: the whole config; reads ``FG_IOU_THRESHOLD`` and ``COARSE_SEGM_TRAINED_BY_MASKS`` of
            ``MODEL.ROI_DENSEPOSE_HEAD``. With the latter an instance mask is a sufficient annotation.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.iou_threshold = cfg.MODEL.ROI_DENSEPOSE_HEAD.FG_IOU_THRESHOLD
        self.keep_masks = cfg.MODEL.ROI_DENSEPOSE_HEAD.COARSE_SEGM_TRAINED_BY_MASKS

    def __call__(
        self, features: list[Tensor], proposals_with_targets: list[Instances]
    ) -> tuple[list[Tensor], list[Instances]]:
        """Filter the proposals of several images.

        Args:
            features: feature maps, returned unchanged.
            proposals_with_targets: ``proposal_boxes`` and ground truth of each image.

        Returns:
            The features, and the remaining proposals. Images without a suitable annotation are dropped; other images
            may have 0 proposals.
        """
        kept = [self._select(p) for p in proposals_with_targets if self._has_annotations(p)]
        return features, kept

    def _has_annotations(self, proposals: Instances) -> bool:
        masks = self.keep_masks and proposals.has("gt_masks")
        return proposals.has("gt_boxes") and (proposals.has("gt_densepose") or masks)

    def _select(self, proposals: Instances) -> Instances:
        near = matched_pairwise_iou(proposals.gt_boxes, proposals.proposal_boxes) > self.iou_threshold
        proposals = proposals[near]
        if self.keep_masks and proposals.has("gt_masks"):
            return proposals
        return proposals[[i for i, data in enumerate(proposals.gt_densepose) if data is not None]]
