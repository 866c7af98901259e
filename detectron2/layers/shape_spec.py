"""Static description of a feature map."""

from dataclasses import dataclass

__all__ = ["ShapeSpec"]


@dataclass
class ShapeSpec:
    """Static shape of a feature map, as far as it is known.

    Every field may be left out (None = unknown or of no interest).

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
