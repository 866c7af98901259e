"""Thin layers over PyTorch: convolution with norm and activation, and small helpers."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.utils.errors import BadType

from .winograd import conv3x3, winograd_pays

__all__ = [
    "BatchNorm2d",
    "Conv2d",
    "ConvTranspose2d",
    "Linear",
    "cat",
    "check_if_dynamo_compiling",
    "cross_entropy",
    "disable_torch_compiler",
    "empty_input_loss_func_wrapper",
    "inference_layout",
    "interpolate",
    "move_device_like",
    "nonzero_tuple",
    "shapes_to_tensor",
]

_Fn = TypeVar("_Fn", bound=Callable[..., Any])

BatchNorm2d = nn.BatchNorm2d
ConvTranspose2d = nn.ConvTranspose2d
Linear = nn.Linear
interpolate = F.interpolate


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Concatenate as ``torch.cat`` does, but return a single tensor itself, without a copy.

    Args:
        tensors: list or tuple of tensors.
        dim: dimension to concatenate along.
    """
    if not isinstance(tensors, (list, tuple)):
        raise BadType(f"cat expects a list or tuple of tensors, got {type(tensors).__name__}")
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim)  # type: ignore[arg-type]


class _NewEmptyTensorOp(torch.autograd.Function):
    """Returns an empty tensor of a given shape with gradients, for old code that worked around empty inputs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, new_shape: Sequence[int]) -> Tensor:
        ctx.old_shape = x.shape
        return x.new_empty(tuple(new_shape))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return grad.new_zeros(ctx.old_shape), None


def nonzero_tuple(x: Tensor) -> tuple[Tensor, ...]:
    """Return indices of the non-zero entries, one int64 tensor per dimension of ``x``."""
    return x.nonzero(as_tuple=True)


def shapes_to_tensor(x: Sequence[int], device: torch.device | str | None = None) -> Tensor:
    """Return sizes (ints, symbolic ints or 0-d tensors) as one int64 tensor.

    Args:
        x: the sizes.
        device: device of the result; default: that of the first tensor in ``x``, else the CPU.
    """
    sizes: list[Any] = list(x)
    traced = [s for s in sizes if isinstance(s, Tensor)]
    if not traced:
        return torch.tensor(sizes, dtype=torch.int64, device=device)
    home = traced[0].device if device is None else device
    return torch.stack([torch.as_tensor(s, dtype=torch.int64, device=home) for s in sizes])


def move_device_like(src: Tensor, dst: Tensor) -> Tensor:
    """Move ``src`` to the device of ``dst``."""
    return src.to(dst.device)


def inference_layout(x: Tensor) -> Tensor:
    """Convert features [N, C, H, W] to the memory format in which convolutions over many small maps are fastest.

    On the CPU that is channels-last, but not with gradients (backward passes are slower) or in compiled graphs (the
    compiler chooses layouts itself). See ``benchmarks/models.py``.
    """
    if x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return x
    return x.contiguous(memory_format=torch.channels_last)


def check_if_dynamo_compiling() -> bool:
    """Return whether ``torch.compile`` or ``torch.export`` is tracing."""
    return torch.compiler.is_compiling()


def disable_torch_compiler(func: _Fn) -> _Fn:
    """Exclude ``func`` from compiled graphs, which it splits; a decorator."""
    return torch.compiler.disable(func)  # type: ignore[no-any-return]


def empty_input_loss_func_wrapper(loss_func: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wrap a loss so that its mean over no samples is 0, with zero gradients, instead of NaN.

    Args:
        loss_func: called as ``loss_func(input, target, reduction=..., **kwargs)``.
    """

    @functools.wraps(loss_func)
    def loss_or_zero(input: Tensor, target: Tensor, *, reduction: str = "mean", **kwargs: Any) -> Tensor:
        if reduction != "mean" or target.numel() > 0:
            return loss_func(input, target, reduction=reduction, **kwargs)
        return 0.0 * input.sum()  # keeps the graph, so that every parameter gets a gradient

    return loss_or_zero


def cross_entropy(input: Tensor, target: Tensor, *, reduction: str = "mean", **kwargs: Any) -> Tensor:
    """Compute ``torch.nn.functional.cross_entropy``; its mean over no samples is 0, not NaN.

    Args:
        input: [N, K] logits.
        target: [N] class indices.
        reduction: "mean", "sum" or "none".
        **kwargs: passed to ``torch`` (``weight``, ``ignore_index``, ``label_smoothing``).
    """
    return _cross_entropy_or_zero(input, target, reduction=reduction, **kwargs)


_cross_entropy_or_zero = empty_input_loss_func_wrapper(F.cross_entropy)


class Conv2d(nn.Conv2d):
    """``torch.nn.Conv2d`` with an optional norm and activation.

    Args:
        *args: as in ``torch.nn.Conv2d``.
        **kwargs: as in ``torch.nn.Conv2d``, and additionally

            * ``norm`` (``nn.Module`` or None): applied to the convolution's output;
            * ``activation`` (callable or None): applied last.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        norm = kwargs.pop("norm", None)
        activation = kwargs.pop("activation", None)
        super().__init__(*args, **kwargs)
        self.norm: nn.Module | None = norm
        self.activation: Callable[[Tensor], Tensor] | None = activation

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if winograd_pays(self, input):
            return conv3x3(input, weight, bias)
        return super()._conv_forward(input, weight, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H', W'], normalised and activated."""
        x = super().forward(x)
        for step in (self.norm, self.activation):
            if step is not None:
                x = step(x)
        return x
