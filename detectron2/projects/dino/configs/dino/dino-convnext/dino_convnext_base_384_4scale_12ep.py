"""DINO on ConvNeXt-B, 12 epochs."""

from ...common.coco_schedule import lr_multiplier_12ep as lr_multiplier
from ...common.data.coco_detr import dataloader
from ...common.optim import AdamW as optimizer
from ...common.parts import shapes
from ...common.train import train
from ..models.dino_convnext import model

train.init_checkpoint = "/path/to/convnext_base_22k_1k_384.pth"
train.output_dir = "./output/dino_convnext_base_384_4scale_12ep"
model.backbone.dims = [128, 256, 512, 1024]
model.neck.input_shapes = shapes(p1=256, p2=512, p3=1024)
