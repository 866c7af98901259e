"""Convert the instances of one image to arrays, COCO, data frames, supervision and HTML."""

# Legend: N instances of an image of H x W pixels, K keypoints.

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

from detectron2.utils.errors import BadType, BadValue

from .masks import BitMasks, PolygonMasks
from .outlines import mask_polygons
from .rle import encode_masks, polygons_to_bitmask

__all__ = [
    "Fields",
    "as_arrays",
    "class_texts",
    "coco_records",
    "data_frame",
    "html_view",
    "mask_rles",
    "supervision_detections",
    "table_html",
]

MaskForm = Literal["rle", "polygons"]

# For each part, the fields that may hold it: in predictions, proposals and labels.
_PARTS = {
    "boxes": ("pred_boxes", "proposal_boxes", "gt_boxes"),
    "scores": ("scores", "objectness_logits"),
    "classes": ("pred_classes", "gt_classes"),
    "masks": ("pred_masks", "gt_masks"),
    "keypoints": ("pred_keypoints", "gt_keypoints"),
    "ids": ("ID",),
}
# Keypoint heads use continuous coordinates, in which a pixel's centre is at +0.5; COCO files use pixel indices.
_KEYPOINT_SHIFT = 0.5
_MOST_ROWS = 20  # of a table in a notebook
_SIDE = 480  # pixels of the longer side of its picture


class Fields(Protocol):
    """The part of ``Instances`` that this module reads."""

    @property
    def image_size(self) -> tuple[int, int]: ...
    def has(self, name: str) -> bool: ...
    def get(self, name: str) -> Any: ...
    def get_fields(self) -> dict[str, Any]: ...


def as_arrays(found: Fields) -> dict[str, npt.NDArray[Any]]:
    """Return the known parts of instances as arrays on the CPU.

    Returns:
        "boxes" ``[N, 4]`` XYXY or ``[N, 5]`` rotated, "scores" ``[N]``, "classes" ``[N]``, "masks" bool ``[N, H, W]``,
        "keypoints" ``[N, K, 3]`` and "ids" ``[N]`` (of a tracker); only those that the instances have.
    """
    arrays = {}
    for part, names in _PARTS.items():
        for name in names:
            if found.has(name):
                value = found.get(name)
                arrays[part] = _pixels(value, found.image_size) if part == "masks" else _array(value)
                break
    return arrays


def _array(value: object) -> npt.NDArray[Any]:
    """Convert a field to an array; widen half precision, since NumPy has no bfloat16 and JSON cannot write float16."""
    tensor = getattr(value, "tensor", value)
    if not isinstance(tensor, torch.Tensor):
        return np.asarray(tensor)
    tensor = tensor.detach().cpu()
    half = tensor.dtype in (torch.float16, torch.bfloat16)
    return (tensor.float() if half else tensor).numpy()


def _pixels(masks: object, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    if isinstance(masks, PolygonMasks):
        shape = (len(masks), *size)
        return np.array([polygons_to_bitmask(p, *size) for p in masks.polygons], dtype=bool).reshape(shape)
    if not isinstance(masks, (torch.Tensor, np.ndarray, BitMasks)):
        raise BadType(f"masks must be a tensor, BitMasks or PolygonMasks, got {type(masks).__name__}")
    array = _array(masks)
    if array.ndim != 3:
        raise BadValue(
            f"masks must be [N, height, width] and cover the image, got {list(array.shape)}; paste them first "
            "(as detector_postprocess does)"
        )
    return array if array.dtype == np.bool_ else array > (0.5 if array.dtype.kind == "f" else 0)


def class_texts(classes: Sequence[int] | npt.NDArray[Any], names: Sequence[str] | None) -> list[str]:
    """Return the names of classes; a class without a name gets its index as text."""
    known = names or ()
    return [known[int(c)] if 0 <= int(c) < len(known) else str(int(c)) for c in classes]


def mask_rles(arrays: dict[str, npt.NDArray[Any]]) -> list[dict[str, Any]]:
    """Encode the masks of :func:`as_arrays` as COCO run-length encodings, ready for JSON."""
    boxes = arrays.get("boxes")
    hint = boxes if boxes is not None and boxes.shape[1:] == (4,) else None
    encoded = encode_masks(np.ascontiguousarray(arrays["masks"]), hint)
    return [{"size": list(encoded.size), "counts": counts.decode("ascii")} for counts in encoded.counts]


def coco_records(
    found: Fields, image_id: int | str, class_names: Sequence[str] | None, masks: MaskForm
) -> list[dict[str, Any]]:
    """Implement :meth:`Instances.to_coco`."""
    if masks not in ("rle", "polygons"):
        raise BadValue(f"masks must be 'rle' or 'polygons', got {masks!r}")
    arrays = as_arrays(found)
    if "boxes" not in arrays:
        raise BadValue(f"the COCO format needs boxes; these instances have {sorted(found.get_fields())}")
    boxes = arrays["boxes"]
    if boxes.shape[1:] == (4,):
        boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    columns: dict[str, list[Any]] = {"bbox": boxes.tolist()}
    if "scores" in arrays:
        columns["score"] = arrays["scores"].tolist()
    if "classes" in arrays:
        columns["category_id"] = arrays["classes"].tolist()
        if class_names is not None:
            columns["class"] = class_texts(arrays["classes"], class_names)
    if "masks" in arrays:
        traced = masks == "polygons"
        columns["segmentation"] = (
            [mask_polygons(m) for m in arrays["masks"]] if traced else list(mask_rles(arrays))
        )
    if "keypoints" in arrays:
        keypoints = arrays["keypoints"].copy()
        keypoints[:, :, :2] -= _KEYPOINT_SHIFT
        columns["keypoints"] = keypoints.reshape(len(keypoints), 3 * keypoints.shape[1]).tolist()
    if "ids" in arrays:
        columns["track_id"] = arrays["ids"].tolist()
    return [
        {"image_id": image_id, **{name: values[i] for name, values in columns.items()}}
        for i in range(len(boxes))
    ]


def table_columns(found: Fields, class_names: Sequence[str] | None) -> dict[str, list[Any]]:
    """Return the columns of a table with one row per instance."""
    arrays = as_arrays(found)
    columns: dict[str, list[Any]] = {}
    if "ids" in arrays:
        columns["id"] = arrays["ids"].tolist()
    if "classes" in arrays:
        columns["class"] = class_texts(arrays["classes"], class_names)
        columns["class_index"] = arrays["classes"].tolist()
    if "scores" in arrays:
        columns["score"] = arrays["scores"].tolist()
    if "boxes" in arrays:
        boxes = arrays["boxes"]
        names = (
            ("x0", "y0", "x1", "y1")
            if boxes.shape[1] == 4
            else ("center_x", "center_y", "width", "height", "angle")
        )
        columns.update({name: boxes[:, k].tolist() for k, name in enumerate(names)})
    if "masks" in arrays:
        columns["area"] = arrays["masks"].sum(axis=(1, 2)).tolist()
    return columns


def data_frame(found: Fields, class_names: Sequence[str] | None) -> Any:
    """Implement :meth:`Instances.to_dataframe`."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            f"to_dataframe() needs pandas: pip install 'detectron2[frames]' ({error})"
        ) from error
    return pandas.DataFrame(table_columns(found, class_names))


def supervision_detections(found: Fields, class_names: Sequence[str] | None) -> Any:
    """Implement :meth:`Instances.to_supervision`."""
    try:
        import supervision
    except ImportError as error:
        raise ImportError(
            f"to_supervision() needs supervision: pip install 'detectron2[supervision]' ({error})"
        ) from error
    arrays = as_arrays(found)
    boxes = arrays.get("boxes", np.zeros((0, 4), np.float32))
    data: dict[str, Any] = {}
    if boxes.shape[1] == 5:
        corners = _corners(boxes)
        data["xyxyxyxy"] = corners
        boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    classes = arrays.get("classes")
    if classes is not None and class_names is not None:
        data["class_name"] = np.asarray(class_texts(classes, class_names), dtype=str)
    return supervision.Detections(
        xyxy=boxes,
        mask=arrays.get("masks"),
        confidence=arrays.get("scores"),
        class_id=None if classes is None else classes.astype(int),
        tracker_id=arrays.get("ids"),
        data=data,
    )


def _corners(rotated: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Compute the corners ``[N, 4, 2]`` of rotated boxes ``[N, 5]`` (degrees counter-clockwise on the screen)."""
    center, half = rotated[:, None, :2], rotated[:, None, 2:4] / 2
    angle = np.deg2rad(rotated[:, 4])[:, None]
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    x, y = np.moveaxis(half * signs, -1, 0)  # [N, 4] each
    turned = np.stack([x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)], axis=-1)
    return (center + turned).astype(np.float32)


def html_view(found: Fields) -> str:
    """Implement :meth:`Instances._repr_html_`: a drawing of the outlines, and a table."""
    count = len(next(iter(found.get_fields().values()), ()))
    height, width = (int(v) for v in found.image_size)
    plural = "" if count == 1 else "s"
    return (
        f"<div><p>{count} instance{plural} in {width} x {height} pixels</p>{_svg(found, height, width)}"
        f"{table_html(found, None)}</div>"
    )


def table_html(found: Fields, class_names: Sequence[str] | None) -> str:
    """Return an HTML table of the first 20 instances."""
    columns = table_columns(found, class_names)
    count = len(next(iter(columns.values()), ()))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    rows = [
        "<tr>" + "".join(f"<td>{_cell(values[i])}</td>" for values in columns.values()) + "</tr>"
        for i in range(min(count, _MOST_ROWS))
    ]
    more = f"<p>and {count - _MOST_ROWS} more</p>" if count > _MOST_ROWS else ""
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>{more}"


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) and abs(value) < 1 else html.escape(_plain(value))


def _plain(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _svg(found: Fields, height: int, width: int) -> str:
    """Draw the outlines of boxes and masks, and the keypoints; the picture itself is not part of the instances."""
    if not (height and width):
        return ""
    arrays = as_arrays(found)
    shapes = []
    boxes = arrays.get("boxes", np.zeros((0, 4)))[: 5 * _MOST_ROWS]
    for i, box in enumerate(boxes):
        corners = _corners(box[None])[0] if len(box) == 5 else box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2)
        color = f"hsl({i * 137.5 % 360:.0f} 70% 45%)"  # steps of the golden angle give neighbours distinct colours
        polygons = mask_polygons(arrays["masks"][i]) if "masks" in arrays and i < _MOST_ROWS else []
        shapes += [
            f'<polygon points="{_points(np.reshape(p, (-1, 2)))}" fill="{color}" fill-opacity=".35"/>'
            for p in polygons
        ]
        shapes.append(f'<polygon points="{_points(corners)}" fill="none" stroke="{color}"/>')
        for x, y, _ in arrays["keypoints"][i] if "keypoints" in arrays else ():
            shapes.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{max(height, width) / 150:.1f}" fill="{color}"/>'
            )
    scale = _SIDE / max(height, width)
    line = f"stroke-width:{max(1.5 / scale, 0.1):.2f}"
    return (
        f'<svg width="{width * scale:.0f}" height="{height * scale:.0f}" viewBox="0 0 {width} {height}" '
        f'style="background:#8882;{line}" xmlns="http://www.w3.org/2000/svg">{"".join(shapes)}</svg>'
    )


def _points(corners: npt.NDArray[Any]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners.tolist())
