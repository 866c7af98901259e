"""Building the evaluators of a dataset from the ``evaluator_type`` in its metadata."""

from __future__ import annotations

import os
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils.registry import Registry
from detectron2.utils.suggest import did_you_mean

from .cityscapes_evaluation import CityscapesInstanceEvaluator, CityscapesSemSegEvaluator
from .coco_evaluation import COCOEvaluator
from .evaluator import DatasetEvaluator, DatasetEvaluators
from .lvis_evaluation import LVISEvaluator
from .panoptic_evaluation import COCOPanopticEvaluator
from .pascal_voc_evaluation import PascalVOCDetectionEvaluator
from .rotated_coco_evaluation import RotatedCOCOEvaluator
from .sem_seg_evaluation import SemSegEvaluator
from .tolerant import NoEvaluatorError

EVALUATOR_REGISTRY = Registry("EVALUATOR")
"""Functions ``fn(dataset_name, output_dir, **options)`` by ``evaluator_type``, each returning a list of evaluators.

Options are ``max_dets_per_image``, ``kpt_oks_sigmas`` and ``engine``; a function ignores those that do not apply.
"""

Options = dict[str, Any]


@EVALUATOR_REGISTRY.register(name="coco")
def _coco(name: str, output_dir: str | None, **options: Any) -> list[DatasetEvaluator]:
    return [COCOEvaluator(name, output_dir=output_dir, **options)]


@EVALUATOR_REGISTRY.register(name="rotated_coco")
def _rotated(name: str, output_dir: str | None, **options: Any) -> list[DatasetEvaluator]:
    return [RotatedCOCOEvaluator(name, output_dir=output_dir, **options)]


@EVALUATOR_REGISTRY.register(name="lvis")
def _lvis(name: str, output_dir: str | None, **options: Any) -> list[DatasetEvaluator]:
    return [LVISEvaluator(name, output_dir=output_dir, max_dets_per_image=options.get("max_dets_per_image"))]


@EVALUATOR_REGISTRY.register(name="sem_seg")
def _sem_seg(name: str, output_dir: str | None, **options: object) -> list[DatasetEvaluator]:
    return [SemSegEvaluator(name, output_dir=output_dir)]


@EVALUATOR_REGISTRY.register(name="coco_panoptic_seg")
def _coco_panoptic(name: str, output_dir: str | None, **options: Any) -> list[DatasetEvaluator]:
    pictures = None if output_dir is None else os.path.join(output_dir, "panoptic_seg")
    return [
        *_sem_seg(name, output_dir),
        *_coco(name, output_dir, **options),
        COCOPanopticEvaluator(name, pictures),
    ]


@EVALUATOR_REGISTRY.register(name="ade20k_panoptic_seg")
def _ade_panoptic(name: str, output_dir: str | None, **options: Any) -> list[DatasetEvaluator]:
    return _coco_panoptic(name, output_dir, **options)


@EVALUATOR_REGISTRY.register(name="cityscapes_instance")
def _cityscapes_instance(name: str, output_dir: str | None, **options: object) -> list[DatasetEvaluator]:
    return [CityscapesInstanceEvaluator(name)]


@EVALUATOR_REGISTRY.register(name="cityscapes_sem_seg")
def _cityscapes_sem_seg(name: str, output_dir: str | None, **options: object) -> list[DatasetEvaluator]:
    return [CityscapesSemSegEvaluator(name)]


@EVALUATOR_REGISTRY.register(name="cityscapes_panoptic_seg")
def _cityscapes_panoptic(name: str, output_dir: str | None, **options: object) -> list[DatasetEvaluator]:
    pictures = None if output_dir is None else os.path.join(output_dir, "panoptic_seg")
    return [
        *_cityscapes_sem_seg(name, output_dir),
        *_cityscapes_instance(name, output_dir),
        COCOPanopticEvaluator(name, pictures),
    ]


@EVALUATOR_REGISTRY.register(name="pascal_voc")
def _pascal_voc(name: str, output_dir: str | None, **options: object) -> list[DatasetEvaluator]:
    return [PascalVOCDetectionEvaluator(name)]


def evaluator_for(dataset_name: str, output_dir: str | None = None, **options: Any) -> DatasetEvaluator:
    """Build the evaluator of a registered dataset, by its ``evaluator_type``.

    Args:
        dataset_name: name of the dataset; without ``evaluator_type``, but with ``thing_classes``, it is ``coco``.
        output_dir: folder for result files.
        **options: ``max_dets_per_image`` (default: that in the metadata of the data set, if there is one),
            ``kpt_oks_sigmas``, ``engine``.

    Returns:
        One evaluator, or several as ``DatasetEvaluators``.

    Raises:
        NoEvaluatorError: (a KeyError) if the dataset has no known ``evaluator_type``.
    """
    metadata = MetadataCatalog.get(dataset_name)
    kind = metadata.get("evaluator_type") or ("coco" if metadata.get("thing_classes") else None)
    if kind is None or kind not in EVALUATOR_REGISTRY:
        known = [name for name, _ in EVALUATOR_REGISTRY]
        hint = did_you_mean(kind, known) if kind else f"known are {known}."
        raise NoEvaluatorError(
            f"dataset {dataset_name!r} has evaluator_type {kind!r}: {hint} Set it with "
            "MetadataCatalog.get(name).set(evaluator_type=...), or override build_evaluator."
        )
    most = metadata.get("max_dets_per_image")
    if most is not None:
        options = {"max_dets_per_image": most, **options}
    evaluators = EVALUATOR_REGISTRY.get(kind)(dataset_name, output_dir, **options)
    return evaluators[0] if len(evaluators) == 1 else DatasetEvaluators(evaluators)


def build_evaluator(cfg: CfgNode, dataset_name: str, output_folder: str | None = None) -> DatasetEvaluator:
    """Build the evaluator of a dataset for a config.

    Args:
        cfg: config with ``OUTPUT_DIR`` and ``TEST.KEYPOINT_OKS_SIGMAS``.
        dataset_name: a registered dataset.
        output_folder: folder for result files; None = ``OUTPUT_DIR/inference``.

    Raises:
        NoEvaluatorError: if the dataset has no known ``evaluator_type``, or its records cannot be evaluated.
    """
    folder = os.path.join(cfg.OUTPUT_DIR, "inference") if output_folder is None else output_folder
    try:
        return evaluator_for(dataset_name, folder, kpt_oks_sigmas=tuple(cfg.TEST.KEYPOINT_OKS_SIGMAS))
    except (ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
        if isinstance(error, NoEvaluatorError):
            raise
        raise NoEvaluatorError(f"dataset {dataset_name!r} cannot be evaluated: {error}") from error
