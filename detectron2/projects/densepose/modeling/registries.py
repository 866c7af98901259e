"""Registries of heads, predictors and losses."""

from detectron2.utils.registry import Registry

__all__ = ["DENSEPOSE_LOSS_REGISTRY", "DENSEPOSE_PREDICTOR_REGISTRY", "ROI_DENSEPOSE_HEAD_REGISTRY"]

ROI_DENSEPOSE_HEAD_REGISTRY = Registry("ROI_DENSEPOSE_HEAD")
ROI_DENSEPOSE_HEAD_REGISTRY.__doc__ = """
Heads that process the pooled features of instances. An entry is called with ``(cfg, input_channels)``; the module has
an attribute ``n_out_channels``.
"""

DENSEPOSE_PREDICTOR_REGISTRY = Registry("DENSEPOSE_PREDICTOR")
DENSEPOSE_PREDICTOR_REGISTRY.__doc__ = """
Modules that convert the features of a head to predictions. An entry is called with ``(cfg, input_channels)``.
"""

DENSEPOSE_LOSS_REGISTRY = Registry("DENSEPOSE_LOSS")
DENSEPOSE_LOSS_REGISTRY.__doc__ = """
Losses of a DensePose model. An entry is called with ``cfg``; the object is called with the matched proposals, the
output of the predictor for them, and the embedder or None, and returns losses by name.
"""
