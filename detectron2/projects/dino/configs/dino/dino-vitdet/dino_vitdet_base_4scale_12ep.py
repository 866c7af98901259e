"""DINO on ViTDet-B, 12 epochs."""

from ...common.coco_schedule import lr_multiplier_12ep as lr_multiplier
from ...common.data.coco_detr import dataloader
from ...common.optim import AdamW as optimizer
from ...common.train import train
from ..models.dino_vitdet import model

train.init_checkpoint = "detectron2://ImageNetPretrained/MAE/mae_pretrain_vit_base.pth"
train.output_dir = "./output/dino_vitdet_base_12ep"
dataloader.evaluator.output_dir = "./output/dino_vitdet_base_12ep"
