"""Model cards: classes and config of a model, stored in its checkpoint."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import detectron2

from .files.read import read_checkpoint_file

__all__ = ["MODEL_CARD_KEY", "make_model_card", "read_model_card"]

MODEL_CARD_KEY = "model_card"
"""Key in the checkpoint, which other programs ignore."""


def make_model_card(
    *,
    classes: Sequence[str] | None = None,
    config: str | None = None,
    config_kind: str | None = None,
    **more: object,
) -> dict[str, Any]:
    """Create a card for :attr:`Checkpointer.model_card`.

    Args:
        classes: class names, in the order of the model's outputs.
        config: the whole config as YAML text.
        config_kind: ``"yacs"`` or ``"lazy"``; required with ``config``.
        more: additional entries of text, numbers, lists and dicts (``stuff_classes``, ``keypoint_names``, …).

    Raises:
        ValueError: if ``config_kind`` is neither, or missing.
    """
    if config is not None and config_kind not in ("yacs", "lazy"):
        raise ValueError(f"make_model_card: config_kind must be 'yacs' or 'lazy', not {config_kind!r}")
    card: dict[str, Any] = {"format": 1, "detectron2_version": detectron2.__version__}
    if classes is not None:
        card["classes"] = [str(c) for c in classes]
    if config is not None:
        card.update(config=str(config), config_kind=config_kind)
    card.update(more)
    return card


def read_model_card(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read the model card of a local checkpoint; its weights stay on disk.

    Args:
        path: ``.pth`` or ``.safetensors`` file.

    Returns:
        the card; None if the file has none, such as checkpoints of Detectron2.

    Raises:
        FileNotFoundError, BrokenCheckpointError, UnsafeCheckpointError: as when reading the checkpoint.
    """
    data = read_checkpoint_file(path, mmap=True)
    card = data.get(MODEL_CARD_KEY) if isinstance(data, Mapping) else None
    return dict(card) if isinstance(card, Mapping) else None
