"""EVA-02-L on LVIS at 1536 pixels, with large windows."""

from ..common.recipes import images_of, windows
from .eva2_lvis_cascade_mask_rcnn_vitdet_l_4attn_1024_lrd0p8 import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

windows(model, global_blocks=8, size=32)
images_of(1536, model, dataloader)
model.backbone.net.use_act_checkpoint = True
