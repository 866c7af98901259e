"""The head of MaskDINO: an encoder of pixels, and a decoder of queries on what it makes."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY, build_pixel_decoder

from .build import build_transformer_decoder

__all__ = ["MaskDINOHead"]


@SEM_SEG_HEADS_REGISTRY.register()
class MaskDINOHead(nn.Module):
    """Predict a set of classes, boxes and masks from the feature maps of a backbone.

    Args:
        input_shape: channels and stride of the feature maps.
        num_classes: classes, without "no object".
        pixel_decoder: see :class:`.MaskDINOEncoder`.
        loss_weight: unused.
        ignore_value: label of pixels that do not count.
        transformer_predictor: see :class:`.MaskDINODecoder`.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        num_classes: int,
        pixel_decoder: nn.Module,
        loss_weight: float = 1.0,
        ignore_value: int = -1,
        transformer_predictor: nn.Module,
    ) -> None:
        super().__init__()
        self.in_features = sorted(input_shape, key=lambda name: input_shape[name].stride or 0)
        self.ignore_value = ignore_value
        self.common_stride = 4
        self.loss_weight = loss_weight
        self.pixel_decoder = pixel_decoder
        self.predictor = transformer_predictor
        self.num_classes = num_classes

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Read ``MODEL.SEM_SEG_HEAD``, and build the children."""
        head = cfg.MODEL.SEM_SEG_HEAD
        return {
            "input_shape": {k: v for k, v in input_shape.items() if k in head.IN_FEATURES},
            "num_classes": head.NUM_CLASSES,
            "pixel_decoder": build_pixel_decoder(cfg, input_shape),
            "loss_weight": head.LOSS_WEIGHT,
            "ignore_value": head.IGNORE_VALUE,
            "transformer_predictor": build_transformer_decoder(cfg, head.CONVS_DIM, True),
        }

    def forward(
        self,
        features: dict[str, Tensor],
        mask: Sequence[Tensor] | None = None,
        targets: Sequence[Mapping[str, Tensor]] | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Predict; see :meth:`layers`."""
        return self.layers(features, mask, targets)

    def layers(
        self,
        features: dict[str, Tensor],
        mask: Sequence[Tensor] | None = None,
        targets: Sequence[Mapping[str, Tensor]] | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Predict classes, boxes and masks.

        Args:
            features: maps [N, C, H, W] by name.
            mask: for each level of the encoder [N, H_l, W_l], True in padding; None: there is no padding.
            targets: ground truth, for denoising in training.

        Returns:
            See :meth:`.MaskDINODecoder.forward`.
        """
        mask_features, _, levels = self.pixel_decoder.forward_features(features, mask)  # type: ignore[operator]
        found: tuple[dict[str, Any], dict[str, Any] | None]
        found = self.predictor(levels, mask_features, mask, targets=targets)
        return found
