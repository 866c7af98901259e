"""Build mosaic, mixup and copy-paste from a config."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.config.yacs.values import parse_epochs

from .loading.stream import stream_position
from .transforms.multi_sample import CopyPaste, MixUp, Mosaic, MultiSampleAugmentation, MultiSampleMapper

Mapper = Callable[[dict[str, Any]], dict[str, Any] | None]

__all__ = ["ClosingMapper", "multi_sample_augmentations", "with_multi_sample"]


def multi_sample_augmentations(cfg: CfgNode) -> list[MultiSampleAugmentation]:
    """Build the augmentations that ``INPUT.{MOSAIC,COPY_PASTE,MIXUP}.PROB`` enable, in this order."""
    found: list[MultiSampleAugmentation] = []
    mosaic, paste, mixup = (cfg.INPUT.get(name) for name in ("MOSAIC", "COPY_PASTE", "MIXUP"))
    if mosaic and mosaic.PROB > 0:
        side = max(cfg.INPUT.MIN_SIZE_TRAIN)
        size = tuple(mosaic.SIZE) or (side, side)
        if len(size) != 2:
            raise ValueError(f"INPUT.MOSAIC.SIZE must be (height, width) or empty, got {size}")
        found.append(Mosaic(size, scale=tuple(mosaic.SCALE), prob=mosaic.PROB))
    if paste and paste.PROB > 0:
        found.append(CopyPaste(paste.MAX_OBJECTS or None, scale=tuple(paste.SCALE), prob=paste.PROB))
    if mixup and mixup.PROB > 0:
        found.append(MixUp(mixup.ALPHA, prob=mixup.PROB))
    return found


def _closing_position(cfg: CfgNode, num_images: int) -> float:
    """Return the position in the stream from which on images are not mixed; infinite for never."""
    share = cfg.INPUT.get("MULTI_SAMPLE_CLOSE", 0.0)
    if not 0 <= share <= 1:
        raise ValueError(f"INPUT.MULTI_SAMPLE_CLOSE must be a share of the training, 0 to 1, got {share}")
    if share == 0:
        return float("inf")
    length = cfg.SOLVER.MAX_ITER
    epochs = parse_epochs(length)
    if epochs is not None:
        total = epochs * num_images
    else:
        total = int(length) * cfg.SOLVER.IMS_PER_BATCH * cfg.SOLVER.get("ACCUMULATE_STEPS", 1)
    return (1 - share) * total


class ClosingMapper:
    """Uses one mapper up to a position in the stream of images, and another after it.

    Args:
        mapper: for the first part of the training.
        closing: for the last part.
        position: first image that ``closing`` maps.
    """

    def __init__(self, mapper: Mapper, closing: Mapper, position: float) -> None:
        self.mapper, self.closing, self.position = mapper, closing, position

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any] | None:
        """Map one record; outside a training stream, with the first mapper."""
        here = stream_position()
        return (self.closing if here is not None and here >= self.position else self.mapper)(dataset_dict)


def with_multi_sample(cfg: CfgNode, mapper: Mapper, records: Sequence[dict[str, Any]]) -> Mapper:
    """Return a mapper that first mixes images if the config enables it; otherwise the same mapper.

    Args:
        cfg: with ``INPUT.MOSAIC``, ``INPUT.COPY_PASTE``, ``INPUT.MIXUP`` and ``INPUT.MULTI_SAMPLE_CLOSE``.
        mapper: a :class:`DatasetMapper` for training, or another one with ``map_loaded``.
        records: records that further images are drawn from.

    Raises:
        ValueError: the mapper cannot map images in memory, or a value is out of range.
    """
    steps = multi_sample_augmentations(cfg)
    if not steps or isinstance(mapper, MultiSampleMapper):
        return mapper
    if not hasattr(mapper, "map_loaded"):
        raise ValueError(
            f"{type(mapper).__name__} has no map_loaded(record, image, sem_seg), which mosaic, mixup and copy-paste "
            "need: derive it from DatasetMapper, or set INPUT.MOSAIC.PROB, INPUT.MIXUP.PROB and "
            "INPUT.COPY_PASTE.PROB to 0"
        )
    mixing = MultiSampleMapper(mapper, records, steps)  # type: ignore[arg-type]
    position = _closing_position(cfg, len(records))
    return mixing if position == float("inf") else ClosingMapper(mixing, mapper, position)
