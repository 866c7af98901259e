"""Parts of transformer backbones: windows, positions, patches. Maps are (N, H, W, C)."""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from detectron2.utils.errors import BadValue
from detectron2.utils.tracing import larger

__all__ = [
    "PatchEmbed",
    "add_decomposed_rel_pos",
    "get_abs_pos",
    "get_rel_pos",
    "window_partition",
    "window_unpartition",
]


def fresh(x: torch.Tensor) -> torch.Tensor:
    """Copy to contiguous memory without checking whether ``x`` is contiguous.

    With dynamic sizes, the check would add a constraint on the sizes to an exported graph.
    """
    return x.clone(memory_format=torch.contiguous_format)


def crop(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Return the upper left part of maps (N, H, W, C), contiguous."""
    if torch.compiler.is_compiling() or torch.compiler.is_exporting():
        # The strides of a slice would add constraints on the sizes to the graph.
        rows = torch.arange(height, device=x.device)
        return x.index_select(1, rows).index_select(2, torch.arange(width, device=x.device))
    return x[:, :height, :width].contiguous()


def window_partition(x: torch.Tensor, window_size: int) -> tuple[torch.Tensor, tuple[int, int]]:
    """Partition maps into square windows that do not overlap, padding with zeros at the bottom and right.

    Args:
        x: (N, H, W, C).
        window_size: side of a window.

    Returns:
        Windows (N * number of windows, window_size, window_size, C), and the padded height and width.
    """
    _, h, w, _ = x.shape
    return pad_and_partition(
        x, window_size, (h + window_size - 1) // window_size, (w + window_size - 1) // window_size
    )


def pad_and_partition(
    x: torch.Tensor, window_size: int, rows: int, cols: int
) -> tuple[torch.Tensor, tuple[int, int]]:
    """Pad maps and partition them into ``rows`` times ``cols`` windows, which must cover the map."""
    _, h, w, _ = x.shape
    size = (rows * window_size, cols * window_size)
    return to_windows(F.pad(x, (0, 0, 0, size[1] - w, 0, size[0] - h)), window_size, rows, cols), size


def to_windows(x: torch.Tensor, window_size: int, rows: int, cols: int) -> torch.Tensor:
    """Partition maps (N, rows * window_size, cols * window_size, C) into (N * rows * cols, window_size, window_size, C)."""
    n, c = x.shape[0], x.shape[3]
    x = x.view(n, rows, window_size, cols, window_size, c).transpose(2, 3)  # (N, rows, cols, ws, ws, C)
    return fresh(x).view(-1, window_size, window_size, c)


def from_windows(windows: torch.Tensor, window_size: int, height: int, width: int) -> torch.Tensor:
    """Undo :func:`to_windows`: join windows to maps (N, height, width, C)."""
    rows, cols = height // window_size, width // window_size
    n = windows.shape[0] // (rows * cols)
    x = windows.view(n, rows, cols, window_size, window_size, -1).transpose(2, 3)
    return fresh(x).view(n, height, width, -1)


def window_unpartition(
    windows: torch.Tensor, window_size: int, pad_hw: tuple[int, int], hw: tuple[int, int]
) -> torch.Tensor:
    """Undo :func:`window_partition`.

    Args:
        windows: (N * number of windows, window_size, window_size, C).
        window_size: side of a window.
        pad_hw: padded height and width.
        hw: height and width of the map.

    Returns:
        (N, H, W, C).
    """
    return crop(from_windows(windows, window_size, *pad_hw), *hw)


def _ratio(a: int, b: int) -> float:
    """Compute max(a / b, 1), also for the symbolic sizes of ``torch.export``."""
    return 1.0 if a is b else cast(float, larger(a / b, 1.0))


def get_rel_pos(q_size: int, k_size: int, rel_pos: torch.Tensor) -> torch.Tensor:
    """Compute embeddings of the distances between all queries and keys along one axis.

    Args:
        q_size: number of queries along the axis.
        k_size: number of keys along the axis; queries and keys cover the same extent.
        rel_pos: (L, C), one row per distance. Interpolated if L is not 2 * max(q_size, k_size) - 1.

    Returns:
        (q_size, k_size, C).
    """
    length = cast(int, 2 * larger(q_size, k_size) - 1)
    # Always interpolate: at the same length it changes nothing, and a graph needs no branch on a size.
    table = F.interpolate(rel_pos.T[None].float(), size=length, mode="linear")[0].T.to(rel_pos.dtype)
    step_q, step_k = _ratio(k_size, q_size), _ratio(q_size, k_size)
    q = torch.arange(q_size, device=rel_pos.device)[:, None] * step_q
    k = torch.arange(k_size, device=rel_pos.device)[None, :] * step_k
    return table[(q - k + (k_size - 1) * step_k).long()]


def decomposed_rel_pos(
    q: torch.Tensor,
    rel_pos_h: torch.Tensor,
    rel_pos_w: torch.Tensor,
    q_size: tuple[int, int],
    k_size: tuple[int, int],
) -> torch.Tensor:
    """Compute the term (B, q_h*q_w, k_h*k_w) that :func:`add_decomposed_rel_pos` adds to attention logits."""
    q_h, q_w = q_size
    k_h, k_w = k_size
    b, _, c = q.shape
    q = q.reshape(b, q_h, q_w, c)
    by_h = torch.einsum("bhwc,hkc->bhwk", q, get_rel_pos(q_h, k_h, rel_pos_h))
    by_w = torch.einsum("bhwc,wkc->bhwk", q, get_rel_pos(q_w, k_w, rel_pos_w))
    both = by_h[:, :, :, :, None] + by_w[:, :, :, None, :]  # (B, q_h, q_w, k_h, k_w)
    return both.reshape(b, q_h * q_w, k_h * k_w)


def add_decomposed_rel_pos(
    attn: torch.Tensor,
    q: torch.Tensor,
    rel_pos_h: torch.Tensor,
    rel_pos_w: torch.Tensor,
    q_size: tuple[int, int],
    k_size: tuple[int, int],
) -> torch.Tensor:
    """Add relative positions, split into height and width, to attention logits.

    Source: Li et al., "MViTv2", arXiv 2112.01526, equation 4.

    Args:
        attn: logits (B, q_h * q_w, k_h * k_w).
        q: queries (B, q_h * q_w, C), not scaled.
        rel_pos_h: embeddings of vertical distances (L_h, C).
        rel_pos_w: embeddings of horizontal distances (L_w, C).
        q_size: (q_h, q_w).
        k_size: (k_h, k_w).

    Returns:
        Logits of the same shape.
    """
    return attn + decomposed_rel_pos(q, rel_pos_h, rel_pos_w, q_size, k_size)


def get_abs_pos(abs_pos: torch.Tensor, has_cls_token: bool, hw: tuple[int, int]) -> torch.Tensor:
    """Resize learned absolute positions of a square map by bicubic interpolation.

    Args:
        abs_pos: (1, L, C), with one more row at the start if ``has_cls_token``.
        has_cls_token: drop the first row.
        hw: requested height and width.

    Returns:
        (1, H, W, C).

    Raises:
        ValueError: if the positions do not form a square.
    """
    grid = abs_pos[:, 1:] if has_cls_token else abs_pos
    side = math.isqrt(grid.shape[1])
    if side * side != grid.shape[1]:
        raise BadValue(f"get_abs_pos: abs_pos must hold the positions of a square map, got {grid.shape[1]}")
    grid = grid.reshape(1, side, side, -1).permute(0, 3, 1, 2)  # (1, C, side, side)
    return F.interpolate(grid, size=hw, mode="bicubic", align_corners=False).permute(0, 2, 3, 1)


class PatchEmbed(nn.Module):
    """Computes a map of patch embeddings from images by one convolution.

    Args:
        kernel_size: kernel size of the convolution.
        stride: stride of the convolution; patches do not overlap if it equals ``kernel_size``.
        padding: padding of the convolution.
        in_chans: channels of the images.
        embed_dim: channels of the map.
    """

    def __init__(
        self,
        kernel_size: tuple[int, int] = (16, 16),
        stride: tuple[int, int] = (16, 16),
        padding: tuple[int, int] = (0, 0),
        in_chans: int = 3,
        embed_dim: int = 768,
    ) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size, stride, padding)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, in_chans, H, W) to (N, H / stride, W / stride, embed_dim)."""
        return self.proj(x).permute(0, 2, 3, 1)
