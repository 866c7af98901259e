"""Convert classified masks to instances, label maps and panoptic segments.

Q queries with class probabilities [Q, classes], without "no object", and mask logits [Q, H, W]. All shapes are fixed,
so that these functions can be part of a graph.

Reference: section 3.3 of MaskFormer, https://arxiv.org/abs/2107.06278
"""

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["TopMasks", "semantic_scores", "top_masks", "winning_segments"]


def semantic_scores(probabilities: Tensor, masks: Tensor) -> Tensor:
    """Sum class probability times mask probability over all queries, for each class and pixel.

    Args:
        probabilities: [Q, classes].
        masks: [Q, H, W] logits.

    Returns:
        [classes, H, W].
    """
    return (probabilities.T @ masks.sigmoid().flatten(1)).unflatten(1, masks.shape[1:])


class TopMasks(NamedTuple):
    """The best pairs of a query and a class, D of them.

    Attributes:
        scores: [D] probability of the class.
        certainty: [D] mean probability inside the mask.
        classes: [D].
        queries: [D].
        masks: bool [D, H, W].
    """

    scores: Tensor
    certainty: Tensor
    classes: Tensor
    queries: Tensor
    masks: Tensor


def top_masks(probabilities: Tensor, masks: Tensor, count: int) -> TopMasks:
    """Choose the pairs of a query and a class with the highest probability of the class.

    Args:
        probabilities: [Q, classes].
        masks: [Q, H, W] logits.
        count: largest number of pairs.
    """
    scores, index = probabilities.flatten().topk(min(count, probabilities.numel()))
    queries = index // probabilities.shape[1]
    logits = masks[queries]
    inside = logits > 0
    total = (logits.sigmoid() * inside).flatten(1).sum(1)
    certainty = total / (inside.flatten(1).sum(1) + 1e-6)
    return TopMasks(scores, certainty, index % probabilities.shape[1], queries, inside)


def winning_segments(
    scores: Tensor,
    classes: Tensor,
    masks: Tensor,
    wanted: Tensor,
    is_thing: Tensor,
    overlap_threshold: float,
) -> tuple[Tensor, Tensor]:
    """Assign every pixel to one query, and drop queries that lose most of their mask.

    All regions of a stuff class form one segment, each thing its own. Segments are numbered from 1 in the order of the
    queries.

    Args:
        scores: [Q] scores of the queries.
        classes: [Q] classes of the queries.
        masks: [Q, H, W] probabilities.
        wanted: bool [Q]; other queries get no pixel.
        is_thing: bool [Q], whether the query's class is a thing.
        overlap_threshold: minimum fraction of its pixels with a probability of at least 0.5 that a query must win.

    Returns:
        int32 [H, W] segment numbers, 0 = none; and [Q] the segment of each query, 0 = none.
    """
    q = scores.shape[0]
    if q == 0:
        return torch.zeros(masks.shape[1:], dtype=torch.int32, device=masks.device), classes.to(torch.int32)
    rank = torch.where(wanted[:, None, None], scores[:, None, None] * masks, -1.0)
    winner = rank.argmax(0)  # [H, W]
    solid = masks >= 0.5
    sure = solid.gather(0, winner[None])[0]  # whether the winner's mask holds the pixel
    counts = torch.zeros((2, q), dtype=torch.int64, device=masks.device)
    won = counts[0].scatter_add(0, winner.flatten(), torch.ones_like(winner.flatten()))
    kept_pixels = counts[1].scatter_add(0, winner.flatten(), sure.flatten().to(torch.int64))
    area = solid.flatten(1).sum(1)
    kept = wanted & (kept_pixels > 0) & (won >= overlap_threshold * area)
    # Stuff joins the first kept query of its class.
    same = (classes[:, None] == classes) & ~is_thing & kept  # [Q, Q]
    first = torch.where(is_thing, torch.arange(q, device=masks.device), same.to(torch.uint8).argmax(1))
    opens = kept & (first == torch.arange(q, device=masks.device))
    segment = torch.where(kept, opens.cumsum(0)[first], 0).to(torch.int32)
    return torch.where(sure, segment[winner], 0), segment
