"""Denoising queries: copies of the objects with noise, from which the decoder learns to find the objects again.

References: DN-DETR, https://arxiv.org/abs/2203.01305; with negatives, DINO, https://arxiv.org/abs/2203.03605
"""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import torch
from torch import Tensor, nn

from detectron2.modeling.transformer import (
    apply_box_noise,
    apply_label_noise,
    box_cxcywh_to_xyxy,
    box_xyxy_to_cxcywh,
    group_mask,
    places_in_groups,
)

from .functions import inverse_sigmoid

__all__ = ["ContrastiveGroups", "GenerateDNQueries", "contrastive_queries"]


class GenerateDNQueries(nn.Module):
    """Makes denoising queries as DN-DETR has them.

    Args:
        num_queries: matching queries.
        num_classes: number of classes.
        label_embed_dim: channels of queries.
        denoising_groups: copies of the objects.
        label_noise_prob: share of labels to replace.
        box_noise_scale: see :func:`apply_box_noise`.
        with_indicator: let the last channel be 1 for denoising queries.
    """

    def __init__(
        self,
        num_queries: int = 300,
        num_classes: int = 80,
        label_embed_dim: int = 256,
        denoising_groups: int = 5,
        label_noise_prob: float = 0.2,
        box_noise_scale: float = 0.4,
        with_indicator: bool = False,
    ) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.num_classes = num_classes
        self.label_embed_dim = label_embed_dim
        self.denoising_groups = denoising_groups
        self.label_noise_prob = label_noise_prob
        self.box_noise_scale = box_noise_scale
        self.with_indicator = with_indicator
        self.label_encoder = nn.Embedding(num_classes, label_embed_dim - int(with_indicator))

    def generate_query_masks(self, max_gt_num_per_image: int, device: torch.device | str) -> Tensor:
        """See :func:`group_mask`."""
        return group_mask(self.denoising_groups, max_gt_num_per_image, self.num_queries, device)

    def forward(
        self, gt_labels_list: Sequence[Tensor], gt_boxes_list: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, int, int]:
        """Make queries.

        Args:
            gt_labels_list: labels [T] of each image.
            gt_boxes_list: boxes [T, 4] (centre, size in [0, 1]) of each image.

        Returns:
            * [N, D, C] queries; zero where an image has fewer objects than another.
            * [N, D, 4] log-odds of their boxes.
            * [D + Q, D + Q] mask of self-attention.
            * number of groups.
            * size of each.
        """
        counts, groups = [len(labels) for labels in gt_labels_list], self.denoising_groups
        labels = apply_label_noise(
            torch.cat(list(gt_labels_list)).repeat(groups), self.label_noise_prob, self.num_classes
        )
        boxes = apply_box_noise(torch.cat(list(gt_boxes_list)).repeat(groups, 1), self.box_noise_scale)
        queries = self.label_encoder(labels)
        if self.with_indicator:
            queries = torch.cat([queries, queries.new_ones(len(queries), 1)], -1)
        size = max(counts)
        places = places_in_groups(counts, groups, size, labels.device)
        label_queries = queries.new_zeros(len(counts), groups * size, self.label_embed_dim)
        box_queries = boxes.new_zeros(len(counts), groups * size, 4)
        label_queries = label_queries.index_put(places, queries)
        box_queries = box_queries.index_put(places, inverse_sigmoid(boxes))
        return label_queries, box_queries, self.generate_query_masks(size, labels.device), groups, size


class ContrastiveGroups(TypedDict):
    """How contrastive denoising queries are laid out: ``dn_num`` groups of ``single_padding`` queries."""

    single_padding: int
    dn_num: int


def contrastive_queries(
    targets: Sequence[Mapping[str, Tensor]],
    label_enc: nn.Module,
    number: int,
    label_noise_ratio: float,
    box_noise_scale: float,
    num_queries: int,
    num_classes: int,
) -> tuple[Tensor, Tensor, Tensor, ContrastiveGroups] | None:
    """Make groups of positive copies of the objects with little noise and negative ones with more.

    Args:
        targets: for each image ``labels`` [T] and ``boxes`` [T, 4] (centre, size in [0, 1]).
        label_enc: from labels to queries.
        number: positive queries for each image, at least one group of them.
        label_noise_ratio: half of it is the share of labels to replace.
        box_noise_scale: positives move each corner by up to this share of half the size, negatives by once to twice.
        num_queries: matching queries.
        num_classes: number of classes.

    Returns:
        queries [N, D, C], log-odds of boxes [N, D, 4], mask of self-attention, and the layout; None without objects.
    """
    counts = [len(t["labels"]) for t in targets]
    most = max(counts, default=0)
    if number <= 0 or most == 0:
        return None
    groups = max(1, number // most)
    labels = torch.cat([t["labels"] for t in targets]).repeat(2 * groups)
    boxes = torch.cat([t["boxes"] for t in targets]).repeat(2 * groups, 1)
    labels = apply_label_noise(labels, label_noise_ratio / 2, num_classes)
    if box_noise_scale > 0:
        negative = torch.arange(2 * groups, device=boxes.device).repeat_interleave(sum(counts)) % 2
        sign = torch.randint_like(boxes, 0, 2) * 2 - 1
        share = (torch.rand_like(boxes) + negative[:, None]) * sign
        half = boxes[:, 2:].repeat(1, 2) / 2
        boxes = box_xyxy_to_cxcywh((box_cxcywh_to_xyxy(boxes) + share * half * box_noise_scale).clamp(0, 1))
    places = places_in_groups(counts, 2 * groups, most, labels.device)
    queries = label_enc(labels)
    shape = (len(counts), 2 * groups * most)
    label_queries = queries.new_zeros(*shape, queries.shape[-1]).index_put(places, queries)
    box_queries = boxes.new_zeros(*shape, 4).index_put(places, inverse_sigmoid(boxes))
    layout: ContrastiveGroups = {"single_padding": 2 * most, "dn_num": groups}
    return label_queries, box_queries, group_mask(groups, 2 * most, num_queries, labels.device), layout
