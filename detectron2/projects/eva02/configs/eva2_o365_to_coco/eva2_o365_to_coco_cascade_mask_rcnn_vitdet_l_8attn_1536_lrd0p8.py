"""EVA-02-L on COCO at 1536 pixels, from weights trained on Objects365."""

from ..common.base import dataloader, lr_multiplier, model, optimizer, train
from ..common.recipes import constant, images_of, large, windows

large(model, optimizer, drop_path=0.3)
windows(model, global_blocks=8)
images_of(1536, model, dataloader)
model.backbone.net.use_act_checkpoint = True

dataloader.train.total_batch_size = 64
constant(40000, train, lr_multiplier)
train.init_checkpoint = (
    "detectron2://ImageNetPretrained/MAE/mae_pretrain_vit_base.pth"  # name that of Objects365
)
optimizer.lr = 4e-5
