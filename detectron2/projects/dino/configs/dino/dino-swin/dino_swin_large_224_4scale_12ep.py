"""DINO on Swin-L, 4 levels, 12 epochs."""

from ...common.coco_schedule import lr_multiplier_12ep as lr_multiplier
from ...common.data.coco_detr import dataloader
from ...common.optim import AdamW as optimizer
from ...common.train import train
from ..models.dino_swin_large_224 import model

train.init_checkpoint = "/path/to/swin_large_patch4_window7_224_22kto1k.pth"
train.output_dir = "./output/dino_swin_large_224_4scale_12ep"
