"""Cascade Mask R-CNN on Swin-B with a feature pyramid, from weights of ImageNet-21k; to compare with ViTDet."""

from detectron2.config import LazyCall as L
from detectron2.modeling import SwinTransformer

from .cascade_mask_rcnn_mvitv2_l_in21k_50ep import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up = L(SwinTransformer)(
    embed_dim=128, depths=[2, 2, 18, 2], num_heads=[4, 8, 16, 32], drop_path_rate=0.4
)
model.backbone.in_features = ("p0", "p1", "p2", "p3")

optimizer.lr = 4e-5
optimizer.weight_decay = 0.05
optimizer.params.overrides = {"relative_position_bias_table": {"weight_decay": 0.0}}

train.init_checkpoint = "detectron2://ImageNetPretrained/swin/swin_base_patch4_window7_224_22k.pth"
