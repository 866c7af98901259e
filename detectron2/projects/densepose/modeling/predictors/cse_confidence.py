"""Confidences of predictors of surface embeddings."""

from dataclasses import fields
from typing import Any

from torch import Tensor

from detectron2.config import CfgNode

from ...structures.cse_confidence import decorate_cse_predictor_output_class_with_confidences
from ..confidence import DensePoseConfidenceModelConfig
from ..utils import initialize_module_params
from .confidence_layers import add_confidence_layers, segm_confidence

__all__ = ["DensePoseEmbeddingConfidencePredictorMixin", "initialize_module_params"]


class DensePoseEmbeddingConfidencePredictorMixin:
    """Adds a confidence to a predictor of embeddings, which must follow it in the list of base classes.

    Args:
        cfg: the whole config; reads ``MODEL.ROI_DENSEPOSE_HEAD.SEGM_CONFIDENCE``.
        input_channels: channels of the features.
    """

    def __init__(self, cfg: CfgNode, input_channels: int) -> None:
        super().__init__(cfg, input_channels)  # type: ignore[call-arg]
        base: type = self.output_class  # type: ignore[attr-defined]
        self._class_with_confidences = decorate_cse_predictor_output_class_with_confidences(base)
        self.confidence_model_cfg = DensePoseConfidenceModelConfig.from_cfg(cfg)
        if self.confidence_model_cfg.segm_confidence.enabled:
            add_confidence_layers(self, cfg, input_channels, {"coarse_segm_confidence": 1})  # type: ignore[arg-type]
        initialize_module_params(self)  # type: ignore[arg-type]

    def forward(self, head_outputs: Tensor) -> Any:
        """Predict maps for N instances; segmentation logits are multiplied by their confidence.

        Args:
            head_outputs: [N, C, H, W] features.
        """
        base = super().forward(head_outputs)  # type: ignore[misc]
        values = {f.name: getattr(base, f.name) for f in fields(base)}
        settings = self.confidence_model_cfg.segm_confidence
        if settings.enabled:
            logits = self.interp2d(self.coarse_segm_confidence_lowres(head_outputs))  # type: ignore[attr-defined]
            values["coarse_segm_confidence"] = segm_confidence(logits, settings.epsilon)
            values["coarse_segm"] = values["coarse_segm"] * values["coarse_segm_confidence"]
        return self._class_with_confidences(**values)
