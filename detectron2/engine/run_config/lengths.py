"""Lengths of training: numbers of iterations, or epochs as strings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sized

from torch.utils.data import IterableDataset

from detectron2.config.training_options import Length
from detectron2.config.yacs.values import parse_epochs

__all__ = ["dataset_size", "has_epochs", "parse_length", "scale_length"]


def parse_length(value: Length, iterations_per_epoch: float | None) -> int:
    """Convert a length to iterations.

    Args:
        value: a number of iterations, or epochs such as ``"12ep"`` or ``"0.5 epochs"``.
        iterations_per_epoch: images in the dataset divided by images per step; None if unknown.

    Raises:
        ValueError: for other strings, or for epochs if ``iterations_per_epoch`` is unknown.
    """
    epochs = parse_epochs(value)
    if epochs is None:
        if not isinstance(value, str) or value.strip().isdecimal():
            return int(value)
        raise ValueError(f"a length must be a number of iterations, or epochs such as '12ep', got {value!r}")
    if iterations_per_epoch is None:
        raise ValueError(
            f"{value!r} needs the number of training images, which the data loader does not report; give the length "
            "in iterations"
        )
    return max(1, math.ceil(epochs * iterations_per_epoch - 1e-9))


def dataset_size(loader: object) -> int | None:
    """Return the number of images in the dataset of a training loader; None if unknown."""
    seen: set[int] = set()
    queue: list[object] = [loader]
    while queue:
        item = queue.pop(0)
        if item is None or id(item) in seen:
            continue
        seen.add(id(item))
        # The stream that wraps dataset and sampler has the sampler's endless length; look inside it first.
        inner = [getattr(item, name, None) for name in ("_stream", "dataset", "loader", "batch_sampler")]
        inner = [x for x in inner if x is not None and not isinstance(x, (str, int))]
        queue.extend(inner)
        if isinstance(item, Sized) and hasattr(item, "__getitem__") and not isinstance(item, IterableDataset):
            return len(item)
        size = getattr(item, "_size", None)
        if isinstance(size, int):
            return size
    return None


def has_epochs(values: Iterable[object]) -> bool:
    """Return whether any length is in epochs; a value may be a list of lengths."""
    return any(
        isinstance(value, str) or (isinstance(value, (tuple, list)) and has_epochs(value)) for value in values
    )


def scale_length(value: Length, factor: float) -> Length:
    """Multiply a length, except epochs, which do not depend on the batch, and 0 or less: "never" or "automatic"."""
    return value if isinstance(value, str) or value <= 0 else max(1, round(value * factor))
