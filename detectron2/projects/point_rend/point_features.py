"""Features and labels at points of boxes; the sampling itself is in :mod:`detectron2.layers.point_sampling`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from detectron2.layers import (
    cat,
    generate_regular_grid_point_coords,
    get_point_coords_wrt_image,
    get_uncertain_point_coords_on_grid,
    get_uncertain_point_coords_with_randomness,
    point_sample,
    point_sample_pyramid,
)
from detectron2.structures import BitMasks, Boxes, Instances

__all__ = [
    "generate_regular_grid_point_coords",
    "get_point_coords_wrt_image",
    "get_uncertain_point_coords_on_grid",
    "get_uncertain_point_coords_with_randomness",
    "point_sample",
    "point_sample_fine_grained_features",
    "sample_point_labels",
]


def point_sample_fine_grained_features(
    features_list: Sequence[Tensor],
    feature_scales: Sequence[float],
    boxes: Sequence[Boxes],
    point_coords: Tensor,
) -> tuple[Tensor, Tensor]:
    """Interpolate feature maps at points of boxes.

    Args:
        features_list: L maps [N, C_l, H_l, W_l].
        feature_scales: L scales of the maps relative to the image, such as 1 / stride.
        boxes: Boxes of each of N images; R in total.
        point_coords: [R, P, 2] coordinates in [0, 1] of each box.

    Returns:
        [R, sum of C_l, P] features, and [R, P, 2] coordinates in pixels of the images.
    """
    return point_sample_pyramid(features_list, feature_scales, [b.tensor for b in boxes], point_coords)


@torch.no_grad()
def sample_point_labels(instances: Sequence[Instances], point_coords: Tensor) -> Tensor:
    """Interpolate ground-truth masks at points.

    Args:
        instances: N Instances with ``gt_masks``, BitMasks of image size; R in total.
        point_coords: [R, P, 2] coordinates in pixels of the images.

    Returns:
        [R, P] labels in [0, 1]; points at the edge of a mask have values in between.

    Raises:
        TypeError: the masks are not BitMasks.
    """
    per_image = point_coords.split([len(x) for x in instances])
    # An image without objects has no masks at all.
    labels = [_labels_of_image(x, points) for x, points in zip(instances, per_image) if len(x)]
    return cat(labels) if labels else point_coords.new_zeros(point_coords.shape[:2])


def _labels_of_image(instances: Instances, coords: Tensor) -> Tensor:
    masks = instances.gt_masks
    if not isinstance(masks, BitMasks):
        raise TypeError(
            f"labels are sampled from BitMasks, but gt_masks are {type(masks).__name__}: set INPUT.MASK_FORMAT to 'bitmask'"
        )
    height, width = masks.image_size
    x, y = coords.unbind(-1)
    relative = torch.stack([x / width, y / height], dim=-1)
    return point_sample(masks.tensor[:, None], relative, align_corners=False)[:, 0]
