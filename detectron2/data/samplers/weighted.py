"""Training streams that draw with weights, to mix data sets in given shares or to balance classes."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from detectron2.utils.errors import BadValue

from .distributed_sampler import _agreed_seed, _SeededStream, categories_on_images

__all__ = ["WeightedIndexSampler", "class_balanced_weights", "dataset_weights", "spread_over_datasets"]


class WeightedIndexSampler(_SeededStream, Sampler):
    """Endless stream of indices drawn with replacement, with probabilities proportional to their weights.

    Args:
        weights: [N] float, not negative, not all zero.
        seed: the same on all ranks; None: drawn once and shared.
        block: indices drawn at a time; another value gives another stream.
    """

    def __init__(self, weights: Tensor, *, seed: int | None = None, block: int = 4096) -> None:
        weights = torch.as_tensor(weights, dtype=torch.float64)
        if weights.ndim != 1 or not bool(torch.isfinite(weights).all()) or bool((weights < 0).any()):
            raise BadValue("weights must be a vector of finite numbers that are not negative")
        if float(weights.sum()) == 0:
            raise BadValue("weights are all zero: nothing can be drawn")
        self._cumulative = torch.cumsum(weights / weights.sum(), 0)
        # The last index with a weight; rounding must not let a draw exceed it.
        self._last = int(weights.nonzero()[-1])
        self._seed = _agreed_seed(seed)
        self._block = block

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            draws = torch.rand(self._block, generator=generator, dtype=torch.float64)
            indices = torch.searchsorted(self._cumulative, draws, right=True)
            yield from indices.clamp_(max=self._last).tolist()


def spread_over_datasets(
    values: Sequence[Any], names: Sequence[str], lengths: dict[str, int], key: str
) -> list[float]:
    """Return one number per data set, from a config list of numbers or of ``(name, number)`` pairs.

    Args:
        values: numbers in the order of ``names``, or pairs; data sets without a pair get 1. Empty: all 1.
        names: data sets.
        lengths: data set -> number of records; the result is in its order.
        key: config key, for errors.
    """
    if not values:
        return [1.0] * len(lengths)
    if all(isinstance(v, (list, tuple)) for v in values):
        table = {str(n): float(x) for n, x in values}
        unknown = set(table) - set(lengths)
        if unknown:
            raise BadValue(f"{key} names {sorted(unknown)}, but the data sets are {sorted(lengths)}")
        return [table.get(n, 1.0) for n in lengths]
    if len(values) != len(names):
        raise BadValue(
            f"{key} needs one number for each of {len(names)} data sets in DATASETS.TRAIN, got {len(values)}"
        )
    table = dict(zip(names, map(float, values)))
    return [table[n] for n in lengths]


def dataset_weights(lengths: dict[str, int], shares: Sequence[float]) -> Tensor:
    """Compute weights that give each data set its share of the images drawn, regardless of its size.

    Args:
        lengths: data set -> number of records, in the order of the records.
        shares: one per data set; only their proportions matter.

    Returns:
        [total number of records] float.
    """
    parts = [
        torch.full((n,), share / max(n, 1), dtype=torch.float64) for n, share in zip(lengths.values(), shares)
    ]
    return torch.cat(parts)


def class_balanced_weights(records: Sequence[dict[str, Any]], power: float = 1.0) -> Tensor:
    """Compute weights that show classes about equally often.

    The weight of an image is that of its rarest class: the share of images with that class, to the power of
    ``-power``. Images without annotations have the weight of the most frequent class.

    Args:
        records: with ``annotations``.
        power: 1 balances fully, 0.5 partly, 0 not at all.

    Returns:
        [N] float.
    """
    images, categories, images_with = categories_on_images(records)
    common = images_with.max(initial=1)
    rarest = np.full(len(records), common)
    np.minimum.at(rarest, images, images_with[categories])
    return torch.from_numpy((common / rarest) ** power)
