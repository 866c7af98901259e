"""Swin transformer as a backbone.

Source: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", arXiv 2103.14030.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from detectron2.utils.errors import BadValue
from detectron2.utils.reexports import publish

from ._swin_attention import WindowAttention, shifted_window_mask, window_partition, window_reverse
from .backbone import Backbone
from .transformer import DropPath, Layer, Mlp, drop_path_rates, init_transformer, run_block
from .utils import crop, fresh

__all__ = [
    "BasicLayer",
    "Mlp",
    "PatchEmbed",
    "PatchMerging",
    "SwinTransformer",
    "SwinTransformerBlock",
    "WindowAttention",
    "window_partition",
    "window_reverse",
]

publish(__name__, Mlp, WindowAttention, window_partition, window_reverse)


class SwinTransformerBlock(nn.Module):
    """Attention within windows, shifted by half a window in every other block, and an MLP.

    Args:
        dim: channels.
        num_heads: heads.
        window_size: side of the windows.
        shift_size: number of pixels by which they are shifted, less than ``window_size``.
        mlp_ratio: hidden size of the MLP divided by ``dim``.
        qkv_bias: whether queries, keys and values have biases.
        qk_scale: see :class:`WindowAttention`.
        drop: dropout after linear layers.
        attn_drop: dropout on attention weights.
        drop_path: rate of stochastic depth.
        act_layer: class of the activation.
        norm_layer: class of the norms.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: int = 7,
        shift_size: int = 0,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: float = 0.0,
        act_layer: Layer = nn.GELU,
        norm_layer: Layer = nn.LayerNorm,
    ) -> None:
        super().__init__()
        if not 0 <= shift_size < window_size:
            raise BadValue(f"Swin: shift_size must be in [0, window_size = {window_size}), got {shift_size}")
        self.window_size = window_size
        self.shift_size = shift_size
        self.norm1 = norm_layer(dim)
        self.attn = WindowAttention(
            dim, (window_size, window_size), num_heads, qkv_bias, qk_scale, attn_drop, proj_drop=drop
        )
        self.drop_path = DropPath(drop_path)
        self.norm2 = norm_layer(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), act_layer=act_layer, drop=drop)
        # Size of the map, set by the caller, because the input is flattened.
        self.H: int | None = None
        self.W: int | None = None

    def forward(self, x: torch.Tensor, mask_matrix: torch.Tensor | None) -> torch.Tensor:
        """Transform a map of size (``self.H``, ``self.W``), which must be set.

        Args:
            x: (B, H * W, C).
            mask_matrix: see :func:`shifted_window_mask`; ignored if windows are not shifted.

        Returns:
            (B, H * W, C).
        """
        assert self.H is not None and self.W is not None, "set H and W of the block first"
        return self.transform(x, mask_matrix, self.H, self.W)

    def transform(self, x: torch.Tensor, mask: torch.Tensor | None, height: int, width: int) -> torch.Tensor:
        """Transform a map of a given size; see :meth:`forward`."""
        b, length, c = x.shape
        window, shift = self.window_size, self.shift_size
        y = self.norm1(x).view(b, height, width, c)
        y = F.pad(y, (0, 0, 0, (-width) % window, 0, (-height) % window))
        full_h, full_w = y.shape[1], y.shape[2]
        if shift:
            y = torch.roll(y, shifts=(-shift, -shift), dims=(1, 2))
        windows = window_partition(y, window).view(-1, window * window, c)
        windows = self.attn(windows, mask=mask if shift else None)
        y = window_reverse(windows.view(-1, window, window, c), window, full_h, full_w)
        if shift:
            y = torch.roll(y, shifts=(shift, shift), dims=(1, 2))
        x = x + self.drop_path(crop(y, height, width).view(b, length, c))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PatchMerging(nn.Module):
    """Halves the resolution: merges each 2x2 cell into one pixel with twice the channels.

    Args:
        dim: channels.
        norm_layer: class of the norm.
    """

    def __init__(self, dim: int, norm_layer: Layer = nn.LayerNorm) -> None:
        super().__init__()
        self.dim = dim
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = norm_layer(4 * dim)

    def forward(self, x: torch.Tensor, H: int, W: int) -> torch.Tensor:
        """Map (B, H * W, C) to (B, ceil(H / 2) * ceil(W / 2), 2 C)."""
        b, _, c = x.shape
        x = F.pad(x.view(b, H, W, c), (0, 0, 0, W % 2, 0, H % 2))
        cells = x.view(b, (H + 1) // 2, 2, (W + 1) // 2, 2, c)
        # Pretrained weights expect the four pixels column by column.
        cells = fresh(cells.permute(0, 1, 3, 4, 2, 5)).view(b, -1, 4 * c)
        return self.reduction(self.norm(cells))


class BasicLayer(nn.Module):
    """The blocks of one stage, and the optional merging after them.

    Args:
        dim: channels.
        depth: number of blocks.
        num_heads: heads.
        window_size: side of the windows.
        mlp_ratio: hidden size of the MLPs divided by ``dim``.
        qkv_bias: whether queries, keys and values have biases.
        qk_scale: see :class:`WindowAttention`.
        drop: dropout after linear layers.
        attn_drop: dropout on attention weights.
        drop_path: rate of stochastic depth, or one for each block.
        norm_layer: class of the norms.
        downsample: class of the merging layer, or None for the last stage.
        use_checkpoint: recompute activations in the backward pass, which saves memory and costs time.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: float | Sequence[float] = 0.0,
        norm_layer: Layer = nn.LayerNorm,
        downsample: Layer | None = None,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.window_size = window_size
        self.shift_size = window_size // 2
        self.depth = depth
        self.use_checkpoint = use_checkpoint
        rates = [float(drop_path)] * depth if isinstance(drop_path, (int, float)) else list(drop_path)
        self.blocks = nn.ModuleList(
            SwinTransformerBlock(
                dim,
                num_heads,
                window_size=window_size,
                shift_size=self.shift_size if i % 2 else 0,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                qk_scale=qk_scale,
                drop=drop,
                attn_drop=attn_drop,
                drop_path=rates[i],
                norm_layer=norm_layer,
            )
            for i in range(depth)
        )
        self.downsample = downsample(dim=dim, norm_layer=norm_layer) if downsample is not None else None

    def forward(
        self, x: torch.Tensor, H: int, W: int
    ) -> tuple[torch.Tensor, int, int, torch.Tensor, int, int]:
        """Run the stage on a map (B, H * W, C).

        Returns:
            The map before merging, its height and width, then the map after merging, its height and width; both are
            equal without a merging layer.
        """
        window = self.window_size
        mask = shifted_window_mask(
            H + (-H) % window, W + (-W) % window, window, self.shift_size, x.device, x.dtype
        )
        for block in self.blocks:
            if self.use_checkpoint:
                block.H, block.W = H, W  # type: ignore[assignment]
                x = run_block(block, True, x, mask)
            else:
                x = block.transform(x, mask, H, W)  # type: ignore[operator]
        if self.downsample is None:
            return x, H, W, x, H, W
        return x, H, W, self.downsample(x, H, W), (H + 1) // 2, (W + 1) // 2


class PatchEmbed(nn.Module):
    """Computes a map of patch embeddings from images; pads sizes to multiples of the patch with zeros.

    Args:
        patch_size: side of a patch.
        in_chans: channels of the images.
        embed_dim: channels of the map.
        norm_layer: class of the norm after the embedding, or None.
    """

    def __init__(
        self, patch_size: int = 4, in_chans: int = 3, embed_dim: int = 96, norm_layer: Layer | None = None
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.embed_dim = embed_dim
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, patch_size)
        self.norm = norm_layer(embed_dim) if norm_layer is not None else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, in_chans, H, W) to (N, embed_dim, ceil(H / patch_size), ceil(W / patch_size))."""
        side = self.patch_size
        x = self.proj(F.pad(x, (0, (-x.shape[3]) % side, 0, (-x.shape[2]) % side)))
        if self.norm is not None:
            x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x


class SwinTransformer(Backbone):
    """Swin: stages of attention within windows; outputs ``"p0"``, ``"p1"``, … of stride 4, 8, …

    Args:
        pretrain_img_size: side of the pretraining images, which defines the number of absolute positions.
        patch_size: side of a patch; stride of ``p0``.
        in_chans: channels of the images.
        embed_dim: channels of ``p0``; they double from stage to stage.
        depths: number of blocks of each stage.
        num_heads: heads of each stage.
        window_size: side of the windows.
        mlp_ratio: hidden size of the MLPs divided by their channels.
        qkv_bias: whether queries, keys and values have biases.
        qk_scale: see :class:`WindowAttention`.
        drop_rate: dropout after linear layers.
        attn_drop_rate: dropout on attention weights.
        drop_path_rate: stochastic depth rate of the last block; rates grow linearly from 0.
        norm_layer: class of the norms.
        ape: whether to learn absolute position embeddings.
        patch_norm: whether a norm follows the patch embedding.
        out_indices: stages whose maps are returned.
        frozen_stages: -1 freezes nothing, 0 the patch embedding, 1 also the absolute positions, k also the first
            k - 1 stages.
        use_checkpoint: recompute activations in the backward pass, which saves memory and costs time.
    """

    def __init__(
        self,
        pretrain_img_size: int = 224,
        patch_size: int = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.2,
        norm_layer: Layer = nn.LayerNorm,
        ape: bool = False,
        patch_norm: bool = True,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        count = len(depths)
        if len(num_heads) != count or any(i not in range(count) for i in out_indices):
            raise BadValue(
                f"Swin: {count} stages need {count} entries in num_heads (got {len(num_heads)}) and out_indices below "
                f"{count} (got {list(out_indices)})"
            )
        self.ape = ape
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.patch_embed = PatchEmbed(patch_size, in_chans, embed_dim, norm_layer if patch_norm else None)
        if ape:
            side = pretrain_img_size // patch_size
            self.absolute_pos_embed = nn.Parameter(torch.zeros(1, embed_dim, side, side))
            nn.init.trunc_normal_(self.absolute_pos_embed, std=0.02)
        self.pos_drop = nn.Dropout(drop_rate)
        rates = drop_path_rates(drop_path_rate, sum(depths))
        self.layers = nn.ModuleList(
            BasicLayer(
                embed_dim * 2**i,
                depth=depths[i],
                num_heads=num_heads[i],
                window_size=window_size,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                qk_scale=qk_scale,
                drop=drop_rate,
                attn_drop=attn_drop_rate,
                drop_path=rates[sum(depths[:i]) : sum(depths[: i + 1])],
                norm_layer=norm_layer,
                downsample=PatchMerging if i < count - 1 else None,
                use_checkpoint=use_checkpoint,
            )
            for i in range(count)
        )
        self.num_features = [embed_dim * 2**i for i in range(count)]
        for i in self.out_indices:
            self.add_module(f"norm{i}", norm_layer(self.num_features[i]))
        self._out_features = [f"p{i}" for i in self.out_indices]
        self._out_feature_channels = {f"p{i}": self.num_features[i] for i in self.out_indices}
        self._out_feature_strides = {f"p{i}": patch_size * 2**i for i in self.out_indices}
        self._size_divisibility = patch_size * 2 ** (count - 1)
        self.apply(self._init_weights)
        self._freeze_stages()

    def _init_weights(self, m: nn.Module) -> None:
        """Initialise one module."""
        init_transformer(m)

    @property
    def size_divisibility(self) -> int:
        """Stride of the last stage."""
        return self._size_divisibility

    def _freeze_stages(self) -> None:
        frozen: list[nn.Module] = [self.patch_embed] if self.frozen_stages >= 0 else []
        if self.frozen_stages >= 1 and self.ape:
            self.absolute_pos_embed.requires_grad_(False)
        frozen += list(self.layers)[: max(self.frozen_stages - 1, 0)]
        if self.frozen_stages >= 2:
            frozen.append(self.pos_drop)
        for module in frozen:
            module.eval()
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> "SwinTransformer":
        """Set training or evaluation mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        self._freeze_stages()
        return self

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute ``{"p0": (N, C, H / 4, W / 4), …}`` from images (N, C, H, W)."""
        x = self.patch_embed(x)
        height, width = x.shape[2], x.shape[3]
        if self.ape:
            x = x + F.interpolate(self.absolute_pos_embed, size=(height, width), mode="bicubic")
        x = self.pos_drop(fresh(x.flatten(2).transpose(1, 2)))  # (N, h * w, C)
        found = {}
        for i, layer in enumerate(self.layers):
            y, h, w, x, height, width = layer(x, height, width)
            if i in self.out_indices:
                y = getattr(self, f"norm{i}")(y).view(-1, h, w, self.num_features[i])
                found[f"p{i}"] = fresh(y.permute(0, 3, 1, 2))
        return found
