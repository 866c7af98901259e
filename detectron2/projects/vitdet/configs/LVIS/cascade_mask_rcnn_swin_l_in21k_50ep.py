"""Cascade Mask R-CNN on Swin-L for LVIS v1; 50 epochs."""

from ..COCO.cascade_mask_rcnn_swin_l_in21k_50ep import model, optimizer, train as _coco
from .cascade_mask_rcnn_mvitv2_l_in21k_50ep import dataloader, lr_multiplier, train
from .cascade_mask_rcnn_vitdet_b_100ep import model as _cascade

model.roi_heads = _cascade.roi_heads
model.backbone.bottom_up.drop_path_rate = 0.3
train.init_checkpoint = _coco.init_checkpoint
optimizer.lr = 1e-4
