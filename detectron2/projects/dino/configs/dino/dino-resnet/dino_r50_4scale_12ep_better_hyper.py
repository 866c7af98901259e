"""DINO with better settings: nothing frozen, 300 denoising queries, twice the weight of classes."""

from ..models.dino_r50 import weights
from .dino_r50_4scale_12ep import dataloader, lr_multiplier, model, optimizer, train

base_weight_dict, aux_weight_dict = weights(2.0)
weight_dict = {**base_weight_dict, **aux_weight_dict}
model.criterion.weight_dict = weight_dict
model.backbone.freeze_at = -1
model.dn_number = 300
train.output_dir = "./output/dino_r50_4scale_12ep_better_hyper"
