"""The yacs-style config as a :class:`RunConfig`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import yaml
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from detectron2.config import CfgNode
from detectron2.config.training_options import OPTIONS, YACS_LENGTHS, Option
from detectron2.data import DatasetMapper, build_detection_test_loader, build_detection_train_loader
from detectron2.data.transforms import Augmentation, ResizeShortestEdge
from detectron2.evaluation import DatasetEvaluator
from detectron2.evaluation.build import build_evaluator
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils.file_io import PathManager
from detectron2.utils.file_io.atomic import atomic_write

from .base import Part, RunConfig
from .files import flatten
from .lengths import parse_length
from .words import as_pairs

__all__ = ["YacsRunConfig"]

# Segmentation heads that predict instance masks: their number of classes is that of instances.
MASK_CLASSIFIERS = ("MaskFormerHead", "MaskDINOHead")


class YacsRunConfig(RunConfig):
    """A ``CfgNode``; the ``build_*`` functions build its parts."""

    cfg: CfgNode
    kind = "yacs"
    batch_path = "SOLVER.IMS_PER_BATCH"
    rate_path = "SOLVER.BASE_LR"
    workers_path = "DATALOADER.NUM_WORKERS"
    length_paths = (*(option.key for option in OPTIONS.values() if option.is_length), *YACS_LENGTHS)

    @staticmethod
    def path_of(option: Option) -> str:
        return option.key

    def set(self, path: str, value: object) -> None:
        parent, _, name = path.rpartition(".")
        setattr(self.get(parent) if parent else self.cfg, name, value)

    def override(self, changes: Sequence[str]) -> None:
        self.cfg.merge_from_list(as_pairs(changes))

    def copied(self) -> YacsRunConfig:
        return YacsRunConfig(self.cfg.clone())

    @contextmanager
    def thawed(self) -> Iterator[None]:
        frozen = self.cfg.is_frozen()
        self.cfg.defrost()
        try:
            yield
        finally:
            if frozen:
                self.cfg.freeze()

    def save(self, path: str) -> None:
        target = PathManager.open(path, "w") if "://" in path else atomic_write(path)
        with target as file:
            file.write(self.cfg.dump())

    def _as_yaml(self) -> str:
        return self.cfg.dump()

    def _as_python(self) -> str:
        return "".join(f"cfg.{key} = {value!r}\n" for key, value in sorted(flatten(self.cfg).items()))

    def as_dict(self) -> dict[str, Any]:
        content: dict[str, Any] = yaml.safe_load(self.cfg.dump())
        return content

    def model(self) -> nn.Module:
        return build_model(self.cfg)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(self.cfg, model)

    def schedule(self, optimizer: torch.optim.Optimizer) -> LRScheduler:
        return build_lr_scheduler(self.cfg, optimizer)

    def train_loader(self) -> Iterable[Any]:
        loader: Iterable[Any] = build_detection_train_loader(self.cfg)
        return loader

    def test_loader(self, dataset_name: str) -> Iterable[Any]:
        loader: Iterable[Any] = build_detection_test_loader(self.cfg, dataset_name)
        return loader

    def validation_loader(self) -> Iterable[Any]:
        steps = [self.test_augmentation()]
        masks = self.predicts_masks  # also of models whose own mapper reads masks without MASK_ON
        mapper = DatasetMapper(self.cfg, is_train=True, augmentations=steps, use_instance_mask=masks)
        loader: Iterable[Any] = build_detection_test_loader(self.cfg, self.test_names, mapper=mapper)
        return loader

    def evaluator(self, dataset_name: str) -> DatasetEvaluator:
        return build_evaluator(self.cfg, dataset_name)

    def test_augmentation(self) -> Augmentation:
        size = self.cfg.INPUT.MIN_SIZE_TEST
        return ResizeShortestEdge([size, size], self.cfg.INPUT.MAX_SIZE_TEST)

    @property
    def input_format(self) -> str:
        return str(self.cfg.INPUT.FORMAT)

    def dataset_names(self, part: Part) -> list[str]:
        return list(self.cfg.DATASETS[part.upper()] or ())

    @property
    def test_names(self) -> list[str]:
        return self.dataset_names("test")

    @property
    def expected_results(self) -> Sequence[Any]:
        return tuple(self.cfg.TEST.EXPECTED_RESULTS)

    @property
    def predicts_masks(self) -> bool:
        return bool(self.cfg.MODEL.MASK_ON) or self.cfg.MODEL.SEM_SEG_HEAD.NAME in MASK_CLASSIFIERS

    def set_data(self, train: str, test: str, num_classes: int, num_workers: int) -> None:
        if (
            self.cfg.DATASETS.TRAIN
        ):  # the config is for other data, so exact equality with Pillow's slower resizing is moot
            self.cfg.INPUT.RESIZE_BACKEND = "torch"
        self.cfg.DATASETS.TRAIN, self.cfg.DATASETS.TEST = (train,), (test,)
        self.cfg.DATALOADER.NUM_WORKERS = num_workers
        for head in (self.cfg.MODEL.ROI_HEADS, self.cfg.MODEL.RETINANET):
            head.NUM_CLASSES = num_classes
        if self.cfg.MODEL.SEM_SEG_HEAD.NAME in MASK_CLASSIFIERS:
            self.cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = num_classes

    def unfreeze(self) -> None:
        self.cfg.MODEL.BACKBONE.FREEZE_AT = 0
        if self.cfg.MODEL.RESNETS.NORM == "FrozenBN":
            self.cfg.MODEL.RESNETS.NORM = "BN"

    def _card_config(self) -> Mapping[str, str]:
        return {"config": self.cfg.dump(), "config_kind": "yacs"}

    @property
    def warmup(self) -> float:
        return parse_length(self.cfg.SOLVER.WARMUP_ITERS, None)

    @warmup.setter
    def warmup(self, iterations: float) -> None:
        self.cfg.SOLVER.WARMUP_ITERS = int(iterations)
