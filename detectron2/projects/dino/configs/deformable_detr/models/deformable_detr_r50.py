"""Deformable DETR on ResNet-50."""

from detectron2.config import LazyCall as L
from detectron2.projects.dino import (
    DeformableCriterion,
    DeformableDETR,
    DeformableDetrTransformer,
    DeformableDetrTransformerDecoder,
    DeformableDetrTransformerEncoder,
)

from ...common.parts import matcher, neck, positions, resnet50, statistics

_layers = dict(
    embed_dim=256, num_heads=8, feedforward_dim=1024, attn_dropout=0.1, ffn_dropout=0.1, num_layers=6
)
_layers.update(num_feature_levels="${..num_feature_levels}")

_base = dict(loss_class=1.0, loss_bbox=5.0, loss_giou=2.0)
aux_weight_dict = {f"{name}_{where}": w for where in (*range(5), "enc") for name, w in _base.items()}
weight_dict = {**_base, **aux_weight_dict}

model = L(DeformableDETR)(
    backbone=resnet50(),
    position_embedding=positions(),
    neck=neck(res3=512, res4=1024, res5=2048),
    transformer=L(DeformableDetrTransformer)(
        encoder=L(DeformableDetrTransformerEncoder)(post_norm=False, **_layers),
        decoder=L(DeformableDetrTransformerDecoder)(return_intermediate=True, **_layers),
        as_two_stage="${..as_two_stage}",
        num_feature_levels=4,
        two_stage_num_proposals="${..num_queries}",
    ),
    embed_dim=256,
    num_classes=80,
    num_queries=300,
    aux_loss=True,
    with_box_refine=False,
    as_two_stage=False,
    criterion=L(DeformableCriterion)(
        num_classes=80,
        matcher=matcher(),
        weight_dict=weight_dict,
        loss_class_type="focal_loss",
        alpha=0.25,
        gamma=2.0,
    ),
    select_box_nums_for_evaluation=300,
    device="cuda",
    **statistics(),
)
