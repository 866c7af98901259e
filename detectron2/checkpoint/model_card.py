"""What a model knows about itself: its classes and its config, kept inside the checkpoint."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import detectron2

from .files.read import read_checkpoint_file

__all__ = ["MODEL_CARD_KEY", "make_model_card", "read_model_card"]

MODEL_CARD_KEY = "model_card"
"""Key in the checkpoint. Readers that do not know it pass it on among the rest, as they do with any key."""


def make_model_card(
    *,
    classes: Sequence[str] | None = None,
    config: str | None = None,
    config_kind: str | None = None,
    **more: object,
) -> dict[str, Any]:
    """Put together what :attr:`Checkpointer.model_card` holds.

    Args:
        classes: names of the classes, in the order of the model's outputs.
        config: the whole config as YAML text.
        config_kind: ``"yacs"`` or ``"lazy"``.
        more: further entries of text, numbers, lists and dicts (``stuff_classes``, ``keypoint_names``, …).

    Raises:
        ValueError: if ``config_kind`` is another, or missing although there is a config.
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
        what :func:`make_model_card` made; None if the file holds none (checkpoints of Detectron2 do not).

    Raises:
        FileNotFoundError, BrokenCheckpointError, UnsafeCheckpointError: as when reading the checkpoint.
    """
    data = read_checkpoint_file(path, mmap=True)
    card = data.get(MODEL_CARD_KEY) if isinstance(data, Mapping) else None
    return dict(card) if isinstance(card, Mapping) else None
