"""EVA-02-L on LVIS at 1024 pixels."""

from ..common.base import dataloader, lr_multiplier, model, optimizer, train
from ..common.recipes import large, lvis, steps, windows

large(model, optimizer)
windows(model, global_blocks=4)
lvis(model, dataloader)
steps(40000, train, lr_multiplier, period=2500)
optimizer.lr = 1e-4
