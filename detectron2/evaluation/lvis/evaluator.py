"""AP on LVIS, which has federated annotations and groups categories by frequency."""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from detectron2.data import MetadataCatalog
from detectron2.utils import comm
from detectron2.utils.errors import BadValue
from detectron2.utils.file_io import PathManager
from detectron2.utils.json_values import plain
from detectron2.utils.logger import create_small_table

from ..coco.box_proposals import ProposalRecall
from ..coco.detections import ImageDetections, pack_instances
from ..coco.engines import joined_streams
from ..coco.predictions import Detections, PredictionList, ResultDicts, dataset_ids
from ..coco.results import collect_results_file
from ..coco.truth import GroundTruth
from ..progress.per_image import PerImageEvaluator
from .engine import best_of_categories, best_of_image, lvis_figures, lvis_shard

__all__ = ["LVISEvaluator"]

_TASKS = ("bbox", "segm")
_DEFAULT_CAP = 300
_FIXED_PER_CLASS = 10_000
_RESULTS = "lvis_instances_results.json"


class LVISEvaluator(PerImageEvaluator):
    """Computes AP of boxes and masks as LVIS defines it, and recall of proposals.

    Each image evaluates only categories that were annotated in it or are known to be absent from it. In a distributed
    run, each process matches its own images and sends only the matches.

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
            dataset_name: a dataset with ``json_file`` in its metadata, in LVIS's format.
            tasks: some of ``bbox`` and ``segm``; None = those that the predictions allow.
            distributed: whether to evaluate the predictions of all processes.
            output_dir: folder for ``lvis_instances_results.json`` and ``instances_predictions.pth``.
            max_dets_per_image: largest number of detections per image; None = LVIS's 300.
            fixed_ap: limit the detections of each category over all images to 10000 instead, so that scores need not be
                comparable between categories.
        """
        self._logger = logging.getLogger(__name__)
        if isinstance(tasks, Mapping):
            tasks = None
        unknown = sorted(set(tasks or ()) - set(_TASKS))
        if unknown:
            raise ValueError(f"unknown tasks {unknown}; known are {list(_TASKS)}")
        if fixed_ap and max_dets_per_image is not None:
            raise ValueError(
                f"fixed_ap has no limit per image; omit max_dets_per_image, got {max_dets_per_image}"
            )
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
        self._predictions: Any = PredictionList()

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Process one batch.

        Args:
            inputs: dicts with ``image_id``.
            outputs: dicts with ``instances`` and/or ``proposals``.
        """
        super().process(inputs, outputs)

    def _summarise(self, record: Mapping[str, Any], output: Mapping[str, Any]) -> dict[str, Any]:
        image_id = plain(record["image_id"])
        if image_id not in self._truth.images:
            raise BadValue(f"image_id {image_id!r} is not in {self._truth.source}")
        prediction: dict[str, Any] = {"image_id": image_id}
        if "instances" in output:
            prediction["instances"] = pack_instances(output["instances"], image_id)
        if "proposals" in output:
            prediction["proposals"] = output["proposals"].to(self._cpu_device)
        return prediction

    def _take(self, summary: dict[str, Any]) -> None:
        self._predictions.append(summary)

    @property
    def _shared(self) -> bool:
        """Whether other processes have other images."""
        return self._distributed and comm.get_world_size() > 1

    def _everywhere(self, names: set[str]) -> set[str]:
        return set().union(*comm.all_gather(names)) if self._shared else names

    def evaluate(self) -> OrderedDict[str, Any] | None:
        """Compute the metrics, in percent; None on processes other than the main one."""
        kept = self._predictions
        if not isinstance(kept, PredictionList):  # replaced by a subclass
            kept = PredictionList(kept)
        parts = self._everywhere(kept.parts)
        self._results: OrderedDict[str, Any] = OrderedDict()
        if not parts and (not self._shared or comm.is_main_process()):
            self._logger.warning("LVISEvaluator got no predictions.")
        if "proposals" in parts and self._do_evaluation:
            self._eval_box_proposals(kept)
        if "instances" in parts:
            self._eval_predictions(kept)
        return None if self._shared and not comm.is_main_process() else self._results

    def _eval_box_proposals(self, predictions: Any) -> None:
        """Compute the average recall of the proposals."""
        recall = ProposalRecall()
        for p in predictions:
            if "proposals" in p:
                recall.add_image(p["proposals"], self._truth.by_image.get(p["image_id"], ()))
        if self._shared:
            others = comm.gather(recall, dst=0)
            if not comm.is_main_process():
                return
            recall = ProposalRecall().merge(others)
        self._results["box_proposals"] = recall.metrics()
        self._logger.info("Proposals:\n%s", create_small_table(self._results["box_proposals"]))

    def _tasks_from_predictions(self, predictions: Sequence[Any]) -> tuple[str, ...]:
        """Return the tasks that COCO result dicts allow."""
        if isinstance(predictions, ResultDicts):
            return tuple(t for t in _TASKS if t in {"bbox"} | predictions.tasks)
        return ("bbox", "segm") if any("segmentation" in entry for entry in predictions) else ("bbox",)

    def _eval_predictions(self, predictions: Any) -> None:
        """Write and evaluate the detections of this process's images."""
        kept = predictions if isinstance(predictions, PredictionList) else PredictionList(predictions)
        # Contiguous classes are dataset ids minus one, unless the metadata has a mapping.
        mapping = self._metadata.get("thing_dataset_id_to_contiguous_id")
        convert = dataset_ids(mapping, self._truth.source) if mapping else _numbered_from_one
        own = Detections(kept, convert)
        tasks = self._tasks or self._everywhere(set(self._tasks_from_predictions(ResultDicts(kept, convert))))
        if self._output_dir:
            rank, world = (comm.get_rank(), comm.get_world_size()) if self._shared else (0, 1)
            found = own.as_processed()
            collect_results_file(
                self._output_dir,
                ({"image_id": d.image_id, "instances": d} for d in found),
                found,
                rank,
                world,
                _RESULTS,
            )
        if not self._do_evaluation:
            self._logger.info("The dataset has no annotations: predictions are written, but not evaluated.")
            return
        flags = best_of_categories(own, _FIXED_PER_CLASS, self._shared) if self._fixed_ap else None
        seen = comm.gather(own.image_ids, dst=0) if self._shared else [own.image_ids]
        unseen: list[Any] = []
        if not self._shared or comm.is_main_process():
            unseen = sorted(self._truth.images.keys() - set(itertools.chain.from_iterable(seen)))
        for task in sorted(tasks):
            stream = lvis_shard(self._truth, self._capped(own, task, flags), task, unseen)
            if self._shared:
                states = comm.gather(stream.to_bytes(), dst=0)
                if not comm.is_main_process():
                    continue
                stream = joined_streams(states)
            self._results[task] = lvis_figures(stream, self._truth.categories)
            self._logger.info("Evaluation of %s:\n%s", task, create_small_table(self._results[task]))

    def _capped(self, own: Detections, task: str, flags: Sequence[Any] | None) -> Iterator[ImageDetections]:
        """Yield the detections to evaluate, image by image."""
        for k, found in enumerate(own):
            if flags is None:
                yield best_of_image(found, self._max_dets_per_image, task, self._truth)
            else:
                yield best_of_image(found.chosen(flags[k]), len(found), task, self._truth)


def _numbered_from_one(found: ImageDetections) -> ImageDetections:
    """Replace classes by the category ids of LVIS, which are larger by one."""
    return replace(found, category_ids=found.category_ids + 1)
