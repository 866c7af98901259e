"""DINO on Swin-L, 5 levels, 36 epochs."""

from ...common.coco_schedule import lr_multiplier_36ep as lr_multiplier
from ...common.data.coco_detr import dataloader
from ...common.optim import AdamW as optimizer
from ...common.parts import shapes
from ...common.train import train
from ..models.dino_swin_large_384 import model

train.init_checkpoint = "/path/to/swin_large_patch4_window12_384_22kto1k.pth"
train.output_dir = "./output/dino_swin_large_384_5scale_36ep"
train.max_iter = 270000
model.backbone.out_indices = [0, 1, 2, 3]
model.neck.in_features = ["p0", "p1", "p2", "p3"]
model.neck.input_shapes = shapes(p0=192, p1=384, p2=768, p3=1536)
model.neck.num_outs = 5
model.transformer.num_feature_levels = 5
