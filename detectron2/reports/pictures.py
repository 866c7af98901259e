"""Drawing labels, predictions and errors, and saving them as JPEG files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detectron2.data import Metadata
from detectron2.data import detection_utils as utils
from detectron2.structures import Instances
from detectron2.visualization import Visualizer

__all__ = ["draw_errors", "draw_instances", "draw_labels", "picture_scale", "save_pair", "save_row"]

SHORT_SIDE = 420  # smallest side in pixels of an image in a page, so that thin outlines are visible
LONG_SIDE = 900
GAP = 8
RIGHT, WRONG = "#3fbf5f", "#ff3b30"


def draw_labels(image: np.ndarray, record: Mapping[str, Any], metadata: Metadata) -> np.ndarray:
    """Draw an image with its labels.

    Args:
        image: [H, W, 3] RGB, uint8.
        record: dataset dict.
        metadata: with ``thing_classes``.
    """
    canvas = Visualizer(image, metadata, scale=picture_scale(image))
    return canvas.draw_dataset_dict(dict(record)).get_image()


def draw_instances(image: np.ndarray, instances: Instances, metadata: Metadata) -> np.ndarray:
    """Draw an image with its predictions.

    Args:
        image: [H, W, 3] RGB, uint8.
        instances: predictions for the image's size.
        metadata: with ``thing_classes``.
    """
    canvas = Visualizer(image, metadata, scale=picture_scale(image))
    return canvas.draw_instance_predictions(instances.to("cpu")).get_image()


def draw_errors(
    image: np.ndarray, boxes: np.ndarray, texts: Sequence[str], wrong: Sequence[bool]
) -> np.ndarray:
    """Draw an image with correct boxes in green, and wrong ones in red with their texts.

    Args:
        image: [H, W, 3] RGB, uint8.
        boxes: [N, 4] XYXY.
        texts: N texts; only those of wrong boxes are drawn.
        wrong: N flags.
    """
    canvas = Visualizer(image, scale=picture_scale(image))
    for box, is_wrong in zip(boxes, wrong):
        if not is_wrong:
            canvas.draw_box(box, alpha=0.5, edge_color=RIGHT)
    errors = [k for k, is_wrong in enumerate(wrong) if is_wrong]  # on top
    names = [texts[k] for k in errors]
    canvas.overlay_instances(boxes=boxes[errors], labels=names, assigned_colors=[WRONG] * len(errors))
    return canvas.output.get_image()


def save_pair(record: Mapping[str, Any], instances: Instances, metadata: Metadata, path: Path) -> None:
    """Save labels (left) and predictions (right) of one image as a JPEG.

    Args:
        record: dataset dict with "file_name".
        instances: predictions to draw, for the image's size.
        metadata: with ``thing_classes``.
        path: file to write.
    """
    image = utils.read_image(record["file_name"], "RGB")
    sides = [draw_labels(image, record, metadata), draw_instances(image, instances, metadata)]
    save_row(sides, path)


def save_row(pictures: Sequence[np.ndarray], path: Path) -> None:
    """Save images of the same height side by side."""
    gap = np.full((pictures[0].shape[0], GAP, 3), 255, np.uint8)
    row = [part for picture in pictures for part in (gap, picture)][1:]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(row, axis=1)).save(path, quality=88)


def picture_scale(image: np.ndarray) -> float:
    """Return the scale that enlarges small images and shrinks large ones, for a page."""
    short, long = sorted(image.shape[:2])
    return min(max(SHORT_SIDE / short, 1.0), LONG_SIDE / long)
