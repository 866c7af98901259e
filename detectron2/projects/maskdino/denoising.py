"""Denoising queries: copies of the objects with noise, which also have masks.

References: MaskDINO, https://arxiv.org/abs/2206.02777; DN-DETR, https://arxiv.org/abs/2203.01305
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from detectron2.modeling.transformer import (
    apply_box_noise,
    apply_label_noise,
    group_mask,
    inverse_sigmoid,
    places_in_groups,
)

__all__ = ["denoising_queries"]


def denoising_queries(
    targets: Sequence[Mapping[str, Tensor]],
    label_enc: nn.Module,
    number: int,
    noise_scale: float,
    num_classes: int,
    num_queries: int,
) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]] | None:
    """Make groups of copies of the objects.

    Args:
        targets: for each image ``labels`` [T] and ``boxes`` [T, 4], centre and size in [0, 1].
        label_enc: from labels to queries.
        number: queries of an image at most; as many groups as fit are made, each with room for the fullest image.
        noise_scale: centres move by up to this share of half the size, sizes by up to this share; half of it is the
            share of labels to replace.
        num_classes: number of classes.
        num_queries: matching queries, which come behind.

    Returns:
        queries [N, D, C], zero where an image has fewer objects than another; log-odds of their boxes [N, D, 4]; bool
        [D + Q, D + Q] mask of self-attention; and the layout, ``pad_size`` = D and ``scalar``, the number of groups.
        None if there are no objects, or too many for a group.
    """
    counts = [len(t["labels"]) for t in targets]
    most = max(counts, default=0)
    groups = number // most if most else 0
    if groups == 0:
        return None
    labels = torch.cat([t["labels"] for t in targets]).repeat(groups)
    boxes = torch.cat([t["boxes"] for t in targets]).repeat(groups, 1)
    contents = label_enc(apply_label_noise(labels, noise_scale / 2, num_classes))
    odds = inverse_sigmoid(apply_box_noise(boxes, noise_scale))
    places = places_in_groups(counts, groups, most, labels.device)
    shape = (len(counts), groups * most)
    queries = contents.new_zeros(*shape, contents.shape[-1]).index_put(places, contents)
    box_queries = odds.new_zeros(*shape, 4).index_put(places, odds)
    layout = {"pad_size": groups * most, "scalar": groups}
    return queries, box_queries, group_mask(groups, most, num_queries, labels.device), layout
