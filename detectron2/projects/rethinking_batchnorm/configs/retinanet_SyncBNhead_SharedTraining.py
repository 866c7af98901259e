"""RetinaNet with one batch norm for all levels in the head, which normalises all levels together in training."""

from detectron2.projects.rethinking_batchnorm import RetinaNetHead_SharedTrainingBN

from .retinanet_SyncBNhead import dataloader, lr_multiplier, model, optimizer, train

model.head._target_ = RetinaNetHead_SharedTrainingBN
