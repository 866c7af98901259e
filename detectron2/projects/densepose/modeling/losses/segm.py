"""Coarse segmentation trained on DensePose's part labels."""

import torch.nn.functional as F
from torch import Tensor

from detectron2.config import CfgNode
from detectron2.structures import Instances

from ...structures.predictor_output import PredictorOutput
from .utils import PackedAnnotations, resample_data

__all__ = ["SegmentationLoss"]


class SegmentationLoss:
    """Mean cross-entropy between coarse segmentation and part labels.

    Args:
        cfg: the whole config; reads ``HEATMAP_SIZE`` and ``NUM_COARSE_SEGM_CHANNELS`` of ``MODEL.ROI_DENSEPOSE_HEAD``.
            With 2 channels all parts count as one.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.heatmap_size = cfg.MODEL.ROI_DENSEPOSE_HEAD.HEATMAP_SIZE
        self.n_segm_chan = cfg.MODEL.ROI_DENSEPOSE_HEAD.NUM_COARSE_SEGM_CHANNELS

    def __call__(
        self,
        proposals_with_gt: list[Instances],
        densepose_predictor_outputs: PredictorOutput,
        packed_annotations: PackedAnnotations,
    ) -> Tensor:
        """Compute the loss.

        Args:
            proposals_with_gt: proposals of each image; unused.
            densepose_predictor_outputs: ``coarse_segm`` of all proposals.
            packed_annotations: their annotations.
        """
        truth = packed_annotations.coarse_segm_gt
        if truth is None:
            return self.fake_value(densepose_predictor_outputs)
        labelled = truth[:, 0, 0] >= 0
        logits = densepose_predictor_outputs.coarse_segm[packed_annotations.bbox_indices[labelled]]
        labels = resample_data(
            truth[labelled][:, None],
            packed_annotations.bbox_xywh_gt[labelled],
            packed_annotations.bbox_xywh_est[labelled],
            self.heatmap_size,
            self.heatmap_size,
        )[:, 0]
        if self.n_segm_chan == 2:
            labels = labels > 0
        return F.cross_entropy(logits, labels.long())

    def fake_value(self, densepose_predictor_outputs: PredictorOutput) -> Tensor:
        """Return 0, attached to the predictions.

        Args:
            densepose_predictor_outputs: outputs with ``coarse_segm``.
        """
        return densepose_predictor_outputs.coarse_segm.sum() * 0
