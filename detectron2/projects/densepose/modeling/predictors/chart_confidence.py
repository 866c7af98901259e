"""Confidences of chart predictors."""

from dataclasses import fields
from typing import Any

from torch import Tensor

from detectron2.config import CfgNode

from ...structures.chart_confidence import decorate_predictor_output_class_with_confidences
from ..confidence import DensePoseConfidenceModelConfig, DensePoseUVConfidenceType
from ..utils import initialize_module_params
from .confidence_layers import add_confidence_layers, segm_confidence

__all__ = ["DensePoseChartConfidencePredictorMixin", "initialize_module_params"]


class DensePoseChartConfidencePredictorMixin:
    """Adds confidences to a predictor of charts, which must follow it in the list of base classes.

    Args:
        cfg: the whole config; reads ``UV_CONFIDENCE`` and ``SEGM_CONFIDENCE`` of ``MODEL.ROI_DENSEPOSE_HEAD``.
        input_channels: channels of the features.

    Reference: Correlated Uncertainty for Learning Dense Correspondences from Noisy Labels (NeurIPS 2019)
    """

    def __init__(self, cfg: CfgNode, input_channels: int) -> None:
        super().__init__(cfg, input_channels)  # type: ignore[call-arg]
        base: type = self.output_class  # type: ignore[attr-defined]
        self._class_with_confidences = decorate_predictor_output_class_with_confidences(base)
        self.confidence_model_cfg = DensePoseConfidenceModelConfig.from_cfg(cfg)
        charts = cfg.MODEL.ROI_DENSEPOSE_HEAD.NUM_PATCHES + 1  # plus background
        self._uv_names: tuple[str, ...] = ()
        if self.confidence_model_cfg.uv_confidence.enabled:
            aniso = self.confidence_model_cfg.uv_confidence.type is DensePoseUVConfidenceType.INDEP_ANISO
            self._uv_names = ("sigma_2", "kappa_u", "kappa_v") if aniso else ("sigma_2",)
        self._segm_names: tuple[str, ...] = ()
        if self.confidence_model_cfg.segm_confidence.enabled:
            self._segm_names = ("fine_segm", "coarse_segm")
        channels = {name: charts for name in self._uv_names}
        channels.update({f"{name}_confidence": 1 for name in self._segm_names})
        add_confidence_layers(self, cfg, input_channels, channels)  # type: ignore[arg-type]
        initialize_module_params(self)  # type: ignore[arg-type]

    def forward(self, head_outputs: Tensor) -> Any:
        """Predict maps for N instances; segmentation logits are multiplied by their confidences.

        Args:
            head_outputs: [N, C, H, W] features.
        """
        base = super().forward(head_outputs)  # type: ignore[misc]
        values = {f.name: getattr(base, f.name) for f in fields(base)}
        for name in self._uv_names:
            values[name] = self._enlarged(name, head_outputs)
        epsilon = self.confidence_model_cfg.segm_confidence.epsilon
        for name in self._segm_names:
            confidence = segm_confidence(self._enlarged(f"{name}_confidence", head_outputs), epsilon)
            values[f"{name}_confidence"] = confidence
            values[name] = values[name] * confidence
        return self._class_with_confidences(**values)

    def _enlarged(self, name: str, features: Tensor) -> Tensor:
        return self.interp2d(getattr(self, f"{name}_lowres")(features))  # type: ignore[attr-defined]
