"""The Python config as a :class:`RunConfig`."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from detectron2.config import CfgNode, LazyConfig, instantiate
from detectron2.config.python.save import to_text
from detectron2.config.training_options import OPTIONS, Option, TrainingOptions
from detectron2.config.yacs.values import check_type
from detectron2.data.transforms import Augmentation, AugmentationList
from detectron2.evaluation import DatasetEvaluator
from detectron2.solver import LRMultiplier
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.solver.param_scheduler import ParamScheduler
from detectron2.utils.device import check_device
from detectron2.utils.errors import UnknownNameError
from detectron2.utils.logger import log_first_n
from detectron2.utils.suggest import did_you_mean, misspelt

from .base import Part, RunConfig
from .lengths import parse_length
from .words import as_assignments

__all__ = ["LazyRunConfig"]

# Where configs of EVA-02 and detrex have an option, and which other keys of theirs are accepted without effect.
_ALSO = {"train.ema.enabled": "train.model_ema.enabled", "train.ema.decay": "train.model_ema.decay"}
_ACCEPTED = ("train.model_ema.device", "train.model_ema.use_ema_weights_for_eval_only")
# Clipping of the joint norm of all gradients, as configs of detrex have it.
_CLIP = {"enabled": False, "params.max_norm": 0.1, "params.norm_type": 2.0}
# Names of a mapper's augmentations and of the order of its channels: the package's own, and detrex's.
_AUGMENTATIONS, _FORMATS = ("augmentations", "augmentation"), ("image_format", "img_format")

CLASS_PLACES = (
    *("model.num_classes", "model.criterion.num_classes"),
    *("model.roi_heads.num_classes", "model.head.num_classes"),
)


class LazyRunConfig(RunConfig):
    """A Python config with ``model``, ``optimizer``, ``lr_multiplier``, ``dataloader`` and ``train``."""

    cfg: DictConfig
    kind = "lazy"
    batch_path = "dataloader.train.total_batch_size"
    rate_path = "optimizer.lr"
    workers_path = "dataloader.train.num_workers"
    # Schedules use fractions of the training, so they contain no lengths.
    length_paths = tuple(option.lazy for option in OPTIONS.values() if option.is_length)

    @staticmethod
    def path_of(option: Option) -> str:
        return option.lazy

    def set(self, path: str, value: object) -> None:
        OmegaConf.update(self.cfg, path, value, force_add=True)

    def override(self, changes: Sequence[str]) -> None:
        LazyConfig.apply_overrides(self.cfg, as_assignments(changes))

    @property
    def options(self) -> TrainingOptions:
        """The training options, with defaults for those that the config lacks.

        Raises:
            KeyError: if ``train`` has a key that looks like a misspelt option.
            ValueError: if an option has a value of another type.
        """
        _check_names(self.get("train", {}))
        values = {name: _fitted(option, self._value_of(option.lazy)) for name, option in OPTIONS.items()}
        values["output_dir"] = self.get("train.output_dir", self.get("output_dir"))
        return TrainingOptions(**{name: value for name, value in values.items() if value is not None})

    def _value_of(self, path: str) -> Any:
        value = self.get(path)
        return self.get(_ALSO[path]) if value is None and path in _ALSO else value

    def copied(self) -> LazyRunConfig:
        return LazyRunConfig(self.cfg.copy())

    def thawed(self) -> AbstractContextManager[None]:
        return nullcontext()

    def save(self, path: str) -> None:
        LazyConfig.save(self.cfg, path)

    def _as_yaml(self) -> str:
        return to_text(self.cfg, [])

    def _as_python(self) -> str:
        return LazyConfig.to_py(self.cfg)

    def as_dict(self) -> dict[str, Any]:
        # Only ``train`` is plain data; other groups contain classes.
        return {"train": OmegaConf.to_container(self.cfg.train, resolve=True)} if "train" in self.cfg else {}

    def model(self) -> nn.Module:
        device = check_device(self.options.device, "train.device")
        model: nn.Module = instantiate(self.cfg.model)
        return model.to(device)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        # Do not add the model to the config, which is printed, saved and used again.
        node = {key: self.cfg.optimizer[key] for key in self.cfg.optimizer}
        params = {key: self.cfg.optimizer.params[key] for key in self.cfg.optimizer.params}
        node["params"] = instantiate({**params, "model": model})
        optimizer: torch.optim.Optimizer = instantiate(node)
        clip = {key: self.get(f"train.clip_grad.{key}", default) for key, default in _CLIP.items()}
        if not clip["enabled"]:
            return optimizer
        limits = CfgNode({"CLIP_TYPE": "full_model", "CLIP_VALUE": float(clip["params.max_norm"])})
        limits.update(ENABLED=True, NORM_TYPE=float(clip["params.norm_type"]))
        return maybe_add_gradient_clipping(CfgNode({"SOLVER": {"CLIP_GRADIENTS": limits}}), optimizer)

    def schedule(self, optimizer: torch.optim.Optimizer) -> LRScheduler:
        curve = instantiate(self.cfg.lr_multiplier)
        if isinstance(curve, ParamScheduler):
            return LRMultiplier(optimizer, curve, parse_length(self.options.max_iter, None))
        schedule: LRScheduler = curve
        return schedule

    def train_loader(self) -> Iterable[Any]:
        loader: Iterable[Any] = instantiate(self.cfg.dataloader.train)
        return loader

    def test_loader(self, dataset_name: str) -> Iterable[Any]:
        loader: Iterable[Any] = instantiate(self.cfg.dataloader.test)
        return loader

    def validation_loader(self) -> Iterable[Any]:
        node = self.cfg.dataloader.test.copy()
        mapper = self.cfg.dataloader.train.mapper.copy()
        tested = self.cfg.dataloader.test.mapper
        for name in _AUGMENTATIONS:
            if name in tested:
                mapper[name] = tested[name]
        if "augmentation_with_crop" in mapper:
            mapper.augmentation_with_crop = None
        node.mapper = mapper
        loader: Iterable[Any] = instantiate(node)
        return loader

    def evaluator(self, dataset_name: str) -> DatasetEvaluator:
        evaluator: DatasetEvaluator = instantiate(self.cfg.dataloader.evaluator)
        return evaluator

    def test_augmentation(self) -> Augmentation:
        return AugmentationList(list(instantiate(self._of_test_mapper(_AUGMENTATIONS, []))))

    @property
    def input_format(self) -> str:
        return str(self._of_test_mapper(_FORMATS, "BGR"))

    def _of_test_mapper(self, names: Sequence[str], default: Any) -> Any:
        found = (self.get(f"dataloader.test.mapper.{name}") for name in names)
        return next((value for value in found if value is not None), default)

    def dataset_names(self, part: Part) -> list[str]:
        names = self.get(f"dataloader.{part}.dataset.names", [])
        return [names] if isinstance(names, str) else list(names)

    @property
    def test_names(self) -> list[str]:
        """One name, that of the only test loader; empty without this loader or its evaluator."""
        if self.get("dataloader.test") is None or self.get("dataloader.evaluator") is None:
            return []
        return [", ".join(self.dataset_names("test")) or "test"]

    @property
    def predicts_masks(self) -> bool:
        return self.get("model.roi_heads.mask_head") is not None

    def set_data(self, train: str, test: str, num_classes: int, num_workers: int) -> None:
        # Other keys refer to these by interpolation.
        places = [place for place in CLASS_PLACES if isinstance(_raw(self.cfg, place), int)]
        if not places:
            raise ValueError(
                f"this config has no number of classes in {', '.join(CLASS_PLACES)}; set it with key=value"
            )
        for place in places:
            self.set(place, num_classes)
        for part, name in (("train", train), ("test", test)):
            self.set(f"dataloader.{part}.dataset.names", name)
            self.set(f"dataloader.{part}.num_workers", num_workers)
        if (
            "evaluator" in self.cfg.dataloader
        ):  # the evaluator converts labels without a json file, and saves them here
            self.set("dataloader.evaluator.output_dir", "${train.output_dir}/inference")

    def unfreeze(self) -> None:
        for node in _nodes(self.cfg.model.backbone):
            if isinstance(node.get("freeze_at"), int):
                node.freeze_at = 0
            if _raw(node, "norm") == "FrozenBN":
                node.norm = "BN"

    @property
    def warmup(self) -> float:
        share = self.get("lr_multiplier.warmup_length", 0.0)
        return float(share * parse_length(self.options.max_iter, None))

    @warmup.setter
    def warmup(self, iterations: float) -> None:
        if self.get("lr_multiplier.warmup_length") is not None:
            self.cfg.lr_multiplier.warmup_length = iterations / parse_length(self.options.max_iter, None)


def _fitted(option: Option, value: Any) -> Any:
    """Convert the value of an option to the type of its default."""
    if OmegaConf.is_list(value):
        value = list(value)
    elif option.is_length and isinstance(value, str) and value.strip().isdecimal():
        value = int(value)  # a string from an environment variable
    elif isinstance(value, os.PathLike):
        value = os.fspath(value)
    elif isinstance(value, float) and value.is_integer() and type(option.default) is int:
        value = int(value)  # often computed, as in 90000 * 16 / 64
    elif isinstance(option.default, bool) and value in (0, 1):
        value = bool(value)
    return check_type(option.default, value, option.lazy)


def _check_names(train: Mapping[str, Any]) -> None:
    """Raise an error for misspelt options; warn once about other unknown names, which may be the user's own.

    Names that start with ``_`` and everything in ``train.extra`` are ignored.
    """
    if not hasattr(train, "keys"):
        raise ValueError(f"train must be a group of options, got {str(train)[:80]!r}")
    known = [*(option.lazy for option in OPTIONS.values()), *_ALSO.values(), *_ACCEPTED]
    known += [f"train.clip_grad.{key}" for key in _CLIP]
    unknown = list(_unknown(train, "train", known))
    for path in unknown:
        parent, _, name = path.rpartition(".")
        siblings = {k[len(parent) + 1 :].partition(".")[0] for k in known if k.startswith(f"{parent}.")}
        if misspelt(name, siblings):
            raise UnknownNameError(
                f"the config has {path}, which is not a training option. {did_you_mean(name, siblings)} "
                "Put your own options into train.extra."
            )
    if unknown:
        log_first_n(
            logging.WARNING,
            f"Training ignores unknown options: {', '.join(unknown)}",
            name=__name__,
            key="message",
        )


def _unknown(node: Mapping[str, Any], path: str, known: Sequence[str]) -> Iterator[str]:
    """Yield the paths below a node that are neither options nor groups of options."""
    for key in node:
        child = f"{path}.{key}"
        if child in known or child == "train.extra" or str(key).startswith("_"):
            continue
        inside = [k for k in known if k.startswith(f"{child}.")]
        value = node[key]
        if not inside:
            yield child
        elif hasattr(value, "keys"):
            yield from _unknown(value, child, known)
        elif value is not None:
            raise ValueError(f"{child} is a group of options ({', '.join(inside)}), got {value!r}")


def _nodes(node: Any) -> Iterator[DictConfig]:
    """Yield all dictionaries at or below a node."""
    children: list[Any] = []
    if OmegaConf.is_dict(node):
        yield node
        children = [node._get_node(key) for key in node]
    elif OmegaConf.is_list(node):
        children = [node._get_node(i) for i in range(len(node))]
    for child in children:
        yield from _nodes(child)


def _raw(cfg: DictConfig, place: str) -> Any:
    """Return the value at a dotted path; None if it is missing or an interpolation."""
    parent, _, name = place.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    if not OmegaConf.is_dict(node) or OmegaConf.is_interpolation(node, name):
        return None
    return node.get(name)
