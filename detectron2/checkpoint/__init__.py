"""Save and resume trainings, and load weights of many origins without running code from them."""

from . import catalog as _catalog  # noqa: F401  (lets PathManager read catalog:// paths)
from .checkpointer import Checkpointer
from .detection_checkpoint import DetectionCheckpointer
from .errors import BrokenCheckpointError, UnsafeCheckpointError
from .files.read import read_checkpoint_file, verify_checkpoint_file
from .files.safetensors_files import save_safetensors
from .importers import convert_mmdet_weights, convert_torchvision_weights, match_torchvision_anchors
from .load_report import LoadReport
from .model_card import make_model_card, read_model_card
from .periodic import PeriodicCheckpointer
from .sharded_checkpointer import ShardedCheckpointer

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
