"""The pixel decoder: deformable attention among the coarse levels, and a pyramid up to fine mask features.

Reference: section 3.3 of Mask2Former, https://arxiv.org/abs/2112.01527
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, MSDeformAttn, ShapeSpec, get_norm
from detectron2.layers.deformable_attention import SpatialShapes
from detectron2.layers.weight_init import c2_xavier_fill
from detectron2.layers.wrappers import shapes_to_tensor
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.modeling.transformer import (
    MSDeformAttnTransformerEncoder,
    MSDeformAttnTransformerEncoderLayer,
    PositionEmbeddingSine,
    flatten_levels,
    level_start_index,
    valid_ratio,
)
from detectron2.utils.errors import BadValue

__all__ = ["MSDeformAttnPixelDecoder", "MSDeformAttnTransformerEncoderOnly", "build_pixel_decoder"]

_NUM_LEVELS_OUT = 3


def build_pixel_decoder(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module:
    """Build the pixel decoder that ``MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME`` names.

    Args:
        cfg: config with the keys of :func:`.add_maskformer2_config`.
        input_shape: feature maps of the backbone.

    Raises:
        TypeError: if what it names has no ``forward_features``.
    """
    decoder = SEM_SEG_HEADS_REGISTRY.get(cfg.MODEL.SEM_SEG_HEAD.PIXEL_DECODER_NAME)(cfg, input_shape)
    if not callable(getattr(decoder, "forward_features", None)):
        raise TypeError(f"{type(decoder).__name__} is no pixel decoder: it has no method forward_features")
    return decoder


class MSDeformAttnTransformerEncoderOnly(nn.Module):
    """Deformable self-attention over the pixels of several maps, without padding.

    Args:
        d_model: channels.
        nhead: heads.
        num_encoder_layers: layers.
        dim_feedforward: channels inside the feed-forward networks.
        dropout: rate of dropout.
        activation: "relu" or "gelu".
        num_feature_levels: maps.
        enc_n_points: points of each head on each map.
    """

    def __init__(
        self,
        d_model: int = 256,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        dim_feedforward: int = 1024,
        dropout: float = 0.1,
        activation: str = "relu",
        num_feature_levels: int = 4,
        enc_n_points: int = 4,
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.nhead = nhead
        layer = MSDeformAttnTransformerEncoderLayer(
            d_model, dim_feedforward, dropout, activation, num_feature_levels, nhead, enc_n_points
        )
        self.encoder = MSDeformAttnTransformerEncoder(layer, num_encoder_layers)
        self.level_embed = nn.Parameter(torch.empty(num_feature_levels, d_model))
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)
        for module in self.modules():
            if isinstance(module, MSDeformAttn):
                module._reset_parameters()
        nn.init.normal_(self.level_embed)

    def get_valid_ratio(self, mask: Tensor) -> Tensor:
        """Measure how much of the width and height of maps is not padding; see :func:`.valid_ratio`."""
        return valid_ratio(mask)

    def encode(self, srcs: Sequence[Tensor], pos_embeds: Sequence[Tensor]) -> list[Tensor]:
        """Transform maps [N, C, H_l, W_l], given with positions of the same shapes."""
        flat, shapes = flatten_levels(srcs)
        encoded = self._encode(flat, pos_embeds, shapes)
        levels = encoded.split([h * w for h, w in shapes], 1)
        return [x.transpose(1, 2).unflatten(2, shape) for x, shape in zip(levels, shapes)]

    def _encode(self, flat: Tensor, pos_embeds: Sequence[Tensor], shapes: SpatialShapes) -> Tensor:
        positions = [p + e[:, None, None] for p, e in zip(pos_embeds, self.level_embed)]
        whole = flat.new_ones(flat.shape[0], len(positions), 2)
        return self.encoder(flat, shapes, None, whole, flatten_levels(positions)[0])

    def forward(self, srcs: Sequence[Tensor], pos_embeds: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Transform maps.

        Args:
            srcs: L maps [N, C, H_l, W_l].
            pos_embeds: their positions, of the same shapes.

        Returns:
            [N, S, C] pixels of all maps, the sizes [L, 2] of the maps, and the index [L] of the first pixel of each.
        """
        flat, shapes = flatten_levels(srcs)
        sizes = torch.stack([shapes_to_tensor(s, flat.device) for s in shapes])
        return self._encode(flat, pos_embeds, shapes), sizes, level_start_index(sizes)


@SEM_SEG_HEADS_REGISTRY.register()
class MSDeformAttnPixelDecoder(nn.Module):
    """From the feature maps of a backbone to three transformed levels and one map of mask features.

    Args:
        input_shape: channels and stride of the feature maps.
        transformer_dropout: dropout of the encoder.
        transformer_nheads: heads of the encoder.
        transformer_dim_feedforward: channels inside its feed-forward networks.
        transformer_enc_layers: its layers.
        conv_dim: channels of all maps inside.
        mask_dim: channels of the mask features.
        norm: norm of the pyramid's convolutions, such as "GN"; "" for none.
        transformer_in_features: feature maps that the encoder sees.
        common_stride: stride of the mask features. Maps between it and the finest of the encoder are only added.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        transformer_dropout: float,
        transformer_nheads: int,
        transformer_dim_feedforward: int,
        transformer_enc_layers: int,
        conv_dim: int,
        mask_dim: int,
        norm: str | Callable[[int], nn.Module] | None = None,
        transformer_in_features: Sequence[str],
        common_stride: int,
    ) -> None:
        super().__init__()
        strides = {name: shape.stride or 1 for name, shape in input_shape.items()}
        channels = {name: shape.channels or 0 for name, shape in input_shape.items()}
        missing = sorted(set(transformer_in_features) - set(strides))
        if missing or not transformer_in_features:
            raise BadValue(f"the encoder needs the feature maps {missing}, but there are {sorted(strides)}")
        self.in_features = sorted(strides, key=strides.__getitem__)  # fine first
        coarse = [name for name in self.in_features if name in transformer_in_features]
        self.transformer_in_features = coarse
        self.transformer_num_feature_levels = len(coarse)
        self.maskformer_num_feature_levels = _NUM_LEVELS_OUT
        self.common_stride = common_stride
        self.conv_dim, self.mask_dim = conv_dim, mask_dim

        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels[name], conv_dim, 1), nn.GroupNorm(32, conv_dim))
            for name in reversed(coarse)
        )
        for projection in self.input_proj:
            nn.init.xavier_uniform_(projection[0].weight)  # type: ignore[index]
            nn.init.zeros_(projection[0].bias)  # type: ignore[index]
        self.transformer = MSDeformAttnTransformerEncoderOnly(
            d_model=conv_dim,
            nhead=transformer_nheads,
            num_encoder_layers=transformer_enc_layers,
            dim_feedforward=transformer_dim_feedforward,
            dropout=transformer_dropout,
            num_feature_levels=len(coarse),
        )
        self.pe_layer = PositionEmbeddingSine(conv_dim // 2, normalize=True)
        self.mask_features = Conv2d(conv_dim, mask_dim, 1)
        c2_xavier_fill(self.mask_features)

        # One finer map for each doubling from the encoder's finest stride down to the common one.
        self.num_fpn_levels = (min(strides[f] for f in coarse) // common_stride).bit_length() - 1
        for i, name in enumerate(self.in_features[: self.num_fpn_levels], start=1):
            self._add_finer_level(i, channels[name], norm)

    def _add_finer_level(self, i: int, channels: int, norm: str | Callable[[int], nn.Module] | None) -> None:
        bias, dim = not norm, self.conv_dim
        adapter = Conv2d(channels, dim, 1, bias=bias, norm=get_norm(norm or "", dim))
        output = Conv2d(dim, dim, 3, padding=1, bias=bias, norm=get_norm(norm or "", dim), activation=F.relu)
        for name, conv in ((f"adapter_{i}", adapter), (f"layer_{i}", output)):
            c2_xavier_fill(conv)
            self.add_module(name, conv)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Read ``MODEL.SEM_SEG_HEAD`` and ``MODEL.MASK_FORMER``."""
        head, former = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
        return {
            "input_shape": {k: v for k, v in input_shape.items() if k in head.IN_FEATURES},
            "transformer_dropout": former.DROPOUT,
            "transformer_nheads": former.NHEADS,
            "transformer_dim_feedforward": 1024,  # of all released weights, whatever DIM_FEEDFORWARD says
            "transformer_enc_layers": head.TRANSFORMER_ENC_LAYERS,
            "conv_dim": head.CONVS_DIM,
            "mask_dim": head.MASK_DIM,
            "norm": head.NORM,
            "transformer_in_features": head.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES,
            "common_stride": head.COMMON_STRIDE,
        }

    def forward_features(self, features: dict[str, Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Decode feature maps, in float32 also under autocast.

        Args:
            features: maps [N, C, H, W] by name.

        Returns:
            The mask features [N, mask_dim, H, W] of the common stride, the coarsest level, and three levels
            [N, conv_dim, H, W], coarse first.
        """
        device = next(iter(features.values())).device
        with torch.autocast(device.type, enabled=False):
            coarse = [features[f].float() for f in reversed(self.transformer_in_features)]
            projected = [projection(x) for projection, x in zip(self.input_proj, coarse)]
            levels = self.transformer.encode(projected, [self.pe_layer(x) for x in coarse])
            for i in range(self.num_fpn_levels, 0, -1):
                adapter, output = getattr(self, f"adapter_{i}"), getattr(self, f"layer_{i}")
                finer = adapter(features[self.in_features[i - 1]].float())
                coarser = F.interpolate(
                    levels[-1], size=finer.shape[-2:], mode="bilinear", align_corners=False
                )
                levels.append(output(finer + coarser))
            return self.mask_features(levels[-1]), levels[0], levels[:_NUM_LEVELS_OUT]
