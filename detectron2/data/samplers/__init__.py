"""Samplers: the order of records in training and inference."""

from .build import TRAIN_SAMPLER_REGISTRY, build_train_sampler
from .distributed_sampler import (
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from .grouped_batch_sampler import GroupedBatchSampler
from .weighted import WeightedIndexSampler, class_balanced_weights

__all__ = [
    "TRAIN_SAMPLER_REGISTRY",
    "GroupedBatchSampler",
    "InferenceSampler",
    "RandomSubsetTrainingSampler",
    "RepeatFactorTrainingSampler",
    "TrainingSampler",
    "WeightedIndexSampler",
    "build_train_sampler",
    "class_balanced_weights",
]
