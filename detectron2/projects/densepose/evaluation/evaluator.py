"""Evaluation of DensePose on datasets in COCO format."""

import contextlib
import copy
import io
import itertools
import logging
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch
from pycocotools.coco import COCO
from torch import nn

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import BoxMode, Instances
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import create_small_table

from ..converters import ToChartResultConverter, ToMaskConverter
from ..data.datasets.coco import maybe_filter_and_map_categories_cocoapi
from ..structures import (
    DensePoseChartPredictorOutput,
    DensePoseEmbeddingPredictorOutput,
    quantize_densepose_chart_result,
)
from .densepose_coco_evaluation import DensePoseCocoEval, DensePoseEvalMode
from .mesh_alignment_evaluator import MeshAlignmentEvaluator
from .tensor_storage import (
    MultiProcessTensorStorage,
    SingleProcessFileTensorStorage,
    SingleProcessRamTensorStorage,
    SingleProcessTensorStorage,
    SizeData,
    own_storage,
    storage_gather,
)

__all__ = [
    "DensePoseCOCOEvaluator",
    "MetadataCatalog",
    "build_densepose_evaluator_storage",
    "densepose_chart_predictions_to_dict",
    "densepose_chart_predictions_to_storage_dict",
    "densepose_cse_predictions_to_dict",
    "prediction_to_dict",
]

# Name of each type of similarity in the results.
_RESULTS = {
    "densepose_gps": DensePoseEvalMode.GPS,
    "densepose_gpsm": DensePoseEvalMode.GPSM,
    "densepose_segm": DensePoseEvalMode.IOU,
}
_CHART_MAPS = ("coarse_segm", "fine_segm", "u", "v")
_EMBEDDING_MAPS = ("coarse_segm", "embedding")


class DensePoseCOCOEvaluator(DatasetEvaluator):
    """AP and AR of DensePose by geodesic point similarity (GPS), by its mean with the IoU of masks, and by that IoU.

    The results are ``{"densepose_gps": {"AP": ..., "AP50": ..., "AR": ...}, "densepose_gpsm": {...},
    "densepose_segm": {...}}`` in percent, -100 without ground truth, -1 without predictions; with several
    classes also ``AP-<class>``. With mesh alignment there is ``"densepose_mesh_alignment": {"GE": ..., "GPS": ...}``.

    Args:
        dataset_name: a dataset whose metadata has ``json_file``, ``thing_dataset_id_to_contiguous_id`` and, for
            surface embeddings, ``class_to_mesh_name``.
        distributed: gather the predictions of all processes.
        output_dir: folder for ``coco_densepose_predictions.pth``; None = write nothing.
        evaluator_type: "iuv" for charts, "cse" for surface embeddings.
        min_iou_threshold: smallest similarity threshold; thresholds go up to 0.95 in steps of 0.05.
        storage: storage of predictions; None = memory, with quantised charts.
        embedder: returns the vertex embeddings of a mesh, for surface embeddings.
        should_evaluate_mesh_alignment: also compare the embeddings of different meshes.
        mesh_alignment_mesh_names: meshes to compare; None or empty = all.

    References:
        https://arxiv.org/abs/1802.00434, https://arxiv.org/abs/2011.12438
    """

    def __init__(
        self,
        dataset_name: str,
        distributed: bool,
        output_dir: str | None = None,
        evaluator_type: str = "iuv",
        min_iou_threshold: float = 0.5,
        storage: SingleProcessTensorStorage | None = None,
        embedder: nn.Module | None = None,
        should_evaluate_mesh_alignment: bool = False,
        mesh_alignment_mesh_names: Sequence[str] | None = None,
    ) -> None:
        self._logger = logging.getLogger(__name__)
        self._distributed = distributed
        self._output_dir = output_dir
        self._evaluator_type = evaluator_type
        self._min_threshold = min_iou_threshold
        self._storage = storage
        self._embedder = embedder
        self._mesh_alignment: MeshAlignmentEvaluator | None = None
        if should_evaluate_mesh_alignment:
            if embedder is None:
                raise ValueError(
                    "should_evaluate_mesh_alignment needs an embedder, whose embeddings it compares"
                )
            self._mesh_alignment = MeshAlignmentEvaluator(embedder, mesh_alignment_mesh_names)
        self._metadata = MetadataCatalog.get(dataset_name)
        with contextlib.redirect_stdout(io.StringIO()):
            self._coco_api = COCO(PathManager.get_local_path(self._metadata.json_file))
            maybe_filter_and_map_categories_cocoapi(dataset_name, self._coco_api)
        self._predictions: list[dict[str, Any]] = []

    def reset(self) -> None:
        self._predictions = []

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Add one batch.

        Args:
            inputs: dicts with ``image_id``.
            outputs: dicts with ``instances``; those without ``pred_densepose`` are skipped.
        """
        for record, output in zip(inputs, outputs):
            instances = output["instances"].to(torch.device("cpu"))
            if instances.has("pred_densepose"):
                meshes = self._metadata.get("class_to_mesh_name", {})
                self._predictions += map(
                    self._stored,
                    prediction_to_dict(
                        instances, record["image_id"], self._embedder, meshes, self._storage is not None
                    ),
                )

    def _stored(self, prediction: dict[str, Any]) -> dict[str, Any]:
        """Move the maps of a prediction to the storage, if there is one, and keep only their record id."""
        if self._storage is None:
            return prediction
        maps = {name: prediction.pop(name) for name in self._storage.data_schema}
        return {**prediction, "record_id": self._storage.put(maps), "rank": comm.get_rank()}

    def evaluate(self, img_ids: Sequence[Any] | None = None) -> OrderedDict[str, Any] | None:  # type: ignore[override]
        """Compute the metrics.

        Args:
            img_ids: images to evaluate; None = all images of the dataset.

        Returns:
            The results; None on processes other than the main one.
        """
        predictions = self._predictions
        if self._distributed:
            predictions = list(itertools.chain.from_iterable(comm.gather(predictions)))
        gather = storage_gather if self._distributed else own_storage
        storage = None if self._storage is None else gather(self._storage)
        if not comm.is_main_process():
            return None
        return self._eval_predictions(predictions, storage, img_ids)

    def _eval_predictions(
        self,
        predictions: list[dict[str, Any]],
        storage: MultiProcessTensorStorage | None,
        img_ids: Sequence[Any] | None,
    ) -> OrderedDict[str, Any]:
        if self._output_dir:
            PathManager.mkdirs(self._output_dir)
            path = os.path.join(self._output_dir, "coco_densepose_predictions.pth")
            with PathManager.open(path, "wb") as f:
                torch.save(predictions, f)
        results: OrderedDict[str, Any] = OrderedDict()
        metrics = _metric_names(self._min_threshold)
        if not predictions:
            self._logger.warning("The DensePose evaluator got no predictions: all metrics are -1.")
            results.update({name: dict.fromkeys(metrics, -1) for name in _RESULTS})
        else:
            for name, evaluation in self._evaluations(predictions, storage, img_ids):
                results[name] = self._figures(evaluation, metrics)
                self._logger.info("Evaluation of %s:\n%s", name, create_small_table(results[name]))
        if self._mesh_alignment is not None:
            results["densepose_mesh_alignment"] = self._evaluate_mesh_alignment()
        return results

    def _evaluations(
        self,
        predictions: list[dict[str, Any]],
        storage: MultiProcessTensorStorage | None,
        img_ids: Sequence[Any] | None,
    ) -> Any:
        """Yield the evaluation for each type of similarity; detections and ground truth are compared once."""
        with contextlib.redirect_stdout(io.StringIO()):
            detections = self._coco_api.loadRes(copy.copy(predictions))
        first = DensePoseCocoEval(self._coco_api, detections, "densepose", storage, self._embedder)
        steps = round((0.95 - self._min_threshold) / 0.05) + 1
        first.params.iouThrs = np.linspace(self._min_threshold, 0.95, steps)
        first.dpEvalMode = DensePoseEvalMode.GPSM
        if img_ids is not None:
            first.params.imgIds = list(img_ids)
        first.evaluate()
        for name, mode in _RESULTS.items():
            evaluation = first.in_mode(mode)
            with contextlib.redirect_stdout(io.StringIO()):
                evaluation.accumulate()
                evaluation.summarize()
            yield name, evaluation

    def _figures(self, evaluation: DensePoseCocoEval, metrics: Sequence[str]) -> dict[str, float]:
        figures = {name: float(value * 100) for name, value in zip(metrics, evaluation.stats)}
        class_names = self._metadata.get("thing_classes") or []
        if len(class_names) > 1:
            precisions = evaluation.eval["precision"]  # (thresholds, recalls, classes, areas, detections)
            for number, name in enumerate(class_names[: precisions.shape[2]]):
                found = precisions[:, :, number, 0, -1]
                found = found[found > -1]
                figures[f"AP-{name}"] = float(found.mean() * 100) if found.size else float("nan")
        return figures

    def _evaluate_mesh_alignment(self) -> dict[str, float]:
        assert self._mesh_alignment is not None
        error, similarity, per_mesh = self._mesh_alignment.evaluate()
        results = {"GE": error * 100, "GPS": similarity * 100}
        for kind, values in per_mesh.items():
            results.update({f"{kind}-{mesh}": value * 100 for mesh, value in values.items()})
        self._logger.info("Alignment of meshes:\n%s", create_small_table(results))
        return results


def _metric_names(min_threshold: float) -> list[str]:
    """Return the names of the metrics in ``DensePoseCocoEval.stats``."""
    low = [f"AP{t}" for t in (20, 30, 40) if t / 100 >= min_threshold - 1e-3]
    return ["AP", *low, "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl"]


def prediction_to_dict(
    instances: Instances,
    img_id: object,
    embedder: nn.Module | None,
    class_to_mesh_name: Mapping[int, str],
    use_storage: bool,
) -> list[dict[str, Any]]:
    """Convert the detections of one image to COCO result dicts.

    Args:
        instances: N detections, on the CPU.
        img_id: image.
        embedder: unused; kept for compatibility.
        class_to_mesh_name: unused; kept for compatibility.
        use_storage: return raw maps for a tensor storage instead of quantised charts.

    Returns:
        N dicts.

    Raises:
        TypeError: the type of prediction is unknown.
    """
    output = instances.pred_densepose
    if isinstance(output, DensePoseEmbeddingPredictorOutput):
        densepose = densepose_cse_predictions_to_dict(instances, embedder, class_to_mesh_name, use_storage)
    elif isinstance(output, DensePoseChartPredictorOutput):
        convert = (
            densepose_chart_predictions_to_storage_dict
            if use_storage
            else densepose_chart_predictions_to_dict
        )
        densepose = convert(instances)
    else:
        raise TypeError(f"expected predicted charts or surface embeddings, got {type(output).__name__}")
    boxes = BoxMode.convert(instances.pred_boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS).tolist()
    rows = zip(instances.pred_classes.tolist(), boxes, instances.scores.tolist(), densepose)
    return [
        {"image_id": img_id, "category_id": category, "bbox": box, "score": score, **rest}
        for category, box, score, rest in rows
    ]


def densepose_chart_predictions_to_dict(instances: Instances) -> list[dict[str, Any]]:
    """Convert predicted charts to quantised charts, ``densepose``, and image masks, ``segmentation``.

    Args:
        instances: N detections.
    """
    masks = ToMaskConverter.convert(instances.pred_densepose, instances.pred_boxes, instances.image_size)
    results = []
    for k, mask in enumerate(masks.tensor.cpu().numpy()):
        charts = ToChartResultConverter.convert(instances.pred_densepose[k], instances.pred_boxes[k])
        rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
        results.append(
            {
                "densepose": quantize_densepose_chart_result(charts).to(torch.device("cpu")),
                "segmentation": {**rle, "counts": rle["counts"].decode("utf-8")},
            }
        )
    return results


def densepose_chart_predictions_to_storage_dict(instances: Instances) -> list[dict[str, Any]]:
    """Split predicted charts into raw maps per instance: ``coarse_segm``, ``fine_segm``, ``u`` and ``v``.

    Args:
        instances: N detections.
    """
    return _rows(instances.pred_densepose, _CHART_MAPS)


def densepose_cse_predictions_to_dict(
    instances: Instances,
    embedder: nn.Module | None,
    class_to_mesh_name: Mapping[int, str],
    use_storage: bool,
) -> list[dict[str, Any]]:
    """Split predicted surface embeddings into maps per instance: ``coarse_segm`` and ``embedding``.

    Args:
        instances: N detections.
        embedder: unused; kept for compatibility.
        class_to_mesh_name: unused; kept for compatibility.
        use_storage: unused; kept for compatibility.
    """
    return _rows(instances.pred_densepose, _EMBEDDING_MAPS)


def _rows(output: object, names: Sequence[str]) -> list[dict[str, Any]]:
    maps = [getattr(output, name).cpu() for name in names]
    return [dict(zip(names, row)) for row in zip(*maps)]


def build_densepose_evaluator_storage(cfg: CfgNode, output_folder: str) -> SingleProcessTensorStorage | None:
    """Build the prediction storage of an evaluator.

    Args:
        cfg: ``DENSEPOSE_EVALUATION.STORAGE`` is "none", "ram" or "file", and ``TYPE`` "iuv" (or its old name "iou")
            or "cse".
        output_folder: folder for the file.

    Returns:
        The storage of this process; None for "none".

    Raises:
        ValueError: ``STORAGE`` or ``TYPE`` is unknown.
    """
    kind, place = cfg.DENSEPOSE_EVALUATION.TYPE, cfg.DENSEPOSE_EVALUATION.STORAGE
    kind = "iuv" if kind == "iou" else kind
    if place not in ("none", "ram", "file"):
        raise ValueError(f"DENSEPOSE_EVALUATION.STORAGE must be 'none', 'ram' or 'file', got {place!r}")
    if place == "none":
        return None
    head = cfg.MODEL.ROI_DENSEPOSE_HEAD
    charts = head.NUM_PATCHES + 1
    channels = {
        "iuv": {"coarse_segm": head.NUM_COARSE_SEGM_CHANNELS, "fine_segm": charts, "u": charts, "v": charts},
        "cse": {"coarse_segm": head.NUM_COARSE_SEGM_CHANNELS, "embedding": head.CSE.EMBED_SIZE},
    }
    if kind not in channels:
        raise ValueError(f"DENSEPOSE_EVALUATION.TYPE must be 'iuv' or 'cse', got {kind!r}")
    size = head.HEATMAP_SIZE
    schema = {name: SizeData("float32", (count, size, size)) for name, count in channels[kind].items()}
    if place == "ram":
        return SingleProcessRamTensorStorage(schema, io.BytesIO())
    PathManager.mkdirs(output_folder)
    path = os.path.join(output_folder, f"DensePoseEvaluatorStorage.{kind}.{comm.get_rank()}.bin")
    return SingleProcessFileTensorStorage(schema, path, "wb")
