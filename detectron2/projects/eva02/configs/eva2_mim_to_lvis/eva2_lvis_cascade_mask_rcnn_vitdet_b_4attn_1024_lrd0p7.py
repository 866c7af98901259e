"""EVA-02-B on LVIS at 1024 pixels."""

from ..common.base import dataloader, lr_multiplier, model, optimizer, train
from ..common.recipes import lvis, steps

lvis(model, dataloader)
steps(50000, train, lr_multiplier, period=2500)
optimizer.lr = 1e-4
