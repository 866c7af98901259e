"""Pixel decoders: deformable attention over the coarse levels, and a pyramid up to fine mask features.

References: section 3.3 of Mask2Former, https://arxiv.org/abs/2112.01527; MaskDINO, https://arxiv.org/abs/2206.02777
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.layers import Conv2d, MSDeformAttn, ShapeSpec, get_norm
from detectron2.layers.deformable_attention import SpatialShapes
from detectron2.layers.weight_init import c2_xavier_fill
from detectron2.layers.wrappers import shapes_to_tensor
from detectron2.utils.errors import BadValue

from .deformable_encoder import (
    MSDeformAttnTransformerEncoder,
    MSDeformAttnTransformerEncoderLayer,
    flatten_levels,
    level_start_index,
)
from .position_encoding import PositionEmbeddingSine
from .reference_points import valid_ratio

__all__ = ["DeformablePixelDecoder", "MSDeformAttnTransformerEncoderOnly"]


class MSDeformAttnTransformerEncoderOnly(nn.Module):
    """Deformable self-attention over the pixels of several maps.

    Args:
        d_model: channels.
        nhead: number of heads.
        num_encoder_layers: number of layers.
        dim_feedforward: hidden channels of the feed-forward networks.
        dropout: dropout rate.
        activation: "relu" or "gelu".
        num_feature_levels: number of maps.
        enc_n_points: points per head and map.
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
        """Return the fraction of the width and height of maps that is not padding; see :func:`.valid_ratio`."""
        return valid_ratio(mask)

    def encode(
        self, srcs: Sequence[Tensor], pos_embeds: Sequence[Tensor], masks: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        """Transform maps.

        Args:
            srcs: L maps [N, C, H_l, W_l].
            pos_embeds: position embeddings of the same shapes.
            masks: L masks [N, H_l, W_l], True in padding; None = no padding.

        Returns:
            L maps of the same shapes.
        """
        flat, shapes = flatten_levels(srcs)
        encoded = self._encode(flat, pos_embeds, shapes, masks)
        levels = encoded.split([h * w for h, w in shapes], 1)
        return [x.transpose(1, 2).unflatten(2, shape) for x, shape in zip(levels, shapes)]

    def _encode(
        self,
        flat: Tensor,
        pos_embeds: Sequence[Tensor],
        shapes: SpatialShapes,
        masks: Sequence[Tensor] | None = None,
    ) -> Tensor:
        positions = [p + e[:, None, None] for p, e in zip(pos_embeds, self.level_embed)]
        if masks is None:
            hidden, ratios = None, flat.new_ones(flat.shape[0], len(positions), 2)
        else:
            hidden = torch.cat([m.flatten(1) for m in masks], 1)
            ratios = torch.stack([valid_ratio(m) for m in masks], 1)
        return self.encoder(flat, shapes, None, ratios, flatten_levels(positions)[0], hidden)

    def transform(
        self, srcs: Sequence[Tensor], pos_embeds: Sequence[Tensor], masks: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Transform maps; for the arguments see :meth:`encode`.

        Returns:
            [N, S, C] pixels of all maps, sizes [L, 2] of the maps, and the index [L] of each map's first pixel.
        """
        flat, shapes = flatten_levels(srcs)
        sizes = torch.stack([shapes_to_tensor(s, flat.device) for s in shapes])
        return self._encode(flat, pos_embeds, shapes, masks), sizes, level_start_index(sizes)

    def forward(self, srcs: Sequence[Tensor], pos_embeds: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Transform maps without padding; see :meth:`transform`."""
        return self.transform(srcs, pos_embeds)


class DeformablePixelDecoder(nn.Module):
    """Compute transformed levels and one map of mask features from the feature maps of a backbone.

    Args:
        input_shape: channels and stride of the feature maps.
        nheads: number of heads of the encoder.
        dim_feedforward: hidden channels of its feed-forward networks.
        enc_layers: number of its layers.
        dropout: its dropout rate.
        conv_dim: channels of all internal maps.
        mask_dim: channels of the mask features.
        norm: norm of the pyramid's convolutions, such as "GN"; "" = none.
        in_features: feature maps of the encoder.
        common_stride: stride of the mask features. Maps between it and the finest of the encoder are only added.
        least_finer_levels: minimum number of levels of the pyramid, even if the encoder has maps of that stride.
        extra_levels: levels beyond the coarsest feature map, each half the size of the previous one.
        coarse_first: order of the levels.
    """

    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        nheads: int,
        dim_feedforward: int,
        enc_layers: int,
        dropout: float,
        conv_dim: int,
        mask_dim: int,
        norm: str | Callable[[int], nn.Module] | None,
        in_features: Sequence[str],
        common_stride: int,
        least_finer_levels: int = 0,
        extra_levels: int = 0,
        coarse_first: bool = True,
    ) -> None:
        super().__init__()
        strides = {name: shape.stride or 1 for name, shape in input_shape.items()}
        channels = {name: shape.channels or 0 for name, shape in input_shape.items()}
        missing = sorted(set(in_features) - set(strides))
        if missing or not in_features:
            raise BadValue(f"the encoder needs the feature maps {missing}, but there are {sorted(strides)}")
        self.in_features = sorted(strides, key=strides.__getitem__)  # finest first
        self.transformer_in_features = [name for name in self.in_features if name in in_features]
        self.common_stride = common_stride
        self.conv_dim, self.mask_dim = conv_dim, mask_dim
        self.coarse_first, self.extra_levels = coarse_first, extra_levels
        seen = self._seen()
        self.transformer_num_feature_levels = len(seen)

        self.input_proj = nn.ModuleList(_projection(channels[name], conv_dim) for name in seen)
        coarsest = channels[self.transformer_in_features[-1]]
        for i in range(extra_levels):
            self.input_proj.append(_projection(conv_dim if i else coarsest, conv_dim, halve=True))
        self.transformer = MSDeformAttnTransformerEncoderOnly(
            conv_dim, nheads, enc_layers, dim_feedforward, dropout, num_feature_levels=len(self.input_proj)
        )
        self.pe_layer = PositionEmbeddingSine(conv_dim // 2, normalize=True)
        self.mask_features = Conv2d(conv_dim, mask_dim, 1)
        c2_xavier_fill(self.mask_features)

        # One finer map for each halving of the stride from the encoder's finest one down to the common one.
        doublings = (strides[self.transformer_in_features[0]] // common_stride).bit_length() - 1
        self.num_fpn_levels = max(doublings, least_finer_levels)
        for i, name in enumerate(self.in_features[: self.num_fpn_levels], start=1):
            self._add_finer_level(i, channels[name], norm)

    def _seen(self) -> list[str]:
        """Feature maps of the encoder, in the order of the levels."""
        fine_first = self.transformer_in_features
        return fine_first[::-1] if self.coarse_first else fine_first

    def _add_finer_level(self, i: int, channels: int, norm: str | Callable[[int], nn.Module] | None) -> None:
        bias, dim = not norm, self.conv_dim
        adapter = Conv2d(channels, dim, 1, bias=bias, norm=get_norm(norm or "", dim))
        output = Conv2d(dim, dim, 3, padding=1, bias=bias, norm=get_norm(norm or "", dim), activation=F.relu)
        for name, conv in ((f"adapter_{i}", adapter), (f"layer_{i}", output)):
            c2_xavier_fill(conv)
            self.add_module(name, conv)

    def _project(self, features: dict[str, Tensor]) -> list[Tensor]:
        """Project all levels to [N, conv_dim, H_l, W_l]; extra ones come from the coarsest feature map."""
        seen = self._seen()
        levels = [project(features[f].float()) for f, project in zip(seen, self.input_proj)]
        coarsest, extra = features[self.transformer_in_features[-1]].float(), []
        for project in self.input_proj[len(seen) :]:
            coarsest = project(coarsest)
            extra.append(coarsest)
        return extra[::-1] + levels if self.coarse_first else levels + extra

    def decode(
        self, features: dict[str, Tensor], masks: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Decode feature maps, in float32 also under autocast.

        Args:
            features: maps [N, C, H, W] by name.
            masks: for each level [N, H_l, W_l], True in padding; None = no padding.

        Returns:
            The mask features [N, mask_dim, H, W] of the common stride, and the levels [N, conv_dim, H_l, W_l] in their
            order, followed by those of the pyramid, coarsest first.
        """
        device = next(iter(features.values())).device
        with torch.autocast(device.type, enabled=False):
            projected = self._project(features)
            levels = self.transformer.encode(projected, [self.pe_layer(x) for x in projected], masks)
            finest = levels[-1] if self.coarse_first else levels[0]
            for i in range(self.num_fpn_levels, 0, -1):
                adapter, output = getattr(self, f"adapter_{i}"), getattr(self, f"layer_{i}")
                finer = adapter(features[self.in_features[i - 1]].float())
                coarser = F.interpolate(finest, size=finer.shape[-2:], mode="bilinear", align_corners=False)
                finest = output(finer + coarser)
                levels.append(finest)
            return self.mask_features(finest), levels


def _projection(channels: int, conv_dim: int, halve: bool = False) -> nn.Sequential:
    """Build a convolution to ``conv_dim`` channels, 1x1 or halving the size, with its norm."""
    conv = (
        nn.Conv2d(channels, conv_dim, 3, stride=2, padding=1) if halve else nn.Conv2d(channels, conv_dim, 1)
    )
    nn.init.xavier_uniform_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.GroupNorm(32, conv_dim))
