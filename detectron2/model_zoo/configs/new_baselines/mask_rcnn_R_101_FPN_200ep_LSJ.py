"""Mask R-CNN, ResNet-101 with a feature pyramid, 200 epochs from scratch with large-scale jitter."""

from .mask_rcnn_R_101_FPN_100ep_LSJ import dataloader, lr_multiplier, model, optimizer, train

# Everything twice as long.
train.max_iter *= 2
lr_multiplier.scheduler.milestones = [step * 2 for step in lr_multiplier.scheduler.milestones]
lr_multiplier.scheduler.num_updates = train.max_iter
