"""Base of the samplers of points from predicted charts."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from detectron2.structures import BoxMode, Instances

from ...converters.base import IntTupleBox, make_int_box
from ...converters.to_chart_result import ToChartResultConverter
from ...structures.data_relative import DensePoseDataRelative
from ...structures.list import DensePoseList

__all__ = ["DensePoseBaseSampler"]

# The annotated body part (1 to 14) of each of the 24 charts; 0 is background.
_PART_OF_CHART = torch.tensor(
    [0, 1, 1, 2, 3, 4, 5, 6, 7, 6, 7, 8, 9, 8, 9, 10, 11, 10, 11, 12, 13, 12, 13, 14, 14]
)


def points_in_box(rows: Tensor, columns: Tensor, box_xywh: IntTupleBox) -> dict[str, list[float]]:
    """Return the positions of pixels in annotation coordinates, which run from 0 to 256 over the box.

    Args:
        rows: int tensor (K,), rows of the pixels from the top of the box.
        columns: int tensor (K,), their columns.
        box_xywh: the box.

    Returns:
        ``dp_x`` and ``dp_y`` of the centres of the pixels.
    """
    _, _, width, height = box_xywh
    size = DensePoseDataRelative.MASK_SIZE
    return {
        DensePoseDataRelative.X_KEY: ((columns + 0.5) / max(width, 1) * size).tolist(),
        DensePoseDataRelative.Y_KEY: ((rows + 0.5) / max(height, 1) * size).tolist(),
    }


class DensePoseBaseSampler:
    """Base of the samplers that convert predicted charts to annotations.

    Subclasses choose pixels in ``_produce_index_sample``.

    Args:
        count_per_class: largest number of points per chart.
    """

    def __init__(self, count_per_class: int = 8) -> None:
        self.count_per_class = count_per_class

    def __call__(self, instances: Instances) -> DensePoseList:
        """Sample annotations.

        Args:
            instances: N detections with ``pred_boxes`` and ``pred_densepose``.

        Returns:
            N annotations, on the CPU.
        """
        boxes = instances.pred_boxes.tensor.detach().cpu()
        annotations = []
        for i, box in enumerate(BoxMode.convert(boxes, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)):
            instance = instances[i]
            annotation = self._sample(instance, make_int_box(box))
            annotation[DensePoseDataRelative.S_KEY] = self._resample_mask(instance.pred_densepose)
            annotations.append(DensePoseDataRelative(annotation))
        return DensePoseList(annotations, boxes, instances.image_size)

    def _sample(self, instance: Instances, bbox_xywh: IntTupleBox) -> dict[str, Any]:
        """Choose points of each chart.

        Args:
            instance: one detection.
            bbox_xywh: its box.

        Returns:
            The annotation without its mask.
        """
        labels, values = self._produce_labels_and_results(instance)
        chosen = [torch.zeros(0, dtype=torch.int64)]
        flat = labels.flatten()
        for label in range(1, DensePoseDataRelative.N_PART_LABELS + 1):
            pixels = (flat == label).nonzero()[:, 0]
            count = min(self.count_per_class, len(pixels))
            if count:
                chosen.append(pixels[self._produce_index_sample(values.flatten(1)[:, pixels], count)])
        pixels = torch.cat(chosen)
        u, v = values[:2].flatten(1)[:, pixels].clamp(0, 1).tolist()
        width = labels.shape[1]
        return {
            **points_in_box(pixels // width, pixels % width, bbox_xywh),
            DensePoseDataRelative.I_KEY: flat[pixels].tolist(),
            DensePoseDataRelative.U_KEY: u,
            DensePoseDataRelative.V_KEY: v,
        }

    def _produce_index_sample(self, values: Tensor, count: int) -> Tensor:
        """Choose among the pixels of one chart.

        Args:
            values: tensor (C, K) from :meth:`_produce_labels_and_results`, for K pixels.
            count: number of pixels to choose, at most K.

        Returns:
            int64 tensor (count,) of indices below K.
        """
        raise NotImplementedError(f"{type(self).__name__} must define _produce_index_sample")

    def _produce_labels_and_results(self, instance: Instances) -> tuple[Tensor, Tensor]:
        """Convert the prediction of one detection.

        Returns:
            Charts (H, W) of the pixels of its box, and values (C, H, W), of which the first two are U and V; both
            on the CPU.
        """
        result = ToChartResultConverter.convert(instance.pred_densepose, instance.pred_boxes)
        return result.labels.cpu(), result.uv.cpu()

    def _resample_mask(self, output: Any) -> Tensor:
        """Convert a prediction to the part labels of an annotation.

        Args:
            output: prediction of one detection.

        Returns:
            int64 tensor (256, 256) of parts 0 to 14, on the CPU.
        """
        charts = resample_to_annotation(output.fine_segm) * (resample_to_annotation(output.coarse_segm) > 0)
        return _PART_OF_CHART[charts]


def resample_to_annotation(logits: Tensor) -> Tensor:
    """Return the best channel at each pixel of an annotation's mask.

    Args:
        logits: tensor (1, C, H, W).

    Returns:
        int64 tensor (256, 256) of channels, on the CPU.
    """
    size = (DensePoseDataRelative.MASK_SIZE,) * 2
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)[0].argmax(dim=0).cpu()
