"""Panoptic FPN (Kirillov et al. 2019): a semantic branch beside the heads of Mask R-CNN."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling import PanopticFPN
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead

from .mask_rcnn_fpn import model

model._target_ = PanopticFPN
model.sem_seg_head = L(SemSegFPNHead)(
    input_shape={
        level: L(ShapeSpec)(stride=stride, channels="${....backbone.out_channels}")
        for level, stride in [("p2", 4), ("p3", 8), ("p4", 16), ("p5", 32)]
    },
    ignore_value=255,
    num_classes=54,  # stuff, and one class for all things
    conv_dims=128,
    common_stride=4,
    loss_weight=0.5,
    norm="GN",
)
