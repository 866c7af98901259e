"""Cascade Mask R-CNN on MViTv2-H; 36 epochs."""

from .cascade_mask_rcnn_mvitv2_b_in21k_100ep import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.embed_dim = 192
model.backbone.bottom_up.depth = 80
model.backbone.bottom_up.num_heads = 3
model.backbone.bottom_up.last_block_indexes = (3, 11, 71, 79)
model.backbone.bottom_up.drop_path_rate = 0.6
model.backbone.bottom_up.use_act_checkpoint = True

train.init_checkpoint = "detectron2://ImageNetPretrained/mvitv2/MViTv2_H_in21k.pyth"
train.max_iter = 67500

lr_multiplier.scheduler.milestones = [52500, 62500, 67500]
del lr_multiplier.scheduler["num_updates"]  # the last milestone is the end
lr_multiplier.warmup_length = 250 / train.max_iter

optimizer.lr = 1.6e-4
