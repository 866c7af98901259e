"""RetinaNet with one batch norm for all levels in the head, over all GPUs; each level is normalised by itself."""

import torch.nn as nn

from detectron2 import model_zoo

from .mask_rcnn_BNhead import dataloader, lr_multiplier, train

model = model_zoo.get_config("common/models/retinanet.py").model
model.backbone.bottom_up.freeze_at = 2
model.head.norm = nn.SyncBatchNorm

optimizer = model_zoo.get_config("common/optim.py").SGD
optimizer.lr = 0.01
