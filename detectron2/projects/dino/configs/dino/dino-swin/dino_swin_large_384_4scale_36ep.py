"""DINO on Swin-L, 4 levels, 36 epochs."""

from ...common.coco_schedule import lr_multiplier_36ep as lr_multiplier
from ...common.data.coco_detr import dataloader
from ...common.optim import AdamW as optimizer
from ...common.train import train
from ..models.dino_swin_large_384 import model

train.init_checkpoint = "/path/to/swin_large_patch4_window12_384_22kto1k.pth"
train.output_dir = "./output/dino_swin_large_384_4scale_36ep"
train.max_iter = 270000
