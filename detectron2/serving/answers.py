"""What was found, as JSON."""

from __future__ import annotations

import base64
import io
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from detectron2.data import Metadata
from detectron2.structures import Instances
from detectron2.structures.exchange import class_texts
from detectron2.structures.types import ModelOutput, SegmentInfo

__all__ = ["MaskForm", "describe"]

MaskForm = Literal["rle", "polygons", "none"]


def describe(
    outputs: ModelOutput, size: tuple[int, int], metadata: Metadata, masks: MaskForm = "rle"
) -> dict[str, Any]:
    """Describe the outputs for one picture.

    Args:
        outputs: of a model, on the CPU.
        size: height and width of the picture.
        metadata: names the classes.
        masks: form of masks.

    Returns:
        ``width``, ``height``, and what the model gives: ``objects`` with COCO's fields and the name of the class,
        ``semantic`` (names of classes and a PNG of class indices) and ``panoptic`` (segments and a PNG of segment
        numbers). PNGs are base64 text.
    """
    height, width = size
    found: dict[str, Any] = {"width": width, "height": height}
    instances = outputs.get("instances", outputs.get("proposals"))
    if instances is not None:
        found["objects"] = _objects(instances, metadata, masks)
    if "sem_seg" in outputs:
        classes = outputs["sem_seg"].argmax(dim=0).numpy()
        names = list(metadata.get("stuff_classes") or ())
        found["semantic"] = {"classes": names, "png": _png(classes)}
    if "panoptic_seg" in outputs:
        segments, info = outputs["panoptic_seg"]
        found["panoptic"] = {
            "segments": [_segment(s, metadata) for s in info or ()],
            "png": _png(segments.numpy()),
        }
    return found


def _objects(instances: Instances, metadata: Metadata, masks: MaskForm) -> list[dict[str, Any]]:
    """Return the objects with COCO's fields and the name of the class."""
    if masks == "none" and instances.has("pred_masks"):
        fields = {name: value for name, value in instances.get_fields().items() if name != "pred_masks"}
        instances = Instances(instances.image_size, **fields)
    records = instances.to_coco(
        0, class_names=metadata.get("thing_classes"), masks="polygons" if masks == "polygons" else "rle"
    )
    return [{name: value for name, value in record.items() if name != "image_id"} for record in records]


def _segment(segment: SegmentInfo, metadata: Metadata) -> dict[str, Any]:
    thing = bool(segment.get("isthing"))
    names = metadata.get("thing_classes" if thing else "stuff_classes")
    category = int(segment["category_id"])
    described = {
        "id": int(segment["id"]),
        "class": class_texts([category], names)[0],
        "category_id": category,
        "is_thing": thing,
    }
    if "score" in segment:
        described["score"] = float(segment["score"])
    return described


def _png(values: npt.NDArray[Any]) -> str:
    file = io.BytesIO()
    kind = np.uint8 if values.max(initial=0) < 256 else np.uint16
    Image.fromarray(values.astype(kind)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
