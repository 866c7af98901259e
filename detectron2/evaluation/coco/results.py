"""Writing predictions and COCO results to files, in one process or many."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from detectron2.structures import BoxMode
from detectron2.utils import comm
from detectron2.utils.file_io.atomic import atomic_write

from .detections import ImageDetections, write_results
from .predictions import save_list

RESULTS = "coco_instances_results.json"
PREDICTIONS = "instances_predictions.pth"


def collect_results_file(
    output_dir: str,
    predictions: Iterable[dict[str, Any]],
    detections: Sequence[ImageDetections],
    rank: int,
    world: int,
    results: str = RESULTS,
) -> None:
    """Write predictions and COCO results; the first of several processes joins their results.

    Args:
        output_dir: folder, the same for all processes.
        predictions: records of this process for ``instances_predictions.pth`` or, with several processes,
            ``instances_predictions.rank{N}.pth``.
        detections: detections of this process.
        rank: rank of this process.
        world: number of processes.
        results: name of the file of all detections.
    """
    os.makedirs(output_dir, exist_ok=True)
    name = PREDICTIONS if world == 1 else PREDICTIONS.replace(".pth", f".rank{rank}.pth")
    parts = getattr(predictions, "parts", ())
    if "proposals" in parts:  # Instances, for which torch.save is needed
        with atomic_write(os.path.join(output_dir, name), "wb") as file:
            torch.save([_plain(p) for p in predictions], file)
    else:
        save_list(os.path.join(output_dir, name), map(_plain, predictions))
    target = os.path.join(output_dir, results)
    if world == 1:
        write_results(target, detections)
        return
    parts = [os.path.join(output_dir, f".{results}.part{r}") for r in range(world)]
    write_results(parts[rank], detections)
    comm.synchronize()
    if rank == 0:
        _join(parts, target)


def write_proposals(output_dir: str, predictions: Sequence[dict[str, Any]]) -> None:
    """Write proposals as ``box_proposals.pkl``, for ``PROPOSAL_FILES`` of a config."""
    content = {
        "boxes": [p["proposals"].proposal_boxes.tensor.numpy() for p in predictions],
        "objectness_logits": [p["proposals"].objectness_logits.numpy() for p in predictions],
        "ids": [p["image_id"] for p in predictions],
        "bbox_mode": BoxMode.XYXY_ABS.value,
    }
    with atomic_write(os.path.join(output_dir, "box_proposals.pkl"), "wb") as file:
        pickle.dump(content, file)
    with atomic_write(os.path.join(output_dir, PREDICTIONS), "wb") as file:
        torch.save(list(predictions), file)


def _plain(prediction: dict[str, Any]) -> dict[str, Any]:
    """Convert a record to lists and dicts, readable without this package."""
    if "instances" not in prediction:
        return prediction
    return {**prediction, "instances": list(prediction["instances"])}


def _join(parts: Sequence[str], target: str) -> None:
    """Concatenate files of JSON lists, and remove them."""
    logger = logging.getLogger(__name__)
    absent = [p for p in parts if not os.path.exists(p)]
    if absent:
        logger.warning(
            "%s lacks the predictions of %d of %d processes, which write to another disk; use a shared output_dir.",
            target, len(absent), len(parts),
        )  # fmt: skip
    with atomic_write(target, "w") as out:
        out.write("[")
        first = True
        for path in parts:
            if path in absent:
                continue
            with open(path, encoding="utf-8") as file:
                inner = file.read()[1:-1]
            if inner:
                out.write(inner if first else "," + inner)
                first = False
            os.remove(path)
        out.write("]")


__all__ = ["PREDICTIONS", "RESULTS", "collect_results_file", "write_proposals"]
