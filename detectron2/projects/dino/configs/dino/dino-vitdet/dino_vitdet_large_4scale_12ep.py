"""DINO on ViTDet-L, 12 epochs."""

from .dino_vitdet_base_4scale_12ep import dataloader, lr_multiplier, model, optimizer, train

lr_multiplier.scheduler.milestones = [300000, 375000]
lr_multiplier.warmup_length = 250 / train.max_iter
del lr_multiplier.warmup_method

model.backbone.net.update(embed_dim=1024, depth=24, num_heads=16, drop_path_rate=0.4)
model.backbone.net.window_block_indexes = [i for i in range(23) if i % 6 != 5]
train.init_checkpoint = "detectron2://ImageNetPretrained/MAE/mae_pretrain_vit_large.pth"
train.output_dir = "./output/dino_vitdet_large_12ep"
