"""Loss of models that predict charts."""

import torch.nn.functional as F
from torch import Tensor

from detectron2.config import CfgNode
from detectron2.structures import Instances

from ...structures.chart import DensePoseChartPredictorOutput
from ..registries import DENSEPOSE_LOSS_REGISTRY
from .mask_or_segm import MaskOrSegmentationLoss
from .utils import (
    BilinearInterpolationHelper,
    ChartBasedAnnotationsAccumulator,
    PackedChartBasedAnnotations,
    extract_packed_annotations_from_matches,
)

__all__ = ["DensePoseChartLoss"]

_Losses = dict[str, Tensor]


@DENSEPOSE_LOSS_REGISTRY.register()
class DensePoseChartLoss:
    """Losses on coordinates (U and V), charts (I) and coarse segmentation (S).

    U and V have a sum of smooth L1 losses over annotated points, I and S a mean cross-entropy.

    Args:
        cfg: the whole config; reads ``MODEL.ROI_DENSEPOSE_HEAD``.

    Reference: DensePose: Dense Human Pose Estimation In The Wild, https://arxiv.org/abs/1802.00434
    """

    def __init__(self, cfg: CfgNode) -> None:
        node = cfg.MODEL.ROI_DENSEPOSE_HEAD
        self.w_points = node.POINT_REGRESSION_WEIGHTS
        self.w_part = node.PART_WEIGHTS
        self.w_segm = node.INDEX_WEIGHTS
        self.segm_loss = MaskOrSegmentationLoss(cfg)

    def __call__(
        self,
        proposals_with_gt: list[Instances],
        densepose_predictor_outputs: DensePoseChartPredictorOutput,
        **kwargs: object,
    ) -> _Losses:
        """Compute the losses; all are 0 without annotated points on the body within the proposals.

        Args:
            proposals_with_gt: proposals of each image with their ground truth.
            densepose_predictor_outputs: outputs for all proposals.
            kwargs: arguments of other losses; unused.

        Returns:
            ``loss_densepose_U``, ``loss_densepose_V``, ``loss_densepose_I`` and ``loss_densepose_S``.
        """
        packed = extract_packed_annotations_from_matches(
            proposals_with_gt, ChartBasedAnnotationsAccumulator()
        )
        if packed is None:
            return self.produce_fake_densepose_losses(densepose_predictor_outputs)
        height, width = densepose_predictor_outputs.u.shape[2:]
        interpolator = BilinearInterpolationHelper.from_matches(packed, (height, width))
        j_valid_fg = interpolator.j_valid & (packed.fine_segm_labels_gt > 0)
        if not j_valid_fg.any():
            return self.produce_fake_densepose_losses(densepose_predictor_outputs)
        parts = (proposals_with_gt, densepose_predictor_outputs, packed, interpolator, j_valid_fg)
        return {**self.produce_densepose_losses_uv(*parts), **self.produce_densepose_losses_segm(*parts)}

    def produce_fake_densepose_losses(
        self, densepose_predictor_outputs: DensePoseChartPredictorOutput
    ) -> _Losses:
        """Return losses of 0, attached to the predictions.

        Args:
            densepose_predictor_outputs: outputs for all proposals.
        """
        return {
            **self.produce_fake_densepose_losses_uv(densepose_predictor_outputs),
            **self.produce_fake_densepose_losses_segm(densepose_predictor_outputs),
        }

    def produce_fake_densepose_losses_uv(
        self, densepose_predictor_outputs: DensePoseChartPredictorOutput
    ) -> _Losses:
        """Return coordinate losses of 0.

        Args:
            densepose_predictor_outputs: outputs for all proposals.
        """
        return {
            "loss_densepose_U": densepose_predictor_outputs.u.sum() * 0,
            "loss_densepose_V": densepose_predictor_outputs.v.sum() * 0,
        }

    def produce_fake_densepose_losses_segm(
        self, densepose_predictor_outputs: DensePoseChartPredictorOutput
    ) -> _Losses:
        """Return segmentation losses of 0.

        Args:
            densepose_predictor_outputs: outputs for all proposals.
        """
        return {
            "loss_densepose_I": densepose_predictor_outputs.fine_segm.sum() * 0,
            "loss_densepose_S": self.segm_loss.fake_value(densepose_predictor_outputs),
        }

    def produce_densepose_losses_uv(
        self,
        proposals_with_gt: list[Instances],
        densepose_predictor_outputs: DensePoseChartPredictorOutput,
        packed_annotations: PackedChartBasedAnnotations,
        interpolator: BilinearInterpolationHelper,
        j_valid_fg: Tensor,
    ) -> _Losses:
        """Compute the coordinate losses.

        Args:
            proposals_with_gt: proposals of each image with their ground truth.
            densepose_predictor_outputs: outputs for all proposals.
            packed_annotations: their annotations, with P points.
            interpolator: reads predictions at the points.
            j_valid_fg: [P] whether a point is used.
        """
        losses = {}
        for name in ("u", "v"):
            found = interpolator.extract_at_points(getattr(densepose_predictor_outputs, name))
            truth = getattr(packed_annotations, f"{name}_gt")
            error = F.smooth_l1_loss(found[j_valid_fg], truth[j_valid_fg], reduction="sum")
            losses[f"loss_densepose_{name.upper()}"] = error * self.w_points
        return losses

    def produce_densepose_losses_segm(
        self,
        proposals_with_gt: list[Instances],
        densepose_predictor_outputs: DensePoseChartPredictorOutput,
        packed_annotations: PackedChartBasedAnnotations,
        interpolator: BilinearInterpolationHelper,
        j_valid_fg: Tensor,
    ) -> _Losses:
        """Compute the segmentation losses; for charts, points on the background are used too.

        Args:
            proposals_with_gt: proposals of each image with their ground truth.
            densepose_predictor_outputs: outputs for all proposals.
            packed_annotations: their annotations, with P points.
            interpolator: reads predictions at the points.
            j_valid_fg: [P] whether a point is used for coordinates.
        """
        logits = interpolator.extract_channels_at_points(densepose_predictor_outputs.fine_segm)
        inside = interpolator.j_valid
        fine = F.cross_entropy(logits[inside], packed_annotations.fine_segm_labels_gt[inside])
        coarse = self.segm_loss(proposals_with_gt, densepose_predictor_outputs, packed_annotations)
        return {"loss_densepose_I": fine * self.w_part, "loss_densepose_S": coarse * self.w_segm}
