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
from .labels import (
    annotation_box,
    as_boxes,
    as_keypoints,
    as_masks,
    create_text_labels,
    frames_around,
    to_array,
)
from .masks import GenericMask, label_point
from .panoptic import panoptic_segments, read_panoptic_png
from .primitives import OFF_WHITE, Primitives

_SMALL_OBJECT = 1000  # square pixels of the output: the label of a smaller box goes beside it
_LABEL_SHARE = 0.36  # of the label's usual size, for the smallest objects


class Visualizer(Primitives):
    """Draws detections, segmentations and annotations.

    >>> v = Visualizer(image[:, :, ::-1], MetadataCatalog.get("coco_2017_val"))
    >>> out = v.draw_instance_predictions(outputs["instances"].to("cpu"))
    >>> out.save("picture.png")

    Colours are the same in every run: by class where the metadata name colours and the mode is
    ``SEGMENTATION``, else by the order of the instances.

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

    def draw_instance_predictions(self, predictions: Instances, jittering: bool = True) -> VisImage:
        """Draw what a model returned for an image.

        Args:
            predictions: with any of ``pred_boxes``, ``scores``, ``pred_classes``, ``pred_masks``,
                ``pred_keypoints``.
            jittering: vary class colours from instance to instance (mode ``SEGMENTATION``).
        """
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
        colors = self._class_colors(classes, jittering) or self._instance_colors(len(predictions))
        alpha = {ColorMode.IMAGE: 0.5, ColorMode.SEGMENTATION: 0.8, ColorMode.IMAGE_BW: 0.3}[
            self._instance_mode
        ]
        return self.overlay_instances(
            boxes=boxes, labels=labels, masks=masks, keypoints=keypoints, assigned_colors=colors, alpha=alpha
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
        for label in found[np.argsort(-areas, kind="stable")].tolist():
            if label < 0 or (names is not None and label >= len(names)):
                continue
            self.draw_binary_mask(
                classes_of == label,
                color=self._palette_of("stuff_colors", label),
                edge_color=edge_color,
                text=(names[label] if names is not None else str(label)) if draw_text else None,
                alpha=alpha,
                area_threshold=area_threshold,
            )
        return self.output

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
        if self._instance_mode == ColorMode.IMAGE_BW:
            self.output.reset_image(self._create_grayscale_image(np.isin(ids, [s["id"] for s in segments])))
        names = self.metadata.get("stuff_classes")
        for segment in (s for s in segments if not s["isthing"]):
            category = int(segment["category_id"])
            known = names is not None and category < len(names)
            self.draw_binary_mask(
                ids == segment["id"],
                color=self._palette_of("stuff_colors", category),
                edge_color=OFF_WHITE,
                text=names[category] if known else str(category),
                alpha=alpha,
                area_threshold=area_threshold,
            )
        things = [s for s in segments if s["isthing"]]
        if not things:
            return self.output
        categories = [int(s["category_id"]) for s in things]
        scores = [s["score"] for s in things] if all("score" in s for s in things) else None
        crowds = [s.get("iscrowd", 0) for s in things]
        labels = create_text_labels(categories, scores, self.metadata.get("thing_classes"), crowds)
        masks = [GenericMask(ids == s["id"], *ids.shape) for s in things]
        colors = [
            self._jitter(self._palette_of("thing_colors", c))
            if self.metadata.get("thing_colors")
            else palette_color(k)
            for k, c in enumerate(categories)
        ]
        return self.overlay_instances(masks=masks, labels=labels, assigned_colors=colors, alpha=alpha)

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
        colors = self._class_colors(classes, True) or self._instance_colors(len(annotations))
        self.overlay_instances(
            labels=labels, boxes=boxes, masks=masks, keypoints=keypoints, assigned_colors=colors, alpha=0.5
        )

    # ------------------------------------------------------------------ instances

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
        """Draw N instances, large ones first.

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
        parts = {
            "boxes": boxes,
            "masks": masks,
            "keypoints": keypoints,
            "labels": labels,
            "colors": assigned_colors,
        }
        lengths = {name: len(part) for name, part in parts.items() if part is not None}
        if len(set(lengths.values())) > 1:
            raise BadValue(f"instances to draw differ in number: {lengths}")
        count = next(iter(lengths.values()), 0)
        if not count:
            return self.output
        colors = (
            [palette_color(k) for k in range(count)] if assigned_colors is None else list(assigned_colors)
        )
        if boxes is not None and boxes.shape[1] == 5:
            return self.overlay_rotated_instances(boxes=boxes, labels=labels, assigned_colors=colors)
        frames = boxes if boxes is not None else frames_around(masks, keypoints, count)
        order = np.argsort(-np.prod(frames[:, 2:] - frames[:, :2], axis=1), kind="stable").tolist()
        for i in order:
            if boxes is not None:
                self.draw_box(boxes[i], edge_color=to_rgb(colors[i]), alpha=0.9)
            if masks is not None:
                self._draw_mask(masks[i], to_rgb(colors[i]), alpha)
        if keypoints is not None:
            for instance in keypoints:
                self.draw_and_connect_keypoints(instance)
        if labels is not None:
            for i in order:
                mask = masks[i] if masks is not None and boxes is None else None
                self._draw_label(labels[i], frames[i], mask, to_rgb(colors[i]))
        return self.output

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
        colors = assigned_colors if assigned_colors is not None else self._instance_colors(len(rotated))
        for i in np.argsort(-rotated[:, 2] * rotated[:, 3], kind="stable").tolist() if len(rotated) else []:
            label = None if labels is None else labels[i]
            self.draw_rotated_box_with_label(rotated[i], alpha=0.9, edge_color=to_rgb(colors[i]), label=label)
        return self.output

    def _draw_mask(self, mask: GenericMask, color: Color, alpha: float) -> None:
        if mask._mask is None and len(mask.polygons) == 1:
            self.draw_polygon(mask.polygons[0].reshape(-1, 2), color, alpha=alpha)
        else:
            self.draw_binary_mask(mask.mask, color, alpha=alpha, area_threshold=1)

    def _draw_label(self, text: str, frame: npt.NDArray, mask: GenericMask | None, color: Color) -> None:
        """Label of an instance: at its upper left corner, within its mask, or beside it when it is small."""
        x0, y0, x1, y1 = frame.tolist()
        position, alignment = (x0, y0), "left"
        if mask is not None:
            point = label_point(mask.mask)
            if point is not None:
                position, alignment = point, "center"
        scale = self.output.scale
        if (x1 - x0) * (y1 - y0) * scale**2 < _SMALL_OBJECT or y1 - y0 < 40 / scale:
            position, alignment = ((x1, y0) if y1 >= self.output.height - 5 else (x0, y1)), "left"
        share = float(np.clip((y1 - y0) / self.output.height**0.5 / 12, _LABEL_SHARE * 2, 1.0))
        self.draw_text(
            text,
            position,
            color=self._change_color_brightness(color, 0.7),
            horizontal_alignment=alignment,
            font_size=max(share * self._default_font_size, 9 / scale),
        )

    # ------------------------------------------------------------------ what subclasses replace

    def _convert_boxes(self, boxes: Any) -> npt.NDArray[np.float64]:
        """Convert boxes of any form to ``[N, 4]``, or ``[N, 5]`` when they are rotated."""
        return as_boxes(boxes)

    def _convert_masks(self, masks_or_polygons: Any) -> list[GenericMask]:
        """Convert masks of any form to single masks."""
        return as_masks(masks_or_polygons, self.output.height, self.output.width)

    def _convert_keypoints(self, keypoints: Any) -> npt.NDArray[np.float64]:
        """Keypoints of any form as ``[N, K, 3]``."""
        return as_keypoints(keypoints)

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

    def _class_colors(self, classes: Sequence[int] | None, jittering: bool) -> list[Color] | None:
        """Return the shades of the class colours, where the mode asks for them and the metadata have some."""
        if (
            self._instance_mode != ColorMode.SEGMENTATION
            or classes is None
            or not self.metadata.get("thing_colors")
        ):
            return None
        colors = [self._palette_of("thing_colors", int(c)) for c in classes]
        return [self._jitter(c) for c in colors] if jittering else colors

    def _palette_of(self, key: str, index: int) -> Color:
        """Return the colour of a class: from the metadata (0 to 255), else from the palette."""
        colors = self.metadata.get(key)
        if colors and index < len(colors):
            return to_rgb(np.asarray(colors[index], dtype=np.float64) / 255)
        return palette_color(index)
