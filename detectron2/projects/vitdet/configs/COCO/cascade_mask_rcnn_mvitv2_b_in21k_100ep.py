"""Cascade Mask R-CNN on MViTv2-B with a feature pyramid, from weights of ImageNet-21k; to compare with ViTDet."""

from functools import partial

import torch.nn as nn

from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.modeling import MViT

from .cascade_mask_rcnn_vitdet_b_100ep import dataloader, lr_multiplier, model, optimizer, train

constants = model_zoo.get_config("common/data/constants.py").constants

model.backbone = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model.backbone
model.backbone.bottom_up = L(MViT)(
    embed_dim=96,
    depth=24,
    num_heads=1,
    last_block_indexes=(1, 4, 20, 23),
    residual_pooling=True,
    drop_path_rate=0.4,
    norm_layer=partial(nn.LayerNorm, eps=1e-6),
    out_features=("scale2", "scale3", "scale4", "scale5"),
)
model.backbone.in_features = "${.bottom_up.out_features}"
model.backbone.norm = "LN"
model.backbone.square_pad = 1024

optimizer.lr = 8e-5
del optimizer.params["lr_factor_func"]  # no decay from layer to layer

train.init_checkpoint = "detectron2://ImageNetPretrained/mvitv2/MViTv2_B_in21k.pyth"
