"""Cascade Mask R-CNN on ViT-B for LVIS v1; 100 epochs."""

from functools import partial

from detectron2.data.detection_utils import get_fed_loss_cls_weights

from ..COCO.cascade_mask_rcnn_vitdet_b_100ep import model
from .mask_rcnn_vitdet_b_100ep import dataloader, lr_multiplier, optimizer, train

model.roi_heads.num_classes = 1203
for _predictor in model.roi_heads.box_predictors:
    _predictor.update(
        test_score_thresh=0.02,
        test_topk_per_image=300,
        use_sigmoid_ce=True,
        use_fed_loss=True,
        get_fed_loss_cls_weights=partial(get_fed_loss_cls_weights, dataloader.train.dataset.names, 0.5),
    )
