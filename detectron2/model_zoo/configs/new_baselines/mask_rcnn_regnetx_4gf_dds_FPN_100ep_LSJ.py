"""Mask R-CNN, RegNetX-4GF with a feature pyramid, 100 epochs from scratch with large-scale jitter."""

from detectron2.config import LazyConfig

from .mask_rcnn_R_50_FPN_100ep_LSJ import dataloader, lr_multiplier, model, optimizer, train

# The folder of the 1x config cannot be written in an import statement.
_pretrained = LazyConfig.load_rel("../COCO-InstanceSegmentation/mask_rcnn_regnetx_4gf_dds_fpn_1x.py", "model")

model.backbone.bottom_up = _pretrained.backbone.bottom_up
model.backbone.bottom_up.norm = "SyncBN"
del model.backbone.bottom_up.freeze_at  # nothing is frozen
model.pixel_std = _pretrained.pixel_std

# Images are all of one size here.
train.cudnn_benchmark = True
