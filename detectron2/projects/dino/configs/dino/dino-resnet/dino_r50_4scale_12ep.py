"""DINO on ResNet-50, 12 epochs."""

from ...common.coco_schedule import lr_multiplier_12ep as lr_multiplier
from ...common.data.coco_detr import dataloader
from ...common.optim import AdamW as optimizer
from ...common.train import train
from ..models.dino_r50 import model

train.init_checkpoint = "detectron2://ImageNetPretrained/torchvision/R-50.pkl"
train.output_dir = "./output/dino_r50_4scale_12ep"
dataloader.evaluator.output_dir = "./output/dino_r50_4scale_12ep"
