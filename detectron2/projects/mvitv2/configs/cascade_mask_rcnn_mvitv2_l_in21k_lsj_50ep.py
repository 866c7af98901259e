"""Cascade Mask R-CNN on MViTv2-L, from weights of ImageNet-21k; 50 epochs with large-scale jitter."""

from .cascade_mask_rcnn_mvitv2_b_3x import lr_multiplier, model, optimizer, train
from .common.coco_loader_lsj import dataloader

model.backbone.bottom_up.embed_dim = 144
model.backbone.bottom_up.depth = 48
model.backbone.bottom_up.num_heads = 2
model.backbone.bottom_up.last_block_indexes = (1, 7, 43, 47)
model.backbone.bottom_up.drop_path_rate = 0.5

train.init_checkpoint = "detectron2://ImageNetPretrained/mvitv2/MViTv2_L_in21k.pyth"
train.max_iter = 184375 // 2  # 100 epochs are 184375 steps of 64 images

lr_multiplier.scheduler.milestones = [163889 // 2, 177546 // 2]
lr_multiplier.scheduler.num_updates = train.max_iter
lr_multiplier.warmup_length = 250 / train.max_iter

optimizer.lr = 1e-4
