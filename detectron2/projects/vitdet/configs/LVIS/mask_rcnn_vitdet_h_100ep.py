"""Mask R-CNN on ViT-H for LVIS v1; 100 epochs."""

from ..COCO.mask_rcnn_vitdet_h_75ep import model, optimizer, train as _coco
from .mask_rcnn_vitdet_b_100ep import dataloader, lr_multiplier, train, model as _base

model.roi_heads = _base.roi_heads
model.backbone.net.drop_path_rate = 0.4

train.init_checkpoint = _coco.init_checkpoint
