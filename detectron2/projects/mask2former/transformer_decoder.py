"""The transformer decoder with masked attention: each query attends only to the pixels of its last mask.

Reference: section 3.2 of Mask2Former, https://arxiv.org/abs/2112.01527
"""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d
from detectron2.layers.weight_init import c2_xavier_fill
from detectron2.modeling.transformer import MLP, PositionEmbeddingSine
from detectron2.utils.errors import BadValue
from detectron2.utils.registry import Registry

from ..point_rend.old_weights import rename_entries
from .transformer_layers import CrossAttentionLayer, FFNLayer, SelfAttentionLayer

__all__ = ["TRANSFORMER_DECODER_REGISTRY", "MultiScaleMaskedTransformerDecoder", "build_transformer_decoder"]

TRANSFORMER_DECODER_REGISTRY = Registry("TRANSFORMER_MODULE")
TRANSFORMER_DECODER_REGISTRY.__doc__ = """
Modules that turn pixel features into queries with a class and a mask. An entry is called with
``(cfg, in_channels, mask_classification)``.
"""


def build_transformer_decoder(cfg: CfgNode, in_channels: int, mask_classification: bool = True) -> nn.Module:
    """Build the decoder named by ``MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME``.

    Args:
        cfg: config with the keys of :func:`.add_maskformer2_config`.
        in_channels: channels of its input levels.
        mask_classification: predict a class for each mask.
    """
    name = cfg.MODEL.MASK_FORMER.TRANSFORMER_DECODER_NAME
    return TRANSFORMER_DECODER_REGISTRY.get(name)(cfg, in_channels, mask_classification)


@TRANSFORMER_DECODER_REGISTRY.register()
class MultiScaleMaskedTransformerDecoder(nn.Module):
    """Layers of masked cross-attention, self-attention and a feed-forward network, which cycle through three levels.

    The same heads predict classes and masks before the first layer and after every one.

    Args:
        in_channels: channels of the levels.
        mask_classification: predict a class for each mask; must be True.
        num_classes: number of classes, without "no object".
        hidden_dim: channels of queries.
        num_queries: number of queries.
        nheads: number of attention heads.
        dim_feedforward: hidden channels of the feed-forward networks.
        dec_layers: number of layers.
        pre_norm: apply norms before the layers instead of after.
        mask_dim: channels of the mask features.
        enforce_input_project: project each level with a convolution even if ``in_channels`` equals ``hidden_dim``.
    """

    _version = 2

    @configurable
    def __init__(
        self,
        in_channels: int,
        mask_classification: bool = True,
        *,
        num_classes: int,
        hidden_dim: int,
        num_queries: int,
        nheads: int,
        dim_feedforward: int,
        dec_layers: int,
        pre_norm: bool,
        mask_dim: int,
        enforce_input_project: bool,
    ) -> None:
        super().__init__()
        if not mask_classification:
            raise BadValue(
                "MultiScaleMaskedTransformerDecoder only classifies masks: set mask_classification=True"
            )
        self.mask_classification = mask_classification
        self.num_heads = nheads
        self.num_layers = dec_layers
        self.num_queries = num_queries
        self.num_feature_levels = 3
        self.pe_layer = PositionEmbeddingSine(hidden_dim // 2, normalize=True)
        shared: dict[str, Any] = {"dropout": 0.0, "normalize_before": pre_norm}
        self.transformer_self_attention_layers = nn.ModuleList(
            SelfAttentionLayer(hidden_dim, nheads, **shared) for _ in range(dec_layers)
        )
        self.transformer_cross_attention_layers = nn.ModuleList(
            CrossAttentionLayer(hidden_dim, nheads, **shared) for _ in range(dec_layers)
        )
        self.transformer_ffn_layers = nn.ModuleList(
            FFNLayer(hidden_dim, dim_feedforward, **shared) for _ in range(dec_layers)
        )
        self.decoder_norm = nn.LayerNorm(hidden_dim)
        self.query_feat = nn.Embedding(num_queries, hidden_dim)
        self.query_embed = nn.Embedding(num_queries, hidden_dim)
        self.level_embed = nn.Embedding(self.num_feature_levels, hidden_dim)
        project = in_channels != hidden_dim or enforce_input_project
        self.input_proj = nn.ModuleList(
            Conv2d(in_channels, hidden_dim, 1) if project else nn.Sequential()
            for _ in range(self.num_feature_levels)
        )
        if project:
            self.input_proj.apply(lambda m: c2_xavier_fill(m) if isinstance(m, nn.Conv2d) else None)
        self.class_embed = nn.Linear(hidden_dim, num_classes + 1)
        self.mask_embed = MLP(hidden_dim, hidden_dim, mask_dim, 3)

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: int, mask_classification: bool) -> dict[str, Any]:
        """Read ``MODEL.MASK_FORMER``; one of its ``DEC_LAYERS`` is the prediction before the first layer."""
        node = cfg.MODEL.MASK_FORMER
        if node.DEC_LAYERS < 1:
            raise BadValue(f"MODEL.MASK_FORMER.DEC_LAYERS must be at least 1, got {node.DEC_LAYERS}")
        return {
            "in_channels": in_channels,
            "mask_classification": mask_classification,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "hidden_dim": node.HIDDEN_DIM,
            "num_queries": node.NUM_OBJECT_QUERIES,
            "nheads": node.NHEADS,
            "dim_feedforward": node.DIM_FEEDFORWARD,
            "dec_layers": node.DEC_LAYERS - 1,
            "pre_norm": node.PRE_NORM,
            "mask_dim": cfg.MODEL.SEM_SEG_HEAD.MASK_DIM,
            "enforce_input_project": node.ENFORCE_INPUT_PROJ,
        }

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        if (local_metadata.get("version") or 1) < 2:
            rename_entries(state_dict, prefix, {"static_query": "query_feat"})
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def forward(
        self, x: Sequence[Tensor], mask_features: Tensor, mask: Tensor | None = None
    ) -> dict[str, Any]:
        """Predict classes and masks.

        Args:
            x: three levels [N, in_channels, H_l, W_l], coarsest first.
            mask_features: [N, mask_dim, H, W].
            mask: unused; padding is not masked.

        Returns:
            ``pred_logits`` [N, Q, classes + 1] and ``pred_masks`` [N, Q, H, W], logits of the last layer, and
            ``aux_outputs``, a list of such dicts of the earlier predictions.
        """
        if len(x) != self.num_feature_levels:
            raise BadValue(f"the decoder needs {self.num_feature_levels} levels, got {len(x)}")
        sizes = [(level.shape[2], level.shape[3]) for level in x]
        pixels, positions = [], []
        for i, level in enumerate(x):
            flat = self.input_proj[i](level).flatten(2) + self.level_embed.weight[i][:, None]
            pixels.append(flat.permute(2, 0, 1))  # [H_l * W_l, N, C]
            positions.append(self.pe_layer(level).flatten(2).permute(2, 0, 1))
        n = x[0].shape[0]
        query_pos = self.query_embed.weight[:, None].expand(-1, n, -1)
        queries = self.query_feat.weight[:, None].expand(-1, n, -1)

        logits, masks, forbidden = self.forward_prediction_heads(queries, mask_features, sizes[0])
        predictions = [{"pred_logits": logits, "pred_masks": masks}]
        for i in range(self.num_layers):
            turn = i % self.num_feature_levels
            queries = self.transformer_cross_attention_layers[i](
                queries, pixels[turn], memory_mask=forbidden, pos=positions[turn], query_pos=query_pos
            )
            queries = self.transformer_self_attention_layers[i](queries, query_pos=query_pos)
            queries = self.transformer_ffn_layers[i](queries)
            following = sizes[(i + 1) % self.num_feature_levels]
            logits, masks, forbidden = self.forward_prediction_heads(queries, mask_features, following)
            predictions.append({"pred_logits": logits, "pred_masks": masks})
        *earlier, last = predictions
        return {**last, "aux_outputs": earlier}

    def forward_prediction_heads(
        self, output: Tensor, mask_features: Tensor, attn_mask_target_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predict from queries, and compute the attention mask of the next layer.

        Args:
            output: [Q, N, C] queries.
            mask_features: [N, mask_dim, H, W].
            attn_mask_target_size: height and width of the level to attend to next.

        Returns:
            Class logits [N, Q, classes + 1], mask logits [N, Q, H, W], and bool [N * heads, Q, pixels of the level],
            where True masks a pixel for a query. A query without any pixel left attends to all.
        """
        queries = self.decoder_norm(output).transpose(0, 1)
        masks = (self.mask_embed(queries) @ mask_features.flatten(2)).unflatten(2, mask_features.shape[-2:])
        resized = F.interpolate(
            masks.detach(), size=attn_mask_target_size, mode="bilinear", align_corners=False
        )
        forbidden = resized.flatten(2).sigmoid() < 0.5
        forbidden = forbidden & ~forbidden.all(-1, keepdim=True)
        heads = forbidden[:, None].expand(-1, self.num_heads, -1, -1)
        return self.class_embed(queries), masks, heads.flatten(0, 1)
