"""DINO on ResNet-101, 12 epochs."""

from .dino_r50_4scale_12ep import dataloader, lr_multiplier, model, optimizer, train

model.backbone.stages.depth = 101
train.init_checkpoint = "/path/to/r101.pkl"
train.output_dir = "./output/dino_r101_4scale_12ep"
