"""Transform the annotated points of one image, and put them into ``Instances``."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import Instances

__all__ = ["annotations_to_instances", "transform_instance_annotations"]

_IGNORED = -1


def transform_instance_annotations(
    annotation: dict[str, Any],
    transforms: T.Transform | Sequence[T.Transform],
    image_size: tuple[int, int],
    *,
    keypoint_hflip_indices: Sequence[int] | np.ndarray | None = None,
) -> dict[str, Any]:
    """Apply transforms to one annotation, including its points.

    Args:
        annotation: in Detectron2's format; changed in place. ``point_coords`` (P, 2) in pixels and ``point_labels``
            (P) become float64 arrays; points that end outside the image get the label -1.
        transforms: one transform or a sequence of them.
        image_size: (height, width) of the image after the transforms.
        keypoint_hflip_indices: see :func:`detectron2.data.detection_utils.create_keypoint_hflip_indices`.

    Returns:
        The same dict.
    """
    if not isinstance(transforms, T.Transform):
        transforms = T.TransformList(list(transforms))
    utils.transform_instance_annotations(
        annotation, transforms, image_size, keypoint_hflip_indices=keypoint_hflip_indices
    )
    if "point_coords" not in annotation:
        return annotation
    coords = np.array(annotation["point_coords"], dtype=np.float64).reshape(-1, 2)
    labels = np.array(annotation["point_labels"], dtype=np.float64).reshape(-1)
    if len(coords) != len(labels):
        raise ValueError(
            f"an annotation has {len(coords)} point_coords but {len(labels)} point_labels; each point needs one label"
        )
    coords = transforms.apply_coords(coords)
    inside = ((coords >= 0) & (coords <= image_size[::-1])).all(axis=1)
    annotation["point_coords"], annotation["point_labels"] = coords, np.where(inside, labels, _IGNORED)
    return annotation


def annotations_to_instances(
    annos: list[dict[str, Any]], image_size: tuple[int, int], sample_points: int = 0
) -> Instances:
    """Convert the annotations of one image to the Instances that models train on.

    Args:
        annos: transformed annotations, each with the same number of points.
        image_size: (height, width) of the image.
        sample_points: points to draw per object, with repetition only if the object has fewer; 0 = all.

    Returns:
        Instances with the fields of :func:`detectron2.data.detection_utils.annotations_to_instances` and, if
        annotations have points, ``gt_point_coords`` [N, P, 2] and ``gt_point_labels`` [N, P].
    """
    target = utils.annotations_to_instances(annos, image_size)
    with_points = [a for a in annos if "point_coords" in a]
    if not with_points:
        return target
    counts = {len(a["point_labels"]) for a in with_points}
    if len(with_points) < len(annos) or len(counts) > 1:
        raise ValueError(
            f"all objects of an image need the same number of points, got {sorted(counts)} points for "
            f"{len(with_points)} of {len(annos)} objects; pad with points labelled -1"
        )
    coords = np.stack([a["point_coords"] for a in annos])
    labels = np.stack([a["point_labels"] for a in annos])
    if sample_points > 0:
        chosen = _draw(labels.shape, sample_points)
        coords = np.take_along_axis(coords, chosen[:, :, None], axis=1)
        labels = np.take_along_axis(labels, chosen, axis=1)
    target.gt_point_coords = torch.from_numpy(coords)
    target.gt_point_labels = torch.from_numpy(labels)
    return target


def _draw(shape: tuple[int, ...], count: int) -> np.ndarray:
    """Draw ``count`` point indices for each of N objects with P points: (N, P) to (N, count)."""
    objects, points = shape
    if count > points:
        return np.random.randint(points, size=(objects, count))
    return np.random.random(shape).argsort(axis=1)[:, :count]
