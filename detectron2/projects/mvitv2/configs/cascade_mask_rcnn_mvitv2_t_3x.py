"""Cascade Mask R-CNN on MViTv2-T, with batch norm over all GPUs in the heads."""

from functools import partial

from detectron2 import model_zoo
from detectron2.layers.batch_norm import NaiveSyncBatchNorm

from .mask_rcnn_mvitv2_t_3x import dataloader, lr_multiplier, model, optimizer, train

# Heads see another number of regions on each GPU; this variant weighs the statistics by it.
_region_norm = partial(NaiveSyncBatchNorm, stats_mode="N")

model.roi_heads = model_zoo.get_config("common/models/cascade_rcnn.py").model.roi_heads
for _head in model.roi_heads.box_heads:
    _head.update(conv_dims=[256, 256, 256, 256], fc_dims=[1024], conv_norm=_region_norm)
model.roi_heads.mask_head.conv_norm = _region_norm
model.proposal_generator.head.conv_dims = [-1, -1]
