"""Semantic segmentation: predicts a class for every pixel.

N images, C classes, S = stride of the predictions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.layers.weight_init import c2_msra_fill
from detectron2.structures.types import ModelInput, ModelOutput
from detectron2.utils.errors import BadValue
from detectron2.utils.reexports import passed_on
from detectron2.utils.registry import Registry

from ..backbone import Backbone, build_backbone
from ..postprocessing import sem_seg_postprocess
from ._inputs import ImageModel, output_size
from .build import META_ARCH_REGISTRY

__all__ = [
    "SEM_SEG_HEADS_REGISTRY",
    "SemSegFPNHead",
    "SemanticSegmentor",
    "build_sem_seg_head",
]

__getattr__ = passed_on(__name__)

SEM_SEG_HEADS_REGISTRY = Registry("SEM_SEG_HEADS")
SEM_SEG_HEADS_REGISTRY.__doc__ = """
Heads that predict a class for every pixel from feature maps. An entry is called with ``(cfg, input_shape)``, where
``input_shape`` maps names of feature maps to ShapeSpec.
"""


class SemSegHead(Protocol):
    """A module that predicts a class for every pixel.

    Attributes:
        ignore_value: label of ignored pixels.
    """

    ignore_value: int

    def __call__(
        self, features: dict[str, Tensor], targets: Tensor | None = None, /
    ) -> tuple[Any, dict[str, Tensor]]:
        """Return (None, losses) in training, (scores, {}) in evaluation; see :meth:`SemSegFPNHead.forward`."""


def build_sem_seg_head(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> SemSegHead:
    """Build the registered head that ``MODEL.SEM_SEG_HEAD.NAME`` names."""
    return SEM_SEG_HEADS_REGISTRY.get(cfg.MODEL.SEM_SEG_HEAD.NAME)(cfg, input_shape)


def semantic_tensors(head: SemSegHead, features: dict[str, Tensor], size: tuple[int, int]) -> Tensor:
    """Compute class scores [N, C, H, W] of N images of one size (H, W), for :class:`.TensorInference`."""
    scores, _ = head(features, None)
    if not torch.compiler.is_compiling():
        return scores[..., : size[0], : size[1]]
    # The compiler would have to prove that a slice of symbolic length is shorter than the padded side.
    rows, columns = (torch.arange(n, device=scores.device) for n in size)
    return scores.index_select(-2, rows).index_select(-1, columns)


@META_ARCH_REGISTRY.register()
class SemanticSegmentor(ImageModel):
    """A backbone and a head that predicts a class for every pixel.

    Args:
        backbone: computes feature maps from images.
        sem_seg_head: computes class scores (evaluation) or losses (training), see :class:`SemSegFPNHead`.
        pixel_mean, pixel_std: statistics of each channel, in the range of the images.

    Attributes:
        predicts_probabilities: whether ``sem_seg`` holds scores that can be averaged over versions of an image; else it
            holds logits.
    """

    predicts_probabilities: ClassVar[bool] = False

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        sem_seg_head: SemSegHead,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.sem_seg_head = sem_seg_head
        self._set_pixel_statistics(pixel_mean, pixel_std)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Build the children by their ``build_*`` functions; read the rest from ``MODEL.PIXEL_*``."""
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "sem_seg_head": build_sem_seg_head(cfg, backbone.output_shape()),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    def forward(self, batched_inputs: list[ModelInput]) -> dict[str, Tensor] | list[ModelOutput]:
        """Compute losses in training, class scores in evaluation.

        Args:
            batched_inputs: for each image a dict with ``image`` [C, H, W], in training ``sem_seg`` (int64 [H, W]), and
                optionally ``height`` and ``width``, the requested output size.

        Returns:
            In training, a dict of losses. In evaluation, a dict for each image, whose ``sem_seg`` [C, height, width]
            are logits of C classes.
        """
        images = self._make_batch(batched_inputs)
        features = self.backbone(images.tensor)
        targets = None
        if self.training:
            ignore = int(self.sem_seg_head.ignore_value)  # type: ignore[arg-type]
            targets = self._label_maps(batched_inputs, ignore)
        scores, losses = self.sem_seg_head(features, targets)
        if self.training:
            return losses
        return [
            {"sem_seg": sem_seg_postprocess(score, size, *output_size(item, size))}
            for score, item, size in zip(scores, batched_inputs, images.image_sizes)
        ]

    def predict_tensors(self, images: Tensor) -> dict[str, Tensor]:
        """Compute ``sem_seg`` scores of N images [N, C, H, W]; see :class:`.TensorInference`."""
        size = (images.shape[-2], images.shape[-1])
        return {"sem_seg": semantic_tensors(self.sem_seg_head, self.features_of(images), size)}


def _enlarge(x: Tensor, factor: int) -> Tensor:
    """Enlarge [N, C, H, W] bilinearly to [N, C, factor * H, factor * W].

    Uses integer sizes, not a scale, so that a graph with symbolic sizes can prove sizes equal.
    """
    size = (x.shape[-2] * factor, x.shape[-1] * factor)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class _Enlarge(nn.Module):
    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return _enlarge(x, self.factor)


@SEM_SEG_HEADS_REGISTRY.register()
class SemSegFPNHead(nn.Module):
    """Upsamples all levels of a pyramid to one stride, sums them and classifies every pixel.

    Panoptic FPN (Kirillov et al. 2019, https://arxiv.org/abs/1901.02446), figure 3. Its children are named after the
    feature maps, and ``predictor``.

    Args:
        input_shape: the feature maps to use, with channels and stride.
        num_classes: C.
        conv_dims: channels of all convolutions.
        common_stride: the stride S; levels with a larger stride are upsampled by 2 until they reach it.
        loss_weight: factor on the loss.
        norm: norm of the convolutions, or None.
        ignore_value: label of ignored pixels.
    """

    @configurable
    def __init__(
        self,
        input_shape: dict[str, ShapeSpec],
        *,
        num_classes: int,
        conv_dims: int,
        common_stride: int,
        loss_weight: float = 1.0,
        norm: str | Callable[[int], nn.Module] | None = None,
        ignore_value: int = -1,
    ) -> None:
        super().__init__()
        if not input_shape:
            raise BadValue("input_shape of a segmentation head must have at least one feature map, got none")
        levels = sorted(input_shape.items(), key=lambda item: item[1].stride or 0)
        self.in_features = [name for name, _ in levels]
        self.ignore_value = ignore_value
        self.common_stride = common_stride
        self.loss_weight = loss_weight
        self.scale_heads: list[nn.Module] = []
        for name, shape in levels:
            head = self._level_head(shape.channels or 0, conv_dims, shape.stride or 1, norm)
            self.add_module(name, head)
            self.scale_heads.append(head)
        self.predictor = Conv2d(conv_dims, num_classes, kernel_size=1)
        c2_msra_fill(self.predictor)

    def _level_head(
        self, channels: int, width: int, stride: int, norm: str | Callable[[int], nn.Module] | None
    ) -> nn.Sequential:
        """Build at least one convolution, each followed by upsampling by 2, until a level has the common stride."""
        doublings = int(math.log2(stride) - math.log2(self.common_stride))
        layers: list[nn.Module] = []
        for i in range(max(1, doublings)):
            conv = Conv2d(
                channels if i == 0 else width,
                width,
                kernel_size=3,
                padding=1,
                bias=not norm,
                norm=get_norm(norm, width),
                activation=nn.ReLU(),
            )
            c2_msra_fill(conv)
            layers.append(conv)
            if stride != self.common_stride:
                layers.append(_Enlarge(2))
        return nn.Sequential(*layers)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """Read the arguments from ``MODEL.SEM_SEG_HEAD``."""
        node = cfg.MODEL.SEM_SEG_HEAD
        return {
            "input_shape": {name: s for name, s in input_shape.items() if name in node.IN_FEATURES},
            "ignore_value": node.IGNORE_VALUE,
            "num_classes": node.NUM_CLASSES,
            "conv_dims": node.CONVS_DIM,
            "common_stride": node.COMMON_STRIDE,
            "norm": node.NORM,
            "loss_weight": node.LOSS_WEIGHT,
        }

    def forward(
        self, features: dict[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Return (None, losses) in training, (class scores [N, C, H, W] at full resolution, {}) in evaluation.

        Args:
            features: feature maps by name.
            targets: labels [N, H, W], needed in training.
        """
        scores = self.layers(features)
        if self.training:
            if targets is None:
                raise BadValue(
                    "a segmentation head needs targets in training; call .eval() first to run inference"
                )
            return None, self.losses(scores, targets)
        return self._to_full_resolution(scores), {}

    def _to_full_resolution(self, scores: Tensor) -> Tensor:
        return _enlarge(scores, self.common_stride)

    def layers(self, features: dict[str, Tensor]) -> Tensor:
        """Compute class scores at the common stride, [N, C, H / S, W / S]."""
        total: Tensor | None = None
        for name, head in zip(self.in_features, self.scale_heads):
            level = head(features[name])
            total = level if total is None else total + level
        return self.predictor(total)

    def losses(self, predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Compute ``loss_sem_seg``, the mean cross-entropy over the pixels that are not ignored; 0 if all are.

        Args:
            predictions: scores at the common stride.
            targets: labels [N, H, W] at full resolution.
        """
        scores = self._to_full_resolution(predictions.float())  # half precision loses small logits
        total = F.cross_entropy(scores, targets, reduction="sum", ignore_index=self.ignore_value)
        counted = (targets != self.ignore_value).sum().clamp(min=1)
        return {"loss_sem_seg": total / counted * self.loss_weight}
