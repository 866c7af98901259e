"""AP on LVIS: federated annotations, and categories by how frequent they are."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, BoxMode, pairwise_iou
from detectron2.utils import comm
from detectron2.utils.atomic import atomic_write
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import create_small_table

from ._box_proposals import ProposalRecall
from ._coco_engine import _result_dicts, _table
from ._coco_gt import GroundTruth
from ._coco_json import (
    ImageDetections,
    from_json_dicts,
    instances_to_coco_json,
    pack_instances,
    write_results,
)
from .evaluator import DatasetEvaluator

__all__ = [
    "BoxMode",
    "Boxes",
    "CfgNode",
    "DatasetEvaluator",
    "LVISEvaluator",
    "MetadataCatalog",
    "create_small_table",
    "instances_to_coco_json",
    "pairwise_iou",
]

_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
_TASKS = ("bbox", "segm")
_DEFAULT_CAP = 300
_FIXED_PER_CLASS = 10_000


class LVISEvaluator(DatasetEvaluator):
    """AP of boxes and masks as LVIS defines it, and recall of proposals.

    In an image, only the categories count that were annotated in it or are known to be absent from it.

    References: Gupta et al., LVIS, https://arxiv.org/abs/1908.03195; fixed AP: Dave et al.,
    Evaluating Large-Vocabulary Object Detectors, https://arxiv.org/abs/2102.01066
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | None = None,
        fixed_ap: bool = False,
    ) -> None:
        """
        Args:
            dataset_name: a data set with ``json_file`` in its metadata, in LVIS's format.
            tasks: of ``bbox`` and ``segm``; None takes those that the predictions allow.
            distributed: join the predictions of all processes.
            output_dir: folder for ``lvis_instances_results.json`` and ``instances_predictions.pth``.
            max_dets_per_image: cap on the detections of an image; None for LVIS's 300.
            fixed_ap: cap the detections of each category over all images at 10000 instead, so that scores need
                not be comparable between categories.
        """
        self._logger = logging.getLogger(__name__)
        if isinstance(tasks, CfgNode):
            tasks = None
        unknown = sorted(set(tasks or ()) - set(_TASKS))
        if unknown:
            raise ValueError(f"unknown tasks {unknown}; LVISEvaluator knows {list(_TASKS)}")
        if fixed_ap and max_dets_per_image is not None:
            raise ValueError("fixed_ap has no cap per image: leave max_dets_per_image out")
        self._tasks = tuple(tasks) if tasks is not None else None
        self._distributed = distributed
        self._output_dir = output_dir
        self._max_dets_per_image = max_dets_per_image or _DEFAULT_CAP
        self._fixed_ap = fixed_ap
        self._cpu_device = torch.device("cpu")
        self._metadata = MetadataCatalog.get(dataset_name)
        path = PathManager.get_local_path(self._metadata.json_file)
        with open(path, encoding="utf-8") as file:
            self._truth = GroundTruth(json.load(file), source=os.path.basename(self._metadata.json_file))
        self._do_evaluation = len(self._truth.annotations) > 0
        self.reset()

    def reset(self) -> None:
        self._predictions: list[dict[str, Any]] = []

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Take in one batch.

        Args:
            inputs: dicts with ``image_id``.
            outputs: dicts with ``instances`` and/or ``proposals``.
        """
        for record, output in zip(inputs, outputs):
            image_id = record["image_id"]
            if image_id not in self._truth.images:
                raise ValueError(f"image_id {image_id!r} is not in {self._truth.source}")
            prediction: dict[str, Any] = {"image_id": image_id}
            if "instances" in output:
                prediction["instances"] = pack_instances(output["instances"], image_id)
            if "proposals" in output:
                prediction["proposals"] = output["proposals"].to(self._cpu_device)
            self._predictions.append(prediction)

    def evaluate(self) -> OrderedDict[str, Any] | None:
        """The figures in percent; None on processes other than the main one."""
        predictions = self._predictions
        if self._distributed:
            predictions = list(itertools.chain.from_iterable(comm.gather(predictions, dst=0) or []))
            if not comm.is_main_process():
                return None
        if not predictions:
            self._logger.warning("LVISEvaluator got no predictions.")
            return OrderedDict()
        results: OrderedDict[str, Any] = OrderedDict()
        if any("proposals" in p for p in predictions) and self._do_evaluation:
            recall = ProposalRecall()
            for p in (p for p in predictions if "proposals" in p):
                recall.add_image(p["proposals"], self._truth.by_image.get(p["image_id"], ()))
            results["box_proposals"] = recall.metrics()
            self._logger.info("Proposals:\n%s", create_small_table(results["box_proposals"]))
        if any("instances" in p for p in predictions):
            self._eval_predictions(predictions, results)
        return results

    def _eval_predictions(self, predictions: list[dict[str, Any]], results: OrderedDict[str, Any]) -> None:
        found = [from_json_dicts(p["instances"], p["image_id"]) for p in predictions if "instances" in p]
        # contiguous classes are dataset ids minus one unless the metadata say otherwise
        mapping = self._metadata.get("thing_dataset_id_to_contiguous_id")
        back = {v: k for k, v in mapping.items()} if mapping else None
        found = [
            replace(
                d,
                category_ids=np.array(
                    [back[c] for c in d.category_ids.tolist()] if back else d.category_ids + 1
                ),
            )
            for d in found
        ]
        if self._output_dir:
            os.makedirs(self._output_dir, exist_ok=True)
            write_results(os.path.join(self._output_dir, "lvis_instances_results.json"), found)
            plain = [{"image_id": d.image_id, "instances": list(d)} for d in found]
            with atomic_write(os.path.join(self._output_dir, "instances_predictions.pth"), "wb") as file:
                torch.save(plain, file)
        if not self._do_evaluation:
            self._logger.info("The data set has no annotations: predictions are written, not judged.")
            return
        if self._fixed_ap:
            found = keep_best_per_category(found, _FIXED_PER_CLASS)
        cap = -1 if self._fixed_ap else self._max_dets_per_image
        allowed = set.union({"bbox"}, *(d.tasks for d in found))
        for task in self._tasks or [t for t in _TASKS if t in allowed]:
            results[task] = lvis_figures(self._truth, found, task, cap)
            self._logger.info("Evaluation of %s:\n%s", task, create_small_table(results[task]))


def lvis_figures(
    truth: GroundTruth, found: Sequence[ImageDetections], task: str, cap: int
) -> dict[str, float]:
    """LVIS's figures in percent; NaN where undefined.

    Args:
        truth: ground truth whose images have ``neg_category_ids`` and ``not_exhaustive_category_ids``.
        found: detections with the data set's category ids.
        task: ``bbox`` or ``segm``.
        cap: most detections per image; -1 for no cap.
    """
    import hotcoco

    fields = ("id", "height", "width", "neg_category_ids", "not_exhaustive_category_ids")
    images = [{k: image[k] for k in fields if k in image} for image in truth.images.values()]
    base = hotcoco.COCO(
        {"images": images, "categories": truth.categories, "annotations": truth.slim(truth.annotations, task)}
    )
    rows: Any = _table(found) if task == "bbox" else _result_dicts(found, task)
    matcher = hotcoco.LVISEval(base, hotcoco.LVISResults(base, rows, max_dets=cap), task)
    with contextlib.redirect_stdout(io.StringIO()):
        matcher.run()
    values = matcher.get_results()
    return {name: 100 * values[name] if values[name] >= 0 else float("nan") for name in _METRICS}


def keep_best_per_category(found: Sequence[ImageDetections], most: int) -> list[ImageDetections]:
    """The detections with the best scores of each category, over all images.

    Args:
        found: detections of all images.
        most: how many of a category to keep.
    """
    if not found:
        return []
    category = np.concatenate([d.category_ids for d in found])
    score = np.concatenate([d.scores for d in found])
    order = np.lexsort((-score, category))
    first = np.searchsorted(category[order], category[order], side="left")
    keep = np.zeros(len(order), dtype=bool)
    keep[order[np.arange(len(order)) - first < most]] = True
    kept = []
    for image, chosen in zip(found, np.split(keep, np.cumsum([len(d) for d in found])[:-1])):
        kept.append(
            ImageDetections(
                image.image_id,
                image.category_ids[chosen],
                image.boxes[chosen],
                image.scores[chosen],
                image.size,
                None if image.rles is None else list(itertools.compress(image.rles, chosen)),
                None if image.areas is None else image.areas[chosen],
                None if image.keypoints is None else image.keypoints[chosen],
            )
        )
    return kept
