"""Deformable DETR, plain, with refinement of boxes, or in two stages.

Reference: https://arxiv.org/abs/2010.04159
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from detectron2.structures import Instances
from detectron2.structures.types import ModelInput

from .decoder import refined
from .detr import DeformableDetector

__all__ = ["DeformableDETR"]


class DeformableDETR(DeformableDetector):
    """Detection by queries that look at a few points of every level.

    Args:
        backbone: from images [N, C, H, W] to named maps.
        position_embedding: from masks [N, H, W] to positions [N, embed_dim, H, W].
        neck: from named maps to a list of maps [N, embed_dim, H_l, W_l].
        transformer: the transformer.
        embed_dim: channels of queries.
        num_classes: number of classes.
        num_queries: number of queries.
        criterion: losses, with ``weight_dict``.
        pixel_mean: mean of each channel.
        pixel_std: standard deviation of each channel.
        aux_loss: also compute the losses of the layers before the last.
        with_box_refine: let each layer refine the boxes of the one before, with heads of its own.
        as_two_stage: let the encoder propose the boxes of the queries.
        select_box_nums_for_evaluation: detections per image.
        device: unused; the model runs where its weights are.
    """

    def __init__(
        self,
        backbone: nn.Module,
        position_embedding: nn.Module,
        neck: nn.Module,
        transformer: nn.Module,
        embed_dim: int,
        num_classes: int,
        num_queries: int,
        criterion: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        aux_loss: bool = True,
        with_box_refine: bool = False,
        as_two_stage: bool = False,
        select_box_nums_for_evaluation: int = 100,
        device: str = "cuda",
    ) -> None:
        super().__init__(
            backbone,
            position_embedding,
            neck,
            transformer,
            embed_dim,
            num_classes,
            num_queries,
            criterion,
            pixel_mean,
            pixel_std,
            aux_loss,
            select_box_nums_for_evaluation,
        )
        self.with_box_refine = with_box_refine
        self.as_two_stage = as_two_stage
        if not as_two_stage:
            self.query_embedding = nn.Embedding(num_queries, embed_dim * 2)
        decoder: Any = transformer.decoder
        self._set_heads(decoder.num_layers + int(as_two_stage), shared=not with_box_refine)
        if not as_two_stage:
            # Boxes begin small: exp(-2), about an eighth of the odds.
            first: Any = self.bbox_embed[0]
            nn.init.constant_(first.layers[-1].bias[2:], -2.0)
        if with_box_refine:
            decoder.bbox_embed = self.bbox_embed
        if as_two_stage:
            decoder.class_embed = self.class_embed
            decoder.bbox_embed = self.bbox_embed

    def forward(self, batched_inputs: list[ModelInput]) -> dict[str, Tensor] | list[dict[str, Instances]]:
        """Compute losses in training; predict in evaluation.

        Args:
            batched_inputs: for each image a dict with ``image`` [C, H, W], in training ``instances``, and optionally
                ``height`` and ``width``, the requested output size.

        Returns:
            In training a dict from names to scalar losses, weighted. In evaluation for each image a dict whose
            ``instances`` have ``pred_boxes``, ``scores`` and ``pred_classes``.
        """
        images, levels = self._levels(batched_inputs)
        logits, boxes, proposed, odds = self._decode(levels)
        outputs = self._outputs(logits, boxes)
        if not self.training:
            return self._detections(outputs, images, batched_inputs)
        if proposed is not None and odds is not None:
            outputs["enc_outputs"] = {"pred_logits": proposed, "pred_boxes": odds.sigmoid()}
        return self._weighted(self.criterion(outputs, self._targets(batched_inputs)))

    def decode(self, levels: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
        """Predict from maps, masks and positions of the levels."""
        return self._decode(levels)[:2]

    def _decode(self, levels: list[list[Tensor]]) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Logits and boxes of all layers; in two stages also logits and log-odds of boxes of all proposals."""
        learnt = None if self.as_two_stage else self.query_embedding.weight
        states, first, later, proposed, odds = self.transformer(*levels, learnt)
        before: list[Tensor] = [first, *later[:-1]]
        logits = [head(state) for head, state in zip(self.class_embed, states)]
        boxes = [refined(head(s), ref) for head, s, ref in zip(self.bbox_embed, states, before)]
        return torch.stack(logits), torch.stack(boxes), proposed, odds
