"""Pictures and a moving picture of what a model finds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from detectron2.data.detection_utils import read_image
from detectron2.prediction import Predictor
from detectron2.visualization import Visualizer
from detectron2.visualization.labels import create_text_labels

__all__ = ["write_clip", "write_sheet"]

COLORS = (
    "#e6194b",
    "#ffe119",
    "#42d4f4",
    "#f58231",
    "#3cb44b",
    "#f032e6",
    "#4363d8",
    "#911eb4",
    "#fabed4",
    "#469990",
)
"""Colours of the first classes, well apart; more classes share them."""

GAP = 6
FRAME_MS = 90


def write_sheet(predictor: Predictor, files: Sequence[Path], path: Path, columns: int = 3) -> None:
    """Draw what a model finds in pictures of equal size, and save them in rows as one JPEG.

    Args:
        predictor: the model.
        files: pictures; those that do not fill a row are left out.
        path: file to write.
        columns: pictures in a row.
    """
    drawn = [_drawn(predictor, file, 1.25) for file in files[: len(files) // columns * columns]]
    height, width = drawn[0].shape[:2]
    rows = len(drawn) // columns
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for index, picture in enumerate(drawn):
        top, left = index // columns * (height + GAP), index % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = picture
    Image.fromarray(sheet).save(path, quality=85)


def write_clip(predictor: Predictor, frames: Sequence[Path], path: Path) -> None:
    """Draw what a model finds in the frames of a video, and save them as a moving WebP, forwards and backwards.

    Args:
        predictor: the model.
        frames: pictures of equal size, in their order.
        path: file to write.
    """
    drawn = [Image.fromarray(_drawn(predictor, frame, 1.5)) for frame in frames]
    first, *others = drawn + drawn[-2:0:-1]
    first.save(path, save_all=True, append_images=others, duration=FRAME_MS, loop=0, quality=70, method=2)


def _drawn(predictor: Predictor, file: Path, scale: float) -> npt.NDArray[np.uint8]:
    """Return a picture with what the model finds in it, in one colour per class, through which it can be seen."""
    image = read_image(str(file), "RGB")
    canvas = Visualizer(image, scale=scale)
    outputs = predictor(image[:, :, ::-1] if predictor.input_format == "BGR" else image)
    if "instances" in outputs:
        found = outputs["instances"].to("cpu")
        classes = found.pred_classes.tolist()
        canvas.overlay_instances(
            boxes=found.pred_boxes,
            masks=found.pred_masks if found.has("pred_masks") else None,
            labels=create_text_labels(classes, found.scores.tolist(), predictor.metadata.thing_classes),
            assigned_colors=[COLORS[c % len(COLORS)] for c in classes],
            alpha=0.3,
        )
    return canvas.output.get_image()
