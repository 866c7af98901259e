"""Drawing of predictions and annotations on an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from detectron2.data import Metadata
from detectron2.data.detection_utils import read_image
from detectron2.structures import Instances
from detectron2.utils.errors import BadValue

from .canvas import VisImage
from .colors import Color, ColorLike, ColorMode, jitter, palette_color, to_rgb
from .instances import InstanceDrawing
from .labels import annotation_box, as_masks, create_text_labels, to_array, with_track_numbers
from .masks import GenericMask
from .panoptic import panoptic_segments, read_panoptic_png
from .primitives import LABEL_BRIGHTNESS, OFF_WHITE

_COLOR_BY = ("instance", "class", "track")
_ALPHA = {ColorMode.IMAGE: 0.5, ColorMode.SEGMENTATION: 0.8, ColorMode.IMAGE_BW: 0.3}


class Visualizer(InstanceDrawing):
    """Draws detections, segmentations and annotations.

    >>> v = Visualizer(image[:, :, ::-1], MetadataCatalog.get("coco_2017_val"))
    >>> out = v.draw_instance_predictions(outputs["instances"].to("cpu"))
    >>> out.save("picture.png")

    Colours are the same in every run: by class in the mode ``SEGMENTATION``, by track where predictions have an ``ID``
    from a tracker, else by the order of the instances.

    Letters and lines grow with the picture. Labels stay inside it, and never lie on one another: those that find no
    free place, even in smaller letters, are left out.

    Attributes:
        img: the image, uint8 RGB ``[height, width, 3]``.
        metadata: of the data set.
        output: the drawing so far.
    """

    def __init__(
        self,
        img_rgb: npt.NDArray,
        metadata: Metadata | None = None,
        scale: float = 1.0,
        instance_mode: ColorMode = ColorMode.IMAGE,
        font_size_scale: float = 1.0,
    ) -> None:
        """
        Args:
            img_rgb: ``[height, width, 3]`` in [0, 255], RGB.
            metadata: ``thing_classes``, ``thing_colors``, ``stuff_classes``, ... None for none.
            scale: size of the output relative to the image.
            instance_mode: how instances are coloured.
            font_size_scale: factor of the letters' size.
        """
        self.metadata = Metadata() if metadata is None else metadata
        self.output = VisImage(img_rgb, scale)
        self.img = self.output.img
        self.cpu_device = torch.device("cpu")
        self._instance_mode = instance_mode
        self._jittered = 0
        height, width = self.img.shape[:2]
        self._default_font_size = max((height * width) ** 0.5 / 45, 11.0 / scale) * font_size_scale

    def get_output(self) -> VisImage:
        """Return the drawing so far."""
        return self.output

    # ------------------------------------------------------------------ predictions

    def draw_instance_predictions(
        self, predictions: Instances, jittering: bool = True, *, color_by: str | None = None
    ) -> VisImage:
        """Draw what a model returned for an image.

        Args:
            predictions: with any of ``pred_boxes``, ``scores``, ``pred_classes``, ``pred_masks``,
                ``pred_keypoints``, and ``ID`` from a tracker.
            jittering: vary class colours from instance to instance (mode ``SEGMENTATION``).
            color_by: ``"instance"``, ``"class"`` or ``"track"``; None for what suits the mode and the predictions.
        """
        if color_by not in (None, *_COLOR_BY):
            raise BadValue(f"color_by must be one of {', '.join(_COLOR_BY)}, got {color_by!r}")
        boxes = predictions.pred_boxes if predictions.has("pred_boxes") else None
        scores = predictions.scores if predictions.has("scores") else None
        classes = predictions.pred_classes.tolist() if predictions.has("pred_classes") else None
        labels = create_text_labels(classes, scores, self.metadata.get("thing_classes"))
        keypoints = predictions.pred_keypoints if predictions.has("pred_keypoints") else None
        masks = None
        if predictions.has("pred_masks"):
            masks = as_masks(predictions.pred_masks, self.output.height, self.output.width)
        if self._instance_mode == ColorMode.IMAGE_BW:
            shown = np.any([m.mask for m in masks], axis=0) if masks else None
            self.output.reset_image(self._create_grayscale_image(shown))
        tracks = [int(i) for i in predictions.ID] if predictions.has("ID") else None
        labels = with_track_numbers(labels, tracks)
        colors = self._colors_by(color_by, classes, tracks, jittering) or self._instance_colors(
            len(predictions)
        )
        return self.overlay_instances(
            boxes=boxes,
            labels=labels,
            masks=masks,
            keypoints=keypoints,
            assigned_colors=colors,
            alpha=_ALPHA[self._instance_mode],
        )

    def draw_sem_seg(
        self,
        sem_seg: object,
        area_threshold: float | None = None,
        alpha: float = 0.8,
        draw_text: bool = True,
        edge_color: ColorLike = OFF_WHITE,
    ) -> VisImage:
        """Draw a class map.

        Args:
            sem_seg: ``[height, width]`` of class indices; those beyond the known classes are left out.
            area_threshold: regions of fewer pixels are not drawn.
            alpha: opacity.
            draw_text: write the class names.
            edge_color: colour of the outlines.
        """
        classes_of = to_array(sem_seg)
        names = self.metadata.get("stuff_classes")
        found, areas = np.unique(classes_of, return_counts=True)
        shown = [
            label
            for label in found[np.argsort(-areas, kind="stable")].tolist()
            if label >= 0 and (names is None or label < len(names))
        ]
        regions = [(label, label) for label in shown]
        drawn = self._draw_regions(classes_of, regions, alpha, area_threshold, edge_color)
        if draw_text:
            self._name_regions(classes_of, drawn)
        return self.output

    def _draw_regions(
        self,
        ids: npt.NDArray,
        regions: Sequence[tuple[int, int]],
        alpha: float,
        area_threshold: float | None,
        edge_color: ColorLike,
    ) -> list[tuple[int, int]]:
        """Draw regions of stuff, as pairs of their id in the map and their class; return those that are large enough."""
        least = area_threshold or 1
        drawn = [(i, category) for i, category in regions if np.count_nonzero(ids == i) >= least]
        for i, category in drawn:
            color = self._palette_of("stuff_colors", category)
            self.draw_binary_mask(ids == i, color, edge_color=edge_color, alpha=alpha, area_threshold=least)
        return drawn

    def _name_regions(self, ids: npt.NDArray, regions: Sequence[tuple[int, int]]) -> None:
        """Write the classes of regions into them, after all are drawn, so that none covers the name of another."""
        names = self.metadata.get("stuff_classes")
        for i, category in regions:
            text = names[category] if names is not None and category < len(names) else str(category)
            color = self._change_color_brightness(
                self._palette_of("stuff_colors", category), LABEL_BRIGHTNESS
            )
            self._draw_text_in_mask(ids == i, text, color)

    def draw_panoptic_seg(
        self,
        panoptic_seg: object,
        segments_info: Sequence[Mapping[str, Any]] | None,
        area_threshold: float | None = None,
        alpha: float = 0.7,
    ) -> VisImage:
        """Draw a panoptic segmentation: stuff first, then things.

        Args:
            panoptic_seg: ``[height, width]`` of segment ids.
            segments_info: dicts with ``id``, ``category_id``, ``isthing`` and perhaps ``score``; None when
                ids follow ``label_divisor`` of the metadata.
            area_threshold: stuff of fewer pixels is not drawn.
            alpha: opacity.
        """
        ids = to_array(panoptic_seg)
        segments = panoptic_segments(ids, segments_info, self.metadata)
        categories = [int(s["category_id"]) for s in segments if s["isthing"]]
        colors = [
            self._jitter(self._palette_of("thing_colors", c))
            if self.metadata.get("thing_colors")
            else palette_color(k)
            for k, c in enumerate(categories)
        ]
        return self._draw_segments(ids, segments, colors, area_threshold, alpha)

    def _draw_segments(
        self,
        ids: npt.NDArray,
        segments: Sequence[Mapping[str, Any]],
        thing_colors: Sequence[ColorLike],
        area_threshold: float | None,
        alpha: float,
    ) -> VisImage:
        """Draw panoptic segments: stuff first, then things in the given colours."""
        if self._instance_mode == ColorMode.IMAGE_BW:
            self.output.reset_image(self._create_grayscale_image(np.isin(ids, [s["id"] for s in segments])))
        stuff = [(s["id"], int(s["category_id"])) for s in segments if not s["isthing"]]
        stuff = self._draw_regions(ids, stuff, alpha, area_threshold, OFF_WHITE)
        things = [s for s in segments if s["isthing"]]
        scores = [s["score"] for s in things] if all("score" in s for s in things) else None
        labels = create_text_labels(
            [int(s["category_id"]) for s in things],
            scores,
            self.metadata.get("thing_classes"),
            [s.get("iscrowd", 0) for s in things],
        )
        masks = [GenericMask(ids == s["id"], *ids.shape) for s in things]
        self.overlay_instances(masks=masks, labels=labels, assigned_colors=thing_colors, alpha=alpha)
        self._name_regions(ids, stuff)
        return self.output

    draw_panoptic_seg_predictions = draw_panoptic_seg

    # ------------------------------------------------------------------ annotations

    def draw_dataset_dict(self, dic: Mapping[str, Any]) -> VisImage:
        """Draw the annotations of an image: instances, class map or panoptic segments.

        Args:
            dic: a data set dict in the standard format.
        """
        annotations = dic.get("annotations")
        if annotations:
            self._draw_annotations(annotations)
        sem_seg = dic.get("sem_seg")
        if sem_seg is None and "sem_seg_file_name" in dic:
            sem_seg = read_image(dic["sem_seg_file_name"])
            sem_seg = np.asarray(sem_seg).reshape(np.asarray(sem_seg).shape[:2])
        if sem_seg is not None:
            self.draw_sem_seg(sem_seg, area_threshold=0, alpha=0.5)
        pan_seg = dic.get("pan_seg")
        if pan_seg is None and "pan_seg_file_name" in dic:
            pan_seg = read_panoptic_png(dic["pan_seg_file_name"])
        if pan_seg is not None:
            self.draw_panoptic_seg(pan_seg, dic["segments_info"], area_threshold=0, alpha=0.5)
        return self.output

    def _draw_annotations(self, annotations: Sequence[Mapping[str, Any]]) -> None:
        masks: list[GenericMask] | None = None
        if all("segmentation" in a for a in annotations):
            masks = as_masks([a["segmentation"] for a in annotations], self.output.height, self.output.width)
        keypoints = None
        if all("keypoints" in a for a in annotations):
            keypoints = np.array([a["keypoints"] for a in annotations], dtype=np.float64)
            keypoints = keypoints.reshape(len(annotations), -1, 3)
        boxes = None
        if all("bbox" in a for a in annotations):
            boxes = np.array([annotation_box(a) for a in annotations], dtype=np.float64)
        classes = [a["category_id"] for a in annotations]
        crowds = [a.get("iscrowd", 0) for a in annotations]
        labels = create_text_labels(classes, None, self.metadata.get("thing_classes"), crowds)
        colors = self._colors_by(None, classes, None, True) or self._instance_colors(len(annotations))
        self.overlay_instances(
            labels=labels, boxes=boxes, masks=masks, keypoints=keypoints, assigned_colors=colors, alpha=0.5
        )

    # ------------------------------------------------------------------ what subclasses replace

    def _jitter(self, color: Any) -> Color:
        """Return a shade near ``color``; another one at each call, the same ones in each run."""
        self._jittered += 1
        return jitter(color, self._jittered - 1)

    def _create_grayscale_image(self, mask: npt.NDArray | None = None) -> npt.NDArray[np.uint8]:
        """Return the image, grey except where ``mask`` holds."""
        grey = np.rint(self.img.astype(np.float32).mean(axis=2, keepdims=True)).astype(np.uint8)
        result = np.repeat(grey, 3, axis=2)
        if mask is not None:
            result[mask] = self.img[mask]
        return result

    # ------------------------------------------------------------------ colours

    def _instance_colors(self, count: int) -> list[Color]:
        return [palette_color(k) for k in range(count)]

    def _colors_by(
        self,
        color_by: str | None,
        classes: Sequence[int] | None,
        tracks: Sequence[int] | None,
        jittering: bool,
    ) -> list[Color] | None:
        """Return the colours of classes or tracks where they are asked for and known; None for those of instances."""
        by_mode = self._instance_mode == ColorMode.SEGMENTATION
        if classes is not None and (color_by == "class" or (color_by is None and by_mode)):
            colors = [self._palette_of("thing_colors", int(c)) for c in classes]
            return [self._jitter(c) for c in colors] if jittering and by_mode else colors
        if tracks is not None and color_by in (None, "track"):
            return [palette_color(i) for i in tracks]
        return None

    def _palette_of(self, key: str, index: int) -> Color:
        """Return the colour of a class: from the metadata (0 to 255), else from the palette."""
        colors = self.metadata.get(key)
        if colors and index < len(colors):
            return to_rgb(np.asarray(colors[index], dtype=np.float64) / 255)
        return palette_color(index)
