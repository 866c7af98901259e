"""Lengths given in epochs."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from typing import Any

from torch.utils.data import IterableDataset

__all__ = ["dataset_size", "parse_length", "resolve_lengths"]

logger = logging.getLogger(__name__)

_EPOCHS = re.compile(r"\s*(\d+(?:\.\d+)?)\s*ep(?:ochs?)?\s*")
# Keys of a CfgNode that take epochs; entries of STEPS do too.
_KEYS = (
    "SOLVER.MAX_ITER",
    "SOLVER.WARMUP_ITERS",
    "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.REPORT_PERIOD",
    "TEST.EVAL_PERIOD",
    "TEST.VAL_LOSS.PERIOD",
)
_LAZY_KEYS = ("max_iter", "eval_period", "checkpointer.period", "val_loss.period", "report_period")


def parse_length(value: int | str, iterations_per_epoch: float | None) -> int:
    """Iterations of a length.

    Args:
        value: a number of iterations, or epochs such as `"12ep"` or `"0.5ep"`.
        iterations_per_epoch: images in the data set over images a step; None if it is not known.

    Raises:
        ValueError: for other text, or for epochs when their length is not known.
    """
    if not isinstance(value, str):
        return int(value)
    found = _EPOCHS.fullmatch(value)
    if found is None:
        if re.fullmatch(r"\s*\d+\s*", value):
            return int(value)
        raise ValueError(f"a length is a number of iterations or of epochs such as '12ep', got {value!r}")
    if iterations_per_epoch is None:
        raise ValueError(
            f"{value!r} needs the number of training images, which this data loader does not tell: give the length "
            "in iterations"
        )
    return max(1, math.ceil(float(found[1]) * iterations_per_epoch - 1e-9))


def dataset_size(loader: Any) -> int | None:
    """Number of images that a training loader draws from; None if it does not tell."""
    seen: set[int] = set()
    queue = [loader]
    while queue:
        item = queue.pop(0)
        if item is None or id(item) in seen:
            continue
        seen.add(id(item))
        # The stream around data and sampler has the sampler's length, which is endless; look inside first.
        inner = [getattr(item, name, None) for name in ("_stream", "dataset", "loader", "batch_sampler")]
        inner = [x for x in inner if x is not None and not isinstance(x, (str, int))]
        queue.extend(inner)
        sized = hasattr(item, "__getitem__") and hasattr(item, "__len__")
        if sized and not isinstance(item, IterableDataset):
            return len(item)
        if isinstance(getattr(item, "_size", None), int):
            return int(item._size)
    return None


def _has_epochs(values: list[Any]) -> bool:
    return any(isinstance(v, str) for v in values)


def resolve_lengths(cfg: Any, measure: Callable[[], int | None]) -> bool:
    """Replaces epochs in a config by iterations, in place.

    Args:
        cfg: either kind of config; may be frozen.
        measure: gives the number of training images, or None; called only if there are epochs.

    Returns:
        Whether anything was replaced.

    Raises:
        ValueError: see `parse_length`.
    """
    from .settings import is_lazy, lookup

    if is_lazy(cfg):
        batch = lookup(cfg, "dataloader.train.total_batch_size", None)
        prefix, keys = "train.", list(_LAZY_KEYS)
        steps_per_iter = lookup(cfg, "train.accumulate_steps", 1)
    else:
        batch, prefix, keys = cfg.SOLVER.IMS_PER_BATCH, "", list(_KEYS)
        steps_per_iter = cfg.SOLVER.get("ACCUMULATE_STEPS", 1)
    current = {key: lookup(cfg, prefix + key, None) for key in keys}
    steps = [] if is_lazy(cfg) else list(cfg.SOLVER.STEPS)
    if not _has_epochs([*current.values(), *steps]):
        return False
    size = measure()
    per_epoch = None if size is None or not batch else size / (batch * steps_per_iter)
    frozen = not is_lazy(cfg) and cfg.is_frozen()
    if frozen:
        cfg.defrost()
    for key, value in current.items():
        if isinstance(value, str):
            parent, _, leaf = (prefix + key).rpartition(".")
            lookup(cfg, parent)[leaf] = parse_length(value, per_epoch)
    if _has_epochs(steps):
        cfg.SOLVER.STEPS = tuple(parse_length(step, per_epoch) for step in steps)
    if frozen:
        cfg.freeze()
    if per_epoch is not None:
        logger.info(
            "One epoch is %.1f iterations (%d images, %d a step).", per_epoch, size, batch * steps_per_iter
        )
    return True
