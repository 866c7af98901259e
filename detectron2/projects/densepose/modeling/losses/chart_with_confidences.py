"""Loss of models that predict charts and the confidence of coordinates."""

import math
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.structures import Instances

from ..confidence import DensePoseConfidenceModelConfig, DensePoseUVConfidenceType
from ..registries import DENSEPOSE_LOSS_REGISTRY
from .chart import DensePoseChartLoss
from .utils import BilinearInterpolationHelper, PackedChartBasedAnnotations

__all__ = [
    "DensePoseChartWithConfidenceLoss",
    "IIDIsotropicGaussianUVLoss",
    "IndepAnisotropicGaussianUVLoss",
]

_LOG_2PI = math.log(2 * math.pi)


class IIDIsotropicGaussianUVLoss(nn.Module):
    """Negative log-likelihood of coordinates whose errors have one variance and are independent.

    Args:
        sigma_lower_bound: smallest variance.

    Reference: Correlated Uncertainty for Learning Dense Correspondences from Noisy Labels (NeurIPS 2019)
    """

    def __init__(self, sigma_lower_bound: float) -> None:
        super().__init__()
        self.sigma_lower_bound = sigma_lower_bound

    def forward(self, u: Tensor, v: Tensor, sigma_u: Tensor, target_u: Tensor, target_v: Tensor) -> Tensor:
        """Sum the loss over P points.

        Args:
            u: [P] predicted coordinates.
            v: [P], likewise.
            sigma_u: [P]; softplus makes it the variance.
            target_u: [P] true coordinates.
            target_v: [P], likewise.
        """
        variance = F.softplus(sigma_u) + self.sigma_lower_bound
        error = (u - target_u).square() + (v - target_v).square()
        return 0.5 * (_LOG_2PI + 2 * variance.log() + error / variance).sum()


class IndepAnisotropicGaussianUVLoss(nn.Module):
    """Negative log-likelihood of coordinates whose errors are larger in one direction.

    The covariance is ``variance * identity + kappa kappa^T``.

    Args:
        sigma_lower_bound: smallest variance.

    Reference: Correlated Uncertainty for Learning Dense Correspondences from Noisy Labels (NeurIPS 2019)
    """

    def __init__(self, sigma_lower_bound: float) -> None:
        super().__init__()
        self.sigma_lower_bound = sigma_lower_bound

    def forward(
        self,
        u: Tensor,
        v: Tensor,
        sigma_u: Tensor,
        kappa_u_est: Tensor,
        kappa_v_est: Tensor,
        target_u: Tensor,
        target_v: Tensor,
    ) -> Tensor:
        """Sum the loss over P points.

        Args:
            u: [P] predicted coordinates.
            v: [P], likewise.
            sigma_u: [P]; softplus makes it the variance.
            kappa_u_est: [P] direction of the larger error.
            kappa_v_est: [P], likewise.
            target_u: [P] true coordinates.
            target_v: [P], likewise.
        """
        variance = F.softplus(sigma_u) + self.sigma_lower_bound
        error_u, error_v = u - target_u, v - target_v
        along = error_u * kappa_u_est + error_v * kappa_v_est
        determinant = variance * (variance + kappa_u_est.square() + kappa_v_est.square())
        # Sherman-Morrison formula for the inverse of the covariance.
        distance = (error_u.square() + error_v.square()) / variance - along.square() / determinant
        return 0.5 * (_LOG_2PI + determinant.log() + distance).sum()


@DENSEPOSE_LOSS_REGISTRY.register()
class DensePoseChartWithConfidenceLoss(DensePoseChartLoss):
    """Losses of charts; with confidences, the likelihood of coordinates replaces smooth L1.

    Args:
        cfg: the whole config; reads ``MODEL.ROI_DENSEPOSE_HEAD``.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(cfg)
        self.confidence_model_cfg = DensePoseConfidenceModelConfig.from_cfg(cfg)
        settings = self.confidence_model_cfg.uv_confidence
        self._confidences: tuple[str, ...] = ()
        if settings.enabled and settings.type is DensePoseUVConfidenceType.IID_ISO:
            self.uv_loss_with_confidences: nn.Module = IIDIsotropicGaussianUVLoss(settings.epsilon)
            self._confidences = ("sigma_2",)
        elif settings.enabled:
            self.uv_loss_with_confidences = IndepAnisotropicGaussianUVLoss(settings.epsilon)
            self._confidences = ("sigma_2", "kappa_u", "kappa_v")

    def produce_fake_densepose_losses_uv(self, densepose_predictor_outputs: Any) -> dict[str, Tensor]:
        """Return coordinate losses of 0.

        Args:
            densepose_predictor_outputs: outputs for all proposals.
        """
        if not self._confidences:
            return super().produce_fake_densepose_losses_uv(densepose_predictor_outputs)
        maps = [getattr(densepose_predictor_outputs, name) for name in ("u", "v", *self._confidences)]
        return {"loss_densepose_UV": sum(m.sum() for m in maps) * 0}

    def produce_densepose_losses_uv(
        self,
        proposals_with_gt: list[Instances],
        densepose_predictor_outputs: Any,
        packed_annotations: PackedChartBasedAnnotations,
        interpolator: BilinearInterpolationHelper,
        j_valid_fg: Tensor,
    ) -> dict[str, Tensor]:
        """Compute the coordinate losses.

        Args:
            proposals_with_gt: proposals of each image with their ground truth.
            densepose_predictor_outputs: outputs for all proposals.
            packed_annotations: their annotations, with P points.
            interpolator: reads predictions at the points.
            j_valid_fg: [P] whether a point is used.

        Returns:
            ``loss_densepose_UV``; without confidences, the losses of ``DensePoseChartLoss``.
        """
        if not self._confidences:
            return super().produce_densepose_losses_uv(
                proposals_with_gt, densepose_predictor_outputs, packed_annotations, interpolator, j_valid_fg
            )
        found = [
            interpolator.extract_at_points(getattr(densepose_predictor_outputs, name))[j_valid_fg]
            for name in ("u", "v", *self._confidences)
        ]
        truth = (packed_annotations.u_gt[j_valid_fg], packed_annotations.v_gt[j_valid_fg])
        return {"loss_densepose_UV": self.uv_loss_with_confidences(*found, *truth) * self.w_points}
