"""Pool features of rotated regions."""

from torch import Tensor, nn

from .rotated.align import roi_align_rotated
from .wrappers import disable_torch_compiler

__all__ = ["ROIAlignRotated", "disable_torch_compiler", "roi_align_rotated"]


class ROIAlignRotated(nn.Module):
    """Average bilinear samples in each bin of a rotated region; pixel centres are at .5.

    Args:
        output_size: number of bins, (height, width) or one number for both.
        spatial_scale: feature-map pixels per image pixel, such as 1/16.
        sampling_ratio: samples per bin and axis; 0: as many as the bin has pixels, rounded up.

    Reference: Arbitrary-Oriented Scene Text Detection via Rotation Proposals, https://arxiv.org/abs/1703.01086
    """

    def __init__(self, output_size: int | tuple[int, int], spatial_scale: float, sampling_ratio: int) -> None:
        super().__init__()
        self.output_size = output_size
        self.spatial_scale = spatial_scale
        self.sampling_ratio = sampling_ratio

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Pool regions.

        Args:
            input: [N, C, H, W].
            rois: [R, 6] of (image index, x centre, y centre, width, height, angle in degrees
                counter-clockwise), in image pixels.

        Returns:
            [R, C, height, width].
        """
        return roi_align_rotated(input, rois, self.output_size, self.spatial_scale, self.sampling_ratio)

    def __repr__(self) -> str:
        names = ("output_size", "spatial_scale", "sampling_ratio")
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)}' for n in names)})"
