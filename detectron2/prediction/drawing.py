"""Drawing every kind of output."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from detectron2.data import Metadata
from detectron2.structures import Instances
from detectron2.structures.types import ModelOutput
from detectron2.visualization import ColorMode, VideoVisualizer, VisImage, Visualizer

from .selection import on_cpu

__all__ = ["draw_frame", "draw_outputs"]

_MOST_PROPOSALS = 50  # more only hide the picture


def draw_outputs(
    image: npt.NDArray[Any], outputs: ModelOutput, metadata: Metadata | None = None, scale: float = 1.0,
    mode: ColorMode = ColorMode.IMAGE,
) -> VisImage:  # fmt: skip
    """Draw what a model found in a picture: panoptic segments, or else classes of pixels, instances and proposals.

    Args:
        image: ``(H, W, 3)``, RGB.
        outputs: of the model; instances are all drawn.
        metadata: names and colours of classes.
        scale: size of the drawing relative to the picture.
        mode: how instances are coloured.
    """
    outputs = on_cpu(outputs)
    canvas = Visualizer(image, metadata, scale=scale, instance_mode=mode)
    if "panoptic_seg" in outputs:
        segments, info = outputs["panoptic_seg"]
        return canvas.draw_panoptic_seg_predictions(segments, info)
    if "sem_seg" in outputs:
        canvas.draw_sem_seg(outputs["sem_seg"].argmax(dim=0))
    if "instances" in outputs:
        canvas.draw_instance_predictions(outputs["instances"])
    elif "proposals" in outputs:
        canvas.draw_instance_predictions(_best_proposals(outputs["proposals"]))
    return canvas.output


def draw_frame(drawer: VideoVisualizer, image: npt.NDArray[Any], outputs: ModelOutput) -> VisImage:
    """Draw what a model found in a frame of a video, with colours that stay with their objects.

    Args:
        drawer: of the video.
        image: ``(H, W, 3)``, RGB.
        outputs: of the model; instances are all drawn.
    """
    outputs = on_cpu(outputs)
    if "panoptic_seg" in outputs:
        segments, info = outputs["panoptic_seg"]
        return drawer.draw_panoptic_seg_predictions(image, segments, info)
    if "instances" in outputs:
        return drawer.draw_instance_predictions(image, outputs["instances"])
    if "sem_seg" in outputs:
        return drawer.draw_sem_seg(image, outputs["sem_seg"].argmax(dim=0))
    return draw_outputs(image, outputs, drawer.metadata)


def _best_proposals(proposals: Instances) -> Instances:
    """Return the likeliest proposals as instances without classes."""
    shown = Instances(proposals.image_size, pred_boxes=proposals.proposal_boxes)
    if proposals.has("objectness_logits"):
        scores = proposals.objectness_logits.sigmoid()
        shown.scores = scores
        shown = shown[scores.argsort(descending=True)]
    return shown[:_MOST_PROPOSALS]
