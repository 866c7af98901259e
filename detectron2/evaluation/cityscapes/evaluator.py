"""Cityscapes' instance AP and semantic IoU, without cityscapesScripts."""

from __future__ import annotations

import itertools
import logging
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from detectron2.data import MetadataCatalog
from detectron2.utils import comm
from detectron2.utils.errors import NoSuchFile
from detectron2.utils.file_io import PathManager

from ..progress.per_image import PerImageEvaluator
from . import scores as figures

__all__ = ["CityscapesEvaluator", "CityscapesInstanceEvaluator", "CityscapesSemSegEvaluator"]


class CityscapesEvaluator(PerImageEvaluator):
    """Base of both evaluators: finds the labels of images.

    An image ``.../leftImg8bit/val/city/x_leftImg8bit.png`` has the labels ``.../gtFine/val/city/x_gtFine_*.png``.
    """

    def __init__(self, dataset_name: str) -> None:
        """
        Args:
            dataset_name: a Cityscapes dataset, whose metadata has ``thing_classes`` or ``stuff_classes``, and
                ``gt_dir``.
        """
        self._metadata = MetadataCatalog.get(dataset_name)
        self._cpu_device = torch.device("cpu")
        self._logger = logging.getLogger(__name__)
        self.reset()

    def reset(self) -> None:
        """Reset all counts."""
        self._seen: set[str] = set()

    def _summarise(self, record: Mapping[str, Any], output: Mapping[str, Any]) -> Any:
        raise NotImplementedError("use CityscapesInstanceEvaluator or CityscapesSemSegEvaluator")

    def evaluate(self) -> OrderedDict[str, Any] | None:
        """Compute the metrics; defined by subclasses."""
        raise NotImplementedError("use CityscapesInstanceEvaluator or CityscapesSemSegEvaluator")

    def _labels(self, file_name: str, kind: str) -> npt.NDArray[np.int64]:
        """Load the label map of an image, of the kind ``labelIds`` or ``instanceIds``."""
        self._seen.add(file_name)
        name = os.path.basename(file_name).replace("_leftImg8bit.png", f"_gtFine_{kind}.png")
        city = os.path.basename(os.path.dirname(file_name))
        root = self._metadata.get("gt_dir")
        folder = (
            os.path.join(root, city) if root else os.path.dirname(file_name).replace("leftImg8bit", "gtFine")
        )
        path = os.path.join(folder, name)
        if name == os.path.basename(file_name) or not PathManager.isfile(path):
            raise NoSuchFile(
                f"no labels for {file_name}: expected {path}. Images must be named '*_leftImg8bit.png', with gtFine "
                "beside leftImg8bit (or gt_dir in the metadata)."
            )
        with PathManager.open(path, "rb") as file:
            return np.asarray(Image.open(file)).astype(np.int64)


class CityscapesInstanceEvaluator(CityscapesEvaluator):
    """Instance segmentation: ``{"segm": {"AP", "AP50"}}`` in percent."""

    def reset(self) -> None:
        """Reset all counts."""
        super().reset()
        self._records: list[figures.InstanceRecord] = []

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Process one batch.

        Args:
            inputs: dicts with ``file_name``.
            outputs: dicts with ``instances``: ``pred_masks``, ``pred_classes``, ``scores``.
        """
        super().process(inputs, outputs)

    def _summarise(self, record: Mapping[str, Any], output: Mapping[str, Any]) -> list[list[Any]]:
        names = self._metadata.thing_classes
        truth = self._labels(record["file_name"], "instanceIds")
        found = output["instances"].to(self._cpu_device)
        if found.has("pred_masks"):
            masks = found.pred_masks.numpy().astype(bool)
            labels = np.array(
                [figures.BY_NAME[names[c]].id for c in found.pred_classes.tolist()], dtype=np.int64
            )
            scores = found.scores.numpy()
        else:  # a model without a mask head finds no instance
            masks, labels, scores = (
                np.zeros((0, *truth.shape), dtype=bool),
                np.zeros(0, np.int64),
                np.zeros(0),
            )
        return [list(r) for r in figures.compare_instances(record["file_name"], truth, masks, labels, scores)]

    def _take(self, summary: list[list[Any]]) -> None:
        self._records += [figures.InstanceRecord(*fields) for fields in summary]

    def evaluate(self) -> OrderedDict[str, Any] | None:
        """Compute the metrics; None on processes other than the main one."""
        parts = comm.gather(self._records, dst=0)
        if not comm.is_main_process():
            return None
        return OrderedDict({"segm": figures.instance_figures(list(itertools.chain.from_iterable(parts)))})


class CityscapesSemSegEvaluator(CityscapesEvaluator):
    """Semantic segmentation: ``{"sem_seg": {"IoU", "iIoU", "IoU_sup", "iIoU_sup"}}`` in percent."""

    def reset(self) -> None:
        """Reset all counts."""
        super().reset()
        self._counts = figures.SemanticCounts()

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> None:
        """Count the pixels of one batch.

        Args:
            inputs: dicts with ``file_name``.
            outputs: dicts with ``sem_seg``: scores ``[19, H, W]`` of the training classes.
        """
        super().process(inputs, outputs)

    def _summarise(self, record: Mapping[str, Any], output: Mapping[str, Any]) -> dict[str, Any]:
        ids = np.array([label.id for label in figures.SEMANTIC])
        classes = output["sem_seg"].argmax(dim=0).to(self._cpu_device).numpy()
        if classes.size and classes.max() >= len(ids):
            raise ValueError(
                f"{record['file_name']}: class {classes.max()} was predicted, but Cityscapes has {len(ids)} classes"
            )
        truth = self._labels(record["file_name"], "labelIds")
        if truth.shape != classes.shape:
            raise ValueError(
                f"{record['file_name']}: the prediction has shape {list(classes.shape)}, but its labels "
                f"{list(truth.shape)}"
            )
        counts = figures.SemanticCounts()
        counts.add_image(truth, ids[classes], self._labels(record["file_name"], "instanceIds"))
        return vars(counts)

    def _take(self, summary: dict[str, Any]) -> None:
        self._counts.add(figures.SemanticCounts(**summary))

    def evaluate(self) -> OrderedDict[str, Any] | None:
        """Compute the metrics; None on processes other than the main one."""
        parts = comm.gather(self._counts, dst=0)
        if not comm.is_main_process():
            return None
        total = figures.SemanticCounts()
        for part in parts:
            total.add(part)
        return OrderedDict({"sem_seg": total.figures()})
