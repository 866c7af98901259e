"""Cascade Mask R-CNN on MViTv2-H for LVIS v1; 50 epochs."""

from ..COCO.cascade_mask_rcnn_mvitv2_h_in21k_36ep import model, optimizer, train as _coco
from .cascade_mask_rcnn_mvitv2_l_in21k_50ep import dataloader, lr_multiplier, train
from .cascade_mask_rcnn_vitdet_b_100ep import model as _cascade

model.roi_heads = _cascade.roi_heads
train.init_checkpoint = _coco.init_checkpoint
optimizer.lr = 2e-5
