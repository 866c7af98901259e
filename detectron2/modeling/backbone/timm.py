"""Feature extractors of the package timm as backbones, for both kinds of config.

LazyConfig::

    model.backbone.bottom_up = LazyCall(TimmBackbone)(name="convnext_tiny", pretrained=True, out_features=["res2", "res3", "res4", "res5"])

yacs::

    cfg = get_cfg()
    add_timm_config(cfg)
    cfg.MODEL.BACKBONE.NAME = "timm_fpn_backbone"
    cfg.MODEL.TIMM.NAME = "convnext_tiny"
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.utils.errors import BadValue, UnknownNameError
from detectron2.utils.suggest import did_you_mean

from .backbone import Backbone
from .build import BACKBONE_REGISTRY
from .fpn import FPN, LastLevelMaxPool

__all__ = ["TimmBackbone", "add_timm_config", "timm_backbone", "timm_fpn_backbone"]


def _timm() -> Any:
    try:
        import timm
    except ImportError as e:
        raise ImportError("timm backbones need timm: pip install 'detectron2[timm]'") from e
    return timm


class TimmBackbone(Backbone):
    """A network of timm that returns the maps of its stages.

    A map of stride ``2 ** k`` is called ``"res{k}"``, as in :class:`ResNet`, so that it fits the same pyramids and
    heads. If several maps have the same stride (plain transformers), they are called ``"feat0"``, ``"feat1"``, …

    Args:
        name: name of the model in timm.
        pretrained: whether to download and load timm's weights.
        out_features: names of the maps to return; by default all.
        in_chans: channels of the images; timm adapts pretrained weights to them.
        freeze: whether to freeze all parameters and batch norms.
        kwargs: further arguments of ``timm.create_model``, such as ``drop_path_rate``.

    Raises:
        ImportError: if timm is not installed.
        ValueError: if timm has no such model, or an output is unknown.
    """

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool = False,
        out_features: Sequence[str] | None = None,
        in_chans: int = 3,
        freeze: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        timm = _timm()
        if not timm.is_model(name.split(".")[0]):
            raise BadValue(f"timm has no model {name!r}. {did_you_mean(name, timm.list_models())}")
        self.net: nn.Module = timm.create_model(
            name, pretrained=pretrained, features_only=True, in_chans=in_chans, **kwargs
        )
        info: Any = self.net.feature_info
        strides = [int(s) for s in info.reduction()]
        self._channels = [int(c) for c in info.channels()]
        unique = len(set(strides)) == len(strides)
        self._names = [f"res{int(math.log2(s))}" if unique else f"feat{i}" for i, s in enumerate(strides)]
        self._out_features = list(out_features) if out_features is not None else list(self._names)
        for feature in self._out_features:
            if feature not in self._names:
                raise BadValue(f"{name} has no output {feature!r}. {did_you_mean(feature, self._names)}")
        self._out_feature_channels = dict(zip(self._names, self._channels))
        self._out_feature_strides = dict(zip(self._names, strides))
        self._size_divisibility = max(strides)
        if freeze:
            self.requires_grad_(False)
            FrozenBatchNorm2d.convert_frozen_batchnorm(self)

    @property
    def size_divisibility(self) -> int:
        """The coarsest stride."""
        return self._size_divisibility

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute feature maps (N, channels, H / stride, W / stride) from images (N, C, H, W)."""
        maps = dict(zip(self._names, self.net(x)))
        return {
            name: self._channels_first(maps[name], self._out_feature_channels[name])
            for name in self._out_features
        }

    @staticmethod
    def _channels_first(x: torch.Tensor, channels: int) -> torch.Tensor:
        """Permute (N, H, W, C), which some of timm's transformers return, to (N, C, H, W)."""
        return x if x.shape[1] == channels else x.permute(0, 3, 1, 2).contiguous()


def add_timm_config(cfg: CfgNode) -> None:
    """Add the keys ``MODEL.TIMM.{NAME, PRETRAINED, OUT_FEATURES, FREEZE}`` to a config."""
    node = type(cfg)()
    node.NAME = "resnet50"
    node.PRETRAINED = False
    node.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    node.FREEZE = False
    cfg.MODEL.TIMM = node


@BACKBONE_REGISTRY.register()
def timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """Build a timm network from ``cfg.MODEL.TIMM``, see :func:`add_timm_config`."""
    if "TIMM" not in cfg.MODEL:
        raise UnknownNameError(
            "cfg.MODEL.TIMM is missing: call detectron2.modeling.backbone.timm.add_timm_config(cfg) first"
        )
    c = cfg.MODEL.TIMM
    return TimmBackbone(
        c.NAME,
        pretrained=c.PRETRAINED,
        out_features=c.OUT_FEATURES,
        in_chans=input_shape.channels or 3,
        freeze=c.FREEZE,
    )


@BACKBONE_REGISTRY.register()
def timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build a timm network with FPN and a pooled top level from ``cfg.MODEL.TIMM`` and ``cfg.MODEL.FPN``."""
    return FPN(
        timm_backbone(cfg, input_shape),
        cfg.MODEL.FPN.IN_FEATURES,
        cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
