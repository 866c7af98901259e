"""Small modern models with random weights whose queries and scores differ, by name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
import _mask2former_models as mask2former
import _maskdino_models as maskdino
from _modern_runs import DEFORMABLE, DINO, tiny_detr, tiny_eva02

from detectron2.config import instantiate

LAYERS = {"mask2former": ("MODEL.MASK_FORMER.DEC_LAYERS", 3), "maskdino": ("MODEL.MaskDINO.DEC_LAYERS", 1)}
CERTAIN = {
    "mask2former": "MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD",
    "maskdino": "MODEL.MaskDINO.TEST.OBJECT_MASK_THRESHOLD",
}


def _detr(path: str) -> nn.Module:
    cfg = tiny_detr(path)
    cfg.model.num_classes = cfg.model.criterion.num_classes = 5
    model: nn.Module = instantiate(cfg.model)
    for name, parameter in model.named_parameters():
        if "class_embed" in name and name.endswith("weight"):
            nn.init.normal_(parameter, std=0.3)
    return model


def _eva02(side: int = 256) -> nn.Module:
    cfg = tiny_eva02(num_classes=5)
    cfg.model.backbone.net.img_size = cfg.model.backbone.square_pad = side
    for part in cfg.model.roi_heads.box_predictors:
        part.num_classes = 5
    cfg.model.roi_heads.mask_head.num_classes = 5
    return instantiate(cfg.model)  # type: ignore[no-any-return]


def _masks(kind: Any, name: str) -> nn.Module:
    project = kind.__name__.removeprefix("_").removesuffix("_models")
    return kind.model_of(name, *LAYERS[project], CERTAIN[project], 0.0)  # type: ignore[no-any-return]


MODELS: dict[str, Callable[[], nn.Module]] = {
    "dino": lambda: _detr(DINO),
    "deformable_detr": lambda: _detr(DEFORMABLE),
    "eva02": _eva02,
    "mask2former": lambda: _masks(mask2former, mask2former.INSTANCE),
    "mask2former_semantic": lambda: _masks(mask2former, mask2former.SEMANTIC),
    "mask2former_panoptic": lambda: _masks(mask2former, mask2former.PANOPTIC),
    "maskdino": lambda: _masks(maskdino, maskdino.INSTANCE),
    "maskdino_semantic": lambda: _masks(maskdino, maskdino.SEMANTIC),
    "maskdino_panoptic": lambda: _masks(maskdino, maskdino.PANOPTIC),
}


def small_modern_model(name: str) -> nn.Module:
    """Return one of MODELS, in evaluation mode."""
    torch.manual_seed(0)
    return MODELS[name]().eval()
