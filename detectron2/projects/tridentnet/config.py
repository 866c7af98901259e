"""Config keys of TridentNet."""

from typing import Any

from detectron2.config import CfgNode

__all__ = ["add_tridentnet_config"]


def add_tridentnet_config(cfg: Any) -> None:
    """Add ``MODEL.TRIDENT`` to a config.

    Args:
        cfg: config to extend in place.
    """
    cfg.MODEL.TRIDENT = CfgNode(
        {
            # Number of branches, which share their weights and differ only in dilation.
            "NUM_BRANCH": 3,
            "BRANCH_DILATIONS": [1, 2, 3],
            # The stage whose blocks have branches. Later stages must be part of the box heads.
            "TRIDENT_STAGE": "res4",
            # The only branch that runs in evaluation (TridentNet Fast); -1 = all run, and their detections are merged.
            "TEST_BRANCH_IDX": 1,
        }
    )
