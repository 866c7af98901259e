"""3x3 convolutions on CPUs with a quarter of the multiplications, by Winograd's minimal filtering.

An output tile of 4x4 pixels depends on 6x6 input pixels. Both are transformed by small constant matrices, in between
stands one matrix product for each of the 36 transformed places: 2.25 multiplications for each output and pair of
channels, where the plain sum has 9. Results differ from the plain sum by rounding only, about 1e-5 of the largest value.

Reference: Fast Algorithms for Convolutional Neural Networks, https://arxiv.org/abs/1509.09308
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from detectron2.utils.tracing import is_recording

__all__ = ["conv3x3", "winograd_pays"]

# Wider vector units speed up the plain sum more than the transforms; there nobody has measured yet who wins.
_MEASURED = torch.backends.cpu.get_cpu_capability() == "AVX2"
# Below these, transforms and copies cost more than is saved (benchmarks/convolution.py).
_LEAST_CHANNELS, _LEAST_PIXELS = 128, 1024
_CELLS_AT_ONCE = 1 << 20  # transformed numbers of a thread: what its share of the caches holds

_OF_WEIGHTS = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


def winograd_pays(conv: nn.Conv2d, x: Tensor) -> bool:
    """Return whether :func:`conv3x3` computes ``conv(x)``, and sooner.

    It does so for plain float32 tensors on a CPU with AVX2. Graphs that are recorded, and whoever counts operations, see the convolution.
    """
    return (
        _MEASURED
        and conv.kernel_size == (3, 3)
        and conv.stride == conv.padding == conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
        and min(conv.in_channels, conv.out_channels) >= _LEAST_CHANNELS
        and type(x) is Tensor
        and x.device.type == "cpu"
        and x.dtype == conv.weight.dtype == torch.float32
        and x.dim() == 4
        and not is_recording()
        and x.shape[0] * x.shape[2] * x.shape[3] >= _LEAST_PIXELS
        and not torch.is_autocast_enabled("cpu")
        and not is_in_torch_dispatch_mode()
    )


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve with stride 1 and a padding of 1, as ``torch.nn.functional.conv2d`` does, with gradients.

    Args:
        x: [N, C, H, W] float32, not empty.
        weight: [C', C, 3, 3].
        bias: [C'] or None.

    Returns:
        [N, C', H, W] in the memory format of ``x``.
    """
    result: Tensor = _Winograd.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return result


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        nhwc = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        out = _convolve(x, weight, bias)
        return out.contiguous(memory_format=torch.channels_last if nhwc else torch.contiguous_format)

    @staticmethod
    def setup_context(
        ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor
    ) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: torch.autograd.function.FunctionCtx, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        for_x, for_weight, for_bias = ctx.needs_input_grad  # type: ignore[attr-defined]
        return (
            conv3x3(grad, weight.flip(2, 3).transpose(0, 1)) if for_x else None,
            conv2d_weight(x, weight.shape, grad, padding=1) if for_weight else None,
            grad.sum((0, 2, 3)) if for_bias else None,
        )


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return [N, C', H, W], in channels-last order."""
    (n, c, h, w), k = x.shape, weight.shape[0]
    down, across = -(-h // 4), -(-w // 4)
    kernels = _transformed_weight(weight)
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1 + 4 * across - w, 1, 1 + 4 * down - h)).contiguous()
    out = x.new_empty(n, 4 * down, 4 * across, k)
    tiles = max(_CELLS_AT_ONCE * torch.get_num_threads() // (36 * max(c, k)), 1)
    images = min(max(tiles // (down * across), 1), n)
    rows = min(max(tiles // (images * across), 1), down)
    for i in range(0, n, images):
        for t in range(0, down, rows):
            given = padded[i : i + images, 4 * t : 4 * (t + rows) + 2]
            _strip(given, kernels, bias, out[i : i + images, 4 * t : 4 * (t + rows)])
    return out[:, :h, :w].permute(0, 3, 1, 2)


def _transformed_weight(weight: Tensor) -> Tensor:
    """Map [C', C, 3, 3] to [36, C, C']."""
    one = weight.new_tensor(_OF_WEIGHTS)
    both = torch.kron(one, one)  # [36, 9]
    return (both @ weight.reshape(-1, 9).T).view(36, *weight.shape[:2]).transpose(1, 2)


def _strip(given: Tensor, kernels: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Convolve [N, 4 t + 2, 4 u + 2, C] into [N, 4 t, 4 u, C'] with kernels [36, C, C']."""
    n, height, width, k = out.shape
    t, u, c = height // 4, width // 4, given.shape[3]
    rows = given.new_empty(6, n, t, width + 2, c)
    _transform([given[:, i : i + height : 4] for i in range(6)], list(rows))
    cells = given.new_empty(6, 6, n, t, u, c)
    _transform([rows[:, :, :, i : i + width : 4] for i in range(6)], list(cells.unbind(1)))
    products = torch.bmm(cells.view(36, -1, c), kernels).view(6, 6, n, t, u, k)
    if bias is not None:
        products[1, 1] += bias  # this place is a summand, once, of each of the 16 outputs
    rows = given.new_empty(4, 6, n, t, u, k)
    _transform_back(list(products), list(rows))
    pixels = out.view(n, t, 4, u, 4, k).permute(2, 4, 0, 1, 3, 5)
    _transform_back(list(rows.unbind(1)), list(pixels.unbind(1)))


def _transform(given: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """Six samples of the input along one direction to six values."""
    a, b, c, d, e, f = given
    near, far = torch.add(e, c, alpha=-4), torch.add(d, b, alpha=-4)
    torch.add(near, far, out=out[1])
    torch.sub(near, far, out=out[2])
    torch.sub(e, c, out=near)
    torch.sub(d, b, out=far)
    torch.add(near, far, alpha=2, out=out[3])
    torch.add(near, far, alpha=-2, out=out[4])
    torch.sub(a, c, out=out[0]).mul_(4).add_(near)
    torch.sub(f, d, out=out[5]).add_(far, alpha=-4)


def _transform_back(given: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """Six values along one direction to four samples of the output."""
    a, b, c, d, e, f = given
    sums, differences = b + c, b - c
    far_sums, far_differences = d + e, d - e
    torch.add(a, sums, out=out[0]).add_(far_sums)
    torch.add(differences, far_differences, alpha=2, out=out[1])
    torch.add(sums, far_sums, alpha=4, out=out[2])
    torch.add(f, differences, out=out[3]).add_(far_differences, alpha=8)
