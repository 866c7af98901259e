"""EVA-02-B on COCO at 1536 pixels, with large windows."""

from ..common.base import dataloader, lr_multiplier, model, optimizer, train
from ..common.recipes import images_of, windows

windows(model, global_blocks=6, size=32)
images_of(1536, model, dataloader)
