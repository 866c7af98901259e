"""EVA-02-L on LVIS at 1536 pixels, from weights trained on Objects365."""

from ..common.recipes import constant, lvis
from ..eva2_o365_to_coco.eva2_o365_to_coco_cascade_mask_rcnn_vitdet_l_8attn_1536_lrd0p8 import (
    dataloader,
    lr_multiplier,
    model,
    optimizer,
    train,
)

lvis(model, dataloader)
constant(70000, train, lr_multiplier)
train.eval_period = train.checkpointer.period = 5000
