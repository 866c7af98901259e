"""Build the sampler that ``DATALOADER.SAMPLER_TRAIN`` names."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler

from detectron2.config import CfgNode
from detectron2.utils.errors import BadType
from detectron2.utils.registry import Registry

from .distributed_sampler import RandomSubsetTrainingSampler, RepeatFactorTrainingSampler, TrainingSampler
from .weighted import WeightedIndexSampler, class_balanced_weights, dataset_weights, spread_over_datasets

__all__ = ["TRAIN_SAMPLER_REGISTRY", "build_train_sampler"]

logger = logging.getLogger(__name__)

TRAIN_SAMPLER_REGISTRY = Registry("TRAIN_SAMPLER")
"""Functions ``(cfg, dataset, seed) -> Sampler`` for ``DATALOADER.SAMPLER_TRAIN``, by name.

``dataset`` is the result of :func:`~detectron2.data.get_detection_dataset_dicts`; ``seed`` is None for an unseeded
run.
"""

Builder = Callable[[CfgNode, Sequence[dict[str, Any]], int | None], Sampler]


def build_train_sampler(cfg: CfgNode, dataset: Sequence[dict[str, Any]]) -> Sampler:
    """Build the sampler that a config names.

    Args:
        cfg: with ``DATALOADER.SAMPLER_TRAIN``, ``SEED`` and the keys of the sampler.
        dataset: records, or a data set with a length.
    """
    name = cfg.DATALOADER.SAMPLER_TRAIN
    logger.info("Sampling with %s", name)
    # A negative SEED means a different order in each run; None lets the ranks agree on one.
    return TRAIN_SAMPLER_REGISTRY.get(name)(cfg, dataset, cfg.SEED if cfg.SEED >= 0 else None)


def _lengths(cfg: CfgNode, dataset: Sequence[dict[str, Any]]) -> dict[str, int]:
    lengths = getattr(dataset, "lengths", None)
    if lengths is None:
        if len(cfg.DATASETS.TRAIN) > 1:
            raise BadType(
                "weights per data set need the list of records that get_detection_dataset_dicts() returned"
            )
        lengths = {cfg.DATASETS.TRAIN[0]: len(dataset)}
    return lengths


@TRAIN_SAMPLER_REGISTRY.register(name="TrainingSampler")
def _plain(cfg: CfgNode, dataset: Sequence[dict[str, Any]], seed: int | None) -> Sampler:
    return TrainingSampler(len(dataset), seed=seed)


@TRAIN_SAMPLER_REGISTRY.register(name="RandomSubsetTrainingSampler")
def _subset(cfg: CfgNode, dataset: Sequence[dict[str, Any]], seed: int | None) -> Sampler:
    return RandomSubsetTrainingSampler(
        len(dataset), cfg.DATALOADER.RANDOM_SUBSET_RATIO, seed_shuffle=seed, seed_subset=seed
    )


@TRAIN_SAMPLER_REGISTRY.register(name="RepeatFactorTrainingSampler")
def _repeat(cfg: CfgNode, dataset: Sequence[dict[str, Any]], seed: int | None) -> Sampler:
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
        dataset, cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=cfg.DATALOADER.REPEAT_SQRT
    )
    return RepeatFactorTrainingSampler(factors, seed=seed)


def _factor_per_record(cfg: CfgNode, dataset: Sequence[dict[str, Any]]) -> torch.Tensor:
    lengths = _lengths(cfg, dataset)
    factors = spread_over_datasets(
        cfg.DATASETS.TRAIN_REPEAT_FACTOR, cfg.DATASETS.TRAIN, lengths, "DATASETS.TRAIN_REPEAT_FACTOR"
    )
    return torch.tensor(factors).repeat_interleave(torch.tensor(list(lengths.values())))


@TRAIN_SAMPLER_REGISTRY.register(name="WeightedTrainingSampler")
def _weighted(cfg: CfgNode, dataset: Sequence[dict[str, Any]], seed: int | None) -> Sampler:
    return RepeatFactorTrainingSampler(_factor_per_record(cfg, dataset), seed=seed)


@TRAIN_SAMPLER_REGISTRY.register(name="WeightedCategoryTrainingSampler")
def _weighted_categories(cfg: CfgNode, dataset: Sequence[dict[str, Any]], seed: int | None) -> Sampler:
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
        dataset, cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=cfg.DATALOADER.REPEAT_SQRT
    )
    return RepeatFactorTrainingSampler(factors * _factor_per_record(cfg, dataset), seed=seed)


@TRAIN_SAMPLER_REGISTRY.register(name="MultiDatasetTrainingSampler")
def _multi_dataset(cfg: CfgNode, dataset: Sequence[dict[str, Any]], seed: int | None) -> Sampler:
    lengths = _lengths(cfg, dataset)
    shares = spread_over_datasets(
        cfg.DATASETS.TRAIN_WEIGHTS, cfg.DATASETS.TRAIN, lengths, "DATASETS.TRAIN_WEIGHTS"
    )
    return WeightedIndexSampler(dataset_weights(lengths, shares), seed=seed)


@TRAIN_SAMPLER_REGISTRY.register(name="ClassBalancedTrainingSampler")
def _class_balanced(cfg: CfgNode, dataset: Sequence[dict[str, Any]], seed: int | None) -> Sampler:
    return WeightedIndexSampler(
        class_balanced_weights(dataset, cfg.DATALOADER.CLASS_BALANCE_POWER), seed=seed
    )
