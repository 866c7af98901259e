"""Feature extractors of the package timm as backbones, for both kinds of config.

LazyConfig::

    model.backbone = LazyCall(timm_fpn)(name="convnext_tiny.dinov3_lvd1689m", pretrained=True)
    model.backbone = LazyCall(timm_simple_pyramid)(name="vit_small_patch16_dinov3", pretrained=True)

yacs::

    MODEL: {BACKBONE: {NAME: timm_fpn_backbone}, TIMM: {NAME: convnext_tiny.dinov3_lvd1689m, PRETRAINED: true}}
    MODEL: {BACKBONE: {NAME: timm_simple_pyramid_backbone}, TIMM: {NAME: vit_small_patch16_dinov3, PRETRAINED: true}}

``timm_fpn`` suits networks with stages (ConvNeXt, Swin, Hiera), ``timm_simple_pyramid`` plain transformers (DINOv2 and
DINOv3 ViTs), as in ViTDet.
"""

import math
import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import nn

from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.utils.errors import BadValue
from detectron2.utils.suggest import did_you_mean

from .backbone import Backbone
from .build import BACKBONE_REGISTRY
from .fpn import FPN, LastLevelMaxPool
from .simple_pyramid import SimpleFeaturePyramid

__all__ = [
    "TimmBackbone",
    "add_timm_config",
    "timm_backbone",
    "timm_fpn",
    "timm_fpn_backbone",
    "timm_simple_pyramid",
    "timm_simple_pyramid_backbone",
]

# Arguments by which the networks of a module of timm take images of any size.
_ANY_SIZE: dict[str, dict[str, Any]] = {
    "vision_transformer": {"dynamic_img_size": True},
    "eva": {"dynamic_img_size": True},
    "swin_transformer": {"strict_img_size": False},
    "swin_transformer_v2": {"strict_img_size": False},
}
# Networks that take one size only: a square of this many pixels, unless ``img_size`` says otherwise.
_ONE_SIZE = {"hiera": 1024}
LAST = "last_feat"


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as e:
        raise ImportError("timm backbones need timm: pip install 'detectron2[timm]'") from e
    return timm


class TimmBackbone(Backbone):
    """A network of timm that returns the maps of its stages.

    A map of stride ``2 ** k`` is called ``"res{k}"``, as in :class:`ResNet`, so that it fits the same pyramids and
    heads. If several maps have the same stride (plain transformers), they are called ``"feat0"``, ``"feat1"``, …; the
    last map of any network is also called ``"last_feat"``.

    Networks take images of any size if timm has an argument for it. Hiera takes squares of one size, so images are
    padded to it. Plain transformers whose patch size is not a power of two (14 in DINOv2) get patches of 16, to which
    timm resamples pretrained weights, because the strides of pyramids and anchors are powers of two.

    Args:
        name: name of the model in timm.
        pretrained: whether to download and load timm's weights.
        out_features: names of the maps to return; by default all, without ``"last_feat"``.
        in_chans: channels of the images; timm adapts pretrained weights to them.
        freeze: whether to freeze all parameters and batch norms.
        kwargs: further arguments of ``timm.create_model``, such as ``drop_path_rate`` or ``img_size``.

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
        # Lists from a config are none to torch's functions.
        given = {
            k: tuple(v) if isinstance(v, Sequence) and not isinstance(v, str) else v
            for k, v in kwargs.items()
        }
        kwargs = _size_options(timm, name) | given
        self.net: nn.Module = timm.create_model(
            name, pretrained=pretrained, features_only=True, in_chans=in_chans, **kwargs
        )
        form: Any = getattr(self.net, "output_fmt", "NCHW")
        self._channels_last = getattr(form, "value", form) == "NHWC"
        info: Any = self.net.feature_info
        strides = [int(s) for s in info.reduction()]
        self._channels = [int(c) for c in info.channels()]
        unique = len(set(strides)) == len(strides)
        self._names = [f"res{int(math.log2(s))}" if unique else f"feat{i}" for i, s in enumerate(strides)]
        self._out_features = list(out_features) if out_features is not None else list(self._names)
        for feature in self._out_features:
            if feature not in (*self._names, LAST):
                raise BadValue(f"{name} has no output {feature!r}. {did_you_mean(feature, self._names)}")
        known = [*self._names, LAST]
        self._out_feature_channels = dict(zip(known, [*self._channels, self._channels[-1]]))
        self._out_feature_strides = dict(zip(known, [*strides, strides[-1]]))
        self._size_divisibility = max(strides)
        fixed = _family(timm, name) in _ONE_SIZE
        self.square_size = int(kwargs["img_size"]) if fixed else 0
        if freeze:
            self.requires_grad_(False)
            FrozenBatchNorm2d.convert_frozen_batchnorm(self)

    @property
    def size_divisibility(self) -> int:
        """The coarsest stride."""
        return self._size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        """``"size_divisibility"`` and ``"square_size"`` (0 for no square)."""
        return {"size_divisibility": self._size_divisibility, "square_size": self.square_size}

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute feature maps (N, channels, H / stride, W / stride) from images (N, C, H, W)."""
        maps = dict(zip(self._names, self.net(x)))
        maps[LAST] = maps[self._names[-1]]
        found = {name: maps[name] for name in self._out_features}
        if self._channels_last:  # as some of timm's transformers return them
            return {name: x.permute(0, 3, 1, 2).contiguous() for name, x in found.items()}
        return found


def _family(timm: ModuleType, name: str) -> str:
    """Return the module of timm that a model comes from, such as ``"eva"``."""
    return str(timm.model_entrypoint(name.split(".")[0]).__module__.rpartition(".")[2])


def _size_options(timm: ModuleType, name: str) -> dict[str, Any]:
    """Return the arguments that let a network take images for detection."""
    family = _family(timm, name)
    options = dict(_ANY_SIZE.get(family, {}))
    if family in _ONE_SIZE:
        options["img_size"] = _ONE_SIZE[family]
    patch = re.search(r"_patch(\d+)", name)
    if patch and "dynamic_img_size" in options and int(patch[1]) & (int(patch[1]) - 1):
        options["patch_size"] = 16
    return options


def timm_fpn(
    name: str,
    *,
    out_channels: int = 256,
    in_features: Sequence[str] = ("res2", "res3", "res4", "res5"),
    norm: str = "",
    fuse_type: str = "sum",
    **kwargs: Any,
) -> FPN:
    """Build a timm network with FPN and a pooled top level: ``p2`` to ``p6``.

    Args:
        name: of the model in timm.
        out_channels: channels of every level.
        in_features: maps of the network that the pyramid takes.
        norm: normalisation in the pyramid.
        fuse_type: "sum" or "avg".
        kwargs: further arguments of :class:`TimmBackbone`, such as ``pretrained``.
    """
    net = TimmBackbone(name, out_features=list(in_features), **kwargs)
    return FPN(
        net,
        list(in_features),
        out_channels,
        norm=norm,
        top_block=LastLevelMaxPool(),
        fuse_type=fuse_type,
        square_pad=net.square_size,
    )


def timm_simple_pyramid(
    name: str,
    *,
    out_channels: int = 256,
    scale_factors: Sequence[float] = (4.0, 2.0, 1.0, 0.5),
    norm: str = "LN",
    square_pad: int = 0,
    **kwargs: Any,
) -> SimpleFeaturePyramid:
    """Build a plain transformer of timm with the pyramid of ViTDet and a pooled top level: ``p2`` to ``p6``.

    Args:
        name: of the model in timm, of stride 16 (or 14, see :class:`TimmBackbone`).
        out_channels: channels of every level.
        scale_factors: see :class:`SimpleFeaturePyramid`.
        norm: normalisation in the pyramid.
        square_pad: pad images to a square with this side; 0 for no square.
        kwargs: further arguments of :class:`TimmBackbone`, such as ``pretrained``.
    """
    net = TimmBackbone(name, out_features=[LAST], **({"out_indices": (-1,)} | kwargs))
    pad = square_pad or net.square_size
    return SimpleFeaturePyramid(net, LAST, out_channels, scale_factors, LastLevelMaxPool(), norm, pad)


def add_timm_config(cfg: CfgNode) -> None:
    """Do nothing: ``MODEL.TIMM`` is known to every config. Programs may still call this."""


def _options(cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
    """Return the arguments of :class:`TimmBackbone` by ``cfg.MODEL.TIMM``, apart from its outputs."""
    c = cfg.MODEL.TIMM
    options = {"pretrained": c.PRETRAINED, "freeze": c.FREEZE, "in_chans": input_shape.channels or 3}
    if c.IMG_SIZE:
        options["img_size"] = c.IMG_SIZE
    if c.DROP_PATH_RATE:
        options["drop_path_rate"] = c.DROP_PATH_RATE
    return {"name": c.NAME, **options}


@BACKBONE_REGISTRY.register()
def timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """Build the network that ``cfg.MODEL.TIMM`` names."""
    return TimmBackbone(out_features=cfg.MODEL.TIMM.OUT_FEATURES, **_options(cfg, input_shape))


@BACKBONE_REGISTRY.register()
def timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build a timm network with FPN and a pooled top level from ``cfg.MODEL.TIMM`` and ``cfg.MODEL.FPN``."""
    fpn = cfg.MODEL.FPN
    return timm_fpn(
        out_channels=fpn.OUT_CHANNELS,
        in_features=fpn.IN_FEATURES or cfg.MODEL.TIMM.OUT_FEATURES,
        norm=fpn.NORM,
        fuse_type=fpn.FUSE_TYPE,
        **_options(cfg, input_shape),
    )


@BACKBONE_REGISTRY.register()
def timm_simple_pyramid_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> SimpleFeaturePyramid:
    """Build a plain transformer with the pyramid of ViTDet from ``cfg.MODEL.TIMM`` and ``cfg.MODEL.FPN``."""
    return timm_simple_pyramid(
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS, norm=cfg.MODEL.FPN.NORM or "LN", **_options(cfg, input_shape)
    )
