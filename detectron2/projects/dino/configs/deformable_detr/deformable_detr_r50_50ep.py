"""Deformable DETR on ResNet-50, 50 epochs."""

from ..common.coco_schedule import lr_multiplier_50ep as lr_multiplier
from ..common.data.coco_detr import dataloader
from ..common.optim import AdamW as optimizer
from ..common.train import train
from .models.deformable_detr_r50 import model

train.init_checkpoint = "detectron2://ImageNetPretrained/torchvision/R-50.pkl"
train.output_dir = "./output/deformable_detr_r50_50ep"
train.max_iter = 375000
dataloader.evaluator.output_dir = "./output/deformable_detr_r50_50ep"
