"""Denoising queries: copies of the objects with noise, from which a decoder learns to find the objects again.

The copies of all objects of an image make one group; several groups stand one after the other, all of the size that
the fullest image needs. References: DN-DETR, https://arxiv.org/abs/2203.01305; DINO, https://arxiv.org/abs/2203.03605
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["apply_box_noise", "apply_label_noise", "group_mask", "places_in_groups"]


def apply_label_noise(labels: Tensor, label_noise_prob: float = 0.2, num_classes: int = 80) -> Tensor:
    """Replace some labels by random ones; the argument stays as it is.

    Args:
        labels: [T].
        label_noise_prob: share of labels to replace.
        num_classes: number of classes.
    """
    if label_noise_prob <= 0:
        return labels
    chosen = (torch.rand_like(labels.float()) < label_noise_prob).nonzero().view(-1)
    return labels.scatter(0, chosen, torch.randint_like(chosen, 0, num_classes))


def apply_box_noise(boxes: Tensor, box_noise_scale: float = 0.4) -> Tensor:
    """Move the centres and sizes of boxes; the argument stays as it is.

    Args:
        boxes: [T, 4] centre and size in [0, 1].
        box_noise_scale: centres move by up to this share of half the size, sizes change by up to this share.
    """
    if box_noise_scale <= 0:
        return boxes
    size = boxes[:, 2:]
    reach = torch.cat([size / 2, size], -1)
    return (boxes + (torch.rand_like(boxes) * 2 - 1) * reach * box_noise_scale).clamp(0, 1)


def group_mask(groups: int, size: int, num_queries: int, device: torch.device | str) -> Tensor:
    """Tell which queries do not see each other.

    Args:
        groups: groups of denoising queries.
        size: queries of each group.
        num_queries: matching queries, which come last.
        device: of the result.

    Returns:
        [D + Q, D + Q] with D = groups * size; True where a query (row) does not see another one: one in another group,
        or, if it is a matching query, any denoising query.
    """
    of = torch.arange(groups, device=device).repeat_interleave(size)
    of = torch.cat([of, of.new_full((num_queries,), -1)])
    return (of[:, None] != of) & (of != -1)


def places_in_groups(
    counts: Sequence[int], copies: int, stride: int, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Return image and place of each object in each copy: an index into [N, copies * stride, ...] tensors.

    Args:
        counts: number of objects of each image, T in all.
        copies: copies of all objects; they begin ``stride`` apart.
        stride: places of an image in each copy.
        device: of the result.

    Returns:
        [copies * T] each, first all objects of the first copy, image by image.
    """
    image = torch.cat([torch.full((n,), i, device=device) for i, n in enumerate(counts)])
    place = torch.cat([torch.arange(n, device=device) for n in counts])
    start = torch.arange(copies, device=device)[:, None] * stride
    return image.repeat(copies), (place + start).flatten()
