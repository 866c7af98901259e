"""Metadata that data sets used together must agree on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .catalog import MetadataCatalog

__all__ = ["check_metadata_consistency", "create_keypoint_hflip_indices", "get_fed_loss_cls_weights"]


def check_metadata_consistency(key: str, dataset_names: Sequence[str]) -> None:
    """Check that data sets have the same value of one metadata entry.

    Raises:
        ValueError: if there are no names, or the values differ.
        AttributeError: if a data set lacks the entry.
    """
    if not len(dataset_names):
        raise ValueError(f"no data sets were given to compare their metadata {key!r}")
    values: list[Any] = [getattr(MetadataCatalog.get(name), key) for name in dataset_names]
    for name, value in zip(dataset_names, values):
        if value != values[0]:
            raise ValueError(
                f"data sets that are used together must have the same metadata {key!r}, but {dataset_names[0]!r} has "
                f"{values[0]!r} and {name!r} has {value!r}"
            )


def create_keypoint_hflip_indices(dataset_names: str | list[str]) -> list[int]:
    """Return which keypoints are swapped when the image is mirrored.

    Args:
        dataset_names: one name or several, whose metadata have ``keypoint_names`` and ``keypoint_flip_map`` (pairs
            of names to swap).

    Returns:
        For each keypoint, the index of the one whose position it gets.
    """
    names = [dataset_names] if isinstance(dataset_names, str) else list(dataset_names)
    for key in ("keypoint_names", "keypoint_flip_map"):
        check_metadata_consistency(key, names)
    metadata = MetadataCatalog.get(names[0])
    partner = {a: b for pair in metadata.keypoint_flip_map for a, b in (pair, tuple(pair)[::-1])}
    order = {name: index for index, name in enumerate(metadata.keypoint_names)}
    unknown = sorted(set(partner) - set(order))
    if unknown:
        raise ValueError(
            f"keypoint_flip_map of {names[0]!r} names {unknown}, which keypoint_names does not: {list(order)}"
        )
    return [order[partner.get(name, name)] for name in metadata.keypoint_names]


def get_fed_loss_cls_weights(dataset_names: str | list[str], freq_weight_power: float = 1.0) -> torch.Tensor:
    """Compute how often the federated loss samples each class as a negative.

    Args:
        dataset_names: one name or several, whose metadata have ``class_image_count`` (as LVIS has): a list of
            ``{"id": category id, "image_count": number of images}``.
        freq_weight_power: exponent of the number of images.

    Returns:
        float tensor (K,), in the order of the category ids.

    Reference: Zhou et al., Probabilistic Two-Stage Detection, https://arxiv.org/abs/2103.07461
    """
    names = [dataset_names] if isinstance(dataset_names, str) else list(dataset_names)
    check_metadata_consistency("class_image_count", names)
    counts = sorted(MetadataCatalog.get(names[0]).class_image_count, key=lambda entry: entry["id"])
    images = np.asarray([entry["image_count"] for entry in counts], dtype=np.float32)
    return torch.from_numpy(images) ** freq_weight_power
