"""Checkpoints: saving, resuming, and loading weights of many origins without running code from them."""

from . import catalog as _catalog  # noqa: F401  (lets PathManager read catalog:// paths)
from ._checkpointer import Checkpointer
from ._errors import BrokenCheckpointError, UnsafeCheckpointError
from ._files import read_checkpoint_file, save_safetensors, verify_checkpoint_file
from ._importers import convert_mmdet_weights, convert_torchvision_weights, match_torchvision_anchors
from ._model_card import make_model_card, read_model_card
from ._periodic import PeriodicCheckpointer
from ._report import LoadReport
from ._sharded_checkpointer import ShardedCheckpointer
from .detection_checkpoint import DetectionCheckpointer

__all__ = [
    "BrokenCheckpointError",
    "Checkpointer",
    "DetectionCheckpointer",
    "LoadReport",
    "PeriodicCheckpointer",
    "ShardedCheckpointer",
    "UnsafeCheckpointError",
    "convert_mmdet_weights",
    "convert_torchvision_weights",
    "make_model_card",
    "match_torchvision_anchors",
    "read_checkpoint_file",
    "read_model_card",
    "save_safetensors",
    "verify_checkpoint_file",
]
