"""Windows of Swin: partition, masks for shifted windows, and attention within windows."""

import torch
import torch.nn.functional as F
from torch import nn

from .utils import fresh, from_windows, to_windows


def window_partition(x: torch.Tensor, window_size: int) -> torch.Tensor:
    """Partition maps into square windows.

    Args:
        x: (B, H, W, C); H and W are multiples of ``window_size``.
        window_size: side of a window.

    Returns:
        (B * number of windows, window_size, window_size, C).
    """
    return to_windows(x, window_size, x.shape[1] // window_size, x.shape[2] // window_size)


def window_reverse(windows: torch.Tensor, window_size: int, H: int, W: int) -> torch.Tensor:
    """Undo :func:`window_partition`.

    Args:
        windows: (B * number of windows, window_size, window_size, C).
        window_size: side of a window.
        H: height of the map.
        W: width of the map.

    Returns:
        (B, H, W, C).
    """
    return from_windows(windows, window_size, H, W)


def shifted_window_mask(
    height: int, width: int, window: int, shift: int, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Compute the attention mask of shifted windows, in which rolling joined parts that are not adjacent in the map.

    Args:
        height: height of the map; a multiple of ``window``.
        width: width of the map; a multiple of ``window``.
        window: side of a window.
        shift: number of pixels by which the map is rolled, up and left.
        device: device of the result.
        dtype: type of the result.

    Returns:
        (number of windows, window², window²): 0 for pairs that may attend to each other, -100 for the others.
    """

    def regions(size: int) -> torch.Tensor:
        # The last window of an axis holds pixels from the end and, after rolling, from the start of the map.
        at = torch.arange(size, device=device)
        return (at >= size - window).long() + (at >= size - shift).long()

    label = regions(height)[:, None] * 3 + regions(width)[None, :]  # (H, W)
    label = window_partition(label[None, :, :, None], window).view(-1, window * window)
    apart = label[:, None, :] != label[:, :, None]
    return apart.to(dtype) * -100.0


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows, with a learned bias for each relative position.

    Args:
        dim: channels.
        window_size: (height, width) of the windows.
        num_heads: heads.
        qkv_bias: whether queries, keys and values have biases.
        qk_scale: factor on the logits; by default 1 / sqrt(dim / num_heads).
        attn_drop: dropout on the attention weights.
        proj_drop: dropout on the output.
    """

    relative_position_index: torch.Tensor

    def __init__(
        self,
        dim: int,
        window_size: tuple[int, int],
        num_heads: int,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.window_size = window_size
        self.num_heads = num_heads
        self.scale = qk_scale or (dim // num_heads) ** -0.5
        h, w = window_size
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * h - 1) * (2 * w - 1), num_heads))
        rows, cols = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        rows, cols = rows.flatten(), cols.flatten()
        down = rows[:, None] - rows[None, :] + h - 1  # 0 … 2h - 2
        right = cols[:, None] - cols[None, :] + w - 1
        self.register_buffer("relative_position_index", down * (2 * w - 1) + right)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Apply attention within each window.

        Args:
            x: (B * number of windows, N, C) for windows of N pixels.
            mask: (number of windows, N, N), added to the logits.

        Returns:
            Tensor of the shape of ``x``.
        """
        b, n, c = x.shape
        qkv = self.qkv(x).view(b, n, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # each (B, heads, N, C / heads)
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        bias = bias.view(n, n, -1).permute(2, 0, 1)[None]  # (1, heads, N, N)
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(b // mask.shape[0], 1, 1, 1)  # (B, heads, N, N)
        drop = self.attn_drop.p if self.training else 0.0
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=bias.to(q.dtype), dropout_p=drop, scale=self.scale
        )
        return self.proj_drop(self.proj(fresh(y.transpose(1, 2)).view(b, n, c)))
