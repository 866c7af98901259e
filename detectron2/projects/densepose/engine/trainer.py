"""The trainer of DensePose models."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from detectron2.evaluation import DatasetEvaluator, DatasetEvaluators, inference_on_dataset, print_csv_format
from detectron2.utils import comm
from detectron2.utils.events import EventWriter, get_event_storage
from detectron2.utils.unwrap import unwrap_model

from ..data.build import (
    build_combined_loader,
    build_detection_test_loader,
    build_detection_train_loader,
    build_inference_based_loaders,
    has_inference_based_loaders,
)
from ..data.dataset_mapper import DatasetMapper
from ..evaluation.d2_evaluator_adapter import Detectron2COCOEvaluatorAdapter
from ..evaluation.evaluator import DensePoseCOCOEvaluator, build_densepose_evaluator_storage
from ..modeling.cse.embedder import Embedder
from ..modeling.test_time_augmentation import DensePoseDatasetMapperTTA, DensePoseGeneralizedRCNNWithTTA
from ..utils.transform import load_from_cfg

__all__ = ["SampleCountMetricPrinter", "SampleCountingLoader", "Trainer"]

logger = logging.getLogger(__name__)

_WINDOW = 20


class SampleCountingLoader:
    """Gives the batches of a loader, and notes how many instances of each come from which data set.

    The figures go to the open event storage as ``batch/<data set>``.

    Args:
        loader: gives batches of dicts with ``instances`` and ``dataset``.
    """

    def __init__(self, loader: Iterable[list[dict[str, Any]]]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        for batch in self.loader:
            counts: Counter[str] = Counter()
            for element in batch:
                counts[element["dataset"]] += len(element["instances"])
            storage = get_event_storage()
            for name, count in counts.items():
                storage.put_scalar(f"batch/{name}", count)
            yield batch


class SampleCountMetricPrinter(EventWriter):
    """Logs the figures of :class:`SampleCountingLoader`, averaged over 20 batches."""

    def __init__(self) -> None:
        self.logger = logging.getLogger(__name__)

    def write(self) -> None:
        histories = get_event_storage().histories()
        parts = [f"{key} {h.avg(_WINDOW):.1f}" for key, h in histories.items() if key.startswith("batch/")]
        if parts:
            self.logger.info("Instances in a batch: %s", ", ".join(parts))


class Trainer(DefaultTrainer):
    """Trains a DensePose model as its config says, on annotated data and on what a trained model annotates.

    Args:
        cfg: a config with the keys of DensePose.
    """

    @classmethod
    def extract_embedder_from_model(cls, model: nn.Module) -> Embedder | None:
        """Return the embeddings of vertices that a model has learnt, None if it has none.

        Args:
            model: possibly wrapped for several processes.
        """
        return getattr(getattr(unwrap_model(model), "roi_heads", None), "embedder", None)

    @classmethod
    def test(  # type: ignore[override]
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: DatasetEvaluator | list[DatasetEvaluator] | None = None,
    ) -> Mapping[str, Any]:
        """Evaluate a model on all test data sets of a config.

        Args:
            cfg: a config with the keys of DensePose.
            model: the model; its mode is restored.
            evaluators: one for each data set; None makes them from the config.

        Returns:
            Results by data set; the results themselves when there is only one. Where
            ``DENSEPOSE_EVALUATION.DISTRIBUTED_INFERENCE`` is off, processes other than the main one get empty ones.

        Raises:
            ValueError: if the numbers of evaluators and data sets differ.
        """
        given = [evaluators] if isinstance(evaluators, DatasetEvaluator) else evaluators
        return cls._test(cfg, model, given)

    @classmethod
    def _test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: list[DatasetEvaluator] | None,
        output_folder: str | None = None,
    ) -> Mapping[str, Any]:
        names = list(cfg.DATASETS.TEST)
        if evaluators is not None and len(evaluators) != len(names):
            raise ValueError(f"{len(names)} test data sets need as many evaluators, got {len(evaluators)}")
        takes_part = cfg.DENSEPOSE_EVALUATION.DISTRIBUTED_INFERENCE or comm.is_main_process()
        embedder = cls.extract_embedder_from_model(model)
        results: dict[str, Any] = {}
        for i, name in enumerate(names):
            # First the loader: it decides which categories are in use, by which the evaluator judges.
            loader = cls.build_test_loader(cfg, name)
            results[name] = {}
            if takes_part:
                evaluator = (
                    evaluators[i] if evaluators else cls.build_evaluator(cfg, name, output_folder, embedder)
                )
                results[name] = inference_on_dataset(model, loader, evaluator) or {}
            if comm.is_main_process():
                logger.info("Evaluation results for %s in csv format:", name)
                print_csv_format(results[name])
        return next(iter(results.values())) if len(results) == 1 else results

    @classmethod
    def build_evaluator(  # type: ignore[override]
        cls,
        cfg: CfgNode,
        dataset_name: str,
        output_folder: str | None = None,
        embedder: Embedder | None = None,
    ) -> DatasetEvaluators:
        """Make the evaluators of one test data set: of boxes and masks, and of DensePose.

        Args:
            cfg: a config with the keys of DensePose.
            dataset_name: a data set whose loader has been built, so that its classes are known.
            output_folder: folder for result files; default: ``inference`` in the output folder.
            embedder: embeddings of vertices, for surface embeddings.
        """
        folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference")
        settings = cfg.DENSEPOSE_EVALUATION
        distributed = settings.DISTRIBUTED_INFERENCE
        # LVIS's data sets too are judged by COCO's figures, so that all can be compared.
        evaluators: list[DatasetEvaluator] = [
            Detectron2COCOEvaluatorAdapter(dataset_name, output_dir=folder, distributed=distributed)
        ]
        if cfg.MODEL.DENSEPOSE_ON:
            evaluators.append(
                DensePoseCOCOEvaluator(
                    dataset_name,
                    distributed,
                    folder,
                    evaluator_type=settings.TYPE,
                    min_iou_threshold=settings.MIN_IOU_THRESHOLD,
                    storage=build_densepose_evaluator_storage(cfg, folder),
                    embedder=embedder,
                    should_evaluate_mesh_alignment=settings.EVALUATE_MESH_ALIGNMENT,
                    mesh_alignment_mesh_names=settings.MESH_ALIGNMENT_MESH_NAMES,
                )
            )
        return DatasetEvaluators(evaluators)

    @classmethod
    def build_optimizer(cls, cfg: Any, model: nn.Module) -> torch.optim.Optimizer:
        """Make the optimizer; embeddings of vertices and their features learn at rates of their own.

        Args:
            cfg: ``MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDING_LR_FACTOR`` and ``FEATURES_LR_FACTOR`` multiply the rate.
            model: its parameters that require a gradient are optimised.
        """
        settings = cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE
        cfg = cfg.clone()
        cfg.defrost()
        cfg.SOLVER.LR_FACTORS = [
            *cfg.SOLVER.get("LR_FACTORS", []),
            [r"\.features$", settings.FEATURES_LR_FACTOR],
            [r"\.embeddings$", settings.EMBEDDING_LR_FACTOR],
        ]
        return super().build_optimizer(cfg, model)

    @classmethod
    def build_test_loader(cls, cfg: Any, dataset_name: str) -> Iterable[Any]:
        """Make the loader of one test data set."""
        return build_detection_test_loader(cfg, dataset_name, mapper=DatasetMapper(cfg, False))

    @classmethod
    def build_train_loader(cls, cfg: Any) -> Iterable[Any]:
        """Make the endless stream of training batches, of annotated data and of those for bootstrapping."""
        annotated = build_detection_train_loader(cfg, mapper=DatasetMapper(cfg, True))
        if not has_inference_based_loaders(cfg):
            return annotated
        model = cls.build_model(cfg)
        model.to(cfg.BOOTSTRAP_MODEL.DEVICE)
        DetectionCheckpointer(model).resume_or_load(cfg.BOOTSTRAP_MODEL.WEIGHTS, resume=False)
        loaders, ratios = build_inference_based_loaders(cfg, model)
        return SampleCountingLoader(build_combined_loader(cfg, [annotated, *loaders], [1.0, *ratios]))

    def build_writers(self) -> list[EventWriter]:
        """Make the writers of the main process, with one for the sources of the training data."""
        return [*super().build_writers(), SampleCountMetricPrinter()]

    @classmethod
    def test_with_TTA(cls, cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
        """Evaluate a model with test-time augmentation on all test data sets.

        Args:
            cfg: a config with the keys of DensePose, versions of images in ``TEST.AUG``.
            model: the model.

        Returns:
            Results as of :meth:`test`, their names with ``_TTA``.
        """
        logger.info("Running inference with test-time augmentation ...")
        versions = DensePoseGeneralizedRCNNWithTTA(
            cfg, unwrap_model(model), load_from_cfg(cfg), DensePoseDatasetMapperTTA(cfg)
        )
        folder = os.path.join(cfg.OUTPUT_DIR, "inference_TTA")
        results = cls._test(cfg, versions, None, folder)
        return {f"{name}_TTA": value for name, value in results.items()}
