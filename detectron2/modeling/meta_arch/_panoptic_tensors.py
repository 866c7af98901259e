"""Merging of instances and semantic labels into panoptic segments, in a form that a graph can hold.

D detections, C classes of ``sem_seg``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch._higher_order_ops.scan import scan

from detectron2.layers import paste_masks_in_image

__all__ = ["merge_panoptic_tensors"]


def merge_panoptic_tensors(
    found: dict[str, Tensor],
    overlap_threshold: float,
    stuff_area_thresh: float,
    instances_score_thresh: float,
) -> dict[str, Tensor]:
    """Merge the predictions of N images by the rule of :func:`.combine_semantic_and_instance_outputs`.

    Args:
        found: ``boxes``, ``scores``, ``valid`` and ``masks`` of D detections, and ``sem_seg`` [N, C, H, W].
        overlap_threshold, stuff_area_thresh, instances_score_thresh: see that function.

    Returns:
        ``panoptic_seg`` int32 [N, H, W], and the segment ids of detections, ``thing_segments`` [N, D], and of classes,
        ``stuff_segments`` [N, C]; 0 = no segment.
    """
    limits = (overlap_threshold, stuff_area_thresh, instances_score_thresh)
    merged = [
        _merge_image(sem_seg, boxes, masks, scores, valid, *limits)
        for sem_seg, boxes, masks, scores, valid in zip(
            found["sem_seg"], found["boxes"], found["masks"], found["scores"], found["valid"]
        )
    ]
    panoptic, things, stuff = (torch.stack(column) for column in zip(*merged))
    return {"panoptic_seg": panoptic, "thing_segments": things, "stuff_segments": stuff}


def _merge_image(
    sem_seg: Tensor,
    boxes: Tensor,
    soft_masks: Tensor,
    scores: Tensor,
    valid: Tensor,
    overlap_threshold: float,
    stuff_area_thresh: float,
    instances_score_thresh: float,
) -> tuple[Tensor, Tensor, Tensor]:
    labels = sem_seg.argmax(dim=0)  # [H, W]
    masks = paste_masks_in_image(soft_masks, boxes, (sem_seg.shape[-2], sem_seg.shape[-1]))  # [D, H, W]
    areas = masks.flatten(1).sum(dim=1)
    wanted = valid & (scores >= instances_score_thresh) & (areas > 0)
    taken = _lay_down(masks, areas, overlap_threshold * areas, wanted)
    ids = taken.cumsum(dim=0).to(torch.int32)
    things, last = torch.where(taken, ids, 0), ids[-1]
    # If several selected masks cover a pixel, it belongs to the first, which has the highest score.
    over = (masks & taken[:, None, None]).to(torch.uint8)
    panoptic = torch.where(over.amax(dim=0) > 0, ids[over.argmax(dim=0)], 0)
    free = panoptic == 0
    num_classes = sem_seg.shape[0]
    counts = torch.zeros((2, num_classes), dtype=torch.int64, device=labels.device)
    flat = labels.flatten()
    left = counts[0].scatter_add(0, flat, free.flatten().to(torch.int64))
    present = counts[1].scatter_add(0, flat, torch.ones_like(flat))
    kept = (present > 0) & (left >= stuff_area_thresh)
    kept = kept & (torch.arange(num_classes, device=labels.device) > 0)  # label 0 = things
    stuff = torch.where(kept, last + kept.cumsum(dim=0), 0).to(torch.int32)
    return torch.where(free, stuff[labels], panoptic), things, stuff


def _lay_down(masks: Tensor, areas: Tensor, may_lose: Tensor, wanted: Tensor) -> Tensor:
    """Select the masks [D, H, W], in descending order of score, that keep enough of their area; return bool [D].

    A wanted mask is selected unless the masks selected before cover more of its area than ``may_lose``. Each step
    depends on the previous one, so a graph contains one step and a loop.
    """

    def step(covered: Tensor, one: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        mask, area, limit, want = one
        lost = area - (mask & ~covered).sum()
        taken = want & (lost <= limit)
        return covered | (mask & taken), taken.clone()

    covered = torch.zeros_like(masks[0])
    if torch.compiler.is_compiling():
        return scan(step, covered, (masks, areas, may_lose, wanted))[1]
    found = []
    for one in zip(masks, areas, may_lose, wanted):
        covered, taken = step(covered, one)
        found.append(taken)
    return torch.stack(found)
