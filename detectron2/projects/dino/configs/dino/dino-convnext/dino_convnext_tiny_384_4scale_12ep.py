"""DINO on ConvNeXt-T, 12 epochs."""

from ...common.coco_schedule import lr_multiplier_12ep as lr_multiplier
from ...common.data.coco_detr import dataloader
from ...common.optim import AdamW as optimizer
from ...common.parts import shapes
from ...common.train import train
from ..models.dino_convnext import model

train.init_checkpoint = "/path/to/convnext_tiny_22k_1k_384.pth"
train.output_dir = "./output/dino_convnext_tiny_384_4scale_12ep"
model.backbone.depths = [3, 3, 9, 3]
model.backbone.dims = [96, 192, 384, 768]
model.neck.input_shapes = shapes(p1=192, p2=384, p3=768)
