"""Drawing labels, predictions, errors and training batches, and saving them as JPEG files of limited size."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detectron2.data import Metadata
from detectron2.data import detection_utils as utils
from detectron2.structures import Instances
from detectron2.utils.file_io.atomic import atomic_write
from detectron2.visualization import Visualizer
from detectron2.visualization.colors import Color, ColorLike, to_rgb

__all__ = [
    "BATCH", "ByClass", "draw_errors", "draw_instances", "draw_labels", "draw_training_batch", "picture_scale", "save_pair",
    "save_row",
]  # fmt: skip

SHORT_SIDE = 420  # smallest side in pixels of an image in a page, so that thin outlines are visible
LONG_SIDE = 800
LETTERS = 1.6  # size of the letters, relative to the visualizer's
GAP = 8
MOST_BYTES = 100_000  # of a file, so that a page of 20 pictures stays below 3 MB
QUALITIES = (88, 80, 70, 60, 45)
BATCH, BATCH_IMAGES = "train_batch.jpg", 4
CORRECT, WRONG = "#56b4e9", "#ff7b00"  # blue and orange, which colour-blind readers can tell apart
# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/) for the first classes.
CLASS_COLORS = ("#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2")


class ByClass(Visualizer):
    """Draws each class in one colour, of labels and predictions alike.

    Args:
        image: [H, W, 3] RGB, uint8.
        metadata: with ``thing_classes`` or ``stuff_classes``.
    """

    def __init__(self, image: np.ndarray, metadata: Metadata | None = None) -> None:
        super().__init__(image, metadata, picture_scale(image), font_size_scale=LETTERS)

    def _colors_by(
        self,
        color_by: str | None,
        classes: Sequence[int] | None,
        tracks: Sequence[int] | None,
        jittering: bool,
    ) -> list[Color] | None:
        return None if classes is None else [self._color_of(int(c)) for c in classes]

    def _jitter(self, color: ColorLike) -> Color:
        return to_rgb(color)

    def _color_of(self, index: int) -> Color:
        if self.metadata.get("thing_colors") or index >= len(CLASS_COLORS):
            return self._palette_of("thing_colors", index)
        return to_rgb(CLASS_COLORS[index])


def draw_labels(image: np.ndarray, record: Mapping[str, Any], metadata: Metadata) -> np.ndarray:
    """Draw an image with its labels, each class in its colour.

    Args:
        image: [H, W, 3] RGB, uint8.
        record: dataset dict.
        metadata: with ``thing_classes``.
    """
    return ByClass(image, metadata).draw_dataset_dict(dict(record)).get_image()


def draw_instances(image: np.ndarray, instances: Instances, metadata: Metadata) -> np.ndarray:
    """Draw an image with its predictions, each class in the colour that its labels have.

    Args:
        image: [H, W, 3] RGB, uint8.
        instances: predictions for the image's size.
        metadata: with ``thing_classes``.
    """
    return ByClass(image, metadata).draw_instance_predictions(instances.to("cpu")).get_image()


def draw_errors(
    image: np.ndarray, boxes: np.ndarray, texts: Sequence[str], wrong: Sequence[bool]
) -> np.ndarray:
    """Draw an image with correct boxes in thin blue lines, and wrong ones in orange with their texts.

    Args:
        image: [H, W, 3] RGB, uint8.
        boxes: [N, 4] XYXY.
        texts: N texts; only those of wrong boxes are drawn.
        wrong: N flags.
    """
    canvas = ByClass(image)
    for box, is_wrong in zip(boxes, wrong):
        if not is_wrong:
            canvas.draw_box(box, alpha=0.8, edge_color=CORRECT)
    errors = [k for k, is_wrong in enumerate(wrong) if is_wrong]  # on top
    names = [texts[k] for k in errors]
    canvas.overlay_instances(boxes=boxes[errors], labels=names, assigned_colors=[WRONG] * len(errors))
    return canvas.output.get_image()


def save_pair(
    record: Mapping[str, Any],
    instances: Instances,
    metadata: Metadata,
    path: Path,
    drawn: np.ndarray | None = None,
) -> None:
    """Save labels (left) and predictions (right) of one image as a JPEG.

    Args:
        record: dataset dict with "file_name".
        instances: predictions to draw, for the image's size.
        metadata: with ``thing_classes``.
        path: file to write.
        drawn: the right picture, to take instead of the instances.
    """
    image = utils.read_image(record["file_name"], "RGB")
    right = draw_instances(image, instances, metadata) if drawn is None else drawn
    save_row([draw_labels(image, record, metadata), right], path)


def draw_training_batch(
    batch: Sequence[Mapping[str, Any]], metadata: Metadata, format: str, folder: Path
) -> None:
    """Save the first images of a batch, as the model gets them, with their labels, as ``pictures/train_batch.jpg``.

    Images that do not have three channels are left out.

    Args:
        batch: model inputs with "image" ([C, H, W]) and, if they have labels, "instances" or "sem_seg".
        metadata: with ``thing_classes`` or ``stuff_classes``.
        format: channel order of the images, such as "BGR".
        folder: folder of the run.
    """
    items = [item for item in batch if len(item["image"]) == 3][:BATCH_IMAGES]
    if items:
        save_row([_draw_input(item, metadata, format) for item in items], folder / "pictures" / BATCH)


def _draw_input(item: Mapping[str, Any], metadata: Metadata, format: str) -> np.ndarray:
    image = utils.convert_image_to_rgb(item["image"].permute(1, 2, 0), format)
    canvas = ByClass(np.ascontiguousarray(image), metadata)
    targets = item["instances"].to("cpu").get_fields() if "instances" in item else {}
    if not targets:
        if "sem_seg" in item:
            canvas.draw_sem_seg(item["sem_seg"].cpu(), area_threshold=0, alpha=0.5)
        return canvas.output.get_image()
    names = [n for n in ("boxes", "masks", "classes") if f"gt_{n}" in targets]
    found = Instances(image.shape[:2], **{f"pred_{n}": targets[f"gt_{n}"] for n in names})
    if "gt_keypoints" in targets:
        found.pred_keypoints = targets["gt_keypoints"].tensor
    return canvas.draw_instance_predictions(found).get_image()


def save_row(pictures: Sequence[np.ndarray], path: Path) -> None:
    """Save images side by side, at the quality that keeps the file below MOST_BYTES."""
    height = max(p.shape[0] for p in pictures)
    row = []
    for picture in pictures:
        below = ((0, height - picture.shape[0]), (0, GAP), (0, 0))
        row.append(np.pad(picture, below, constant_values=255))
    whole = Image.fromarray(np.concatenate(row, axis=1)[:, :-GAP])
    for quality in QUALITIES:
        buffer = io.BytesIO()
        whole.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= MOST_BYTES:
            break
    with atomic_write(path, "wb") as f:
        f.write(buffer.getvalue())


def picture_scale(image: np.ndarray) -> float:
    """Return the scale that enlarges small images and shrinks large ones, for a page."""
    short, long = sorted(image.shape[:2])
    return min(max(SHORT_SIDE / short, 1.0), LONG_SIDE / long)
