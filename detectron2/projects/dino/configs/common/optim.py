"""AdamW with a tenth of the rate for the backbone."""

import torch

from detectron2.config import LazyCall as L
from detectron2.solver import get_default_optimizer_params, pattern_factors

AdamW = L(torch.optim.AdamW)(
    params=L(get_default_optimizer_params)(
        base_lr="${..lr}",
        weight_decay_norm=0.0,
        lr_factor_func=L(pattern_factors)(rules=[["backbone", 0.1]]),
    ),
    lr=1e-4,
    betas=(0.9, 0.999),
    weight_decay=1e-4,
)
