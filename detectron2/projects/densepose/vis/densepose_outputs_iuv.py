"""Visualizers of predicted charts before they are resampled to pixels."""

from typing import Any

import numpy as np

from ..structures.chart import DensePoseChartPredictorOutput
from ..structures.data_relative import DensePoseDataRelative
from .base import MatrixVisualizer
from .drawing import BLUE_TO_YELLOW, Image

__all__ = [
    "DensePoseOutputsFineSegmentationVisualizer",
    "DensePoseOutputsUVisualizer",
    "DensePoseOutputsVVisualizer",
    "DensePoseOutputsVisualizer",
]


class DensePoseOutputsVisualizer:
    """Draws charts, U or V.

    Args:
        inplace: draw on the image instead of a new black one.
        cmap: OpenCV id of the colour map.
        alpha: opacity, in [0, 1].
        to_visualize: "I" for charts, "U" or "V".
        **kwargs: unused.
    """

    def __init__(
        self,
        inplace: bool = True,
        cmap: int = BLUE_TO_YELLOW,
        alpha: float = 0.7,
        to_visualize: str | None = None,
        **kwargs: object,
    ) -> None:
        if to_visualize not in ("I", "U", "V"):
            raise ValueError(f"to_visualize must be 'I', 'U' or 'V', got {to_visualize!r}")
        self.to_visualize = to_visualize
        self.inplace = inplace
        scale = 255.0 / DensePoseDataRelative.N_PART_LABELS if to_visualize == "I" else 1.0
        self.mask_visualizer = MatrixVisualizer(cmap=cmap, val_scale=scale, alpha=alpha)

    def visualize(
        self,
        image_bgr: Image,
        dp_output_with_bboxes: tuple[DensePoseChartPredictorOutput | None, Any],
    ) -> Image:
        """Draw predictions.

        Args:
            image_bgr: image.
            dp_output_with_bboxes: outputs for N instances, and boxes (N, 4) as x, y, width and height; None = draw
                nothing.
        """
        output, boxes = dp_output_with_bboxes
        if output is None or boxes is None:
            return image_bgr
        image_bgr = image_bgr if self.inplace else np.zeros_like(image_bgr)
        charts = output.fine_segm.argmax(dim=1) * (output.coarse_segm.argmax(dim=1) > 0)
        values = charts.float()
        if self.to_visualize != "I":
            maps = output.u if self.to_visualize == "U" else output.v
            values = maps.gather(1, charts[:, None])[:, 0].clamp(0, 1) * 255
        masks = (charts > 0).cpu().numpy().astype(np.uint8)
        for mask, matrix, box in zip(masks, values.float().cpu().numpy(), boxes):
            image_bgr = self.mask_visualizer.visualize(image_bgr, mask, matrix, box)
        return image_bgr


class DensePoseOutputsUVisualizer(DensePoseOutputsVisualizer):
    """Draws U.

    Args:
        inplace: draw on the image instead of a new black one.
        cmap: OpenCV id of the colour map.
        alpha: opacity, in [0, 1].
        **kwargs: unused.
    """

    def __init__(
        self, inplace: bool = True, cmap: int = BLUE_TO_YELLOW, alpha: float = 0.7, **kwargs: object
    ) -> None:
        super().__init__(inplace, cmap, alpha, to_visualize="U", **kwargs)


class DensePoseOutputsVVisualizer(DensePoseOutputsVisualizer):
    """Draws V.

    Args:
        inplace: draw on the image instead of a new black one.
        cmap: OpenCV id of the colour map.
        alpha: opacity, in [0, 1].
        **kwargs: unused.
    """

    def __init__(
        self, inplace: bool = True, cmap: int = BLUE_TO_YELLOW, alpha: float = 0.7, **kwargs: object
    ) -> None:
        super().__init__(inplace, cmap, alpha, to_visualize="V", **kwargs)


class DensePoseOutputsFineSegmentationVisualizer(DensePoseOutputsVisualizer):
    """Draws charts.

    Args:
        inplace: draw on the image instead of a new black one.
        cmap: OpenCV id of the colour map.
        alpha: opacity, in [0, 1].
        **kwargs: unused.
    """

    def __init__(
        self, inplace: bool = True, cmap: int = BLUE_TO_YELLOW, alpha: float = 0.7, **kwargs: object
    ) -> None:
        super().__init__(inplace, cmap, alpha, to_visualize="I", **kwargs)
