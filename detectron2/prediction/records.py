"""What a model found in one picture, ready for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from detectron2.data import Metadata
from detectron2.structures import Instances
from detectron2.structures.exchange import class_texts
from detectron2.structures.rle import encode
from detectron2.structures.types import ModelOutput, SegmentInfo

__all__ = ["best_first", "count_objects", "output_record"]

_MOST_PROPOSALS = 100


def output_record(outputs: ModelOutput, metadata: Metadata) -> dict[str, list[dict[str, Any]]]:
    """Describe what was found.

    Args:
        outputs: of a model for one image, on the CPU.
        metadata: names the classes.

    Returns:
        A list for each kind of output that is there: "objects" in COCO's form with "class" (the name); "segments" of a
        panoptic map and "regions", one for each class of a semantic map, with class, area and run-length encoding;
        "proposals" with box XYWH and score, the 100 best.
    """
    record: dict[str, list[dict[str, Any]]] = {}
    if "instances" in outputs:
        record["objects"] = _objects(outputs["instances"], metadata.get("thing_classes") or ())
    if "panoptic_seg" in outputs:
        segments, info = outputs["panoptic_seg"]
        record["segments"] = [_segment(segments.numpy(), s, metadata) for s in info]
    if "sem_seg" in outputs:
        record["regions"] = _regions(outputs["sem_seg"], metadata.get("stuff_classes") or ())
    if "proposals" in outputs:
        record["proposals"] = _proposals(outputs["proposals"])
    return record


def best_first(outputs: ModelOutput) -> ModelOutput:
    """Return the outputs with the instances sorted by falling score."""
    instances = outputs.get("instances")
    if instances is None or not instances.has("scores"):
        return outputs
    order = torch.as_tensor(instances.scores).argsort(descending=True)
    return {**outputs, "instances": instances[order]}


def count_objects(record: dict[str, Any]) -> int:
    """Return how many things a record lists: objects, else segments, regions or proposals."""
    for kind in ("objects", "segments", "regions", "proposals"):
        if kind in record:
            return len(record[kind])
    return 0


def _objects(instances: Instances, classes: Sequence[str]) -> list[dict[str, Any]]:
    objects = instances.to_coco(class_names=classes)
    for found in objects:
        del found["image_id"]
    return objects


def _segment(ids: npt.NDArray[Any], segment: SegmentInfo, metadata: Metadata) -> dict[str, Any]:
    names = metadata.get("thing_classes" if segment["isthing"] else "stuff_classes")
    mask = ids == segment["id"]
    return {
        **segment,
        "class": class_texts([segment["category_id"]], names)[0],
        "area": int(mask.sum()),
        "segmentation": encode(mask),
    }


def _regions(scores: torch.Tensor, classes: Sequence[str]) -> list[dict[str, Any]]:
    best = scores.argmax(dim=0).numpy()
    return [
        {
            "category_id": int(c),
            "class": class_texts([c], classes)[0],
            "area": int((best == c).sum()),
            "segmentation": encode(best == c),
        }
        for c in np.unique(best)
    ]


def _proposals(proposals: Instances) -> list[dict[str, Any]]:
    found = proposals.to_coco()
    return [
        {"bbox": p["bbox"], "score": p.get("score")}
        for p in sorted(found, key=lambda p: -p.get("score", 0.0))[:_MOST_PROPOSALS]
    ]
