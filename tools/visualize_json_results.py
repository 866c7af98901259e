#!/usr/bin/env python
"""Draw the detections of a COCO result file beside the ground truth.

    python tools/visualize_json_results.py --input output/inference/coco_instances_results.json \
        --output pictures --dataset coco_2017_val
"""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from rich.progress import track

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.detection_utils import read_image
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils.file_io import PathManager
from detectron2.visualization import GenericMask, Visualizer


def create_instances(
    predictions: list[dict[str, Any]],
    image_size: tuple[int, int],
    threshold: float,
    class_of: dict[int, int] | None,
) -> Instances:
    """Detections of one image whose score is at least ``threshold``.

    Args:
        predictions: COCO result dicts.
        image_size: ``(height, width)``.
        threshold: least score.
        class_of: class by category id; None where they are the same.
    """
    chosen = [p for p in predictions if p["score"] >= threshold]
    found = Instances(image_size)
    boxes = np.array([p["bbox"] for p in chosen], dtype=np.float32).reshape(-1, 4)
    found.pred_boxes = Boxes(BoxMode.convert(torch.from_numpy(boxes), BoxMode.XYWH_ABS, BoxMode.XYXY_ABS))
    found.scores = torch.tensor([p["score"] for p in chosen])
    ids = [p["category_id"] for p in chosen]
    found.pred_classes = torch.tensor([class_of[i] if class_of else i for i in ids], dtype=torch.int64)
    if chosen and all("segmentation" in p for p in chosen):
        found.pred_masks = torch.from_numpy(
            np.stack([GenericMask(p["segmentation"], *image_size).mask for p in chosen])
        )
    return found


def main() -> None:
    """Read the arguments and draw."""
    parser = argparse.ArgumentParser(
        description="Draw the detections of a COCO result file beside the ground truth."
    )
    parser.add_argument("--input", required=True, help="result file, as COCOEvaluator writes it")
    parser.add_argument("--output", required=True, help="folder for the pictures")
    parser.add_argument("--dataset", default="coco_2017_val", help="name of the registered data set")
    parser.add_argument(
        "--conf-threshold", type=float, default=0.5, help="least score of a detection to be drawn"
    )
    args = parser.parse_args()
    with PathManager.open(args.input) as file:
        predictions = json.load(file)
    by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for prediction in predictions:
        by_image[prediction["image_id"]].append(prediction)
    dicts = DatasetCatalog.get(args.dataset)
    metadata = MetadataCatalog.get(args.dataset)
    class_of = metadata.get("thing_dataset_id_to_contiguous_id")
    if class_of is None and metadata.get("evaluator_type") == "lvis":  # whose ids begin with 1
        class_of = {k + 1: k for k in range(len(metadata.thing_classes))}
    os.makedirs(args.output, exist_ok=True)
    for record in track(dicts, description="Drawing"):
        image = read_image(record["file_name"], "RGB")
        found = create_instances(by_image[record["image_id"]], image.shape[:2], args.conf_threshold, class_of)
        left = Visualizer(image, metadata).draw_instance_predictions(found).get_image()
        right = Visualizer(image, metadata).draw_dataset_dict(record).get_image()
        both = Visualizer(np.concatenate([left, right], axis=1)).output
        both.save(
            os.path.join(args.output, os.path.splitext(os.path.basename(record["file_name"]))[0] + ".jpg")
        )


if __name__ == "__main__":
    main()
