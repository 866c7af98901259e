"""Plain vision transformer as a backbone.

Source: Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection" (ViTDet), arXiv 2203.16527.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from detectron2.layers import CNNBlockBase, Conv2d, get_norm
from detectron2.layers.weight_init import c2_msra_fill
from detectron2.utils.errors import BadValue
from detectron2.utils.reexports import passed_on, publish

from ._resnet_blocks import Norm
from .backbone import Backbone
from .simple_pyramid import SimpleFeaturePyramid
from .transformer import DropPath, Layer, Mlp, drop_path_rates, init_transformer, run_block
from .utils import PatchEmbed, decomposed_rel_pos, fresh, get_abs_pos, window_partition, window_unpartition

__all__ = ["SimpleFeaturePyramid", "ViT", "get_vit_lr_decay_rate"]

__getattr__ = passed_on(__name__)
publish(__name__, SimpleFeaturePyramid)


class Attention(nn.Module):
    """Multi-head self-attention over a map, with optional relative positions.

    Args:
        dim: channels.
        num_heads: heads; must divide ``dim``.
        qkv_bias: whether queries, keys and values have biases.
        use_rel_pos: whether to learn relative position embeddings, decomposed by axis.
        rel_pos_zero_init: whether to initialise them with zeros.
        input_size: (H, W) for which the positions are created; they are interpolated for other sizes.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        qkv_bias: bool = True,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise BadValue(f"attention: dim ({dim}) must be a multiple of num_heads ({num_heads})")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.use_rel_pos = use_rel_pos
        if use_rel_pos:
            if input_size is None:
                raise BadValue("attention: relative positions need input_size=(H, W)")
            self.rel_pos_h = nn.Parameter(torch.zeros(2 * input_size[0] - 1, dim // num_heads))
            self.rel_pos_w = nn.Parameter(torch.zeros(2 * input_size[1] - 1, dim // num_heads))
            if not rel_pos_zero_init:
                nn.init.trunc_normal_(self.rel_pos_h, std=0.02)
                nn.init.trunc_normal_(self.rel_pos_w, std=0.02)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, H, W, C) to the same shape."""
        b, h, w, c = x.shape
        qkv = self.qkv(x).view(b, h * w, 3, self.num_heads, c // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, H * W, C / heads)
        bias = None
        if self.use_rel_pos:
            flat = decomposed_rel_pos(q.flatten(0, 1), self.rel_pos_h, self.rel_pos_w, (h, w), (h, w))
            bias = flat.view(b, self.num_heads, h * w, h * w)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(fresh(x.transpose(1, 2)).view(b, h, w, c))


class ResBottleneckBlock(CNNBlockBase):
    """A convolutional residual block, initialised to the identity, that propagates information between windows.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; equal to ``in_channels``.
        bottleneck_channels: channels of the 3x3 convolution.
        norm: normalisation after each convolution.
        act_layer: class of the activation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bottleneck_channels: int,
        norm: Norm = "LN",
        act_layer: Layer = nn.GELU,
    ) -> None:
        super().__init__(in_channels, out_channels, 1)
        mid = bottleneck_channels
        for i, (c_in, c_out, kernel) in enumerate(
            ((in_channels, mid, 1), (mid, mid, 3), (mid, out_channels, 1)), 1
        ):
            self.add_module(f"conv{i}", Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False))
            self.add_module(f"norm{i}", get_norm(norm, c_out))
            if i < 3:
                self.add_module(f"act{i}", act_layer())
        for i in (1, 2, 3):
            c2_msra_fill(self.get_submodule(f"conv{i}"))
        last = self.get_submodule("norm3")
        if isinstance(getattr(last, "weight", None), torch.Tensor):
            nn.init.zeros_(last.weight)  # type: ignore[arg-type]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to the same shape."""
        y = x
        for layer in self.children():
            y = layer(y)
        return x + y


class Block(nn.Module):
    """Global or windowed attention and an MLP, both with pre-norm and a shortcut.

    Args:
        dim: channels.
        num_heads: attention heads.
        mlp_ratio: hidden size of the MLP divided by ``dim``.
        qkv_bias: whether queries, keys and values have biases.
        drop_path: rate of stochastic depth.
        norm_layer: class of the norms.
        act_layer: class of the activations.
        use_rel_pos: whether to learn relative position embeddings.
        rel_pos_zero_init: whether to initialise them with zeros.
        window_size: side of the windows; 0 = attend to the whole map.
        use_residual_block: whether to add a :class:`ResBottleneckBlock` at the end.
        input_size: (H, W) of the map for which the positions are created.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path: float = 0.0,
        norm_layer: Layer = nn.LayerNorm,
        act_layer: Layer = nn.GELU,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        window_size: int = 0,
        use_residual_block: bool = False,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = norm_layer(dim)
        extent = (window_size, window_size) if window_size else input_size
        self.attn = Attention(dim, num_heads, qkv_bias, use_rel_pos, rel_pos_zero_init, extent)
        self.drop_path = DropPath(drop_path)
        self.norm2 = norm_layer(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), act_layer=act_layer)
        self.window_size = window_size
        self.use_residual_block = use_residual_block
        if use_residual_block:
            self.residual = ResBottleneckBlock(dim, dim, dim // 2, norm="LN", act_layer=act_layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, H, W, C) to the same shape."""
        y = self.norm1(x)
        if self.window_size:
            hw = (y.shape[1], y.shape[2])
            windows, padded = window_partition(y, self.window_size)
            y = window_unpartition(self.attn(windows), self.window_size, padded, hw)
        else:
            y = self.attn(y)
        x = x + self.drop_path(y)
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        if self.use_residual_block:
            x = self.residual(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x


class ViT(Backbone):
    """Vision transformer with one output map and optional windowed attention.

    Args:
        img_size: side, in pixels, of the images for which relative positions are created.
        patch_size: side of a patch; also the stride of the output.
        in_chans: channels of the images.
        embed_dim: channels of the map.
        depth: number of blocks.
        num_heads: attention heads of each block.
        mlp_ratio: hidden size of the MLPs divided by ``embed_dim``.
        qkv_bias: whether queries, keys and values have biases.
        drop_path_rate: stochastic depth rate of the last block; rates grow linearly from 0.
        norm_layer: class of the norms.
        act_layer: class of the activations.
        use_abs_pos: whether to learn absolute position embeddings.
        use_rel_pos: whether to learn relative position embeddings.
        rel_pos_zero_init: whether to initialise relative positions with zeros.
        window_size: side of the windows, in patches.
        window_block_indexes: blocks that attend within windows; the others attend to the whole map.
        residual_block_indexes: blocks that end with a convolutional residual block.
        use_act_checkpoint: recompute activations in the backward pass, which saves memory and costs time.
        pretrain_img_size: side of the pretraining images, which defines the number of absolute positions.
        pretrain_use_cls_token: whether the first absolute position belongs to a class token; it is skipped.
        out_feature: name of the output.
    """

    def __init__(
        self,
        img_size: int = 1024,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop_path_rate: float = 0.0,
        norm_layer: Layer = nn.LayerNorm,
        act_layer: Layer = nn.GELU,
        use_abs_pos: bool = True,
        use_rel_pos: bool = False,
        rel_pos_zero_init: bool = True,
        window_size: int = 0,
        window_block_indexes: Sequence[int] = (),
        residual_block_indexes: Sequence[int] = (),
        use_act_checkpoint: bool = False,
        pretrain_img_size: int = 224,
        pretrain_use_cls_token: bool = True,
        out_feature: str = "last_feat",
    ) -> None:
        super().__init__()
        self.pretrain_use_cls_token = pretrain_use_cls_token
        self.use_act_checkpoint = use_act_checkpoint
        patch = (patch_size, patch_size)
        self.patch_embed = PatchEmbed(patch, patch, in_chans=in_chans, embed_dim=embed_dim)
        self.pos_embed: nn.Parameter | None = None
        if use_abs_pos:
            positions = (pretrain_img_size // patch_size) ** 2 + int(pretrain_use_cls_token)
            self.pos_embed = nn.Parameter(torch.zeros(1, positions, embed_dim))
        side = img_size // patch_size
        self.blocks = nn.ModuleList(
            Block(
                embed_dim,
                num_heads,
                mlp_ratio=mlp_ratio,
                qkv_bias=qkv_bias,
                drop_path=rate,
                norm_layer=norm_layer,
                act_layer=act_layer,
                use_rel_pos=use_rel_pos,
                rel_pos_zero_init=rel_pos_zero_init,
                window_size=window_size if i in window_block_indexes else 0,
                use_residual_block=i in residual_block_indexes,
                input_size=(side, side),
            )
            for i, rate in enumerate(drop_path_rates(drop_path_rate, depth))
        )
        self._out_features = [out_feature]
        self._out_feature_channels = {out_feature: embed_dim}
        self._out_feature_strides = {out_feature: patch_size}
        if self.pos_embed is not None:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        # Residual blocks stay the identity, because init_transformer does not touch their types of layers.
        self.apply(self._init_weights)

    def _init_weights(self, m: nn.Module) -> None:
        """Initialise one module."""
        init_transformer(m)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute ``{out_feature: (N, embed_dim, H / patch_size, W / patch_size)}``."""
        x = self.patch_embed(x)  # (N, h, w, C)
        if self.pos_embed is not None:
            x = x + get_abs_pos(self.pos_embed, self.pretrain_use_cls_token, (x.shape[1], x.shape[2]))
        for block in self.blocks:
            x = run_block(block, self.use_act_checkpoint, x)
        return {self._out_features[0]: x.permute(0, 3, 1, 2)}


def get_vit_lr_decay_rate(name: str, lr_decay_rate: float = 1.0, num_layers: int = 12) -> float:
    """Compute the layer-wise decay factor on the learning rate of a parameter.

    Layer 0 holds the patch embedding and positions, layers 1 to ``num_layers`` the blocks, and layer
    ``num_layers + 1`` everything else, including the convolutional residual blocks, which are not pretrained.

    Args:
        name: name of the parameter in a model whose ``backbone`` holds the network.
        lr_decay_rate: factor per layer.
        num_layers: number of blocks.

    Returns:
        ``lr_decay_rate ** (num_layers + 1 - layer)``.
    """
    layer = num_layers + 1
    if name.startswith("backbone"):
        if ".pos_embed" in name or ".patch_embed" in name:
            layer = 0
        elif ".blocks." in name and ".residual." not in name:
            layer = 1 + int(name.split(".blocks.", 1)[1].split(".", 1)[0])
    return lr_decay_rate ** (num_layers + 1 - layer)
