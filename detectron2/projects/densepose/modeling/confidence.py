"""Settings of the confidences that a model predicts."""

from dataclasses import dataclass
from enum import Enum

from detectron2.config import CfgNode

__all__ = [
    "DensePoseConfidenceModelConfig",
    "DensePoseSegmConfidenceConfig",
    "DensePoseUVConfidenceConfig",
    "DensePoseUVConfidenceType",
]


class DensePoseUVConfidenceType(Enum):
    """Model of the error of U and V.

    ``IID_ISO``: both have the same deviation and are independent. ``INDEP_ANISO``: a full covariance, with a
    direction of larger deviation.

    Reference: Correlated Uncertainty for Learning Dense Correspondences from Noisy Labels (NeurIPS 2019)
    """

    IID_ISO = "iid_iso"
    INDEP_ANISO = "indep_aniso"


@dataclass
class DensePoseUVConfidenceConfig:
    """Confidence of U and V.

    Args:
        enabled: predict it.
        epsilon: smallest variance.
        type: model of the error.
    """

    enabled: bool = False
    epsilon: float = 0.01
    type: DensePoseUVConfidenceType = DensePoseUVConfidenceType.IID_ISO


@dataclass
class DensePoseSegmConfidenceConfig:
    """Confidence of the segmentations.

    Args:
        enabled: predict it.
        epsilon: smallest confidence.
    """

    enabled: bool = False
    epsilon: float = 0.01


@dataclass
class DensePoseConfidenceModelConfig:
    """All confidences of a model.

    Args:
        uv_confidence: confidence of U and V.
        segm_confidence: confidence of the segmentations.
    """

    uv_confidence: DensePoseUVConfidenceConfig
    segm_confidence: DensePoseSegmConfidenceConfig

    @staticmethod
    def from_cfg(cfg: CfgNode) -> "DensePoseConfidenceModelConfig":
        """Read ``UV_CONFIDENCE`` and ``SEGM_CONFIDENCE`` of ``MODEL.ROI_DENSEPOSE_HEAD``.

        Args:
            cfg: the whole config.
        """
        uv = cfg.MODEL.ROI_DENSEPOSE_HEAD.UV_CONFIDENCE
        segm = cfg.MODEL.ROI_DENSEPOSE_HEAD.SEGM_CONFIDENCE
        return DensePoseConfidenceModelConfig(
            uv_confidence=DensePoseUVConfidenceConfig(
                enabled=uv.ENABLED, epsilon=uv.EPSILON, type=DensePoseUVConfidenceType(uv.TYPE)
            ),
            segm_confidence=DensePoseSegmConfidenceConfig(enabled=segm.ENABLED, epsilon=segm.EPSILON),
        )
