"""Parts that several models share."""

from torch import nn

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling import ResNet
from detectron2.modeling.backbone.resnet import BasicStem
from detectron2.projects.dino import ChannelMapper, HungarianMatcher, PositionEmbeddingSine


def resnet50():
    """ResNet-50 without its stem trained."""
    return L(ResNet)(
        stem=L(BasicStem)(in_channels=3, out_channels=64, norm="FrozenBN"),
        stages=L(ResNet.make_default_stages)(depth=50, stride_in_1x1=False, norm="FrozenBN"),
        out_features=["res3", "res4", "res5"],
        freeze_at=1,
    )


def positions():
    """Sines of the centres of the pixels."""
    return L(PositionEmbeddingSine)(num_pos_feats=128, temperature=10000, normalize=True, offset=-0.5)


def shapes(**channels):
    """Channels of the maps of a backbone."""
    return {name: ShapeSpec(channels=c) for name, c in channels.items()}


def neck(**channels):
    """Convolutions to 256 channels, and one more level."""
    return L(ChannelMapper)(
        input_shapes=shapes(**channels),
        in_features=list(channels),
        out_channels=256,
        num_outs=4,
        kernel_size=1,
        norm_layer=L(nn.GroupNorm)(num_groups=32, num_channels=256),
    )


def matcher():
    """Costs of class, distance and overlap."""
    return L(HungarianMatcher)(
        cost_class=2.0,
        cost_bbox=5.0,
        cost_giou=2.0,
        cost_class_type="focal_loss_cost",
        alpha=0.25,
        gamma=2.0,
    )


def statistics():
    """Mean and standard deviation of the channels of ImageNet, RGB."""
    return dict(pixel_mean=[123.675, 116.280, 103.530], pixel_std=[58.395, 57.120, 57.375])
