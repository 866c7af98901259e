"""Rewriting trained networks for faster inference without changing their results."""

import copy

import torch
from torch import nn

from detectron2.layers import Conv2d, FrozenBatchNorm2d

__all__ = ["fold_batch_norms", "optimize_for_inference"]

# Convolutions and the norms that follow them, in blocks that keep the two as separate attributes (RegNet).
_SIBLINGS = (("a", "a_bn"), ("b", "b_bn"), ("c", "c_bn"), ("proj", "bn"), ("conv", "bn"))


def _scale_and_shift(norm: nn.Module | None) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return ``scale`` and ``shift`` of a norm that computes ``x * scale + shift`` per channel; None for other norms."""
    if isinstance(norm, FrozenBatchNorm2d):
        return norm.affine()
    if not isinstance(norm, (nn.BatchNorm2d, nn.SyncBatchNorm)) or norm.training or norm.running_var is None:
        return None
    assert norm.running_mean is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias


def _fold(conv: nn.Conv2d, scale: torch.Tensor, shift: torch.Tensor) -> None:
    # Double precision rounds the folded weights only once.
    factor = scale.double()
    weight = conv.weight.double() * factor[:, None, None, None]
    bias = shift.double() if conv.bias is None else conv.bias.double() * factor + shift.double()
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False)


def fold_batch_norms(model: nn.Module, *, inplace: bool = False) -> nn.Module:
    """Fold frozen batch norms, and batch norms in evaluation mode, into the convolutions before them.

    Parameter names change, so a folded model cannot load checkpoints of the original. Norms after deformable
    convolutions, and norms that depend on the input (group, layer), are kept.

    Args:
        model: any model; call ``eval()`` first, or its ordinary batch norms are kept.
        inplace: modify ``model`` instead of a copy.
    """
    model = model if inplace else copy.deepcopy(model)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Conv2d):
                affine = _scale_and_shift(module.norm)
                if affine is not None:
                    _fold(module, *affine)
                    module.norm = None
            for conv_name, norm_name in _SIBLINGS:
                conv, norm = getattr(module, conv_name, None), getattr(module, norm_name, None)
                affine = _scale_and_shift(norm) if isinstance(norm, nn.Module) else None
                if type(conv) is nn.Conv2d and affine is not None:
                    _fold(conv, *affine)
                    setattr(module, norm_name, nn.Identity())
    return model


def optimize_for_inference(
    model: nn.Module, *, fold: bool = True, channels_last: bool = True, inplace: bool = False
) -> nn.Module:
    """Set a model to evaluation mode, fold its batch norms and convert its weights to channels-last.

    Args:
        model: any model.
        fold: see :func:`fold_batch_norms`.
        channels_last: whether to convert convolution weights to this memory format; convolutions then run in it for
            images in any format. Faster on most CPUs and on GPUs with tensor cores.
        inplace: modify ``model`` instead of a copy.
    """
    model = (model if inplace else copy.deepcopy(model)).eval()
    if fold:
        fold_batch_norms(model, inplace=True)
    return model.to(memory_format=torch.channels_last) if channels_last else model  # type: ignore[call-overload]
