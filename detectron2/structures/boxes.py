"""Axis-aligned boxes: formats, a container, and pairwise measures."""

import math
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum, unique
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from detectron2.utils.errors import BadIndex, BadType, BadValue
from detectron2.utils.tracing import is_recording

from ._indexing import Index, as_rows

__all__ = [
    "BoxMode",
    "Boxes",
    "matched_pairwise_iou",
    "pairwise_intersection",
    "pairwise_ioa",
    "pairwise_iou",
    "pairwise_point_box_distance",
]

if TYPE_CHECKING:
    from typing_extensions import Self

# On the CPU, temporary arrays that fit into the cache make this three times as fast.
_PAIRS_AT_ONCE = {"cpu": 1 << 19, "": 1 << 24}

_Box = TypeVar("_Box", bound="list[float] | tuple[float, ...] | np.ndarray | Tensor")


@unique
class BoxMode(IntEnum):
    """Meaning of the numbers of a box.

    ``XYXY``: top left and bottom right corner. ``XYWH``: top left corner, width, height. ``XYWHA``: centre, width,
    height, angle in degrees counter-clockwise. ``ABS``: pixels; ``REL``: fractions of the image size.
    """

    XYXY_ABS = 0
    XYWH_ABS = 1
    XYXY_REL = 2
    XYWH_REL = 3
    XYWHA_ABS = 4

    @staticmethod
    def convert(box: _Box, from_mode: "BoxMode", to_mode: "BoxMode") -> _Box:
        """Convert boxes to another mode.

        Args:
            box: one box as a list or tuple of 4 or 5 numbers, or an array or tensor [N, 4] or [N, 5].
            from_mode: mode of ``box``.
            to_mode: mode of the result.

        Returns:
            An object of the same type; ``box`` itself if the modes are equal.

        Raises:
            ValueError: if the length does not fit the mode.
            NotImplementedError: if the conversion needs the image size (``REL``), or would lose the angle.
        """
        if from_mode == to_mode:
            return box
        if BoxMode.XYXY_REL in (from_mode, to_mode) or BoxMode.XYWH_REL in (from_mode, to_mode):
            raise NotImplementedError("relative boxes cannot be converted without the image size")
        data: Any = box
        single = isinstance(data, (list, tuple))
        wanted = 5 if from_mode == BoxMode.XYWHA_ABS else 4
        length = len(data) if single else data.shape[-1] if data.ndim else 0
        if length != wanted:
            raise BadValue(f"boxes in {BoxMode(from_mode).name} have {wanted} numbers, got {length}")
        try:
            rule = _CONVERSIONS[from_mode, to_mode]
        except KeyError:
            names = f"{BoxMode(from_mode).name} to {BoxMode(to_mode).name}"
            raise NotImplementedError(f"no conversion from {names}") from None
        if single:
            return type(data)(rule(*data))
        columns = rule(*(data[..., k] for k in range(wanted)))
        if isinstance(data, Tensor):
            return torch.stack(columns, -1).to(data.dtype)  # type: ignore[return-value]
        return np.stack(columns, -1).astype(data.dtype, copy=False)  # type: ignore[return-value]


# The rules below take numbers, arrays or tensors, one per coordinate.
_N = TypeVar("_N", float, np.ndarray, Tensor)


def _xyxy_to_xywh(x0: _N, y0: _N, x1: _N, y1: _N) -> list[_N]:
    return [x0, y0, x1 - x0, y1 - y0]


def _xywh_to_xyxy(x: _N, y: _N, w: _N, h: _N) -> list[_N]:
    return [x, y, x + w, y + h]


def _xywh_to_xywha(x: _N, y: _N, w: _N, h: _N) -> list[_N]:
    return [x + w / 2, y + h / 2, w, h, 0 * w]


def _xywha_to_xyxy(x: Any, y: Any, w: Any, h: Any, angle: Any) -> list[Any]:
    """Return the enclosing axis-aligned box."""
    lib: Any = torch if isinstance(angle, Tensor) else np if isinstance(angle, np.ndarray) else math
    turn = angle.double() if lib is torch and angle.device.type != "mps" else angle
    turn = turn * (math.pi / 180)
    cos, sin = abs(lib.cos(turn)), abs(lib.sin(turn))
    dx, dy = (cos * w + sin * h) / 2, (sin * w + cos * h) / 2
    return [x - dx, y - dy, x + dx, y + dy]


_CONVERSIONS: dict[tuple[BoxMode, BoxMode], Callable[..., list[Any]]] = {
    (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS): _xyxy_to_xywh,
    (BoxMode.XYWH_ABS, BoxMode.XYXY_ABS): _xywh_to_xyxy,
    (BoxMode.XYWH_ABS, BoxMode.XYWHA_ABS): _xywh_to_xywha,
    (BoxMode.XYWHA_ABS, BoxMode.XYXY_ABS): _xywha_to_xyxy,
}


class Boxes:
    """N boxes as an [N, 4] float32 tensor of (x0, y0, x1, y1) in pixels.

    Args:
        tensor: [N, 4] tensor, array or nested list; an empty one gives no boxes.

    Attributes:
        tensor: [N, 4].
    """

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = as_rows(tensor, 4, type(self).__name__)

    def clone(self) -> "Self":
        """Return a deep copy."""
        return type(self)(self.tensor.clone())

    def to(self, device: torch.device) -> "Self":
        """Move the boxes to ``device``."""
        return type(self)(self.tensor.to(device=device))

    def area(self) -> Tensor:
        """Compute the areas [N]."""
        return _areas(self.tensor)

    def clip(self, box_size: tuple[int, int]) -> None:
        """Clip the boxes in place to the image ``0 <= x <= width, 0 <= y <= height``.

        Args:
            box_size: (height, width).

        Raises:
            ValueError: if a coordinate is infinite or NaN (not checked in compiled graphs).
        """
        if not is_recording() and not bool(self.tensor.isfinite().all()):
            bad = int((~self.tensor.isfinite()).any(1).sum())
            raise BadValue(
                f"{bad} of {len(self)} boxes have infinite or NaN coordinates and cannot be clipped"
            )
        height, width = box_size
        x0, y0, x1, y1 = self.tensor.unbind(-1)
        xs, ys = (torch.stack(pair, -1) for pair in ((x0, x1), (y0, y1)))
        xs, ys = xs.clamp(min=0).clamp(max=width), ys.clamp(min=0).clamp(max=height)
        self.tensor = torch.stack([xs, ys], -1).flatten(-2)  # [N, (near, far), (x, y)]

    def nonempty(self, threshold: float = 0.0) -> Tensor:
        """Return [N] bool: whether both sides are longer than ``threshold`` pixels."""
        return (self.tensor[:, 2:] - self.tensor[:, :2] > threshold).all(-1)

    def __getitem__(self, item: Index) -> "Self":
        """Select boxes.

        Args:
            item: an integer of any kind (selects one box), a slice, or an index or mask tensor.
        """
        picked = self.tensor[item]  # type: ignore[index]
        width = self.tensor.shape[-1]
        if picked.dim() == 1 and picked.shape[0] == width:
            picked = picked.reshape(1, width)
        if picked.dim() != 2:
            raise BadIndex(f"indexing {type(self).__name__} with {item!r} does not give a list of boxes")
        return type(self)(picked)

    def __len__(self) -> int:
        return self.tensor.shape[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.tensor})"

    def inside_box(self, box_size: tuple[int, int], boundary_threshold: int = 0) -> Tensor:
        """Return [N] bool: whether the box is in the image, or exceeds it by less than ``boundary_threshold`` pixels.

        Args:
            box_size: (height, width).
            boundary_threshold: pixels of tolerance.
        """
        height, width = box_size
        x0, y0, x1, y1 = self.tensor.unbind(-1)
        near = torch.minimum(x0, y0) >= -boundary_threshold
        return near & (x1 < width + boundary_threshold) & (y1 < height + boundary_threshold)

    def get_centers(self) -> Tensor:
        """Compute the centres [N, 2], (x, y)."""
        return (self.tensor[:, :2] + self.tensor[:, 2:]) / 2

    def scale(self, scale_x: float, scale_y: float) -> None:
        """Multiply x and y coordinates in place."""
        self.tensor[:, 0::2] *= scale_x
        self.tensor[:, 1::2] *= scale_y

    @classmethod
    def cat(cls, boxes_list: Sequence["Self"]) -> "Self":
        """Concatenate boxes; an empty list gives no boxes."""
        if not isinstance(boxes_list, (list, tuple)):
            raise BadType(f"{cls.__name__}.cat expects a list or tuple, got {type(boxes_list).__name__}")
        for boxes in boxes_list:
            if not isinstance(boxes, cls):
                raise BadType(f"{cls.__name__}.cat expects {cls.__name__} only, got {type(boxes).__name__}")
        if len(boxes_list) == 0:
            return cls(torch.empty(0))
        return cls(torch.cat([boxes.tensor for boxes in boxes_list]))

    @property
    def device(self) -> torch.device:
        """Device of the tensor."""
        return self.tensor.device

    def __iter__(self) -> Iterator[Tensor]:
        """Iterate over the boxes as tensors [4]."""
        yield from self.tensor


def _overlap_1d(near1: Tensor, far1: Tensor, near2: Tensor, far2: Tensor) -> Tensor:
    return (torch.minimum(far1, far2) - torch.maximum(near1, near2)).clamp(min=0)


def pairwise_intersection(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Compute the intersection area of every pair.

    Args:
        boxes1: N boxes.
        boxes2: M boxes.

    Returns:
        [N, M].
    """
    return _in_blocks(_intersection, boxes1.tensor, boxes2.tensor)


def _intersection(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Map [N, 4], [M, 4] to [N, M]."""
    # One side at a time, to avoid [N, M, 2] arrays.
    a, b = boxes1[:, None], boxes2[None]
    width = _overlap_1d(a[..., 0], a[..., 2], b[..., 0], b[..., 2])  # [N, M]
    return width * _overlap_1d(a[..., 1], a[..., 3], b[..., 1], b[..., 3])


def _in_blocks(pairwise: Callable[[Tensor, Tensor], Tensor], boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Compute ``pairwise(boxes1, boxes2)`` [N, M] a few rows at a time, to limit temporary memory."""
    _check_upright(boxes1, boxes2)
    at_once = _PAIRS_AT_ONCE.get(boxes1.device.type, _PAIRS_AT_ONCE[""])
    rows = max(1, at_once // max(boxes2.shape[0], 1))
    if torch.compiler.is_compiling() or boxes1.shape[0] <= rows:
        return pairwise(boxes1, boxes2)
    first = pairwise(boxes1[:rows], boxes2)
    out = first.new_empty(boxes1.shape[0], boxes2.shape[0])
    out[:rows] = first
    for start in range(rows, len(out), rows):
        out[start : start + rows] = pairwise(boxes1[start : start + rows], boxes2)
    return out


def _check_upright(*tensors: Tensor) -> None:
    for boxes in tensors:
        if boxes.shape[-1] != 4:
            raise BadValue(
                f"expected boxes [N, 4], got {tuple(boxes.shape)}; rotated boxes are compared by pairwise_iou_rotated"
            )


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _ratio(inter: Tensor, whole: Tensor) -> Tensor:
    """Compute ``inter / whole``, or 0 without intersection, also for boxes without area."""
    return torch.where(inter > 0, inter / whole, torch.zeros((), dtype=inter.dtype, device=inter.device))


def pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Compute the intersection over union of every pair.

    Args:
        boxes1: N boxes.
        boxes2: M boxes.

    Returns:
        [N, M] in [0, 1].
    """
    return _in_blocks(_iou, boxes1.tensor, boxes2.tensor)


def _iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    inter = _intersection(boxes1, boxes2)
    return _ratio(inter, _areas(boxes1)[:, None] + _areas(boxes2) - inter)


def pairwise_ioa(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Compute the intersection area divided by the area of the second box, for every pair.

    Args:
        boxes1: N boxes.
        boxes2: M boxes.

    Returns:
        [N, M] in [0, 1].
    """
    return _in_blocks(lambda a, b: _ratio(_intersection(a, b), _areas(b)), boxes1.tensor, boxes2.tensor)


def pairwise_point_box_distance(points: Tensor, boxes: Boxes) -> Tensor:
    """Compute signed distances of points to the four sides of boxes, all positive for a point inside.

    Args:
        points: [N, 2] (x, y).
        boxes: M boxes.

    Returns:
        [N, M, 4]: to the left, top, right and bottom side.
    """
    _check_upright(boxes.tensor)
    points = points[:, None]
    near, far = boxes.tensor[None, :, :2], boxes.tensor[None, :, 2:]
    return torch.cat([points - near, far - points], -1)


def matched_pairwise_iou(boxes1: Boxes, boxes2: Boxes) -> Tensor:
    """Compute the intersection over union of corresponding boxes.

    Args:
        boxes1: N boxes.
        boxes2: N boxes.

    Returns:
        [N] in [0, 1].
    """
    if len(boxes1) != len(boxes2):
        raise BadValue(f"boxes1 and boxes2 must have the same length, got {len(boxes1)} and {len(boxes2)}")
    a, b = boxes1.tensor, boxes2.tensor
    _check_upright(a, b)
    inter = _overlap_1d(a[:, 0], a[:, 2], b[:, 0], b[:, 2]) * _overlap_1d(a[:, 1], a[:, 3], b[:, 1], b[:, 3])
    return _ratio(inter, boxes1.area() + boxes2.area() - inter)
