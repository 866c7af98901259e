"""DINO with the whole of ResNet-50 trained."""

from .dino_r50_4scale_12ep import dataloader, lr_multiplier, model, optimizer, train

model.backbone.freeze_at = -1
train.output_dir = "./output/dino_r50_4scale_12ep_no_frozen_backbone"
