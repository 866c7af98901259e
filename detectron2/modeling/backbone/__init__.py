"""Backbones: networks that compute named feature maps from images."""

from ._fold import fold_batch_norms, optimize_for_inference
from .backbone import Backbone
from .build import BACKBONE_REGISTRY, build_backbone
from .fpn import FPN
from .mvit import MViT
from .regnet import RegNet
from .resnet import BasicStem, BottleneckBlock, ResNet, ResNetBlockBase, build_resnet_backbone, make_stage
from .swin import SwinTransformer
from .timm import TimmBackbone, add_timm_config, timm_fpn, timm_simple_pyramid
from .vit import SimpleFeaturePyramid, ViT, get_vit_lr_decay_rate

__all__ = [
    "BACKBONE_REGISTRY",
    "FPN",
    "Backbone",
    "BasicStem",
    "BottleneckBlock",
    "MViT",
    "RegNet",
    "ResNet",
    "ResNetBlockBase",
    "SimpleFeaturePyramid",
    "SwinTransformer",
    "TimmBackbone",
    "ViT",
    "add_timm_config",
    "build_backbone",
    "build_resnet_backbone",
    "fold_batch_norms",
    "get_vit_lr_decay_rate",
    "make_stage",
    "optimize_for_inference",
    "timm_fpn",
    "timm_simple_pyramid",
]
