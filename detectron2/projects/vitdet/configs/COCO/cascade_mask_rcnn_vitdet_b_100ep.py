"""Cascade Mask R-CNN on ViT-B."""

from detectron2 import model_zoo

from .mask_rcnn_vitdet_b_100ep import dataloader, lr_multiplier, model, optimizer, train

_cascade = model_zoo.get_config("common/models/cascade_rcnn.py").model.roi_heads
for _head in _cascade.box_heads:
    _head.update(conv_dims=[256, 256, 256, 256], fc_dims=[1024], conv_norm="LN")
_cascade.mask_head.conv_norm = "LN"
model.roi_heads = _cascade
