"""Cascade Mask R-CNN on EVA-02-B for COCO, in squares of 1024 pixels; 60,000 steps of 128 images."""

from functools import partial

from detectron2 import model_zoo
from detectron2.projects import eva02

_vitdet = model_zoo.get_config("ViTDet/configs/COCO/cascade_mask_rcnn_vitdet_b_100ep.py")
model, dataloader, train = _vitdet.model, _vitdet.dataloader, _vitdet.train
lr_multiplier, optimizer = _vitdet.lr_multiplier, _vitdet.optimizer

model._target_ = eva02.GeneralizedRCNN
model.backbone._target_ = eva02.SimpleFeaturePyramid
model.backbone.net._target_ = eva02.ViT
model.backbone.net.update(window_size=16, mlp_ratio=4 * 2 / 3, use_act_checkpoint=False)
model.roi_heads._target_ = eva02.CascadeROIHeads

dataloader.train.total_batch_size = 128
dataloader.test.num_workers = 0

train.init_checkpoint = ""  # eva02_B_pt_in21k_p14to16.pt of the model zoo
train.max_iter = 60000
train.eval_period = 500
train.checkpointer.update(period=500, max_to_keep=100)
train.model_ema = dict(enabled=False, decay=0.9999, device="cuda", use_ema_weights_for_eval_only=False)

lr_multiplier.scheduler.update(milestones=[48000, 54000], num_updates=60000)
lr_multiplier.warmup_length = 1000 / 60000

optimizer.lr = 5e-5
optimizer.params.lr_factor_func = partial(eva02.get_vit_lr_decay_rate, lr_decay_rate=0.7, num_layers=12)
optimizer.params.overrides = {}
optimizer.params.weight_decay_norm = None
