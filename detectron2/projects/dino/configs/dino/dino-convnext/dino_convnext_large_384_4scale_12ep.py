"""DINO on ConvNeXt-L, 12 epochs."""

from ...common.coco_schedule import lr_multiplier_12ep as lr_multiplier
from ...common.data.coco_detr import dataloader
from ...common.optim import AdamW as optimizer
from ...common.train import train
from ..models.dino_convnext import model

train.init_checkpoint = "/path/to/convnext_large_22k_1k_384.pth"
train.output_dir = "./output/dino_convnext_large_4scale_12ep"
