"""The two heads of Panoptic-DeepLab, each with its own atrous spatial pyramid and decoder.

N images, C classes, S the stride of predictions.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.utils.registry import Registry

from ..deeplab.blocks import Norm, predictor, two_convs
from ..deeplab.loss import build_pixel_loss
from ..deeplab.semantic_seg import DeepLabV3PlusHead, required, train_size

__all__ = ["INS_EMBED_BRANCHES_REGISTRY", "PanopticDeepLabInsEmbedHead", "PanopticDeepLabSemSegHead"]

INS_EMBED_BRANCHES_REGISTRY = Registry("INS_EMBED_BRANCHES")
INS_EMBED_BRANCHES_REGISTRY.__doc__ = """
Heads that predict centres of objects and offsets to them. An entry is called with ``(cfg, input_shape)``, where
``input_shape`` maps names of feature maps to ShapeSpec.
"""


@SEM_SEG_HEADS_REGISTRY.register()
class PanopticDeepLabSemSegHead(DeepLabV3PlusHead):
    """The decoder of DeepLabV3+, two convolutions, and a classifier of pixels.

    Args:
        input_shape: the feature maps to use.
        decoder_channels: output channels of each level, see :class:`.DeepLabV3PlusHead`.
        norm: norm of the convolutions; "" = none.
        head_channels: channels of the classifier's input.
        loss_weight: factor of the loss.
        loss_type: "cross_entropy" or "hard_pixel_mining".
        loss_top_k: fraction of the pixels that "hard_pixel_mining" learns from, in (0, 1].
        ignore_value: label of ignored pixels.
        num_classes: C.
        kwargs: further arguments of :class:`.DeepLabV3PlusHead`.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        decoder_channels: Sequence[int],
        norm: Norm,
        head_channels: int,
        loss_weight: float,
        loss_type: str,
        loss_top_k: float,
        ignore_value: int,
        num_classes: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            input_shape,
            decoder_channels=decoder_channels,
            norm=norm,
            loss_weight=loss_weight,
            ignore_value=ignore_value,
            **kwargs,
        )
        width = decoder_channels[0]
        self.head = two_convs(
            width, width, head_channels, norm, kwargs.get("use_depthwise_separable_conv", False)
        )
        self.predictor = predictor(head_channels, num_classes)
        self.loss = build_pixel_loss(loss_type, ignore_value, loss_top_k)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Read ``MODEL.SEM_SEG_HEAD``, and ``INPUT.CROP`` for the size of the image pooling."""
        node = cfg.MODEL.SEM_SEG_HEAD
        arguments = super().from_config(cfg, input_shape)
        return {**arguments, "head_channels": node.HEAD_CHANNELS, "loss_top_k": node.LOSS_TOP_K}

    def forward(
        self, features: dict[str, Tensor], targets: Tensor | None = None, weights: Tensor | None = None
    ) -> Any:
        """Compute losses in training and class scores in evaluation.

        Args:
            features: feature maps by name.
            targets: labels int64 [N, H, W], needed in training.
            weights: factor of each pixel in the loss [N, H, W].

        Returns:
            In training ``(None, losses)``; in evaluation scores at full resolution [N, C, H, W] and an empty dict.
        """
        scores = self.layers(features)
        if not self.training:
            return self.enlarge(scores), {}
        return None, self.losses(scores, required(targets), weights)

    def losses(
        self, predictions: Tensor, targets: Tensor, weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Compute the loss, ``loss_sem_seg``.

        Args:
            predictions: scores at stride S.
            targets: labels int64 [N, H, W].
            weights: factor of each pixel [N, H, W].
        """
        return self.pixel_losses(predictions, targets, weights)

    def layers(self, features: dict[str, Tensor]) -> Tensor:
        """Compute scores [N, C, H / S, W / S] from feature maps."""
        return self.predictor(self.head(super().layers(features)))


@INS_EMBED_BRANCHES_REGISTRY.register()
class PanopticDeepLabInsEmbedHead(DeepLabV3PlusHead):
    """The decoder of DeepLabV3+, and one branch each for centres of objects and for offsets to them.

    Args:
        input_shape: the feature maps to use.
        decoder_channels: output channels of each level, see :class:`.DeepLabV3PlusHead`.
        norm: norm of the convolutions; "" = none.
        head_channels: channels of the last layers' input.
        center_loss_weight: factor of the loss on centres.
        offset_loss_weight: factor of the loss on offsets.
        kwargs: further arguments of :class:`.DeepLabV3PlusHead`.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        decoder_channels: Sequence[int],
        norm: Norm,
        head_channels: int,
        center_loss_weight: float,
        offset_loss_weight: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, decoder_channels=decoder_channels, norm=norm, **kwargs)
        self.center_loss_weight = center_loss_weight
        self.offset_loss_weight = offset_loss_weight
        width = decoder_channels[0]
        separable = kwargs.get("use_depthwise_separable_conv", False)
        self.center_head = two_convs(width, width, head_channels, norm)
        self.center_predictor = predictor(head_channels, 1)
        self.offset_head = two_convs(width, width, head_channels, norm, separable)
        self.offset_predictor = predictor(head_channels, 2)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Read ``MODEL.INS_EMBED_HEAD``, and ``INPUT.CROP`` for the size of the image pooling."""
        node = cfg.MODEL.INS_EMBED_HEAD
        return {
            "input_shape": {name: s for name, s in input_shape.items() if name in node.IN_FEATURES},
            "project_channels": node.PROJECT_CHANNELS,
            "aspp_dilations": node.ASPP_DILATIONS,
            "aspp_dropout": node.ASPP_DROPOUT,
            "decoder_channels": [node.CONVS_DIM] * (len(node.IN_FEATURES) - 1) + [node.ASPP_CHANNELS],
            "common_stride": node.COMMON_STRIDE,
            "norm": node.NORM,
            "train_size": train_size(cfg),
            "use_depthwise_separable_conv": cfg.MODEL.PANOPTIC_DEEPLAB.USE_DEPTHWISE_SEPARABLE_CONV,
            "head_channels": node.HEAD_CHANNELS,
            "center_loss_weight": node.CENTER_LOSS_WEIGHT,
            "offset_loss_weight": node.OFFSET_LOSS_WEIGHT,
        }

    def forward(
        self,
        features: dict[str, Tensor],
        center_targets: Tensor | None = None,
        center_weights: Tensor | None = None,
        offset_targets: Tensor | None = None,
        offset_weights: Tensor | None = None,
    ) -> Any:
        """Compute losses in training; centres and offsets in evaluation.

        Args:
            features: feature maps by name.
            center_targets: heat maps of centres in [0, 1], [N, 1, H, W]; all four are needed in training.
            center_weights: factors of the pixels [N, 1, H, W].
            offset_targets: offsets to the centres in pixels, in (y, x) [N, 2, H, W].
            offset_weights: factors of the pixels [N, 1, H, W].

        Returns:
            In training ``(None, None, losses of centres, losses of offsets)``; in evaluation heat maps [N, 1, H, W]
            and offsets [N, 2, H, W] at full resolution, and two empty dicts.
        """
        center, offset = self.layers(features)
        if not self.training:
            return self.enlarge(center), self._offsets(offset), {}, {}
        if (
            center_targets is None
            or center_weights is None
            or offset_targets is None
            or offset_weights is None
        ):
            raise ValueError(
                "PanopticDeepLabInsEmbedHead needs targets and weights of centres and offsets in training; call "
                ".eval() to predict only"
            )
        return (
            None,
            None,
            self.center_losses(center, center_targets, center_weights),
            self.offset_losses(offset, offset_targets, offset_weights),
        )

    def layers(self, features: dict[str, Tensor]) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Compute centres [N, 1, H / S, W / S] and offsets in units of S pixels [N, 2, H / S, W / S]."""
        shared = super().layers(features)
        center = self.center_predictor(self.center_head(shared))
        offset = self.offset_predictor(self.offset_head(shared))
        return center, offset

    def _offsets(self, offset: Tensor) -> Tensor:
        """Upsample offsets to full resolution and convert them to pixels."""
        return self.enlarge(offset) * self.common_stride

    def center_losses(self, predictions: Tensor, targets: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """Compute ``loss_center``, the weighted mean squared error.

        Args:
            predictions: [N, 1, H / S, W / S].
            targets: [N, 1, H, W].
            weights: [N, 1, H, W].
        """
        errors = F.mse_loss(self.enlarge(predictions.float()), targets, reduction="none")
        return {"loss_center": _weighted_mean(errors, weights) * self.center_loss_weight}

    def offset_losses(self, predictions: Tensor, targets: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """Compute ``loss_offset``, the weighted mean absolute error, summed over the two directions.

        Args:
            predictions: in units of S pixels [N, 2, H / S, W / S].
            targets: in pixels [N, 2, H, W].
            weights: [N, 1, H, W].
        """
        errors = F.l1_loss(self._offsets(predictions.float()), targets, reduction="none")
        return {"loss_offset": _weighted_mean(errors, weights) * self.offset_loss_weight}


def _weighted_mean(losses: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean; 0 if all weights are 0."""
    total = weights.sum()
    return (losses * weights).sum() / torch.where(total > 0, total, 1)
