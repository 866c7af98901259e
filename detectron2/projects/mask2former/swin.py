"""Swin with the feature map names of a ResNet, as in Mask2Former's configs."""

from typing import Any

from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling import SwinTransformer as CoreSwinTransformer
from detectron2.modeling.backbone import Backbone
from detectron2.utils.errors import BadValue

__all__ = ["D2SwinTransformer", "SwinTransformer"]


def _res(name: str) -> str:
    """Convert ``"p0"`` to ``"res2"``, and so on."""
    return f"res{int(name[1:]) + 2}"


class SwinTransformer(CoreSwinTransformer):
    """The core's Swin transformer, with outputs ``"res2"``, ``"res3"``, … of stride 4, 8, …

    Arguments are those of :class:`detectron2.modeling.SwinTransformer`.

    Reference: https://arxiv.org/abs/2103.14030
    """

    def __init__(
        self,
        pretrain_img_size: int = 224,
        patch_size: int = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        depths: list[int] = [2, 2, 6, 2],  # noqa: B006
        num_heads: list[int] = [3, 6, 12, 24],  # noqa: B006
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.2,
        norm_layer: Any = nn.LayerNorm,
        ape: bool = False,
        patch_norm: bool = True,
        out_indices: tuple[int, ...] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__(
            pretrain_img_size=pretrain_img_size,
            patch_size=patch_size,
            in_chans=in_chans,
            embed_dim=embed_dim,
            depths=depths,
            num_heads=num_heads,
            window_size=window_size,
            mlp_ratio=mlp_ratio,
            qkv_bias=qkv_bias,
            qk_scale=qk_scale,
            drop_rate=drop_rate,
            attn_drop_rate=attn_drop_rate,
            drop_path_rate=drop_path_rate,
            norm_layer=norm_layer,
            ape=ape,
            patch_norm=patch_norm,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            use_checkpoint=use_checkpoint,
        )
        self._out_features = [_res(f) for f in self._out_features]
        self._out_feature_channels = {_res(f): c for f, c in self._out_feature_channels.items()}
        self._out_feature_strides = {_res(f): s for f, s in self._out_feature_strides.items()}

    def init_weights(self, pretrained: str | None = None) -> None:
        """Initialise all weights at random, as the constructor does.

        Args:
            pretrained: None; set ``MODEL.WEIGHTS`` to load a file.
        """
        if pretrained is not None:
            raise BadValue(f"init_weights() loads no file, got {pretrained!r}; set MODEL.WEIGHTS instead")
        self.apply(self._init_weights)

    def train(self, mode: bool = True) -> "SwinTransformer":
        """Switch to training or inference; frozen stages stay in inference."""
        super().train(mode)
        return self

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute ``{"res2": [N, C, H / 4, W / 4], …}`` of images [N, in_chans, H, W]."""
        return {_res(name): level for name, level in super().forward(x).items()}


@BACKBONE_REGISTRY.register()
class D2SwinTransformer(SwinTransformer, Backbone):
    """The Swin transformer that ``MODEL.SWIN`` describes, with the outputs ``MODEL.SWIN.OUT_FEATURES``.

    Args:
        cfg: config with the keys of :func:`.add_maskformer2_config`.
        input_shape: ``channels`` of the images; None = those of ``MODEL.PIXEL_MEAN``.
    """

    def __init__(self, cfg: CfgNode, input_shape: ShapeSpec | None) -> None:
        swin = cfg.MODEL.SWIN
        channels = len(cfg.MODEL.PIXEL_MEAN) if input_shape is None else input_shape.channels
        super().__init__(
            swin.PRETRAIN_IMG_SIZE,
            swin.PATCH_SIZE,
            channels or 3,
            swin.EMBED_DIM,
            swin.DEPTHS,
            swin.NUM_HEADS,
            swin.WINDOW_SIZE,
            swin.MLP_RATIO,
            swin.QKV_BIAS,
            swin.QK_SCALE,
            swin.DROP_RATE,
            swin.ATTN_DROP_RATE,
            swin.DROP_PATH_RATE,
            nn.LayerNorm,
            swin.APE,
            swin.PATCH_NORM,
            use_checkpoint=swin.USE_CHECKPOINT,
        )
        unknown = sorted(set(swin.OUT_FEATURES) - set(self._out_features))
        if unknown:
            raise BadValue(f"MODEL.SWIN.OUT_FEATURES must be of {self._out_features}, got {unknown}")
        self._out_features = list(swin.OUT_FEATURES)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute the output feature maps of images [N, C, H, W]."""
        if x.dim() != 4:
            raise BadValue(f"Swin takes images [N, C, H, W], got {tuple(x.shape)}")
        return {name: level for name, level in super().forward(x).items() if name in self._out_features}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Return channels and stride of the output feature maps."""
        return {
            name: ShapeSpec(channels=self._out_feature_channels[name], stride=self._out_feature_strides[name])
            for name in self._out_features
        }

    @property
    def size_divisibility(self) -> int:
        """Stride of the last stage."""
        return 32
