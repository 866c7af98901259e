"""EVA-02-B on COCO at 1024 pixels."""

from ..common.base import dataloader, lr_multiplier, model, optimizer, train
