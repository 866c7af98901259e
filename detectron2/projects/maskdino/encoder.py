"""The encoder: deformable attention among the levels of a pyramid, and fine mask features.

Reference: MaskDINO, https://arxiv.org/abs/2206.02777
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.modeling import transformer as tr
from detectron2.utils.errors import BadValue

__all__ = ["MSDeformAttnTransformerEncoderOnly", "MaskDINOEncoder"]


class MSDeformAttnTransformerEncoderOnly(tr.MSDeformAttnTransformerEncoderOnly):
    """Deformable self-attention over the pixels of several maps, which may have padding.

    Arguments are those of :class:`detectron2.modeling.transformer.MSDeformAttnTransformerEncoderOnly`.
    """

    def forward(  # type: ignore[override]
        self, srcs: Sequence[Tensor], masks: Sequence[Tensor] | None, pos_embeds: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Transform maps.

        Args:
            srcs: L maps [N, C, H_l, W_l].
            masks: L masks [N, H_l, W_l], True in padding; None: there is no padding.
            pos_embeds: positions, of the same shapes as the maps.

        Returns:
            [N, S, C] pixels of all maps, the sizes [L, 2] of the maps, and the index [L] of the first pixel of each.
        """
        return self.transform(srcs, pos_embeds, masks)


@SEM_SEG_HEADS_REGISTRY.register()
class MaskDINOEncoder(tr.DeformablePixelDecoder):
    """From the feature maps of a backbone to transformed levels and one map of mask features.

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
        common_stride: stride of the mask features.
        num_feature_levels: unused; the feature maps are counted.
        total_num_feature_levels: levels, those of the feature maps and smaller ones beyond the coarsest of them.
        feature_order: order of the levels: "low2high", fine first, or "high2low", coarse first.
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
        num_feature_levels: int,
        total_num_feature_levels: int,
        feature_order: str,
    ) -> None:
        extra_levels = total_num_feature_levels - len(set(transformer_in_features))
        if extra_levels < 0:
            raise BadValue(
                f"total_num_feature_levels must be at least the number of transformer_in_features, "
                f"{len(set(transformer_in_features))}, got {total_num_feature_levels}"
            )
        if feature_order not in ("low2high", "high2low"):
            raise BadValue(f"feature_order must be 'low2high' or 'high2low', got {feature_order!r}")
        super().__init__(
            input_shape,
            nheads=transformer_nheads,
            dim_feedforward=transformer_dim_feedforward,
            enc_layers=transformer_enc_layers,
            dropout=transformer_dropout,
            conv_dim=conv_dim,
            mask_dim=mask_dim,
            norm=norm,
            in_features=transformer_in_features,
            common_stride=common_stride,
            least_finer_levels=1,
            extra_levels=extra_levels,
            coarse_first=feature_order == "high2low",
        )
        self.total_num_feature_levels = total_num_feature_levels
        self.feature_order = feature_order

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Read ``MODEL.SEM_SEG_HEAD`` and ``MODEL.MaskDINO``."""
        head, node = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MaskDINO
        return {
            "input_shape": {k: v for k, v in input_shape.items() if k in head.IN_FEATURES},
            "transformer_dropout": node.DROPOUT,
            "transformer_nheads": node.NHEADS,
            "transformer_dim_feedforward": head.DIM_FEEDFORWARD,
            "transformer_enc_layers": head.TRANSFORMER_ENC_LAYERS,
            "conv_dim": head.CONVS_DIM,
            "mask_dim": head.MASK_DIM,
            "norm": head.NORM,
            "transformer_in_features": head.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES,
            "common_stride": head.COMMON_STRIDE,
            "num_feature_levels": head.NUM_FEATURE_LEVELS,
            "total_num_feature_levels": head.TOTAL_NUM_FEATURE_LEVELS,
            "feature_order": head.FEATURE_ORDER,
        }

    def forward_features(
        self, features: dict[str, Tensor], masks: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Decode feature maps, in float32 also under autocast.

        Args:
            features: maps [N, C, H, W] by name.
            masks: for each level [N, H_l, W_l], True in padding; None: there is no padding.

        Returns:
            The mask features [N, mask_dim, H, W] of the common stride, the first level, and all levels
            [N, conv_dim, H_l, W_l] in their order.
        """
        mask_features, levels = self.decode(features, masks)
        return mask_features, levels[0], levels[: self.total_num_feature_levels]
