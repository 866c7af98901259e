"""EVA-02-L on COCO at 1024 pixels."""

from ..common.base import dataloader, lr_multiplier, model, optimizer, train
from ..common.recipes import large, windows

large(model, optimizer)
windows(model, global_blocks=4)
dataloader.train.total_batch_size = 144
optimizer.lr = 6e-5
