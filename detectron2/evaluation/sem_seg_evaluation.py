"""Mean IoU, boundary IoU and accuracy of semantic segmentation."""

# Legend: K classes (index K = ignored pixels), H x W pixels. Confusion matrices have predictions in rows.

from __future__ import annotations

import itertools
import json
import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures.rle import encode_masks
from detectron2.utils.comm import all_gather, is_main_process, synchronize
from detectron2.utils.errors import BadValue
from detectron2.utils.file_io import PathManager
from detectron2.utils.file_io.atomic import atomic_write

from .evaluator import DatasetEvaluator
from .progress.per_image import PerImageEvaluator

__all__ = [
    "DatasetCatalog",
    "DatasetEvaluator",
    "MetadataCatalog",
    "SemSegEvaluator",
    "all_gather",
    "is_main_process",
    "load_image_into_numpy_array",
    "synchronize",
]

_BOUNDARY_RATIO = 0.02  # of the image's diagonal
_MOST_CLASSES = 255

IntArray = npt.NDArray[np.int64]


def load_image_into_numpy_array(filename: str, dtype: npt.DTypeLike | None = None) -> npt.NDArray:
    """Return an image file as an array, without color conversion.

    Args:
        filename: a path that the ``PathManager`` can open.
        dtype: type of the result; None = that of the file.
    """
    with PathManager.open(filename, "rb") as file:
        return np.array(Image.open(file), dtype=dtype)


def boundary_levels(labels: IntArray) -> IntArray:
    """Compute the difference of each pixel's label and the lowest label nearby.

    "Nearby" is a square that extends by 2 % of the image's diagonal to each side, with label 0 outside of the image.
    This applies the erosion of Boundary IoU (https://arxiv.org/abs/2103.16562) to the label map as a whole, as
    Detectron2 defines its ``BoundaryIoU``.

    Args:
        labels: ``[H, W]``, at least 0.
    """
    radius = max(1, round(_BOUNDARY_RATIO * float(np.hypot(*labels.shape))))
    lowest = -torch.from_numpy(labels).float()[None, None]
    lowest = F.pad(lowest, (radius,) * 4)
    # Minimum over a square = minimum over rows of the minimum over columns.
    lowest = F.max_pool2d(lowest, (2 * radius + 1, 1), stride=1)
    lowest = F.max_pool2d(lowest, (1, 2 * radius + 1), stride=1)
    return labels + lowest[0, 0].numpy().astype(np.int64)


def _cells(predicted: IntArray, truth: IntArray, side: int) -> tuple[IntArray, IntArray]:
    """Return the nonzero cells ``side * prediction + truth`` of a confusion matrix, and their pixel counts."""
    counts = np.bincount(side * predicted.reshape(-1) + truth.reshape(-1), minlength=side * side)
    cells = np.flatnonzero(counts)
    return cells, counts[cells]


def _ratio(part: npt.NDArray, whole: npt.NDArray, valid: npt.NDArray) -> npt.NDArray[np.float64]:
    """Compute part / whole where valid, NaN elsewhere."""
    result = np.full(len(part), np.nan)
    result[valid] = part[valid] / whole[valid]
    return result


class SemSegEvaluator(PerImageEvaluator):
    """Computes mIoU, fwIoU, mACC, pACC, and IoU, boundary IoU and ACC per class.

    Pixels are counted batch by batch; a distributed run communicates only the counts.
    """

    def __init__(
        self,
        dataset_name: str,
        distributed: bool = True,
        output_dir: str | None = None,
        *,
        sem_seg_loading_fn: Callable[..., npt.NDArray] = load_image_into_numpy_array,
        num_classes: int | None = None,
        ignore_label: int | None = None,
    ) -> None:
        """
        Args:
            dataset_name: a registered dataset with ``sem_seg_file_name`` in its dicts, and ``stuff_classes`` and
                ``ignore_label`` in its metadata.
            distributed: whether to merge the counts of all processes.
            output_dir: folder for ``sem_seg_predictions.json`` and ``sem_seg_evaluation.pth``; None writes nothing.
            sem_seg_loading_fn: reads a label file; called as ``fn(path, dtype=int)``.
            num_classes: if given, must equal that of the metadata.
            ignore_label: if given, must equal that of the metadata, or replaces a missing one.
        """
        self._logger = logging.getLogger(__name__)
        self._dataset_name = dataset_name
        self._distributed = distributed
        self._output_dir = output_dir
        self._cpu_device = torch.device("cpu")
        metadata = MetadataCatalog.get(dataset_name)
        self.input_file_to_gt_file = {
            record["file_name"]: record["sem_seg_file_name"]
            for record in DatasetCatalog.get(dataset_name)
            if "sem_seg_file_name" in record
        }
        if not self.input_file_to_gt_file:
            raise ValueError(
                f"records of {dataset_name!r} must have 'sem_seg_file_name', the label file, but none has"
            )
        mapping = metadata.get("stuff_dataset_id_to_contiguous_id")
        self._contiguous_id_to_dataset_id = {v: k for k, v in mapping.items()} if mapping else None
        self._class_names = list(metadata.stuff_classes)
        self.sem_seg_loading_fn = sem_seg_loading_fn
        self._num_classes = len(self._class_names)
        if num_classes is not None and num_classes != self._num_classes:
            raise BadValue(
                f"num_classes is {num_classes}, but {dataset_name!r} has {self._num_classes} stuff_classes"
            )
        own_label = metadata.get("ignore_label", ignore_label)
        if ignore_label is not None and ignore_label != own_label:
            raise ValueError(
                f"ignore_label is {ignore_label}, but the metadata of {dataset_name!r} has {own_label}"
            )
        self._ignore_label = own_label
        self._compute_boundary_iou = self._num_classes < _MOST_CLASSES
        self.reset()

    def reset(self) -> None:
        side = self._num_classes + 1
        self._conf_matrix = np.zeros((side, side), dtype=np.int64)
        self._b_conf_matrix = np.zeros((side, side), dtype=np.int64)
        self._predictions: list[dict[str, Any]] = []

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Count the pixels of one batch.

        Args:
            inputs: dicts with ``file_name``.
            outputs: dicts with ``sem_seg``: scores ``[K, H, W]`` or labels ``[H, W]``.
        """
        super().process(inputs, outputs)

    def _summarise(self, record: Mapping[str, Any], output: Mapping[str, Any]) -> dict[str, Any]:
        name = record["file_name"]
        if name not in self.input_file_to_gt_file:
            raise KeyError(f"{name!r} is not an image of {self._dataset_name!r}, or has no label file there")
        scores = output["sem_seg"]
        labels = scores.argmax(dim=0) if scores.ndim == 3 else scores
        predicted = labels.to(self._cpu_device).numpy().astype(np.int64)
        truth = np.array(self.sem_seg_loading_fn(self.input_file_to_gt_file[name], dtype=int), dtype=np.int64)
        self._check(predicted, truth, name)
        side = self._num_classes + 1
        tables = [_cells(predicted, truth, side)]
        if self._compute_boundary_iou:
            tables.append(_cells(boundary_levels(predicted), boundary_levels(truth), side))
        return {
            "tables": tables,
            "predictions": self.encode_json_sem_seg(predicted, name) if self._output_dir else [],
        }

    def _take(self, summary: dict[str, Any]) -> None:
        for total, (cells, counts) in zip((self._conf_matrix, self._b_conf_matrix), summary["tables"]):
            total.reshape(-1)[cells] += counts
        self._predictions.extend(summary["predictions"])

    def _check(self, predicted: IntArray, truth: IntArray, name: str) -> None:
        """Set ignored pixels of ``truth`` to index K, and check that both contain only known classes."""
        k = self._num_classes
        if predicted.shape != truth.shape:
            raise ValueError(
                f"{name}: the prediction has shape {list(predicted.shape)}, but its labels {list(truth.shape)}"
            )
        truth[truth == self._ignore_label] = k
        for what, array, top in (("prediction", predicted, k - 1), ("label file", truth, k)):
            if array.size and (array.min() < 0 or array.max() > top):
                raise ValueError(
                    f"{name}: {what} has classes {int(array.min())} to {int(array.max())}, but they must be 0 to "
                    f"{k - 1} (ignored: {self._ignore_label})"
                )

    def evaluate(self) -> OrderedDict[str, Any] | None:
        """Compute the metrics in percent: ``{"sem_seg": {...}}``; None on processes other than the main one."""
        counts, edge_counts, predictions = self._conf_matrix, self._b_conf_matrix, self._predictions
        if self._distributed:
            synchronize()
            # Do not change the counts of this process, so that a second call returns the same.
            counts, edge_counts = sum(all_gather(counts)), sum(all_gather(edge_counts))  # type: ignore[assignment]
            if self._output_dir:
                predictions = list(itertools.chain.from_iterable(all_gather(predictions)))
            if not is_main_process():
                return None
        figures = self._figures(counts, edge_counts)
        if self._output_dir:
            os.makedirs(self._output_dir, exist_ok=True)
            with atomic_write(os.path.join(self._output_dir, "sem_seg_predictions.json"), "w") as file:
                file.write(json.dumps(predictions))
            with atomic_write(os.path.join(self._output_dir, "sem_seg_evaluation.pth"), "wb") as file:
                torch.save(figures, file)
        results = OrderedDict({"sem_seg": figures})
        self._logger.info("%s", results)
        if np.isnan(figures["mIoU"]):
            self._logger.warning("mIoU is NaN: the label files contain only ignored pixels.")
        return results

    def _figures(self, conf_matrix: IntArray, edge_matrix: IntArray) -> dict[str, float]:
        counts = conf_matrix[:-1, :-1].astype(np.float64)
        hits, truth, predicted = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
        present = truth > 0
        union = truth + predicted - hits
        iou = _ratio(hits, union, present)
        accuracy = _ratio(hits, truth, present)
        total = truth.sum()
        edge = edge_matrix[:-1, :-1].astype(np.float64)
        edge_union = edge.sum(axis=0) + edge.sum(axis=1) - edge.diagonal()
        edge_iou = _ratio(edge.diagonal(), edge_union, edge_union > 0)

        figures: dict[str, float] = {
            "mIoU": _mean(iou[present]),
            "fwIoU": float((iou * truth)[present].sum() / total) if total else float("nan"),
        }
        for k, name in enumerate(self._class_names):
            figures[f"IoU-{name}"] = iou[k]
            if self._compute_boundary_iou:
                figures[f"BoundaryIoU-{name}"] = edge_iou[k]
                figures[f"min(IoU, B-Iou)-{name}"] = np.minimum(iou[k], edge_iou[k])
        figures["mACC"] = _mean(accuracy[present])
        figures["pACC"] = float(hits.sum() / total) if total else float("nan")
        for k, name in enumerate(self._class_names):
            figures[f"ACC-{name}"] = accuracy[k]
        return {name: float(100 * value) for name, value in figures.items()}

    def encode_json_sem_seg(self, sem_seg: IntArray, input_file_name: str) -> list[dict[str, Any]]:
        """Encode a label map as one RLE per class in it.

        Args:
            sem_seg: ``[H, W]`` of contiguous classes.
            input_file_name: name of the image.

        Returns:
            Dicts with ``file_name``, ``category_id`` (that of the dataset) and ``segmentation``.
        """
        labels = np.unique(sem_seg)
        masks = encode_masks(sem_seg[None] == labels[:, None, None])
        ids = self._contiguous_id_to_dataset_id
        entries = []
        for label, counts in zip(labels.tolist(), masks.counts):
            if ids is not None and label not in ids:
                raise BadValue(f"class {label} has no dataset id; known are classes {sorted(ids)}")
            entries.append(
                {
                    "file_name": input_file_name,
                    "category_id": label if ids is None else ids[label],
                    "segmentation": {"size": list(masks.size), "counts": counts.decode("ascii")},
                }
            )
        return entries


def _mean(values: npt.NDArray) -> float:
    return float(values.mean()) if len(values) else float("nan")
