"""Mask R-CNN with batch norm in both heads, over regions that are shuffled between GPUs."""

from detectron2.projects.rethinking_batchnorm import (
    FastRCNNConvFCHeadWithShuffle,
    MaskRCNNConvUpsampleHeadWithShuffle,
)

from .mask_rcnn_BNhead import dataloader, lr_multiplier, model, optimizer, train

model.roi_heads.box_head._target_ = FastRCNNConvFCHeadWithShuffle
model.roi_heads.mask_head._target_ = MaskRCNNConvUpsampleHeadWithShuffle
