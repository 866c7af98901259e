"""COCO with large-scale jitter (Ghiasi et al. 2021, copy-paste)."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from .coco_loader import dataloader

IMAGE_SIZE = 1024
dataloader.train.mapper.augmentations = [
    L(T.RandomFlip)(horizontal=True),
    L(T.ResizeScale)(min_scale=0.1, max_scale=2.0, target_height=IMAGE_SIZE, target_width=IMAGE_SIZE),
    L(T.FixedSizeCrop)(crop_size=(IMAGE_SIZE, IMAGE_SIZE)),
]
dataloader.train.mapper.recompute_boxes = True  # from the cropped masks
dataloader.train.total_batch_size = 64
