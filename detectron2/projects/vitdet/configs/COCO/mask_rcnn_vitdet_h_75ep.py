"""Mask R-CNN on ViT-H, from weights of a masked autoencoder; 75 epochs."""

from functools import partial

from detectron2.modeling import get_vit_lr_decay_rate

from .mask_rcnn_vitdet_l_100ep import dataloader, lr_multiplier, model, optimizer, train

model.backbone.net.embed_dim = 1280
model.backbone.net.depth = 32
model.backbone.net.drop_path_rate = 0.5
# every eighth block attends to the whole image
model.backbone.net.window_block_indexes = [i for i in range(32) if i % 8 != 7]

optimizer.params.lr_factor_func = partial(get_vit_lr_decay_rate, lr_decay_rate=0.9, num_layers=32)
optimizer.params.overrides = {}
optimizer.params.weight_decay_norm = None

train.init_checkpoint = (
    "detectron2://ImageNetPretrained/MAE/mae_pretrain_vit_huge_p14to16.pth?matching_heuristics=True"
)
train.max_iter = train.max_iter * 3 // 4

lr_multiplier.scheduler.milestones = [m * 3 // 4 for m in lr_multiplier.scheduler.milestones]
lr_multiplier.scheduler.num_updates = train.max_iter
