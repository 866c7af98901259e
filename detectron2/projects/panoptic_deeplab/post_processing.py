"""Convert the predicted maps of Panoptic-DeepLab to segments.

H, W: size of the image. K: number of centres.

Reference: https://arxiv.org/abs/1911.10194, section 3.3
"""

from collections.abc import Collection

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "find_instance_center",
    "get_instance_segmentation",
    "get_panoptic_segmentation",
    "group_pixels",
    "merge_semantic_and_instance",
]

_PIXELS_AT_ONCE = 1 << 16
"""Pixels whose distances to all centres are held in memory at once."""


def find_instance_center(
    center_heatmap: Tensor, threshold: float = 0.1, nms_kernel: int = 3, top_k: int | None = None
) -> Tensor:
    """Find the peaks of a heat map.

    Args:
        center_heatmap: [1, H, W].
        threshold: a peak must be higher than this.
        nms_kernel: side of the window in which a peak must be the maximum, odd, in pixels.
        top_k: keep only peaks that are higher than the ``top_k``-th one, hence fewer than ``top_k``.

    Returns:
        Peaks (y, x), int64 [K, 2], in row order.
    """
    heat = F.threshold(center_heatmap, threshold, -1)
    highest = F.max_pool2d(heat, nms_kernel, stride=1, padding=nms_kernel // 2)
    heat = torch.where(heat == highest, heat, -1).squeeze(0)
    least = heat.new_zeros(())
    if top_k is not None and top_k <= heat.numel():
        least = heat.flatten().topk(top_k).values[-1].clamp(min=0)
    return torch.nonzero(heat > least)


def group_pixels(center_points: Tensor, offsets: Tensor) -> Tensor:
    """Assign each pixel to the centre nearest to the end of its offset.

    Args:
        center_points: (y, x) [K, 2].
        offsets: from each pixel to the centre of its object, in (y, x) [2, H, W].

    Returns:
        int64 [1, H, W]: 1 for the first centre, and so on; all 0 if there is no centre.
    """
    _, height, width = offsets.shape
    if len(center_points) == 0:
        return offsets.new_zeros((1, height, width), dtype=torch.int64)
    rows = torch.arange(height, device=offsets.device, dtype=offsets.dtype)
    columns = torch.arange(width, device=offsets.device, dtype=offsets.dtype)
    pixels = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    targets = (pixels + offsets).flatten(1).T  # [H * W, 2]
    centers = center_points.to(offsets.dtype)
    # Fast distances by matrix products are off by several pixels in large images.
    nearest = [
        torch.cdist(part, centers, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1)
        for part in targets.split(_PIXELS_AT_ONCE)
    ]
    return torch.cat(nearest).view(1, height, width) + 1


def get_instance_segmentation(
    sem_seg: Tensor,
    center_heatmap: Tensor,
    offsets: Tensor,
    thing_seg: Tensor,
    thing_ids: Collection[int],
    threshold: float = 0.1,
    nms_kernel: int = 3,
    top_k: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Divide the pixels of things among objects.

    Args:
        sem_seg: not used.
        center_heatmap: [1, H, W].
        offsets: from each pixel to the centre of its object, in (y, x) [2, H, W].
        thing_seg: 1 on things, 0 elsewhere [1, H, W].
        thing_ids: not used.
        threshold: see :func:`find_instance_center`.
        nms_kernel: see :func:`find_instance_center`.
        top_k: see :func:`find_instance_center`.

    Returns:
        Object numbers int64 [1, H, W], from 1 on, 0 = no thing; and their centres int64 [1, K, 2].
    """
    centers = find_instance_center(center_heatmap, threshold, nms_kernel, top_k)
    return group_pixels(centers, offsets) * thing_seg, centers[None]


def merge_semantic_and_instance(
    sem_seg: Tensor,
    ins_seg: Tensor,
    semantic_thing_seg: Tensor,
    label_divisor: int,
    thing_ids: Collection[int],
    stuff_area: int,
    void_label: int,
) -> Tensor:
    """Combine classes and objects into segments.

    An object gets the most frequent class of its pixels.

    Args:
        sem_seg: classes, int64 [1, H, W].
        ins_seg: object numbers, int64 [1, H, W]; 0 = none.
        semantic_thing_seg: 1 on things, 0 elsewhere [1, H, W].
        label_divisor: factor of the class in segment ids, larger than the number of objects of a class.
        thing_ids: classes that are things.
        stuff_area: drop stuff of fewer pixels.
        void_label: value of pixels without a segment.

    Returns:
        int64 [1, H, W]: ``class * label_divisor`` for stuff, ``class * label_divisor + n`` for the n-th object of a
        class, counted from 1.
    """
    things = semantic_thing_seg == 1
    classes, class_index = torch.unique(sem_seg, return_inverse=True)
    numbers, object_index = torch.unique(torch.where(things, ins_seg, 0), return_inverse=True)
    pairs = object_index * len(classes) + class_index
    counts = torch.bincount(pairs.flatten(), minlength=len(numbers) * len(classes)).view(-1, len(classes))

    majority = counts.argmax(dim=1)
    is_object = (numbers > 0)[:, None]
    same_class = F.one_hot(majority, len(classes)) * is_object
    rank = same_class.cumsum(dim=0).gather(1, majority[:, None])[:, 0]
    segment_of_object = classes[majority] * label_divisor + rank

    stuff = ~_among(classes, thing_ids)
    area = torch.bincount(class_index[~things], minlength=len(classes))
    segment_of_class = torch.where(stuff & (area >= stuff_area), classes * label_divisor, void_label)

    of_objects = torch.where(numbers > 0, segment_of_object, void_label)[object_index]
    return torch.where(things, of_objects, segment_of_class[class_index])


def _among(classes: Tensor, wanted: Collection[int]) -> Tensor:
    return torch.isin(classes, torch.tensor(sorted(wanted), device=classes.device, dtype=classes.dtype))


def get_panoptic_segmentation(
    sem_seg: Tensor,
    center_heatmap: Tensor,
    offsets: Tensor,
    thing_ids: Collection[int],
    label_divisor: int,
    stuff_area: int,
    void_label: int,
    threshold: float = 0.1,
    nms_kernel: int = 7,
    top_k: int | None = 200,
    foreground_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Convert the predictions for one image to segments.

    Args:
        sem_seg: classes, int64 [1, H, W].
        center_heatmap: heat map of centres [1, H, W].
        offsets: from each pixel to the centre of its object, in (y, x) [2, H, W].
        thing_ids: classes that are things.
        label_divisor: see :func:`merge_semantic_and_instance`.
        stuff_area: drop stuff of fewer pixels.
        void_label: value of pixels without a segment.
        threshold: see :func:`find_instance_center`.
        nms_kernel: see :func:`find_instance_center`.
        top_k: see :func:`find_instance_center`.
        foreground_mask: 1 on things, 0 elsewhere [1, H, W]; None = where ``sem_seg`` is in ``thing_ids``.

    Returns:
        Segments int64 [1, H, W] as in :func:`merge_semantic_and_instance`, and centres int64 [1, K, 2].

    Raises:
        ValueError: a map has the wrong shape.
    """
    maps = {"sem_seg": (sem_seg, 1), "center_heatmap": (center_heatmap, 1), "offsets": (offsets, 2)}
    for name, (value, channels) in maps.items():
        if value.dim() != 3 or value.shape[0] != channels:
            raise ValueError(f"{name} must be [{channels}, H, W], got {list(value.shape)}")
    things = _among(sem_seg, thing_ids).long() if foreground_mask is None else foreground_mask
    objects, centers = get_instance_segmentation(
        sem_seg, center_heatmap, offsets, things, thing_ids, threshold, nms_kernel, top_k
    )
    segments = merge_semantic_and_instance(
        sem_seg, objects, things, label_divisor, thing_ids, stuff_area, void_label
    )
    return segments, centers
