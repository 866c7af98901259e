"""Loaders for training and inference, from a config or from parts."""

from collections.abc import Callable, Sequence
from typing import Any

import torch.utils.data as torchdata
from torch.utils.data import Sampler

from detectron2.config import CfgNode, configurable
from detectron2.utils.errors import BadValue
from detectron2.utils.reexports import passed_on, publish

from .common import DatasetFromList, Indexed, MapDataset
from .dataset_mapper import DatasetMapper, build_train_mapper
from .detection_utils import check_metadata_consistency
from .filtering import (
    filter_images_with_few_keypoints,
    filter_images_with_only_crowd_annotations,
    get_detection_dataset_dicts,
    load_proposals_into_dataset,
    print_instances_class_histogram,
)
from .loading.loader import (
    TrainLoader,
    build_batch_data_loader,
    trivial_batch_collator,
    worker_init_reset_seed,
)
from .loading.tolerant import TolerantMapper
from .multi_sample import multi_sample_augmentations, with_multi_sample
from .samplers import InferenceSampler, TrainingSampler, build_train_sampler
from .streaming import TarDataset

__all__ = [
    "TrainLoader",
    "build_batch_data_loader",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "check_metadata_consistency",
    "filter_images_with_few_keypoints",
    "filter_images_with_only_crowd_annotations",
    "get_detection_dataset_dicts",
    "load_proposals_into_dataset",
    "print_instances_class_histogram",
    "trivial_batch_collator",
    "worker_init_reset_seed",
]

__getattr__ = passed_on(__name__)

publish(
    __name__,
    build_batch_data_loader,
    filter_images_with_few_keypoints,
    filter_images_with_only_crowd_annotations,
    get_detection_dataset_dicts,
    load_proposals_into_dataset,
    print_instances_class_histogram,
    trivial_batch_collator,
    worker_init_reset_seed,
)

Mapper = Callable[[Any], Any]
Source = Indexed | torchdata.IterableDataset


def _train_loader_from_config(
    cfg: CfgNode,
    mapper: Mapper | None = None,
    *,
    dataset: Source | None = None,
    sampler: Sampler | None = None,
) -> dict[str, Any]:
    """Return the arguments of :func:`build_detection_train_loader` from a config."""
    if dataset is None:
        dataset = get_detection_dataset_dicts(
            cfg.DATASETS.TRAIN,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0,
            proposal_files=cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None,
        )
    if sampler is None and not isinstance(dataset, torchdata.IterableDataset):
        sampler = build_train_sampler(cfg, dataset)  # type: ignore[arg-type]
    mapper = build_train_mapper(cfg) if mapper is None else mapper
    if multi_sample_augmentations(cfg):
        if isinstance(dataset, torchdata.IterableDataset):
            raise BadValue(
                "mosaic, mixup and copy-paste draw further images by index, which an iterable data set does not have: "
                "set INPUT.MOSAIC.PROB, INPUT.MIXUP.PROB and INPUT.COPY_PASTE.PROB to 0"
            )
        # Pack the list here, so that the mapper draws from the one copy that all workers share.
        dataset = DatasetFromList(dataset, copy=False) if isinstance(dataset, list) else dataset
        mapper = with_multi_sample(cfg, mapper, dataset)  # type: ignore[arg-type]
    by_position = cfg.DATALOADER.AUGMENTATION_SEED == "position"
    return {
        "dataset": dataset,
        "sampler": sampler,
        "mapper": mapper,
        "total_batch_size": cfg.SOLVER.IMS_PER_BATCH,
        "aspect_ratio_grouping": cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
        "seed": cfg.SEED if cfg.SEED >= 0 and by_position else None,
        "augmentation_seed": cfg.DATALOADER.AUGMENTATION_SEED,
        "max_broken_share": cfg.DATALOADER.MAX_BROKEN_SHARE,
    }


@configurable(from_config=_train_loader_from_config)
def build_detection_train_loader(
    dataset: Source,
    *,
    mapper: Mapper | None,
    sampler: Sampler | None = None,
    total_batch_size: int,
    aspect_ratio_grouping: bool = True,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    **kwargs: Any,
) -> TrainLoader:
    """Build an endless loader of training batches, from its parts or from a config.

    Args:
        dataset: a list of records, or a map-style or iterable torch data set. From a config: the data sets in
            ``DATASETS.TRAIN``.
        mapper: maps a record to a model input, or to None if the record cannot be used; None leaves records as they
            are. From a config: ``DatasetMapper(cfg, True)``, or the mapper named by ``INPUT.DATASET_MAPPER_NAME``.
        sampler: order of the records; default: a shuffled :class:`TrainingSampler`. From a config: the one named by
            ``DATALOADER.SAMPLER_TRAIN``.
        total_batch_size: images per batch, over all ranks.
        aspect_ratio_grouping: batch portrait and landscape images separately, which needs less padding.
        num_workers: worker processes per rank.
        collate_fn: turns a list of elements into a batch; default: the list itself.
        **kwargs: ``max_broken_share``, the largest share of unreadable images that a process tolerates before it
            stops (default 0: none; from a config ``DATALOADER.MAX_BROKEN_SHARE``); the rest goes to
            :func:`build_batch_data_loader`.

    Returns:
        An iterable of batches, each a list of ``total_batch_size / world size`` mapped records, with
        ``state_dict`` and ``load_state_dict`` for exact resume.
    """
    max_broken_share = kwargs.pop("max_broken_share", 0.0)
    if isinstance(dataset, list):
        dataset = DatasetFromList(dataset, copy=False)
    if isinstance(dataset, TarDataset) and dataset.max_broken_share is None:
        dataset = dataset.with_max_broken_share(max_broken_share)
    if mapper is not None:
        dataset = MapDataset(dataset, TolerantMapper(mapper, max_broken_share))
    if sampler is None and not isinstance(dataset, torchdata.IterableDataset):
        sampler = TrainingSampler(len(dataset))
    return build_batch_data_loader(
        dataset,
        sampler,
        total_batch_size,
        aspect_ratio_grouping=aspect_ratio_grouping,
        num_workers=num_workers,
        collate_fn=collate_fn,
        **kwargs,
    )


def _test_loader_from_config(
    cfg: CfgNode, dataset_name: str | Sequence[str], mapper: Mapper | None = None
) -> dict[str, Any]:
    """Return the arguments of :func:`build_detection_test_loader` from a config and the name of a data set."""
    names = [dataset_name] if isinstance(dataset_name, str) else list(dataset_name)
    proposal_files = None
    if cfg.MODEL.LOAD_PROPOSALS:
        file_of = dict(zip(cfg.DATASETS.TEST, cfg.DATASETS.PROPOSAL_FILES_TEST))
        proposal_files = [file_of[name] for name in names]
    dataset = get_detection_dataset_dicts(
        names, filter_empty=False, proposal_files=proposal_files, check_consistency=len(names) > 1
    )
    return {
        "dataset": dataset,
        "mapper": DatasetMapper(cfg, False) if mapper is None else mapper,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
        "sampler": None if isinstance(dataset, torchdata.IterableDataset) else InferenceSampler(len(dataset)),
    }


@configurable(from_config=_test_loader_from_config)
def build_detection_test_loader(
    dataset: Source,
    *,
    mapper: Mapper | None,
    sampler: Sampler | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
) -> torchdata.DataLoader:
    """Build a loader that yields each record once, from its parts or from a config and a data set name.

    An unreadable image raises an error: skipping it silently would falsify the evaluation.

    Args:
        dataset: a list of records, or a torch data set.
        mapper: maps a record to a model input. From a config: ``DatasetMapper(cfg, False)``.
        sampler: order of the records; default: :class:`InferenceSampler`, which splits them over the ranks.
        batch_size: images per batch on this rank; the last batch may be smaller.
        num_workers: worker processes per rank.
        collate_fn: turns a list of elements into a batch; default: the list itself.

    Returns:
        A ``torch.utils.data.DataLoader``.
    """
    if isinstance(dataset, list):
        dataset = DatasetFromList(dataset, copy=False)
    if mapper is not None:
        dataset = MapDataset(dataset, mapper)
    if isinstance(dataset, torchdata.IterableDataset):
        if sampler is not None:
            raise BadValue("an iterable data set has its own order: sampler must be None")
    elif sampler is None:
        sampler = InferenceSampler(len(dataset))
    return torchdata.DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_size=batch_size,
        sampler=sampler,
        drop_last=False,
        num_workers=num_workers,
        collate_fn=collate_fn or trivial_batch_collator,
    )
