"""Cascade Mask R-CNN on MViTv2-L for LVIS v1; 50 epochs."""

from ..COCO.cascade_mask_rcnn_mvitv2_l_in21k_50ep import model, optimizer, train as _coco
from .cascade_mask_rcnn_vitdet_b_100ep import dataloader, lr_multiplier, train, model as _cascade

model.roi_heads = _cascade.roi_heads

train.init_checkpoint = _coco.init_checkpoint
train.max_iter = 156250 // 2  # 100 epochs are 156250 steps

lr_multiplier.scheduler.milestones = [138889 // 2, 150463 // 2]
lr_multiplier.scheduler.num_updates = train.max_iter
lr_multiplier.warmup_length = 250 / train.max_iter

optimizer.lr = 4e-5
