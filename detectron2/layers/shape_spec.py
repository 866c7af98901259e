"""Static description of a feature map."""

from dataclasses import dataclass

__all__ = ["ShapeSpec"]


@dataclass
class ShapeSpec:
    """What one module needs to know of the tensor that another one hands it.

    Every field may be left out (None = unknown or of no interest).

    Attributes:
        channels: Number of channels.
        height: Height in pixels of the feature map.
        width: Width in pixels of the feature map.
        stride: Input pixels per feature-map pixel.
    """

    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None
