"""The pixel decoder: three transformed levels, and fine mask features.

Reference: section 3.3 of Mask2Former, https://arxiv.org/abs/2112.01527
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.modeling.transformer import DeformablePixelDecoder

__all__ = ["MSDeformAttnPixelDecoder"]

_NUM_LEVELS_OUT = 3


@SEM_SEG_HEADS_REGISTRY.register()
class MSDeformAttnPixelDecoder(DeformablePixelDecoder):
    """Compute three transformed levels and one map of mask features from the feature maps of a backbone.

    Args:
        input_shape: channels and stride of the feature maps.
        transformer_dropout: dropout of the encoder.
        transformer_nheads: number of heads of the encoder.
        transformer_dim_feedforward: hidden channels of its feed-forward networks.
        transformer_enc_layers: number of its layers.
        conv_dim: channels of all internal maps.
        mask_dim: channels of the mask features.
        norm: norm of the pyramid's convolutions, such as "GN"; "" = none.
        transformer_in_features: feature maps of the encoder.
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
        )
        self.maskformer_num_feature_levels = _NUM_LEVELS_OUT

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Read ``MODEL.SEM_SEG_HEAD`` and ``MODEL.MASK_FORMER``."""
        head, former = cfg.MODEL.SEM_SEG_HEAD, cfg.MODEL.MASK_FORMER
        return {
            "input_shape": {k: v for k, v in input_shape.items() if k in head.IN_FEATURES},
            "transformer_dropout": former.DROPOUT,
            "transformer_nheads": former.NHEADS,
            "transformer_dim_feedforward": 1024,  # as in all released weights, whatever DIM_FEEDFORWARD is
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
            [N, conv_dim, H, W], coarsest first.
        """
        mask_features, levels = self.decode(features)
        return mask_features, levels[0], levels[:_NUM_LEVELS_OUT]
