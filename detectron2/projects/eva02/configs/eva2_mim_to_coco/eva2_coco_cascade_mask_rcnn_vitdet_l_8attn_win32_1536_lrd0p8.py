"""EVA-02-L on COCO at 1536 pixels, with large windows."""

from ..common.base import dataloader, lr_multiplier, model, optimizer, train
from ..common.recipes import images_of, large, windows

large(model, optimizer)
windows(model, global_blocks=8, size=32)
images_of(1536, model, dataloader)
model.backbone.net.use_act_checkpoint = True
