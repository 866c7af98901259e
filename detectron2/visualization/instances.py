"""The drawing of instances: boxes, masks, keypoints and labels that make way for one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from detectron2.utils.errors import BadValue

from .canvas import VisImage
from .colors import Color, ColorLike, palette_color, to_rgb
from .labels import as_boxes, as_keypoints, as_masks, frames_around
from .masks import GenericMask, label_points
from .placement import spots_around
from .primitives import LABEL_BRIGHTNESS, Primitives

_SMALL_OBJECT = 1000  # square pixels of the output: the label of a smaller box goes beside it
_LOW_OBJECT = 40  # pixels of the output, likewise
_LABEL_SHARE = 0.72  # of the label's usual size, for the smallest objects
_LETTER_AREA = 0.7  # area that a letter takes with its part of the margins, of the square of its size
_LABELS_PART = 0.25  # part of the picture that labels may cover before they get smaller
_SMALLEST_SHARE = 0.3
_SMALLEST_LABEL = 11  # pixels of the output


class InstanceDrawing(Primitives):
    """Draws many instances at once."""

    def overlay_instances(
        self,
        *,
        boxes: object = None,
        labels: Sequence[str] | None = None,
        masks: object = None,
        keypoints: object = None,
        assigned_colors: Sequence[ColorLike] | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Draw N instances, large ones first. Labels that find no free place beside their objects are left out.

        Args:
            boxes: ``Boxes``, ``RotatedBoxes``, or an array ``[N, 4]`` (XYXY) or ``[N, 5]``.
            labels: n texts.
            masks: ``BitMasks``, ``PolygonMasks``, a tensor ``[N, height, width]``, or a list of polygons, RLE
                dicts, pixel arrays or ``GenericMask``.
            keypoints: ``Keypoints`` or an array ``[N, K, 3]`` of x, y, score.
            assigned_colors: n colours; None for those of the palette.
            alpha: opacity of the masks.

        Raises:
            ValueError: when the parts differ in length.
        """
        boxes = None if boxes is None else self._convert_boxes(boxes)
        masks = None if masks is None else self._convert_masks(masks)
        keypoints = None if keypoints is None else self._convert_keypoints(keypoints)
        parts = {"boxes": boxes, "masks": masks, "keypoints": keypoints, "labels": labels}
        count = _common_length({**parts, "colors": assigned_colors})
        if not count:
            return self.output
        colors = [to_rgb(c) for c in assigned_colors or map(palette_color, range(count))]
        rotated = boxes if boxes is not None and boxes.shape[1] == 5 else None
        upright = boxes if rotated is None else None
        frames = upright if upright is not None else frames_around(masks, keypoints, count)
        order = np.argsort(-np.prod(frames[:, 2:] - frames[:, :2], axis=1), kind="stable").tolist()
        for i in order:
            if upright is not None:
                self.draw_box(upright[i], edge_color=colors[i], alpha=0.9)
            if masks is not None:
                self._draw_mask(masks[i], colors[i], alpha)
        for instance in () if keypoints is None else keypoints:
            self.draw_and_connect_keypoints(instance)
        if rotated is not None:
            return self.overlay_rotated_instances(boxes=rotated, labels=labels, assigned_colors=colors)
        room = self._room_for(labels or ())
        for i, text in enumerate(labels or ()):
            if not text:
                continue
            mask = masks[i] if masks is not None and boxes is None else None
            self._draw_label(text, frames[i], mask, colors[i], room)
        return self.output

    def _room_for(self, labels: Sequence[str]) -> float:
        """Return the share of its usual size that a letter may have, so that many labels find room."""
        size = self._default_font_size
        wanted = sum(map(len, labels)) * _LETTER_AREA * size**2
        room = _LABELS_PART * self.output.width * self.output.height
        return float(np.clip((room / max(wanted, 1.0)) ** 0.5, _SMALLEST_SHARE, 1.0))

    def overlay_rotated_instances(
        self,
        boxes: object = None,
        labels: Sequence[str] | None = None,
        assigned_colors: Sequence[ColorLike] | None = None,
    ) -> VisImage:
        """Draw N rotated boxes, large ones first.

        Args:
            boxes: ``RotatedBoxes`` or an array ``[N, 5]``.
            labels: n texts.
            assigned_colors: n colours; None for those of the palette.
        """
        rotated = np.zeros((0, 5)) if boxes is None else as_boxes(boxes)
        if not len(rotated):
            return self.output
        colors = [to_rgb(c) for c in assigned_colors or map(palette_color, range(len(rotated)))]
        for i in np.argsort(-rotated[:, 2] * rotated[:, 3], kind="stable").tolist():
            label = None if labels is None else labels[i]
            self.draw_rotated_box_with_label(rotated[i], alpha=0.9, edge_color=colors[i], label=label)
        return self.output

    def _draw_mask(self, mask: GenericMask, color: Color, alpha: float) -> None:
        as_polygons = mask._mask is None and len(mask.polygons) == 1
        if (
            as_polygons or type(self).draw_polygon is not Primitives.draw_polygon
        ):  # a subclass draws masks its own way
            for polygon in mask.polygons:
                self.draw_polygon(polygon.reshape(-1, 2), color, alpha=alpha)
        else:
            self.draw_binary_mask(mask.mask, color, alpha=alpha, area_threshold=1)

    def _draw_label(
        self, text: str, frame: npt.NDArray, mask: GenericMask | None, color: Color, room: float
    ) -> None:
        """Label of an instance: in a corner of its box, within its mask, or beside it when it is small."""
        x0, y0, x1, y1 = frame.tolist()
        scale = self.output.scale
        small = (x1 - x0) * (y1 - y0) * scale**2 < _SMALL_OBJECT or (y1 - y0) * scale < _LOW_OBJECT
        share = float(np.clip((y1 - y0) / self.output.height**0.5 / 12, _LABEL_SHARE, 1.0))
        font_size = max(min(share, room) * self._default_font_size, _SMALLEST_LABEL / scale)
        text_color = self._change_color_brightness(color, LABEL_BRIGHTNESS)
        if mask is not None and not small:
            points = label_points(mask.mask)
            if len(points):
                self._write_at(text, points, text_color, font_size, centered=True)
                return
        self._write_in_free_place(
            text, lambda size: spots_around(frame * scale, size, small), text_color, font_size
        )

    # ------------------------------------------------------------------ what subclasses replace

    def _convert_boxes(self, boxes: object) -> npt.NDArray[np.float64]:
        """Convert boxes of any form to ``[N, 4]``, or ``[N, 5]`` when they are rotated."""
        return as_boxes(boxes)

    def _convert_masks(self, masks_or_polygons: object) -> list[GenericMask]:
        """Convert masks of any form to single masks."""
        return as_masks(masks_or_polygons, self.output.height, self.output.width)

    def _convert_keypoints(self, keypoints: object) -> npt.NDArray[np.float64]:
        """Keypoints of any form as ``[N, K, 3]``."""
        return as_keypoints(keypoints)


def _common_length(parts: dict[str, Any]) -> int:
    """Return the number of instances.

    Raises:
        ValueError: when the parts differ.
    """
    lengths = {name: len(part) for name, part in parts.items() if part is not None}
    if len(set(lengths.values())) > 1:
        raise BadValue(f"instances to draw differ in number: {lengths}")
    return next(iter(lengths.values()), 0)
