"""The segmentation heads of DeepLabV3 and DeepLabV3+.

N images, C classes, S the stride of predictions.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import CfgNode, configurable
from detectron2.layers import ASPP, ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY

from .blocks import Norm, conv_norm_relu, predictor, two_convs
from .loss import DeepLabCE, build_pixel_loss

__all__ = ["DeepLabCE", "DeepLabV3Head", "DeepLabV3PlusHead"]

_HARDEST_PIXELS = 0.2
"""Fraction of the pixels that LOSS_TYPE "hard_pixel_mining" learns from."""


def train_size(cfg: CfgNode) -> tuple[int, int] | None:
    """Return the (height, width) of all training images; None = unknown.

    Raises:
        ValueError: ``INPUT.CROP`` is enabled with a type other than "absolute".
    """
    crop = cfg.INPUT.CROP
    if not crop.ENABLED:
        return None
    if crop.TYPE != "absolute":
        raise ValueError(
            f"INPUT.CROP.TYPE must be 'absolute' for DeepLab, whose image pooling has the size of the crops, "
            f"got {crop.TYPE!r}"
        )
    return crop.SIZE[0], crop.SIZE[1]


def _pyramid(
    shape: ShapeSpec,
    out_channels: int,
    dilations: Sequence[int],
    dropout: float,
    norm: Norm,
    size: Sequence[int] | None,
    separable: bool,
) -> ASPP:
    """Build the atrous spatial pyramid on the deepest feature map, for training images of ``size``."""
    stride, window = shape.stride or 1, None
    if size is not None:
        height, width = size
        if height % stride or width % stride:
            raise ValueError(f"INPUT.CROP.SIZE {height, width} must be a multiple of the stride {stride}")
        # Test images are pooled in windows of the training size; a training image is one window.
        window = (height // stride, width // stride)
    return ASPP(
        shape.channels or 0,
        out_channels,
        list(dilations),
        norm=norm,
        activation=F.relu,
        pool_kernel_size=window,
        dropout=dropout,
        use_depthwise_separable_conv=separable,
    )


def required(targets: Tensor | None) -> Tensor:
    """Return the targets; raise ValueError if there are none."""
    if targets is None:
        raise ValueError("a segmentation head needs targets in training; call .eval() to predict only")
    return targets


class _SegmentationHead(nn.Module):
    """Base of heads: upsample the scores of ``layers`` from stride S to full resolution; in training compute the loss.

    Args:
        common_stride: S.
        ignore_value: label of ignored pixels.
        loss_weight: factor of the loss.
    """

    def __init__(self, common_stride: int, ignore_value: int, loss_weight: float) -> None:
        super().__init__()
        self.common_stride = common_stride
        self.ignore_value = ignore_value
        self.loss_weight = loss_weight
        self.loss: nn.Module | None = None

    def layers(self, features: dict[str, Tensor]) -> Tensor:
        """Compute scores [N, C, H / S, W / S] from feature maps."""
        raise NotImplementedError

    def forward(self, features: dict[str, Tensor], targets: Tensor | None = None) -> Any:
        """Compute losses in training, class scores in evaluation.

        Args:
            features: feature maps by name.
            targets: labels int64 [N, H, W], needed in training.

        Returns:
            In training ``(None, losses)``; in evaluation scores at full resolution [N, C, H, W] and an empty dict.
        """
        scores = self.layers(features)
        if not self.training:
            return self.enlarge(scores), {}
        return None, self.losses(scores, required(targets))

    def losses(self, predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Compute the loss, ``loss_sem_seg``.

        Args:
            predictions: scores at stride S.
            targets: labels int64 [N, H, W].
        """
        return self.pixel_losses(predictions, targets)

    def pixel_losses(
        self, predictions: Tensor, targets: Tensor, weights: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Compute the loss like ``losses``, with a factor ``weights`` [N, H, W] for each pixel."""
        assert self.loss is not None
        scores = self.enlarge(predictions.float())  # half precision loses small logits
        return {"loss_sem_seg": self.loss(scores, targets, weights) * self.loss_weight}

    def enlarge(self, x: Tensor) -> Tensor:
        """Upsample a map from stride S to full resolution."""
        # Sizes instead of a scale: in a graph with unknown sizes their equality can be proved.
        size = (x.shape[-2] * self.common_stride, x.shape[-1] * self.common_stride)
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


@SEM_SEG_HEADS_REGISTRY.register()
class DeepLabV3Head(_SegmentationHead):
    """An atrous spatial pyramid on one feature map, and a classifier.

    Args:
        cfg: a config with the keys of ``add_deeplab_config``; ``MODEL.SEM_SEG_HEAD`` is read, and ``INPUT.CROP`` for
            the size of the image pooling.
        input_shape: feature maps by name, of which ``IN_FEATURES`` names one.

    Reference: https://arxiv.org/abs/1706.05587
    """

    def __init__(self, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> None:
        node = cfg.MODEL.SEM_SEG_HEAD
        super().__init__(node.COMMON_STRIDE, node.IGNORE_VALUE, node.LOSS_WEIGHT)
        if len(node.IN_FEATURES) != 1:
            raise ValueError(
                f"DeepLabV3Head works on one feature map: MODEL.SEM_SEG_HEAD.IN_FEATURES is "
                f"{list(node.IN_FEATURES)}; DeepLabV3PlusHead takes several"
            )
        self.in_features = list(node.IN_FEATURES)
        shape = input_shape[self.in_features[0]]
        if shape.stride != self.common_stride:
            raise ValueError(
                f"MODEL.SEM_SEG_HEAD.COMMON_STRIDE must be the stride {shape.stride} of {self.in_features[0]!r}, "
                f"got {self.common_stride}"
            )
        self.aspp = _pyramid(
            shape,
            node.ASPP_CHANNELS,
            node.ASPP_DILATIONS,
            node.ASPP_DROPOUT,
            node.NORM,
            train_size(cfg),
            node.USE_DEPTHWISE_SEPARABLE_CONV,
        )
        self.predictor = predictor(node.ASPP_CHANNELS, node.NUM_CLASSES)
        self.loss = build_pixel_loss(node.LOSS_TYPE, self.ignore_value, _HARDEST_PIXELS)

    def layers(self, features: dict[str, Tensor]) -> Tensor:
        """Compute scores [N, C, H / S, W / S] from feature maps."""
        return self.predictor(self.aspp(features[self.in_features[0]]))


@SEM_SEG_HEADS_REGISTRY.register()
class DeepLabV3PlusHead(_SegmentationHead):
    """An atrous spatial pyramid on the deepest feature map, refined by shallower ones, and a classifier.

    The decoder goes from the deepest map to the shallowest: at each level it upsamples the previous result,
    concatenates the projected features of the level, and mixes them with two convolutions.

    Args:
        input_shape: the n feature maps to use, with channels and stride.
        project_channels: channels of the projected features of each level but the deepest, from the shallowest on;
            n - 1 numbers.
        aspp_dilations: the three dilations of the pyramid.
        aspp_dropout: probability of dropping values of the pyramid in training.
        decoder_channels: output channels of each level, from the shallowest on; n numbers, of which the last is that
            of the pyramid.
        common_stride: S, the stride of the shallowest map.
        norm: norm of the convolutions; "" = none.
        train_size: (height, width) of the training images, the size of the image pooling; None = pool whole images.
        loss_weight: factor of the loss.
        loss_type: "cross_entropy" or "hard_pixel_mining".
        ignore_value: label of ignored pixels.
        num_classes: C; None = only a decoder, which returns features instead of scores.
        use_depthwise_separable_conv: use separable convolutions in the pyramid and the decoder.

    Reference: https://arxiv.org/abs/1802.02611
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        project_channels: Sequence[int],
        aspp_dilations: Sequence[int],
        aspp_dropout: float,
        decoder_channels: Sequence[int],
        common_stride: int,
        norm: Norm,
        train_size: Sequence[int] | None,
        loss_weight: float = 1.0,
        loss_type: str = "cross_entropy",
        ignore_value: int = -1,
        num_classes: int | None = None,
        use_depthwise_separable_conv: bool = False,
    ) -> None:
        super().__init__(common_stride, ignore_value, loss_weight)
        levels = sorted(input_shape.items(), key=lambda item: item[1].stride or 0)
        if len(project_channels) != len(levels) - 1 or len(decoder_channels) != len(levels):
            raise ValueError(
                f"{len(levels)} feature maps need {len(levels) - 1} project_channels and {len(levels)} "
                f"decoder_channels, got {list(project_channels)} and {list(decoder_channels)}"
            )
        self.in_features = [name for name, _ in levels]
        self.decoder_only = num_classes is None
        self.decoder = nn.ModuleDict()
        for i, (name, shape) in enumerate(levels[:-1]):
            joined = project_channels[i] + decoder_channels[i + 1]
            out = decoder_channels[i]
            parts = {
                "project_conv": conv_norm_relu(shape.channels or 0, project_channels[i], 1, norm),
                "fuse_conv": two_convs(joined, out, out, norm, use_depthwise_separable_conv),
            }
            self.decoder[name] = nn.ModuleDict(parts)
        deepest, shape = levels[-1]
        pyramid = _pyramid(
            shape,
            decoder_channels[-1],
            aspp_dilations,
            aspp_dropout,
            norm,
            train_size,
            use_depthwise_separable_conv,
        )
        self.decoder[deepest] = nn.ModuleDict({"project_conv": pyramid})
        if num_classes is not None:
            self.predictor = predictor(decoder_channels[0], num_classes)
            self.loss = build_pixel_loss(loss_type, ignore_value, _HARDEST_PIXELS)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Read ``MODEL.SEM_SEG_HEAD``, and ``INPUT.CROP`` for the size of the image pooling."""
        node = cfg.MODEL.SEM_SEG_HEAD
        return {
            "input_shape": {name: s for name, s in input_shape.items() if name in node.IN_FEATURES},
            "project_channels": node.PROJECT_CHANNELS,
            "aspp_dilations": node.ASPP_DILATIONS,
            "aspp_dropout": node.ASPP_DROPOUT,
            "decoder_channels": [node.CONVS_DIM] * (len(node.IN_FEATURES) - 1) + [node.ASPP_CHANNELS],
            "common_stride": node.COMMON_STRIDE,
            "norm": node.NORM,
            "train_size": train_size(cfg),
            "loss_weight": node.LOSS_WEIGHT,
            "loss_type": node.LOSS_TYPE,
            "ignore_value": node.IGNORE_VALUE,
            "num_classes": node.NUM_CLASSES,
            "use_depthwise_separable_conv": node.USE_DEPTHWISE_SEPARABLE_CONV,
        }

    def forward(self, features: dict[str, Tensor], targets: Tensor | None = None) -> Any:
        """Compute losses in training and class scores in evaluation; without classes always return features.

        Args:
            features: feature maps by name.
            targets: labels int64 [N, H, W], needed in training.

        Returns:
            In training ``(None, losses)``; in evaluation scores at full resolution [N, C, H, W] and an empty dict.
            Without classes, features [N, decoder_channels[0], H / S, W / S].
        """
        return self.layers(features) if self.decoder_only else super().forward(features, targets)

    def layers(self, features: dict[str, Tensor]) -> Tensor:
        """Compute scores (without classes: features) at stride S from feature maps."""
        *others, deepest = self.in_features
        x = self._part(deepest, "project_conv")(features[deepest])
        for name in reversed(others):
            level = self._part(name, "project_conv")(features[name])
            x = F.interpolate(x, size=level.shape[-2:], mode="bilinear", align_corners=False)
            x = self._part(name, "fuse_conv")(torch.cat([level, x], dim=1))
        return x if self.decoder_only else self.predictor(x)

    def _part(self, level: str, part: str) -> nn.Module:
        return self.decoder[level][part]  # type: ignore[index]
