"""Annotated points in the coordinates of proposals."""

from collections.abc import Sequence

import torch
from torch import Tensor

from detectron2.layers import cat, get_point_coords_wrt_box
from detectron2.structures import Instances

__all__ = ["get_point_coords_from_point_annotation", "get_point_coords_wrt_box"]


@torch.no_grad()
def get_point_coords_from_point_annotation(instances: Sequence[Instances]) -> tuple[Tensor, Tensor]:
    """Express annotated points in coordinates of their proposals.

    Args:
        instances: Instances with ``proposal_boxes``, ``gt_point_coords`` [R_i, P, 2] in pixels of the image and
            ``gt_point_labels`` [R_i, P]; R in total. Only Instances without proposals may lack points.

    Returns:
        [R, P, 2] coordinates, in [0, 1] within the boxes, and [R, P] labels: 1 = object, 0 = background, -1 = ignored,
        as are all points outside their box.
    """
    present = [x for x in instances if len(x)]
    if not present:
        device = instances[0].proposal_boxes.device if instances else None
        return torch.zeros(0, 0, 2, device=device), torch.zeros(0, 0, device=device)
    boxes = cat([x.proposal_boxes.tensor for x in present])
    coords = get_point_coords_wrt_box(boxes, cat([x.gt_point_coords for x in present]).to(torch.float32))
    labels = cat([x.gt_point_labels for x in present]).to(torch.float32)
    inside = ((coords >= 0) & (coords <= 1)).all(dim=2)
    return coords, torch.where(inside, labels, -1)
