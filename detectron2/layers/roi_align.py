"""Pool features of axis-aligned regions."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from detectron2.utils.errors import BadValue

from ._roi_align_grad import roi_align_with_sparse_gradient
from ._torchvision import roi_align as _tv_roi_align

__all__ = ["ROIAlign", "roi_align"]


def roi_align(
    input: Tensor,
    boxes: Tensor | list[Tensor],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """Run ``torchvision.ops.roi_align`` without rounding box coordinates to half precision.

    Args:
        input: [N, C, H, W].
        boxes: [R, 5] of (image index, x0, y0, x1, y1), or one [R_i, 4] tensor per image.
        output_size: number of bins, (height, width) or one number for both.
        spatial_scale: feature-map pixels per unit of ``boxes``.
        sampling_ratio: samples per bin and axis; 0 or less: as many as the bin has pixels, rounded up.
        aligned: subtract the half pixel between pixel centres and pixel corners.

    Returns:
        [R, C, height, width] in the dtype of ``input``.
    """
    # Above 1024, float16 rounds coordinates to whole pixels, bfloat16 to multiples of eight.
    precise = torch.promote_types(input.dtype, torch.float32)
    rois = (_with_image_index(boxes) if isinstance(boxes, (list, tuple)) else boxes).to(precise)
    pool: Callable[..., Tensor] = _tv_roi_align
    if input.device.type == "cpu" and input.requires_grad and not torch.compiler.is_compiling():
        pool = roi_align_with_sparse_gradient
    with torch.autocast(input.device.type, enabled=False):
        pooled = pool(input.to(precise), rois, output_size, spatial_scale, sampling_ratio, aligned)
    return pooled.to(input.dtype)


def _with_image_index(boxes: Sequence[Tensor]) -> Tensor:
    """Join the [R_i, 4] boxes of each image to [R, 5] of (image index, box)."""
    rows = [torch.nn.functional.pad(b, (1, 0), value=float(i)) for i, b in enumerate(boxes)]
    return torch.cat(rows)


class ROIAlign(nn.Module):
    """Average bilinear samples in each bin of a region.

    Args:
        output_size: number of bins, (height, width) or one number for both.
        spatial_scale: feature-map pixels per image pixel, such as 1/16.
        sampling_ratio: samples per bin and axis; 0: as many as the bin has pixels, rounded up.
        aligned: True places pixel centres at .5, as everywhere in this package ("ROIAlign v2"); False is the first
            version, half a pixel off, for models trained with it.

    Reference: Mask R-CNN, https://arxiv.org/abs/1703.06870
    """

    def __init__(
        self,
        output_size: int | tuple[int, int],
        spatial_scale: float,
        sampling_ratio: int,
        aligned: bool = True,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio
        self.aligned = aligned

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Pool regions.

        Args:
            input: [N, C, H, W].
            rois: [R, 5] of (image index, x0, y0, x1, y1) in image pixels.

        Returns:
            [R, C, height, width].
        """
        if rois.dim() != 2 or rois.shape[1] != 5:
            raise BadValue(f"rois must be [R, 5] of (image index, x0, y0, x1, y1), got {tuple(rois.shape)}")
        return roi_align(input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned)

    def __repr__(self) -> str:
        names = ("output_size", "spatial_scale", "sampling_ratio", "aligned")
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)}' for n in names)})"
