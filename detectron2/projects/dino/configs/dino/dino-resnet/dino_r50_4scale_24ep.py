"""DINO on ResNet-50, 24 epochs, also on images without objects."""

from ...common.coco_schedule import lr_multiplier_24ep as lr_multiplier
from .dino_r50_4scale_12ep import dataloader, model, optimizer, train

dataloader.train.dataset.filter_empty = False
model.position_embedding.update(temperature=20, offset=0.0)
train.max_iter = 180000
train.output_dir = "./output/dino_r50_4scale_24ep"
