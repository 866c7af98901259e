"""Mask R-CNN with batch norm in both heads, over the regions of all GPUs."""

from .mask_rcnn_BNhead import dataloader, lr_multiplier, model, optimizer, train

model.roi_heads.box_head.conv_norm = "SyncBN"
model.roi_heads.mask_head.conv_norm = "SyncBN"
