"""FCOS (Tian et al. 2019): RetinaNet's backbone and towers without anchors."""

from detectron2.modeling.meta_arch.fcos import FCOS, FCOSHead

from .retinanet import model

for name in ("anchor_generator", "box2box_transform", "anchor_matcher", "input_format"):
    del model[name]
del model.head["num_anchors"]

model._target_ = FCOS
model.test_score_thresh = 0.2
model.test_nms_thresh = 0.6

model.head._target_ = FCOSHead
model.head.norm = "GN"

# P6 comes from P5, not from res5.
model.backbone.top_block.in_feature = "p5"
model.backbone.top_block.in_channels = 256
