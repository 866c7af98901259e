"""Initialise convolution and linear weights by the conventions of Caffe2."""

import torch
from torch import nn

__all__ = ["c2_msra_fill", "c2_xavier_fill"]


def _zero_bias(module: nn.Module) -> None:
    bias = getattr(module, "bias", None)
    if isinstance(bias, torch.Tensor):
        nn.init.zeros_(bias)


def c2_msra_fill(module: nn.Module) -> None:
    """Fill ``module.weight`` with He-normal values (fan out, ReLU gain) and zero its bias, if it has one.

    Args:
        module: a convolution or linear layer, changed in place.

    Reference: Delving Deep into Rectifiers, https://arxiv.org/abs/1502.01852
    """
    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")  # type: ignore[arg-type]
    _zero_bias(module)


def c2_xavier_fill(module: nn.Module) -> None:
    """Fill ``module.weight`` uniformly in ``±sqrt(3 / fan_in)`` and zero its bias, if it has one.

    Caffe2 divides by the fan in alone, unlike the mean of both fans in ``nn.init.xavier_uniform_``.

    Args:
        module: a convolution or linear layer, changed in place.

    Reference: Understanding the difficulty of training deep feedforward neural networks,
    https://proceedings.mlr.press/v9/glorot10a.html
    """
    nn.init.kaiming_uniform_(module.weight, a=1.0)  # type: ignore[arg-type]
    _zero_bias(module)
