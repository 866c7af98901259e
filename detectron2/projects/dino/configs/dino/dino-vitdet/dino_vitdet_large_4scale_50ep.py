"""DINO on ViTDet-L, 50 epochs."""

from .dino_vitdet_large_4scale_12ep import dataloader, lr_multiplier, model, optimizer, train

train.max_iter = 375000
lr_multiplier.warmup_length = 250 / train.max_iter
train.output_dir = "./output/dino_vitdet_large_50ep"
