"""Backbones by name, for configs of the yacs kind."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.utils.errors import BadType
from detectron2.utils.registry import Registry

from .backbone import Backbone

__all__ = ["BACKBONE_REGISTRY", "Backbone", "ShapeSpec", "build_backbone"]

BACKBONE_REGISTRY = Registry("BACKBONE")
"""Builders of backbones. ``MODEL.BACKBONE.NAME`` names one; it is called as ``builder(cfg, input_shape)``."""


def build_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> Backbone:
    """Build the backbone that ``cfg.MODEL.BACKBONE.NAME`` names.

    Args:
        cfg: a whole config.
        input_shape: channels of the images; by default as many as ``cfg.MODEL.PIXEL_MEAN`` has entries.

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
            f"the backbone builder {name!r} must return a detectron2.modeling.Backbone, not {type(built).__name__}"
        )
    return built
