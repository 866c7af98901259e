"""Gather annotations of matched proposals, and read predictions at annotated points.

Annotated points lie on a grid of 256 x 256 over the ground-truth box; predictions lie on a grid over the proposal.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from detectron2.structures import BoxMode, Instances

from ...structures.data_relative import DensePoseDataRelative

__all__ = [
    "AnnotationsAccumulator",
    "BilinearInterpolationHelper",
    "ChartBasedAnnotationsAccumulator",
    "PackedAnnotations",
    "PackedChartBasedAnnotations",
    "extract_packed_annotations_from_matches",
    "resample_data",
    "sample_random_indices",
]


class PackedAnnotations(Protocol):
    """Common fields of chart and vertex annotations, see :class:`PackedChartBasedAnnotations`."""

    x_gt: Tensor
    y_gt: Tensor
    coarse_segm_gt: Tensor | None
    bbox_xywh_gt: Tensor
    bbox_xywh_est: Tensor
    point_bbox_with_dp_indices: Tensor
    point_bbox_indices: Tensor
    bbox_indices: Tensor


@dataclass
class PackedChartBasedAnnotations:
    """Chart annotations of B boxes with P points in total, of R matched proposals.

    Args:
        fine_segm_labels_gt: [P] int64 charts.
        x_gt: [P] positions in the ground-truth box, from 0 to 256.
        y_gt: [P], likewise.
        u_gt: [P] coordinates in the chart.
        v_gt: [P], likewise.
        coarse_segm_gt: [B, 256, 256] part labels, -1 in boxes without; None if no box has any.
        bbox_xywh_gt: [B, 4] ground-truth boxes.
        bbox_xywh_est: [B, 4] proposals.
        point_bbox_with_dp_indices: [P] box of each point among the B.
        point_bbox_indices: [P] box of each point among the R.
        bbox_indices: [B] position of each box among the R.
    """

    fine_segm_labels_gt: Tensor
    x_gt: Tensor
    y_gt: Tensor
    u_gt: Tensor
    v_gt: Tensor
    coarse_segm_gt: Tensor | None
    bbox_xywh_gt: Tensor
    bbox_xywh_est: Tensor
    point_bbox_with_dp_indices: Tensor
    point_bbox_indices: Tensor
    bbox_indices: Tensor


class AnnotationsAccumulator(ABC):
    """Gathers annotations of images one by one."""

    @abstractmethod
    def accumulate(self, instances_one_image: Instances) -> None:
        """Add the annotations of an image.

        Args:
            instances_one_image: proposals with their ground truth.
        """

    @abstractmethod
    def pack(self) -> PackedAnnotations | None:
        """Return all added annotations as one object; None if there are none."""


class BoxAnnotationsAccumulator(AnnotationsAccumulator):
    """Gathers boxes, part labels and the points of each box. Subclasses define the tables of points."""

    def __init__(self) -> None:
        self._boxes_seen = 0
        self._points: dict[str, list[Tensor]] = {}
        self._segm: list[Tensor | None] = []
        self._bbox_gt: list[Tensor] = []
        self._bbox_est: list[Tensor] = []
        self._bbox_indices: list[int] = []

    @abstractmethod
    def _tables_of(self, data: DensePoseDataRelative) -> dict[str, Tensor] | None:
        """Return tables [K] by field name; None if the annotation has another type."""

    def accumulate(self, instances_one_image: Instances) -> None:
        """Add the annotations of an image.

        Args:
            instances_one_image: ``proposal_boxes``, ``gt_boxes`` and optionally ``gt_densepose``.
        """
        first = self._boxes_seen
        self._boxes_seen += len(instances_one_image)
        if not instances_one_image.has("gt_densepose"):
            return
        gt, est = (
            BoxMode.convert(boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
            for boxes in (instances_one_image.gt_boxes, instances_one_image.proposal_boxes)
        )
        for row, data in enumerate(instances_one_image.gt_densepose):
            tables = None if data is None or len(data.x) == 0 else self._tables_of(data)
            if tables is None:
                continue
            for name, table in tables.items():
                self._points.setdefault(name, []).append(table.to(gt.device))
            self._segm.append(data.segm.to(gt.device) if hasattr(data, "segm") else None)
            self._bbox_gt.append(gt[row])
            self._bbox_est.append(est[row])
            self._bbox_indices.append(first + row)

    def _pack(self) -> dict[str, Any] | None:
        """Return the fields of a packed object."""
        if not self._bbox_indices:
            return None
        device = self._bbox_gt[0].device
        # Repeated on the host, since a device would have to tell it how many there are.
        counts = torch.tensor([len(x) for x in self._points["x_gt"]])
        boxes = torch.tensor(self._bbox_indices)
        return {
            **{name: torch.cat(tables) for name, tables in self._points.items()},
            "coarse_segm_gt": self._packed_segm(),
            "bbox_xywh_gt": torch.stack(self._bbox_gt),
            "bbox_xywh_est": torch.stack(self._bbox_est),
            "point_bbox_with_dp_indices": torch.arange(len(boxes)).repeat_interleave(counts).to(device),
            "point_bbox_indices": boxes.repeat_interleave(counts).to(device),
            "bbox_indices": boxes.to(device),
        }

    def _packed_segm(self) -> Tensor | None:
        known = [segm for segm in self._segm if segm is not None]
        if not known:
            return None
        unknown = torch.full_like(known[0], -1)
        return torch.stack([unknown if segm is None else segm for segm in self._segm])


class ChartBasedAnnotationsAccumulator(BoxAnnotationsAccumulator):
    """Gathers chart annotations."""

    def _tables_of(self, data: DensePoseDataRelative) -> dict[str, Tensor] | None:
        if not hasattr(data, "i"):
            return None
        points = {"x_gt": data.x, "y_gt": data.y, "u_gt": data.u, "v_gt": data.v}
        return {"fine_segm_labels_gt": data.i.long(), **points}

    def pack(self) -> PackedChartBasedAnnotations | None:
        """Return all added annotations as one object; None if there are none."""
        content = self._pack()
        return None if content is None else PackedChartBasedAnnotations(**content)


def extract_packed_annotations_from_matches(
    proposals_with_targets: list[Instances], accumulator: AnnotationsAccumulator
) -> Any:
    """Gather the annotations of several images.

    Args:
        proposals_with_targets: proposals of each image with their ground truth.
        accumulator: gathers them.

    Returns:
        The result of ``accumulator.pack()``.
    """
    for proposals in proposals_with_targets:
        accumulator.accumulate(proposals)
    return accumulator.pack()


def sample_random_indices(
    n_indices: int, n_samples: int, device: torch.device | None = None
) -> Tensor | None:
    """Draw distinct indices.

    Args:
        n_indices: upper bound of the indices, exclusive.
        n_samples: number of indices.
        device: device of the result.

    Returns:
        [n_samples] int64; None = all, if ``n_samples`` is not positive or at least ``n_indices``.
    """
    if n_samples <= 0 or n_indices <= n_samples:
        return None
    return torch.randperm(n_indices, device=device)[:n_samples]


def resample_data(
    z: Tensor,
    bbox_xywh_src: Tensor,
    bbox_xywh_dst: Tensor,
    wout: int,
    hout: int,
    mode: str = "nearest",
    padding_mode: str = "zeros",
) -> Tensor:
    """Resample maps from one box to another.

    Args:
        z: [N, C, H, W] maps, whose corner pixels have their centres in the corners of the first boxes.
        bbox_xywh_src: [N, 4] the boxes that they cover.
        bbox_xywh_dst: [N, 4] the boxes that the result covers.
        wout: width of the result.
        hout: height of the result.
        mode: interpolation, as in ``grid_sample``.
        padding_mode: values beyond the first boxes, as in ``grid_sample``.

    Returns:
        [N, C, hout, wout]; a pixel is the value at its upper left corner.
    """
    # Corners of the second box in units of the first, where it runs from -1 to 1.
    near = 2 * (bbox_xywh_dst[:, :2] - bbox_xywh_src[:, :2]) / bbox_xywh_src[:, 2:] - 1
    extent = 2 * bbox_xywh_dst[:, 2:] / bbox_xywh_src[:, 2:]
    x = near[:, :1] + extent[:, :1] * (torch.arange(wout, device=z.device) / wout)  # [N, wout]
    y = near[:, 1:] + extent[:, 1:] * (torch.arange(hout, device=z.device) / hout)  # [N, hout]
    grid = torch.stack([x[:, None, :].expand(-1, hout, -1), y[:, :, None].expand(-1, -1, wout)], dim=3)
    return F.grid_sample(z, grid, mode=mode, padding_mode=padding_mode, align_corners=True)


def _positions(
    relative: Tensor, near_gt: Tensor, size_gt: Tensor, near_est: Tensor, size_est: Tensor, cells: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the positions of points [P] on a grid over proposals, along one axis.

    Returns:
        Whether each is within its proposal, the cell before it, the cell after it, and the weight of the latter.
    """
    offset = near_gt + relative * size_gt / DensePoseDataRelative.MASK_SIZE - near_est
    valid = (offset >= 0) & (offset < size_est)
    place = offset * cells / size_est
    low = place.floor().long().clamp(0, cells - 1)
    high = (low + 1).clamp(max=cells - 1)
    return valid, low, high, torch.minimum(place, high.to(place.dtype)) - low


class BilinearInterpolationHelper:
    """Reads maps over proposals at P annotated points, by bilinear interpolation.

    Args:
        packed_annotations: the points.
        j_valid: [P] whether each point lies within its proposal.
        y_lo: [P] row before each point.
        y_hi: [P] row after it.
        x_lo: [P] column before it.
        x_hi: [P] column after it.
        w_ylo_xlo: [P] weights of the four cells.
        w_ylo_xhi: [P].
        w_yhi_xlo: [P].
        w_yhi_xhi: [P].
    """

    def __init__(
        self,
        packed_annotations: Any,
        j_valid: Tensor,
        y_lo: Tensor,
        y_hi: Tensor,
        x_lo: Tensor,
        x_hi: Tensor,
        w_ylo_xlo: Tensor,
        w_ylo_xhi: Tensor,
        w_yhi_xlo: Tensor,
        w_yhi_xhi: Tensor,
    ) -> None:
        self.packed_annotations = packed_annotations
        self.j_valid = j_valid
        self.y_lo, self.y_hi, self.x_lo, self.x_hi = y_lo, y_hi, x_lo, x_hi
        self.w_ylo_xlo, self.w_ylo_xhi = w_ylo_xlo, w_ylo_xhi
        self.w_yhi_xlo, self.w_yhi_xhi = w_yhi_xlo, w_yhi_xhi

    @staticmethod
    def from_matches(
        packed_annotations: PackedAnnotations, densepose_outputs_size_hw: tuple[int, int]
    ) -> "BilinearInterpolationHelper":
        """Compute the positions of the points on the grid of the predictions.

        Args:
            packed_annotations: the points and their boxes.
            densepose_outputs_size_hw: height and width of the predicted maps.
        """
        height, width = densepose_outputs_size_hw
        rows = packed_annotations.point_bbox_with_dp_indices
        x0_gt, y0_gt, w_gt, h_gt = packed_annotations.bbox_xywh_gt[rows].unbind(1)
        x0_est, y0_est, w_est, h_est = packed_annotations.bbox_xywh_est[rows].unbind(1)
        x_valid, x_lo, x_hi, x_w = _positions(packed_annotations.x_gt, x0_gt, w_gt, x0_est, w_est, width)
        y_valid, y_lo, y_hi, y_w = _positions(packed_annotations.y_gt, y0_gt, h_gt, y0_est, h_est, height)
        return BilinearInterpolationHelper(
            packed_annotations,
            j_valid=x_valid & y_valid,
            y_lo=y_lo,
            y_hi=y_hi,
            x_lo=x_lo,
            x_hi=x_hi,
            w_ylo_xlo=(1 - x_w) * (1 - y_w),
            w_ylo_xhi=x_w * (1 - y_w),
            w_yhi_xlo=(1 - x_w) * y_w,
            w_yhi_xhi=x_w * y_w,
        )

    def extract_at_points(
        self,
        z_est: Tensor,
        slice_fine_segm: Tensor | slice | None = None,
        w_ylo_xlo: Tensor | None = None,
        w_ylo_xhi: Tensor | None = None,
        w_yhi_xlo: Tensor | None = None,
        w_yhi_xhi: Tensor | None = None,
    ) -> Tensor:
        """Read maps at the points.

        Args:
            z_est: [R, C, H, W] maps over the R proposals.
            slice_fine_segm: channel to read, by default that of each point's chart. With all channels
                (``slice(None)``) give the weights as [P, 1].
            w_ylo_xlo: weights to use instead of the helper's own.
            w_ylo_xhi: as ``w_ylo_xlo``.
            w_yhi_xlo: as ``w_ylo_xlo``.
            w_yhi_xhi: as ``w_ylo_xlo``.

        Returns:
            [P], or [P, C] with all channels.
        """
        points = self.packed_annotations
        channel = points.fine_segm_labels_gt if slice_fine_segm is None else slice_fine_segm
        corners = (
            (self.y_lo, self.x_lo, self.w_ylo_xlo if w_ylo_xlo is None else w_ylo_xlo),
            (self.y_lo, self.x_hi, self.w_ylo_xhi if w_ylo_xhi is None else w_ylo_xhi),
            (self.y_hi, self.x_lo, self.w_yhi_xlo if w_yhi_xlo is None else w_yhi_xlo),
            (self.y_hi, self.x_hi, self.w_yhi_xhi if w_yhi_xhi is None else w_yhi_xhi),
        )
        values = [z_est[points.point_bbox_indices, channel, y, x] * weight for y, x, weight in corners]
        return torch.stack(values).sum(0)

    def extract_channels_at_points(self, z_est: Tensor) -> Tensor:
        """Read all channels of maps at the points.

        Args:
            z_est: [R, C, H, W] maps over the R proposals.

        Returns:
            [P, C].
        """
        weights = (self.w_ylo_xlo, self.w_ylo_xhi, self.w_yhi_xlo, self.w_yhi_xhi)
        return self.extract_at_points(z_est, slice(None), *(w[:, None] for w in weights))
