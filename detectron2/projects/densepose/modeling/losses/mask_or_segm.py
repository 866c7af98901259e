"""Loss of coarse segmentation, on instance masks or part labels."""

from torch import Tensor

from detectron2.config import CfgNode
from detectron2.structures import Instances

from ...structures.predictor_output import PredictorOutput
from .mask import MaskLoss
from .segm import SegmentationLoss
from .utils import PackedAnnotations

__all__ = ["MaskOrSegmentationLoss"]


class MaskOrSegmentationLoss:
    """The loss on instance masks if set in the config, or else the loss on part labels.

    Args:
        cfg: the whole config; reads ``MODEL.ROI_DENSEPOSE_HEAD.COARSE_SEGM_TRAINED_BY_MASKS``.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.segm_trained_by_masks = cfg.MODEL.ROI_DENSEPOSE_HEAD.COARSE_SEGM_TRAINED_BY_MASKS
        self.mask_loss = MaskLoss()
        self.segm_loss = SegmentationLoss(cfg)

    def __call__(
        self,
        proposals_with_gt: list[Instances],
        densepose_predictor_outputs: PredictorOutput,
        packed_annotations: PackedAnnotations,
    ) -> Tensor:
        """Compute the loss.

        Args:
            proposals_with_gt: proposals of each image with their ground truth.
            densepose_predictor_outputs: ``coarse_segm`` of all proposals.
            packed_annotations: their annotations.
        """
        if self.segm_trained_by_masks:
            return self.mask_loss(proposals_with_gt, densepose_predictor_outputs)
        return self.segm_loss(proposals_with_gt, densepose_predictor_outputs, packed_annotations)

    def fake_value(self, densepose_predictor_outputs: PredictorOutput) -> Tensor:
        """Return 0, attached to the predictions.

        Args:
            densepose_predictor_outputs: outputs with ``coarse_segm``.
        """
        return self.segm_loss.fake_value(densepose_predictor_outputs)
