"""TensorMask: dense instance segmentation by sliding windows.

Reference: TensorMask: A Foundation for Dense Object Segmentation, https://arxiv.org/abs/1903.12174
"""

from .arch import TensorMask
from .config import add_tensormask_config

__all__ = ["TensorMask", "add_tensormask_config"]
