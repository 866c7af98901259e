"""Static description of a feature map."""

from dataclasses import dataclass

__all__ = ["ShapeSpec"]


@dataclass
class ShapeSpec:
    """Static shape of a feature map; None for what is unknown or irrelevant.

    Attributes:
        channels: number of channels.
        height: height in pixels of the feature map.
        width: width in pixels of the feature map.
        stride: input pixels per feature-map pixel.
    """

    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None
