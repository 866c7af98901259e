"""Masks of annotations and predictions in images, and regions without annotations."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pycocotools.mask as mask_util

from ..structures.data_relative import DensePoseDataRelative

__all__ = ["ground_truth_rle", "ignored_region", "parts_of", "prediction_rle", "share_in_region"]

Mask = npt.NDArray[Any]


def parts_of(dp_masks: object) -> Mask:
    """Decode the body parts of an annotation.

    Args:
        dp_masks: RLE, one per part.

    Returns:
        int64 array (256, 256) of parts, 0 for background.
    """
    annotation = {DensePoseDataRelative.S_KEY: dp_masks}
    return DensePoseDataRelative.extract_segmentation_mask(annotation).long().numpy()


def _encode(mask: Mask) -> dict[str, Any]:
    return mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))


def prediction_rle(mask: Mask, box_xywh: Iterable[float], image_size: tuple[int, int]) -> dict[str, Any]:
    """Paste the mask of a box into an image, clipped to it.

    Args:
        mask: (h, w) pixels of the box.
        box_xywh: the box.
        image_size: height and width.

    Returns:
        RLE.
    """
    x, y, w, h = box_xywh
    left, top = int(x), int(y)
    x0, x1 = max(left, 0), min(int(x + w), image_size[1], left + mask.shape[1])
    y0, y1 = max(top, 0), min(int(y + h), image_size[0], top + mask.shape[0])
    whole = np.zeros(image_size, dtype=np.uint8)
    if x0 < x1 and y0 < y1:
        whole[y0:y1, x0:x1] = mask[y0 - top : y1 - top, x0 - left : x1 - left]
    return _encode(whole)


def _zoom(mask: Mask, height: float, width: float) -> Mask:
    """Resample a mask linearly, keeping its corners in place.

    SciPy's rounding decides exact halves, which are frequent, as for published results.
    """
    try:
        from scipy.ndimage import zoom
    except ImportError as error:
        raise ImportError("evaluating DensePose needs SciPy: pip install 'detectron2[densepose]'") from error
    scale = (height / mask.shape[0], width / mask.shape[1])
    return zoom(mask, scale, order=1, prefilter=False)


def ground_truth_rle(annotation: dict[str, Any], image_size: tuple[int, int]) -> dict[str, Any]:
    """Make the image mask of an annotation, from its body parts if it has any, or else from its segmentation.

    Args:
        annotation: an annotation of a COCO file.
        image_size: height and width.

    Returns:
        RLE; an empty mask if the annotation has neither.
    """
    if DensePoseDataRelative.S_KEY in annotation:
        body = (parts_of(annotation[DensePoseDataRelative.S_KEY]) > 0).astype(float)
        _, _, w, h = annotation["bbox"]
        return prediction_rle(_zoom(body, max(h, 1), max(w, 1)) > 0.5, annotation["bbox"], image_size)
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, list) and segmentation:
        return mask_util.merge(mask_util.frPyObjects(segmentation, *image_size))
    if isinstance(segmentation, dict):
        uncompressed = isinstance(segmentation["counts"], list)
        return mask_util.frPyObjects(segmentation, *image_size) if uncompressed else segmentation
    return _encode(np.zeros(image_size, dtype=np.uint8))


def ignored_region(image: dict[str, Any]) -> Mask | None:
    """Draw the polygons of unannotated regions in an image, as in PoseTrack.

    Args:
        image: entry of ``images`` of a COCO file, with ``ignore_regions_x`` and ``ignore_regions_y``.

    Returns:
        uint8 array (height, width); None = no such regions.
    """
    if not image.get("ignore_regions_x"):
        return None
    polygons = [
        np.stack([xs, ys], axis=1).reshape(-1).tolist()
        for xs, ys in zip(image["ignore_regions_x"], image["ignore_regions_y"])
    ]
    size = (image["height"], image["width"])
    return mask_util.decode(mask_util.merge(mask_util.frPyObjects(polygons, *size)))


def share_in_region(mask: Mask | None, box_xywh: Iterable[float], region: Mask) -> float | None:
    """Compute the fraction of a box, or of the mask in it, that lies in a region.

    Args:
        mask: (h, w) pixels of the box; None = the whole box.
        box_xywh: the box.
        region: (height, width) pixels of the image.

    Returns:
        The fraction, in [0, 1]; None for an empty box.
    """
    x, y, w, h = (int(value) for value in box_xywh)
    if w <= 0 or h <= 0:
        return None
    inside = region[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)]
    if mask is None:
        return float(inside.sum()) / (w * h)
    mask = mask[max(-y, 0) :, max(-x, 0) :][: inside.shape[0], : inside.shape[1]]
    covered = float((mask * inside[: mask.shape[0], : mask.shape[1]]).sum())
    return covered / max(float(mask.sum()), 1)
