"""The interface of backbones."""

from abc import ABCMeta, abstractmethod

import torch
from torch import nn

from detectron2.layers import ShapeSpec

__all__ = ["Backbone"]


class Backbone(nn.Module, metaclass=ABCMeta):
    """A network that computes named feature maps from a batch of images.

    A subclass implements :meth:`forward` and either overrides :meth:`output_shape` or sets three attributes:
    ``_out_features`` (names, in the order of the output), ``_out_feature_channels`` and ``_out_feature_strides``
    (dicts by name; strides in input pixels).
    """

    _out_features: list[str]
    _out_feature_channels: dict[str, int]
    _out_feature_strides: dict[str, int]

    @abstractmethod
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute feature maps from images.

        Args:
            x: (N, C, H, W). The caller pads H and W as :attr:`size_divisibility` and :attr:`padding_constraints`
                require.

        Returns:
            Feature maps (N, channels, H / stride, W / stride) by name.
        """

    @property
    def size_divisibility(self) -> int:
        """Height and width of the input must be multiples of this; 0 if any size is accepted."""
        return 0

    @property
    def padding_constraints(self) -> dict[str, int]:
        """Further constraints on the padding of the input, for ``ImageList.from_tensors``.

        Keys: ``"size_divisibility"`` and ``"square_size"`` (pad to a square with this side; 0 = no square).
        """
        return {}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Return channels and stride of each feature map, in the order of the output."""
        return {
            name: ShapeSpec(
                channels=self._out_feature_channels[name],
                stride=self._out_feature_strides.get(name),
            )
            for name in self._out_features
        }
