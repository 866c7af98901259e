"""Cascade Mask R-CNN on MViTv2-B for LVIS v1; 100 epochs."""

from ..COCO.cascade_mask_rcnn_mvitv2_b_in21k_100ep import model, optimizer, train as _coco
from .cascade_mask_rcnn_vitdet_b_100ep import dataloader, lr_multiplier, train, model as _cascade

model.roi_heads = _cascade.roi_heads
train.init_checkpoint = _coco.init_checkpoint
optimizer.lr = 1e-4
