"""COCO metrics of boxes, masks, keypoints and proposals."""

from __future__ import annotations

import copy
import itertools
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detectron2.data import MetadataCatalog
from detectron2.structures import Instances
from detectron2.utils import comm
from detectron2.utils.errors import BadValue
from detectron2.utils.json_values import plain
from detectron2.utils.logger import create_small_table, log_first_n

from ..diagnosis.diagnose import Diagnosis, diagnose
from ..diagnosis.reasons import POOR, explain, sample_of
from ..progress.per_image import PerImageEvaluator
from . import engines as engines
from .box_proposals import ProposalRecall
from .detections import ImageDetections, ImageId, pack_instances
from .figures import METRICS, category_metrics, headline
from .legacy import TASKS, category_table, checked_tasks
from .predictions import Detections, PredictionList, ResultDicts, dataset_ids, tasks_in
from .results import collect_results_file, write_proposals
from .shards import joined_figures, match_images
from .truth import GroundTruth, ground_truth_of

__all__ = ["COCOEvaluator"]


class COCOEvaluator(PerImageEvaluator):
    """Computes COCO's AP of boxes, masks and keypoints, and AR of proposals.

    Works with any registered dataset that has instance annotations. Predictions are stored as compact arrays (masks as
    RLE), in a temporary file if there are many, and are matched some images at a time. In a distributed run, each
    process matches its own images and sends only the matches; the results equal those of a single process bit for bit.

    The results are ``{"bbox": {"AP": ..., "AP50": ..., "AP-person": ...}, "segm": {...}, "keypoints": {...},
    "box_proposals": {"AR@100": ...}}``, in percent; NaN if there is no ground truth.

    Reference: Lin et al., Microsoft COCO, https://arxiv.org/abs/1405.0312 and https://cocodataset.org/#detection-eval
    """

    def __init__(
        self,
        dataset_name: str,
        tasks: Sequence[str] | None = None,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        max_dets_per_image: int | None = None,
        use_fast_impl: bool = True,
        kpt_oks_sigmas: Sequence[float] = (),
        allow_cached_coco: bool = True,
        engine: str = "auto",
    ) -> None:
        """
        Args:
            dataset_name: a registered dataset. Without ``json_file`` in its metadata, its records are converted to a
                COCO file in ``output_dir``.
            tasks: some of ``bbox``, ``segm``, ``keypoints``; None = those that the predictions allow.
            distributed: whether to evaluate the predictions of all processes, or only those of this process.
            output_dir: folder for ``instances_predictions.pth`` and ``coco_instances_results.json``
                (or ``box_proposals.pkl``); None writes nothing.
            max_dets_per_image: largest number of detections per image to evaluate; None = COCO's 100
                (keypoints: 20).
            use_fast_impl: False uses pycocotools, like ``engine="pycocotools"``.
            kpt_oks_sigmas: one per keypoint; empty = COCO's 17.
            allow_cached_coco: whether to reuse a converted file in ``output_dir`` that still matches the dataset.
            engine: ``hotcoco`` (fast), ``pycocotools``, or ``auto``: hotcoco if it supports the dataset.

        Raises:
            ValueError: for unknown tasks or engines, or a dataset that cannot be converted.
        """
        self._logger = logging.getLogger(__name__)
        self._distributed = distributed
        self._output_dir = output_dir
        self._cpu_device = torch.device("cpu")
        self._tasks = checked_tasks(tasks, self._logger)
        if engine not in engines.ENGINES:
            raise ValueError(f"engine must be one of {engines.ENGINES}, got {engine!r}")
        if max_dets_per_image is not None and max_dets_per_image < 1:
            raise ValueError(f"max_dets_per_image must be at least 1, got {max_dets_per_image}")
        self._use_fast_impl = use_fast_impl and engine != "pycocotools"
        self._engine = engine
        self._max_dets_per_image = None if max_dets_per_image is None else [1, 10, max_dets_per_image]
        self._kpt_oks_sigmas = kpt_oks_sigmas
        self._metadata = MetadataCatalog.get(dataset_name)
        if output_dir:
            os.makedirs(output_dir, exist_ok=True)
        self._truth = self._load_truth(dataset_name, allow_cached_coco)
        # Without annotations, as in a test set, predictions are only written to files.
        self._do_evaluation = self._truth.labelled
        self._predictions: Any = PredictionList()
        self._results: OrderedDict[str, Any] = OrderedDict()
        self._reasons: list[str] = []  # why an AP is 0 or undefined

    def _load_truth(self, name: str, allow_cached: bool) -> GroundTruth:
        first = not self._distributed or comm.is_main_process()  # so that the others find the converted file
        truth = ground_truth_of(name, self._metadata, self._output_dir, allow_cached) if first else None
        if self._distributed:
            comm.synchronize()
        return truth or ground_truth_of(name, self._metadata, self._output_dir, True)

    def _to_dataset(self) -> Callable[[ImageDetections], ImageDetections]:
        """Return a function that replaces contiguous classes by the dataset's category ids."""
        # Look up the metadata now: an evaluator may be created before its dataset is loaded.
        mapping = self._metadata.get("thing_dataset_id_to_contiguous_id")
        return dataset_ids(mapping, str(self._metadata.get("name")))

    @property
    def reasons(self) -> list[str]:
        """Reasons for an AP of the last evaluation that is 0 or undefined."""
        return list(self._reasons)

    @property
    def _coco_api(self) -> COCO:
        """The ground truth as a ``pycocotools.coco.COCO``."""
        return self._truth.pycocotools

    def reset(self) -> None:
        self._predictions = PredictionList()

    def _summarise(self, record: Mapping[str, Any], output: Mapping[str, Any]) -> dict[str, Any]:
        if "image_id" not in record:
            raise KeyError(
                f"inputs must have 'image_id', to find their ground truth, got the keys {sorted(record)}. "
                "A test loader of registered datasets keeps it; see register_coco_instances."
            )
        image_id = plain(record["image_id"])
        if image_id not in self._truth.images:
            known = list(itertools.islice(self._truth.images, 3))
            raise BadValue(
                f"image_id {image_id!r} is not in {self._truth.source}, which has ids such as {known}; "
                "the loader may be for another dataset, or its ids of another type"
            )
        prediction: dict[str, Any] = {"image_id": image_id}
        if "instances" in output:
            prediction["instances"] = self._pack(output["instances"], image_id)
        if "proposals" in output:
            prediction["proposals"] = output["proposals"].to(self._cpu_device)
        return prediction

    def _take(self, summary: dict[str, Any]) -> None:
        if len(summary) > 1:
            self._predictions.append(summary)

    def _pack(self, instances: Instances, image_id: ImageId) -> ImageDetections:
        return pack_instances(instances, image_id)

    def evaluate(self, img_ids: Sequence[ImageId] | None = None) -> OrderedDict[str, Any]:
        """Compute the metrics.

        Args:
            img_ids: images to evaluate; None = all images of the ground truth.

        Returns:
            The results; an empty dict on processes other than the main one, and if nothing was processed.
        """
        alone = not self._distributed or comm.get_world_size() == 1
        predictions = self._kept()
        present = predictions.parts
        if not alone:
            present = set().union(*comm.all_gather(present))
        if not present:
            if alone or comm.is_main_process():
                self._logger.warning("COCOEvaluator got no predictions: process() was never called with any.")
            return OrderedDict()
        self._results, self._reasons = OrderedDict(), []
        if "proposals" in present:
            self._eval_box_proposals(predictions)
        if "instances" in present:
            self._eval_predictions(predictions, img_ids=img_ids)
        if not alone and not comm.is_main_process():
            return OrderedDict()
        return copy.deepcopy(self._results)

    def _kept(self) -> PredictionList:
        """Return the processed records, which a subclass may have replaced by a plain list."""
        if not isinstance(self._predictions, PredictionList):
            self._predictions = PredictionList(self._predictions)
        return self._predictions

    def _eval_predictions(self, predictions: Any, img_ids: Sequence[ImageId] | None = None) -> None:
        """Write and evaluate the detections of this process's images."""
        kept = predictions if isinstance(predictions, PredictionList) else PredictionList(predictions)
        convert = self._to_dataset()
        every = Detections(kept, convert)
        tasks = self._tasks or self._tasks_of(kept)
        self._write(kept, every)
        own = Detections(kept, lambda found: self._listed(convert(found)))
        if not self._do_evaluation:
            self._logger.info("The dataset has no annotations: predictions are written, but not evaluated.")
            return
        if img_ids is not None:
            own, every = own.of_images(img_ids), every.of_images(img_ids)
        for task in sorted(tasks):
            figures = self._figures(own, task, img_ids)
            missing = self._what_is_missing(figures, every)
            if figures is not None:
                self._results[task] = self._derive_coco_results(
                    figures, task, class_names=self._metadata.get("thing_classes")
                )
                self._say_why(self._results[task], task, missing, img_ids)

    def _tasks_from_predictions(self, predictions: Sequence[Any]) -> list[str]:
        """Return the tasks that COCO result dicts, or packed detections, allow."""
        return tasks_in(predictions)

    def _tasks_of(self, kept: PredictionList) -> list[str]:
        tasks = set(self._tasks_from_predictions(ResultDicts(kept, self._to_dataset())))
        if self._distributed and comm.get_world_size() > 1:
            tasks = set().union(*comm.all_gather(tasks))
        return [t for t in TASKS if t in tasks]

    def _listed(self, found: ImageDetections) -> ImageDetections:
        """Drop detections of categories that the ground truth does not list."""
        judged = self._truth.of_known_categories(found)
        if len(judged) < len(found):
            unknown = set(found.category_ids.tolist()) - set(judged.category_ids.tolist())
            log_first_n(
                logging.WARNING,
                f"{self._truth.source} has no category {min(unknown)}: such detections are ignored. "
                "If the model's classes are not category ids, load the dataset before the evaluation.",
                name=self._logger.name,
            )
        return judged

    def _figures(
        self, own: Detections, task: str, img_ids: Sequence[ImageId] | None
    ) -> engines.CocoFigures | None:
        """Return the arrays of one task on the main process, None elsewhere."""
        sigmas = engines.sigmas_of(self._kpt_oks_sigmas, self._truth) if task == "keypoints" else None
        caps = self._max_dets_per_image
        if task == "keypoints" and caps is not None:
            caps = caps[-1:]
        fast = self._use_fast_impl and engines.can_use_hotcoco(self._truth)
        if self._engine == "hotcoco" and not fast:
            raise ValueError(
                f"engine='hotcoco' needs integer ids of images and categories in {self._truth.source}; use 'auto'"
            )
        if not fast:
            return self._figures_of_class(own, task, img_ids, caps, sigmas)
        unseen = self._unseen(own, img_ids)
        stream = engines.stream_shard(self._truth, own, task, caps, sigmas, unseen)
        if self._distributed and comm.get_world_size() > 1:
            states = comm.gather(stream.to_bytes(), dst=0)
            if not comm.is_main_process():
                return None
            return engines.figures_of(engines.merge_shards(states), task)
        return engines.figures_of(stream.finalize(), task)

    def _figures_of_class(
        self,
        own: Detections,
        task: str,
        img_ids: Sequence[ImageId] | None,
        caps: Sequence[int] | None,
        sigmas: Sequence[float] | None,
        evaluator: type[COCOeval] | None = None,
    ) -> engines.CocoFigures | None:
        """Do the same as :meth:`_figures` with a class like pycocotools' ``COCOeval``."""
        images = sorted({*own.image_ids, *self._unseen(own, img_ids)})
        part = match_images(self._coco_api, own, images, task, caps, sigmas, evaluator)
        parts = [part]
        if self._distributed and comm.get_world_size() > 1:
            parts = comm.gather(part, dst=0)
            if not comm.is_main_process():
                return None
        return joined_figures(self._coco_api, parts, task, caps, sigmas, evaluator)

    def _unseen(self, own: Detections, img_ids: Sequence[ImageId] | None) -> list[Any]:
        """Return the images without detections of any process, on the main process."""
        seen: list[list[Any]] = [own.image_ids]
        if self._distributed and comm.get_world_size() > 1:
            seen = comm.gather(seen[0], dst=0)
            if not comm.is_main_process():
                return []
        expected = self._truth.images if img_ids is None else img_ids
        return sorted(set(expected) - set(itertools.chain.from_iterable(seen)))

    def _derive_coco_results(
        self, coco_eval: Any, iou_type: str, class_names: Sequence[str] | None = None
    ) -> dict[str, float]:
        """Compute the metrics of one task, and log them as a table.

        Args:
            coco_eval: any object with the ``eval`` arrays and ``params`` of a ``COCOeval``.
            iou_type: the task.
            class_names: names of the classes; if there are several, AP per class is added.

        Returns:
            ``{metric: percent}``.
        """
        if coco_eval is None:
            return dict.fromkeys(METRICS[iou_type], float("nan"))
        if not isinstance(coco_eval, engines.CocoFigures):
            coco_eval = engines.figures_from(coco_eval, iou_type)
        results = headline(coco_eval)
        self._logger.info("Evaluation of %s:\n%s", iou_type, create_small_table(results))
        if class_names is None or len(class_names) <= 1:
            return results
        mapping = self._metadata.get("thing_dataset_id_to_contiguous_id")
        mapping = mapping or {c: k for k, c in enumerate(coco_eval.params.catIds)}
        by_class = category_metrics(coco_eval, class_names, mapping)
        self._logger.info("Evaluation of %s by category:\n%s", iou_type, category_table(by_class))
        results.update(by_class)
        return results

    def _what_is_missing(
        self, figures: engines.CocoFigures | None, every: Detections
    ) -> list[ImageDetections]:
        """Return a sample of the detections of all processes if AP is poor or undefined, to find the reason."""
        poor = figures is not None and not headline(figures)["AP"] > POOR
        if not self._distributed or comm.get_world_size() == 1:
            return sample_of(every) if poor else []
        parts = comm.gather(sample_of(every), dst=0) if any(comm.all_gather(poor)) else []
        return list(itertools.chain.from_iterable(parts))

    def _say_why(
        self,
        results: Mapping[str, float],
        task: str,
        found: list[ImageDetections],
        img_ids: Sequence[ImageId] | None,
    ) -> None:
        """Log reasons for an AP that is (almost) 0 or NaN."""
        if results["AP"] > POOR:
            return
        images = self._truth.images if img_ids is None else {i: self._truth.images[i] for i in img_ids}
        truth = {i: group for i, group in self._truth.by_image.items() if i in images}
        names = {c["id"]: c.get("name", "") for c in self._truth.categories}
        listed = [self._truth.of_known_categories(d) for d in found]
        passed_over = sum(map(len, found)) - sum(map(len, listed))
        for reason in explain(images, truth, listed, names, passed_over):
            self._reasons.append(f"AP of {task} is {results['AP']:.3g}: {reason}")
            self._logger.warning(self._reasons[-1])

    def _write(self, predictions: PredictionList, detections: Detections) -> None:
        if self._output_dir:
            rank, world = (comm.get_rank(), comm.get_world_size()) if self._distributed else (0, 1)
            collect_results_file(self._output_dir, predictions, detections.as_processed(), rank, world)

    def detections(self) -> list[ImageDetections]:
        """Return all detections since ``reset()``, with the dataset's category ids; merged on the main process.

        Detections of categories that the ground truth does not list are dropped.
        """
        own = [self._truth.of_known_categories(d) for d in Detections(self._kept(), self._to_dataset())]
        if self._distributed and comm.get_world_size() > 1:
            own = list(itertools.chain.from_iterable(comm.gather(own, dst=0)))
        return sorted(own, key=lambda d: (str(type(d.image_id)), d.image_id))

    def diagnose(self, task: str = "bbox", top: int = 12) -> Diagnosis | None:
        """Analyse the results: classes, curves, kinds of errors, calibration, worst images.

        Args:
            task: ``bbox`` or ``segm``.
            top: number of worst images.

        Returns:
            The diagnosis; None on processes other than the main one, and if the ground truth has no annotations, or
            ids that are not integers.
        """
        found = self.detections()
        if self._distributed and not comm.is_main_process():
            return None
        if not self._do_evaluation or not engines.can_use_hotcoco(self._truth):
            self._logger.warning(
                "No diagnosis: %s has no annotations, or ids that are not integers.", self._truth.source
            )
            return None
        return diagnose(self._truth, found, task, max_dets=self._max_dets_per_image, top=top)

    def _eval_box_proposals(self, predictions: Any) -> None:
        """Compute the average recall of the proposals."""
        own = [p for p in predictions if "proposals" in p]
        if self._output_dir and (not self._distributed or comm.is_main_process()):
            write_proposals(self._output_dir, own)
        if not self._do_evaluation:
            return
        recall = ProposalRecall()
        for p in own:
            recall.add_image(p["proposals"], self._truth.by_image.get(p["image_id"], ()))
        if self._distributed and comm.get_world_size() > 1:
            parts = comm.gather(recall, dst=0)
            if not comm.is_main_process():
                return
            recall = parts[0].merge(parts[1:])
        self._results["box_proposals"] = recall.metrics()
        self._logger.info("Proposals:\n%s", create_small_table(self._results["box_proposals"]))
