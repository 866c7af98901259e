"""Adapt the first convolution of pretrained weights to images with another number of channels."""

import re
from collections.abc import Mapping

import torch

__all__ = ["adapt_input_channels", "adapt_weight"]

Shape = tuple[int, ...]
_FIRST = re.compile(
    r"(^|\.)(stem\.(conv1|conv|conv1_1|conv_1)|patch_embed\.proj|conv1|stem\.0|conv_stem)\.weight$"
)
_INNER = re.compile(r"(^|\.)(res\d|layer\d|s\d|stages?|blocks?)\.")


def adapt_weight(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """Adapt a convolution's weight to another number of input channels.

    Common channels keep their filters, new ones get the mean filter, and all are scaled by old / new, so that the
    response to a grey image (equal channels) does not change. If there are fewer channels, all get the scaled mean
    filter; for one channel that is the sum of the filters.

    Args:
        weight: (C_out, C_old, KH, KW).
        channels: new number of channels, C_new.

    Returns:
        (C_out, C_new, KH, KW).
    """
    old = weight.shape[1]
    mean = weight.mean(dim=1, keepdim=True).expand(-1, channels, -1, -1)
    if channels < old:
        return mean * (old / channels)
    fitted = torch.cat([weight, mean[:, old:]], dim=1)
    # The mean over channels did not change, so the sum grew by new / old.
    return fitted * (old / channels)


def adapt_input_channels(
    weights: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], list[tuple[str, Shape, Shape]]]:
    """Adapt first convolutions whose shapes differ only in the input channels.

    A first convolution has the name of a stem (``stem.conv1``, ``patch_embed.proj``, …) and one or three input channels
    in the checkpoint.

    Args:
        weights: of the checkpoint.
        state: of the model.

    Returns:
        ``(weights, [(name, shape before, shape after)])``.
    """
    fitted = dict(weights)
    changed: list[tuple[str, Shape, Shape]] = []
    for name, value in weights.items():
        target = state.get(name)
        if not isinstance(target, torch.Tensor) or not isinstance(value, torch.Tensor) or value.dim() != 4:
            continue
        if value.shape == target.shape or not _FIRST.search(name) or _INNER.search(name):
            continue
        there: Shape = tuple(value.shape)
        here: Shape = tuple(target.shape)
        if len(here) == 4 and there[1] in (1, 3) and (there[0], *there[2:]) == (here[0], *here[2:]):
            fitted[name] = adapt_weight(value, here[1])
            changed.append((name, there, here))
    return fitted, changed
