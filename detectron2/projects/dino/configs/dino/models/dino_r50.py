"""DINO on ResNet-50, with four levels."""

from detectron2.config import LazyCall as L
from detectron2.projects.dino import (
    DINO,
    DINOCriterion,
    DINOTransformer,
    DINOTransformerDecoder,
    DINOTransformerEncoder,
)

from ...common.parts import matcher, neck, positions, resnet50, statistics

_layers = dict(
    embed_dim=256, num_heads=8, feedforward_dim=2048, attn_dropout=0.0, ffn_dropout=0.0, num_layers=6
)
_layers.update(num_feature_levels="${..num_feature_levels}", use_checkpoint=False)


def weights(loss_class=1):
    """Weights of the losses of the last layer, and of query selection and the five layers before it."""
    base = dict(loss_class=loss_class, loss_bbox=5.0, loss_giou=2.0)
    base.update(loss_class_dn=1, loss_bbox_dn=5.0, loss_giou_dn=2.0)
    return base, {f"{name}_{where}": w for where in ("enc", *range(5)) for name, w in base.items()}


base_weight_dict, aux_weight_dict = weights()
weight_dict = {**base_weight_dict, **aux_weight_dict}

model = L(DINO)(
    backbone=resnet50(),
    position_embedding=positions(),
    neck=neck(res3=512, res4=1024, res5=2048),
    transformer=L(DINOTransformer)(
        encoder=L(DINOTransformerEncoder)(post_norm=False, **_layers),
        decoder=L(DINOTransformerDecoder)(return_intermediate=True, **_layers),
        num_feature_levels=4,
        two_stage_num_proposals="${..num_queries}",
    ),
    embed_dim=256,
    num_classes=80,
    num_queries=900,
    aux_loss=True,
    criterion=L(DINOCriterion)(
        num_classes="${..num_classes}",
        matcher=matcher(),
        weight_dict=weight_dict,
        loss_class_type="focal_loss",
        alpha=0.25,
        gamma=2.0,
        two_stage_binary_cls=False,
    ),
    dn_number=100,
    label_noise_ratio=0.5,
    box_noise_scale=1.0,
    vis_period=0,
    input_format="RGB",
    device="cuda",
    **statistics(),
)
