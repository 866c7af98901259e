"""What an exported file says about itself: classes, sizes, thresholds, outputs, versions."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch import nn

from detectron2 import __version__
from detectron2.data import Metadata as CatalogEntry
from detectron2.data.transforms import Augmentation, AugmentationList, ResizeShortestEdge
from detectron2.modeling import MaskClassifier

__all__ = ["Metadata", "describe_classes", "describe_model", "describe_resize", "side_limits", "versions"]

Metadata = dict[str, Any]

_PACKAGES = ("torch", "torchvision", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf")
# Sizes of 1 are a case of their own for torch.export, so that the coarsest map must have two cells.
_LARGEST_SIDE = 4096
_PANOPTIC = {
    "overlap_threshold": "combine_overlap_thresh",
    "stuff_area_threshold": "combine_stuff_area_thresh",
    "score_threshold": "combine_instances_score_thresh",
}


def describe_model(model: nn.Module) -> Metadata:
    """Return what a model itself says: architecture, thresholds, and the colour of padding.

    Args:
        model: of this package.
    """
    heads = getattr(model, "roi_heads", None)
    predictors = [] if heads is None else [m for m in heads.modules() if hasattr(m, "test_score_thresh")]
    decider: object = (predictors or [model])[-1]
    found: Metadata = {
        "architecture": type(model).__name__,
        "score_threshold": _number(getattr(decider, "test_score_thresh", None)),
        "nms_threshold": _number(getattr(decider, "test_nms_thresh", None)),
        "most_detections": getattr(decider, "test_topk_per_image", None)
        or getattr(decider, "max_detections_per_image", None)
        or getattr(decider, "select_box_nums_for_evaluation", None),
    }
    mean = getattr(model, "pixel_mean", None)
    found["pixel_mean"] = None if mean is None else [float(v) for v in mean.flatten()]
    if all(hasattr(model, name) for name in _PANOPTIC.values()):
        found["panoptic"] = {key: _number(getattr(model, name)) for key, name in _PANOPTIC.items()}
    if isinstance(model, MaskClassifier) and model.panoptic_on:
        found["things"] = model.thing_classes()
    return found


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def describe_resize(augmentation: Augmentation) -> Metadata:
    """Return how pictures are resized before the model sees them.

    Args:
        augmentation: that of testing.

    Returns:
        ``min_size``, the length of the shorter edge, and ``max_size``, the most of the longer one; both None if
        pictures are taken as they are.
    """
    steps = augmentation.augs if isinstance(augmentation, AugmentationList) else [augmentation]
    for step in steps:
        if isinstance(step, ResizeShortestEdge):
            return {"min_size": int(max(step.short_edge_length)), "max_size": int(step.max_size)}
    return {"min_size": None, "max_size": None}


def describe_classes(metadata: CatalogEntry) -> Metadata:
    """Return the names of classes and keypoints.

    Args:
        metadata: entry of ``MetadataCatalog``.
    """
    ids: dict[int, int] = metadata.get("thing_dataset_id_to_contiguous_id") or {}
    return {
        "classes": list(metadata.get("thing_classes") or []),
        "category_ids": sorted(ids, key=lambda i: ids[i]),
        "stuff_classes": list(metadata.get("stuff_classes") or []),
        "keypoint_names": list(metadata.get("keypoint_names") or []),
        "keypoint_flips": [list(pair) for pair in metadata.get("keypoint_flip_map") or []],
    }


def side_limits(model: Any, max_size: int | None) -> tuple[int, int]:
    """Return the lowest and highest height and width that a graph of a model takes, in pixels.

    Args:
        model: with a backbone.
        max_size: most pixels of the longer edge of pictures that the model is made for, if there is such a limit.
    """
    backbone = model.backbone
    # Detection transformers add levels, each half as fine, to those of the backbone.
    coarser = 2 ** max(int(getattr(m, "extra_levels", 0)) for m in model.modules())
    strides = [coarser * (shape.stride or 1) for shape in backbone.output_shape().values()]
    square = int(dict(backbone.padding_constraints).get("square_size", 0))
    low = max([*strides, *_window_spans(backbone)]) + 1
    if square:
        return min(low, square // 2), square
    return low, max(_LARGEST_SIDE, 2 * (max_size or 0) if (max_size or 0) < 100_000 else 0)


def _window_spans(backbone: Any) -> Iterable[int]:
    """Pixels that one attention window of a transformer spans where the map is coarsest."""
    parts: list[Any] = [getattr(backbone, name, None) for name in ("bottom_up", "net")]
    inner: Any = next((part for part in parts if hasattr(part, "output_shape")), backbone)
    window = getattr(inner, "window_size", None) or max(
        (
            getattr(m, "window_size", 0)
            for m in inner.modules()
            if isinstance(getattr(m, "window_size", 0), int)
        ),
        default=0,
    )
    if isinstance(window, int) and window:
        yield from (window * (shape.stride or 1) for shape in inner.output_shape().values())


def versions() -> dict[str, str]:
    """Return the versions of this package and of those that write and run files."""
    found = {"detectron2": __version__}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
