"""Backbones by name, for configs of the yacs kind."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.errors import BadType
from detectron2.utils.registry import Registry

from .backbone import Backbone

__all__ = ["BACKBONE_REGISTRY", "Backbone", "ShapeSpec", "build_backbone"]

BACKBONE_REGISTRY = Registry("BACKBONE")
"""Functions or classes that create backbones; called as ``builder(cfg, input_shape)``."""


def build_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> Backbone:
    """Build the backbone that is registered as ``cfg.MODEL.BACKBONE.NAME``.

    Args:
        cfg: the complete config.
        input_shape: channels of the images; by default the length of ``cfg.MODEL.PIXEL_MEAN``.

    Raises:
        KeyError: if the name is not registered.
        TypeError: if the registered builder returns something that is not a :class:`Backbone`.
    """
    if input_shape is None:
        input_shape = ShapeSpec(channels=len(cfg.MODEL.PIXEL_MEAN))
    name = cfg.MODEL.BACKBONE.NAME
    built = BACKBONE_REGISTRY.get(name)(cfg, input_shape)
    if not isinstance(built, Backbone):
        raise BadType(
            f"the backbone builder {name!r} must return a detectron2.modeling.Backbone, got {type(built).__name__}"
        )
    return built
