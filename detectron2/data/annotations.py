"""Annotations of one image: transform them, and turn them into ``Instances``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from detectron2.structures import (
    BitMasks,
    Boxes,
    BoxMode,
    Instances,
    Keypoints,
    PolygonMasks,
    RotatedBoxes,
)
from detectron2.structures.rle import decode, to_mask
from detectron2.utils.errors import BadValue

from . import transforms as T

__all__ = [
    "annotations_to_instances",
    "annotations_to_instances_rotated",
    "boxes_as_xyxy",
    "filter_empty_instances",
    "transform_annotations",
    "transform_instance_annotations",
    "transform_keypoint_annotations",
    "transform_proposals",
]


def transform_instance_annotations(
    annotation: dict[str, Any],
    transforms: T.Transform | Sequence[T.Transform],
    image_size: tuple[int, int],
    *,
    keypoint_hflip_indices: Sequence[int] | np.ndarray | None = None,
) -> dict[str, Any]:
    """Apply transforms to the box, mask and keypoints of one annotation.

    Args:
        annotation: in Detectron2's format; changed in place. ``bbox`` becomes absolute XYXY, clipped to the image;
            rotated boxes (XYWHA_ABS) stay rotated and unclipped. Polygons stay polygons; run-length encoded masks
            and arrays become uint8 arrays (H, W).
        transforms: one transform or a sequence of them.
        image_size: (height, width) of the image after the transforms.
        keypoint_hflip_indices: see :func:`create_keypoint_hflip_indices`; required if a transform mirrors keypoints.

    Returns:
        The same dict.
    """
    return transform_annotations(
        [annotation], transforms, image_size, keypoint_hflip_indices=keypoint_hflip_indices
    )[0]


def transform_annotations(
    annos: list[dict[str, Any]],
    transforms: T.Transform | Sequence[T.Transform],
    image_size: tuple[int, int],
    *,
    keypoint_hflip_indices: Sequence[int] | np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Apply transforms to all annotations of an image; see :func:`transform_instance_annotations`.

    Returns:
        The same dicts, changed in place.
    """
    if not isinstance(transforms, T.Transform):
        transforms = T.TransformList(transforms)
    _transform_boxes(annos, transforms, image_size)
    _transform_masks([a for a in annos if "segmentation" in a], transforms, image_size)
    for annotation in annos:
        if "keypoints" in annotation:
            annotation["keypoints"] = transform_keypoint_annotations(
                annotation["keypoints"], transforms, image_size, keypoint_hflip_indices
            )
    return annos


def boxes_as_xyxy(annos: list[dict[str, Any]]) -> np.ndarray:
    """Return the boxes of annotations as a float64 array (N, 4) of absolute (x0, y0, x1, y1)."""
    if not annos:
        return np.zeros((0, 4))
    modes = [anno["bbox_mode"] for anno in annos]
    if all(mode == modes[0] for mode in modes):
        rows = np.asarray([anno["bbox"] for anno in annos], dtype=np.float64)
        return np.asarray(BoxMode.convert(rows, modes[0], BoxMode.XYXY_ABS))
    return np.concatenate([boxes_as_xyxy([anno]) for anno in annos])


def _transform_boxes(
    annos: list[dict[str, Any]], transforms: T.Transform, image_size: tuple[int, int]
) -> None:
    rotated = [a for a in annos if a["bbox_mode"] == BoxMode.XYWHA_ABS]
    upright = [a for a in annos if a["bbox_mode"] != BoxMode.XYWHA_ABS] if rotated else annos
    if rotated:
        rows = np.asarray([a["bbox"] for a in rotated], dtype=np.float64).reshape(-1, 5)
        for annotation, row in zip(rotated, transforms.apply_rotated_box(rows)):  # type: ignore[attr-defined]
            annotation["bbox"] = row
    if upright:
        height, width = image_size
        moved = transforms.apply_box(boxes_as_xyxy(upright))
        for annotation, row in zip(upright, np.clip(moved, 0, [width, height, width, height])):
            annotation["bbox"], annotation["bbox_mode"] = row, BoxMode.XYXY_ABS


def _steps(transforms: T.Transform) -> list[T.Transform]:
    return transforms.transforms if isinstance(transforms, T.TransformList) else [transforms]


def _transform_masks(
    annos: list[dict[str, Any]], transforms: T.Transform, image_size: tuple[int, int]
) -> None:
    """Transform the ``segmentation`` of each annotation."""
    polygons: list[np.ndarray] = []
    spans: list[tuple[dict[str, Any], int, int]] = []
    for annotation in annos:
        segmentation = annotation["segmentation"]
        if isinstance(segmentation, (list, tuple)):
            first = len(polygons)
            polygons += [np.asarray(p, dtype=np.float64).reshape(-1, 2) for p in segmentation]
            spans.append((annotation, first, len(polygons)))
        else:
            annotation["segmentation"] = _transform_mask(segmentation, transforms, image_size)
    if not spans:
        return
    # If every step moves polygons corner by corner, transform all corners of the image in one call.
    if polygons and all(
        type(step).apply_polygons is T.Transform.apply_polygons for step in _steps(transforms)
    ):
        corners = np.asarray(transforms.apply_coords(np.concatenate(polygons)))
        moved = np.split(corners, np.cumsum([len(p) for p in polygons])[:-1])
        for annotation, first, last in spans:
            annotation["segmentation"] = [p.reshape(-1) for p in moved[first:last]]
        return
    for annotation, first, last in spans:
        parts = transforms.apply_polygons(polygons[first:last])
        annotation["segmentation"] = [p.reshape(-1) for p in parts]


def _transform_mask(segmentation: object, transforms: T.Transform, image_size: tuple[int, int]) -> np.ndarray:
    if isinstance(segmentation, Mapping):
        bits = decode(segmentation)
    elif isinstance(segmentation, np.ndarray) and segmentation.ndim == 2:
        bits = segmentation != 0
    else:
        raise BadValue(
            f"segmentation must be a list of polygons [x, y, x, y, ...], a COCO run-length encoding (dict with 'size' "
            f"and 'counts') or an array (H, W), got {type(segmentation).__name__}: {str(segmentation)[:80]!r}"
        )
    mask = transforms.apply_segmentation(bits.view(np.uint8))
    if mask.shape != tuple(image_size):
        raise BadValue(
            f"the transformed mask has the shape {mask.shape}, but the transformed image has the size "
            f"{tuple(image_size)}; was the mask made for another image size?"
        )
    # Transforms pad label maps with the ignore label 255, which belongs to no object.
    return (mask == 1).astype(np.uint8)


def _mirrors(step: T.Transform) -> bool:
    """Return whether a transform swaps left and right; adapters of other libraries have an attribute for it."""
    return isinstance(step, T.HFlipTransform) or bool(getattr(step, "mirrors", False))


def transform_keypoint_annotations(
    keypoints: Sequence[float] | np.ndarray,
    transforms: T.Transform,
    image_size: tuple[int, int],
    keypoint_hflip_indices: Sequence[int] | np.ndarray | None = None,
) -> np.ndarray:
    """Apply transforms to the keypoints of one instance.

    Args:
        keypoints: N times (x, y, visibility), flat or (N, 3).
        transforms: a transform or list of transforms.
        image_size: (height, width) after the transforms; keypoints outside the image become unlabelled.
        keypoint_hflip_indices: for each keypoint after mirroring, its index before mirroring.

    Returns:
        float64 array (N, 3); unlabelled keypoints are (0, 0, 0).

    Raises:
        ValueError: if the image is mirrored and ``keypoint_hflip_indices`` is missing or of another length.
    """
    points = np.array(keypoints, dtype=np.float64).reshape(-1, 3)
    points[:, :2] = transforms.apply_coords(points[:, :2])
    inside = ((points[:, :2] >= 0) & (points[:, :2] <= tuple(image_size)[::-1])).all(axis=1)
    points[~inside, 2] = 0
    if sum(_mirrors(step) for step in _steps(transforms)) % 2:
        if keypoint_hflip_indices is None:
            raise BadValue(
                "the image is mirrored, so left and right keypoints change places: give keypoint_hflip_indices (see "
                "create_keypoint_hflip_indices), or turn horizontal flips off"
            )
        if len(keypoint_hflip_indices) != len(points):
            raise BadValue(
                f"keypoint_hflip_indices is for {len(keypoint_hflip_indices)} keypoints, but the annotation has "
                f"{len(points)}"
            )
        points = points[np.asarray(keypoint_hflip_indices, dtype=np.int64)]
    points[points[:, 2] == 0] = 0  # COCO puts unlabelled keypoints at the origin
    return points


def transform_proposals(
    dataset_dict: dict[str, Any],
    image_shape: tuple[int, int],
    transforms: T.Transform,
    *,
    proposal_topk: int,
    min_box_size: float = 0,
) -> None:
    """Apply transforms to precomputed proposals, and keep the best of those left.

    Args:
        dataset_dict: record whose ``proposal_boxes``, ``proposal_bbox_mode`` and ``proposal_objectness_logits``
            (best first) are replaced by ``proposals`` (an Instances); unchanged if it has no proposals.
        image_shape: (height, width) after the transforms.
        transforms: a transform or list of transforms.
        proposal_topk: maximum number of proposals to keep.
        min_box_size: proposals with a side of at most this many pixels are dropped.
    """
    if "proposal_boxes" not in dataset_dict:
        return
    boxes = BoxMode.convert(
        dataset_dict.pop("proposal_boxes"), dataset_dict.pop("proposal_bbox_mode"), BoxMode.XYXY_ABS
    )
    moved = Boxes(torch.as_tensor(transforms.apply_box(np.asarray(boxes))))
    logits = torch.as_tensor(np.asarray(dataset_dict.pop("proposal_objectness_logits"), dtype=np.float32))
    moved.clip(image_shape)
    keep = moved.nonempty(threshold=min_box_size)
    proposals = Instances(image_shape)
    proposals.proposal_boxes = moved[keep][:proposal_topk]
    proposals.objectness_logits = logits[keep][:proposal_topk]
    dataset_dict["proposals"] = proposals


def _collect(annos: list[dict[str, Any]], key: str) -> list[Any] | None:
    """Return the values of a key in all annotations; None if no annotation has it."""
    missing = [i for i, anno in enumerate(annos) if key not in anno]
    if len(missing) == len(annos):
        return None
    if missing:
        raise BadValue(
            f"annotations {missing[:10]} of this image have no {key!r} while {len(annos) - len(missing)} others have; "
            "give it to all of them or drop it from all"
        )
    return [anno[key] for anno in annos]


def annotations_to_instances(
    annos: list[dict[str, Any]], image_size: tuple[int, int], mask_format: str = "polygon"
) -> Instances:
    """Convert the annotations of one image to Instances for training.

    Args:
        annos: annotations in Detectron2's format, already transformed.
        image_size: (height, width) of the image.
        mask_format: "polygon" for PolygonMasks, "bitmask" for BitMasks, "auto" for polygons if every instance of
            the image has them and bitmasks otherwise.

    Returns:
        Instances with ``gt_boxes`` and ``gt_classes``, and with ``gt_masks`` and ``gt_keypoints`` if the
        annotations have ``segmentation`` and ``keypoints``.
    """
    target = Instances(image_size)
    target.gt_boxes = Boxes(torch.from_numpy(boxes_as_xyxy(annos).astype(np.float32)))
    target.gt_classes = torch.tensor([int(anno["category_id"]) for anno in annos], dtype=torch.int64)
    masks = _collect(annos, "segmentation")
    if masks is not None:
        target.gt_masks = _make_masks(masks, image_size, mask_format)
    keypoints = _collect(annos, "keypoints")
    if keypoints is not None:
        points = [np.asarray(k, dtype=np.float64).reshape(-1, 3) for k in keypoints]
        if len({len(p) for p in points}) > 1:
            raise BadValue(
                f"all instances of an image must have the same number of keypoints, got {[len(p) for p in points]}"
            )
        target.gt_keypoints = Keypoints(np.stack(points))
    return target


def _make_masks(masks: list[Any], image_size: tuple[int, int], mask_format: str) -> PolygonMasks | BitMasks:
    if mask_format not in ("polygon", "bitmask", "auto"):
        raise BadValue(f"mask_format must be 'polygon', 'bitmask' or 'auto', got {mask_format!r}")
    others = [i for i, mask in enumerate(masks) if not isinstance(mask, (list, tuple))]
    if mask_format == "polygon" and others:
        raise BadValue(
            f"mask_format is 'polygon', but annotations {others[:10]} have masks of another kind "
            f"({type(masks[others[0]]).__name__}); use mask_format 'bitmask' or 'auto' (INPUT.MASK_FORMAT)"
        )
    if mask_format == "polygon" or (mask_format == "auto" and not others):
        return PolygonMasks([[np.asarray(p, dtype=np.float64).reshape(-1) for p in mask] for mask in masks])
    return BitMasks(torch.from_numpy(np.stack([to_mask(mask, *image_size) for mask in masks])))


def annotations_to_instances_rotated(annos: list[dict[str, Any]], image_size: tuple[int, int]) -> Instances:
    """Convert annotations with rotated boxes to Instances.

    Args:
        annos: annotations whose ``bbox`` is (cx, cy, w, h, angle in degrees).
        image_size: (height, width) of the image.

    Returns:
        Instances with ``gt_boxes`` (RotatedBoxes; nearly axis-aligned ones are clipped to the image) and ``gt_classes``.
    """
    rows = np.asarray([anno["bbox"] for anno in annos], dtype=np.float32).reshape(-1, 5)
    boxes = RotatedBoxes(torch.from_numpy(rows))
    boxes.clip(image_size)
    target = Instances(image_size)
    target.gt_boxes = boxes
    target.gt_classes = torch.tensor([int(anno["category_id"]) for anno in annos], dtype=torch.int64)
    return target


def filter_empty_instances(
    instances: Instances,
    by_box: bool = True,
    by_mask: bool = True,
    box_threshold: float = 1e-5,
    return_mask: bool = False,
) -> Instances | tuple[Instances, torch.Tensor]:
    """Drop instances without a box or without a mask.

    Args:
        instances: with ``gt_boxes`` and optionally ``gt_masks``.
        by_box: drop those with a side of at most ``box_threshold`` pixels.
        by_mask: drop those whose mask has no pixel or no polygon.
        box_threshold: in pixels.
        return_mask: also return which instances were kept.

    Returns:
        The instances that remain, and with ``return_mask`` a bool tensor (N,) as well.
    """
    if not (by_box or by_mask):
        raise BadValue("at least one of by_box and by_mask must be true")
    keep = torch.ones(len(instances), dtype=torch.bool)
    if len(instances) and by_box:
        keep = keep & instances.gt_boxes.nonempty(threshold=box_threshold).cpu()
    if len(instances) and by_mask and instances.has("gt_masks"):
        keep = keep & instances.gt_masks.nonempty().cpu()
    left = instances if bool(keep.all()) else instances[keep]
    return (left, keep) if return_mask else left
