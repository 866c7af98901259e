"""Functions of DINO under the names and defaults of detrex."""

import math
import os
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor

from detectron2.config import LazyConfig
from detectron2.config.types import Config
from detectron2.layers import multi_scale_deformable_attention
from detectron2.layers.deformable_attention import SpatialShapes
from detectron2.modeling import transformer
from detectron2.modeling.transformer import sine_encoding, sine_encoding_of_boxes
from detectron2.utils.errors import BadValue

__all__ = [
    "box_cxcywh_to_xyxy",
    "box_xyxy_to_cxcywh",
    "get_config",
    "get_sine_pos_embed",
    "interpolate",
    "inverse_sigmoid",
    "multi_scale_deformable_attn_pytorch",
    "try_get_key",
]


def inverse_sigmoid(x: Tensor, eps: float = 1e-3) -> Tensor:
    """Compute log-odds; see :func:`detectron2.modeling.transformer.inverse_sigmoid`, of which ``eps`` differs."""
    return transformer.inverse_sigmoid(x, eps)


def box_cxcywh_to_xyxy(bbox: Tensor) -> Tensor:
    """Map boxes [..., 4] from centre and size to their corners."""
    return transformer.box_cxcywh_to_xyxy(bbox)


def box_xyxy_to_cxcywh(bbox: Tensor) -> Tensor:
    """Map boxes [..., 4] from their corners to centre and size."""
    return transformer.box_xyxy_to_cxcywh(bbox)


def get_sine_pos_embed(
    pos_tensor: Tensor, num_pos_feats: int = 128, temperature: int = 10000, exchange_xy: bool = True
) -> Tensor:
    """Encode each coordinate of points or boxes in [0, 1] as sines and cosines.

    Args:
        pos_tensor: [..., K] coordinates.
        num_pos_feats: numbers for each coordinate, F.
        temperature: ratio of the longest wavelength to the shortest.
        exchange_xy: put the second coordinate first.

    Returns:
        [..., K * F].
    """
    if exchange_xy:
        return sine_encoding_of_boxes(pos_tensor, num_pos_feats, temperature)
    return sine_encoding(pos_tensor * (2 * math.pi), num_pos_feats, temperature).flatten(-2)


def multi_scale_deformable_attn_pytorch(
    value: Tensor, value_spatial_shapes: SpatialShapes, sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Sample and sum; see :func:`detectron2.layers.multi_scale_deformable_attention`."""
    return multi_scale_deformable_attention(
        value, value_spatial_shapes, sampling_locations, attention_weights
    )


def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """Resize maps; ``torch.nn.functional.interpolate``, also of no maps.

    Args:
        input: [N, C, H, W].
        size: height and width.
        scale_factor: factor of height and width, in place of ``size``.
        mode: kind of interpolation.
        align_corners: let corner pixels keep their places.
    """
    return F.interpolate(input, size, scale_factor, mode, align_corners)  # type: ignore[arg-type]


_CONFIGS = os.path.join(os.path.dirname(__file__), "configs")


def get_config(config_path: str) -> Config:
    """Load one of this project's configs, for instance "common/train.py".

    Args:
        config_path: path in the folder of configs.

    Raises:
        ValueError: if there is no such file.
    """
    path = os.path.join(_CONFIGS, config_path)
    if not os.path.isfile(path):
        raise BadValue(f"there is no config {config_path!r} of DINO")
    return LazyConfig.load(path)


def try_get_key(cfg: Config, *keys: str, default: object = None) -> Any:
    """Return the value of the first of dotted keys that a config has.

    Args:
        cfg: LazyConfig or config of nodes.
        keys: such as "train.output_dir", in order of preference.
        default: the value if there is none.
    """
    for key in keys:
        node: object = cfg if not hasattr(cfg, "dump") else OmegaConf.create(dict(cfg))
        for part in key.split("."):
            node = node.get(part) if hasattr(node, "get") else None
            if node is None:
                break
        if node is not None:
            return node
    return default
