"""Multiscale vision transformer with pooling attention within windows.

Source: Li et al., "MViTv2: Improved Multiscale Vision Transformers", arXiv 2112.01526.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from detectron2.utils.errors import BadValue
from detectron2.utils.reexports import passed_on

from .backbone import Backbone
from .transformer import DropPath, Layer, Mlp, drop_path_rates, init_transformer, run_block
from .utils import PatchEmbed, decomposed_rel_pos, get_abs_pos, pad_and_partition, window_unpartition

__all__ = ["MViT"]

__getattr__ = passed_on(__name__)


def attention_pool(x: torch.Tensor, pool: nn.Module, norm: nn.Module | None = None) -> torch.Tensor:
    """Apply a channels-first pooling layer, then a norm, to a map (B, H, W, C)."""
    x = pool(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return x if norm is None else norm(x)


class MultiScaleAttention(nn.Module):
    """Self-attention whose queries, keys and values are pooled by strided depthwise convolutions.

    Args:
        dim: channels of the input.
        dim_out: channels of the output.
        num_heads: heads.
        qkv_bias: whether queries, keys and values have biases.
        norm_layer: class of the norms after pooling.
        pool_kernel: (height, width) of the pooling convolutions.
        stride_q: stride for the queries, which is also that of the layer's output.
        stride_kv: stride for keys and values.
        residual_pooling: whether to add the pooled queries to the output.
        window_size: side of the windows in input pixels; 0 = attend to the whole map.
        use_rel_pos: whether to learn relative position embeddings.
        rel_pos_zero_init: whether to initialise them with zeros.
        input_size: (H, W) for which the positions are created; a square.
    """

    def __init__(
        self,
        dim: int,
        dim_out: int,
        num_heads: int,
        qkv_bias: bool = True,
        norm_layer: Layer = nn.LayerNorm,
        pool_kernel: tuple[int, int] = (3, 3),
        stride_q: int = 1,
        stride_kv: int = 1,
        residual_pooling: bool = True,
        window_size: int = 0,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        head_dim = dim_out // num_heads
        self.qkv = nn.Linear(dim, 3 * dim_out, bias=qkv_bias)
        self.proj = nn.Linear(dim_out, dim_out)
        padding = (pool_kernel[0] // 2, pool_kernel[1] // 2)
        for name, stride in (("q", stride_q), ("k", stride_kv), ("v", stride_kv)):
            pool = nn.Conv2d(head_dim, head_dim, pool_kernel, stride, padding, groups=head_dim, bias=False)
            self.add_module(f"pool_{name}", pool)
            self.add_module(f"norm_{name}", norm_layer(head_dim))
        self.window_size = window_size
        # If the stride does not divide the window size, windows of keys and values round up, to cover their queries.
        self.q_win_size = max(window_size // stride_q, 1) if window_size else 0
        self.kv_win_size = -(-window_size // stride_kv)
        self.residual_pooling = residual_pooling
        self.use_rel_pos = use_rel_pos
        if use_rel_pos:
            if input_size is None or input_size[0] != input_size[1]:
                raise BadValue(f"MViT: relative positions need a square input_size, not {input_size}")
            length = 2 * max(input_size[0] // stride_q, input_size[0] // stride_kv) - 1
            self.rel_pos_h = nn.Parameter(torch.zeros(length, head_dim))
            self.rel_pos_w = nn.Parameter(torch.zeros(length, head_dim))
            if not rel_pos_zero_init:
                nn.init.trunc_normal_(self.rel_pos_h, std=0.02)
                nn.init.trunc_normal_(self.rel_pos_w, std=0.02)

    def _pooled(self, x: torch.Tensor, which: str) -> torch.Tensor:
        return attention_pool(x, getattr(self, f"pool_{which}"), getattr(self, f"norm_{which}"))

    def _attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Apply attention to maps (B * heads, h, w, C)."""
        q_hw, k_hw = (q.shape[1], q.shape[2]), (k.shape[1], k.shape[2])
        flat_q, flat_k, flat_v = q.flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2)
        bias = None
        if self.use_rel_pos:
            bias = decomposed_rel_pos(flat_q, self.rel_pos_h, self.rel_pos_w, q_hw, k_hw)
        return F.scaled_dot_product_attention(flat_q, flat_k, flat_v, attn_mask=bias).view(q.shape)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, H, W, dim) to (B, H / stride_q, W / stride_q, dim_out)."""
        b, h, w, _ = x.shape
        heads = self.num_heads
        qkv = self.qkv(x).view(b, h, w, 3, heads, -1).permute(3, 0, 4, 1, 2, 5)  # (3, B, heads, H, W, C)
        q, k, v = qkv.flatten(1, 2).unbind(0)  # each (B * heads, H, W, C)
        q, k, v = self._pooled(q, "q"), self._pooled(k, "k"), self._pooled(v, "v")
        if self.window_size:
            size = self.q_win_size
            rows, cols = (q.shape[1] + size - 1) // size, (q.shape[2] + size - 1) // size
            q_windows, padded = pad_and_partition(q, size, rows, cols)
            k, _ = pad_and_partition(k, self.kv_win_size, rows, cols)
            v, _ = pad_and_partition(v, self.kv_win_size, rows, cols)
            y = window_unpartition(self._attend(q_windows, k, v), size, padded, (q.shape[1], q.shape[2]))
        else:
            y = self._attend(q, k, v)
        if self.residual_pooling:
            y = y + q
        y = (
            y.view(b, heads, y.shape[1], y.shape[2], -1).permute(0, 2, 3, 1, 4).flatten(3)
        )  # (B, h, w, dim_out)
        return self.proj(y)


class MultiScaleBlock(nn.Module):
    """Pooling attention and MLP, both with pre-norm and a shortcut.

    Args: see :class:`MultiScaleAttention`; ``mlp_ratio`` is the hidden size of the MLP divided by ``dim_out``,
        ``drop_path`` the rate of stochastic depth, ``act_layer`` the class of the activation, ``qkv_pool_kernel`` the
        pooling kernel.
    """

    def __init__(
        self,
        dim: int,
        dim_out: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path: float = 0.0,
        norm_layer: Layer = nn.LayerNorm,
        act_layer: Layer = nn.GELU,
        qkv_pool_kernel: tuple[int, int] = (3, 3),
        stride_q: int = 1,
        stride_kv: int = 1,
        residual_pooling: bool = True,
        window_size: int = 0,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = norm_layer(dim)
        self.attn = MultiScaleAttention(
            dim,
            dim_out,
            num_heads=num_heads,
            qkv_bias=qkv_bias,
            norm_layer=norm_layer,
            pool_kernel=qkv_pool_kernel,
            stride_q=stride_q,
            stride_kv=stride_kv,
            residual_pooling=residual_pooling,
            window_size=window_size,
            use_rel_pos=use_rel_pos,
            rel_pos_zero_init=rel_pos_zero_init,
            input_size=input_size,
        )
        self.drop_path = DropPath(drop_path)
        self.norm2 = norm_layer(dim_out)
        self.mlp = Mlp(dim_out, int(dim_out * mlp_ratio), act_layer=act_layer)
        self.proj = nn.Linear(dim, dim_out) if dim != dim_out else None
        self.pool_skip: nn.Module | None = None
        if stride_q > 1:
            self.pool_skip = nn.MaxPool2d(stride_q + 1, stride_q, padding=(stride_q + 1) // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, H, W, dim) to (B, H / stride_q, W / stride_q, dim_out)."""
        normed = self.norm1(x)
        skip = x if self.proj is None else self.proj(normed)
        if self.pool_skip is not None:
            skip = attention_pool(skip, self.pool_skip)
        x = skip + self.drop_path(self.attn(normed))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class MViT(Backbone):
    """MViTv2: channels double and resolution halves from scale to scale, as in a convolutional network.

    Args:
        img_size: side, in pixels, of the images for which relative positions are created.
        patch_kernel: (height, width) of the patch convolution.
        patch_stride: its strides; also the stride of the first scale.
        patch_padding: its padding.
        in_chans: channels of the images.
        embed_dim: channels of the first scale.
        depth: number of blocks.
        num_heads: heads of the first scale; they double with the channels.
        last_block_indexes: index of the last block of each scale. The block after it pools its queries by 2.
        qkv_pool_kernel: (height, width) of the pooling convolutions.
        adaptive_kv_stride: stride of keys and values at the first scale; it halves from scale to scale.
        adaptive_window_size: side of the windows at the first scale; it halves from scale to scale. The last block of
            every scale but the first attends to the whole map.
        residual_pooling: whether to add the pooled queries to the output of attention.
        mlp_ratio: hidden size of the MLPs divided by their channels.
        qkv_bias: whether queries, keys and values have biases.
        drop_path_rate: stochastic depth rate of the last block; rates grow linearly from 0.
        norm_layer: class of the norms.
        act_layer: class of the activations.
        use_abs_pos: whether to learn absolute position embeddings.
        use_rel_pos: whether to learn relative position embeddings.
        rel_pos_zero_init: whether to initialise relative positions with zeros.
        use_act_checkpoint: recompute activations in the backward pass, which saves memory and costs time.
        pretrain_img_size: side of the pretraining images, which defines the number of absolute positions.
        pretrain_use_cls_token: whether the first absolute position belongs to a class token; it is skipped.
        out_features: names of the outputs among ``"scale2"``, ``"scale3"``, …
    """

    def __init__(
        self,
        img_size: int = 224,
        patch_kernel: tuple[int, int] = (7, 7),
        patch_stride: tuple[int, int] = (4, 4),
        patch_padding: tuple[int, int] = (3, 3),
        in_chans: int = 3,
        embed_dim: int = 96,
        depth: int = 16,
        num_heads: int = 1,
        last_block_indexes: Sequence[int] = (0, 2, 11, 15),
        qkv_pool_kernel: tuple[int, int] = (3, 3),
        adaptive_kv_stride: int = 4,
        adaptive_window_size: int = 56,
        residual_pooling: bool = True,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        norm_layer: Layer = nn.LayerNorm,
        act_layer: Layer = nn.GELU,
        use_abs_pos: bool = False,
        use_rel_pos: bool = True,
        rel_pos_zero_init: bool = True,
        use_act_checkpoint: bool = False,
        pretrain_img_size: int = 224,
        pretrain_use_cls_token: bool = True,
        out_features: Sequence[str] = ("scale2", "scale3", "scale4", "scale5"),
    ) -> None:
        super().__init__()
        self.pretrain_use_cls_token = pretrain_use_cls_token
        self.use_act_checkpoint = use_act_checkpoint
        self.patch_embed = PatchEmbed(patch_kernel, patch_stride, patch_padding, in_chans, embed_dim)
        self.pos_embed: nn.Parameter | None = None
        if use_abs_pos:
            grid = (pretrain_img_size // patch_stride[0]) * (pretrain_img_size // patch_stride[1])
            self.pos_embed = nn.Parameter(torch.zeros(1, grid + int(pretrain_use_cls_token), embed_dim))

        self._last_block_indexes = tuple(last_block_indexes)
        scales = [f"scale{i}" for i in range(2, 2 + len(self._last_block_indexes))]
        self._out_features = [s for s in scales if s in out_features]
        unknown = [f for f in out_features if f not in scales]
        if unknown:
            raise BadValue(f"MViT: unknown out_features {unknown}; known are {scales}")
        self._out_feature_channels, self._out_feature_strides = {}, {}
        self._scale_of_block = dict(zip(self._last_block_indexes, scales))

        rates = drop_path_rates(drop_path_rate, depth)
        dim, stage = embed_dim, 0  # input channels of the block; number of complete scales
        self.blocks = nn.ModuleList()
        for i in range(depth):
            dim_out = embed_dim * 2**stage
            pools = i - 1 in self._last_block_indexes
            kv_stride = max(adaptive_kv_stride // 2**stage, 1)
            # The blocks with global attention at scales 3 and 4 use coarser keys.
            kv_stride *= 2 if i in self._last_block_indexes[1:3] else 1
            # The input of a pooling block, and so its windows, still have the size of the previous scale.
            at = stage - 1 if pools else stage
            side = (img_size // patch_stride[0]) // 2**at
            self.blocks.append(
                MultiScaleBlock(
                    dim,
                    dim_out,
                    num_heads=num_heads * 2**stage,
                    mlp_ratio=mlp_ratio,
                    qkv_bias=qkv_bias,
                    drop_path=rates[i],
                    norm_layer=norm_layer,
                    act_layer=act_layer,
                    qkv_pool_kernel=qkv_pool_kernel,
                    stride_q=2 if pools else 1,
                    stride_kv=kv_stride,
                    residual_pooling=residual_pooling,
                    window_size=0 if i in self._last_block_indexes[1:] else adaptive_window_size // 2**at,
                    use_rel_pos=use_rel_pos,
                    rel_pos_zero_init=rel_pos_zero_init,
                    input_size=(side, side),
                )
            )
            dim = dim_out
            if i in self._scale_of_block:
                name = self._scale_of_block[i]
                if name in self._out_features:
                    self._out_feature_channels[name] = dim
                    self._out_feature_strides[name] = patch_stride[0] * 2**stage
                    self.add_module(f"{name}_norm", norm_layer(dim))
                stage += 1
        if self.pos_embed is not None:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.apply(self._init_weights)

    def _init_weights(self, m: nn.Module) -> None:
        """Initialise one module."""
        init_transformer(m)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute feature maps from images (N, C, H, W)."""
        x = self.patch_embed(x)  # (N, h, w, C)
        if self.pos_embed is not None:
            x = x + get_abs_pos(self.pos_embed, self.pretrain_use_cls_token, (x.shape[1], x.shape[2]))
        found = {}
        for i, block in enumerate(self.blocks):
            x = run_block(block, self.use_act_checkpoint, x)
            name = self._scale_of_block.get(i)
            if name in self._out_features:
                found[name] = getattr(self, f"{name}_norm")(x).permute(0, 3, 1, 2)
        return found
