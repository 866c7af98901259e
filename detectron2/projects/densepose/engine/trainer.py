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
    """Yields the batches of a loader, and counts their instances per dataset.

    The counts are written to the current event storage as ``batch/<dataset>``.

    Args:
        loader: yields batches of dicts with ``instances`` and ``dataset``.
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
    """Logs the counts of :class:`SampleCountingLoader`, averaged over 20 batches."""

    def __init__(self) -> None:
        self.logger = logging.getLogger(__name__)

    def write(self) -> None:
        histories = get_event_storage().histories()
        parts = [f"{key} {h.avg(_WINDOW):.1f}" for key, h in histories.items() if key.startswith("batch/")]
        if parts:
            self.logger.info("Instances in a batch: %s", ", ".join(parts))


class Trainer(DefaultTrainer):
    """Trains a DensePose model by its config, on annotated data and on data annotated by a trained model.

    Args:
        cfg: a config with the keys of DensePose.
    """

    @classmethod
    def extract_embedder_from_model(cls, model: nn.Module) -> Embedder | None:
        """Return the learned vertex embeddings of a model, None if it has none.

        Args:
            model: the model, with or without wrappers.
        """
        return getattr(getattr(unwrap_model(model), "roi_heads", None), "embedder", None)

    @classmethod
    def test(  # type: ignore[override]
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: DatasetEvaluator | list[DatasetEvaluator] | None = None,
    ) -> Mapping[str, Any]:
        """Evaluate a model on all test datasets of a config.

        Args:
            cfg: a config with the keys of DensePose.
            model: the model; its mode is restored.
            evaluators: one per dataset; None = build them from the config.

        Returns:
            Results by dataset, or the results themselves if there is only one dataset. Without
            ``DENSEPOSE_EVALUATION.DISTRIBUTED_INFERENCE``, only the main process gets results.

        Raises:
            ValueError: the numbers of evaluators and datasets differ.
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
            raise ValueError(f"{len(names)} test datasets need as many evaluators, got {len(evaluators)}")
        takes_part = cfg.DENSEPOSE_EVALUATION.DISTRIBUTED_INFERENCE or comm.is_main_process()
        embedder = cls.extract_embedder_from_model(model)
        results: dict[str, Any] = {}
        for i, name in enumerate(names):
            # Build the loader first: it determines the used categories, which the evaluator needs.
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
        """Build the evaluators of one test dataset: of boxes and masks, and of DensePose.

        Args:
            cfg: a config with the keys of DensePose.
            dataset_name: a dataset whose loader has been built, which determines its classes.
            output_folder: folder for result files; None = ``inference`` in the output folder.
            embedder: vertex embeddings, for surface embeddings.
        """
        folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference")
        settings = cfg.DENSEPOSE_EVALUATION
        distributed = settings.DISTRIBUTED_INFERENCE
        # LVIS datasets are evaluated with COCO metrics too, so that all results can be compared.
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
        """Build the optimizer; vertex embeddings and their features have their own learning rates.

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
        """Build the loader of one test dataset."""
        return build_detection_test_loader(cfg, dataset_name, mapper=DatasetMapper(cfg, False))

    @classmethod
    def build_train_loader(cls, cfg: Any) -> Iterable[Any]:
        """Build the endless stream of training batches, of annotated data and bootstrapping data."""
        annotated = build_detection_train_loader(cfg, mapper=DatasetMapper(cfg, True))
        if not has_inference_based_loaders(cfg):
            return annotated
        model = cls.build_model(cfg)
        model.to(cfg.BOOTSTRAP_MODEL.DEVICE)
        DetectionCheckpointer(model).resume_or_load(cfg.BOOTSTRAP_MODEL.WEIGHTS, resume=False)
        loaders, ratios = build_inference_based_loaders(cfg, model)
        return SampleCountingLoader(build_combined_loader(cfg, [annotated, *loaders], [1.0, *ratios]))

    def build_writers(self) -> list[EventWriter]:
        """Build the writers of the main process, including one for the sources of the training data."""
        return [*super().build_writers(), SampleCountMetricPrinter()]

    @classmethod
    def test_with_TTA(cls, cfg: CfgNode, model: nn.Module) -> dict[str, Any]:
        """Evaluate a model with test-time augmentation on all test datasets.

        Args:
            cfg: a config with the keys of DensePose, versions of images in ``TEST.AUG``.
            model: the model.

        Returns:
            Results as in :meth:`test`, with ``_TTA`` appended to their names.
        """
        logger.info("Running inference with test-time augmentation ...")
        versions = DensePoseGeneralizedRCNNWithTTA(
            cfg, unwrap_model(model), load_from_cfg(cfg), DensePoseDatasetMapperTTA(cfg)
        )
        folder = os.path.join(cfg.OUTPUT_DIR, "inference_TTA")
        results = cls._test(cfg, versions, None, folder)
        return {f"{name}_TTA": value for name, value in results.items()}
