"""The vision transformer of EVA-02: rotary positions, SwiGLU, and norms inside the sub-layers.

Reference: Fang et al., EVA-02: A Visual Representation for Neon Genesis, https://arxiv.org/abs/2303.11331
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.modeling.backbone import Backbone, simple_pyramid
from detectron2.modeling.backbone.transformer import DropPath, drop_path_rates, init_transformer, run_block
from detectron2.modeling.backbone.utils import PatchEmbed, get_abs_pos, window_partition, window_unpartition
from detectron2.modeling.backbone.vit import ResBottleneckBlock
from detectron2.utils.errors import BadValue

from .rope import VisionRotaryEmbeddingFast

__all__ = ["Attention", "Block", "SimpleFeaturePyramid", "SwiGLU", "ViT"]

Norm = Callable[[int], nn.Module]
_LAYER_NORM = partial(nn.LayerNorm, eps=1e-6)


class SwiGLU(nn.Module):
    """``W3 LN(act(W1 x) * W2 x)`` (Shazeer, https://arxiv.org/abs/2002.05202; the norm as in 2210.06423).

    Args:
        in_features: channels of the input.
        hidden_features: hidden channels; None = those of the input.
        out_features: channels of the output; None = those of the input.
        act_layer: class of the activation.
        drop: dropout rate of the output.
        norm_layer: class of the norm.
        subln: apply the norm.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        act_layer: type[nn.Module] = nn.SiLU,
        drop: float = 0.0,
        norm_layer: Norm = nn.LayerNorm,
        subln: bool = False,
    ) -> None:
        super().__init__()
        hidden = hidden_features or in_features
        self.w1 = nn.Linear(in_features, hidden)
        self.w2 = nn.Linear(in_features, hidden)
        self.act = act_layer()
        self.ffn_ln = norm_layer(hidden) if subln else nn.Identity()
        self.w3 = nn.Linear(hidden, out_features or in_features)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in_features] to [..., out_features]."""
        return self.drop(self.w3(self.ffn_ln(self.act(self.w1(x)) * self.w2(x))))


class Attention(nn.Module):
    """Multi-head self-attention over a map, with rotary positions; keys have no bias.

    Args:
        dim: channels.
        num_heads: number of heads.
        qkv_bias: add biases to queries and values.
        qk_scale: factor of the logits; None = one over the square root of a head's channels.
        attn_head_dim: channels of a head; None = ``dim // num_heads``.
        rope: rotates queries and keys; None = no positions.
        xattn: ignored; configs use it to choose a memory-efficient kernel, which is always used here.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_head_dim: int | None = None,
        rope: VisionRotaryEmbeddingFast | None = None,
        xattn: bool = True,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        width = (attn_head_dim or dim // num_heads) * num_heads
        self.scale = qk_scale
        self.q_proj = nn.Linear(dim, width, bias=False)
        self.k_proj = nn.Linear(dim, width, bias=False)
        self.v_proj = nn.Linear(dim, width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width)) if qkv_bias else None
        self.v_bias = nn.Parameter(torch.zeros(width)) if qkv_bias else None
        self.rope = rope
        self.proj = nn.Linear(width, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, H, W, C] to the same shape."""
        flat = x.flatten(1, 2)
        q, k, v = (
            F.linear(flat, layer.weight, bias).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for layer, bias in ((self.q_proj, self.q_bias), (self.k_proj, None), (self.v_proj, self.v_bias))
        )  # each [N, heads, H * W, C / heads]
        if self.rope is not None:
            q, k = self.rope(q).to(v.dtype), self.rope(k).to(v.dtype)
        found = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.proj(found.transpose(1, 2).flatten(2)).unflatten(1, x.shape[1:3])


class Block(nn.Module):
    """Attention, optionally within windows, and SwiGLU, each with a norm before it and a shortcut around it.

    Args:
        dim: channels.
        num_heads: number of attention heads.
        mlp_ratio: hidden channels of SwiGLU divided by ``dim``.
        qkv_bias: add biases to queries and values.
        drop_path: rate of stochastic depth.
        norm_layer: class of the norms.
        window_size: side of the windows; 0 = attention over the whole map.
        use_residual_block: append a convolutional residual block.
        rope: rotary positions of the window, or of the map.
        xattn: see :class:`Attention`.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4 * 2 / 3,
        qkv_bias: bool = True,
        drop_path: float = 0.0,
        norm_layer: Norm = _LAYER_NORM,
        window_size: int = 0,
        use_residual_block: bool = False,
        rope: VisionRotaryEmbeddingFast | None = None,
        xattn: bool = True,
    ) -> None:
        super().__init__()
        self.norm1 = norm_layer(dim)
        self.attn = Attention(dim, num_heads, qkv_bias, rope=rope, xattn=xattn)
        self.drop_path = DropPath(drop_path)
        self.norm2 = norm_layer(dim)
        self.mlp = SwiGLU(dim, int(dim * mlp_ratio), norm_layer=norm_layer, subln=True)
        self.window_size = window_size
        self.use_residual_block = use_residual_block
        if use_residual_block:
            self.residual = ResBottleneckBlock(dim, dim, dim // 2, norm="LN")

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, H, W, C] to the same shape."""
        y = self.norm1(x)
        if self.window_size:
            size = (y.shape[1], y.shape[2])
            windows, padded = window_partition(y, self.window_size)
            y = window_unpartition(self.attn(windows), self.window_size, padded, size)
        else:
            y = self.attn(y)
        x = x + self.drop_path(y)
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        if self.use_residual_block:
            x = self.residual(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x


class ViT(Backbone):
    """The vision transformer of EVA-02, with one output map.

    Images must be padded to squares of ``img_size``, the size of the rotary position tables.

    Args:
        img_size: side of the images, in pixels.
        patch_size: side of a patch; also the stride of the output.
        in_chans: channels of the images.
        embed_dim: channels of the map.
        depth: number of blocks.
        num_heads: number of attention heads per block.
        mlp_ratio: hidden channels of SwiGLU divided by ``embed_dim``.
        qkv_bias: add biases to queries and values.
        drop_path_rate: stochastic depth rate of the last block; it grows linearly from 0.
        norm_layer: class of the norms.
        act_layer, use_rel_pos: unused; released configs set them.
        use_abs_pos: add learned absolute positions.
        rope: use rotary positions.
        pt_hw_seq_len: patches per side in pretraining.
        intp_freq: interpolate the rotary positions of pretraining to the window and the map.
        window_size: side of the windows, in patches.
        window_block_indexes: blocks that attend within windows; the others attend to the whole map.
        residual_block_indexes: blocks that end with a convolutional residual block.
        use_act_checkpoint: trade time for memory in training.
        pretrain_img_size: side of the images in pretraining, which sets the number of absolute positions.
        pretrain_use_cls_token: the absolute positions start with a class token, which is skipped.
        out_feature: name of the output.
        xattn: see :class:`Attention`.
    """

    def __init__(
        self,
        img_size: int = 1024,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4 * 2 / 3,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        norm_layer: Norm = _LAYER_NORM,
        act_layer: type[nn.Module] = nn.GELU,
        use_abs_pos: bool = True,
        use_rel_pos: bool = False,
        rope: bool = True,
        pt_hw_seq_len: int = 16,
        intp_freq: bool = True,
        window_size: int = 0,
        window_block_indexes: Sequence[int] = (),
        residual_block_indexes: Sequence[int] = (),
        use_act_checkpoint: bool = False,
        pretrain_img_size: int = 224,
        pretrain_use_cls_token: bool = True,
        out_feature: str = "last_feat",
        xattn: bool = True,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise BadValue(f"ViT: embed_dim ({embed_dim}) must be a multiple of num_heads ({num_heads})")
        self.pretrain_use_cls_token = pretrain_use_cls_token
        self.use_act_checkpoint = use_act_checkpoint
        patch = (patch_size, patch_size)
        self.patch_embed = PatchEmbed(patch, patch, in_chans=in_chans, embed_dim=embed_dim)
        self.pos_embed: nn.Parameter | None = None
        if use_abs_pos:
            positions = (pretrain_img_size // patch_size) ** 2 + int(pretrain_use_cls_token)
            self.pos_embed = nn.Parameter(torch.zeros(1, positions, embed_dim))
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.rope_win = self.rope_glb = None
        if rope:
            half = embed_dim // num_heads // 2
            sides = (window_size or None, img_size // patch_size) if intp_freq else (None, None)
            self.rope_win, self.rope_glb = (
                VisionRotaryEmbeddingFast(half, pt_hw_seq_len, side) for side in sides
            )
        rates = drop_path_rates(drop_path_rate, depth)
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                num_heads,
                mlp_ratio,
                qkv_bias,
                drop_path=rates[i],
                norm_layer=norm_layer,
                window_size=window_size if i in window_block_indexes else 0,
                use_residual_block=i in residual_block_indexes,
                rope=self.rope_win if i in window_block_indexes else self.rope_glb,
                xattn=xattn,
            )
            for i in range(depth)
        )
        self._out_features = [out_feature]
        self._out_feature_channels = {out_feature: embed_dim}
        self._out_feature_strides = {out_feature: patch_size}
        for block in self.blocks:
            for name, child in block.named_children():
                if name != "residual":  # keeps its own initialisation, an identity
                    child.apply(init_transformer)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute ``{out_feature: [N, embed_dim, H / patch_size, W / patch_size]}``."""
        x = self.patch_embed(x)  # [N, h, w, C]
        if self.pos_embed is not None:
            x = x + get_abs_pos(self.pos_embed, self.pretrain_use_cls_token, (x.shape[1], x.shape[2]))
        for block in self.blocks:
            x = run_block(block, self.use_act_checkpoint, x)
        return {self._out_features[0]: x.permute(0, 3, 1, 2)}


class SimpleFeaturePyramid(simple_pyramid.SimpleFeaturePyramid):
    """ViTDet's pyramid, which pads images only to its square.

    Args: see :class:`detectron2.modeling.SimpleFeaturePyramid`.
    """

    @property
    def size_divisibility(self) -> int:
        """0, because only the square matters."""
        return 0

    @property
    def padding_constraints(self) -> dict[str, int]:
        """``"square_size"``; 0 = no square."""
        return {"square_size": self._square_pad}
