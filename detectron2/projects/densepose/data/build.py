"""Loaders for training and testing, with categories selected and merged by the config."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from torch.utils.data import SequentialSampler

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, load_proposals_into_dataset, print_instances_class_histogram
from detectron2.data import build_detection_test_loader as build_core_test_loader
from detectron2.data import build_detection_train_loader as build_core_train_loader

from .bootstrap import (
    BootstrapDatasetFactoryCatalog,
    build_bootstrap_dataset,
    build_combined_loader,
    build_data_filter,
    build_data_sampler,
    build_frame_selector,
    build_inference_based_loader,
    build_inference_based_loaders,
    build_transform,
    build_video_list_dataset,
    has_inference_based_loaders,
)
from .categories import add_category_settings_to_metadata, merge_categories, with_contiguous_ids
from .dataset_mapper import DatasetMapper
from .datasets.coco import (
    DENSEPOSE_CSE_KEYS_WITHOUT_MASK,
    DENSEPOSE_IUV_KEYS_WITHOUT_MASK,
    DENSEPOSE_MASK_KEY,
)

__all__ = [
    "BootstrapDatasetFactoryCatalog",
    "build_bootstrap_dataset",
    "build_combined_loader",
    "build_data_filter",
    "build_data_sampler",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "build_frame_selector",
    "build_inference_based_loader",
    "build_inference_based_loaders",
    "build_transform",
    "build_video_list_dataset",
    "combine_detection_dataset_dicts",
    "has_inference_based_loaders",
]

Record = dict[str, Any]
Predicate = Callable[[Record], bool]


def combine_detection_dataset_dicts(
    dataset_names: Sequence[str],
    keep_instance_predicate: Predicate | None = None,
    proposal_files: Sequence[str] | None = None,
) -> list[Record]:
    """Load datasets, merge their categories and concatenate their records.

    Writes the classes to the metadata of the datasets.

    Args:
        dataset_names: registered datasets.
        keep_instance_predicate: returns whether to keep a record; None = keep all.
        proposal_files: one file of precomputed proposals per dataset, or None.

    Returns:
        Records whose annotations have contiguous class numbers.

    Raises:
        ValueError: no datasets, a dataset without records, or a wrong number of proposal files.
    """
    if not dataset_names:
        raise ValueError("no datasets: DATASETS.TRAIN (or TEST) is empty")
    loaded = {name: DatasetCatalog.get(name) for name in dataset_names}
    empty = [name for name, records in loaded.items() if not records]
    if empty:
        raise ValueError(f"datasets without records: {empty}")
    if proposal_files:
        if len(proposal_files) != len(dataset_names):
            raise ValueError(
                f"{len(dataset_names)} datasets need as many proposal files, got {proposal_files}"
            )
        for name, file in zip(dataset_names, proposal_files):
            load_proposals_into_dataset(loaded[name], file)
    categories = merge_categories(loaded)
    categories.write_metadata()
    numbered = [with_contiguous_ids(name, records) for name, records in loaded.items()]
    for records in numbered:
        print_instances_class_histogram(records, categories.class_names)
    joined = list(chain.from_iterable(numbered))
    return [r for r in joined if keep_instance_predicate is None or keep_instance_predicate(r)]


def _with_densepose(annotation: Record) -> bool:
    """Return whether an annotation has points, on charts or on a mesh, and a mask of either kind."""
    points = (DENSEPOSE_IUV_KEYS_WITHOUT_MASK, DENSEPOSE_CSE_KEYS_WITHOUT_MASK)
    has_points = any(all(key in annotation for key in keys) for keys in points)
    return has_points and (DENSEPOSE_MASK_KEY in annotation or "segmentation" in annotation)


def _tests_of_annotations(cfg: CfgNode) -> list[Callable[[Record], bool]]:
    """Return for each task of a model a function that tells whether an annotation can train it."""
    tests: list[Callable[[Record], bool]] = []
    if cfg.MODEL.MASK_ON:
        tests.append(lambda a: "segmentation" in a)
    if cfg.MODEL.DENSEPOSE_ON:
        tests.append(_with_densepose)
        if cfg.MODEL.ROI_DENSEPOSE_HEAD.COARSE_SEGM_TRAINED_BY_MASKS:
            tests.append(lambda a: "segmentation" in a)
    return tests


def _is_of_use(cfg: CfgNode) -> Predicate:
    """Return whether a record can train at least one part of a model; crowd regions cannot."""
    tests = _tests_of_annotations(cfg)
    least = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0

    def is_of_use(record: Record) -> bool:
        annotations = [a for a in record["annotations"] if not a.get("iscrowd", 0)]
        if not annotations and cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
            return False
        if not tests and not least:
            return True
        visible = sum(v > 0 for a in annotations for v in a.get("keypoints", ())[2::3])
        return any(test(a) for a in annotations for test in tests) or (0 < least <= visible)

    return is_of_use


def build_detection_train_loader(cfg: CfgNode, mapper: Callable[[Record], Any] | None = None) -> Any:
    """Build an endless loader of training batches.

    Images that can train no part of the model are dropped, and with ``DATALOADER.FILTER_EMPTY_ANNOTATIONS`` those with
    only crowd annotations.

    Args:
        cfg: a config with the keys of DensePose.
        mapper: converts a record to a model input; None = ``DatasetMapper(cfg, True)``.
    """
    add_category_settings_to_metadata(cfg)
    records = combine_detection_dataset_dicts(
        cfg.DATASETS.TRAIN,
        keep_instance_predicate=_is_of_use(cfg),
        proposal_files=cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None,
    )
    return build_core_train_loader(cfg, dataset=records, mapper=mapper or DatasetMapper(cfg, True))


def build_detection_test_loader(
    cfg: CfgNode, dataset_name: str, mapper: Callable[[Record], Any] | None = None
) -> Any:
    """Build a loader that yields each image of a dataset once.

    Images without an annotation of the used categories are dropped with ``DATALOADER.FILTER_EMPTY_ANNOTATIONS``.

    Args:
        cfg: a config with the keys of DensePose.
        dataset_name: a dataset of ``DATASETS.TEST``.
        mapper: converts a record to a model input; None = ``DatasetMapper(cfg, False)``.
    """
    add_category_settings_to_metadata(cfg)
    files = None
    if cfg.MODEL.LOAD_PROPOSALS:
        files = [cfg.DATASETS.PROPOSAL_FILES_TEST[list(cfg.DATASETS.TEST).index(dataset_name)]]
    keep_all = not cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    records = combine_detection_dataset_dicts(
        [dataset_name], lambda record: keep_all or bool(record["annotations"]), files
    )
    return build_core_test_loader(
        records,
        mapper=mapper or DatasetMapper(cfg, False),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        sampler=None if cfg.DENSEPOSE_EVALUATION.DISTRIBUTED_INFERENCE else SequentialSampler(records),
    )
