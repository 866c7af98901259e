"""The head of TensorMask: classes, boxes and masks at every window.

N images, L levels, A windows per cell, K classes. Masks of window a have V_a x V_a entries, and with a bipyramid
(2^l V_a) x (2^l V_a) on level l.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import configurable

from .layers import SwapAlign2Nat

__all__ = ["TensorMaskHead"]

Predictions = tuple[list[Tensor], list[Tensor], list[list[Tensor]] | None]


class TensorMaskHead(nn.Module):
    """Three towers of 3x3 convolutions that all levels share.

    Args:
        in_channels: channels of every feature map.
        num_levels: L.
        mask_sizes: V_a for each of A windows.
        num_classes: K.
        cls_channels, bbox_channels, mask_channels: channels of the towers for classes, boxes and masks.
        num_convs: convolutions in each tower.
        mask_on: predict masks.
        aligned_on: predict aligned masks and convert them to natural ones.
        bipyramid_on: give the masks of all levels the resolution of the finest one. Needs ``aligned_on``.
        prior_prob: initial foreground probability of the classification.

    Raises:
        ValueError: a bipyramid of natural masks, which would not fit the cells of their level.

    Reference: https://arxiv.org/abs/1903.12174, section 4
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        num_levels: int,
        mask_sizes: Sequence[int],
        num_classes: int,
        cls_channels: int,
        bbox_channels: int,
        mask_channels: int,
        num_convs: int,
        mask_on: bool = True,
        aligned_on: bool = True,
        bipyramid_on: bool = True,
        prior_prob: float = 0.01,
    ) -> None:
        super().__init__()
        self.mask_sizes = list(mask_sizes)
        self.mask_on = mask_on
        self.bipyramid_on = bipyramid_on
        count = len(self.mask_sizes)
        self.cls_subnet = _tower(in_channels, cls_channels, num_convs)
        self.cls_score = _conv(cls_channels if num_convs else in_channels, count * num_classes, 3)
        self.bbox_subnet = _tower(in_channels, bbox_channels, num_convs)
        self.bbox_pred = _conv(bbox_channels if num_convs else in_channels, count * 4, 3)
        if mask_on:
            self._add_mask_layers(in_channels, mask_channels, num_convs, num_levels, aligned_on)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        assert self.cls_score.bias is not None
        nn.init.constant_(self.cls_score.bias, -math.log((1 - prior_prob) / prior_prob))

    def _add_mask_layers(
        self, in_channels: int, mask_channels: int, num_convs: int, num_levels: int, aligned: bool
    ) -> None:
        if self.bipyramid_on and not aligned:
            raise ValueError(
                "MODEL.TENSOR_MASK.BIPYRAMID_ON needs ALIGNED_ON: natural masks have no bipyramid"
            )
        width = mask_channels if num_convs else in_channels
        self.mask_subnet = _tower(in_channels, mask_channels, num_convs)
        for size in self.mask_sizes:
            self.add_module(f"mask_pred_{size:02d}", _conv(width, size * size, 1))
        if self.bipyramid_on:
            self.mask_fuse = _tower(width, width, 1)
        factors = [2**level if self.bipyramid_on else 1 for level in range(num_levels)]
        self.to_natural = nn.ModuleList(SwapAlign2Nat(f) if aligned else nn.Identity() for f in factors)

    @classmethod
    def from_config(
        cls, cfg: Any, in_channels: int, num_levels: int, mask_sizes: Sequence[int]
    ) -> dict[str, Any]:
        """Read the arguments from ``MODEL.TENSOR_MASK``."""
        node = cfg.MODEL.TENSOR_MASK
        return {
            "in_channels": in_channels,
            "num_levels": num_levels,
            "mask_sizes": mask_sizes,
            "num_classes": node.NUM_CLASSES,
            "cls_channels": node.CLS_CHANNELS,
            "bbox_channels": node.BBOX_CHANNELS,
            "mask_channels": node.MASK_CHANNELS,
            "num_convs": node.NUM_CONVS,
            "mask_on": cfg.MODEL.MASK_ON,
            "aligned_on": node.ALIGNED_ON,
            "bipyramid_on": node.BIPYRAMID_ON,
        }

    def forward(self, features: list[Tensor]) -> Predictions:
        """Predict at every window.

        Args:
            features: [N, C, H, W] for each level.

        Returns:
            For each level logits [N, A * K, H, W] and deltas [N, A * 4, H, W]; for each level and window the logits of
            natural masks, [N, V * V, H, W], or None without masks.
        """
        logits = [self.cls_score(self.cls_subnet(f)) for f in features]
        deltas = [self.bbox_pred(self.bbox_subnet(f)) for f in features]
        return logits, deltas, self._masks(features) if self.mask_on else None

    def _masks(self, features: list[Tensor]) -> list[list[Tensor]]:
        maps = [self.mask_subnet(f) for f in features]
        if self.bipyramid_on:
            maps = self._at_finest_level(maps)
        predict = [self.get_submodule(f"mask_pred_{size:02d}") for size in self.mask_sizes]
        return [[convert(p(m)) for p in predict] for m, convert in zip(maps, self.to_natural)]

    def _at_finest_level(self, maps: list[Tensor]) -> list[Tensor]:
        """Return each map upsampled to the finest one and fused with it."""
        finest = maps[0]
        height, width = finest.shape[-2:]
        fused = []
        for level, x in enumerate(maps):
            if level > 0:
                x = F.interpolate(x, scale_factor=2.0**level, mode="bilinear", align_corners=False)
            fused.append(self.mask_fuse(x[..., :height, :width] + finest))
        return fused


def _conv(in_channels: int, out_channels: int, kernel_size: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)


def _tower(in_channels: int, width: int, count: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(count):
        layers += [_conv(in_channels if i == 0 else width, width, 3), nn.ReLU()]
    return nn.Sequential(*layers)
