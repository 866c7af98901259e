"""The decoder of MaskDINO: queries from the encoder's best proposals, which predict a class, a box and a mask each.

References: MaskDINO, https://arxiv.org/abs/2206.02777; denoising, https://arxiv.org/abs/2203.01305
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d
from detectron2.layers.weight_init import c2_xavier_fill
from detectron2.modeling.transformer import (
    MLP,
    best_proposals,
    encoder_proposals,
    flatten_levels,
    inverse_sigmoid,
    refine_boxes,
    select,
    valid_ratio,
)
from detectron2.utils.errors import BadValue

from .build import TRANSFORMER_DECODER_REGISTRY
from .config import by_cross_entropy
from .decoder_layers import DeformableTransformerDecoderLayer, TransformerDecoder
from .denoising import denoising_queries
from .predictions import as_outputs, boxes_of_masks

__all__ = ["MaskDINODecoder"]


class _Pixels(NamedTuple):
    """The pixels of all levels."""

    memory: Tensor  # [N, S, C]
    hidden: Tensor  # [N, S], True in padding
    shapes: list[tuple[int, int]]
    valid_ratios: Tensor  # [N, L, 2]


@TRANSFORMER_DECODER_REGISTRY.register()
class MaskDINODecoder(nn.Module):
    """Predict a class, a box and a mask from each of Q queries, after every layer.

    Args:
        in_channels: channels of the levels.
        mask_classification: predict a class for each mask; must be True.
        num_classes: classes, without "no object".
        hidden_dim: channels of queries.
        num_queries: queries.
        nheads: heads of attention.
        dim_feedforward: channels inside the feed-forward networks.
        dec_layers: layers.
        mask_dim: channels of the mask features.
        enforce_input_project: a convolution on each level even if ``in_channels`` is ``hidden_dim``.
        two_stage: take the encoder's best proposals as queries; otherwise all is learnt.
        dn: "no" for training without denoising queries.
        noise_scale: noise of their boxes in shares of the sides; half of it is the share of labels to replace.
        dn_num: denoising queries of an image, in groups of one for each object of the fullest image.
        initialize_box_type: "mask2box" and "bitmask" take the boxes of two-stage queries from their masks: from the
            first to the last pixel, or including the last one; "no" from the proposals.
        initial_pred: predict from the queries also before the first layer.
        learn_tgt: let two-stage queries begin with learnt content, rather than with the features of the proposals.
        total_num_feature_levels: levels of the pyramid.
        dropout: rate of dropout.
        activation: of the feed-forward networks.
        nhead: unused; see ``nheads``.
        dec_n_points: points of each head on each level.
        return_intermediate_dec: must be True.
        query_dim: must be 4.
        dec_layer_share: let all layers be the same one.
        semantic_ce_loss: predict one class more, "no object", for a loss by softmax.
    """

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
        mask_dim: int,
        enforce_input_project: bool,
        two_stage: bool,
        dn: str,
        noise_scale: float,
        dn_num: int,
        initialize_box_type: str,
        initial_pred: bool,
        learn_tgt: bool,
        total_num_feature_levels: int = 4,
        dropout: float = 0.0,
        activation: str = "relu",
        nhead: int = 8,
        dec_n_points: int = 4,
        return_intermediate_dec: bool = True,
        query_dim: int = 4,
        dec_layer_share: bool = False,
        semantic_ce_loss: bool = False,
    ) -> None:
        super().__init__()
        if not mask_classification or query_dim != 4:
            raise BadValue("MaskDINODecoder needs mask_classification=True and query_dim=4")
        if initialize_box_type not in ("no", "bitmask", "mask2box"):
            raise BadValue(
                f"initialize_box_type must be 'no', 'bitmask' or 'mask2box', got {initialize_box_type!r}"
            )
        self.num_classes = num_classes
        self.num_queries = num_queries
        self.num_layers = dec_layers
        self.num_feature_levels = total_num_feature_levels
        self.two_stage, self.learn_tgt, self.initial_pred = two_stage, learn_tgt, initial_pred
        self.initialize_box_type = initialize_box_type
        self.dn, self.noise_scale, self.dn_num = dn, noise_scale, dn_num

        project = in_channels != hidden_dim or enforce_input_project
        self.input_proj = nn.ModuleList(
            Conv2d(in_channels, hidden_dim, 1) if project else nn.Sequential()
            for _ in range(total_num_feature_levels)
        )
        self.input_proj.apply(lambda m: c2_xavier_fill(m) if isinstance(m, nn.Conv2d) else None)
        if not two_stage or learn_tgt:
            self.query_feat = nn.Embedding(num_queries, hidden_dim)
        if two_stage:
            self.enc_output = nn.Linear(hidden_dim, hidden_dim)
            self.enc_output_norm = nn.LayerNorm(hidden_dim)
        else:
            self.query_embed = nn.Embedding(num_queries, 4)  # log-odds of boxes
        self.class_embed = nn.Linear(hidden_dim, num_classes + int(semantic_ce_loss))
        self.label_enc = nn.Embedding(num_classes, hidden_dim)
        self.mask_embed = MLP(hidden_dim, hidden_dim, mask_dim, 3)
        self.decoder_norm = nn.LayerNorm(hidden_dim)
        layer = DeformableTransformerDecoderLayer(
            hidden_dim, dim_feedforward, dropout, activation, total_num_feature_levels, nheads, dec_n_points
        )
        self.decoder = TransformerDecoder(
            layer,
            dec_layers,
            self.decoder_norm,
            return_intermediate_dec,
            d_model=hidden_dim,
            dec_layer_share=dec_layer_share,
        )
        # One head of boxes for all layers, under the names that weights know.
        self._bbox_embed = MLP(hidden_dim, hidden_dim, 4, 3)
        for p in self._bbox_embed.layers[-1].parameters():
            nn.init.zeros_(p)
        self.bbox_embed = nn.ModuleList([self._bbox_embed] * dec_layers)
        self.decoder.bbox_embed = self.bbox_embed

    @classmethod
    def from_config(cls, cfg: CfgNode, in_channels: int, mask_classification: bool) -> dict[str, Any]:
        """Read ``MODEL.MaskDINO`` and ``MODEL.SEM_SEG_HEAD``."""
        node, head = cfg.MODEL.MaskDINO, cfg.MODEL.SEM_SEG_HEAD
        return {
            "in_channels": in_channels,
            "mask_classification": mask_classification,
            "num_classes": head.NUM_CLASSES,
            "hidden_dim": node.HIDDEN_DIM,
            "num_queries": node.NUM_OBJECT_QUERIES,
            "nheads": node.NHEADS,
            "dim_feedforward": node.DIM_FEEDFORWARD,
            "dec_layers": node.DEC_LAYERS,
            "mask_dim": head.MASK_DIM,
            "enforce_input_project": node.ENFORCE_INPUT_PROJ,
            "two_stage": node.TWO_STAGE,
            "dn": node.DN,
            "noise_scale": node.DN_NOISE_SCALE,
            "dn_num": node.DN_NUM,
            "initialize_box_type": node.INITIALIZE_BOX_TYPE,
            "initial_pred": node.INITIAL_PRED,
            "learn_tgt": node.LEARN_TGT,
            "total_num_feature_levels": head.TOTAL_NUM_FEATURE_LEVELS,
            "semantic_ce_loss": by_cross_entropy(cfg),
        }

    # --------------------------------------------------------------------------------------------------- denoising

    def prepare_for_dn(
        self,
        targets: Sequence[Mapping[str, Tensor]],
        tgt: Tensor | None,
        refpoint_emb: Tensor | None,
        batch_size: int,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, dict[str, Any] | None]:
        """Make denoising queries: copies of the objects with noise.

        Args:
            targets: for each image ``labels`` [T] and ``boxes`` [T, 4], centre and size in [0, 1].
            tgt: [N, Q, C] matching queries to put behind them; None for none.
            refpoint_emb: [N, Q, 4] log-odds of their boxes.
            batch_size: N.

        Returns:
            * [N, D, C] queries, 0 where an image has fewer objects than another, and ``tgt``;
            * [N, D, 4] log-odds of their boxes, and ``refpoint_emb``;
            * bool [D + Q, D + Q] mask of self-attention;
            * ``pad_size``, D, and ``scalar``, the number of groups.

            The arguments and None twice if there are no objects, or too many for one group.
        """
        number = self.dn_num if self.training else 0
        matching = self.num_queries if tgt is None else tgt.shape[1]
        made = denoising_queries(
            targets, self.label_enc, number, self.noise_scale, self.num_classes, matching
        )
        if made is None:
            return tgt, refpoint_emb, None, None
        queries, boxes, blind, layout = made
        if tgt is not None and refpoint_emb is not None:
            queries, boxes = torch.cat([queries, tgt], 1), torch.cat([boxes, refpoint_emb], 1)
        return queries, boxes, blind, layout

    def dn_post_process(
        self,
        outputs_class: Sequence[Tensor] | Tensor,
        outputs_coord: Sequence[Tensor] | Tensor,
        mask_dict: dict[str, Any],
        outputs_mask: Sequence[Tensor] | Tensor,
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Part denoising queries from the others, and put them into ``mask_dict["output_known_lbs_bboxes"]``.

        Args:
            outputs_class: [layers, N, D + Q, classes].
            outputs_coord: [layers, N, D + Q, 4].
            mask_dict: layout of the denoising queries.
            outputs_mask: [layers, N, D + Q, h, w].

        Returns:
            for each layer [N, Q, classes], [N, Q, 4] and [N, Q, h, w].
        """
        count = mask_dict["pad_size"]
        predicted = (outputs_class, outputs_coord, outputs_mask)
        known = [[layer[:, :count] for layer in layers] for layers in predicted]
        mask_dict["output_known_lbs_bboxes"] = as_outputs(*known)
        matching = [[layer[:, count:] for layer in layers] for layers in predicted]
        return matching[0], matching[1], matching[2]

    # -------------------------------------------------------------------------------------------------- prediction

    def get_valid_ratio(self, mask: Tensor) -> Tensor:
        """Measure how much of the width and height of maps is not padding; see :func:`.valid_ratio`."""
        return valid_ratio(mask)

    def forward_prediction_heads(
        self, output: Tensor, mask_features: Tensor, pred_mask: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Predict classes and masks.

        Args:
            output: [Q, N, C] queries.
            mask_features: [N, mask_dim, H, W].
            pred_mask: predict masks.

        Returns:
            Class logits [N, Q, classes] and mask logits [N, Q, H, W] or None.
        """
        queries = self.decoder_norm(output).transpose(0, 1)
        masks = None
        if pred_mask:
            masks = (self.mask_embed(queries) @ mask_features.flatten(2)).unflatten(
                2, mask_features.shape[-2:]
            )
        return self.class_embed(queries), masks

    def pred_box(
        self, reference: Sequence[Tensor], hs: Sequence[Tensor], ref0: Tensor | None = None
    ) -> Tensor:
        """Refine the boxes before each layer by the queries after it.

        Args:
            reference: boxes [N, Q, 4] in [0, 1] before the first layer, and after each.
            hs: for each layer the queries [N, Q, C] after it.
            ref0: boxes that come first in the result.

        Returns:
            [layers, N, Q, 4], one more with ``ref0``.
        """
        refined = [refine_boxes(head(h), r) for head, h, r in zip(self.bbox_embed, hs, reference[:-1])]
        return torch.stack(refined if ref0 is None else [ref0, *refined])

    def _flatten(self, x: Sequence[Tensor], masks: Sequence[Tensor] | None) -> _Pixels:
        """Bring levels to one axis, the last level first, as weights expect it."""
        levels = [project(level) for project, level in zip(self.input_proj, x)][::-1]
        if masks is None:
            hidden = [torch.zeros_like(level[:, 0], dtype=torch.bool) for level in levels]
        else:
            hidden = list(masks)[::-1]
        memory, shapes = flatten_levels(levels)
        ratios = torch.stack([self.get_valid_ratio(m) for m in hidden], 1)
        return _Pixels(memory, torch.cat([m.flatten(1) for m in hidden], 1), shapes, ratios)

    def _select_queries(
        self, pixels: _Pixels, mask_features: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Choose the encoder's best proposals.

        Returns:
            queries [N, Q, C], log-odds of their boxes [N, Q, 4], and what the proposals predict.
        """
        memory, proposals = encoder_proposals(pixels.memory, pixels.hidden, pixels.shapes)
        features = self.enc_output_norm(self.enc_output(memory))
        chosen = best_proposals(self.class_embed(features).amax(-1), self.num_queries)
        contents, odds = select(features, chosen), select(self._bbox_embed(features) + proposals, chosen)
        logits, masks = self.forward_prediction_heads(contents.transpose(0, 1), mask_features)
        assert masks is not None
        found = {"pred_logits": logits, "pred_boxes": odds.sigmoid(), "pred_masks": masks}
        boxes = odds.detach()
        if self.initialize_box_type != "no":
            boxes = inverse_sigmoid(boxes_of_masks(masks.detach(), self.initialize_box_type == "bitmask"))
        contents = contents.detach()
        if self.learn_tgt:
            contents = self.query_feat.weight[None, : chosen.shape[1]].expand(len(contents), -1, -1)
        return contents, boxes, found

    def forward(
        self,
        x: Sequence[Tensor],
        mask_features: Tensor,
        masks: Sequence[Tensor] | None,
        targets: Sequence[Mapping[str, Tensor]] | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Predict.

        Args:
            x: levels [N, in_channels, H_l, W_l].
            mask_features: [N, mask_dim, H, W].
            masks: for each level [N, H_l, W_l], True in padding; None: there is no padding.
            targets: ground truth, for denoising in training; see :meth:`prepare_for_dn`.

        Returns:
            * ``pred_logits`` [N, Q, classes], ``pred_boxes`` [N, Q, 4] (centre, size in [0, 1] of the padded images)
              and ``pred_masks`` [N, Q, H, W] of the last layer; ``aux_outputs``, a list of such dicts of the
              predictions before it, in evaluation without masks; in two stages ``interm_outputs``, that of the
              proposals;
            * layout and predictions of the denoising queries; None if there are none.
        """
        if len(x) != self.num_feature_levels:
            raise BadValue(f"the decoder takes {self.num_feature_levels} levels, got {len(x)}")
        pixels = self._flatten(x, masks)
        proposed = None
        if self.two_stage:
            queries, boxes, proposed = self._select_queries(pixels, mask_features)
        else:
            queries = self.query_feat.weight[None].expand(x[0].shape[0], -1, -1)
            boxes = self.query_embed.weight[None].expand(x[0].shape[0], -1, -1)
        blind = layout = None
        if self.training and self.dn != "no":
            if targets is None:
                raise BadValue("training with denoising needs targets")
            made = self.prepare_for_dn(targets, queries, boxes, len(queries))
            queries, boxes, blind, layout = made  # type: ignore[assignment]
        logits, places, shapes = self._predict(pixels, queries, boxes, mask_features, blind)
        if layout is not None:
            logits, places, shapes = self.dn_post_process(logits, places, layout, shapes)
        elif self.training:
            # Every parameter takes part in every step, which training on several processes relies on.
            logits[-1] = logits[-1] + 0.0 * self.label_enc.weight.sum()
        outputs = as_outputs(logits, places, shapes)
        if proposed is not None:
            outputs["interm_outputs"] = proposed
        return outputs, layout

    def _predict(
        self, pixels: _Pixels, queries: Tensor, boxes: Tensor, mask_features: Tensor, blind: Tensor | None
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Class logits, boxes and mask logits of every prediction, in evaluation masks of the last one only."""
        states, references = self.decoder(
            queries.transpose(0, 1),
            pixels.memory.transpose(0, 1),
            tgt_mask=blind,
            memory_key_padding_mask=pixels.hidden,
            refpoints_unsigmoid=boxes.transpose(0, 1),
            spatial_shapes=pixels.shapes,
            valid_ratios=pixels.valid_ratios,
        )
        first = boxes.sigmoid() if self.initial_pred else None
        places = self.pred_box(references, states, first)
        seen = [queries, *states] if self.initial_pred else states
        heads = [
            self.forward_prediction_heads(
                q.transpose(0, 1), mask_features, self.training or i == len(seen) - 1
            )
            for i, q in enumerate(seen)
        ]
        logits, masks = [h[0] for h in heads], [h[1] for h in heads]
        return logits, list(places), masks  # type: ignore[return-value]
