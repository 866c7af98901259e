"""Visualizers of annotations."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..structures.data_relative import DensePoseDataRelative
from .base import MatrixVisualizer, PointsVisualizer
from .drawing import BLUE_TO_YELLOW, Image, opencv

__all__ = [
    "DensePoseDataCoarseSegmentationVisualizer",
    "DensePoseDataPointsIVisualizer",
    "DensePoseDataPointsUVisualizer",
    "DensePoseDataPointsVVisualizer",
    "DensePoseDataPointsVisualizer",
]

Values = npt.NDArray[np.uint8]
_ANNOTATION_SIZE = 255.0


class DensePoseDataCoarseSegmentationVisualizer:
    """Draws the body parts of annotations.

    Args:
        inplace: draw on the image instead of a new black one.
        cmap: OpenCV id of the colour map.
        alpha: opacity, in [0, 1].
        **kwargs: unused.
    """

    def __init__(
        self, inplace: bool = True, cmap: int = BLUE_TO_YELLOW, alpha: float = 0.7, **kwargs: object
    ) -> None:
        self.inplace = inplace
        scale = 255.0 / DensePoseDataRelative.N_BODY_PARTS
        self.mask_visualizer = MatrixVisualizer(cmap=cmap, val_scale=scale, alpha=alpha)

    def visualize(self, image_bgr: Image, bbox_densepose_datas: tuple[Any, Any] | None) -> Image:
        """Draw body parts.

        Args:
            image_bgr: image.
            bbox_densepose_datas: boxes as x, y, width and height, and their annotations; None = draw nothing.
        """
        image_bgr = image_bgr if self.inplace else np.zeros_like(image_bgr)
        for box, data in zip(*(bbox_densepose_datas or ((), ()))):
            parts = data.segm.cpu().numpy().astype(np.uint8)
            image_bgr = self.mask_visualizer.visualize(image_bgr, (parts > 0).astype(np.uint8), parts, box)
        return image_bgr


class DensePoseDataPointsVisualizer:
    """Draws the points of annotations.

    Args:
        densepose_data_to_value_fn: returns values (K,) of an annotation in 0..255, which set the colours; None = one
            colour for all points.
        cmap: OpenCV id of the colour map.
        **kwargs: unused.
    """

    def __init__(
        self,
        densepose_data_to_value_fn: Callable[[DensePoseDataRelative], Values] | None = None,
        cmap: int = BLUE_TO_YELLOW,
        **kwargs: object,
    ) -> None:
        self.points_visualizer = PointsVisualizer()
        self.densepose_data_to_value_fn = densepose_data_to_value_fn
        self.cmap = cmap

    def visualize(self, image_bgr: Image, bbox_densepose_datas: tuple[Any, Any] | None) -> Image:
        """Draw points.

        Args:
            image_bgr: image.
            bbox_densepose_datas: boxes as x, y, width and height, and their annotations; None = draw nothing.
        """
        for box, data in zip(*(bbox_densepose_datas or ((), ()))):
            x0, y0, w, h = (float(value) for value in box)
            points = list(
                zip(
                    (data.x.cpu().numpy() * w / _ANNOTATION_SIZE + x0).tolist(),
                    (data.y.cpu().numpy() * h / _ANNOTATION_SIZE + y0).tolist(),
                )
            )
            image_bgr = self.points_visualizer.visualize(image_bgr, points, self._colors(data))
        return image_bgr

    def _colors(self, data: DensePoseDataRelative) -> list[list[int]] | None:
        if self.densepose_data_to_value_fn is None:
            return None
        values = self.densepose_data_to_value_fn(data)
        if not len(values):
            return []
        return opencv().applyColorMap(values.reshape(-1, 1), self.cmap)[:, 0].tolist()


def _to_bytes(values: Any, largest: float) -> Values:
    return (values.cpu().numpy() / largest * 255.0).clip(0, 255).astype(np.uint8)


class DensePoseDataPointsUVisualizer(DensePoseDataPointsVisualizer):
    """Draws the points of annotations in colours for U.

    Args:
        **kwargs: passed to :class:`DensePoseDataPointsVisualizer`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(densepose_data_to_value_fn=lambda data: _to_bytes(data.u, 1), **kwargs)


class DensePoseDataPointsVVisualizer(DensePoseDataPointsVisualizer):
    """Draws the points of annotations in colours for V.

    Args:
        **kwargs: passed to :class:`DensePoseDataPointsVisualizer`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(densepose_data_to_value_fn=lambda data: _to_bytes(data.v, 1), **kwargs)


class DensePoseDataPointsIVisualizer(DensePoseDataPointsVisualizer):
    """Draws the points of annotations in colours for their charts.

    Args:
        **kwargs: passed to :class:`DensePoseDataPointsVisualizer`.
    """

    def __init__(self, **kwargs: Any) -> None:
        largest = DensePoseDataRelative.N_PART_LABELS
        super().__init__(densepose_data_to_value_fn=lambda data: _to_bytes(data.i, largest), **kwargs)
