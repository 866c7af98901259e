"""Small MaskDINO models and inputs for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from detectron2 import projects
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.projects.deeplab import add_deeplab_config
from detectron2.projects.maskdino import MaskDINO, add_maskdino_config

CONFIGS = Path(projects.__file__).parent / "maskdino" / "configs"
INSTANCE = "coco/instance-segmentation/maskdino_R50_bs16_50ep_3s_dowsample1_2048.yaml"
BITMASK = "coco/instance-segmentation/maskdino_R50_bs16_50ep_3s.yaml"
PANOPTIC = "coco/panoptic-segmentation/maskdino_R50_bs16_50ep_3s_dowsample1_2048.yaml"
SEMANTIC = "ade20k/semantic-segmentation/maskdino_R50_bs16_160k_steplr.yaml"
SMALL: list[Any] = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.BACKBONE.NAME", "D2SwinTransformer"),
    *("MODEL.SWIN.EMBED_DIM", 8, "MODEL.SWIN.DEPTHS", [1, 1, 1, 1], "MODEL.SWIN.NUM_HEADS", [1, 1, 2, 2]),
    *("MODEL.SWIN.WINDOW_SIZE", 3, "MODEL.SWIN.DROP_PATH_RATE", 0.0),
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 64, "MODEL.SEM_SEG_HEAD.MASK_DIM", 16),
    *("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", 1, "MODEL.SEM_SEG_HEAD.DIM_FEEDFORWARD", 32),
    *("MODEL.MaskDINO.HIDDEN_DIM", 32, "MODEL.MaskDINO.NHEADS", 4, "MODEL.MaskDINO.DEC_LAYERS", 2),
    *("MODEL.MaskDINO.NUM_OBJECT_QUERIES", 8, "MODEL.MaskDINO.DIM_FEEDFORWARD", 32),
    *("MODEL.MaskDINO.TRAIN_NUM_POINTS", 64, "MODEL.MaskDINO.DN_NUM", 8, "TEST.DETECTIONS_PER_IMAGE", 10),
]


def config(name: str, *options: Any, small: bool = True) -> CfgNode:
    cfg = get_cfg()
    add_deeplab_config(cfg)
    add_maskdino_config(cfg)
    cfg.merge_from_file(str(CONFIGS / name))
    cfg.merge_from_list([*(SMALL if small else []), *options])
    return cfg


def model_of(name: str, *options: Any) -> MaskDINO:
    """A small model whose queries differ from each other."""
    torch.manual_seed(0)
    model = build_model(config(name, *options))
    assert isinstance(model, MaskDINO)
    for embedding in model.modules():
        if isinstance(embedding, nn.Embedding):
            nn.init.normal_(embedding.weight, std=2.0)
    return model
