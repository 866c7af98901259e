"""Mask R-CNN, RegNetX-4GF with a feature pyramid, 400 epochs from scratch with large-scale jitter."""

from .mask_rcnn_regnetx_4gf_dds_FPN_100ep_LSJ import dataloader, lr_multiplier, model, optimizer, train

# Everything four times as long.
train.max_iter *= 4
lr_multiplier.scheduler.milestones = [step * 4 for step in lr_multiplier.scheduler.milestones]
lr_multiplier.scheduler.num_updates = train.max_iter
