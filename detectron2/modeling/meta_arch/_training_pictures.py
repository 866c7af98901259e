"""Images of ground truth beside proposals or detections during training."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.structures import Boxes, Instances
from detectron2.structures.types import ModelInput
from detectron2.utils.events import get_event_storage
from detectron2.visualization import Visualizer

__all__ = ["put_detection_pictures", "put_proposal_pictures"]

_MOST_BOXES = 20


def _draw(image: np.ndarray, boxes: Boxes | np.ndarray) -> np.ndarray:
    canvas = Visualizer(image, None)
    return canvas.overlay_instances(boxes=boxes).get_image()


def _put_pair(item: ModelInput, boxes: Tensor, input_format: str, title: str) -> None:
    image = convert_image_to_rgb(item["image"].permute(1, 2, 0), input_format)
    truth = _draw(image, item["instances"].gt_boxes)
    found = _draw(image, boxes.detach().cpu().numpy())
    pair = np.concatenate((truth, found), axis=1).transpose(2, 0, 1)
    get_event_storage().put_image(title, pair)


def put_proposal_pictures(
    batched_inputs: list[ModelInput], proposals: list[Instances], input_format: str
) -> None:
    """Log an image of ground truth beside the best proposals, for the first image of a batch."""
    boxes = proposals[0].proposal_boxes.tensor[:_MOST_BOXES]
    _put_pair(batched_inputs[0], boxes, input_format, "Left: GT bounding boxes;  Right: Predicted proposals")


def put_detection_pictures(
    batched_inputs: list[ModelInput], results: list[Instances], input_format: str
) -> None:
    """Log an image of ground truth beside the best detections, for the first image of a batch."""
    boxes = results[0].pred_boxes.tensor[:_MOST_BOXES]
    title = f"Top: GT bounding boxes; Bottom: {_MOST_BOXES} Highest Scoring Results"
    _put_pair(batched_inputs[0], boxes, input_format, title)
