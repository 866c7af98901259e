"""The single strokes of a ``Visualizer``: boxes, polygons, masks, lines, circles and text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from detectron2.data import Metadata
from detectron2.utils.errors import BadValue

from .canvas import VisImage
from .colors import Color, ColorLike, change_brightness, palette_color, readable_on_dark, to_rgb
from .masks import bounds, edge_pixels, label_points
from .text import SMALLEST_LETTERS

OFF_WHITE = (1.0, 1.0, 240.0 / 255)
LABEL_BRIGHTNESS = 0.4  # by which the letters of a label are lighter than its object
_OBJECT_SHARE = 0.08  # widest outline of a box, of its shorter side
_THINNEST = 1.5  # outline of the smallest boxes, in pixels of the output
_LETTER_SHARES = (1.0, 0.8, 0.64)  # sizes that are tried for a label, of the wanted one


class Primitives:
    """Draws onto ``self.output``. Every method returns the picture, so that calls can be chained.

    Attributes:
        output: the picture.
        metadata: of the data set: ``keypoint_names``, ``keypoint_connection_rules`` are read here.
        keypoint_threshold: keypoints of this score or less are not drawn.
    """

    keypoint_threshold: float = 0.05

    output: VisImage
    metadata: Metadata
    _default_font_size: float

    def _line_width(self, shorter_side: float | None = None) -> float:
        """Return the width of outlines in pixels of the output, which grows with the picture.

        Args:
            shorter_side: of the object in pixels of the image; small ones have thinner outlines.
        """
        width = max(1.0, 0.16 * self._default_font_size * self.output.scale)
        if shorter_side is None:
            return width
        return min(width, max(_OBJECT_SHARE * shorter_side * self.output.scale, _THINNEST))

    def draw_text(
        self,
        text: str,
        position: Sequence[float],
        *,
        font_size: float | None = None,
        color: ColorLike = "g",
        horizontal_alignment: str = "center",
        rotation: float = 0,
    ) -> VisImage:
        """Write on a dark ground.

        Args:
            text: what to write.
            position: ``(x, y)`` of the upper edge.
            font_size: in pixels of the image; None for a size that suits the image.
            color: of the letters; lightened where it could not be read.
            horizontal_alignment: what of the text lies at x: ``left``, ``center`` or ``right``.
            rotation: degrees, counter-clockwise.
        """
        size = (self._default_font_size if font_size is None else font_size) * self.output.scale
        self.output.text(text, position, readable_on_dark(color), size, horizontal_alignment, rotation)
        return self.output

    def draw_box(
        self,
        box_coord: Sequence[float],
        alpha: float = 0.5,
        edge_color: ColorLike = "g",
        line_style: str = "-",
    ) -> VisImage:
        """Draw the outline of a box.

        Args:
            box_coord: XYXY in pixels.
            alpha: opacity.
            edge_color: colour of the outline.
            line_style: ``-``, ``--``, ``:`` or ``-.``.
        """
        x0, y0, x1, y1 = (float(v) for v in box_coord)
        width = self._line_width(min(abs(x1 - x0), abs(y1 - y0)))
        x0, y0, x1, y1 = self._inset((x0, y0, x1, y1), width / 2 / self.output.scale)
        if line_style == "-":
            self.output.rectangle((x0, y0, x1, y1), edge_color, alpha, width)
        else:
            corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
            self.output.stroke(corners, edge_color, alpha, width, line_style, closed=True)
        return self.output

    def _inset(
        self, box: tuple[float, float, float, float], half: float
    ) -> tuple[float, float, float, float]:
        """Move sides that lie on the picture's border inwards, so that the whole width of their lines shows.

        Args:
            box: XYXY.
            half: half the width of a line in pixels of the image.
        """
        x0, y0, x1, y1 = box
        right, bottom = self.output.width - half, self.output.height - half
        x0, y0 = (half if 0 <= v < half else v for v in (x0, y0))
        x1 = right if right < x1 <= self.output.width else x1
        y1 = bottom if bottom < y1 <= self.output.height else y1
        return x0, y0, x1, y1

    def draw_rotated_box_with_label(
        self,
        rotated_box: Sequence[float],
        alpha: float = 0.5,
        edge_color: ColorLike = "g",
        line_style: str = "-",
        label: str | None = None,
    ) -> VisImage:
        """Draw the outline of a rotated box; the edge that was the upper one before rotation is dashed.

        Args:
            rotated_box: centre x, centre y, width, height, angle in degrees counter-clockwise.
            alpha: opacity.
            edge_color: colour of the outline.
            line_style: of the other three edges.
            label: text at the corner that was the upper left one before rotation, or at another one that is free.
        """
        cx, cy, w, h, angle = (float(v) for v in rotated_box)
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        offsets = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2  # clockwise from the upper left
        turned = offsets @ np.array([[cos, -sin], [sin, cos]]) + [cx, cy]
        width = self._line_width(min(w, h))
        for k in range(4):
            style = "--" if k == 0 else line_style
            edge = turned[[k, (k + 1) % 4]]
            self.output.stroke(edge, edge_color, alpha, width, style)
        if label is not None:
            upright = (angle + 90) % 180 - 90  # letters never stand on their heads
            self._write_at(label, turned, edge_color, self._default_font_size, upright)
        return self.output

    def draw_polygon(
        self,
        segment: npt.ArrayLike,
        color: ColorLike,
        edge_color: ColorLike | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Fill a polygon and draw its outline.

        Args:
            segment: corners ``[N, 2]`` (x, y).
            color: of the area.
            edge_color: of the outline; None for the same colour (a darker one where the area is nearly opaque).
            alpha: opacity of the area.
        """
        if edge_color is None:
            edge_color = self._change_color_brightness(color, -0.7) if alpha > 0.8 else color
        points = np.asarray(segment, dtype=np.float64).reshape(-1, 2)
        self.output.fill_polygon(points, color, alpha)
        self.output.stroke(points, edge_color, 1.0, max(1.0, 0.5 * self._line_width()), closed=True)
        return self.output

    def draw_line(
        self,
        x_data: Sequence[float],
        y_data: Sequence[float],
        color: ColorLike,
        linestyle: str = "-",
        linewidth: float | None = None,
    ) -> VisImage:
        """Draw a line through points.

        Args:
            x_data: x of the points.
            y_data: y of the points.
            color: of the line.
            linestyle: ``-``, ``--``, ``:`` or ``-.``.
            linewidth: in pixels of the image; None for a width that suits the image.
        """
        width = self._line_width() if linewidth is None else max(linewidth * self.output.scale, 1.0)
        self.output.stroke(np.stack([x_data, y_data], axis=1), color, 1.0, width, linestyle)
        return self.output

    def draw_track(self, points: npt.ArrayLike, color: ColorLike, linewidth: float | None = None) -> VisImage:
        """Draw the way of an object through earlier frames; it fades with age.

        Args:
            points: ``[N, 2]`` (x, y), the oldest first.
            color: of the line.
            linewidth: in pixels of the image; None for a width that suits the image.
        """
        width = self._line_width() if linewidth is None else max(linewidth * self.output.scale, 1.0)
        way = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        for k in range(len(way) - 1):
            self.output.stroke(way[k : k + 2], color, 0.1 + 0.9 * (k + 1) / (len(way) - 1), width)
        if len(way):
            self.draw_circle(way[-1].tolist(), color, radius=width / self.output.scale)
        return self.output

    def draw_circle(self, circle_coord: Sequence[float], color: ColorLike, radius: float = 3) -> VisImage:
        """Draw a filled circle.

        Args:
            circle_coord: ``(x, y)`` of the centre.
            color: of the area.
            radius: in pixels of the image.
        """
        self.output.disc(circle_coord, color, 1.0, max(radius * self.output.scale, 1.0))
        return self.output

    def draw_binary_mask(
        self,
        binary_mask: npt.NDArray,
        color: ColorLike | None = None,
        *,
        edge_color: ColorLike | None = None,
        text: str | None = None,
        alpha: float = 0.5,
        area_threshold: float | None = 10,
    ) -> VisImage:
        """Colour the pixels of a mask and outline them.

        Args:
            binary_mask: ``[height, width]`` like the image.
            color: of the area; None for the first of the palette.
            edge_color: of the outline; None for the colour of the area.
            text: written into the middle of the mask.
            alpha: opacity of the area.
            area_threshold: masks of fewer pixels are not drawn; None for no limit.
        """
        mask = np.asarray(binary_mask)
        mask = mask if mask.dtype == np.bool_ else mask != 0
        if mask.shape != (self.output.height, self.output.width):
            raise BadValue(
                f"mask must be [{self.output.height}, {self.output.width}] like the image, got {list(mask.shape)}"
            )
        if np.count_nonzero(mask) < (area_threshold or 1):
            return self.output
        color = palette_color(0) if color is None else color
        left, top, right, bottom = bounds(mask)
        inside = mask[top:bottom, left:right]
        padded = np.pad(inside, 1)  # so that the image's border counts as an outline as well
        width = self._line_width(min(right - left, bottom - top)) / 2 / self.output.scale
        edge = edge_pixels(padded, max(round(width), 1))[1:-1, 1:-1]
        self._blend_scaled(inside & ~edge, color, alpha, (left, top))
        self._blend_scaled(
            edge, color if edge_color is None else edge_color, min(1.0, alpha + 0.4), (left, top)
        )
        if text is not None:
            self._draw_text_in_mask(mask, text, self._change_color_brightness(color, LABEL_BRIGHTNESS))
        return self.output

    def draw_soft_mask(
        self,
        soft_mask: npt.NDArray,
        color: ColorLike | None = None,
        *,
        text: str | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Colour the image as strongly as a mask of probabilities says.

        Args:
            soft_mask: ``[height, width]`` in [0, 1].
            color: of the area; None for the first of the palette.
            text: written into the middle of what is above 0.5.
            alpha: opacity at probability 1.
        """
        soft = np.clip(np.asarray(soft_mask, dtype=np.float32), 0, 1)
        color = palette_color(0) if color is None else color
        self._blend_scaled(soft, color, alpha, (0, 0))
        if text is not None:
            self._draw_text_in_mask(soft > 0.5, text, self._change_color_brightness(color, LABEL_BRIGHTNESS))
        return self.output

    def _draw_text_in_mask(self, binary_mask: npt.NDArray, text: str, color: ColorLike) -> None:
        """Write into a mask ``[height, width]``, near its middle where that is free; nothing where it is empty."""
        points = label_points(binary_mask)
        if len(points):
            self._write_at(text, points, color, self._default_font_size, centered=True)

    def _write_at(
        self,
        text: str,
        points: npt.NDArray[np.float64],
        color: ColorLike,
        font_size: float,
        rotation: float = 0,
        centered: bool = False,
    ) -> None:
        """Write at the first of some points ``[N, 2]`` where there is room, in smaller letters where they are needed."""

        def spots(size: tuple[int, int]) -> npt.NDArray[np.float64]:
            places: npt.NDArray[np.float64] = points * self.output.scale
            return places - np.array(size) / 2 if centered else places

        self._write_in_free_place(text, spots, color, font_size, rotation)

    def _write_in_free_place(
        self,
        text: str,
        spots: Callable[[tuple[int, int]], npt.ArrayLike],
        color: ColorLike,
        font_size: float,
        rotation: float = 0,
    ) -> None:
        """Write where no other text stands; leave the text out where there is no such place.

        Args:
            text: what to write.
            spots: from the size of the text to places for its upper left corner, in pixels of the output, best first.
            color: of the letters.
            font_size: in pixels of the image; smaller letters are tried where these find no room.
            rotation: degrees, counter-clockwise.
        """
        scale = self.output.scale
        wanted = font_size * scale
        for letters in dict.fromkeys(max(wanted * share, SMALLEST_LETTERS) for share in _LETTER_SHARES):
            size = self.output.text_size(text, letters, rotation)
            place = self.output.labels.find(spots(size), size)
            if place is not None:
                position = (place[0] / scale, place[1] / scale)
                self.draw_text(
                    text, position, font_size=letters / scale, color=color,
                    horizontal_alignment="left", rotation=rotation,
                )  # fmt: skip
                return

    def _change_color_brightness(self, color: ColorLike, brightness_factor: float) -> Color:
        """Make a colour lighter (factor up to 1) or darker (down to -1); subclasses may differ."""
        return change_brightness(color, brightness_factor)

    def _blend_scaled(
        self, coverage: npt.NDArray, color: ColorLike, alpha: float, origin: tuple[int, int]
    ) -> None:
        """Blend coverage given in pixels of the image."""
        scale = self.output.scale
        if scale == 1.0:
            self.output.blend(coverage, color, alpha, origin)
            return
        h, w = coverage.shape
        x0, y0 = (round(v * scale) for v in origin)
        x1, y1 = round((origin[0] + w) * scale), round((origin[1] + h) * scale)
        sheet = Image.fromarray((coverage.astype(np.float32) * 255).astype(np.uint8))
        resized = sheet.resize((max(x1 - x0, 1), max(y1 - y0, 1)), Image.Resampling.BILINEAR)
        self.output.blend(np.asarray(resized), color, alpha, (x0, y0))

    def draw_and_connect_keypoints(self, keypoints: object) -> VisImage:
        """Keypoints of one instance and the bones between them.

        Args:
            keypoints: ``[K, 3]`` of x, y and score; those that do not exceed ``keypoint_threshold`` are left out.
        """
        points = np.asarray(keypoints, dtype=np.float64).reshape(-1, 3)
        names = self.metadata.get("keypoint_names") or []
        radius = 1.5 * self._line_width() / self.output.scale
        visible: dict[str, tuple[float, float]] = {}
        for k, (x, y, score) in enumerate(points.tolist()):
            if score > self.keypoint_threshold:
                self.draw_circle((x, y), color=(1.0, 0.2, 0.2), radius=radius)
                if k < len(names):
                    visible[names[k]] = (x, y)
        for first, second, color in self.metadata.get("keypoint_connection_rules") or []:
            if first in visible and second in visible:
                (x0, y0), (x1, y1) = visible[first], visible[second]
                self.draw_line([x0, x1], [y0, y1], color=to_rgb(np.asarray(color) / 255.0))
        self._draw_spine(visible)
        return self.output

    def _draw_spine(self, visible: dict[str, tuple[float, float]]) -> None:
        """From the nose to between the shoulders and on to between the hips, which no rule can name."""

        def middle(part: str) -> tuple[float, float] | None:
            ends = [visible.get(f"{side}_{part}") for side in ("left", "right")]
            if ends[0] is None or ends[1] is None:
                return None
            return (ends[0][0] + ends[1][0]) / 2, (ends[0][1] + ends[1][1]) / 2

        chain = [visible.get("nose"), middle("shoulder"), middle("hip")]
        for a, b in itertools.pairwise(chain):
            if a is not None and b is not None:
                self.draw_line([a[0], b[0]], [a[1], b[1]], color=(1.0, 0.2, 0.2))
