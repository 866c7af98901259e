"""Adapters for models of MMDetection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detectron2.layers import ShapeSpec
from detectron2.structures import BitMasks, Boxes, ImageList, Instances, PolygonMasks
from detectron2.structures.types import ModelInput, ModelOutput
from detectron2.utils.errors import BadType, BadValue

from .backbone import Backbone
from .meta_arch._inputs import ImageModel, ground_truth, output_size

__all__ = ["MMDetBackbone", "MMDetDetector"]


def _build(kind: str, config: nn.Module | Mapping[str, Any]) -> nn.Module:
    """Return a module unchanged, or let MMDetection build it from a config."""
    if isinstance(config, nn.Module):
        return config
    if not isinstance(config, Mapping):
        raise BadType(f"{kind} must be a module or an MMDetection config, got {type(config).__name__}")
    try:
        from mmdet import models  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise ImportError(
            f"building a {kind} from an MMDetection config needs mmdet (and mmcv): pip install mmdet, "
            "or pass a module instead of a config"
        ) from error
    return getattr(models, f"build_{kind}")(config)


class MMDetBackbone(Backbone):
    """Adapts a backbone of MMDetection, with an optional neck, to :class:`.Backbone`.

    Args:
        backbone: a module that maps images [N, 3, H, W] to a list of feature maps, or its MMDetection config.
        neck: a module that maps this list to another list, or its config; None = no neck.
        output_shapes: channels and stride of each output feature map.
        output_names: names of the outputs; by default out0, out1 and so on.

    Raises:
        ImportError: if a config is given and MMDetection is not installed.
    """

    def __init__(
        self,
        backbone: nn.Module | Mapping[str, Any],
        neck: nn.Module | Mapping[str, Any] | None = None,
        *,
        output_shapes: Sequence[ShapeSpec],
        output_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = _build("backbone", backbone)
        self.neck = None if neck is None else _build("neck", neck)
        for part in (self.backbone, self.neck):
            if hasattr(part, "init_weights"):
                part.init_weights()  # type: ignore[union-attr, operator]
        self._output_shapes = list(output_shapes)
        self._output_names = list(output_names or (f"out{i}" for i in range(len(self._output_shapes))))
        if len(self._output_names) != len(self._output_shapes):
            raise BadValue(
                f"{len(self._output_names)} output_names, but {len(self._output_shapes)} output_shapes"
            )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute feature maps, by name, from images."""
        outputs = self.backbone(x)
        if self.neck is not None:
            outputs = self.neck(outputs)
        if not isinstance(outputs, (list, tuple)) or len(outputs) != len(self._output_shapes):
            raise BadValue(
                f"the backbone must return a list of {len(self._output_shapes)} maps, got {type(outputs).__name__}"
            )
        return dict(zip(self._output_names, outputs))

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Return channels and stride by name, as given."""
        return dict(zip(self._output_names, self._output_shapes))


class _Padding:
    """Placeholder for a backbone that only defines the padding of images."""

    def __init__(self, size_divisibility: int) -> None:
        self.size_divisibility = size_divisibility
        self.padding_constraints: dict[str, int] = {}


class MMDetDetector(ImageModel):
    """Adapts a detector of MMDetection 2.x to the inputs and outputs of this package.

    Args:
        detector: a module with ``forward_train`` and ``simple_test``, or its MMDetection config.
        size_divisibility: images are padded to multiples of this.
        pixel_mean, pixel_std: statistics of each channel, in the range of the images.
    """

    def __init__(
        self,
        detector: nn.Module | Mapping[str, Any],
        *,
        size_divisibility: int = 32,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.detector = _build("detector", detector)
        if hasattr(self.detector, "init_weights"):
            self.detector.init_weights()  # type: ignore[operator]
        self.size_divisibility = size_divisibility
        self._set_pixel_statistics(pixel_mean, pixel_std)

    def preprocess_image(self, batched_inputs: list[ModelInput]) -> ImageList:
        """Normalise, pad and batch the images [C, H, W] under the key ``image``."""
        self.__dict__["backbone"] = _Padding(self.size_divisibility)  # no submodule
        return self._make_batch(batched_inputs)

    def forward(self, batched_inputs: list[ModelInput]) -> dict[str, Tensor] | list[ModelOutput]:
        """Compute losses in training; in evaluation return a dict with ``instances`` for each image."""
        images = self.preprocess_image(batched_inputs)
        metas = [self._meta(item, size, images) for item, size in zip(batched_inputs, images.image_sizes)]
        if self.training:
            return self._train(batched_inputs, images, metas)
        results = self.detector.simple_test(images.tensor, metas, rescale=True)  # type: ignore[operator]
        return [
            {"instances": _to_instances(found, output_size(item, size))}
            for found, item, size in zip(results, batched_inputs, images.image_sizes)
        ]

    @staticmethod
    def _meta(item: ModelInput, size: tuple[int, int], images: ImageList) -> dict[str, Any]:
        requested = output_size(item, size)
        channels = images.tensor.shape[1]
        scale = np.tile([size[1] / requested[1], size[0] / requested[0]], 2).astype(np.float32)
        return {
            "ori_shape": (*requested, channels),
            "img_shape": (*size, channels),
            "pad_shape": (*images.tensor.shape[-2:], channels),
            "scale_factor": scale,
            "flip": False,
        }

    def _train(
        self, batched_inputs: list[ModelInput], images: ImageList, metas: list[dict[str, Any]]
    ) -> dict[str, Tensor]:
        truth = ground_truth(batched_inputs, self.device) or []
        boxes = [x.gt_boxes.tensor for x in truth]
        classes = [x.gt_classes for x in truth]
        extra = {}
        if any(x.has("gt_masks") for x in truth):
            extra["gt_masks"] = [_to_mmdet_masks(x.gt_masks, images.tensor.shape[-2:]) for x in truth]
        found = self.detector.forward_train(  # type: ignore[operator]
            images.tensor, metas, boxes, classes, **extra
        )
        return {name: _as_scalar(loss) for name, loss in found.items() if "loss" in name}


def _as_scalar(loss: Tensor | Sequence[Tensor]) -> Tensor:
    parts = [loss] if isinstance(loss, Tensor) else loss
    return torch.stack([part.mean() for part in parts]).sum()


def _to_mmdet_masks(masks: BitMasks | PolygonMasks, size: Sequence[int]) -> object:
    from mmdet import core  # type: ignore[import-not-found, unused-ignore]

    height, width = (int(n) for n in size)
    if isinstance(masks, BitMasks):
        padded = np.zeros((len(masks), height, width), dtype=bool)
        bits = masks.tensor.cpu().numpy()
        padded[:, : bits.shape[1], : bits.shape[2]] = bits
        return core.BitmapMasks(padded, height, width)
    return core.PolygonMasks(masks.polygons, height, width)


def _to_instances(found: object, size: tuple[int, int]) -> Instances:
    """Convert MMDetection results (boxes [R, 5] with scores, and optional masks, per class) to Instances."""
    boxes, masks = found if isinstance(found, tuple) else (found, None)
    table = torch.from_numpy(np.concatenate(boxes)).float()
    result = Instances(size, pred_boxes=Boxes(table[:, :4]), scores=table[:, -1])
    result.pred_classes = torch.repeat_interleave(
        torch.arange(len(boxes)), torch.tensor([len(part) for part in boxes])
    )
    if masks is not None:
        flat = [np.asarray(mask, dtype=bool) for part in masks for mask in part]
        result.pred_masks = (
            torch.from_numpy(np.stack(flat)) if flat else torch.zeros((0, *size), dtype=torch.bool)
        )
    return result
