"""EVA-02-L on the boxes of Objects365 at 1536 pixels, before fine-tuning on COCO or LVIS.

Register the data sets objects365_train and objects365_val in your program before.
"""

from ..common.base import dataloader, lr_multiplier, model, optimizer, train
from ..common.recipes import images_of, large, steps, windows

large(model, optimizer)
windows(model, global_blocks=8)
images_of(1536, model, dataloader)
model.roi_heads.update(num_classes=365, mask_in_features=None, mask_pooler=None, mask_head=None)

dataloader.train.dataset.names = ("objects365_train", "objects365_val")
dataloader.test.dataset.names = "objects365_val"
dataloader.train.mapper.update(use_instance_mask=False, recompute_boxes=False)
dataloader.train.total_batch_size = 160
steps(400000, train, lr_multiplier, warmup=5000, period=2500)
train.eval_period = 10000
optimizer.lr = 6e-5
