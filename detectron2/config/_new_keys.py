"""Keys of this package beyond those of Detectron2.

Each is declared with ``add_optional``: it can be read and set like any other, but is listed and dumped only when it
differs from its default. Configs that use none of them stay readable by Detectron2 itself.

To add a key: one ``add_optional`` line with a comment that says meaning, unit and default. A group of keys is a node
of its own, made by ``_group``.
"""

from typing import Any

from ._cfg_node import BaseNode

__all__ = ["add_new_keys"]


def _group(parent: BaseNode, name: str, **keys: Any) -> None:
    """Declare the node ``name`` below ``parent`` with these keys and defaults, unless it is there."""
    if name not in parent:
        parent.add_optional(name, type(parent)())
    node = parent[name]
    for key, default in keys.items():
        node.add_optional(key, default)


def add_new_keys(cfg: BaseNode) -> None:
    """Declare all of them in ``cfg``."""
    # Share of the images that RandomSubsetTrainingSampler draws from, in (0, 1]; default 1: all of them.
    cfg.DATALOADER.add_optional("RANDOM_SUBSET_RATIO", 1.0)
    # One repeat factor per data set in DATASETS.TRAIN for WeightedTrainingSampler; default: 1 for each.
    cfg.DATASETS.add_optional("TRAIN_REPEAT_FACTOR", [])
    # Share of the images, 0 to 1, that a process may fail to read in training before the run stops; 0: the first.
    cfg.DATALOADER.add_optional("MAX_BROKEN_SHARE", 0.01)
    # How strongly ClassBalancedTrainingSampler balances: 1 fully, 0 not at all.
    cfg.DATALOADER.add_optional("CLASS_BALANCE_POWER", 1.0)
    # Share of the images drawn from each data set in DATASETS.TRAIN by MultiDatasetTrainingSampler, in proportion.
    cfg.DATASETS.add_optional("TRAIN_WEIGHTS", [])
    # What resizes images: "pillow" (the bytes that all published weights were trained on) or "torch", several times as
    # fast, antialiased alike, and at most one level off in about one value of ten thousand; default "pillow".
    cfg.INPUT.add_optional("RESIZE_BACKEND", "pillow")
