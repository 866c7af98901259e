"""Visualizers of basic elements: matrices over boxes, rectangles, points, text.

Images are uint8 BGR arrays (H, W, 3). Unless stated otherwise, visualizers draw on them in place and return them.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .drawing import BLUE_TO_YELLOW, Image, blend, clip_to_image, opencv

__all__ = [
    "CompoundVisualizer",
    "MatrixVisualizer",
    "PointsVisualizer",
    "RectangleVisualizer",
    "TextVisualizer",
]

logger = logging.getLogger(__name__)

_GREEN = (18, 127, 15)
_GREY = (218, 227, 218)
_WHITE = (255, 255, 255)

Color = Sequence[int]


class MatrixVisualizer:
    """Draws a matrix over a box in the colours of a colour map.

    Args:
        inplace: draw on the image instead of a new black one.
        cmap: OpenCV id of the colour map.
        val_scale: factor from the values to the range 0..255 of the colour map.
        alpha: opacity, in [0, 1].
        interp_method_matrix: OpenCV id of the interpolation of the matrix.
        interp_method_mask: OpenCV id of the interpolation of the mask.
    """

    def __init__(
        self,
        inplace: bool = True,
        cmap: int = BLUE_TO_YELLOW,
        val_scale: float = 1.0,
        alpha: float = 0.7,
        interp_method_matrix: int = 1,
        interp_method_mask: int = 0,
    ) -> None:
        self.inplace = inplace
        self.cmap = cmap
        self.val_scale = val_scale
        self.alpha = alpha
        self.interp_method_matrix = interp_method_matrix
        self.interp_method_mask = interp_method_mask

    def visualize(self, image_bgr: Image, mask: Any, matrix: Any, bbox_xywh: Iterable[float]) -> Image:
        """Draw a matrix.

        Args:
            image_bgr: image.
            mask: uint8 array (h, w); nothing is drawn where it is 0.
            matrix: array (h, w) of values.
            bbox_xywh: position, which may extend beyond the image. Both arrays are resized to it.

        Returns:
            The image with the matrix; the unchanged image for an empty box.
        """
        if mask.shape != matrix.shape or mask.ndim != 2:
            raise ValueError(
                f"mask and matrix must have the same shape (h, w), got {mask.shape} and {matrix.shape}"
            )
        _, _, width, height = (int(value) for value in bbox_xywh)
        if width <= 0 or height <= 0:
            return image_bgr
        cv2 = opencv()
        size = (width, height)
        if mask.shape != size[::-1]:
            mask = cv2.resize(mask, size, interpolation=self.interp_method_mask)
            matrix = cv2.resize(matrix, size, interpolation=self.interp_method_matrix)
        values = matrix.astype(np.float32) * self.val_scale
        if values.max() > 255.001:
            logger.warning("Values up to %.1f exceed 255, the end of the colour map", values.max())
        colors = cv2.applyColorMap(values.clip(0, 255).astype(np.uint8), self.cmap)
        target = image_bgr if self.inplace else np.zeros_like(image_bgr)
        place, part = clip_to_image(target, bbox_xywh)
        blend(target, place, colors[part], self.alpha * (mask[part] > 0)[..., None])
        return target


class RectangleVisualizer:
    """Draws the outline of a box.

    Args:
        color: blue, green and red.
        thickness: line width, in pixels.
    """

    def __init__(self, color: Color = _GREEN, thickness: int = 1) -> None:
        self.color = color
        self.thickness = thickness

    def visualize(
        self,
        image_bgr: Image,
        bbox_xywh: Iterable[float],
        color: Color | None = None,
        thickness: int | None = None,
    ) -> Image:
        """Draw a box, truncated to integers.

        Args:
            image_bgr: image.
            bbox_xywh: the box.
            color: overrides the default colour.
            thickness: overrides the default thickness.
        """
        x, y, w, h = (int(value) for value in bbox_xywh)
        color, thickness = color or self.color, thickness or self.thickness
        opencv().rectangle(image_bgr, (x, y), (x + w, y + h), tuple(color), thickness)
        return image_bgr


class PointsVisualizer:
    """Draws points as discs.

    Args:
        color_bgr: blue, green and red.
        r: radius, in pixels.
    """

    def __init__(self, color_bgr: Color = _GREEN, r: int = 5) -> None:
        self.color_bgr = color_bgr
        self.r = r

    def visualize(
        self,
        image_bgr: Image,
        pts_xy: Iterable[Any],
        colors_bgr: Sequence[Color] | None = None,
        rs: Sequence[int] | None = None,
    ) -> Image:
        """Draw points.

        Args:
            image_bgr: image.
            pts_xy: pairs x and y, rounded to integers.
            colors_bgr: one colour per point, overriding the default.
            rs: one radius per point, overriding the default.
        """
        cv2 = opencv()
        for i, (x, y) in enumerate(pts_xy):
            color = self.color_bgr if colors_bgr is None else colors_bgr[i]
            radius = self.r if rs is None else rs[i]
            center = (round(float(x)), round(float(y)))
            cv2.circle(image_bgr, center, int(radius), tuple(int(c) for c in color), -1)
        return image_bgr


class TextVisualizer:
    """Draws a line of text, with optional frame and background.

    Args:
        font_face: OpenCV id of the font.
        font_color_bgr: colour of the text.
        font_scale: scale relative to the font's base size.
        font_line_type: OpenCV id of the line type.
        font_line_thickness: line width, in pixels.
        fill_color_bgr: colour of the background.
        fill_color_transparency: 0 = opaque background, 1 = none.
        frame_color_bgr: colour of the frame.
        frame_color_transparency: 0 = opaque frame, 1 = none.
        frame_thickness: line width of the frame, in pixels.
    """

    def __init__(
        self,
        font_face: int = 0,
        font_color_bgr: Color = _GREY,
        font_scale: float = 0.35,
        font_line_type: int = 16,
        font_line_thickness: int = 1,
        fill_color_bgr: Color = _WHITE,
        fill_color_transparency: float = 1.0,
        frame_color_bgr: Color = _WHITE,
        frame_color_transparency: float = 1.0,
        frame_thickness: int = 1,
    ) -> None:
        self.font_face = font_face
        self.font_color_bgr = font_color_bgr
        self.font_scale = font_scale
        self.font_line_type = font_line_type
        self.font_line_thickness = font_line_thickness
        self.fill_color_bgr = fill_color_bgr
        self.fill_color_transparency = fill_color_transparency
        self.frame_color_bgr = frame_color_bgr
        self.frame_color_transparency = frame_color_transparency
        self.frame_thickness = frame_thickness

    def visualize(self, image_bgr: Image, txt: str, topleft_xy: Any) -> Image:
        """Draw text.

        Args:
            image_bgr: image.
            txt: the text.
            topleft_xy: top left corner, truncated to integers.
        """
        x, y = (int(value) for value in topleft_xy)
        width, height = self.get_text_size_wh(txt)
        for margin, color, transparency in (
            (self.frame_thickness, self.frame_color_bgr, self.frame_color_transparency),
            (0, self.fill_color_bgr, self.fill_color_transparency),
        ):
            if transparency < 1.0:
                box = (x - margin, y - margin, width + 2 * margin, height + 2 * margin)
                place, _ = clip_to_image(image_bgr, box)
                blend(image_bgr, place, color, 1.0 - transparency)
        opencv().putText(
            image_bgr,
            txt,
            (x, y + height),  # OpenCV counts from the lower left corner
            self.font_face,
            self.font_scale,
            tuple(self.font_color_bgr),
            self.font_line_thickness,
            self.font_line_type,
        )
        return image_bgr

    def get_text_size_wh(self, txt: str) -> tuple[int, int]:
        """Return width and height of a text, in pixels."""
        size, _ = opencv().getTextSize(txt, self.font_face, self.font_scale, self.font_line_thickness)
        return size


class CompoundVisualizer:
    """Draws with several visualizers, one after the other.

    Args:
        visualizers: objects with ``visualize(image_bgr, data)``.
    """

    def __init__(self, visualizers: Sequence[Any]) -> None:
        self.visualizers = visualizers

    def visualize(self, image_bgr: Image, data: Sequence[Any]) -> Image:
        """Draw with all visualizers.

        Args:
            image_bgr: image.
            data: one entry per visualizer.
        """
        if len(data) != len(self.visualizers):
            raise ValueError(f"expected data for {len(self.visualizers)} visualizers, got {len(data)}")
        for visualizer, entry in zip(self.visualizers, data):
            image_bgr = visualizer.visualize(image_bgr, entry)
        return image_bgr

    def __str__(self) -> str:
        return f"CompoundVisualizer({', '.join(type(v).__name__ for v in self.visualizers)})"
