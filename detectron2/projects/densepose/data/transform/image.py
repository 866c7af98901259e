"""Resize batches of images."""

import torch
import torch.nn.functional as F

__all__ = ["ImageResizeTransform"]


class ImageResizeTransform:
    """Resize images of the same size to a given shorter side.

    Args:
        min_size: length of the shorter side, in pixels.
        max_size: upper bound of the longer side, which takes precedence.
    """

    def __init__(self, min_size: int = 800, max_size: int = 1333) -> None:
        self.min_size = min_size
        self.max_size = max_size

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Resize images.

        Args:
            images: tensor (N, C, H, W) of any type.

        Returns:
            float32 tensor (N, C, H', W'), bilinear.
        """
        images = images.float()
        shorter, longer = sorted(images.shape[-2:])
        scale = min(self.min_size / shorter, self.max_size / longer)
        return F.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)
