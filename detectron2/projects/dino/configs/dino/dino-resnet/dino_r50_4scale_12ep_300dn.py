"""DINO with 300 denoising queries."""

from .dino_r50_4scale_12ep import dataloader, lr_multiplier, model, optimizer, train

model.dn_number = 300
