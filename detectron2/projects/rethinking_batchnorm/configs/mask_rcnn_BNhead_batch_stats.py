"""Mask R-CNN with batch norm in both heads, which uses the statistics of the batch in evaluation too."""

from detectron2.projects.rethinking_batchnorm import BatchNormBatchStat

from .mask_rcnn_BNhead import dataloader, lr_multiplier, model, optimizer, train

model.roi_heads.box_head.conv_norm = BatchNormBatchStat
model.roi_heads.mask_head.conv_norm = BatchNormBatchStat
