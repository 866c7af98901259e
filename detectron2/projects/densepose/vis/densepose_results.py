"""Visualizers of charts on the pixels of boxes."""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from detectron2.utils.reexports import passed_on

from ..structures.data_relative import DensePoseDataRelative
from .base import MatrixVisualizer
from .drawing import BLUE_TO_YELLOW, Image, clip_to_image, opencv

__all__ = [
    "DensePoseMaskedColormapResultsVisualizer",
    "DensePoseResultsContourVisualizer",
    "DensePoseResultsCustomContourVisualizer",
    "DensePoseResultsFineSegmentationVisualizer",
    "DensePoseResultsMplContourVisualizer",
    "DensePoseResultsUVisualizer",
    "DensePoseResultsVVisualizer",
    "DensePoseResultsVisualizer",
]

__getattr__ = passed_on(
    __name__,
    ("projects.densepose.structures.chart_result.DensePoseChartResult",),
)

Iuv = npt.NDArray[np.uint8]
"""(3, h, w): charts, U * 255 and V * 255"""


class DensePoseResultsVisualizer:
    """Base of the visualizers of charts.

    Subclasses define ``visualize_iuv_arr``, and the context to draw on if it is not the image itself.
    """

    def visualize(self, image_bgr: Image, results_and_boxes_xywh: tuple[Any, Any]) -> Image:
        """Draw the charts of several instances.

        Args:
            image_bgr: uint8 BGR image (H, W, 3); drawn on in place unless the class states otherwise.
            results_and_boxes_xywh: N chart results, and boxes (N, 4); None = draw nothing.

        Returns:
            The image with the charts.
        """
        results, boxes = results_and_boxes_xywh
        if results is None or boxes is None:
            return image_bgr
        context = self.create_visualization_context(image_bgr)
        for result, box in zip(results, boxes.cpu().numpy()):
            uv = (result.uv * 255.0).clamp(0, 255)
            iuv = torch.cat([result.labels[None].byte(), uv.byte()]).cpu().numpy()
            self.visualize_iuv_arr(context, iuv, box)
        return self.context_to_image_bgr(context)

    def create_visualization_context(self, image_bgr: Image) -> Any:
        """Create the context to draw on."""
        return image_bgr

    def visualize_iuv_arr(self, context: Any, iuv_arr: Iuv, bbox_xywh: Sequence[float] | Tensor) -> None:
        """Draw one instance.

        Args:
            context: from :meth:`create_visualization_context`.
            iuv_arr: uint8 array (3, h, w) of charts, U and V.
            bbox_xywh: its box.
        """
        raise NotImplementedError(f"{type(self).__name__} must define visualize_iuv_arr")

    def context_to_image_bgr(self, context: Any) -> Image:
        """Convert the context to an image."""
        return context

    def get_image_bgr_from_context(self, context: Any) -> Image:
        """Return the image of the context."""
        return context


class DensePoseMaskedColormapResultsVisualizer(DensePoseResultsVisualizer):
    """Draws a value of each pixel in the colours of a colour map.

    Args:
        data_extractor: returns the values (h, w) of an array (3, h, w) of charts, U and V.
        segm_extractor: returns its charts; nothing is drawn where they are 0.
        inplace: draw on the image instead of a new black one.
        cmap: OpenCV id of the colour map.
        alpha: opacity, in [0, 1].
        val_scale: factor from the values to the range 0..255 of the colour map.
        **kwargs: unused.
    """

    def __init__(
        self,
        data_extractor: Callable[[Iuv], npt.NDArray[Any]],
        segm_extractor: Callable[[Iuv], npt.NDArray[Any]],
        inplace: bool = True,
        cmap: int = BLUE_TO_YELLOW,
        alpha: float = 0.7,
        val_scale: float = 1.0,
        **kwargs: Any,
    ) -> None:
        self.inplace = inplace
        self.mask_visualizer = MatrixVisualizer(cmap=cmap, val_scale=val_scale, alpha=alpha)
        self.data_extractor = data_extractor
        self.segm_extractor = segm_extractor

    def create_visualization_context(self, image_bgr: Image) -> Image:
        return image_bgr if self.inplace else np.zeros_like(image_bgr)

    def visualize_iuv_arr(self, context: Image, iuv_arr: Iuv, bbox_xywh: Sequence[float] | Tensor) -> None:
        mask = (self.segm_extractor(iuv_arr) > 0).astype(np.uint8)
        self.mask_visualizer.visualize(context, mask, self.data_extractor(iuv_arr), bbox_xywh)


def _charts_of(iuv: Iuv) -> npt.NDArray[Any]:
    return iuv[0]


def _u_of(iuv: Iuv) -> npt.NDArray[Any]:
    return iuv[1]


def _v_of(iuv: Iuv) -> npt.NDArray[Any]:
    return iuv[2]


class DensePoseResultsFineSegmentationVisualizer(DensePoseMaskedColormapResultsVisualizer):
    """Draws charts.

    Args:
        inplace: draw on the image instead of a new black one.
        cmap: OpenCV id of the colour map.
        alpha: opacity, in [0, 1].
        **kwargs: unused.
    """

    def __init__(
        self, inplace: bool = True, cmap: int = BLUE_TO_YELLOW, alpha: float = 0.7, **kwargs: Any
    ) -> None:
        scale = 255.0 / DensePoseDataRelative.N_PART_LABELS
        super().__init__(_charts_of, _charts_of, inplace, cmap, alpha, scale, **kwargs)


class DensePoseResultsUVisualizer(DensePoseMaskedColormapResultsVisualizer):
    """Draws U.

    Args:
        inplace: draw on the image instead of a new black one.
        cmap: OpenCV id of the colour map.
        alpha: opacity, in [0, 1].
        **kwargs: unused.
    """

    def __init__(
        self, inplace: bool = True, cmap: int = BLUE_TO_YELLOW, alpha: float = 0.7, **kwargs: Any
    ) -> None:
        super().__init__(_u_of, _charts_of, inplace, cmap, alpha, **kwargs)


class DensePoseResultsVVisualizer(DensePoseMaskedColormapResultsVisualizer):
    """Draws V.

    Args:
        inplace: draw on the image instead of a new black one.
        cmap: OpenCV id of the colour map.
        alpha: opacity, in [0, 1].
        **kwargs: unused.
    """

    def __init__(
        self, inplace: bool = True, cmap: int = BLUE_TO_YELLOW, alpha: float = 0.7, **kwargs: Any
    ) -> None:
        super().__init__(_v_of, _charts_of, inplace, cmap, alpha, **kwargs)


class DensePoseResultsMplContourVisualizer(DensePoseResultsVisualizer):
    """Draws lines of equal U and equal V with Matplotlib. The image itself is not changed.

    Args:
        levels: number of lines.
        **kwargs: passed to Matplotlib's ``contour``, such as ``linewidths``.
    """

    def __init__(self, levels: int = 10, **kwargs: Any) -> None:
        self.levels = levels
        self.plot_args = kwargs

    def create_visualization_context(self, image_bgr: Image) -> dict[str, Any]:
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                "lines of equal U and V need Matplotlib: pip install 'detectron2[viz]'"
            ) from error
        height, width = image_bgr.shape[:2]
        figure = Figure(figsize=(width / 100, height / 100), dpi=100)
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.imshow(image_bgr[..., ::-1], extent=(0, width, height, 0), interpolation="none")
        axes.set_axis_off()
        return {"image_bgr": image_bgr, "axes": axes, "canvas": canvas}

    def visualize_iuv_arr(
        self, context: dict[str, Any], iuv_arr: Iuv, bbox_xywh: Sequence[float] | Tensor
    ) -> None:
        axes = context["axes"]
        x, y = (int(value) for value in bbox_xywh[:2])
        height, width = iuv_arr.shape[1:]
        if min(height, width) < 2:
            return  # no line can be drawn
        limits = (axes.get_xlim(), axes.get_ylim())
        columns, rows = np.arange(width) + x + 0.5, np.arange(height) + y + 0.5
        for values in iuv_arr[1:] / 255.0:
            axes.contour(columns, rows, values, np.linspace(0, 1, self.levels + 1), **self.plot_args)
        axes.set(xlim=limits[0], ylim=limits[1])

    def context_to_image_bgr(self, context: dict[str, Any]) -> Image:
        canvas = context["canvas"]
        canvas.draw()
        return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., 2::-1])

    def get_image_bgr_from_context(self, context: dict[str, Any]) -> Image:
        return context["image_bgr"]


class DensePoseResultsCustomContourVisualizer(DensePoseResultsVisualizer):
    """Draws lines of equal U and equal V within each chart, coloured by value, without Matplotlib.

    Args:
        levels: number of steps between the lines.
        **kwargs: unused.
    """

    def __init__(self, levels: int = 10, **kwargs: Any) -> None:
        self.levels = levels

    def visualize_iuv_arr(self, context: Image, iuv_arr: Iuv, bbox_xywh: Sequence[float] | Tensor) -> None:
        height, width = iuv_arr.shape[1:]
        place, part = clip_to_image(context, (*bbox_xywh[:2], width, height))
        charts = iuv_arr[0].astype(np.int64)
        for values in iuv_arr[1:]:
            steps = (values.astype(np.int64) * self.levels) // 256
            lines = _borders(charts, steps)[part]
            colors = opencv().applyColorMap(values, BLUE_TO_YELLOW)[part]
            context[place][lines] = colors[lines]


def _borders(charts: npt.NDArray[np.int64], steps: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return the pixels whose step differs from that of the pixel to the right or below, within the same chart."""
    found = np.zeros(charts.shape, dtype=bool)
    for here, there in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        same_chart = (charts[here] == charts[there]) & (charts[here] > 0)
        found[here] |= same_chart & (steps[here] != steps[there])
    return found


_WITH_MATPLOTLIB = importlib.util.find_spec("matplotlib") is not None
DensePoseResultsContourVisualizer: type[DensePoseResultsVisualizer] = (
    DensePoseResultsMplContourVisualizer if _WITH_MATPLOTLIB else DensePoseResultsCustomContourVisualizer
)
"""draws with Matplotlib if it is installed"""
