"""Draw textures on people: the colours of a texture atlas at the predicted points of the surface."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
from torch import Tensor

from detectron2.utils.file_io import PathManager
from detectron2.utils.reexports import passed_on

from ..structures.data_relative import DensePoseDataRelative
from .densepose_results import DensePoseResultsVisualizer
from .drawing import Image, clip_to_image

__all__ = ["DensePoseResultsVisualizerWithTexture", "get_texture_atlas", "split_alpha"]

__getattr__ = passed_on(
    __name__,
    ("projects.densepose.structures.chart_result.DensePoseChartResult",),
)

# The atlas has the 24 charts in 4 columns of 6, in column order.
_COLUMNS, _ROWS = 4, 6


@lru_cache
def get_texture_atlas(path: str | None) -> npt.NDArray[np.uint8] | None:
    """Read a texture atlas.

    Args:
        path: path or URL of an image; None = none.

    Returns:
        uint8 BGR array (H, W, 3), or (H, W, 4) with opacity; None without a path.
    """
    if path is None:
        return None
    with PathManager.open(path, "rb") as file, PIL.Image.open(file) as image:
        transparent = "A" in image.getbands() or "transparency" in image.info
        pixels = np.asarray(image.convert("RGBA" if transparent else "RGB"))
    return np.ascontiguousarray(pixels[..., [2, 1, 0, 3] if transparent else [2, 1, 0]])


def split_alpha(texture: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Split a texture into colours and opacity; without an opacity channel, black is transparent.

    Args:
        texture: (..., 3), or (..., 4) with opacity in 0..255.

    Returns:
        Colours (..., 3), and opacity (...) in [0, 1].
    """
    if texture.shape[-1] == 4:
        return texture[..., :3], texture[..., 3] / 255.0
    return texture, (texture.sum(axis=-1) > 0).astype(float)


class DensePoseResultsVisualizerWithTexture(DensePoseResultsVisualizer):
    """Draws a texture on people. The image itself is not changed.

    Args:
        texture_atlas: (H, W, 3) or (H, W, 4), BGR, from :func:`get_texture_atlas`: 24 squares, in 4 columns of
            6.
        **kwargs: unused.
    """

    def __init__(self, texture_atlas: npt.NDArray[Any], **kwargs: object) -> None:
        self.texture_atlas = texture_atlas
        self.body_part_size = texture_atlas.shape[0] // _ROWS
        if self.body_part_size < 1 or texture_atlas.shape[1] != self.body_part_size * _COLUMNS:
            raise ValueError(
                f"texture_atlas must have {_ROWS} x {_COLUMNS} equal squares, got the shape {texture_atlas.shape}"
            )

    def create_visualization_context(self, image_bgr: Image) -> Any:
        return image_bgr.copy(), *self.get_texture()

    def get_image_bgr_from_context(self, context: Any) -> Image:
        return context[0]

    def context_to_image_bgr(self, context: Any) -> Image:
        return context[0]

    def visualize_iuv_arr(
        self, context: Any, iuv_arr: npt.NDArray[np.uint8], bbox_xywh: Sequence[float] | Tensor
    ) -> None:
        image, texture, alpha = context
        place, part = clip_to_image(image, bbox_xywh)
        labels, uv = iuv_arr[0][part], iuv_arr[1:][(slice(None), *part)] / 255.0
        iuv = np.concatenate([labels[None], uv])
        image[place] = self.generate_image_with_texture(texture, alpha, image[place], iuv)

    def get_texture(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Split the atlas into charts.

        Returns:
            Colours (24, S, S, 3), and opacity (24, S, S) in [0, 1].
        """
        size, channels = self.body_part_size, self.texture_atlas.shape[-1]
        squares = self.texture_atlas[: _ROWS * size].reshape(_ROWS, size, _COLUMNS, size, channels)
        return split_alpha(squares.transpose(2, 0, 1, 3, 4).reshape(-1, size, size, channels))

    def generate_image_with_texture(
        self,
        texture_image: npt.NDArray[Any],
        alpha: npt.NDArray[Any],
        bbox_image_bgr: Image,
        iuv_array: npt.NDArray[Any],
    ) -> Image:
        """Draw the texture of one instance.

        Args:
            texture_image: (24, S, S, 3), from :meth:`get_texture`.
            alpha: (24, S, S) opacity.
            bbox_image_bgr: (h, w, 3), the image in the box.
            iuv_array: (3, h, w): charts, U and V in [0, 1].

        Returns:
            A new image (h, w, 3).
        """
        charts = iuv_array[0].astype(np.int64)
        body = (charts > 0) & (charts <= DensePoseDataRelative.N_PART_LABELS)
        u, v = (iuv_array[k][body].clip(0, 1) * (self.body_part_size - 1) for k in (1, 2))
        index = (charts[body] - 1, ((self.body_part_size - 1) - v).astype(int), u.astype(int))
        opacity = alpha[index][:, None]
        image = bbox_image_bgr.copy()
        image[body] = (image[body] * (1 - opacity) + texture_image[index] * opacity).astype(np.uint8)
        return image
