"""Models whose backbone computes in half precision; heads, boxes and scores stay in float32."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import Backbone

__all__ = ["DTYPES", "with_half_backbone"]

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class _HalfBackbone(Backbone):
    def __init__(self, backbone: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.whole = backbone.to(dtype)
        self.dtype = dtype

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {name: value.float() for name, value in self.whole(x.to(self.dtype)).items()}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return self.whole.output_shape()

    @property
    def size_divisibility(self) -> int:
        return self.whole.size_divisibility

    @property
    def padding_constraints(self) -> Any:
        return self.whole.padding_constraints


def with_half_backbone(model: nn.Module, precision: str) -> nn.Module:
    """Return a copy of a model whose backbone computes in another precision.

    Args:
        model: with a ``backbone``.
        precision: "fp16" or "bf16".
    """
    half: Any = copy.deepcopy(model)
    half.backbone = _HalfBackbone(half.backbone, DTYPES[precision])
    return half.eval()
