"""Small Mask2Former models and inputs for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from detectron2 import projects
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from detectron2.projects.deeplab import add_deeplab_config
from detectron2.projects.mask2former import MaskFormer, add_maskformer2_config

CONFIGS = Path(projects.__file__).parent / "mask2former" / "configs"
PANOPTIC = "coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml"
INSTANCE = "coco/instance-segmentation/maskformer2_R50_bs16_50ep.yaml"
SEMANTIC = "ade20k/semantic-segmentation/swin/maskformer2_swin_tiny_bs16_160k.yaml"
SMALL: list[Any] = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""),
    *(
        "MODEL.BACKBONE.NAME",
        "D2SwinTransformer",
        "MODEL.SWIN.EMBED_DIM",
        8,
        "MODEL.SWIN.DEPTHS",
        [1, 1, 1, 1],
    ),
    *("MODEL.SWIN.NUM_HEADS", [1, 1, 2, 2], "MODEL.SWIN.WINDOW_SIZE", 3, "MODEL.SWIN.DROP_PATH_RATE", 0.0),
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 32, "MODEL.SEM_SEG_HEAD.MASK_DIM", 16),
    *("MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS", 1, "MODEL.MASK_FORMER.HIDDEN_DIM", 32),
    *("MODEL.MASK_FORMER.DEC_LAYERS", 4, "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", 8),
    *("MODEL.MASK_FORMER.DIM_FEEDFORWARD", 32, "MODEL.MASK_FORMER.TRAIN_NUM_POINTS", 64),
    *("MODEL.MASK_FORMER.NHEADS", 4, "TEST.DETECTIONS_PER_IMAGE", 10),
]


def config(name: str, *options: Any, small: bool = True) -> CfgNode:
    cfg = get_cfg()
    add_deeplab_config(cfg)
    add_maskformer2_config(cfg)
    cfg.merge_from_file(str(CONFIGS / name))
    cfg.merge_from_list([*(SMALL if small else []), *options])
    return cfg


def model_of(name: str, *options: Any) -> MaskFormer:
    """A small model whose queries differ from each other."""
    torch.manual_seed(0)
    model = build_model(config(name, *options))
    assert isinstance(model, MaskFormer)
    for embedding in model.modules():
        if isinstance(embedding, nn.Embedding):
            nn.init.normal_(embedding.weight, std=2.0)
    return model
