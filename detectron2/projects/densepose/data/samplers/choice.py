"""Choose the pixels that become annotated points."""

import torch
from torch import Tensor

__all__ = ["check_search", "choose_smallest", "choose_uniformly"]


def choose_uniformly(number: int, count: int) -> Tensor:
    """Draw distinct indices uniformly at random.

    Args:
        number: upper bound of the indices, exclusive.
        count: number of indices, at most ``number``.

    Returns:
        int64 tensor (count,).
    """
    return torch.randperm(number)[:count]


def choose_smallest(values: Tensor, count: int, multiplier: float | None, proportion: float | None) -> Tensor:
    """Draw distinct indices among those of the smallest values.

    Args:
        values: tensor (K,).
        count: number of indices, at most K.
        multiplier: draw from the first ``count * multiplier``; None = unused.
        proportion: draw from the first ``K * proportion``; None = unused. Without both, the first ``count`` are
            taken.

    Returns:
        int64 tensor (count,).
    """
    number = len(values)
    if multiplier is not None:
        wanted = int(count * multiplier)
    elif proportion is not None:
        wanted = int(number * proportion)
    else:
        wanted = count
    first = values.argsort()[: min(max(wanted, count), number)]
    return first[choose_uniformly(len(first), count).to(first.device)]


def check_search(multiplier: float | None, proportion: float | None) -> None:
    """Check that at most one rule for the number of candidates is given.

    Raises:
        ValueError: both are given.
    """
    if multiplier is not None and proportion is not None:
        raise ValueError(
            "search_count_multiplier and search_proportion are mutually exclusive, "
            f"got {multiplier} and {proportion}: leave one of them None"
        )
