"""Mask R-CNN, ResNet-50-FPN, 100 epochs from scratch with large-scale jitter (Ghiasi et al. 2021, copy-paste)."""

from functools import partial

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.layers.batch_norm import NaiveSyncBatchNorm
from detectron2.solver import WarmupParamScheduler
from detectron2.solver.param_scheduler import MultiStepParamScheduler

from ..common.data.coco import dataloader
from ..common.models.mask_rcnn_fpn import model
from ..common.optim import SGD as optimizer
from ..common.train import train

# ---- model: batch norm everywhere, trained from the start
model.backbone.bottom_up.freeze_at = 0
model.backbone.bottom_up.stem.norm = "SyncBN"
model.backbone.bottom_up.stages.norm = "SyncBN"
model.backbone.norm = "SyncBN"

# Heads see another number of regions on each GPU; this variant weighs the statistics by it.
region_norm = partial(NaiveSyncBatchNorm, stats_mode="N")
model.roi_heads.box_head.conv_norm = region_norm
model.roi_heads.mask_head.conv_norm = region_norm

model.proposal_generator.head.conv_dims = [-1, -1]
model.roi_heads.box_head.conv_dims = [256, 256, 256, 256]
model.roi_heads.box_head.fc_dims = [1024]

# ---- data: scale by 0.1 to 2, then crop or pad to a square
IMAGE_SIZE = 1024
dataloader.train.mapper.augmentations = [
    L(T.ResizeScale)(min_scale=0.1, max_scale=2.0, target_height=IMAGE_SIZE, target_width=IMAGE_SIZE),
    L(T.FixedSizeCrop)(crop_size=(IMAGE_SIZE, IMAGE_SIZE)),
    L(T.RandomFlip)(horizontal=True),
]
dataloader.train.mapper.recompute_boxes = True  # from the cropped masks
dataloader.train.total_batch_size = 64

# ---- schedule: 118k images, 100 epochs, 64 images per step
train.amp.enabled = True
train.ddp.fp16_compression = True
train.max_iter = 184375
WARMUP = 500  # iterations

lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(MultiStepParamScheduler)(
        values=[1.0, 0.1, 0.01], milestones=[163889, 177546], num_updates=train.max_iter
    ),
    warmup_length=WARMUP / train.max_iter,
    warmup_factor=0.067,
)

optimizer.lr = 0.1
optimizer.weight_decay = 4e-5
