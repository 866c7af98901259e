"""The windows of TensorMask, and the object assigned to each.

N images, L levels, A windows per cell, R windows in total, G objects.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.structures import Boxes

__all__ = ["TensorMaskAnchorGenerator", "match_windows"]


class TensorMaskAnchorGenerator(DefaultAnchorGenerator):
    """Windows at each cell of each map, with the cell size and the position of each window."""

    def forward(  # type: ignore[override]
        self, features: Sequence[Tensor]
    ) -> tuple[list[list[Boxes]], list[list[Tensor]], list[list[Tensor]]]:
        """Make the windows for feature maps [N, C, H, W].

        Returns:
            For each image and level: the windows, ``Boxes`` [H * W * A]; their unit lengths in pixels, float
            [H * W * A]; and int64 [H * W * A, 5]: level, 0, row, column and number in [0, A). All images share these.
        """
        anchors = super().forward(features)
        units = [a.tensor.new_full((len(a),), float(s)) for a, s in zip(anchors, self.strides)]
        indexes = [self._places(level, f.shape[-2:], f.device) for level, f in enumerate(features)]
        count = len(features[0])
        return [anchors] * count, [units] * count, [indexes] * count

    def _places(self, level: int, size: Sequence[int], device: torch.device) -> Tensor:
        axes = [torch.arange(n, device=device) for n in (*size, self.num_anchors[level])]
        y, x, anchor = (grid.flatten() for grid in torch.meshgrid(*axes, indexing="ij"))
        return torch.stack((torch.full_like(y, level), torch.zeros_like(y), y, x, anchor), dim=1)


def match_windows(gt_boxes: Tensor, windows: Tensor, units: Tensor, min_size: float) -> tuple[Tensor, Tensor]:
    """Assign each window the object that fits it, if there is exactly one.

    A window fits an object if it contains it, is not much larger (its longer side less one unit is at most twice the
    longer side of the object, or at most ``min_size``, so that small objects have a window too), and is centred
    within one unit of its centre.

    Args:
        gt_boxes: [G, 4] XYXY.
        windows: [R, 4] XYXY.
        units: [R], the distance between neighbouring windows of a level, in pixels.
        min_size: see above, in pixels.

    Returns:
        The object of each window, int64 [R], and bool [R]: whether it has one.

    Reference: https://arxiv.org/abs/1903.12174, section 4, "Label assignment"
    """
    if len(gt_boxes) == 0:
        none = torch.zeros(len(windows), dtype=torch.int64, device=windows.device)
        return none, none.bool()
    x0, y0, x1, y1 = gt_boxes[:, :, None].unbind(1)  # [G, 1] each
    wx0, wy0, wx1, wy1 = windows.unbind(1)  # [R] each
    contained = (x0 >= wx0) & (y0 >= wy0) & (x1 <= wx1) & (y1 <= wy1)  # [G, R]

    largest = (2 * torch.maximum(x1 - x0, y1 - y0)).clamp(min=min_size)
    small_enough = torch.maximum(wx1 - wx0, wy1 - wy0) - units <= largest

    dx = (x0 + x1 - wx0 - wx1) / (2 * units)
    dy = (y0 + y1 - wy0 - wy1) / (2 * units)
    fits = contained & small_enough & (dx.square() + dy.square() <= 1)
    return fits.int().argmax(dim=0), fits.sum(dim=0) == 1
