"""The keys that TridentNet adds to a config."""

from typing import Any

from detectron2.config import CfgNode

__all__ = ["add_tridentnet_config"]


def add_tridentnet_config(cfg: Any) -> None:
    """Add ``MODEL.TRIDENT`` to a config.

    Args:
        cfg: the config, changed in place.
    """
    cfg.MODEL.TRIDENT = CfgNode(
        {
            # Branches that share their weights and differ in dilation only.
            "NUM_BRANCH": 3,
            "BRANCH_DILATIONS": [1, 2, 3],
            # The stage whose blocks have branches. Stages after it would have to be part of the box heads.
            "TRIDENT_STAGE": "res4",
            # The only branch that runs in evaluation (TridentNet Fast); -1 = all run, and their detections are merged.
            "TEST_BRANCH_IDX": 1,
        }
    )
