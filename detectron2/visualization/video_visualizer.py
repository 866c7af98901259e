"""Drawing on successive frames, with colours that stay with their objects."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detectron2.data import Metadata
from detectron2.structures import Instances
from detectron2.utils.colormap import random_color, random_colors

from .canvas import VisImage
from .colors import Color, ColorMode, palette_color
from .labels import as_boxes, as_masks, create_text_labels, to_array, with_track_numbers
from .panoptic import panoptic_segments
from .visualizer import Visualizer

__all__ = ["ColorMode", "Instances", "VideoVisualizer", "Visualizer", "random_color", "random_colors"]

_MATCH = 0.6  # IoU of boxes in successive frames that makes them one object
_MATCH_MASK = 0.5
_MEMORY = 8  # frames for which an unseen object keeps its colour


@dataclass
class _DetectedInstance:
    """An object of an earlier frame.

    Attributes:
        label: its class.
        bbox: XYXY, or None when it has a mask.
        mask_rle: its mask as COCO RLE, or None.
        color: the colour it was drawn in.
        ttl: frames for which it is still remembered.
    """

    label: int
    bbox: npt.NDArray | None
    mask_rle: dict[str, Any] | None
    color: Color | None
    ttl: int


class VideoVisualizer:
    """Draws predictions frame by frame. An object is known again by class and overlap, or by its ``ID``."""

    def __init__(
        self, metadata: Metadata, instance_mode: ColorMode = ColorMode.IMAGE, *, trail: int = 0
    ) -> None:
        """
        Args:
            metadata: of the data set.
            instance_mode: ``IMAGE`` or ``IMAGE_BW``; ``SEGMENTATION`` colours by class, so that nothing need be
                remembered.
            trail: frames for which the way of each object with an ``ID`` is drawn behind it.
        """
        self.metadata = metadata
        self._instance_mode = instance_mode
        self._old_instances: list[_DetectedInstance] = []
        self._used = 0
        self._trail = trail
        self._ways: dict[int, deque[tuple[float, float]]] = {}

    def draw_instance_predictions(self, frame: npt.NDArray, predictions: Instances) -> VisImage:
        """Draw detections on a frame.

        Args:
            frame: ``[height, width, 3]`` RGB in [0, 255].
            predictions: as for :meth:`Visualizer.draw_instance_predictions`; with ``ID`` (one per instance, from a
                tracker) colours follow it, with ``COLOR`` they are given.
        """
        visualizer = Visualizer(frame, self.metadata, instance_mode=self._instance_mode)
        if not len(predictions):
            self._forget()
            return visualizer.output
        if self._instance_mode == ColorMode.SEGMENTATION:
            return visualizer.draw_instance_predictions(predictions, jittering=False)
        boxes = predictions.pred_boxes if predictions.has("pred_boxes") else None
        classes = (
            predictions.pred_classes.tolist() if predictions.has("pred_classes") else [0] * len(predictions)
        )
        scores = predictions.scores if predictions.has("scores") else None
        keypoints = predictions.pred_keypoints if predictions.has("pred_keypoints") else None
        masks = predictions.pred_masks if predictions.has("pred_masks") else None
        generic = None if masks is None else as_masks(masks, *np.asarray(frame).shape[:2])
        if predictions.has("COLOR"):
            colors = list(predictions.COLOR)
        elif predictions.has("ID"):
            colors = self._assign_colors_by_id(predictions)
        else:
            corners = None if boxes is None else as_boxes(boxes)
            pixels = None if generic is None else [m.mask for m in generic]
            colors = self._assign_colors(_remembered_form(classes, corners, pixels))
        if self._instance_mode == ColorMode.IMAGE_BW:
            shown = np.any([m.mask for m in generic], axis=0) if generic else None
            visualizer.output.reset_image(visualizer._create_grayscale_image(shown))
        tracks = [int(i) for i in predictions.ID] if predictions.has("ID") else None
        labels = create_text_labels(
            classes if predictions.has("pred_classes") else None, scores, self.metadata.get("thing_classes")
        )
        labels = with_track_numbers(labels, tracks)
        if tracks is not None and boxes is not None and self._trail > 0:
            self._draw_ways(visualizer, tracks, as_boxes(boxes), colors)
        # with masks and boxes and labels a moving picture is hard to read: masks alone outline an object already
        return visualizer.overlay_instances(
            boxes=None if generic is not None else boxes,
            masks=generic,
            labels=labels,
            keypoints=keypoints,
            assigned_colors=colors,
            alpha=0.3 if self._instance_mode == ColorMode.IMAGE_BW else 0.5,
        )

    def draw_sem_seg(
        self, frame: npt.NDArray, sem_seg: object, area_threshold: float | None = None
    ) -> VisImage:
        """Draw a class map on a frame.

        Args:
            frame: ``[height, width, 3]`` RGB.
            sem_seg: ``[height, width]`` of classes.
            area_threshold: smaller regions are not drawn.
        """
        visualizer = Visualizer(frame, self.metadata)
        visualizer.draw_sem_seg(to_array(sem_seg), area_threshold=area_threshold)
        return visualizer.output

    def draw_panoptic_seg_predictions(
        self,
        frame: npt.NDArray,
        panoptic_seg: object,
        segments_info: Sequence[Mapping[str, Any]],
        area_threshold: float | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Draw a panoptic segmentation on a frame; things keep their colours.

        Args:
            frame: ``[height, width, 3]`` RGB.
            panoptic_seg: ``[height, width]`` of segment ids.
            segments_info: see :meth:`Visualizer.draw_panoptic_seg`.
            area_threshold: smaller regions of stuff are not drawn.
            alpha: opacity.
        """
        visualizer = Visualizer(frame, self.metadata, instance_mode=self._instance_mode)
        ids = to_array(panoptic_seg)
        segments = panoptic_segments(ids, segments_info, self.metadata)
        things = [s for s in segments if s["isthing"]]
        colors: list[Color] = []
        if things:
            classes = [int(s["category_id"]) for s in things]
            colors = self._assign_colors(_remembered_form(classes, None, [ids == s["id"] for s in things]))
        else:
            self._forget()
        return visualizer._draw_segments(ids, segments, colors, area_threshold, alpha)

    # ------------------------------------------------------------------ memory

    def _draw_ways(
        self, visualizer: Visualizer, tracks: Sequence[int], boxes: npt.NDArray, colors: Sequence[Color]
    ) -> None:
        """Remember where the tracks are, and draw the ways that brought them there; lost ones are forgotten."""
        centers = boxes[:, :2] if boxes.shape[1] == 5 else (boxes[:, :2] + boxes[:, 2:]) / 2
        here = set(tracks)
        for gone in [track for track in self._ways if track not in here]:
            self._ways[gone].popleft()
            if not self._ways[gone]:
                del self._ways[gone]
        for track, (x, y), color in zip(tracks, centers.tolist(), colors):
            way = self._ways.setdefault(track, deque(maxlen=self._trail + 1))
            way.append((x, y))
            visualizer.draw_track(np.array(way), color)

    def _forget(self) -> None:
        """One more frame without the remembered objects."""
        for old in self._old_instances:
            old.ttl -= 1
        self._old_instances = [old for old in self._old_instances if old.ttl > 0]

    def _assign_colors_by_id(self, instances: Instances) -> list[Color]:
        """Return the colours of objects that a tracker has given an ``ID``."""
        return [palette_color(int(i)) for i in instances.ID]

    def _assign_colors(self, instances: list[_DetectedInstance]) -> list[Color]:
        """Return the colours of this frame's objects: those of earlier ones that they continue, or new ones."""
        new = instances
        overlap = self._overlaps(new)  # [new, old]
        free_old = set(range(len(self._old_instances)))
        for flat in np.argsort(-overlap, axis=None, kind="stable") if overlap.size else ():
            i, j = divmod(int(flat), overlap.shape[1])
            if overlap[i, j] <= 0:
                break
            if new[i].color is None and j in free_old:
                new[i].color = self._old_instances[j].color
                free_old.remove(j)
        colors = []
        for instance in new:
            if instance.color is None:
                instance.color = palette_color(self._used)
                self._used += 1
            colors.append(instance.color)
        self._old_instances = [self._old_instances[j] for j in sorted(free_old)]
        self._forget()
        self._old_instances += new
        return colors

    def _overlaps(self, new: Sequence[_DetectedInstance]) -> npt.NDArray[np.float64]:
        """IoU ``[new, old]`` of masks, else of boxes; 0 for other classes and for too little overlap."""
        old = self._old_instances
        if not old:
            return np.zeros((len(new), 0))
        from pycocotools import mask as mask_util

        if all(o.mask_rle is not None for o in [*new, *old]):
            iou = np.asarray(
                mask_util.iou([n.mask_rle for n in new], [o.mask_rle for o in old], [0] * len(old))
            )
            least = _MATCH_MASK
        elif all(o.bbox is not None and len(o.bbox) == 4 for o in [*new, *old]):
            corners = [np.array([o.bbox for o in part], dtype=np.float64) for part in (new, old)]
            xywh = [np.concatenate([c[:, :2], c[:, 2:] - c[:, :2]], axis=1) for c in corners]
            iou = np.asarray(mask_util.iou(xywh[0], xywh[1], [0] * len(old)))
            least = _MATCH
        else:
            return np.zeros((len(new), len(old)))
        same = np.array([[n.label == o.label for o in old] for n in new])
        return np.where(same & (iou > least), iou, 0.0)


def _remembered_form(classes: Sequence[int], boxes: Any, masks: Any) -> list[_DetectedInstance]:
    from pycocotools import mask as mask_util

    rles = [None] * len(classes)
    if masks is not None:
        rles = [mask_util.encode(np.asfortranarray(m.astype(np.uint8))) for m in masks]
    corners = [None] * len(classes) if boxes is None else list(boxes)
    return [_DetectedInstance(c, b, r, None, _MEMORY) for c, b, r in zip(classes, corners, rles)]
